//! Files that pass data from process to process and are not meant to be kept: only the version that wrote them reads them.
//!
//! They hold a magic number, the SHA-256 of the rest, then the version and the content in postcard's encoding.

use crate::digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;

/// What writes and reads them.
pub(crate) const TOOL: &str = concat!("lcepatch ", env!("CARGO_PKG_VERSION"));

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

/// All bytes of a file that was opened. What is added to it meanwhile is not read.
///
/// # Errors
/// I/O.
pub(crate) fn read(file: File) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let bytes = file.metadata()?.len();
    file.take(bytes).read_to_end(&mut all).map(|_| all)
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
