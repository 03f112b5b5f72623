//! Zstandard frames (RFC 8878) of which all decoders must see the same content.

use crate::limits::WINDOW_BYTES_MAX;
use zstd::zstd_safe::{CParameter, ParamSwitch, min_c_level};

/// Compression level of [`pack`].
const LEVEL: i32 = 9;

/// Why bytes are not a frame of the format (spec §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// They are not exactly one frame.
    NotOne,
    /// The frame needs a window of this many bytes.
    Window(u64),
    /// The frame is damaged, or has content of another length.
    Content,
}

/// Unpacks the frame `stored`, whose content must have `bytes` bytes.
///
/// # Errors
/// [`FrameFault`].
pub fn unpack(stored: &[u8], bytes: usize) -> Result<Vec<u8>, FrameFault> {
    check(stored)?;
    let content = zstd::bulk::decompress(stored, bytes).map_err(|_| FrameFault::Content)?;
    if content.len() == bytes { Ok(content) } else { Err(FrameFault::Content) }
}

/// Checks that `stored` is exactly one frame (section 3.1.1) with a window of at most [`WINDOW_BYTES_MAX`] bytes. Decoders differ in
/// what else they accept (several frames, skippable frames, empty input), but must agree on what a patch contains.
fn check(stored: &[u8]) -> Result<(), FrameFault> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = *stored else { return Err(FrameFault::NotOne) };
    if zstd::zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(FrameFault::NotOne);
    }
    // Bit 5 is the single-segment flag: such a frame has no window descriptor, its window is its content.
    if descriptor & 1 << 5 == 0 {
        let base = 1u64 << (10 + (window >> 3));
        let window = base + base / 8 * u64::from(window & 7);
        if window > WINDOW_BYTES_MAX {
            return Err(FrameFault::Window(window));
        }
    }
    Ok(())
}

/// Packs `content`.
pub fn pack(content: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(content, LEVEL).unwrap_or_else(|_| stored(content))
}

/// Packs `content` by Huffman codes alone, many times faster than with matches.
pub fn huffman(content: &[u8]) -> Vec<u8> {
    let compress = || {
        let mut compressor = zstd::bulk::Compressor::new(min_c_level())?;
        compressor.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))?;
        compressor.compress(content)
    };
    compress().unwrap_or_else(|_: std::io::Error| stored(content))
}

/// A frame that holds `content` as it is. For the case that zstd has no memory for anything better.
fn stored(content: &[u8]) -> Vec<u8> {
    /// Most bytes of a block (section 3.1.1.2.4).
    const BLOCK_BYTES: usize = 1 << 17;
    // A single segment, with its length in eight bytes.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend((content.len() as u64).to_le_bytes());
    let blocks = content.len().div_ceil(BLOCK_BYTES).max(1);
    for block in 0..blocks {
        let bytes = &content[block * BLOCK_BYTES..content.len().min((block + 1) * BLOCK_BYTES)];
        // Lowest bit: the last block; the next two: raw; then the length.
        let head = (bytes.len() as u32) << 3 | u32::from(block + 1 == blocks);
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.extend_from_slice(bytes);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_content_comes_back() {
        for bytes in [0, 1, 1 << 17, (1 << 17) + 1, 300_000] {
            let content: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            assert_eq!(unpack(&stored(&content), bytes), Ok(content));
        }
    }

    #[test]
    fn huffman_codes_come_back_and_take_about_the_entropy() {
        // Geometric: symbol s has probability 2^-(s + 1), and takes two bits on average.
        let content: Vec<u8> = (1..200_000).map(|n| crate::random::number(0, n).trailing_zeros() as u8).collect();
        let packed = huffman(&content);
        assert!((content.len() / 4..content.len() * 26 / 100).contains(&packed.len()), "{}", packed.len());
        assert_eq!(unpack(&packed, content.len()), Ok(content.clone()));
        assert_eq!(unpack(&packed, content.len() - 1), Err(FrameFault::Content));
        assert_eq!(unpack(&packed, content.len() + 1), Err(FrameFault::Content));
        assert_eq!(unpack(&[&packed[..], &packed].concat(), 2 * content.len()), Err(FrameFault::NotOne));
    }
}
