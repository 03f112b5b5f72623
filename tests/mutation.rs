//! Damaged patches: every bit flipped, every prefix. Always an error or the same result, never a panic.

use crate::support::*;
use lcepatch::Existing;
use lcepatch::apply::{Apply, Edit};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::edit::Alpha;
use lcepatch::patch::Patch;

/// The result of applying the patch `bytes`, or nothing when it is refused.
fn apply(dir: &Dir, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let context = Context::silent();
    let base = Checkpoint::open(dir.path("target.safetensors")).unwrap();
    let patch = Patch::from_bytes("p", bytes).ok()?;
    let edits = [Edit::at(patch, Alpha::ONE)];
    Apply::new(&base, &edits).existing(Existing::Replace).to(&dir.path("r"), &context).ok()?;
    Some(dir.read("r"))
}

/// Makes the header digest right again, so that damage behind it is reached.
fn with_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = 64 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    if end <= bytes.len() {
        let digest = lcepatch_format::digest::Digest::of(&[&bytes[..32], &bytes[64..end]].concat());
        bytes[32..64].copy_from_slice(&digest.0);
    }
    bytes
}

fn small_patch() -> (Dir, Vec<u8>) {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --k 40 --include *layer.0*").ok();
    let bytes = dir.read("p");
    (dir, bytes)
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (dir, bytes) = small_patch();
    let context = Context::silent();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = match Patch::from_bytes("p", damaged) {
            Err(_) => true,
            Ok(patch) => lcepatch::check::intact(&patch, &context).is_err(),
        };
        assert!(found, "bit {bit}");
    }
    assert_eq!(apply(&dir, bytes), {
        dir.run("apply target.safetensors p -o own").ok();
        Some(dir.read("own"))
    });
}

#[test]
fn no_prefix_is_a_patch() {
    let (_dir, bytes) = small_patch();
    for end in 0..bytes.len() {
        assert!(Patch::from_bytes("p", bytes[..end].to_vec()).is_err(), "prefix of {end}");
    }
}

#[test]
fn damage_behind_a_right_digest_never_panics_and_never_goes_unnoticed() {
    let (dir, bytes) = small_patch();
    let whole = apply(&dir, bytes.clone());
    for byte in 64..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[byte] ^= change;
            // Metadata, statistics and optional parts may change; the weights may not.
            if let Some(result) = apply(&dir, with_digest(damaged)) {
                assert_eq!(Some(result), whole, "byte {byte} ^ {change:#x}");
            }
        }
    }
}

#[test]
fn a_part_with_any_byte_changed_is_refused_or_joined() {
    use lcepatch::internal::join;
    let dir = Dir::new();
    let tensors = |last| [Tensor::f32("a.weight", &[2, 2], &[1.0, 2.0, 3.0, last]), Tensor::i64("b", &[7])];
    dir.write("a", &safetensors(&tensors(4.0)));
    dir.write("b", &safetensors(&tensors(5.0)));
    dir.run("diff a b --all --shard 1/1 -o part").ok();
    let selected = "diff a b --k 1 --portable --shard 1/1";
    dir.run(&format!("{selected} -o ranks")).ok();
    dir.run(&format!("{selected} -o selected --ranks ranks")).ok();
    for name in ["part", "ranks", "selected"] {
        let whole = dir.read(name);
        let context = Context::silent();
        let mut joined = 0;
        for at in 40..whole.len() {
            for change in [1, 1 << (at % 8), 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                let digest = lcepatch_format::digest::Digest::sha256(&bytes[40..]);
                bytes[8..40].copy_from_slice(&digest.0);
                let path = dir.write("changed", &bytes);
                joined += u32::from(join(&[path], &context).is_ok());
            }
        }
        assert_eq!(joined > 0, name != "ranks", "{name}: {joined}");
    }
}
