//! Errors of reading an ONNX file.

use lcepatch_format::words::plural;

/// What is wrong with an ONNX file, or with a file of its external data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes are not the protobuf message of a model.
    #[error("not an ONNX model: {reason}")]
    Protobuf {
        /// What the decoder says.
        reason: String,
    },
    /// A model without a graph.
    #[error("not an ONNX model: it has no graph")]
    NoGraph,
    /// Two initializers have one name, or one has none.
    #[error("two initializers are named {initializer:?}")]
    Twice {
        /// The name.
        initializer: String,
    },
    /// A shape that no tensor can have.
    #[error("initializer {initializer:?} has the shape {shape:?}")]
    Shape {
        /// The initializer.
        initializer: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// The number of bytes does not fit the shape and the element type.
    #[error("initializer {initializer:?} has {found} {}, and its shape and type need {expected}", plural(*found, "byte"))]
    Length {
        /// The initializer.
        initializer: String,
        /// Its bytes.
        found: u64,
        /// The bytes of its shape and type.
        expected: u64,
    },
    /// An entry of its external data is missing or malformed.
    #[error("initializer {initializer:?} has {key:?} {value:?} in its external data")]
    External {
        /// The initializer.
        initializer: String,
        /// `location`, `offset` or `length`.
        key: &'static str,
        /// The entry's value.
        value: String,
    },
    /// The file of its external data is not in the model's folder.
    #[error("initializer {initializer:?} is in the file {location:?}, which is not in the model's folder")]
    Outside {
        /// The initializer.
        initializer: String,
        /// The file.
        location: String,
    },
    /// Two initializers share some bytes.
    #[error("the initializers {:?} and {:?} overlap", initializers[0], initializers[1])]
    Overlap {
        /// Their names.
        initializers: [String; 2],
    },
    /// The file of its external data is too short.
    #[error("initializer {initializer:?} ends at byte {end} of {location:?}, which has {bytes} {}", plural(*bytes, "byte"))]
    Beyond {
        /// The initializer.
        initializer: String,
        /// The file.
        location: String,
        /// The end of its bytes.
        end: u64,
        /// The file's size.
        bytes: u64,
    },
}

/// Why an ONNX file could not be opened.
pub type OpenError = lcepatch_files::checkpoint::OpenError<Malformed>;
