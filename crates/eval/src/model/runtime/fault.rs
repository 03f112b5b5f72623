//! Why there is no ONNX Runtime to work with.

use lcepatch_files::context::Cancelled;
use lcepatch_format::digest::Digest;
use std::path::{Path, PathBuf};

/// Why ONNX Runtime cannot be found, loaded or installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeFault {
    /// There is none in any of the places.
    #[error("there is no ONNX Runtime {}on this machine", if *.cuda { "for CUDA " } else { "" })]
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
    #[error("{}: ONNX Runtime {version}, and 1.{least} is the least that works", library.display())]
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
    /// Python, which downloads and unpacks, cannot be started.
    #[error("start {program}: {source}")]
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
    #[error("pip cannot download {package}: {reason}")]
    Download {
        /// Package and version.
        package: String,
        /// What pip said last.
        reason: String,
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
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Asked to stop.
    #[error("{0}")]
    Cancelled(#[from] Cancelled),
}

impl RuntimeFault {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| RuntimeFault::Io { operation, path: path.to_owned(), source }
    }

    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            RuntimeFault::NotFound { .. } | RuntimeFault::NoSuchLibrary { .. } => "runtime.missing",
            RuntimeFault::Load { .. } | RuntimeFault::TooOld { .. } | RuntimeFault::Loaded { .. } => "runtime.unusable",
            RuntimeFault::NotBuilt { .. } | RuntimeFault::Provider { .. } => "runtime.provider",
            RuntimeFault::NoDataDirectory
            | RuntimeFault::NoBuild { .. }
            | RuntimeFault::NoPython { .. }
            | RuntimeFault::NoPip { .. } => "runtime.not-installable",
            RuntimeFault::Download { .. } => "runtime.download",
            RuntimeFault::Digest { .. } | RuntimeFault::Unpack { .. } => "runtime.digest-mismatch",
            RuntimeFault::Io { .. } => "io",
            RuntimeFault::Cancelled(_) => "interrupted",
        }
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

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            RuntimeFault::NotFound { cuda: false, .. } | RuntimeFault::TooOld { .. } => {
                "`lcepatch runtime install` puts one in place"
            }
            RuntimeFault::NotFound { cuda: true, .. } | RuntimeFault::NotBuilt { .. } => {
                "`lcepatch runtime install --cuda` puts one in place"
            }
            RuntimeFault::NoSuchLibrary { .. } => {
                "let it name the library file, such as libonnxruntime.so, or unset it and use `lcepatch runtime install`"
            }
            RuntimeFault::Load { .. } => "give another one with ORT_DYLIB_PATH, or `lcepatch runtime install --force`",
            RuntimeFault::Provider { missing, .. } if missing.iter().any(|library| library == super::load::DRIVER) => {
                "CUDA needs NVIDIA's driver, version 580 or later"
            }
            RuntimeFault::Provider { missing, .. } if !missing.is_empty() => {
                "put CUDA 13 and cuDNN 9 where the loader looks, or `pip install nvidia-cuda-runtime nvidia-cublas \
                 nvidia-curand nvidia-cufft nvidia-cuda-nvrtc nvidia-cudnn-cu13` into the active environment"
            }
            RuntimeFault::NoDataDirectory => "say where with LCEPATCH_HOME",
            RuntimeFault::NoBuild { .. } => {
                "install ONNX Runtime 1.22 or later by other means, and name it with ORT_DYLIB_PATH"
            }
            RuntimeFault::NoPython { .. } | RuntimeFault::NoPip { .. } => {
                "install Python with pip, or download the library by hand and name it with ORT_DYLIB_PATH"
            }
            RuntimeFault::Download { .. } => {
                "pip reads its settings (index, proxy) from its own files and variables; or name a library with ORT_DYLIB_PATH"
            }
            RuntimeFault::Digest { .. } => "nothing was installed; is the package index one that you trust?",
            _ => return None,
        };
        Some(help.to_owned())
    }
}
