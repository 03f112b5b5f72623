//! One `.safetensors` file: its header, parsed once from a copy in memory, and its mapped tensors.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::malformed::{Malformed, OpenError};
use super::map::FileBytes;
use crate::durable::{Access, Failed, is_same};
use crate::input::{self, Found, Identity, Meant};
use lcepatch_format::dtype::Dtype;
use lcepatch_format::limits::{NAME_BYTES_MAX, RANK_MAX};
use lcepatch_format::patch::ReadAt;
use lcepatch_format::words::counted;
use safetensors::tensor::Metadata;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest header that the safetensors library reads, in bytes.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Number of bytes at the front of a file elsewhere that are read at once, as they are likely to hold the header.
const FRONT_BYTES: u64 = 64 << 10;

/// A mapped weight file.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    header_bytes: u64,
    pub(super) map: FileBytes,
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name of the tensor.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<u64>,
    /// Within the file, and as long as dtype and shape say.
    range: Range<u64>,
}

impl TensorInfo {
    /// A tensor whose bytes are at `range` of its file, as many as `dtype` and `shape` need.
    pub fn new(name: String, dtype: Dtype, shape: Vec<u64>, range: Range<u64>) -> Self {
        Self { name, dtype, shape, range }
    }

    /// Byte range in the file.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Number of elements, as [`Dtype::width`] counts them.
    pub fn elements(&self) -> u64 {
        self.bytes() / self.dtype.width().bytes() as u64
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl WeightFile {
    /// Maps the file and parses its header. It stays open until the value is dropped.
    ///
    /// # Errors
    /// I/O; [`Malformed`] for a file that the safetensors library rejects, or that has an unknown dtype.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::map_open(path, Self::open_file(path, Access::Read)?)
    }

    /// Opens a weight file. A file to edit is opened for writing if possible, because some systems need that for an exclusive lock.
    pub(super) fn open_file(path: &Path, access: Access) -> Result<File, OpenError> {
        let file = match access {
            Access::Read => input::open_any(path),
            Access::Edit => input::open_for_writing(path).or_else(|_| input::open_any(path)),
        };
        file.map_err(|e| OpenError::io("open", path, e))
    }

    /// Maps the file that is open as `file`, and parses its header.
    pub(super) fn map_open(path: &Path, file: File) -> Result<Self, OpenError> {
        Self::parse(path, FileBytes::map(file).map_err(|e| OpenError::io("map", path, e))?, u64::MAX)
    }

    /// Maps the open `file` at `path`, which has the same layout as this one, without parsing its header.
    pub fn with_layout_of(&self, path: &Path, file: &File) -> Result<Self, OpenError> {
        let map = file.try_clone().and_then(FileBytes::map).map_err(|e| OpenError::io("map", path, e))?;
        let (tensors, header_bytes) = (self.tensors.clone(), self.header_bytes);
        Ok(Self { path: path.to_owned(), tensors, header_bytes, map })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Number of bytes before the first tensor: the length field, the JSON header and its padding.
    pub fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    /// Opens the same file again, with its own read position.
    pub fn reopen(&self) -> Result<File, OpenError> {
        let file = input::open_any(&self.path).map_err(|e| OpenError::io("open", &self.path, e))?;
        match self.file() {
            Some(open) if !is_same(open, &file) => Err(Failed::Replaced { path: self.path.clone() }.into()),
            _ => Ok(file),
        }
    }

    /// A file whose tensors are known already, such as one in another format than safetensors. Each lies within `map`.
    pub fn of_tensors(path: PathBuf, tensors: Vec<TensorInfo>, map: FileBytes) -> Self {
        debug_assert!(tensors.iter().all(|tensor| tensor.range.end <= map.size()));
        Self { path, tensors, header_bytes: 0, map }
    }

    /// Adds a tensor, which lies within the file, after the others.
    pub fn push(&mut self, tensor: TensorInfo) {
        debug_assert!(tensor.range.end <= self.map.size());
        self.tensors.push(tensor);
    }

    /// The file's bytes, shared.
    pub fn map(&self) -> FileBytes {
        self.map.clone()
    }

    /// A file that is elsewhere, read by ranges: one of at most 64 KiB, and one more for the rest of a longer header. The bytes of
    /// tensors are fetched when they are looked at; if that fails, [`WeightFile::unchanged`] says so. `path` names the file.
    ///
    /// # Errors
    /// Those of the source, I/O on the temporary file; [`Malformed`], as [`WeightFile::open`].
    pub fn from_source(path: &Path, source: Arc<dyn ReadAt>) -> Result<Self, OpenError> {
        let failed = |e| OpenError::io("read", path, e);
        let total = source.bytes();
        let mut front = source.read_at(0, FRONT_BYTES.min(total)).map_err(failed)?;
        let length = front.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        // A length that is wrong is refused when the header is parsed.
        if length <= HEADER_BYTES_MAX && 8 + length <= total && 8 + length > FRONT_BYTES {
            front.extend(source.read_at(FRONT_BYTES, 8 + length - FRONT_BYTES).map_err(failed)?);
        }
        let known = front.len() as u64;
        Self::parse(path, FileBytes::elsewhere(source, &front).map_err(failed)?, known)
    }

    /// As [`WeightFile::from_source`], of a file whose header is known, the length field and the JSON: nothing is read of it before a
    /// tensor is looked at.
    ///
    /// # Errors
    /// I/O on the temporary file; [`Malformed`], as [`WeightFile::open`], for a header that is not one, or not that of a file of this length.
    pub fn from_header(path: &Path, source: Arc<dyn ReadAt>, header: &[u8]) -> Result<Self, OpenError> {
        let wrong = |reason: &str| OpenError::malformed(path, Malformed::Header { reason: reason.to_owned() });
        let length = header.first_chunk().map(|length| u64::from_le_bytes(*length));
        if length.and_then(|length| length.checked_add(8)) != Some(header.len() as u64) {
            return Err(wrong("invalid header length"));
        }
        if source.bytes() < header.len() as u64 {
            return Err(wrong("it is longer than the file"));
        }
        let map = FileBytes::elsewhere(source, header).map_err(|e| OpenError::io("read", path, e))?;
        Self::parse(path, map, header.len() as u64)
    }

    /// Asks a file elsewhere for nothing, so that it is known to be there, and to be the one that is meant, before anything is computed.
    ///
    /// # Errors
    /// Those of the source.
    pub fn reach(&self) -> Result<(), OpenError> {
        self.map.reach().map_err(|e| OpenError::io("read", &self.path, e))
    }

    /// Parses a file that is in memory. `path` names it in errors.
    ///
    /// # Errors
    /// [`Malformed`], as [`WeightFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, OpenError> {
        Self::parse(path, FileBytes::Owned(bytes.into()), u64::MAX)
    }

    /// Parses the header. Of the file, its first `known` bytes may be read for nothing.
    fn parse(path: &Path, map: FileBytes, known: u64) -> Result<Self, OpenError> {
        let front = map.read(0..map.size().min(Found::FRONT_BYTES).min(known));
        let front = front.map_err(|e| OpenError::io("read", path, e))?;
        Meant::Checkpoint.check(&front).map_err(|unexpected| OpenError::malformed(path, unexpected.into()))?;
        let header = |reason: String| OpenError::malformed(path, Malformed::Header { reason });
        let Some(length) = front.first_chunk().map(|length| u64::from_le_bytes(*length)) else {
            return Err(header(format!("it has {}", counted(map.size(), "byte"))));
        };
        if length > HEADER_BYTES_MAX || length > map.size() - 8 {
            return Err(header("invalid header length".to_owned()));
        }
        let header_bytes = 8 + length;
        let json = map.read(8..header_bytes).map_err(|e| OpenError::io("read", path, e))?;
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| header(e.to_string()))?;
        if header_bytes + metadata.data_len() as u64 != map.size() {
            let (found, expected) = (map.size(), header_bytes + metadata.data_len() as u64);
            return Err(OpenError::malformed(path, Malformed::Length { found, expected }));
        }
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else { continue };
            let dtype = Dtype::from_name(&info.dtype.to_string());
            let dtype = dtype.ok_or_else(|| Malformed::Dtype { tensor: name.clone(), dtype: info.dtype.to_string() });
            let dtype = dtype.map_err(|reason| OpenError::malformed(path, reason))?;
            if name.is_empty() || name.len() as u64 > NAME_BYTES_MAX || info.shape.len() as u64 > RANK_MAX {
                return Err(OpenError::malformed(path, Malformed::Limits { tensor: name }));
            }
            let (start, end) = info.data_offsets;
            let range = header_bytes + start as u64..header_bytes + end as u64;
            let shape = info.shape.iter().map(|dim| *dim as u64).collect();
            tensors.push(TensorInfo { name, dtype, shape, range });
        }
        // The library gives tensors without elements, which may begin where another one does, in an order that differs each time.
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
        Ok(Self { path: path.to_owned(), tensors, header_bytes, map })
    }

    /// The mapped file, for locks; `None` for a file in memory.
    pub fn file(&self) -> Option<&File> {
        self.map.file().map(|(file, _)| file)
    }

    /// The file's identity when it was opened; `None` for a file in memory.
    pub fn identity(&self) -> Option<&Identity> {
        self.map.file().map(|(_, identity)| identity)
    }

    /// Checks that nobody has written to the file since it was opened, so that everything read in between is of the same state. A file
    /// that was replaced at its path counts as unchanged: the open file is still the old one.
    ///
    /// # Errors
    /// [`OpenError::Changed`]; I/O, also for bytes of a file elsewhere that could not be fetched.
    pub fn unchanged(&self) -> Result<(), OpenError> {
        self.map.fetched().map_err(|e| OpenError::io("read", &self.path, e))?;
        let Some((file, before)) = self.map.file() else { return Ok(()) };
        let now = Identity::of(file).map_err(|e| OpenError::io("read", &self.path, e))?;
        if now == *before && self.map.lost() {
            let unreadable = std::io::Error::other("some of its bytes could not be read");
            return Err(OpenError::io("read", &self.path, unreadable));
        }
        if now == *before {
            return Ok(());
        }
        Err(OpenError::Changed { path: self.path.clone(), before: before.length, now: now.length })
    }

    /// Size of the whole file in bytes.
    pub fn bytes(&self) -> u64 {
        self.map.size()
    }

    /// The file's name without folders.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the ranges that were read are compared with those expected")]
mod tests {
    use super::*;
    use crate::fetched::{Counting, PIECE_BYTES};

    /// A file with tensors `a` of 4 bytes and `b` of `n` bytes, and a header of `header` bytes.
    fn two_tensors(n: usize, header: usize) -> Vec<u8> {
        let json = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[{n}],"data_offsets":[4,{}]}}}}"#,
            4 + n
        );
        let json = json.clone() + &" ".repeat(header - json.len());
        [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), b"abcd", &vec![7; n]].concat()
    }

    #[test]
    fn a_header_elsewhere_takes_one_or_two_reads_and_tensors_are_fetched_when_they_are_looked_at() {
        let n = 3 * PIECE_BYTES;
        for (header, reads) in [(200, vec![0..FRONT_BYTES]), (100_000, vec![0..FRONT_BYTES, FRONT_BYTES..100_008])] {
            let content = two_tensors(n as usize, header);
            let source = Counting::new(content.clone());
            let file = WeightFile::from_source("b.safetensors".as_ref(), source.clone()).unwrap();
            assert_eq!(source.take(), reads);
            let local = WeightFile::from_bytes("b.safetensors".as_ref(), content.clone()).unwrap();
            assert_eq!((file.tensors(), file.header()), (local.tensors(), local.header()));
            file.header();
            assert_eq!(source.take(), []);

            let known = (8 + header as u64).max(FRONT_BYTES);
            let start = known + PIECE_BYTES + 9;
            assert_eq!(file.map.bytes(start..start + 2), [7, 7]);
            file.map.release(start..start + PIECE_BYTES);
            assert_eq!(file.map.bytes(start..start + 2), [7, 7]);
            assert_eq!(source.take(), [known + PIECE_BYTES..known + 2 * PIECE_BYTES]);
            assert_eq!(file.map.bytes(0..content.len() as u64), content);
            let pieces = (content.len() as u64 - known).div_ceil(PIECE_BYTES);
            assert_eq!(source.take().len() as u64, pieces - 1, "those that were not here, once each");
            file.unchanged().unwrap();
        }
    }

    #[test]
    fn of_a_file_elsewhere_whose_header_is_known_nothing_is_read_before_a_tensor_is_looked_at() {
        let content = two_tensors(PIECE_BYTES as usize, 200);
        let source = Counting::new(content.clone());
        let open = |header: &[u8]| WeightFile::from_header("b.safetensors".as_ref(), source.clone(), header);
        let file = open(&content[..208]).unwrap();
        assert_eq!((file.tensors().len(), file.header(), source.take()), (2, &content[..208], vec![]));
        file.reach().unwrap();
        assert_eq!((source.take(), file.map.bytes(208..212)), (vec![0..0], &b"abcd"[..]));
        assert_eq!(source.take(), [208..208 + PIECE_BYTES]);
        for wrong in [&content[..207], &content[..209], &content[..3], &two_tensors(9, 200)[..208]] {
            assert!(matches!(open(wrong), Err(OpenError::Malformed { .. })));
        }
        let short = WeightFile::from_header("b".as_ref(), Counting::new(vec![0; 9]), &content[..208]);
        assert!(matches!(short, Err(OpenError::Malformed { .. })));
        assert_eq!(source.take(), []);
    }

    #[test]
    fn bytes_that_cannot_be_fetched_are_an_error_before_a_result_counts() {
        let source = Counting::failing(two_tensors(3 * PIECE_BYTES as usize, 200), 2 * PIECE_BYTES);
        let file = WeightFile::from_source("b.safetensors".as_ref(), source.clone()).unwrap();
        assert_eq!(file.map.bytes(PIECE_BYTES..PIECE_BYTES + 1), [7]);
        file.unchanged().unwrap();
        assert_eq!(file.map.bytes(3 * PIECE_BYTES..3 * PIECE_BYTES + 1), [0]);
        for _ in 0..2 {
            let Err(OpenError::Io { source, .. }) = file.unchanged() else { panic!("a failed read") };
            assert_eq!(
                (source.kind(), source.to_string()),
                (std::io::ErrorKind::ConnectionReset, "the source is gone".to_owned())
            );
        }
        source.take();
        file.map.bytes(2 * PIECE_BYTES + FRONT_BYTES..2 * PIECE_BYTES + FRONT_BYTES + 1);
        assert_eq!(source.take(), [], "nothing more is fetched");
        assert!(WeightFile::from_source("b".as_ref(), Counting::failing(vec![0; 99], 0)).is_err());
        assert!(WeightFile::from_source("b".as_ref(), Counting::new(Vec::new())).is_err());
        assert!(WeightFile::from_source("b".as_ref(), Counting::new(vec![255; 99])).is_err());
    }

    #[test]
    fn tensors_without_elements_have_the_same_order_each_time() {
        let empty: Vec<String> = ('a'..='h')
            .rev()
            .map(|name| format!(r#""{name}":{{"dtype":"U8","shape":[0,4],"data_offsets":[4,4]}}"#))
            .collect();
        let header = format!(r#"{{{},"w":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}"#, empty.join(","));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), b"abcd"].concat();
        for _ in 0..20 {
            let file = WeightFile::from_bytes("b".as_ref(), bytes.clone()).unwrap();
            let names: Vec<&str> = file.tensors().iter().map(|tensor| &tensor.name[..]).collect();
            assert_eq!(names, ["w", "a", "b", "c", "d", "e", "f", "g", "h"]);
        }
    }

    #[test]
    fn writes_to_an_open_file_are_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let bytes = [&36u64.to_le_bytes()[..], br#"{"a":{"dtype":"U8","shape":[4],"data"#].concat();
        assert!(matches!(WeightFile::from_bytes(&path, bytes), Err(OpenError::Malformed { .. })));

        let header = br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, b"abcd"].concat();
        std::fs::write(&path, &bytes).unwrap();
        let file = WeightFile::open(&path).unwrap();
        file.unchanged().unwrap();
        assert_eq!(file.identity(), Some(&Identity::of(file.file().unwrap()).unwrap()));

        std::fs::write(&path, [&bytes[..], b"e"].concat()).unwrap();
        let (before, now) = (bytes.len() as u64, bytes.len() as u64 + 1);
        assert!(
            matches!(file.unchanged(), Err(OpenError::Changed { before: b, now: n, .. }) if (b, n) == (before, now))
        );
        assert!(matches!(WeightFile::open(&path), Err(OpenError::Malformed { .. })));

        std::fs::write(&path, &bytes).unwrap();
        let file = WeightFile::open(&path).unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        file.unchanged().unwrap();
        WeightFile::from_bytes(&path, bytes).unwrap().unchanged().unwrap();
    }
}
