//! Why a model cannot be measured.

use std::path::PathBuf;

/// What is wrong with a model directory, or between it and the runtime. Exhaustive: whoever reports it says of each what kind it is.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// A file of the directory could not be read.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// There is no `config.json`, no tokenizer.
    #[error("{}: there is no {what}", directory.display())]
    Missing {
        /// The model directory.
        directory: PathBuf,
        /// The file or files that are looked for.
        what: &'static str,
    },
    /// A file of the directory is not what it must be.
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
        /// What is.
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
        /// What fits.
        expected: String,
    },
    /// The tokenizer gives ids that the model does not have.
    #[error("a text has the token {}, which is beyond the model's vocabulary of {vocabulary}", token.as_deref().map_or_else(|| format!("with the id {id}"), |token| format!("{token:?} with the id {id}")))]
    Vocabulary {
        /// The token, where the tokenizer is at hand.
        token: Option<String>,
        /// Its id.
        id: u32,
        /// Rows of the embeddings.
        vocabulary: u32,
    },
    /// A question about a token or position that the model does not have.
    #[error("a sequence of {length} tokens; the model takes at most {most}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The longest.
        most: u32,
    },
    /// A user's export cannot be opened.
    #[error(transparent)]
    Onnx(#[from] lcepatch_onnx::OpenError),
    /// An export takes what cannot be given, or not what has to be.
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
        /// What it would answer.
        question: &'static str,
    },
    /// An output of an export is not what its name says.
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
    /// One weight of an export is several tensors, of which the edits differ.
    #[error(
        "the export's initializer {initializer:?} stores {}, which are equal, but the patch changes them differently",
        few(tensors)
    )]
    Shared {
        /// The weight.
        initializer: String,
        /// The tensors.
        tensors: Vec<String>,
    },
    /// ONNX Runtime refused.
    #[error("ONNX Runtime: {reason}")]
    Runtime {
        /// What it says.
        reason: String,
    },
    /// A number that is not finite came out.
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
            Self::Unbound { tensors } | Self::Shared { tensors, .. } if tensors.len() > 1 => tensors.clone(),
            _ => Vec::new(),
        }
    }
}

impl From<ort::Error> for ModelFault {
    fn from(error: ort::Error) -> Self {
        Self::Runtime { reason: error.to_string() }
    }
}
