//! Checkpoints whose files are known, down to what each of them is: what several machines must agree on before each reads its share.

use super::Sources;
use crate::checkpoint::{Checkpoint, Layout, OpenError, WeightFile};
use crate::error::{Error, PlanFault};
use crate::format::patch::ReadAt;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A checkpoint whose files are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pinned {
    /// How messages name it.
    pub name: PathBuf,
    /// Where it came from, with its commit, if it is not of this machine.
    pub origin: Option<String>,
    /// Whether it is one file that was named, and not a folder.
    pub is_file: bool,
    /// Where its files are.
    pub place: Place,
    /// Its weight files, in the order of their names.
    pub files: Vec<PinnedFile>,
}

/// Where the files of a checkpoint are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In a folder.
    Here(PathBuf),
    /// In a repository, at a commit. The folder in it ends with a slash, or is empty.
    Hub { id: String, commit: String, folder: String },
    /// In S3. The folder is what their keys begin with.
    Bucket { bucket: String, folder: String },
    /// At an address, which is that of the only file.
    Web { address: String },
}

/// A weight file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedFile {
    /// Without folders.
    pub name: String,
    pub bytes: u64,
    /// What changes with its content: its digest as a hub lists it, the tag of a server, or the time of its last change. None of a server
    /// that has no tags: then its length counts.
    pub tag: Option<String>,
    /// The length field and the JSON.
    #[serde(skip)]
    pub header: Vec<u8>,
}

impl Pinned {
    /// A checkpoint of this machine, which was opened as `name`.
    pub fn here(name: &Path, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let io = |error| Error::io("find", name, error);
        let folder = checkpoint.files().first().and_then(|file| file.path().parent()).unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let file = |file: &WeightFile| PinnedFile {
            name: file.name(),
            bytes: file.bytes(),
            tag: modified(file),
            header: file.header().to_vec(),
        };
        Ok(Self {
            name: name.to_owned(),
            origin: None,
            is_file: *checkpoint.layout() == Layout::File,
            place: Place::Here(std::path::absolute(folder).map_err(io)?),
            files: checkpoint.files().iter().map(file).collect(),
        })
    }

    /// Opens it. Of files elsewhere nothing is read before a tensor is looked at or [`WeightFile::reach`] is called; a file of this machine
    /// that is not there fails then, too.
    ///
    /// # Errors
    /// [`PlanFault::OtherSource`] for a file of this machine that is another one; headers that are not those of such files.
    pub fn open(&self, sources: &Sources) -> Result<Checkpoint, Error> {
        let folder = match &self.place {
            Place::Here(folder) => folder,
            _ if self.is_file => self.name.parent().unwrap_or(Path::new("")),
            _ => &self.name,
        };
        let open = |file: &PinnedFile| -> Result<WeightFile, Error> {
            let path = folder.join(&file.name);
            let here = match &self.place {
                Place::Here(_) => Some(path.clone()),
                place => sources.cached(place, file)?,
            };
            let source: Arc<dyn ReadAt> = match (here, &self.place) {
                (Some(here), _) => match Checkpoint::open_file(&here) {
                    Ok(open) => return file.checked(open, &self.place),
                    Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        Arc::new(Absent { bytes: file.bytes })
                    }
                    Err(error) => return Err(error.into()),
                },
                (None, place) => sources.part(place, file, true)?,
            };
            Ok(WeightFile::from_header(&path, source, &file.header)?)
        };
        let files = self.files.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let layout = if self.is_file { Layout::File } else { Layout::Directory { index: None } };
        Ok(Checkpoint::of_files(&self.name, layout, files)?.with_source(self.origin.clone()))
    }
}

impl Pinned {
    /// How messages name it: where it came from, or its path.
    pub fn shown(&self) -> String {
        self.origin.clone().unwrap_or_else(|| self.name.display().to_string())
    }

    /// The bytes of its weight files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Checks what was read: names become parts of paths and of addresses.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_plain = |name: &str| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(part)), None) if part == name)
                && !name.contains(['\\', ':'])
                && !name.chars().any(char::is_control)
        };
        match &self.files[..] {
            [] => Err("a checkpoint has no files"),
            files if !files.iter().all(|file| is_plain(&file.name)) => Err("a file's name is none"),
            files if !files.is_sorted_by(|a, b| a.name < b.name) => Err("its files are not in order"),
            [_, _, ..] if self.is_file || matches!(self.place, Place::Web { .. }) => Err("one file is several"),
            _ => Ok(()),
        }
    }

    /// The same, with those of the files that make the checkpoint, and their headers.
    pub fn of(self, checkpoint: &Checkpoint) -> Self {
        let file = |open: &WeightFile| {
            let listed = self.files.iter().find(|listed| listed.name == open.name())?;
            Some(PinnedFile { header: open.header().to_vec(), ..listed.clone() })
        };
        let files = checkpoint.files().iter().filter_map(file).collect();
        Self { files, ..self }
    }
}

impl PinnedFile {
    /// A file of a listing, whose header is not known yet; none if it is in a folder.
    pub fn listed(name: &str, bytes: u64, tag: Option<String>) -> Option<Self> {
        let is_plain = !name.is_empty() && !name.contains(['/', '\\']);
        is_plain.then(|| Self { name: name.to_owned(), bytes, tag, header: Vec::new() })
    }

    /// The file that was opened for it, if it is this one.
    fn checked(&self, open: WeightFile, place: &Place) -> Result<WeightFile, Error> {
        let other = |found: String, planned: String| -> Error {
            PlanFault::OtherSource { name: open.path().display().to_string(), found, planned }.into()
        };
        if open.bytes() != self.bytes {
            return Err(other(format!("it has {} bytes", open.bytes()), format!("{} bytes", self.bytes)));
        }
        let tag = modified(&open);
        if matches!(place, Place::Here(_)) && tag != self.tag {
            let say = |tag: &Option<String>| tag.clone().unwrap_or_else(|| "unknown".to_owned());
            return Err(other(
                format!("it was last changed at {}", say(&tag)),
                format!("a change at {}", say(&self.tag)),
            ));
        }
        if open.header() != self.header {
            return Err(other("its header is another one".to_owned(), "the header of the plan".to_owned()));
        }
        Ok(open)
    }
}

/// When a file of this machine was last changed.
fn modified(file: &WeightFile) -> Option<String> {
    let time = file.identity()?.modified?;
    // Times before 1970 are all the same.
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(humantime::format_rfc3339_nanos(SystemTime::UNIX_EPOCH + since).to_string())
}

/// A file of this machine that is not there.
#[derive(Debug)]
struct Absent {
    bytes: u64,
}

impl ReadAt for Absent {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, _: u64, _: u64) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}
