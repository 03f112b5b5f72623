//! Errors of opening checkpoints.

use crate::durable::Failed;
use crate::input::Unexpected;
use lcepatch_format::words::plural;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// What is wrong with a checkpoint's files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The file has no valid `safetensors` header.
    #[error("not a valid safetensors file: {reason}")]
    Header {
        /// The message of the parser.
        reason: String,
    },
    /// A tensor has an unknown dtype.
    #[error("tensor {tensor:?} has dtype {dtype}, which this version does not know")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its dtype.
        dtype: String,
    },
    /// A tensor's name or rank exceeds what a patch can carry.
    #[error("tensor {tensor:?} has an empty or overlong name, or more than 16 dimensions")]
    Limits {
        /// The tensor.
        tensor: String,
    },
    /// The same tensor is in two shards.
    #[error("tensor {tensor:?} is in two shards")]
    TwoShards {
        /// The tensor.
        tensor: String,
    },
    /// The index is invalid.
    #[error("not a valid index of shards: {reason}")]
    Index {
        /// What is wrong.
        reason: String,
    },
    /// The index names a file outside its folder.
    #[error("the index names the shard {shard:?}, which is not a plain file name")]
    ShardPath {
        /// The name.
        shard: String,
    },
    /// The index says that a tensor is in a shard that does not have it.
    #[error("the index says that {tensor:?} is in {shard:?}, but it is not")]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard.
        shard: String,
    },
    /// The index names shards that do not exist.
    #[error("the index names {of} shards, of which {} not here: {}", if missing.len() == 1 { "1 is".to_owned() } else { format!("{} are", missing.len()) }, missing.join(", "))]
    MissingShards {
        /// Their names.
        missing: Vec<String>,
        /// Number of shards that the index names.
        of: usize,
    },
    /// The length of the file does not match its header.
    #[error("the file has {found} {}, and its header asks for {expected}: {}", plural(*found, "byte"), missing_or_left_over(*found, *expected))]
    Length {
        /// Actual length in bytes.
        found: u64,
        /// Length of the header and all tensors in bytes.
        expected: u64,
    },
    /// It is something else.
    #[error(transparent)]
    Unexpected(#[from] Unexpected),
    /// A directory with several unrelated weight files.
    #[error("several .safetensors files and no index in this directory: {found}; name one of them")]
    SeveralWeights {
        /// Their names.
        found: String,
    },
}

/// Why a file or a directory of weights could not be opened. `M` says what can be wrong with its content.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<M = Malformed> {
    /// The operating system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The content is something else.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        reason: M,
    },
    /// Another program wrote to the file while it was open.
    #[error("{} {}", path.display(), changed(*before, *now))]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its length in bytes when it was opened.
        before: u64,
        /// Its length in bytes now.
        now: u64,
    },
    /// It is in use by another process, or an edit of it was interrupted.
    #[error(transparent)]
    Unfinished(#[from] Failed),
}

fn missing_or_left_over(found: u64, expected: u64) -> String {
    match (found.abs_diff(expected), found < expected) {
        (1, true) => "1 is missing at its end".to_owned(),
        (n, true) => format!("{n} are missing at its end"),
        (1, false) => "1 follows the last tensor".to_owned(),
        (n, false) => format!("{n} follow the last tensor"),
    }
}

/// Says how a file changed that had `before` bytes when it was opened and has `now` bytes now.
pub fn changed(before: u64, now: u64) -> String {
    let bytes = plural(now, "byte");
    match now.cmp(&before) {
        Ordering::Less => format!("became shorter while it was read: {now} {bytes} now, {before} when it was opened"),
        Ordering::Equal => "changed while it was read".to_owned(),
        Ordering::Greater => format!("became longer while it was read: {now} {bytes} now, {before} when it was opened"),
    }
}

impl<M> OpenError<M> {
    /// The operating system refused `operation` on `path`.
    pub fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// The content of `path` is not what it should be.
    pub fn malformed(path: &Path, reason: M) -> Self {
        Self::Malformed { path: path.to_owned(), reason }
    }
}
