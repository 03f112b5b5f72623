//! ONNX Runtime: a library that is found and loaded when it is needed, never linked.
//!
//! [`find()`] finds the library, [`load()`] loads it once for the process, and [`install()`] downloads a pinned build into the user's data
//! directory. A request for CUDA gets CUDA, or an error that names what is missing; it never falls back to the CPU.

mod fault;
mod install;
mod load;
mod search;

pub use fault::RuntimeFault;
pub use install::{Download, Installed, Wheel, install};
pub use load::{About, DRIVER, about, execution_providers, load};
pub use search::{Library, Origin, SearchPaths, find};

/// The version of ONNX Runtime that [`install()`] installs for CPUs.
pub const VERSION: &str = "1.32.0";

/// The version of ONNX Runtime that [`install()`] installs for CUDA 13.
pub const CUDA_VERSION: &str = "1.31.1";

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda {
        /// Its CUDA device number.
        device: i32,
    },
}

impl Provider {
    /// `cpu`, or `cuda:0`.
    pub fn label(self) -> String {
        match self {
            Provider::Cpu => "cpu".to_owned(),
            Provider::Cuda { device } => format!("cuda:{device}"),
        }
    }

    /// The provider of a label; `cuda` is the first GPU.
    pub fn from_label(label: &str) -> Option<Self> {
        match label.split_once(':') {
            None if label == "cpu" => Some(Provider::Cpu),
            None if label == "cuda" => Some(Provider::Cuda { device: 0 }),
            Some(("cuda", device)) => {
                device.parse().ok().filter(|device| *device >= 0).map(|device| Provider::Cuda { device })
            }
            _ => None,
        }
    }

    /// The build of ONNX Runtime with this provider.
    pub fn build(self) -> Build {
        match self {
            Provider::Cpu => Build::Cpu,
            Provider::Cuda { .. } => Build::Cuda,
        }
    }
}

/// A build of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Build {
    /// For CPUs.
    Cpu,
    /// For CPUs and CUDA 13.
    Cuda,
}

impl Build {
    /// Its name and version, which is its folder in the data directory.
    pub fn folder(self) -> String {
        match self {
            Build::Cpu => format!("onnxruntime-{VERSION}"),
            Build::Cuda => format!("onnxruntime-gpu-{CUDA_VERSION}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_providers() {
        for provider in [Provider::Cpu, Provider::Cuda { device: 0 }, Provider::Cuda { device: 3 }] {
            assert_eq!(Provider::from_label(&provider.label()), Some(provider));
        }
        assert_eq!(Provider::from_label("cuda"), Some(Provider::Cuda { device: 0 }));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            assert_eq!(Provider::from_label(wrong), None, "{wrong}");
        }
    }
}
