//! The journal of an edit in place, under a right digest: whatever it says, only its files change, and not in length.
#![no_main]

use lcepatch::apply::{Recovered, recover};
use lcepatch::context::Context;
use lcepatch_files::durable::journal::FILE_NAME;
use lcepatch_format::digest::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("f"), folder.path().join("other"));
    std::fs::write(&file, [0; 64]).unwrap();
    std::fs::write(&other, [0; 64]).unwrap();
    // Journals of edits end with a digest, those of commits are JSON.
    let bytes = match data.starts_with(b"lcejrnl2") {
        true => [data, &Digest::of(data).0].concat(),
        false => data.to_vec(),
    };
    std::fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
    let recovered = recover(folder.path(), true, &Context::silent());
    assert_eq!(std::fs::read(&file).unwrap().len(), 64);
    let named = match recovered {
        Ok(Some(Recovered::TakenBack { files, .. } | Recovered::Finished { files })) => files,
        _ => Vec::new(),
    };
    assert!(named.iter().any(|name| name == "other") || std::fs::read(&other).unwrap() == [0; 64]);
});
