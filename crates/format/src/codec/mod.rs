//! Codecs for sequences of integers (spec §9): no files, no tensors, no floats.
//!
//! A block's positions and deltas are sequences of unsigned integers. [`groups`] encodes several such sequences together, each by the
//! cheaper of two methods ([`rice`] is usually cheaper for short ones, [`pco`] for long ones). [`gaps`] turns positions into such
//! sequences, one for each group of classes. [`dense`] encodes a signed number for each element instead, those of [`chunks`] in which
//! anything changes. All input is read through the bounded [`reader::Reader`].

pub mod chunks;
pub mod dense;
pub mod gaps;
pub mod groups;
pub mod number;
pub mod pco;
pub mod reader;
pub mod rice;
pub mod statistics;
pub mod varint;

pub use number::Number;

use crate::words::plural;

/// How much time is spent on making streams small. Readers decode all of them in the same way and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Effort {
    /// Positions are listed without the base, and Rice codes are taken even if pco is a quarter smaller: for patches that stay on the machine
    /// that makes them.
    Fast,
    /// Within about 1 % of the size of [`Effort::Best`], at a fraction of its time.
    #[default]
    Default,
    /// Every encoding is tried.
    Best,
}

/// Why encoded bytes are invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The bytes end inside a field.
    #[error("{field} needs {needed} {}, {found} {} left", plural(*needed, "byte"), if *found == 1 { "is" } else { "are" })]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// Bytes are left over after the last field.
    #[error("{found} {} the end of {field}", if *found == 1 { "byte follows" } else { "bytes follow" })]
    Trailing {
        /// What should have ended the bytes.
        field: &'static str,
        /// How many bytes follow it.
        found: u64,
    },
    /// A variable-length integer is not in its shortest form, or exceeds 64 bits.
    #[error("{field} is not a shortest-form varint of at most 64 bits")]
    Varint {
        /// What was being read.
        field: &'static str,
    },
    /// A number lies outside its legal range.
    #[error("{field} is {found}, it can be {least} to {most}")]
    Range {
        /// What was being read.
        field: &'static str,
        /// The number.
        found: u64,
        /// Smallest legal number.
        least: u64,
        /// Largest legal number.
        most: u64,
    },
    /// A sequence has the wrong number of elements.
    #[error("{field} adds up to {found}, it must be {expected}")]
    Count {
        /// What was being counted.
        field: &'static str,
        /// The actual count.
        found: u64,
        /// The count that other parts of the patch call for.
        expected: u64,
    },
    /// Padding bits are not zero.
    #[error("padding bits of {field} are not zero")]
    Padding {
        /// What ends with padding.
        field: &'static str,
    },
    /// A zstd frame is damaged, is not the only one, needs a large window, or has content of another length.
    #[error("{field} are not one zstd frame of {bytes} bytes")]
    Frame {
        /// What is packed.
        field: &'static str,
        /// Bytes that it must have unpacked.
        bytes: u64,
    },
    /// A pco stream is damaged.
    #[error("a pco stream is not valid")]
    Pco,
    /// A pco stream is of a version, mode or delta encoding of pcodec that patches do not use.
    #[error("the {field} of a pco stream is not the one that patches use")]
    PcoVariant {
        /// Which part of the stream differs.
        field: &'static str,
    },
    /// Positions run past the end of the block.
    #[error("positions run past the block's {elements} elements")]
    PastEnd {
        /// Number of elements in the block.
        elements: u64,
    },
}
