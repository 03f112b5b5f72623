//! ONNX Runtime with its provider, threads and batch sizes.

use super::ModelFault;
use super::batches::Limits;
use super::runtime::{self, About, Library, Provider, RuntimeFault};
use half::{bf16, f16};
use lcepatch_format::dtype::Dtype;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, Tensor};

/// A loaded ONNX Runtime.
pub struct Engine {
    /// The library's version and build.
    pub about: About,
    /// The execution provider.
    pub provider: Provider,
    /// CPU threads. None for one thread per core.
    pub threads: Option<usize>,
    /// The limits of a batch.
    pub limits: Limits,
    environment: Environment,
}

impl Engine {
    /// Finds and loads ONNX Runtime, and starts the provider.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn start(provider: Provider, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        Self::with_library(&runtime::find(provider)?, threads)
    }

    /// Loads this ONNX Runtime, and starts the provider that it was found for.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn with_library(library: &Library, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        let environment = runtime::load(library)?;
        let about = runtime::about(library, &environment)?;
        let limits = match library.provider {
            Provider::Cpu => Limits::CPU,
            Provider::Cuda { .. } => Limits::CUDA,
        };
        Ok(Self { about, provider: library.provider, threads, limits, environment })
    }

    /// A builder of sessions with this provider and these threads.
    pub(super) fn builder(&self) -> Result<SessionBuilder, ModelFault> {
        let mut builder = Session::builder(&self.environment)?;
        if let Some(threads) = self.threads {
            builder = builder.with_intra_threads(threads).map_err(builder_fault)?;
        }
        builder.with_execution_providers(runtime::execution_providers(self.provider)).map_err(builder_fault)
    }
}

/// An error of a session builder.
pub(super) fn builder_fault<R>(error: ort::Error<R>) -> ModelFault {
    ModelFault::Runtime { reason: error.to_string() }
}

/// A tensor for the runtime from little-endian bytes. `name` is used in the error about a dtype that cannot be edited.
pub(super) fn runtime_tensor(name: &str, dtype: Dtype, shape: &[u64], bytes: &[u8]) -> Result<DynValue, ModelFault> {
    let dims: Vec<i64> = shape.iter().map(|dim| *dim as i64).collect();
    Ok(match dtype {
        Dtype::F32 => {
            let elements: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            Tensor::from_array((dims, elements))?.into_dyn()
        }
        Dtype::F16 => {
            let elements: Vec<f16> = bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b)).collect();
            Tensor::from_array((dims, elements))?.into_dyn()
        }
        Dtype::Bf16 => {
            let elements: Vec<bf16> = bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b)).collect();
            Tensor::from_array((dims, elements))?.into_dyn()
        }
        _ => {
            let expected = format!("F32, F16 or BF16 {shape:?}");
            let found = format!("{dtype} {shape:?}");
            return Err(ModelFault::Tensor { tensor: name.to_owned(), found, expected });
        }
    })
}
