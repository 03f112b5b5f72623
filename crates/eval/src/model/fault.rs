//! Why a model cannot be measured.

use std::path::PathBuf;

/// What is wrong with a model directory, or between it and the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFault {
    /// A file of the directory could not be read.
    #[error("{operation} {}: {source}", path.display())]
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
    /// The architecture is not known.
    #[error("the architecture {found:?} is not known; known are {}", super::config::known())]
    Architecture {
        /// `model_type` of the configuration.
        found: String,
    },
    /// A setting of the configuration that is not supported.
    #[error("the configuration has {key} = {found}; supported is {supported}")]
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
    #[error("{0}")]
    Onnx(#[from] lcepatch_onnx::OpenError),
    /// An export takes what cannot be given, or not what has to be.
    #[error("the export's input {input:?} {reason}; understood are {}", super::signature::UNDERSTOOD)]
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
    /// Edited tensors are nowhere in an export.
    #[error("the patch edits {}, and no initializer of the export is equal to it or its transpose", few(tensors))]
    Unbound {
        /// The tensors.
        tensors: Vec<String>,
    },
    /// One weight of an export is several tensors, of which the edits differ.
    #[error("the export's {initializer:?} may be {}, which are equal and are not edited alike", few(tensors))]
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
    #[error("interrupted")]
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
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Missing { .. } => "model.missing",
            Self::Architecture { .. } | Self::Setting { .. } => "model.unknown",
            Self::Malformed { .. } | Self::NoTensor { .. } | Self::Tensor { .. } | Self::Vocabulary { .. } => {
                "model.malformed"
            }
            Self::TooLong { .. } => "model.too-long",
            Self::Onnx(lcepatch_onnx::OpenError::Io { .. }) => "io",
            Self::Onnx(lcepatch_onnx::OpenError::Unfinished(failed)) => failed.code(),
            Self::Onnx(_) | Self::Output { .. } => "onnx.malformed",
            Self::Input { .. } | Self::NoOutput { .. } => "onnx.unsuited",
            Self::Unbound { .. } | Self::Shared { .. } => "onnx.unbound",
            Self::Runtime { .. } => "runtime.failed",
            Self::NotFinite { .. } => "numbers.not-finite",
            Self::Cancelled(_) => "interrupted",
        }
    }

    /// Which tensors, of those that are too many for one line.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Unbound { tensors } | Self::Shared { tensors, .. } if tensors.len() > 1 => tensors.clone(),
            _ => Vec::new(),
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Missing { what, .. } if what.starts_with("tokenizer") => {
                "`AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)` of transformers writes tokenizer.json, for most models"
            }
            Self::Missing { .. } => {
                "a model directory has config.json, a tokenizer and the weights, as `save_pretrained` writes them"
            }
            Self::Architecture { .. } | Self::Setting { .. } => {
                "export the model to ONNX with a tool that knows it, and give the file with --onnx"
            }
            Self::NoTensor { longer: Some(longer), .. } => {
                return Some(format!(
                    "it is there as {longer:?}: save the model itself, not what wraps it (such as `torch.compile`, FSDP or DDP)"
                ));
            }
            Self::NoTensor { .. } | Self::Tensor { .. } => "are config.json and the weights of the same model?",
            Self::Vocabulary { .. } => "are the tokenizer and the weights of the same model?",
            Self::Input { .. } => "export without past keys, with dynamic axes, as `optimum-cli export onnx` does",
            Self::NoOutput { .. } => "export with this output, or choose another measure",
            Self::Output { .. } => "are config.json and the export of the same model?",
            Self::Unbound { .. } => {
                "export in the dtype of the checkpoint and without fusing weights, or leave them out: `lcepatch select --exclude`"
            }
            Self::Shared { .. } => {
                "export without merging equal weights, or leave them out: `lcepatch select --exclude`"
            }
            Self::NotFinite { .. } => "an alpha nearer to 0 keeps the numbers finite",
            _ => return None,
        };
        Some(help.to_owned())
    }
}

impl From<ort::Error> for ModelFault {
    fn from(error: ort::Error) -> Self {
        Self::Runtime { reason: error.to_string() }
    }
}
