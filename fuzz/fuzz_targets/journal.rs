//! The journal of an edit in place, under a right digest: whatever it says, only its files change, and not in length.
#![no_main]

use lcepatch::apply::recover;
use lcepatch::context::Context;
use lcepatch::digest::Digest;
use lcepatch::durable::journal::FILE_NAME;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("f"), folder.path().join("other"));
    std::fs::write(&file, [0; 64]).unwrap();
    std::fs::write(&other, [0; 64]).unwrap();
    let bytes = [data, &Digest::sha256(data).0].concat();
    std::fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
    let recovered = recover(folder.path(), &Context::silent());
    assert_eq!(std::fs::read(&file).unwrap().len(), 64);
    let names =
        |name: &str| recovered.iter().flatten().any(|recovered| recovered.files.iter().any(|file| file == name));
    assert!(names("other") || std::fs::read(&other).unwrap() == [0; 64]);
});
