//! A directory as a place of publication. Its files are those directly in it; folders in it are left alone.

use super::{Content, NewFile, Place, PlaceFile, Published};
use crate::Fault;
use crate::listing::Hasher;
use lcepatch_files::context::Context;
use lcepatch_files::durable::{self, Existing, check_new_file};
use lcepatch_files::input::{self, Identity};
use lcepatch_format::patch::ReadAt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are copied at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A directory, which need not exist before something is published there.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    name: String,
    files: Vec<PlaceFile>,
    /// What the files were when they were listed, in their order.
    identities: Vec<Identity>,
}

impl Directory {
    /// Lists the files of the directory at `path`; there are none if it does not exist.
    ///
    /// # Errors
    /// [`Fault::Io`], also for a file at `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Fault> {
        let path = path.into();
        let (files, identities) = list(&path)?.into_iter().unzip();
        let name = path.display().to_string();
        Ok(Self { path, name, files, identities })
    }

    /// The path of a file in it.
    fn inner(&self, path: &str) -> Result<PathBuf, Fault> {
        let inner = self.path.join(path);
        if Path::new(path).file_name().is_none_or(|name| name != path) {
            return Err(Fault::io("open", &inner, std::io::ErrorKind::NotFound.into()));
        }
        Ok(inner)
    }
}

impl Place for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn commit(&self) -> Option<&str> {
        None
    }

    fn files(&self) -> &[PlaceFile] {
        &self.files
    }

    fn open(&self, path: &str, _: &Context<'_>) -> Result<Box<dyn ReadAt>, Fault> {
        Ok(Box::new(OpenFile::open(&self.inner(path)?)?))
    }

    fn read(&self, path: &str, limit: u64, _: &Context<'_>) -> Result<Vec<u8>, Fault> {
        let path = self.inner(path)?;
        let file = input::open_any(&path).map_err(|e| Fault::io("open", &path, e))?;
        let mut bytes = Vec::new();
        (&file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Fault::io("read", &path, e))?;
        if bytes.len() as u64 > limit {
            let bytes = file.metadata().map_or(bytes.len() as u64, |metadata| metadata.len());
            return Err(Fault::TooLarge { address: path.display().to_string(), bytes, limit });
        }
        Ok(bytes)
    }

    fn publish(&self, files: &[NewFile], _: &str, context: &Context<'_>) -> Result<Published, Fault> {
        let paths = files.iter().map(|file| self.inner(&file.path)).collect::<Result<Vec<_>, _>>()?;
        for path in &paths {
            check_new_file(path, Existing::Replace).map_err(Fault::from)?;
        }
        std::fs::create_dir_all(&self.path).map_err(|e| Fault::io("create", &self.path, e))?;
        // Held until all files are there, so that of two who publish at the same time one sees what the other did. Not every system
        // opens directories.
        let lock = File::open(&self.path).ok();
        if let Some(lock) = &lock {
            lock.lock().or_else(|error| match error.kind() {
                std::io::ErrorKind::Unsupported => Ok(()),
                _ => Err(Fault::io("lock", &self.path, error)),
            })?;
        }
        let (there, identities): (Vec<PlaceFile>, Vec<Identity>) = list(&self.path)?.into_iter().unzip();
        if (&there, &identities) != (&self.files, &self.identities) {
            return Err(Fault::Moved { place: self.name.clone() });
        }
        for (file, path) in files.iter().zip(&paths) {
            write(path, &file.content, context)?;
        }
        Ok(Published { commit: None, url: None })
    }
}

/// The regular files in the directory at `path`, in the order of their names, without files that are being written.
fn list(path: &Path) -> Result<Vec<(PlaceFile, Identity)>, Fault> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        // A link to nothing is something else than nothing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Fault::io("list", path, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Fault::io("list", path, e))?;
        // No other name can be published, either.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if durable::is_temporary(&name) || !entry.path().metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let identity = File::open(entry.path()).and_then(|file| Identity::of(&file));
        let identity = identity.map_err(|e| Fault::io("open", &entry.path(), e))?;
        files.push((PlaceFile { path: name, bytes: identity.length, sha256: None }, identity));
    }
    files.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    Ok(files)
}

/// Puts a file in its place.
fn write(path: &Path, content: &Content, context: &Context) -> Result<(), Fault> {
    let mut new = durable::NewFile::create(path, Existing::Replace)?;
    match content {
        Content::Bytes(bytes) => new = new.with(bytes)?,
        Content::File(from) => {
            let file = from.open()?;
            let mut hasher = Hasher::sha256();
            let mut piece = Vec::new();
            while (&file).take(PIECE_BYTES).read_to_end(&mut piece).map_err(|e| Fault::io("read", &from.path, e))? > 0 {
                hasher.update(&piece);
                new = new.with(&piece)?;
                context.advance(piece.len() as u64)?;
                piece.clear();
            }
            from.check(hasher.finish().hex())?;
        }
    }
    Ok(new.commit()?)
}

/// A file that is read in parts.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    bytes: u64,
}

impl OpenFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`Fault::Io`].
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let file = input::open_any(path).map_err(|e| Fault::io("open", path, e))?;
        let bytes = file.metadata().map_err(|e| Fault::io("open", path, e))?.len();
        Ok(Self { file, bytes })
    }
}

impl ReadAt for OpenFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        let is_within = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let bytes = usize::try_from(bytes).ok().filter(|_| is_within).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let mut out = vec![0; bytes];
        durable::read_at(&self.file, &mut out, offset)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::LocalFile;

    fn new(path: &str, bytes: &[u8]) -> NewFile {
        NewFile { path: path.to_owned(), content: Content::Bytes(bytes.to_vec()) }
    }

    #[test]
    fn what_was_published_is_listed_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/place");
        let place = Directory::open(&path).unwrap();
        assert!(place.files().is_empty());
        place.publish(&[new("b", b"12345"), new("a", b"x")], "", &Context::silent()).unwrap();
        std::fs::create_dir(path.join("folder")).unwrap();
        let place = Directory::open(&path).unwrap();
        assert_eq!(
            place.files().iter().map(|file| (&file.path[..], file.bytes)).collect::<Vec<_>>(),
            [("a", 1), ("b", 5)]
        );
        assert_eq!(place.read("b", 5, &Context::silent()).unwrap(), b"12345");
        assert!(matches!(place.read("b", 4, &Context::silent()), Err(Fault::TooLarge { bytes: 5, limit: 4, .. })));
        let open = place.open("b", &Context::silent()).unwrap();
        assert_eq!((open.bytes(), open.read_at(1, 3).unwrap()), (5, b"234".to_vec()));
        assert!(open.read_at(3, 3).is_err() && open.read_at(u64::MAX, 2).is_err());
    }

    #[test]
    fn whoever_publishes_on_an_old_state_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = [0, 1].map(|_| Directory::open(folder.path()).unwrap());
        one.publish(&[new("a", b"x")], "", &Context::silent()).unwrap();
        assert!(matches!(other.publish(&[new("b", b"x")], "", &Context::silent()), Err(Fault::Moved { .. })));
        assert!(!folder.path().join("b").exists());
    }

    #[test]
    fn a_file_that_changed_is_not_published() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("p");
        std::fs::write(&from, b"x").unwrap();
        let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881".to_owned();
        let file = NewFile { path: "p".into(), content: Content::File(LocalFile { path: from.clone(), sha256 }) };
        let path = folder.path().join("place");
        let publish = || Directory::open(&path).unwrap().publish(std::slice::from_ref(&file), "", &Context::silent());
        publish().unwrap();
        std::fs::write(&from, b"y").unwrap();
        assert!(matches!(publish(), Err(Fault::Changed { .. })));
        assert_eq!(std::fs::read(path.join("p")).unwrap(), b"x");
    }

    #[test]
    fn only_files_of_the_directory_itself_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("outside"), b"x").unwrap();
        let place = Directory::open(folder.path().join("inner")).unwrap();
        for path in ["../outside", "..", "", "a/b", "/etc/hostname"] {
            assert!(
                place.open(path, &Context::silent()).is_err() && place.read(path, 9, &Context::silent()).is_err(),
                "{path}"
            );
            assert!(place.publish(&[new(path, b"y")], "", &Context::silent()).is_err(), "{path}");
        }
        assert_eq!(std::fs::read(folder.path().join("outside")).unwrap(), b"x");
        assert!(Directory::open(folder.path().join("outside")).is_err(), "a file is no directory");
    }
}
