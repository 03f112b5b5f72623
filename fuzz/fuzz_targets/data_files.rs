//! Benchmark data of every form: read or refused, never a panic.
#![no_main]

use lcepatch_eval::measure::crows_pairs::CrowsPairs;
use lcepatch_eval::measure::stereoset::StereoSet;
use lcepatch_eval::measure::text::{Text, TextOptions};
use lcepatch_eval::measure::threshold::Threshold;
use lcepatch_eval::measure::weat::Weat;
use libfuzzer_sys::fuzz_target;
use std::io::Write;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let _ = CrowsPairs::read(file.path());
    let _ = StereoSet::read(file.path());
    let _ = Weat::read(file.path());
    let _ = Text::read(file.path(), TextOptions::default());
    let _ = std::str::from_utf8(bytes).map(Threshold::parse);
});
