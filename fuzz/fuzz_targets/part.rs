//! A part of a diff with some bytes changed, under a right digest: refused, or joined to a patch.
#![no_main]

use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::diff::{DiffOptions, Effort, Params, Portability};
use lcepatch::internal::{Part, Shard, find, join};
use lcepatch_format::digest::Digest;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The magic number and the digest.
const HEAD_BYTES: usize = 8 + 32;

static PART: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"U8","shape":[2],"data_offsets":[16,18]}}"#;
    let checkpoint = |last: u8| {
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[last; 18]].concat();
        Checkpoint::from_bytes("fuzz".as_ref(), file).expect("a well-formed file")
    };
    let mut options = DiffOptions::default();
    options.candidates.params = Some(Params::All);
    (options.portability, options.effort) = (Portability::Portable, Effort::Best);
    let (a, b, only) = (checkpoint(1), checkpoint(2), Shard::new(1, 1).expect("a shard"));
    let part = find(&a, &b, &options, only, None, &[], &Context::silent()).expect("a part");
    part.to_bytes().expect("its bytes")
});

fuzz_target!(|changes: Vec<(u16, u8, bool)>| {
    let mut bytes = PART.clone();
    for (at, byte, more) in changes {
        let at = HEAD_BYTES + usize::from(at) % (bytes.len() - HEAD_BYTES);
        if more {
            bytes.insert(at, byte);
        } else {
            bytes[at] = byte;
        }
    }
    let digest = Digest::sha256(&bytes[HEAD_BYTES..]);
    bytes[8..HEAD_BYTES].copy_from_slice(&digest.0);
    if Part::from_bytes("fuzz".as_ref(), &bytes).is_ok() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("part");
        std::fs::write(&path, &bytes).expect("a file");
        let _ = join(&[path], &Context::silent());
    }
});
