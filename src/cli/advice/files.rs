//! What to do about files: those that are not there, are something else or are damaged, and outputs.

use crate::checkpoint::Malformed;
use crate::durable::Failed;
use crate::format::Invalid;
use crate::input::{Folder, Found, Meant, Unexpected};
use std::path::{Path, PathBuf};

/// What to do with an adapter.
pub const MERGE: &str =
    "merge it into its model first (`merge_and_unload`, then `save_pretrained`), and give the result";
const SAFE_SERIALIZATION: &str = "save the model as safetensors, with `save_pretrained(..., safe_serialization=True)`";
const TORCH: &str = "save the model as safetensors, with `save_pretrained(..., safe_serialization=True)`, or make a safetensors file of it: \
                     `lcepatch import FILE --from torch -o model.safetensors`, which runs nothing in it";
/// Why GGUF is neither read nor written.
pub const GGUF: &str = "GGUF has names, orders and mostly quantized numbers of its own for each architecture: edit the safetensors \
                        checkpoint, and convert the result";
const CHECKPOINT: &str = "give a .safetensors file, a *.safetensors.index.json or a model directory";
const ONNX: &str = "`lcepatch apply` and `lcepatch check` take ONNX files whose names end in .onnx, `lcepatch verify` takes one with \
                    --onnx; all others need the safetensors checkpoint that it was exported from";
/// Folders that a sentence names.
const NAMED: usize = 3;

pub fn patch(invalid: &Invalid) -> &'static str {
    match invalid {
        Invalid::Version { .. } | Invalid::UnknownSection { .. } => "a newer lcepatch may read it",
        // The magic before the format was final.
        Invalid::NotAPatch { found } if found.starts_with(b"\x89LCE") => {
            "a development version of lcepatch made it: make the patch again with this version"
        }
        Invalid::NotAPatch { .. } => "give an .lcepatch file",
        _ => "download the patch again, in binary mode, and compare its SHA-256 with the published one",
    }
}

pub fn checkpoint(reason: &Malformed) -> Option<&'static str> {
    Some(match reason {
        Malformed::SeveralWeights { .. } => CHECKPOINT,
        Malformed::Length { .. } => "download the file again, and compare its length with the published one",
        Malformed::MissingShards { .. } => {
            "the download is incomplete, or the index is of another version of the model: get both again"
        }
        Malformed::NotInShard { .. } => {
            "the index is of another version of the model: remove the entry from its weight_map, or save the model again"
        }
        Malformed::Header { .. } => "download or convert the checkpoint again; only safetensors files are read",
        _ => return None,
    })
}

pub fn output(failed: &Failed) -> Option<String> {
    let help = match failed {
        Failed::Exists { path } if path.is_dir() => "choose another name, or remove the directory",
        Failed::Exists { .. } => "choose another name, or replace it with --force",
        Failed::Directory { path } => {
            return Some(format!("name a file, such as {}", path.join("NAME").display()));
        }
        Failed::NotADirectory { path } if path.is_file() => "choose another name, or remove the file",
        Failed::NotADirectory { .. } => "choose another name for the directory",
        Failed::InUse { .. } => "wait for it, or choose another file",
        Failed::Busy { .. } => "choose another name, or wait for whoever uses it",
        Failed::Replaced { .. } => "let no other program write there, and try again",
        Failed::NoLocks { .. } => "write the result to a new place with -o",
        Failed::Elsewhere { .. } => "write an edited copy with -o; if a path was meant, there is nothing: look at it",
        Failed::HubCache { .. } => "write to a place of your own with -o; programs load the result from there",
        Failed::NotAFile { .. } => "choose another name; a pipe or a character device is written to without --force",
        Failed::ReadBack { .. } => "check the disk and memory of this machine, then try again",
        Failed::Unsynced { .. } => "check the disk, and that the result is there after a restart",
        Failed::Incomplete { path, .. } => return Some(format!("`lcepatch recover {}` finishes it", path.display())),
        Failed::Interrupted { path } => {
            return Some(format!(
                "`lcepatch recover {}` ends it: with what was there before, or with all of the result",
                path.display()
            ));
        }
        Failed::Damaged { path, .. } => {
            let path = path.display();
            return Some(format!(
                "get the weights beside it again, they may be half old and half new; then remove {path}"
            ));
        }
        Failed::OtherFile { journal, .. } => {
            return Some(format!(
                "if the folder was copied or restored, run `lcepatch recover --copied`; if the file is as it should be, remove {}",
                journal.display()
            ));
        }
        Failed::Gone { journal, .. } => {
            return Some(format!(
                "if it has another name or place now, put it back where it was; if it was removed on purpose, remove {}",
                journal.display()
            ));
        }
        Failed::Reserved { .. } => "choose another name",
        Failed::Io { .. } => return None,
    };
    Some(help.to_owned())
}

/// What to give instead of something else.
pub fn unexpected(Unexpected { found, meant }: &Unexpected) -> String {
    let weights = *meant == Meant::Checkpoint;
    let help = match found {
        Found::LfsPointer { .. } => {
            "`git lfs pull` in its repository downloads the file, or download it again from where it is published"
        }
        Found::Html => "download the file itself: the address was that of a page about it, or of an error",
        Found::Empty | Found::Zeros if *meant != Meant::Key => "download the file again: it did not arrive",
        Found::Onnx if [Meant::Checkpoint, Meant::Patch].contains(meant) => ONNX,
        Found::Gguf => GGUF,
        Found::Zip if weights => TORCH,
        Found::Pickle if weights => SAFE_SERIALIZATION,
        Found::Utf16 if ![Meant::Checkpoint, Meant::Patch, Meant::Part, Meant::Onnx].contains(meant) => {
            "save it in UTF-8"
        }
        Found::Zip | Found::Gzip => "unpack it, or download the file again as it is",
        Found::Part if *meant == Meant::Patch => "join the parts of all shards with `lcepatch combine`",
        Found::Plan => "a plan is for `lcepatch diff --plan`",
        Found::Patch if *meant == Meant::Part => "parts and patches are not combined with each other",
        Found::Directory(folder) if weights => return directory(folder),
        _ => give(*meant),
    };
    help.to_owned()
}

/// What to give that is what is meant.
pub fn give(meant: Meant) -> &'static str {
    match meant {
        Meant::Checkpoint => CHECKPOINT,
        Meant::Index => "give the index of the model's shards, or the model directory",
        Meant::Patch => "give an .lcepatch file",
        Meant::Part => "give the parts that `lcepatch diff --shard` wrote",
        Meant::Plan => "give the file that `lcepatch plan` wrote",
        Meant::Onnx => "give the .onnx file",
        Meant::Torch => "give a .bin, .pt or .pth file that torch.save wrote",
        Meant::Model => "download this file of the model again",
        Meant::Data => "give the file with the texts, pairs or lists",
        Meant::Results => "give the file that `lcepatch sweep` wrote, or what `lcepatch verify --json` printed",
        Meant::Log => "remove it: it only says what was done, the weights do not need it",
        Meant::Signature => "give the .sig file of the patch",
        Meant::Signers => "give a file with the public keys of those who may sign",
        Meant::Key => "give an SSH key that `ssh-keygen` made",
    }
}

/// What to give instead of a directory without weights.
fn directory(folder: &Folder) -> String {
    let help = match folder {
        Folder::Adapter => MERGE,
        Folder::OtherFormat(_) => SAFE_SERIALIZATION,
        Folder::HubCache(below) | Folder::Parent(below) if !below.is_empty() => return give_one_of(below),
        Folder::HubCache(_) => "no snapshot with .safetensors files is in it: download the model's weights",
        _ => CHECKPOINT,
    };
    help.to_owned()
}

fn give_one_of(paths: &[PathBuf]) -> String {
    let first: Vec<String> = paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    let more = match paths.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", or one of {more} more"),
    };
    format!("give {}{more}", first.join(" or "))
}

/// What to do about a path at which there is nothing, if it is known what was meant.
pub fn absent(path: &Path) -> Option<&'static str> {
    let text = path.to_str()?;
    let plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !part.starts_with('.')
    };
    let is_repository = || {
        let (owner, name) = text.split_once('/')?;
        (plain(owner) && plain(name) && Path::new(name).extension().is_none()).then_some(Path::new(owner).exists())
    };
    if text == "-" {
        Some(
            "only `show` and `check` read standard input: save it to a file, and give that (a file of this name is `./-`)",
        )
    } else if text.contains("://") {
        Some("nothing is downloaded here: download it first, and give the path of the file or the directory")
    } else {
        match is_repository()? {
            // What is in a folder that is there is a file that is not.
            true if cfg!(feature = "net") => {
                Some("look at the path; if this is the name of a repository on a hub, write hf:// before it")
            }
            true => None,
            false if cfg!(feature = "net") => Some("here only a file of this machine will do: download it first"),
            false => Some(
                "if this is the name of a model on a hub: this lcepatch is built without the network, so download it first",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_download_leaves_is_not_given_again() {
        let fronts: [&[u8]; 6] =
            [b"version https://git-lfs", b"<html>", b"PK\x03\x04", b"\x80\x02}", b"GGUF", b"\x1f\x8b"];
        for front in fronts {
            let help = unexpected(&Meant::Checkpoint.check(front).unwrap_err());
            assert!(help != CHECKPOINT && !help.is_empty(), "{help}");
        }
    }

    #[test]
    fn folders_of_models_are_named() {
        let below: Vec<PathBuf> = (1..=5).map(|n| format!("runs/step-{n}").into()).collect();
        let all = directory(&Folder::Parent(below));
        assert_eq!(all, "give runs/step-1 or runs/step-2 or runs/step-3, or one of 2 more");
        assert_eq!(directory(&Folder::HubCache(vec!["hub/snapshots/0123".into()])), "give hub/snapshots/0123");
        assert!(directory(&Folder::HubCache(vec![])).contains("no snapshot"));
    }

    #[test]
    fn names_and_addresses_of_models_are_no_paths() {
        let help = |path: &str| absent(Path::new(path)).unwrap_or_default();
        assert!(help("https://host/a/b").contains("download it first"));
        assert!(help("google-bert/bert-base-uncased").contains("download it first"));
        assert!(help("-").contains("standard input"));
        let in_folder = help("src/none");
        assert_eq!(in_folder.contains("hf://"), cfg!(feature = "net"), "{in_folder}");
        for path in ["bert", "a/b/c", "/a/b", "./a", "../a", "a/b.safetensors", "a/p.lcepatch", "a/"] {
            assert_eq!(help(path), "", "{path}");
        }
    }
}
