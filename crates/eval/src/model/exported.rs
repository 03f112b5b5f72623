//! An ONNX graph that a user exported from the model, whose initializers hold the tensors of the checkpoint.
//!
//! Initializers have names of their own, and some are transposed. They are bound to tensors by content, so that an edit of the checkpoint
//! can be made in the export: edited tensors replace initializers when the graph is loaded.

use super::config::Config;
use super::engine::{Engine, builder_fault, runtime_tensor};
use super::session::Session;
use super::signature::Signature;
use super::{EditedTensors, ModelFault};
use crate::measure::ModelFacts;
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_files::context::Context;
use lcepatch_onnx::{Binding, Bindings, BoundTensor, OnnxFile, bind, matrix, transpose};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// An exported graph, and the tensors of the checkpoint in it.
pub struct ExportedGraph {
    file: OnnxFile,
    bindings: Bindings,
    pub(super) facts: ModelFacts,
    /// The names of the checkpoint's tensors in it, ascending.
    pub(super) weights: Vec<String>,
    signature: Arc<Signature>,
}

impl ExportedGraph {
    /// The ONNX file.
    pub fn file(&self) -> &OnnxFile {
        &self.file
    }

    /// The initializers that hold tensors of the checkpoint.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Opens the export at `path` of the model with this configuration and checkpoint. Reads all weights once.
    ///
    /// # Errors
    /// [`ModelFault::Onnx`], [`ModelFault::Input`], [`ModelFault::Malformed`]; cancellation.
    pub(super) fn open(
        path: &Path,
        checkpoint: &Checkpoint,
        config: &Config,
        context: &Context<'_>,
    ) -> Result<Self, ModelFault> {
        let file = OnnxFile::open(path)?;
        let signature = Signature::read(&file, config)?;
        let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
        let rows =
            config.size_of_any(&["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"])?;
        let unused = config.first_position()?;
        let facts = ModelFacts {
            kind: signature.kind(config),
            positions: narrow(rows.saturating_sub(unused)),
            vocabulary: narrow(config.size_of_any(&["vocab_size"])?),
            layers: match signature.layers() {
                Some(layers) => layers,
                None => narrow(config.size_of_any(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?),
            },
        };
        let bindings = bind(&file, checkpoint, context)?;
        let weights: BTreeSet<String> =
            bindings.bound.iter().flat_map(Binding::candidates).map(|source| source.tensor.clone()).collect();
        let weights = weights.into_iter().collect();
        Ok(Self { file, bindings, facts, weights, signature: Arc::new(signature) })
    }

    /// Whether the graph takes an attention mask.
    pub(super) fn has_mask(&self) -> bool {
        self.signature.has_mask()
    }

    /// Checks that every edited tensor is in the export.
    ///
    /// # Errors
    /// [`ModelFault::Unbound`].
    pub(super) fn check_bound<'n>(&self, edited: impl Iterator<Item = &'n str>) -> Result<(), ModelFault> {
        let unbound = |name: &&str| self.weights.binary_search_by(|weight| weight.as_str().cmp(name)).is_err();
        let tensors: Vec<String> = edited.filter(unbound).map(str::to_owned).collect();
        if tensors.is_empty() { Ok(()) } else { Err(ModelFault::Unbound { tensors }) }
    }

    /// Loads the graph with some tensors of `checkpoint` edited.
    ///
    /// # Errors
    /// [`ModelFault::Unbound`], [`ModelFault::Shared`], [`ModelFault::Tensor`], [`ModelFault::Runtime`].
    pub(super) fn session(
        &self,
        checkpoint: &Checkpoint,
        edited: &EditedTensors,
        engine: &Engine,
    ) -> Result<Session, ModelFault> {
        self.check_bound(edited.keys().map(String::as_str))?;
        let mut builder = engine.builder()?;
        for binding in &self.bindings.bound {
            let initializer =
                self.file.initializers().iter().find(|initializer| initializer.name == binding.initializer);
            if let (Some(initializer), Some(bytes)) = (initializer, replacement(binding, checkpoint, edited)?)
                && let Some(dtype) = initializer.dtype
            {
                let value = runtime_tensor(&binding.source.tensor, dtype, &initializer.shape, &bytes)?;
                builder = builder.with_initializer(&initializer.name, value).map_err(builder_fault)?;
            }
        }
        let inner = builder.commit_from_file(self.file.path())?;
        Ok(Session { inner, facts: self.facts, interface: self.signature.clone() })
    }
}

/// The new bytes of an initializer, or `None` if none of its tensors is edited. An initializer that holds several tensors needs the same
/// new bytes for all of them.
fn replacement<'b>(
    binding: &Binding,
    checkpoint: &'b Checkpoint,
    edited: &'b EditedTensors,
) -> Result<Option<Cow<'b, [u8]>>, ModelFault> {
    if !binding.candidates().any(|source| edited.contains_key(&source.tensor)) {
        return Ok(None);
    }
    let mut replacement: Option<Cow<'b, [u8]>> = None;
    for source in binding.candidates() {
        let Some(bytes) = oriented(source, checkpoint, edited) else { continue };
        if replacement.as_ref().is_some_and(|replacement| *replacement != bytes) {
            let tensors = binding.candidates().map(|source| source.tensor.clone()).collect();
            return Err(ModelFault::Shared { initializer: binding.initializer.clone(), tensors });
        }
        replacement = Some(bytes);
    }
    Ok(replacement)
}

/// The bytes of a tensor, edited or not, transposed if the initializer holds them so.
fn oriented<'b>(source: &BoundTensor, checkpoint: &'b Checkpoint, edited: &'b EditedTensors) -> Option<Cow<'b, [u8]>> {
    let tensor = checkpoint.tensor(&source.tensor)?;
    let bytes = match edited.get(&source.tensor) {
        Some(bytes) => bytes.as_slice(),
        None => tensor.elements(0..tensor.info.elements()),
    };
    Some(match matrix(&tensor.info.shape) {
        Some(shape) if source.transposed => Cow::Owned(transpose(bytes, shape, tensor.info.dtype.width())),
        _ => Cow::Borrowed(bytes),
    })
}
