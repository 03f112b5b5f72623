//! Exports the graph as an ONNX file whose weights stay in the safetensors files beside it.

use super::ModelFault;
use super::config::Config;
use super::graph::{self, Interface, Location};
use lcepatch_files::checkpoint::Checkpoint;
use lcepatch_files::durable::{Existing, Failed, NewDirectory, write_file};
use prost::Message;
use std::path::Path;

/// The name of the graph's file.
pub const FILE: &str = "model.onnx";

/// Why a model cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model cannot be built.
    #[error(transparent)]
    Model(#[from] ModelFault),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] Failed),
}

/// Writes the graph of the model in `directory`, whose weights are `checkpoint`, to the directory `output`. Another directory than that of
/// the model is created, and gets a copy of the weights, the configuration and the tokenizer. Returns what a reader of the graph must know,
/// as [`super::Model::notes`].
///
/// # Errors
/// [`ExportError`]; the output then does not exist.
pub fn export(
    directory: &Path,
    checkpoint: &Checkpoint,
    output: &Path,
    existing: Existing,
) -> Result<Vec<String>, ExportError> {
    let config = Config::read(directory)?;
    let name = |file: usize| Location(checkpoint.files()[file].name());
    let graph = graph::build(&config, checkpoint, &name, Interface::Standard)?;
    let bytes = graph.model.encode_to_vec();
    if matches!((directory.canonicalize(), output.canonicalize()), (Ok(a), Ok(b)) if a == b) {
        write_file(&output.join(FILE), &bytes, existing)?;
        return Ok(graph.notes);
    }
    let new = NewDirectory::create(output)?;
    write_file(&new.temporary_path().join(FILE), &bytes, Existing::Keep)?;
    for file in checkpoint.files() {
        let to = new.temporary_path().join(file.name());
        // A copy and not a link: ONNX readers refuse links that leave their folder, and files with several hard links.
        std::fs::copy(file.path(), &to).map_err(|e| Failed::io("write", &to, e))?;
    }
    for entry in std::fs::read_dir(directory).map_err(|e| Failed::io("list", directory, e))? {
        let entry = entry.map_err(|e| Failed::io("list", directory, e))?;
        let name = entry.file_name();
        let is_text = [".json", ".txt", ".model"].iter().any(|suffix| name.to_string_lossy().ends_with(suffix));
        if is_text && entry.path().is_file() {
            let to = new.temporary_path().join(&name);
            std::fs::copy(entry.path(), &to).map_err(|e| Failed::io("write", &to, e))?;
        }
    }
    new.commit()?;
    Ok(graph.notes)
}
