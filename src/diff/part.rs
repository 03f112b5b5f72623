//! The file that a shard of a diff writes for the other shards: what it ranked, or what it found.
//!
//! It passes data from process to process and is not meant to be kept: only the version that wrote it reads it. It holds a magic number,
//! the SHA-256 of the rest, then the version, the run, the shard and the content in postcard's encoding.

use super::outline::Outline;
use super::shard::Shard;
use super::write::Found;
use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::error::{Error, PartContent, PartFault};
use crate::input::{self, Meant, PART_MAGIC as MAGIC};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));
const HEAD_BYTES: usize = MAGIC.len() + 32;

/// What a shard ranked or found.
#[derive(Debug)]
pub struct Part {
    /// The digest of everything but the tensors' values that decides the bytes of the patch. Parts of one run have the same.
    pub(super) run: Digest,
    pub(super) shard: Shard,
    pub(super) content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Content {
    /// The largest keys of each group of elements that are ranked together.
    Ranks(Vec<Ranks>),
    /// The encoded selection.
    Blocks(Blocks),
}

impl Content {
    pub fn kind(&self) -> PartContent {
        match self {
            Content::Ranks(_) => PartContent::Ranks,
            Content::Blocks(_) => PartContent::Blocks,
        }
    }
}

/// The largest keys of a shard, descending, each with the number of elements that have it. A key is stored as its difference to the one
/// before it, which takes fewer bytes.
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
    /// Only in the part of the first shard, since it is the same for all.
    pub pair: Option<Box<PairContent>>,
}

/// What a patch needs once, however many shards there are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PairContent {
    pub outline: Outline,
    /// The digests that [`Outline::hash_unpaired`] returns.
    pub unpaired: Vec<Digest>,
}

impl Part {
    /// The shard that made the part.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Whether it holds ranks or blocks.
    pub fn content(&self) -> PartContent {
        self.content.kind()
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
            return Err(PartFault::Version { path: path(), found: tool, expected: TOOL });
        }
        let ((run, shard, content), rest) = postcard::take_from_bytes(rest).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(PartFault::Malformed { path: path(), reason: "something follows its content".to_owned() });
        }
        Ok(Self { run, shard, content })
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// [`PartFault::Malformed`] for free metadata that JSON cannot hold.
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
