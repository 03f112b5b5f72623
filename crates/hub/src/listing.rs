//! The files of a repository at a commit, as a hub and the cache list them.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::Fault;
use crate::name::is_inner_path;
use crate::tag;
use lcepatch_files::context::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::path::Path;

/// A file of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoFile {
    /// Its path in the repository, with `/` between folders. It leads out of no folder.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its digest; none of a file of which only the cache is known, where that does not say it.
    pub digest: Option<Digest>,
    /// What its content is called in the hub's Xet storage, which other programs want to know.
    pub(crate) xet: Option<String>,
    /// What its blob is called in git: of an LFS file, the blob of its pointer.
    pub(crate) blob: Option<String>,
}

/// The digest of a file's content, in hexadecimal digits. In the cache, files are named by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the content: a file in Git LFS.
    Sha256(String),
    /// SHA-1 of the content and its length, as git names it: every other file.
    Git(String),
}

impl Digest {
    /// The digest that has this text: 64 hexadecimal digits, or 40.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match text.len() {
            64 if is_hex => Some(Self::Sha256(text.to_owned())),
            40 if is_hex => Some(Self::Git(text.to_owned())),
            _ => None,
        }
    }

    /// The digest of a server's tag, which is in quotation marks.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        Self::parse(tag::bare(tag))
    }

    /// Its hexadecimal digits.
    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::Git(hex) => hex,
        }
    }
}

impl Display for Digest {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        out.write_str(self.hex())
    }
}

/// The digests of a content of `bytes` bytes that is read from its beginning to its end: SHA-256, and git's. `name` is for messages.
pub(crate) fn digests_of(
    reader: &mut dyn std::io::Read,
    bytes: u64,
    name: &Path,
    context: &Context,
) -> Result<[Digest; 2], Fault> {
    let mut hashers = [Hasher::sha256(), Hasher::like(&Digest::Git(String::new()), bytes)];
    let mut buffer = vec![0; 256 << 10];
    loop {
        context.advance(0)?;
        let read = reader.read(&mut buffer).map_err(|error| Fault::io("read", name, error))?;
        if read == 0 {
            return Ok(hashers.map(Hasher::finish));
        }
        hashers.iter_mut().for_each(|hasher| hasher.update(buffer.get(..read).unwrap_or_default()));
    }
}

/// Computes digests.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Hasher {
    /// For SHA-256.
    pub(crate) fn sha256() -> Self {
        use sha2::Digest as _;
        Self::Sha256(sha2::Sha256::new())
    }

    /// For a digest of the same kind as `digest`, of a content of `bytes` bytes.
    pub(crate) fn like(digest: &Digest, bytes: u64) -> Self {
        match digest {
            Digest::Sha256(_) => Self::sha256(),
            Digest::Git(_) => {
                use sha2::Digest as _;
                let mut git = sha1::Sha1::default();
                git.update(format!("blob {bytes}\0").as_bytes());
                Self::Git(git)
            }
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        use sha2::Digest as _;
        match self {
            Hasher::Sha256(hasher) => Digest::Sha256(hex(&hasher.finalize())),
            Hasher::Git(hasher) => Digest::Git(hex(&hasher.finalize())),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An entry of a listing of the hub.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<Lfs>,
    #[serde(rename = "xetHash")]
    xet: Option<String>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: Option<u64>,
}

/// The files of one page of a listing, without its folders.
///
/// # Errors
/// What is not understood.
pub(crate) fn parse_page(bytes: &[u8]) -> Result<Vec<RepoFile>, String> {
    let entries: Vec<Entry> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    entries.into_iter().filter(|entry| entry.kind == "file").map(Entry::file).collect()
}

impl Entry {
    fn file(self) -> Result<RepoFile, String> {
        let (digest, bytes) = match &self.lfs {
            Some(lfs) => (lfs.oid.trim_start_matches("sha256:"), lfs.size.unwrap_or(self.size)),
            None => (self.oid.as_deref().unwrap_or_default(), self.size),
        };
        let digest = Digest::parse(digest).filter(|digest| self.lfs.is_none() || matches!(digest, Digest::Sha256(_)));
        RepoFile { path: self.path, bytes, digest, xet: self.xet, blob: self.oid }.checked()
    }
}

impl RepoFile {
    /// A file of which nothing else is known.
    pub(crate) fn of_path(path: String, bytes: u64) -> Self {
        Self { path, bytes, digest: None, xet: None, blob: None }
    }

    fn checked(self) -> Result<Self, String> {
        match (is_inner_path(&self.path), &self.digest) {
            (false, _) => Err(format!("{:?} is no path of a file in a repository", self.path)),
            (true, None) => Err(format!("it has no digest of {:?}", self.path)),
            (true, Some(_)) => Ok(self),
        }
    }
}

/// A listing as the cache keeps it, `trees/COMMIT.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Tree {
    format_version: u64,
    files: BTreeMap<String, TreeFile>,
}

#[derive(Serialize, Deserialize)]
struct TreeFile {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

/// The version of the format that is read and written.
const TREE_VERSION: u64 = 1;

impl Tree {
    /// The listing to keep.
    pub(crate) fn of(files: &[RepoFile]) -> Self {
        let files = files.iter().map(|file| {
            let lfs_sha256 = match &file.digest {
                Some(Digest::Sha256(hex)) => Some(hex.clone()),
                _ => None,
            };
            let (size, lfs_size) = (file.bytes, lfs_sha256.as_ref().map(|_| file.bytes));
            let blob_id = file.blob.clone().unwrap_or_default();
            (file.path.clone(), TreeFile { size, blob_id, lfs_sha256, lfs_size, xet_hash: file.xet.clone() })
        });
        Self { format_version: TREE_VERSION, files: files.collect() }
    }

    /// The files of a listing that was kept; none if it is of another version or not valid, as it is only a copy.
    pub(crate) fn files(self) -> Option<Vec<RepoFile>> {
        let of_version = self.format_version == TREE_VERSION;
        let files = self.files.into_iter().map(|(path, file)| {
            let digest = Digest::parse(file.lfs_sha256.as_deref().unwrap_or(&file.blob_id));
            let bytes = file.lfs_size.unwrap_or(file.size);
            RepoFile { path, bytes, digest, xet: file.xet_hash, blob: Some(file.blob_id) }.checked().ok()
        });
        files.collect::<Option<Vec<_>>>().filter(|_| of_version)
    }
}

/// The files that make a checkpoint that can be loaded: weights in safetensors and their index, configurations, tokenizer and vocabularies.
/// Weights in formats that run code when they are loaded, or of other programs, are not among them (`.bin`, `.pt`, `.gguf`, `.onnx`).
/// Those in `folder`, which is empty or ends with a slash.
pub fn checkpoint_files<'a>(files: &'a [RepoFile], folder: &str) -> Vec<&'a RepoFile> {
    files.iter().filter(|file| file.path.strip_prefix(folder).is_some_and(is_of_checkpoint)).collect()
}

fn is_of_checkpoint(path: &str) -> bool {
    // Folders hold other formats, such as onnx/ or original/; but modules of sentence encoders are in folders named 1_Pooling.
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_module =
        folder.split_once('_').is_some_and(|(number, _)| number.parse::<u8>().is_ok()) && !folder.contains('/');
    if !(folder.is_empty() || is_module) || name.starts_with('.') {
        return false;
    }
    let vocabularies = ["merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "added_tokens.txt"];
    name.ends_with(".safetensors")
        || name.ends_with(".json")
        || name.ends_with(".jinja")
        || name.ends_with(".model")
        || name.ends_with(".tiktoken")
        || vocabularies.contains(&name)
        || (name.ends_with(".txt") && ["vocab", "merges", "token"].iter().any(|word| name.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_lists_files_with_their_digests() {
        let (sha1, sha256) = ("a".repeat(40), "b".repeat(64));
        let page = format!(
            r#"[{{"type":"directory","path":"d","size":0,"oid":"x"}},
                {{"type":"file","path":"d/c.json","size":3,"oid":"{sha1}","new":1}},
                {{"type":"file","path":"m","size":9,"oid":"{sha1}","lfs":{{"oid":"{sha256}","size":9,"pointerSize":1}}}}]"#
        );
        let files = parse_page(page.as_bytes()).unwrap();
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["d/c.json", "m"]);
        assert_eq!(files[0].digest, Some(Digest::Git(sha1)));
        assert_eq!(files[1].digest, Some(Digest::Sha256(sha256)));
        let kept = serde_json::to_vec(&Tree::of(&files)).unwrap();
        assert_eq!(serde_json::from_slice::<Tree>(&kept).unwrap().files().unwrap(), files);
    }

    #[test]
    fn paths_that_lead_out_and_digests_that_are_none_are_refused() {
        let sha1 = "a".repeat(40);
        for path in ["../x", "/x", "a/../../x", "a\\\\b", "C:/x", "", "a//b"] {
            let page = format!(r#"[{{"type":"file","path":"{path}","size":3,"oid":"{sha1}"}}]"#);
            assert!(parse_page(page.as_bytes()).is_err(), "{path}");
        }
        for oid in ["", "../../x", "zz", &"A".repeat(40)] {
            assert!(
                parse_page(format!(r#"[{{"type":"file","path":"x","size":3,"oid":"{oid}"}}]"#).as_bytes()).is_err()
            );
        }
        assert!(parse_page(b"<html>").is_err());
    }

    #[test]
    fn digests_are_those_of_git_and_sha256() {
        let digest = |like: Digest| {
            let mut hasher = Hasher::like(&like, 6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            hasher.finish().hex().to_owned()
        };
        // echo hello | git hash-object --stdin; echo hello | sha256sum
        assert_eq!(digest(Digest::Git(String::new())), "ce013625030ba8dba906f756967f9e9ca394464a");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(digest(Digest::Sha256(String::new())), sha256);
        assert_eq!(Digest::of_tag(&format!("W/\"{sha256}\"")).unwrap().hex(), sha256);
    }

    #[test]
    fn a_checkpoint_is_its_weights_configuration_and_tokenizer() {
        for path in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "vocab.txt",
            "merges.txt",
            "chat_template.jinja",
            "1_Pooling/config.json",
            "spiece.model",
        ] {
            assert!(is_of_checkpoint(path), "{path}");
        }
        for path in [
            "pytorch_model.bin",
            "model.pt",
            "m.gguf",
            "onnx/model.onnx",
            "original/params.json",
            "README.md",
            ".gitattributes",
            "requirements.txt",
            "LICENSE.txt",
            "training_args.bin",
            ".eval.json",
            "p.lcepatch",
        ] {
            assert!(!is_of_checkpoint(path), "{path}");
        }
    }
}
