//! The reasons for which a reader must reject a patch; each variant belongs to a numbered rule (spec §12).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::codec::Corrupt;
use crate::digest::Digest;
use crate::words::plural;

/// Why bytes are not a valid patch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// R1
    #[error("this is not an .lcepatch file: it begins with {found:02x?}")]
    NotAPatch {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// R2
    #[error("a transfer in text mode changed the line endings of this file")]
    TextMode,
    /// R3
    #[error("format version {found}; this reader knows version 1")]
    Version {
        /// The version in the file.
        found: u16,
    },
    /// R4
    #[error("the file has {found} {}, its header says {expected}", plural(*found, "byte"))]
    Length {
        /// Actual size in bytes.
        found: u64,
        /// Size according to the preamble.
        expected: u64,
    },
    /// R4
    #[error("its sections have {found} bytes, more than the {most} that a reader takes")]
    SectionsLength {
        /// Size according to the preamble.
        found: u64,
        /// Largest legal size.
        most: u64,
    },
    /// R5
    #[error("reserved field {field} is not zero")]
    Reserved {
        /// The field.
        field: &'static str,
    },
    /// R6
    #[error("the header's digest is {found}, it must be {expected}")]
    HeaderDigest {
        /// Digest of the actual header.
        found: Digest,
        /// Digest in the preamble.
        expected: Digest,
    },
    /// R7
    #[error("section {kind:#06x}: {reason}")]
    Section {
        /// The section's type.
        kind: u16,
        /// What is wrong.
        reason: SectionFault,
    },
    /// R8
    #[error("section {kind:#06x} is required and unknown to this reader; a newer lcepatch may know it")]
    UnknownSection {
        /// The section's type.
        kind: u16,
    },
    /// R9
    #[error("section {kind:#06x} is missing")]
    MissingSection {
        /// The section's type.
        kind: u16,
    },
    /// R11
    #[error("tensor table: {0}")]
    Table(Corrupt),
    /// R12
    #[error("tensor table: the name of tensor {index} is empty, not UTF-8, or not above the one before")]
    Name {
        /// The tensor's index in the table.
        index: usize,
    },
    /// R13
    #[error("tensor table: tensor {name:?} has unknown dtype code {code}")]
    Dtype {
        /// The tensor.
        name: String,
        /// The code.
        code: u8,
    },
    /// R14
    #[error("tensor table: the shape of {name:?} has more than 2^48 bytes or no element")]
    Shape {
        /// The tensor.
        name: String,
    },
    /// R15
    #[error("tensor table: {name:?} has no selected element")]
    Empty {
        /// The tensor.
        name: String,
    },
    /// R16
    #[error("section {kind:#06x} has {found} {}, the tensor table calls for {expected}", plural(*found, "byte"))]
    SectionLength {
        /// The section's type.
        kind: u16,
        /// Actual size in bytes.
        found: u64,
        /// Size that follows from the tensor table.
        expected: u64,
    },
    /// R17
    #[error("blocks add up to {found} {}, the header says {expected}", plural(*found, "byte"))]
    Payload {
        /// Sum of the sizes in the table.
        found: u64,
        /// Size according to the preamble.
        expected: u64,
    },
    /// R18
    #[error("block {block} of {tensor:?}: its digest is {found}, it must be {expected}")]
    BlockDigest {
        /// The tensor.
        tensor: String,
        /// The block's index in the tensor.
        block: u64,
        /// Digest of the actual block.
        found: Digest,
        /// Digest in the header.
        expected: Digest,
    },
    /// R19
    #[error("block {block} of {tensor:?}: {reason}")]
    Streams {
        /// The tensor.
        tensor: String,
        /// The block's index in the tensor.
        block: u64,
        /// What is wrong.
        reason: StreamFault,
    },
    /// R20
    #[error("block {block} of {tensor:?}: {reason}")]
    Content {
        /// The tensor.
        tensor: String,
        /// The block's index in the tensor.
        block: u64,
        /// What is wrong.
        reason: Corrupt,
    },
    /// R21
    #[error("the digest over {what} is {found}, the header says {expected}")]
    Root {
        /// What the digest covers.
        what: &'static str,
        /// Digest of the actual content.
        found: Digest,
        /// Digest in the header.
        expected: Digest,
    },
    /// R21
    #[error("block {block} of {tensor:?}: the base values that it carries are not the base's")]
    BaseValues {
        /// The tensor.
        tensor: String,
        /// The block's index in the tensor.
        block: u64,
    },
    /// R10
    #[error("{found} elements are selected, more than the {most} that a file of {file_bytes} bytes justifies")]
    Work {
        /// Selected elements of all tensors.
        found: u64,
        /// Largest legal number.
        most: u64,
        /// Size of the file.
        file_bytes: u64,
    },
}

/// What is wrong with a section (R7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SectionFault {
    /// Section types do not ascend.
    #[error("out of order or twice")]
    Order,
    /// The encoding is neither raw nor zstd.
    #[error("unknown encoding {0}")]
    Encoding(u8),
    /// The unpacked size exceeds the limit for the stored size.
    #[error("{0} bytes unpacked is more than its stored size justifies")]
    TooLarge(u64),
    /// The section does not unpack to its stated size.
    #[error("does not unpack to its stated size")]
    Unpack,
    /// The unpacked content exceeds a fixed limit.
    #[error("{found} bytes, more than the {most} that a reader takes")]
    Long {
        /// Unpacked size in bytes.
        found: u64,
        /// Largest legal size.
        most: u64,
    },
    /// The stored bytes are not exactly one zstd frame.
    #[error("it is not exactly one zstd frame")]
    Frame,
    /// The zstd frame needs too large a window.
    #[error("its zstd frame asks for a window of {0} bytes")]
    Window(u64),
    /// A section of digests is compressed.
    #[error("digests are stored as they are, not packed")]
    Packed,
    /// The section's head or content is invalid.
    #[error("{0}")]
    Bytes(Corrupt),
}

/// What is wrong with a block's streams (R19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// The stream directory is malformed.
    #[error("stream directory: {0}")]
    Directory(Corrupt),
    /// Stream kinds do not ascend.
    #[error("stream kinds out of order or twice")]
    Order,
    /// A required stream kind is unknown.
    #[error("stream kind {0} is required and unknown to this reader; a newer lcepatch may know it")]
    UnknownKind(u8),
    /// A codec is unknown.
    #[error("codec {codec} of stream kind {kind} is unknown to this reader; a newer lcepatch may know it")]
    UnknownCodec {
        /// The stream's kind.
        kind: u8,
        /// The codec's id.
        codec: u8,
    },
    /// A required stream is missing.
    #[error("stream kind {0} is missing")]
    Missing(u8),
    /// Dense deltas have other positions than changed chunks, or the other way round, or another stream beside them.
    #[error("dense deltas and changed chunks go together, without base values and masks")]
    Dense,
    /// A codec does not support the tensor's dtype.
    #[error("masks and reduced deltas serve only floats, which the tensor does not hold")]
    Dtype,
}

impl Invalid {
    /// The rule's number in spec §12.
    pub fn rule(&self) -> u8 {
        match self {
            Invalid::NotAPatch { .. } => 1,
            Invalid::TextMode => 2,
            Invalid::Version { .. } => 3,
            Invalid::Length { .. } | Invalid::SectionsLength { .. } => 4,
            Invalid::Reserved { .. } => 5,
            Invalid::HeaderDigest { .. } => 6,
            Invalid::Section { .. } => 7,
            Invalid::UnknownSection { .. } => 8,
            Invalid::MissingSection { .. } => 9,
            Invalid::Table(_) => 11,
            Invalid::Name { .. } => 12,
            Invalid::Dtype { .. } => 13,
            Invalid::Shape { .. } => 14,
            Invalid::Empty { .. } => 15,
            Invalid::SectionLength { .. } => 16,
            Invalid::Payload { .. } => 17,
            Invalid::BlockDigest { .. } => 18,
            Invalid::Streams { .. } => 19,
            Invalid::Content { .. } => 20,
            Invalid::Root { .. } | Invalid::BaseValues { .. } => 21,
            Invalid::Work { .. } => 10,
        }
    }
}
