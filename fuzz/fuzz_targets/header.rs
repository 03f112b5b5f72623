//! The header parser. The digest is made right, so that what lies behind it is reached.
#![no_main]

use lcepatch::patch::Patch;
use lcepatch::report::Stat;
use lcepatch_format::digest::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    let _ = Patch::from_bytes("fuzz", bytes.clone());
    if bytes.len() >= 64 {
        let sections = u64::from(u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]));
        let sections = sections.min(bytes.len() as u64 - 64);
        let payload = bytes.len() as u64 - 64 - sections;
        bytes[12..16].copy_from_slice(&(sections as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&payload.to_le_bytes());
        let digest = Digest::of(&[&bytes[..32], &bytes[64..64 + sections as usize]].concat());
        bytes[32..64].copy_from_slice(&digest.0);
        if let Ok(patch) = Patch::from_bytes("fuzz", bytes) {
            let _ = Stat::new(&patch);
            let _ = lcepatch::check::intact(&patch, &lcepatch::context::Context::silent());
        }
    }
});
