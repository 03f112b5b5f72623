//! A signature file and a list of signers: whatever they say, an error or a signature, and one that is written as it was read.
#![no_main]

use lcepatch::signature::{AllowedSigners, Signature};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let _ = AllowedSigners::parse(data, Path::new("list"));
    if let Ok(signature) = Signature::parse(data) {
        let armored = signature.armored().unwrap();
        assert_eq!(Signature::parse(armored.as_bytes()), Ok(signature));
    }
});
