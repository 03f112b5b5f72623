//! ONNX files: read or refused, and what is listed lies inside the file.
#![no_main]

use lcepatch_onnx::OnnxFile;
use libfuzzer_sys::fuzz_target;
use std::io::Write;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(opened) = OnnxFile::open(file.path()) else { return };
    for tensor in opened.tensors() {
        assert!(tensor.info.range().end <= tensor.file.bytes());
    }
});
