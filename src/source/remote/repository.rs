//! Which files of a repository are meant.

use super::PATCH_SUFFIX;
use crate::checkpoint::INDEX_SUFFIX;
use lcepatch_hub::name::RepoName;
use lcepatch_hub::{Fault, Snapshot, checkpoint_files};

/// The folder of a checkpoint at a path in a repository, with a slash at its end unless it is the repository itself.
pub(super) fn folder_in(snapshot: &Snapshot, path: &str) -> String {
    match path {
        "" => String::new(),
        path if snapshot.files.iter().any(|file| file.path == path) => {
            path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))
        }
        path => format!("{path}/"),
    }
}

/// The files of a repository that make the checkpoint at a path in it, or in the repository itself.
pub(super) fn wanted_of_checkpoint<'a>(snapshot: &'a Snapshot, path: Option<&str>) -> Result<Vec<&'a str>, Fault> {
    let of_folder = |folder: &str| -> Result<Vec<&'a str>, Fault> {
        let files = checkpoint_files(&snapshot.files, folder).into_iter().map(|file| file.path.as_str());
        let files: Vec<&str> = files.collect();
        if files.iter().any(|file| file.ends_with(".safetensors")) {
            return Ok(files);
        }
        Err(Fault::NoSuchFile { place: snapshot.name(), path: format!("{folder}*.safetensors"), nearest: Vec::new() })
    };
    let Some(path) = path else { return of_folder("") };
    let folder = format!("{path}/");
    if snapshot.files.iter().any(|file| file.path.starts_with(&folder)) {
        return of_folder(&folder);
    }
    let file = snapshot.file(path)?.path.as_str();
    match file.ends_with(INDEX_SUFFIX) {
        // Shards are beside their index, and so is what makes them a model.
        true => of_folder(file.rsplit_once('/').map_or("", |(folder, _)| &file[..=folder.len()])),
        false => Ok(vec![file]),
    }
}

/// The patch at a path in a repository, or the only one there.
pub(super) fn patch_in(snapshot: &Snapshot, name: &RepoName) -> Result<String, Fault> {
    let path = name.path.as_deref().unwrap_or_default();
    if snapshot.files.iter().any(|file| file.path == path) {
        return Ok(path.to_owned());
    }
    let folder = if path.is_empty() { String::new() } else { format!("{path}/") };
    let is_patch = |file: &&str| file.starts_with(&folder) && file.ends_with(PATCH_SUFFIX);
    let patches: Vec<&str> = snapshot.files.iter().map(|file| file.path.as_str()).filter(is_patch).collect();
    match patches[..] {
        [] if path.is_empty() => {
            Err(Fault::NoSuchFile { place: snapshot.name(), path: "*.lcepatch".to_owned(), nearest: Vec::new() })
        }
        [] => snapshot.file(path).map(|file| file.path.clone()),
        [only] => Ok(only.to_owned()),
        [..] => {
            let shown = patches.iter().take(10).copied().collect::<Vec<_>>().join(", ");
            let reason = format!("has {} patches, and one is meant: {shown}", patches.len());
            Err(Fault::Name { name: name.to_string(), reason })
        }
    }
}
