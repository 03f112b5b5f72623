//! The constants and limits of the format, with the names of the spec (§5 to §8, §13).

/// First bytes of a file (spec §5.1).
pub const MAGIC: [u8; 8] = *b"\x89LCP\r\n\x1a\n";
/// The format version that this crate reads and writes.
pub const VERSION: u16 = 1;
/// Size of the preamble, which precedes the first section.
pub const PREAMBLE_BYTES: u64 = 64;
/// Number of bytes of the preamble that the header digest covers; the digest follows them.
pub const PREAMBLE_DIGESTED_BYTES: usize = 32;
/// Size of a section's head, which precedes its content.
pub const SECTION_HEAD_BYTES: u64 = 12;
/// Most bytes of all sections together, as stored.
pub const SECTIONS_BYTES_MAX: u64 = 64 << 20;
/// A section may unpack to at most this many bytes plus [`SECTION_RATIO_MAX`] times its stored size.
pub const SECTION_RAW_BYTES_FREE: u64 = 4096;
/// Most bytes that any section may unpack to.
pub const SECTION_RAW_BYTES_MAX: u64 = 1 << 24;
/// Most bytes of METADATA after unpacking.
pub const METADATA_BYTES_MAX: u64 = 1 << 20;
/// Most `{`, `[`, `,` and `:` outside of strings in METADATA. Each introduces a value or a key, which takes memory when parsed.
pub const METADATA_MARKS_MAX: u64 = 1 << 17;
/// Greatest nesting depth of objects and arrays in METADATA.
pub const METADATA_DEPTH_MAX: u32 = 64;
/// Largest window of a zstd frame, in bytes.
pub const WINDOW_BYTES_MAX: u64 = 1 << 24;
/// A patch may select at most this many elements plus [`SELECTED_RATIO_MAX`] per byte of its file.
pub const SELECTED_FREE: u64 = 1 << 27;
/// See [`SELECTED_FREE`].
pub const SELECTED_RATIO_MAX: u64 = 64;
/// See [`SECTION_RAW_BYTES_FREE`].
pub const SECTION_RATIO_MAX: u64 = 256;
/// A reader ignores unknown section types that have this bit, and rejects others.
pub const OPTIONAL_SECTION: u16 = 0x8000;
/// A reader ignores unknown stream kinds that have this bit, and rejects others.
pub const OPTIONAL_STREAM: u8 = 0x80;
/// Most bytes of a tensor's name.
pub const NAME_BYTES_MAX: u64 = 4096;
/// Most dimensions of a tensor.
pub const RANK_MAX: u64 = 16;
/// Smallest legal log2 of the number of elements in a block.
pub const BLOCK_LOG2_MIN: u64 = 8;
/// Largest legal log2 of the number of elements in a block.
pub const BLOCK_LOG2_MAX: u64 = 22;
/// log2 of the number of elements in a block that this crate writes. 4 Mi elements take less than 0.5 % more bytes than 16 Mi, and limit
/// the memory for decoding a block.
pub const BLOCK_LOG2: u32 = 22;
/// The chunks of a dense block in which anything changes may have at most this many elements for each one that changes.
pub const DENSE_LIVE_RATIO_MAX: u64 = 32;
