//! Loads a graph that was built from the configuration. It computes logits only at the positions that are asked about.

use super::batches::{PaddedBatch, QuestionKind};
use super::engine::{Engine, builder_fault, runtime_tensor};
use super::graph::Graph;
use super::session::{GraphIo, Input, Session, int64_input};
use super::weights::WeightFiles;
use super::{EditedTensors, ModelFault};
use crate::measure::{Layers, ModelFacts, ModelKind};
use lcepatch_files::checkpoint::Checkpoint;
use prost::Message;
use std::sync::Arc;

/// The runtime's setting for the folder of a graph's external data.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Loads a graph. Edited tensors are passed in memory; the runtime maps the others from their files.
pub(super) fn load(
    graph: &Graph,
    files: &WeightFiles,
    checkpoint: &Checkpoint,
    mut edited: EditedTensors,
    engine: &Engine,
) -> Result<Session, ModelFault> {
    let folder = files.folder.to_string_lossy();
    let mut builder = engine.builder()?.with_config_entry(FOLDER, folder.as_ref()).map_err(builder_fault)?;
    for name in &graph.weights {
        let Some(tensor) = checkpoint.tensor(name) else { continue };
        let bytes = match edited.remove(name) {
            Some(bytes) => bytes,
            None if files.is_reachable(tensor.file_index) => continue,
            None => tensor.elements(0..tensor.info.elements()).to_vec(),
        };
        let value = runtime_tensor(name, tensor.info.dtype, &tensor.info.shape, &bytes)?;
        builder = builder.with_external_initializer(name, value).map_err(builder_fault)?;
    }
    let inner = builder.commit_from_memory(&graph.model.encode_to_vec())?;
    Ok(Session { inner, facts: graph.facts, interface: Arc::new(Scoring(graph.facts)) })
}

/// The inputs and outputs of [`super::graph::Interface::Scoring`].
struct Scoring(ModelFacts);

impl GraphIo for Scoring {
    fn inputs(&self, kind: QuestionKind, batch: &PaddedBatch) -> Result<Vec<Input>, ModelFault> {
        let mut inputs = vec![
            int64_input("input_ids", batch.shape, batch.ids.clone())?,
            int64_input("attention_mask", batch.shape, batch.mask.clone())?,
        ];
        if self.0.kind != ModelKind::Encoder {
            let (rows, tokens): (Vec<i64>, Vec<i64>) = match kind {
                // Some kernels fail on an empty list. The answer is ignored.
                QuestionKind::Embeddings => (vec![0], vec![0]),
                _ => batch.questions.iter().map(|question| (question.row as i64, i64::from(question.token))).unzip(),
            };
            inputs.push(int64_input("rows", [rows.len()], rows)?);
            inputs.push(int64_input("tokens", [tokens.len()], tokens)?);
        }
        Ok(inputs)
    }

    fn predictions(&self, kind: QuestionKind) -> Result<&str, ModelFault> {
        Ok(if kind == QuestionKind::Distributions { "distributions" } else { "log_probabilities" })
    }

    fn hidden(&self, layers: Layers) -> Result<Vec<String>, ModelFault> {
        let first = if layers == Layers::Every { 0 } else { self.0.layers };
        Ok((first..=self.0.layers).map(|layer| format!("hidden.{layer}")).collect())
    }

    fn check(&self, _: &str, _: &[i64], _: &PaddedBatch) -> Result<(), ModelFault> {
        Ok(())
    }

    fn log_probabilities(&self, output: &[f32], _: &PaddedBatch) -> Vec<f32> {
        output.to_vec()
    }

    fn distributions(&self, output: &[f32], _: &PaddedBatch) -> Vec<Vec<f32>> {
        output.chunks(self.0.vocabulary as usize).map(<[f32]>::to_vec).collect()
    }
}
