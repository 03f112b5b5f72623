//! Checks of output paths.

use super::disk::folder;
use super::temporary::is_reserved;
use super::{Existing, Failed};
use std::path::{Component, Path, PathBuf};

/// The name of an output that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// The kind of an output file's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A new or existing regular file.
    File,
    /// A pipe or a character device, to which the content is written.
    Stream,
    /// `-`, standard output.
    StandardOutput,
}

/// Determines the kind of an output file's path.
///
/// # Errors
/// [`Failed::Exists`]; [`Failed::Directory`]; [`Failed::NotAFile`] for what can neither be replaced nor written to;
/// [`Failed::HubCache`].
pub(super) fn place(path: &Path, existing: Existing) -> Result<Place, Failed> {
    if path.as_os_str() == STANDARD_OUTPUT {
        return Ok(Place::StandardOutput);
    }
    refuse_hub_cache(path)?;
    refuse_directory(path)?;
    let exists = || Failed::Exists { path: path.to_owned() };
    // Links are followed; a broken link is replaced itself.
    let Ok(metadata) = path.metadata() else {
        let is_broken_link = path.symlink_metadata().is_ok();
        return if is_broken_link && existing == Existing::Keep { Err(exists()) } else { Ok(Place::File) };
    };
    match (metadata.is_file(), existing) {
        (true, Existing::Keep) => Err(exists()),
        (true, Existing::Replace) if is_descriptor(path) => Err(Failed::NotAFile { path: path.to_owned() }),
        (true, Existing::Replace) => Ok(Place::File),
        (false, Existing::Keep) if is_stream(&metadata) => Ok(Place::Stream),
        (false, _) => Err(Failed::NotAFile { path: path.to_owned() }),
    }
}

/// Whether a path is that of a file descriptor, such as `/dev/stdout`. Such a name must not be replaced, even if it leads to a regular
/// file.
fn is_descriptor(path: &Path) -> bool {
    let in_proc = |path: &Path| folder(path).canonicalize().is_ok_and(|folder| folder.starts_with("/proc"));
    in_proc(path) || path.read_link().is_ok_and(|target| in_proc(&folder(path).join(target)))
}

#[cfg(unix)]
fn is_stream(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_stream(_: &std::fs::Metadata) -> bool {
    false
}

/// The absolute path without links that `path` leads to; the file need not exist. Returns `None` for paths without a file name.
pub fn real_path(path: &Path) -> Option<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    let name = path.file_name()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Some(folder.map_or_else(|| Path::new(".").canonicalize().ok(), real_path)?.join(name))
}

/// Checks that a file may be written to `path`, so that a command can fail before its work. The check is repeated when the file is
/// written.
///
/// # Errors
/// [`Failed::Exists`], [`Failed::Directory`], [`Failed::NotAFile`], [`Failed::HubCache`], [`Failed::Reserved`].
pub fn check_new_file(path: &Path, existing: Existing) -> Result<(), Failed> {
    refuse_reserved(path)?;
    place(path, existing).map(drop::<Place>)
}

/// Refuses the path of a directory, existing or not, for a file.
///
/// # Errors
/// [`Failed::Directory`].
pub(super) fn refuse_directory(path: &Path) -> Result<(), Failed> {
    let text = path.to_string_lossy();
    // What ends in a separator or in `.` can only be a directory.
    let is_named_as_one = matches!(text.rsplit(std::path::is_separator).next(), Some("" | "."));
    if is_named_as_one || path.is_dir() { Err(Failed::Directory { path: path.to_owned() }) } else { Ok(()) }
}

/// Checks that a directory may be made at `path`, where there is nothing yet, or an empty directory. The check is repeated when the
/// directory is made.
///
/// # Errors
/// [`Failed::Exists`], [`Failed::NotADirectory`], [`Failed::HubCache`], [`Failed::Reserved`].
pub fn check_new_directory(path: &Path) -> Result<(), Failed> {
    refuse_reserved(path)?;
    refuse_hub_cache(path)?;
    let is_directory = path.metadata().is_ok_and(|metadata| metadata.is_dir());
    let is_empty = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if path.as_os_str() == STANDARD_OUTPUT || !is_directory && path.symlink_metadata().is_ok() {
        return Err(Failed::NotADirectory { path: path.to_owned() });
    }
    if is_directory && !is_empty() { Err(Failed::Exists { path: path.to_owned() }) } else { Ok(()) }
}

/// Refuses names of temporary files and journals, which lcepatch removes and replaces.
///
/// # Errors
/// [`Failed::Reserved`].
pub(super) fn refuse_reserved(path: &Path) -> Result<(), Failed> {
    match path.file_name() {
        Some(name) if is_reserved(&name.to_string_lossy()) => Err(Failed::Reserved { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// Refuses paths in a hub's cache (`models--ORG--NAME/` with `blobs`, `refs` and `snapshots` in it), and in that of objects of S3
/// (`lcepatch/s3/DIGEST/DIGEST/`). All programs on the machine load files from there, and expect them to be those of the upstream commit.
///
/// # Errors
/// [`Failed::HubCache`].
pub fn refuse_hub_cache(path: &Path) -> Result<(), Failed> {
    let Ok(path) = std::path::absolute(path) else { return Ok(()) };
    // Check the path as given, and the real path of its folder.
    let real = path.parent().and_then(|folder| folder.canonicalize().ok());
    if in_hub_cache(&path) || real.is_some_and(|folder| in_hub_cache(&folder)) {
        return Err(Failed::HubCache { path: path.clone() });
    }
    Ok(())
}

fn in_hub_cache(path: &Path) -> bool {
    in_repository(path) || in_objects(path)
}

/// Whether a path is in the cache of objects.
fn in_objects(path: &Path) -> bool {
    let names: Vec<_> = path.components().map(|component| component.as_os_str().to_string_lossy()).collect();
    let is_digest = |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    names.windows(4).any(|names| {
        matches!(names, [a, b, place, state] if a == "lcepatch" && b == "s3" && is_digest(place) && is_digest(state))
    })
}

/// Whether a path is in a repository of a hub's cache.
fn in_repository(path: &Path) -> bool {
    const KINDS: [&str; 3] = ["models--", "datasets--", "spaces--"];
    const FOLDERS: [&str; 3] = ["blobs", "refs", "snapshots"];
    let mut reached = PathBuf::new();
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        reached.push(component);
        let Component::Normal(name) = component else { continue };
        let is_repository = KINDS.iter().any(|kind| name.to_string_lossy().starts_with(kind));
        let inner = components.peek().is_some_and(|next| FOLDERS.iter().any(|folder| next.as_os_str() == *folder));
        if is_repository && (inner || FOLDERS.iter().all(|folder| reached.join(folder).is_dir())) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hubs_cache_is_recognized_by_its_layout() {
        let cached = ["/c/models--a--b/snapshots/1f/x", "/c/models--a--b/blobs/77", "/c/datasets--a--b/refs/main"];
        cached.iter().for_each(|path| assert!(in_hub_cache(Path::new(path)), "{path}"));
        let digest = "0123456789abcdef".repeat(2);
        assert!(in_hub_cache(Path::new(&format!("/c/lcepatch/s3/{digest}/{digest}/model.safetensors"))));
        assert!(!in_hub_cache(Path::new(&format!("/c/lcepatch/s3/{digest}/x/y"))));
        let others = ["/c/models--a--b/x", "/c/a/snapshots/1f/x", "/c/models/snapshots/x"];
        others.iter().for_each(|path| assert!(!in_hub_cache(Path::new(path)), "{path}"));
    }

    #[test]
    fn files_and_directories_do_not_take_each_others_places() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), b"x").unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        for name in ["empty", "empty/", "new/", "new/."] {
            assert!(matches!(check_new_file(&at(name), Existing::Replace), Err(Failed::Directory { .. })), "{name}");
        }
        assert!(check_new_file(&at("new"), Existing::Keep).is_ok());
        assert!(matches!(check_new_directory(&at("file")), Err(Failed::NotADirectory { .. })));
        assert!(matches!(check_new_directory(folder.path()), Err(Failed::Exists { .. })));
        for name in ["empty", "empty/", "new", "new/"] {
            check_new_directory(&at(name)).unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_written_to_and_never_replaced() {
        let null = Path::new("/dev/null");
        assert_eq!(place(null, Existing::Keep).unwrap(), Place::Stream);
        assert!(matches!(place(null, Existing::Replace), Err(Failed::NotAFile { .. })));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for existing in [Existing::Keep, Existing::Replace] {
            assert!(matches!(place(&socket, existing), Err(Failed::NotAFile { .. })));
        }
        assert!(matches!(place(folder.path(), Existing::Replace), Err(Failed::Directory { .. })));
    }
}
