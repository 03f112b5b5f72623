//! A model directory that can be asked: configuration, tokenizer, ONNX graph, ONNX Runtime.
//!
//! [`Model::open`] reads a configuration and builds the graph; [`Model::session`] loads the weights, each edited tensor a private
//! copy and the others mapped from their files; [`Session::answer`] answers a [`Work`](crate::measure::Work) list.

pub mod batches;
pub mod config;
pub mod export;
mod fault;
pub mod graph;
pub mod runtime;
pub mod session;
pub mod tokenizer;
mod weights;

pub use batches::Batches;
pub use fault::ModelFault;
pub use session::{Engine, Session};

use crate::checkpoint::Checkpoint;
use crate::measure::Facts;
use config::Config;
use graph::{Graph, Interface};
use std::collections::BTreeMap;
use std::path::Path;
use weights::WeightFiles;

/// Tensors that an edit changes, by name: their bytes, in the checkpoint's dtype.
pub type Edited = BTreeMap<String, Vec<u8>>;

/// A model directory, read.
pub struct Model {
    /// `config.json`.
    pub config: Config,
    graph: Graph,
    files: WeightFiles,
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
        Ok(Self { config, graph, files })
    }

    /// The model in numbers.
    pub fn facts(&self) -> &Facts {
        &self.graph.facts
    }

    /// The tensors of the checkpoint that the model uses.
    pub fn weights(&self) -> &[String] {
        &self.graph.weights
    }

    /// Loads the model with some tensors edited. Tensors that the model does not use are passed over.
    ///
    /// # Errors
    /// [`ModelFault::Runtime`].
    pub fn session(&self, checkpoint: &Checkpoint, edited: Edited, engine: &Engine) -> Result<Session, ModelFault> {
        session::load(&self.graph, &self.files, checkpoint, edited, engine)
    }
}
