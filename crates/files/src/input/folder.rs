//! Recognizes directories that are not model directories, for error messages.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// The kind of a directory, recognized by the names of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Folder {
    /// A model directory with weights.
    Model,
    /// An adapter, such as LoRA's, which changes the weights of another model.
    Adapter,
    /// A model directory with weights in another format; the name of one of the files.
    OtherFormat(String),
    /// A hub's cache, or a model's folder in it; the snapshots below it.
    HubCache(Vec<PathBuf>),
    /// A directory with model directories below it; their paths.
    Parent(Vec<PathBuf>),
    /// None of these.
    Plain,
}

/// The configuration file of an adapter, as PEFT names it.
const ADAPTER: &str = "adapter_config.json";
/// Suffixes of the names of weights in other formats.
const OTHER_FORMATS: [&str; 9] =
    [".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".bin.index.json"];
/// Prefix of the names of models' folders in a hub's cache.
const HUB_MODEL: &str = "models--";
/// Most entries that are examined below a directory.
const ENTRIES_MAX: usize = 10_000;
/// Most levels that are examined below a directory: enough for a hub's cache.
const DEPTH_MAX: usize = 3;

impl Folder {
    /// Recognizes a directory by names only. Folders that cannot be listed are ignored.
    pub fn of(path: &Path) -> Self {
        let names = names(path);
        let has = |end: &str| names.iter().find(|name| name.ends_with(end));
        if names.iter().any(|name| name == ADAPTER) {
            return Self::Adapter;
        }
        if has(".safetensors").is_some() {
            return Self::Model;
        }
        if let Some(name) = OTHER_FORMATS.iter().find_map(|end| has(end)) {
            return Self::OtherFormat(name.clone());
        }
        let is_model = |name: &str| name.starts_with(HUB_MODEL);
        let here = path.canonicalize().unwrap_or_default();
        // The path may be that of a model's folder, or of `snapshots` in it.
        let inside = here.ancestors().take(2).filter_map(Path::file_name).any(|name| is_model(&name.to_string_lossy()));
        let below = below(path);
        if inside || names.iter().any(|name| is_model(name)) {
            return Self::HubCache(below);
        }
        if below.is_empty() { Self::Plain } else { Self::Parent(below) }
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model => f.write_str("a model directory"),
            Self::Adapter => f.write_str("the directory of an adapter (such as LoRA), which changes another model"),
            Self::OtherFormat(name) => write!(f, "a directory with weights in another format ({name})"),
            Self::HubCache(_) => f.write_str("a folder of a hub's cache, above its models' snapshots"),
            Self::Parent(_) => f.write_str("a directory with models in folders below it"),
            Self::Plain => f.write_str("a directory"),
        }
    }
}

/// The sorted names of the entries of a directory.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The folders below a directory that have weights, the nearest first. Folders below these are not searched, and links are not followed.
fn below(path: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), ENTRIES_MAX);
    let mut folders = VecDeque::from([(path.to_owned(), 0)]);
    while let Some((folder, depth)) = folders.pop_front() {
        let names = names(&folder);
        left = left.saturating_sub(names.len());
        if depth > 0 && names.iter().any(|name| name.ends_with(".safetensors")) {
            found.push(folder);
            continue;
        }
        if depth == DEPTH_MAX || left == 0 {
            continue;
        }
        let inner = names.iter().filter(|name| !name.starts_with('.')).map(|name| folder.join(name));
        let inner = inner.filter(|inner| inner.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()));
        folders.extend(inner.map(|inner| (inner, depth + 1)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_recognized_by_the_names_in_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, files: &[&str]| {
            for file in files {
                let path = root.path().join(name).join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, b"x").unwrap();
            }
            Folder::of(&root.path().join(name))
        };
        assert_eq!(folder("model", &["model.safetensors", "pytorch_model.bin"]), Folder::Model);
        assert_eq!(folder("lora", &["adapter_config.json", "adapter_model.safetensors"]), Folder::Adapter);
        assert_eq!(folder("bin", &["pytorch_model.bin"]), Folder::OtherFormat("pytorch_model.bin".to_owned()));
        assert_eq!(folder("plain", &["a/b/c/d/model.safetensors", "readme"]), Folder::Plain);
        assert_eq!(folder("absent", &[]), Folder::Plain);
        let at = |name: &str| root.path().join(name);
        let steps = folder("runs", &["step-2/model.safetensors", "step-1/a.safetensors", "step-1/in/b.safetensors"]);
        assert_eq!(steps, Folder::Parent(vec![at("runs/step-1"), at("runs/step-2")]));
        let snapshot = "models--org--name/snapshots/0123";
        let hub = folder("hub", &[&format!("{snapshot}/model.safetensors"), "models--org--name/refs/main"]);
        let found = vec![at("hub").join(snapshot)];
        assert_eq!(hub, Folder::HubCache(found.clone()));
        assert_eq!(Folder::of(&at("hub/models--org--name")), Folder::HubCache(found.clone()));
        assert_eq!(Folder::of(&at("hub/models--org--name/snapshots")), Folder::HubCache(found));
        assert_eq!(folder("models--a--b", &["refs/main"]), Folder::HubCache(vec![]));
    }
}
