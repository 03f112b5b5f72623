//! Checkpoints, and what is derived from the names of their tensors.
#![no_main]

use lcepatch::checkpoint::{Checkpoint, names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = |bytes: Vec<u8>| {
        if let Ok(checkpoint) = Checkpoint::from_bytes("fuzz".as_ref(), bytes) {
            for tensor in checkpoint.tensors() {
                assert!(tensor.info.range().end <= tensor.file.bytes());
                let _ = (
                    names::place(&tensor.info.name),
                    names::is_encoder_dense(&tensor.info.name, tensor.info.shape.len()),
                );
            }
        }
    };
    read(data.to_vec());
    // Once more as a header of the right length.
    read([&(data.len() as u64).to_le_bytes()[..], data].concat());
});
