//! Files that pass data from process to process and are not meant to be kept: only the version that wrote them reads them.
//!
//! They hold a magic number, the SHA-256 of the rest, then the version and the content in postcard's encoding.

use crate::digest::Digest;
use crate::error::{Error, PartFault, PlanFault};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What writes and reads them.
const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));

/// Bytes of a magic number.
const MAGIC_BYTES: usize = 8;
const HEAD_BYTES: usize = MAGIC_BYTES + 32;

/// Why the bytes are not such a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They have another magic number.
    Other,
    /// Their digest is not that of their content.
    Damaged,
    /// Another version wrote them.
    Version(String),
    /// Their content makes no sense.
    Content(String),
}

impl Broken {
    /// Of a file that was meant to be a part, or a receipt.
    pub fn part(self, path: &Path) -> PartFault {
        let path = path.to_owned();
        match self {
            Self::Other => PartFault::NotAPart { path },
            Self::Damaged => PartFault::Damaged { path },
            Self::Version(found) => PartFault::Version { path, found, expected: TOOL },
            Self::Content(reason) => PartFault::Malformed { path, reason },
        }
    }

    /// Of a file that was meant to be a plan.
    pub fn plan(self, path: &Path) -> PlanFault {
        let path = path.to_owned();
        match self {
            Self::Other => PlanFault::NotAPlan { path },
            Self::Damaged => PlanFault::Damaged { path },
            Self::Version(found) => PlanFault::Version { path, found, expected: TOOL },
            Self::Content(reason) => PlanFault::Malformed { path, reason },
        }
    }
}

/// All bytes of the file at `path`, which was opened. What is added to it meanwhile is not read.
///
/// # Errors
/// I/O.
pub(crate) fn read(path: &Path, opened: std::io::Result<File>) -> Result<Vec<u8>, Error> {
    let read = |file: File| {
        let mut all = Vec::new();
        let bytes = file.metadata()?.len();
        file.take(bytes).read_to_end(&mut all).map(|_| all)
    };
    opened.and_then(read).map_err(|error| Error::io("read", path, error))
}

/// The bytes of a file.
///
/// # Errors
/// What postcard cannot hold.
pub(crate) fn seal(magic: [u8; MAGIC_BYTES], content: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut out = [&magic[..], &[0; 32]].concat();
    out = postcard::to_extend(&(TOOL, content), out).map_err(|e| e.to_string())?;
    let digest = Digest::sha256(&out[HEAD_BYTES..]);
    out[MAGIC_BYTES..HEAD_BYTES].copy_from_slice(&digest.0);
    Ok(out)
}

/// The content of a file. Allocates a small multiple of its bytes.
///
/// # Errors
/// [`Broken`].
pub(crate) fn open<T: DeserializeOwned>(magic: [u8; MAGIC_BYTES], bytes: &[u8]) -> Result<T, Broken> {
    let (head, body) =
        bytes.split_at_checked(HEAD_BYTES).filter(|(head, _)| head.starts_with(&magic)).ok_or(Broken::Other)?;
    if head[MAGIC_BYTES..] != Digest::sha256(body).0 {
        return Err(Broken::Damaged);
    }
    let content = |e: postcard::Error| Broken::Content(e.to_string());
    let (tool, rest) = postcard::take_from_bytes::<String>(body).map_err(content)?;
    if tool != TOOL {
        return Err(Broken::Version(tool));
    }
    let (value, rest) = postcard::take_from_bytes(rest).map_err(content)?;
    if rest.is_empty() { Ok(value) } else { Err(Broken::Content("something follows its content".to_owned())) }
}
