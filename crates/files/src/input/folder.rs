//! What a directory is in which no weights are found.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// What a directory is, by the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Folder {
    /// It has weights.
    Model,
    /// It has an adapter, such as LoRA's: a change of another model's weights.
    Adapter,
    /// It has weights in another format; one of the files.
    OtherFormat(String),
    /// A hub's cache, or a model's folder in one, and the snapshots below it.
    HubCache(Vec<PathBuf>),
    /// There are weights in folders below it: which.
    Parent(Vec<PathBuf>),
    /// None of these.
    Plain,
}

/// The file that says of which model an adapter is, and which kind.
const ADAPTER: &str = "adapter_config.json";
/// How the names of weights in other formats end.
const OTHER_FORMATS: [&str; 9] =
    [".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".bin.index.json"];
/// What a hub's cache begins the names of models' folders with.
const HUB_MODEL: &str = "models--";
/// Entries that are looked at below a directory, and how deep: enough for a hub's cache.
const LOOKED_AT: usize = 10_000;
const DEPTH_MAX: usize = 3;

impl Folder {
    /// Looks at names only. What cannot be listed is passed over.
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
        // The snapshots of a model are in a folder in that of the model.
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

/// The names in a directory, in their order.
fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(LOOKED_AT);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The folders below a directory that have weights, those nearest to it first; no others below these. Links are not followed.
fn below(path: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), LOOKED_AT);
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
    fn a_directory_is_known_by_the_names_in_it() {
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
