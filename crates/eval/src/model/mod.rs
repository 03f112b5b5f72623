//! Runs a model directory: configuration, tokenizer, ONNX graph, ONNX Runtime.
//!
//! [`Model::open`] reads a configuration and builds the graph from it; [`Model::with_onnx`] takes a graph that a user exported.
//! [`Model::session`] loads the weights: edited tensors from memory, the others mapped from their files. [`Session::answer`] answers the
//! questions of a [`WorkList`].

pub mod batches;
pub mod config;
mod engine;
pub mod export;
mod fault;
mod exported;
pub mod graph;
mod built;
pub mod runtime;
pub mod session;
mod signature;
pub mod tokenizer;
mod weights;

pub use batches::Batches;
pub use engine::Engine;
pub use exported::ExportedGraph;
pub use fault::ModelFault;
pub use session::Session;

use crate::measure::{ModelFacts, WorkList};
use batches::Limits;
use config::Config;
use graph::{Graph, Interface};
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_files::context::Context;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use weights::WeightFiles;

/// The bytes of the tensors that an edit changes, by tensor name, in the checkpoint's dtype.
pub type EditedTensors = BTreeMap<String, Vec<u8>>;

/// A model directory that was read.
pub struct Model {
    config: Config,
    graph: ModelGraph,
}

/// The graph that the runtime loads.
enum ModelGraph {
    /// A graph built from the configuration, and the files of its weights.
    Built(Box<Graph>, WeightFiles),
    Exported(Box<ExportedGraph>),
}

impl Model {
    /// Reads the configuration of a model directory whose weights are `checkpoint`, and builds the graph. No weights are loaded.
    ///
    /// # Errors
    /// [`ModelFault`]: a missing or malformed file, an unknown architecture, tensors that do not fit the configuration.
    pub fn open(directory: &Path, checkpoint: &Checkpoint) -> Result<Self, ModelFault> {
        let config = Config::read(directory)?;
        let files = WeightFiles::of(checkpoint)?;
        let graph = graph::build(&config, checkpoint, &|file| files.location(file), Interface::Scoring)?;
        Ok(Self { config, graph: ModelGraph::Built(Box::new(graph), files) })
    }

    /// Reads the configuration of a model directory, and takes the export at `onnx` for the graph. Any architecture will do. Initializers
    /// that hold tensors of `checkpoint` are found by their content.
    ///
    /// # Errors
    /// [`ModelFault`]: a missing or malformed file, an export with an unknown input; cancellation.
    pub fn with_onnx(
        directory: &Path,
        checkpoint: &Checkpoint,
        onnx: &Path,
        context: &Context<'_>,
    ) -> Result<Self, ModelFault> {
        let config = Config::read(directory)?;
        let exported = ExportedGraph::open(onnx, checkpoint, &config, context)?;
        Ok(Self { config, graph: ModelGraph::Exported(Box::new(exported)) })
    }

    /// `config.json`.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kind and the sizes of the model.
    pub fn facts(&self) -> &ModelFacts {
        match &self.graph {
            ModelGraph::Built(graph, _) => &graph.facts,
            ModelGraph::Exported(exported) => &exported.facts,
        }
    }

    /// The tensors of the checkpoint that the model uses.
    pub fn weights(&self) -> &[String] {
        match &self.graph {
            ModelGraph::Built(graph, _) => &graph.weights,
            ModelGraph::Exported(exported) => &exported.weights,
        }
    }

    /// What a reader of results must know: keys of the configuration and tensors that are not used, heads that are not measured.
    pub fn notes(&self) -> &[String] {
        match &self.graph {
            ModelGraph::Built(graph, _) => &graph.notes,
            ModelGraph::Exported(_) => &[],
        }
    }

    /// The exported graph, if the model was opened with one.
    pub fn exported_graph(&self) -> Option<&ExportedGraph> {
        match &self.graph {
            ModelGraph::Built(..) => None,
            ModelGraph::Exported(exported) => Some(exported),
        }
    }

    /// The tensors of `edited` that the model uses. A built graph ignores others. An exported graph may hold them in a merged or converted
    /// form that cannot be edited, so they are an error.
    ///
    /// # Errors
    /// [`ModelFault::Unbound`].
    pub fn used<'n>(&self, edited: impl Iterator<Item = &'n str> + Clone) -> Result<Vec<&'n str>, ModelFault> {
        if let ModelGraph::Exported(exported) = &self.graph {
            exported.check_bound(edited.clone())?;
        }
        let weights: HashSet<&str> = self.weights().iter().map(String::as_str).collect();
        Ok(edited.filter(|name| weights.contains(name)).collect())
    }

    /// Divides a work list into batches.
    pub fn batches(&self, work: &WorkList, limits: Limits) -> Batches {
        let vocabulary = self.facts().vocabulary;
        let limits = match &self.graph {
            ModelGraph::Built(..) => limits,
            // Exported graphs compute logits for every token, not only for those that are asked about.
            ModelGraph::Exported(exported) if exported.has_mask() => {
                let tokens = (limits.logits / vocabulary.max(1) as usize).max(1);
                Limits { tokens: limits.tokens.min(tokens), ..limits }
            }
            // A graph without an attention mask cannot take padding: each sequence is a batch.
            ModelGraph::Exported(_) => Limits { tokens: 1, ..limits },
        };
        Batches::new(work, vocabulary, limits)
    }

    /// Loads the model with some tensors edited. A built graph ignores tensors that it does not use.
    ///
    /// # Errors
    /// [`ModelFault::Runtime`]; of an exported graph [`ModelFault::Unbound`], [`ModelFault::Shared`] and [`ModelFault::Tensor`].
    pub fn session(
        &self,
        checkpoint: &Checkpoint,
        edited: EditedTensors,
        engine: &Engine,
    ) -> Result<Session, ModelFault> {
        match &self.graph {
            ModelGraph::Built(graph, files) => built::load(graph, files, checkpoint, edited, engine),
            ModelGraph::Exported(exported) => exported.session(checkpoint, &edited, engine),
        }
    }
}
