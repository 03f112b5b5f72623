//! Why there is no ONNX Runtime to work with.

use lcepatch_files::context::Cancelled;
use lcepatch_format::digest::Digest;
use std::path::{Path, PathBuf};

/// Why ONNX Runtime cannot be found, loaded or installed. Exhaustive: whoever reports it says of each what kind it is.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeFault {
    /// There is none in any of the places.
    #[error("no ONNX Runtime library {}was found", if *.cuda { "for CUDA " } else { "" })]
    NotFound {
        /// Whether CUDA was asked for.
        cuda: bool,
        /// Where it was looked for, in this order.
        looked: Vec<String>,
    },
    /// The variable that names the library names no file.
    #[error("ORT_DYLIB_PATH is {}, and there is no such file", path.display())]
    NoSuchLibrary {
        /// What it names.
        path: PathBuf,
    },
    /// The library cannot be loaded.
    #[error("{}: not a library of ONNX Runtime that can be loaded: {reason}", library.display())]
    Load {
        /// The library.
        library: PathBuf,
        /// The loader's answer.
        reason: String,
    },
    /// The library is older than the functions that are called.
    #[error("{}: ONNX Runtime {version} is too old; 1.{least} or later is needed", library.display())]
    TooOld {
        /// The library.
        library: PathBuf,
        /// Its version.
        version: String,
        /// The least minor version.
        least: u32,
    },
    /// Another library was loaded before, and a process can have one.
    #[error("{} is loaded already, and {} was asked for", loaded.display(), asked.display())]
    Loaded {
        /// The one that is loaded.
        loaded: PathBuf,
        /// The other one.
        asked: PathBuf,
    },
    /// CUDA was asked for, and the library was built without.
    #[error("{}: a build of ONNX Runtime without CUDA", library.display())]
    NotBuilt {
        /// The library.
        library: PathBuf,
    },
    /// A provider does not start.
    #[error("{provider} cannot be used: {reason}")]
    Provider {
        /// The provider's label.
        provider: String,
        /// ONNX Runtime's answer.
        reason: String,
        /// Libraries that it may need and that are nowhere.
        missing: Vec<String>,
    },
    /// No directory for data is known.
    #[error("no directory for data is known: HOME is not set")]
    NoDataDirectory,
    /// There is no pinned build for this machine.
    #[error("no build of ONNX Runtime {}is known for {system} on {architecture}", if *.cuda { "for CUDA " } else { "" })]
    NoBuild {
        /// Whether CUDA was asked for.
        cuda: bool,
        /// The operating system.
        system: &'static str,
        /// The processor.
        architecture: &'static str,
    },
    /// Python, whose pip downloads, cannot be started.
    #[error("start {program}")]
    NoPython {
        /// The program.
        program: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Python has no pip.
    #[error("{program} has no pip, which downloads ONNX Runtime")]
    NoPip {
        /// The program.
        program: &'static str,
    },
    /// The download failed.
    #[error("{package} cannot be downloaded: {reason}")]
    Download {
        /// Package and version.
        package: String,
        /// What the index, or pip, said.
        reason: String,
    },
    /// An installed library is not the one that was installed.
    #[error("{} has changed since it was installed: SHA-256 is {found}, and {expected} is expected", library.display())]
    Altered {
        /// The library.
        library: PathBuf,
        /// Its digest.
        found: Digest,
        /// The pinned digest.
        expected: Digest,
    },
    /// What was downloaded is not what was published.
    #[error("{file}: SHA-256 is {found}, and {expected} is expected")]
    Digest {
        /// The downloaded file.
        file: String,
        /// Its digest.
        found: Digest,
        /// The pinned digest.
        expected: Digest,
    },
    /// The download cannot be unpacked.
    #[error("{package} cannot be unpacked: {reason}")]
    Unpack {
        /// The downloaded file.
        package: String,
        /// What went wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl RuntimeFault {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| RuntimeFault::Io { operation, path: path.to_owned(), source }
    }

    /// Found and expected: lines below the message.
    pub fn details(&self) -> Vec<String> {
        match self {
            RuntimeFault::NotFound { looked, .. } => looked.clone(),
            RuntimeFault::Provider { missing, .. } if !missing.is_empty() => {
                vec![format!("not found: {}", missing.join(", "))]
            }
            _ => Vec::new(),
        }
    }
}
