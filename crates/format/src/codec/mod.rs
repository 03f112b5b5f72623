//! Bytes to integers and back (spec §9): no files, no tensors, no floats.
//!
//! A block's positions and deltas are sequences of unsigned integers. [`groups`] codes several such sequences
//! together, each the cheapest of two ways ([`rice`] for short ones, [`pco`] for long ones); [`gaps`] turns positions
//! into such sequences, one for each group of classes. Everything read passes through the bounded [`reader::Reader`].

pub mod gaps;
pub mod groups;
pub mod number;
pub mod pco;
pub mod reader;
pub mod rice;
pub mod statistics;
pub mod varint;

pub use number::Number;

/// How much work goes into small streams. Readers need the same, and nothing new, for every one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum Effort {
    /// Positions are coded without looking at the base, which makes a patch a fifth to two fifths larger.
    Fast,
    /// Within about 1 % of [`Effort::Best`], at a fraction of its time.
    #[default]
    Default,
    /// Every way is tried.
    Best,
}

/// Why coded bytes make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corrupt {
    /// The bytes end inside a field.
    #[error("{field} needs {needed} bytes, {found} are left")]
    Truncated {
        /// What was being read.
        field: &'static str,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Bytes are left over after the last field.
    #[error("{found} bytes follow the end of {field}")]
    Trailing {
        /// What should have ended the bytes.
        field: &'static str,
        /// How many bytes follow it.
        found: u64,
    },
    /// A variable-length integer is longer than it need be, or exceeds 64 bits.
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
    /// A sequence holds another count of numbers than it must.
    #[error("{field} adds up to {found}, it must be {expected}")]
    Count {
        /// What was being counted.
        field: &'static str,
        /// The count found.
        found: u64,
        /// The count there must be.
        expected: u64,
    },
    /// Padding bits that must be zero are not.
    #[error("padding bits of {field} are not zero")]
    Padding {
        /// What ends in padding.
        field: &'static str,
    },
    /// The pco decoder refuses its bytes.
    #[error("a pco stream is not valid")]
    Pco,
    /// Positions run past the end of the block.
    #[error("positions run past the block's {elements} elements")]
    PastEnd {
        /// Elements in the block.
        elements: u64,
    },
}
