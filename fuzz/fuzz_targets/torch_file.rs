//! Files of `torch.save`: read or refused without running anything, and what is listed lies inside the file.
#![no_main]

use lcepatch::context::Context;
use lcepatch::internal::torch::open;
use libfuzzer_sys::fuzz_target;
use std::io::Write;

/// Writes a file, and opens it.
fn read(bytes: &[u8]) {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(opened) = open(&[file.path().to_owned()], &Context::silent()) else { return };
    for tensor in opened.tensors() {
        assert!(tensor.info.range().end <= tensor.file.bytes());
        let elements = tensor.elements(0..tensor.info.elements()).len() as u64;
        assert_eq!(elements, tensor.info.bytes());
    }
}

/// A zip archive of a pickle and a storage, both stored.
fn archive(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let entries: [(&[u8], &[u8]); 2] = [(b"a/data.pkl", pickle), (b"a/data/0", storage)];
    for (name, bytes) in entries {
        let start = out.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc32(bytes).to_le_bytes());
        common.extend(size);
        common.extend(size);
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend([&b"PK\x03\x04"[..], &common, name, bytes].concat());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &start.to_le_bytes(), name].concat());
    }
    let (start, size) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend([&b"PK\x05\x06\0\0\0\0\x02\0\x02\0"[..], &size.to_le_bytes(), &start.to_le_bytes(), &[0, 0]].concat());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    };
    !bytes.iter().fold(!0, step)
}

fuzz_target!(|data: &[u8]| {
    read(data);
    // Once more as a pickle of an honest archive.
    read(&archive(data, &[7; 24]));
});
