//! Files at web addresses, which no cache keeps.

use super::{Found, Origin, Sources};
use crate::context::Context;
use crate::error::Error;
use crate::format::patch::ReadAt;
use lcepatch_hub::RemoteFile;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// How many bytes of a file are asked for at once where all of it is read.
const PART_BYTES: u64 = 8 << 20;

impl Sources {
    /// Fetches the file at a web address into a folder that is removed at the end.
    pub(super) fn fetch(&self, name: &Path, address: &str, context: &Context<'_>) -> Result<Found, Error> {
        let client = self.client()?;
        let remote = client.web(address, context)?;
        let path = self.new_file(remote.address())?;
        let io = |error| Error::io("write", &path, error);
        let mut file = File::create_new(&path).map_err(io)?;
        copy(&remote, &mut file, &path, context)?;
        let origin = Origin::of_address(remote.address());
        self.remember(origin.clone());
        Ok(Found { path, name: name.to_owned(), origin: Some(origin) })
    }

    /// Where a file from an address goes: under its own name, in a folder of its own.
    fn new_file(&self, address: &str) -> Result<PathBuf, Error> {
        let mut state = self.state();
        let io = |error| Error::io("create a folder in", &std::env::temp_dir(), error);
        if state.fetched.is_none() {
            state.fetched = Some(tempfile::Builder::new().prefix("lcepatch-").tempdir().map_err(io)?);
        }
        let root = state.fetched.as_ref().map(TempDir::path).unwrap_or(Path::new("")).to_owned();
        let folder = (0..).map(|number: u32| root.join(number.to_string())).find(|folder| !folder.exists());
        let folder = folder.unwrap_or(root);
        std::fs::create_dir(&folder).map_err(io)?;
        Ok(folder.join(file_name(address)))
    }
}

/// How a file from an address is named.
pub(super) fn file_name(address: &str) -> &str {
    let name = address.rsplit('/').next().unwrap_or_default();
    let is_plain =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && name != "..";
    if is_plain && name != "." { name } else { "file" }
}

/// All of a file, part by part.
fn copy(remote: &RemoteFile, file: &mut File, path: &Path, context: &Context<'_>) -> Result<(), Error> {
    let bytes = ReadAt::bytes(remote);
    context.begin("download", bytes);
    for start in (0..bytes).step_by(PART_BYTES as usize) {
        let part = remote.read(start, PART_BYTES.min(bytes - start), context)?;
        file.write_all(&part).map_err(|error| Error::io("write", path, error))?;
        context.advance(part.len() as u64)?;
    }
    Ok(())
}
