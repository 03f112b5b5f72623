//! A graph of our own: loaded with its weights, and asked for no more than is wanted.

use super::batches::{PaddedBatch, QuestionKind};
use super::engine::{Engine, refused, value};
use super::graph::Graph;
use super::session::{GraphIo, Input, Session, input};
use super::weights::WeightFiles;
use super::{EditedTensors, ModelFault};
use crate::measure::{Layers, ModelFacts, ModelKind};
use lcepatch_files::checkpoint::Checkpoint;
use prost::Message;
use std::sync::Arc;

/// The key under which the runtime is told the folder of a graph's external data.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Loads a graph. EditedTensors tensors are given as they are; the runtime maps the others from their files.
pub(super) fn load(
    graph: &Graph,
    files: &WeightFiles,
    checkpoint: &Checkpoint,
    mut edited: EditedTensors,
    engine: &Engine,
) -> Result<Session, ModelFault> {
    let folder = files.folder.to_string_lossy();
    let mut builder = engine.builder()?.with_config_entry(FOLDER, folder.as_ref()).map_err(refused)?;
    for name in &graph.weights {
        let Some(tensor) = checkpoint.tensor(name) else { continue };
        let bytes = match edited.remove(name) {
            Some(bytes) => bytes,
            None if files.is_reachable(tensor.file_index) => continue,
            None => tensor.elements(0..tensor.info.elements()).to_vec(),
        };
        let value = value(name, tensor.info.dtype, &tensor.info.shape, &bytes)?;
        builder = builder.with_external_initializer(name, value).map_err(refused)?;
    }
    let inner = builder.commit_from_memory(&graph.model.encode_to_vec())?;
    Ok(Session { inner, facts: graph.facts, interface: Arc::new(Scoring(graph.facts)) })
}

/// [`super::graph::Interface::Scoring`].
struct Scoring(ModelFacts);

impl GraphIo for Scoring {
    fn inputs(&self, ask: QuestionKind, batch: &PaddedBatch) -> Result<Vec<Input>, ModelFault> {
        let mut inputs = vec![
            input("input_ids", batch.shape, batch.ids.clone())?,
            input("attention_mask", batch.shape, batch.mask.clone())?,
        ];
        if self.0.kind != ModelKind::Encoder {
            let (rows, tokens): (Vec<i64>, Vec<i64>) = match ask {
                // Not every kernel takes an empty list; the answer is not looked at.
                QuestionKind::Embeddings => (vec![0], vec![0]),
                _ => batch.asked.iter().map(|asked| (asked.row as i64, i64::from(asked.token))).unzip(),
            };
            inputs.push(input("rows", [rows.len()], rows)?);
            inputs.push(input("tokens", [tokens.len()], tokens)?);
        }
        Ok(inputs)
    }

    fn predictions(&self, ask: QuestionKind) -> Result<&str, ModelFault> {
        Ok(if ask == QuestionKind::Distributions { "distributions" } else { "log_probabilities" })
    }

    fn hidden(&self, layers: Layers) -> Result<Vec<String>, ModelFault> {
        let first = if layers == Layers::Every { 0 } else { self.0.layers };
        Ok((first..=self.0.layers).map(|layer| format!("hidden.{layer}")).collect())
    }

    fn check(&self, _: &str, _: &[i64], _: &PaddedBatch) -> Result<(), ModelFault> {
        Ok(())
    }

    fn log_probabilities(&self, found: &[f32], _: &PaddedBatch) -> Vec<f32> {
        found.to_vec()
    }

    fn distributions(&self, found: &[f32], _: &PaddedBatch) -> Vec<Vec<f32>> {
        found.chunks(self.0.vocabulary as usize).map(<[f32]>::to_vec).collect()
    }
}
