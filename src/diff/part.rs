//! The file that a shard of a diff leaves for the others: what it ranked, or what it found.
//!
//! It goes from process to process and is no format to keep: only the version that wrote it reads it. A magic number, the
//! SHA-256 of the rest, then the version, the run, the shard and the content in postcard's encoding.

use super::outline::Outline;
use super::shard::Shard;
use super::write::Found;
use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::error::{Error, Reason};
use crate::input::{self, Meant, PART_MAGIC as MAGIC};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));
const HEAD_BYTES: usize = MAGIC.len() + 32;

/// What a shard ranked or found.
#[derive(Debug)]
pub struct Part {
    /// Names what decides the bytes of the patch, besides what is in the tensors.
    pub(super) run: Digest,
    pub(super) shard: Shard,
    pub(super) content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Content {
    /// Of each group of elements that are ranked together.
    Ranks(Vec<Ranks>),
    Blocks(Blocks),
}

impl Content {
    pub fn label(&self) -> &'static str {
        match self {
            Content::Ranks(_) => "ranks",
            Content::Blocks(_) => "blocks",
        }
    }
}

/// The largest keys in a shard, descending, with how many elements have them. Each key stands there by how much smaller it is than
/// the one before it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ranks(Vec<(u64, u64)>);

impl Ranks {
    pub fn new(mut keys: Vec<(u64, u64)>) -> Self {
        let mut before = u64::MAX;
        keys.iter_mut().for_each(|(key, _)| *key = std::mem::replace(&mut before, *key) - *key);
        Self(keys)
    }

    pub fn keys(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().scan(u64::MAX, |key, (less, count)| {
            *key = key.saturating_sub(*less);
            Some((*key, *count))
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Blocks {
    pub found: Found,
    /// Only from the first shard.
    pub pair: Option<Box<PairContent>>,
}

/// What the patch needs once, whatever the shards.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PairContent {
    pub outline: Outline,
    /// Digests of tensors that are not paired.
    pub unpaired: Vec<Digest>,
}

/// Why a part cannot be used, or parts not together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartFault {
    /// It is something else.
    #[error("{}: not a part that `lcepatch diff --shard` writes", path.display())]
    NotAPart {
        /// The file.
        path: PathBuf,
    },
    /// Its digest is not that of its content.
    #[error("{}: damaged: its content has another SHA-256 than it was written with", path.display())]
    Damaged {
        /// The part.
        path: PathBuf,
    },
    /// Another version wrote it.
    #[error("{}: written by {found:?}; parts are read by the version that wrote them, and this is {TOOL}", path.display())]
    Version {
        /// The part.
        path: PathBuf,
        /// What wrote it.
        found: String,
    },
    /// Its content makes no sense.
    #[error("{}: not a valid part: {reason}", path.display())]
    Malformed {
        /// The part.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is of other checkpoints, or was made with other options.
    #[error("{}: a part of another run: other checkpoints, other options or another number of shards", path.display())]
    OtherRun {
        /// The part.
        path: PathBuf,
    },
    /// It holds something else than is needed.
    #[error("{}: it holds {found}, and {expected} are needed", path.display())]
    Kind {
        /// The part.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What is needed.
        expected: &'static str,
    },
    /// Parts are missing.
    #[error("{} of {of} is missing", shards_label(shards))]
    Missing {
        /// Their shards, from 1 on.
        shards: Vec<u32>,
        /// How many shards there are.
        of: u32,
    },
    /// Two parts are of the same shard.
    #[error("{} and {} are both of shard {shard}", first.display(), second.display())]
    Twice {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The shard, from 1 on.
        shard: u32,
    },
    /// The elements are not those that were ranked.
    #[error(
        "the ranks are not those of these checkpoints: {expected} weights of {shard} were ranked, {found} are there"
    )]
    Changed {
        /// The shard.
        shard: Shard,
        /// Selected elements, by the ranks.
        expected: u64,
        /// Selected elements there are.
        found: u64,
    },
    /// An option for which shards would have to know more of each other.
    #[error("{option} does not go with shards: {reason}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// Why.
        reason: &'static str,
    },
}

fn shards_label(shards: &[u32]) -> String {
    let numbers: Vec<String> = shards.iter().take(10).map(u32::to_string).collect();
    let more = if shards.len() > 10 { ", ..." } else { "" };
    format!("shard {}{more}", numbers.join(", "))
}

impl PartFault {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            PartFault::NotAPart { .. }
            | PartFault::Damaged { .. }
            | PartFault::Version { .. }
            | PartFault::Malformed { .. } => "part.malformed",
            PartFault::Unsupported { .. } => "shard.unsupported",
            _ => "part.unsuited",
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            PartFault::NotAPart { .. } => "parts and patches are not combined with each other",
            PartFault::Damaged { .. } | PartFault::Malformed { .. } | PartFault::Version { .. } => {
                "run its shard again, with this version"
            }
            PartFault::OtherRun { .. } => {
                "run all shards with the same checkpoints and options, but for --shard, --ranks and -o"
            }
            PartFault::Kind { expected: "ranks", .. } => "give the parts that were written without --ranks",
            PartFault::Kind { .. } => "ranks are for `lcepatch diff --ranks`, which writes the blocks to combine",
            PartFault::Missing { .. } => "give the parts of all shards; run those that failed again",
            PartFault::Twice { .. } => "give each shard once",
            PartFault::Changed { .. } => "run all shards again, without --ranks first",
            PartFault::Unsupported { .. } => "leave it out, or make the patch in one process, without --shard",
        };
        Some(help.to_owned())
    }
}

impl From<PartFault> for Error {
    fn from(fault: PartFault) -> Self {
        Reason::Part(fault).into()
    }
}

impl Part {
    /// The shard that it is of.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// `ranks` or `blocks`.
    pub fn kind(&self) -> &'static str {
        self.content.label()
    }

    /// Reads the part at `path`. Allocates a small multiple of its size.
    ///
    /// # Errors
    /// I/O; [`PartFault::NotAPart`], [`PartFault::Damaged`], [`PartFault::Version`], [`PartFault::Malformed`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io("read", path, e);
        let file = input::open(path, Meant::Part).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let mut all = Vec::new();
        file.take(bytes).read_to_end(&mut all).map_err(io)?;
        Ok(Self::from_bytes(path, &all)?)
    }

    /// Reads a part that is in memory; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Part::open`], but for I/O.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, PartFault> {
        let path = || path.to_owned();
        let malformed = |e: postcard::Error| PartFault::Malformed { path: path(), reason: e.to_string() };
        let body = match bytes.split_at_checked(HEAD_BYTES) {
            Some((head, body)) if head.starts_with(&MAGIC) => {
                if head[MAGIC.len()..] != Digest::sha256(body).0 {
                    return Err(PartFault::Damaged { path: path() });
                }
                body
            }
            _ => return Err(PartFault::NotAPart { path: path() }),
        };
        let (tool, rest) = postcard::take_from_bytes::<String>(body).map_err(malformed)?;
        if tool != TOOL {
            return Err(PartFault::Version { path: path(), found: tool });
        }
        let ((run, shard, content), rest) = postcard::take_from_bytes(rest).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(PartFault::Malformed { path: path(), reason: "something follows its content".to_owned() });
        }
        Ok(Self { run, shard, content })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// None for a part whose free metadata JSON can hold; others are [`PartFault::Malformed`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, PartFault> {
        let body = (TOOL, &self.run, &self.shard, &self.content);
        let mut out = [&MAGIC[..], &[0; 32]].concat();
        out = postcard::to_extend(&body, out)
            .map_err(|e| PartFault::Malformed { path: "the new part".into(), reason: e.to_string() })?;
        let digest = Digest::sha256(&out[HEAD_BYTES..]);
        out[MAGIC.len()..HEAD_BYTES].copy_from_slice(&digest.0);
        Ok(out)
    }

    /// Writes it to a new file at `path`, all of it or nothing; returns its size.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: &Path, existing: Existing) -> Result<u64, Error> {
        let bytes = self.to_bytes()?;
        durable::write_file(path, &bytes, existing)?;
        Ok(bytes.len() as u64)
    }
}
