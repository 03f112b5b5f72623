//! The constants of the format, named as in the spec (§5 to §8, §15).

/// First bytes of a file (spec §5.1).
pub const MAGIC: [u8; 8] = *b"\x89LCE\r\n\x1a\n";
/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 1;
/// Bytes before the first section.
pub const PREAMBLE_BYTES: u64 = 64;
/// Offset of the header's digest, and the end of the preamble's digested part.
pub const PREAMBLE_DIGESTED_BYTES: usize = 32;
/// Bytes before each section's content.
pub const SECTION_HEAD_BYTES: u64 = 12;
/// All sections together, as stored.
pub const SECTIONS_BYTES_MAX: u64 = 64 << 20;
/// A section may unpack to this many bytes plus [`SECTION_RATIO_MAX`] times its stored size.
pub const SECTION_RAW_BYTES_FREE: u64 = 4096;
/// A section never unpacks to more than this.
pub const SECTION_RAW_BYTES_MAX: u64 = 1 << 24;
/// What METADATA holds has at most this many bytes, packed or not.
pub const METADATA_BYTES_MAX: u64 = 1 << 23;
/// The marks that METADATA may have outside of strings: `{`, `[`, `,` and `:`. Each stands for a value or a key.
pub const METADATA_MARKS_MAX: u64 = 1 << 17;
/// How deep the objects and arrays of METADATA may lie in each other.
pub const METADATA_DEPTH_MAX: u32 = 64;
/// A zstd frame may ask a reader for a window of this many bytes.
pub const WINDOW_BYTES_MAX: u64 = 1 << 24;
/// A patch may select this many elements, whatever its size, and [`SELECTED_RATIO_MAX`] more for each of its bytes.
pub const SELECTED_FREE: u64 = 1 << 27;
/// See [`SELECTED_FREE`].
pub const SELECTED_RATIO_MAX: u64 = 64;
/// See [`SECTION_RAW_BYTES_FREE`].
pub const SECTION_RATIO_MAX: u64 = 256;
/// Section types with this bit may be ignored by a reader that does not know them.
pub const OPTIONAL_SECTION: u16 = 0x8000;
/// Stream kinds with this bit may be ignored by a reader that does not know them.
pub const OPTIONAL_STREAM: u8 = 0x80;
/// Bytes of a tensor's name.
pub const NAME_BYTES_MAX: u64 = 4096;
/// Dimensions of a tensor.
pub const RANK_MAX: u64 = 16;
/// Smallest log2 of the elements of a block that is read.
pub const BLOCK_LOG2_MIN: u64 = 8;
/// Largest log2 of the elements of a block that is read.
pub const BLOCK_LOG2_MAX: u64 = 22;
/// The log2 of the elements of a block that is written: 4 Mi elements cost less than 0.5 % more bytes than four times
/// as many, and bound what decoding a block may take.
pub const BLOCK_LOG2: u32 = 22;
