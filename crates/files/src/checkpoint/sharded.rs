//! Finds the weight files of a model directory or an index of shards.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::malformed::{Malformed, OpenError};
use super::names::is_tied_head;
use super::{INDEX_SUFFIX, Layout, WeightFile};
use crate::input::{Meant, Unexpected};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a checkpoint.
pub(super) struct Shards {
    /// The files, in the order of their names.
    pub files: Vec<PathBuf>,
    /// See [`super::Checkpoint::stale`].
    pub stale: Vec<String>,
}

/// Reads an index of shards. It only determines the set of shards; tensors are found by the headers of the shards. A tensor that the index
/// lists and no shard has is an error, unless it is a head that is tied to the embeddings.
pub(super) fn read_index(path: &Path) -> Result<Shards, OpenError> {
    let text = crate::json::read_file(path, Meant::Index).map_err(|e| OpenError::io("read", path, e))?;
    let index = ShardIndex::parse(path, &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    index.refuse_missing(|shard| folder.join(shard).exists())?;
    let open = |shard: &String| WeightFile::open(&folder.join(shard));
    let files = index.shards.keys().map(open).collect::<Result<Vec<_>, _>>()?;
    let config = || crate::json::read_file(&folder.join("config.json"), Meant::Model).unwrap_or_default();
    let stale = index.stale(&files, || ties_head(&config()))?;
    Ok(Shards { files: index.shards.keys().map(|shard| folder.join(shard)).collect(), stale })
}

/// An index of shards.
pub(super) struct ShardIndex<'a> {
    path: &'a Path,
    /// The tensors that are said to be in each shard, by the shard's name.
    pub shards: BTreeMap<String, Vec<String>>,
}

impl<'a> ShardIndex<'a> {
    /// Parses the `text` of an index. `path` names it in errors.
    pub fn parse(path: &'a Path, text: &[u8]) -> Result<Self, OpenError> {
        let malformed = |reason| OpenError::malformed(path, reason);
        let index: Index =
            serde_json::from_slice(text).map_err(|e| malformed(Malformed::Index { reason: e.to_string() }))?;
        if index.weight_map.is_empty() {
            return Err(malformed(Malformed::Index { reason: "weight_map is empty".to_owned() }));
        }
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tensor, shard) in index.weight_map {
            let is_plain = matches!(Path::new(&shard).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
            if !is_plain {
                return Err(malformed(Malformed::ShardPath { shard }));
            }
            shards.entry(shard).or_default().push(tensor);
        }
        Ok(Self { path, shards })
    }

    /// Refuses an index of which shards are missing.
    pub fn refuse_missing(&self, is_here: impl Fn(&str) -> bool) -> Result<(), OpenError> {
        let missing: Vec<String> = self.shards.keys().filter(|shard| !is_here(shard)).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(OpenError::malformed(self.path, Malformed::MissingShards { missing, of: self.shards.len() }))
    }

    /// See [`super::Checkpoint::stale`]. `files` are the shards, in the order of their names; `ties_head` whether the model ties its head
    /// to its embeddings.
    pub fn stale(&self, files: &[WeightFile], ties_head: impl Fn() -> bool) -> Result<Vec<String>, OpenError> {
        let (mut in_any_shard, mut stale) = (HashSet::new(), Vec::new());
        for ((shard, tensors), file) in self.shards.iter().zip(files) {
            let in_shard: HashSet<&str> = file.tensors().iter().map(|info| &info.name[..]).collect();
            stale.extend(tensors.iter().filter(|tensor| !in_shard.contains(&tensor[..])).map(|tensor| (tensor, shard)));
            in_any_shard.extend(in_shard);
        }
        let is_tied = |tensor: &str| is_tied_head(tensor) && ties_head();
        let is_missing = |(tensor, _): &&(&String, &String)| !in_any_shard.contains(&tensor[..]) && !is_tied(tensor);
        if let Some((tensor, shard)) = stale.iter().find(is_missing) {
            let (tensor, shard) = (tensor.to_string(), shard.to_string());
            return Err(OpenError::malformed(self.path, Malformed::NotInShard { tensor, shard }));
        }
        Ok(stale.into_iter().map(|(tensor, _)| tensor.to_owned()).collect())
    }
}

/// Whether a model ties its head to its embeddings, according to the text of its `config.json`. The default is true, as in transformers
/// (`PretrainedConfig`).
pub(super) fn ties_head(config: &[u8]) -> bool {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    config.get("model_type").is_some() && config.get("tie_word_embeddings").is_none_or(|tied| *tied == true)
}

/// Finds the weights of a model directory: `model.safetensors`, else those of its index, else the only `.safetensors` file or a complete
/// set of shards.
pub(super) fn find_weights(directory: &Path) -> Result<(Layout, Shards), OpenError> {
    let plain = |files| (Layout::Directory { index: None }, Shards { files, stale: Vec::new() });
    let io = |e| OpenError::io("list", directory, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Ignore folders that are named like weight files.
        if !entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    match choose(directory, &names)? {
        Weights::Files(names) => Ok(plain(names.iter().map(|name| directory.join(name)).collect())),
        Weights::OfIndex(index) => {
            let index = directory.join(index);
            let shards = read_index(&index)?;
            Ok((Layout::Directory { index: Some(index) }, shards))
        }
    }
}

/// What makes the checkpoint of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Weights {
    /// Files of these names.
    Files(Vec<String>),
    /// What the index of this name lists.
    OfIndex(String),
}

/// Chooses among the sorted names of the files of a folder; `directory` names it in errors.
pub(super) fn choose(directory: &Path, names: &[String]) -> Result<Weights, OpenError> {
    let indexes: Vec<&String> = names.iter().filter(|name| name.ends_with(INDEX_SUFFIX)).collect();
    let preferred = format!("model{INDEX_SUFFIX}");
    let index = indexes.iter().find(|name| ***name == preferred).or(indexes.first().filter(|_| indexes.len() == 1));
    if let Some(only) = names.iter().find(|name| *name == "model.safetensors") {
        return Ok(Weights::Files(vec![only.clone()]));
    }
    if let Some(index) = index {
        return Ok(Weights::OfIndex(index.to_string()));
    }
    let weights: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    match weights[..] {
        [] => Err(OpenError::malformed(directory, Unexpected::directory(directory, Meant::Checkpoint).into())),
        [only] => Ok(Weights::Files(vec![only.clone()])),
        _ if is_complete_set(&weights) => Ok(Weights::Files(weights.into_iter().cloned().collect())),
        _ => {
            let found = weights.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            Err(OpenError::malformed(directory, Malformed::SeveralWeights { found }))
        }
    }
}

/// Whether these sorted names are all shards of one checkpoint, such as `model-00001-of-00002.safetensors` and
/// `model-00002-of-00002.safetensors`.
fn is_complete_set(names: &[&String]) -> bool {
    let Some(first) = names.first().and_then(|name| ShardName::parse(name)) else { return false };
    let mut numbered = (1..).zip(names);
    names.len() == first.of
        && numbered.all(|(number, name)| ShardName::parse(name) == Some(ShardName { number, ..first }))
}

/// The parts of a shard's name, such as `model-00001-of-00002.safetensors`.
#[derive(Clone, Copy, PartialEq)]
struct ShardName<'a> {
    stem: &'a str,
    number: usize,
    of: usize,
}

impl<'a> ShardName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (front, of) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (stem, number) = front.rsplit_once('-')?;
        Some(Self { stem, number: number.parse().ok()?, of: of.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_set_of_shards_needs_no_index() {
        let set = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("{name}.safetensors")).collect();
            is_complete_set(&names.iter().collect::<Vec<_>>())
        };
        assert!(set(&["model-00001-of-00002", "model-00002-of-00002"]));
        assert!(!set(&["model-00001-of-00003", "model-00002-of-00003"]));
        assert!(!set(&["model-00001-of-00002", "other-00002-of-00002"]));
        assert!(!set(&["model-00000-of-00002", "model-00001-of-00002"]));
        assert!(!set(&["a", "b"]));
    }
}
