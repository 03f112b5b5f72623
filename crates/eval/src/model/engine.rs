//! ONNX Runtime as sessions use it.

use super::ModelFault;
use super::batches::Limits;
use super::runtime::{self, About, Library, Provider, RuntimeFault};
use half::{bf16, f16};
use lcepatch_format::dtype::Dtype;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{DynValue, Tensor};

/// ONNX Runtime, and how to use it.
pub struct Engine {
    /// What the library is.
    pub about: About,
    /// What computes.
    pub provider: Provider,
    /// Threads of a CPU; none for one for each core.
    pub threads: Option<usize>,
    /// How large a batch may be.
    pub limits: Limits,
    environment: Environment,
}

impl Engine {
    /// Finds and loads ONNX Runtime, and starts the provider.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn start(provider: Provider, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        Self::of(&runtime::find(provider)?, threads)
    }

    /// Loads an ONNX Runtime, and starts the provider that it was found for.
    ///
    /// # Errors
    /// [`RuntimeFault`].
    pub fn of(found: &Library, threads: Option<usize>) -> Result<Self, RuntimeFault> {
        let environment = runtime::load(found)?;
        let about = runtime::about(found, &environment)?;
        let limits = match found.provider {
            Provider::Cpu => Limits::CPU,
            Provider::Cuda { .. } => Limits::CUDA,
        };
        Ok(Self { about, provider: found.provider, threads, limits, environment })
    }

    /// A session to be, of this provider.
    pub(super) fn builder(&self) -> Result<SessionBuilder, ModelFault> {
        let mut builder = Session::builder(&self.environment)?;
        if let Some(threads) = self.threads {
            builder = builder.with_intra_threads(threads).map_err(refused)?;
        }
        builder.with_execution_providers(runtime::execution_providers(self.provider)).map_err(refused)
    }
}

/// What the runtime says of a builder that it does not take.
pub(super) fn refused<R>(error: ort::Error<R>) -> ModelFault {
    ModelFault::Runtime { reason: error.to_string() }
}

/// A tensor that the runtime can read, of little-endian bytes; `name` is for the error of a dtype that it cannot be edited in.
pub(super) fn value(name: &str, dtype: Dtype, shape: &[u64], bytes: &[u8]) -> Result<DynValue, ModelFault> {
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
