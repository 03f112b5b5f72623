//! Why a model cannot be measured.

use std::path::PathBuf;

/// What is wrong with a model directory, or between it and the runtime. Exhaustive: whoever reports it says of each what kind it is.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// A file of the directory could not be read.
    #[error("{operation} {}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// There is no configuration.
    #[error("{}: there is no config.json", directory.display())]
    NoConfig {
        /// The model directory.
        directory: PathBuf,
    },
    /// There is no tokenizer.
    #[error("{}: there is no tokenizer.json or vocab.txt", directory.display())]
    NoTokenizer {
        /// The model directory.
        directory: PathBuf,
    },
    /// A file of the directory is malformed.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The architecture is not supported.
    #[error("the architecture {found:?} is not supported; supported are {}", super::config::known_architectures())]
    Architecture {
        /// `model_type` of the configuration.
        found: String,
    },
    /// A setting of the configuration that is not supported.
    #[error("the configuration sets {key} to {found}; only {supported} is supported")]
    Setting {
        /// The key in `config.json`.
        key: &'static str,
        /// Its value.
        found: String,
        /// The supported value.
        supported: &'static str,
    },
    /// The weights lack a tensor.
    #[error("the weights have no tensor {tensor:?}, which a model of type {model_type:?} needs")]
    NoTensor {
        /// The tensor.
        tensor: String,
        /// `model_type` of the configuration.
        model_type: String,
        /// A tensor whose name ends with this one, if there is one.
        longer: Option<String>,
    },
    /// A tensor of another shape or type than the configuration says.
    #[error("tensor {tensor:?} is {found}; the configuration asks for {expected}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// Its dtype and shape.
        found: String,
        /// The expected dtype and shape.
        expected: String,
    },
    /// The weights have tensors that the graph does not use, among those that it does.
    #[error("the weights have {}, which a model of type {model_type:?} does not use", few(tensors))]
    Unused {
        /// The tensors.
        tensors: Vec<String>,
        /// `model_type` of the configuration.
        model_type: String,
    },
    /// The tokenizer has token ids beyond the model's vocabulary.
    #[error("a text has the token {}, which is beyond the model's vocabulary of {vocabulary}", token.as_deref().map_or_else(|| format!("with the id {id}"), |token| format!("{token:?} with the id {id}")))]
    Vocabulary {
        /// The token, if the tokenizer is known.
        token: Option<String>,
        /// Its id.
        id: u32,
        /// Rows of the embeddings.
        vocabulary: u32,
    },
    /// A sequence is longer than the model takes.
    #[error("a sequence of {length} tokens; the model takes at most {most}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The most tokens.
        most: u32,
    },
    /// A user's export cannot be opened.
    #[error(transparent)]
    Onnx(#[from] lcepatch_onnx::OpenError),
    /// An export has an unsupported input, or lacks a required one.
    #[error("the export's input {input:?} {reason}; the supported inputs are {}", super::signature::SUPPORTED_INPUTS)]
    Input {
        /// Its name.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An export has no output for a question.
    #[error("the export has no output {output}, and {question} is asked for")]
    NoOutput {
        /// The name or names.
        output: &'static str,
        /// The question, for the message.
        question: &'static str,
    },
    /// An output of an export has another shape than its name implies.
    #[error("the export's output {output:?} has the shape {found}; expected is {expected}")]
    Output {
        /// Its name.
        output: String,
        /// Its shape.
        found: String,
        /// The shape that it should have.
        expected: String,
    },
    /// Edited tensors are not in the export.
    #[error("the patch edits {}, and no initializer of the export is equal to it or its transpose", few(tensors))]
    Unbound {
        /// The tensors.
        tensors: Vec<String>,
    },
    /// An initializer of an export stores several equal tensors, and the patch edits them differently.
    #[error(
        "the export's initializer {initializer:?} stores {}, which are equal, but the patch changes them differently",
        few(tensors)
    )]
    Shared {
        /// The initializer.
        initializer: String,
        /// The tensors.
        tensors: Vec<String>,
    },
    /// ONNX Runtime reported an error.
    #[error("ONNX Runtime: {reason}")]
    Runtime {
        /// Its message.
        reason: String,
    },
    /// An output of the model is not finite.
    #[error("the model gives {found} where a log-probability or a vector is expected")]
    NotFinite {
        /// The number.
        found: f32,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] lcepatch_files::context::Cancelled),
}

/// The first of several names, and how many there are.
fn few(names: &[String]) -> String {
    match names {
        [first, _, ..] => format!("{first:?} and {} more", names.len() - 1),
        _ => format!("{:?}", names.concat()),
    }
}

impl ModelFault {
    /// Which tensors, of those that are too many for one line.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Unbound { tensors } | Self::Shared { tensors, .. } | Self::Unused { tensors, .. }
                if tensors.len() > 1 =>
            {
                tensors.clone()
            }
            _ => Vec::new(),
        }
    }
}

impl From<ort::Error> for ModelFault {
    fn from(error: ort::Error) -> Self {
        Self::Runtime { reason: error.to_string() }
    }
}
