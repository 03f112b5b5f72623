//! Files of `torch.save`, since torch 1.6: a zip archive of a pickle, which says what there is, and of one file for each storage, which
//! holds the numbers. Read without running the pickle.
//!
//! State dicts and masks alone: dictionaries of dense, contiguous tensors by name.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod pickle;

use crate::checkpoint::map::FileBytes;
use crate::checkpoint::scan::WINDOW_BYTES;
use crate::checkpoint::{Checkpoint, Layout, TensorInfo, WeightFile, header};
use crate::context::Context;
use crate::durable::{Existing, Failed, NewFile};
use crate::error::{Error, ExchangeFault};
use crate::input::{self, Found, Meant};
use pickle::{Fault, View};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use zip::{CompressionMethod, ZipArchive};

/// The largest pickle that is read, in bytes: a tensor takes a hundred and its name.
const PICKLE_BYTES_MAX: u64 = 1 << 24;
/// How many times the bytes of a file its tensors may take. Tied tensors are one storage, and are written once for each name.
const BYTES_MOST: u64 = 4;

/// Opens files of `torch.save` together as one checkpoint.
///
/// Cost: one pass over the files, whose checksums are compared. Memory: about 32 bytes for each byte of a pickle, of which at most 16 MiB are read.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `ImportMalformed`, `ImportUnsuited`; I/O.
pub fn open(paths: &[PathBuf], context: &Context<'_>) -> Result<Checkpoint, Error> {
    let sizes = paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len());
    context.begin("checking", sizes.sum());
    let files = paths.iter().map(|path| open_file(path, context)).collect::<Result<Vec<WeightFile>, Error>>()?;
    let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
    Ok(Checkpoint::of_files(first, Layout::File, files)?)
}

/// What is written of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Converted {
    /// Tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the tensors of `checkpoint` to a new safetensors file at `output`.
///
/// # Errors
/// Those of outputs; a checkpoint that changes meanwhile; cancellation.
pub fn convert(
    checkpoint: &Checkpoint,
    output: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<Converted, Error> {
    context.begin("converting", checkpoint.tensors().map(|tensor| tensor.info.bytes()).sum());
    let new = NewFile::create(output, existing)?;
    let failed = |e| Failed::io("write", output, e);
    let infos = checkpoint.tensors().map(|tensor| (&tensor.info.name[..], tensor.info.dtype, &tensor.info.shape[..]));
    let header = header(infos, &[("format", "pt")]);
    let mut converted = Converted { tensors: 0, elements: 0, bytes: header.len() as u64 };
    new.while_writing(|| {
        let mut out = BufWriter::new(new.file());
        out.write_all(&header).map_err(failed)?;
        for tensor in checkpoint.tensors() {
            for part in tensor.element_windows(0..tensor.info.elements()) {
                out.write_all(tensor.elements(part.clone())).map_err(failed)?;
                tensor.release(part.clone());
                context.advance((part.end - part.start) * tensor.info.dtype.width().bytes() as u64)?;
            }
            converted.tensors += 1;
            converted.elements += tensor.info.elements();
            converted.bytes += tensor.info.bytes();
        }
        out.flush().map_err(failed)?;
        Ok::<(), Error>(())
    })?;
    checkpoint.unchanged()?;
    new.commit()?;
    Ok(converted)
}

fn open_file(path: &Path, context: &Context<'_>) -> Result<WeightFile, Error> {
    let io = |e| Error::io("read", path, e);
    let file = input::open_any(path).map_err(io)?;
    let mut front = Vec::new();
    (&file).take(512).read_to_end(&mut front).map_err(io)?;
    must_be_zip(path, &front)?;
    let archive = Archive::read(&file, path, context)?;
    let views = pickle::tensors(&archive.pickle).map_err(|fault| match fault {
        Fault::Malformed(reason) => malformed(path, reason),
        Fault::Unsuited(reason) => unsuited(path, reason),
    })?;
    let tensors = views.into_iter().map(|(name, view)| archive.tensor(name, &view, path));
    let tensors: Vec<TensorInfo> = tensors.collect::<Result<_, ExchangeFault>>()?;
    let map = FileBytes::map(file).map_err(|e| Error::io("map", path, e))?;
    let bytes: u64 = tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes()));
    let inside = tensors.iter().all(|tensor| tensor.range().end <= map.size());
    if !inside || bytes > map.size().saturating_mul(BYTES_MOST) {
        let reason = format!("its tensors take {bytes} bytes, and it has {}", map.size());
        return Err(malformed(path, reason).into());
    }
    Ok(WeightFile::of_tensors(path.to_owned(), tensors, map))
}

fn malformed(path: &Path, reason: impl Into<String>) -> ExchangeFault {
    ExchangeFault::Malformed { path: path.to_owned(), reason: reason.into() }
}

fn unsuited(path: &Path, reason: impl Into<String>) -> ExchangeFault {
    ExchangeFault::Torch { path: path.to_owned(), reason: reason.into() }
}

/// Refuses what is no zip archive, and says what it is instead.
fn must_be_zip(path: &Path, front: &[u8]) -> Result<(), Error> {
    const OLD: &str = "it is in the format of torch before 1.6";
    match Found::of(front) {
        Some(Found::Zip) => Ok(()),
        Some(Found::Pickle) => Err(unsuited(path, OLD).into()),
        // The tar archives of torch before 0.1.10.
        None if front.get(257..262) == Some(b"ustar") => Err(unsuited(path, OLD).into()),
        Some(found) => {
            let unexpected = input::Unexpected { found, meant: Meant::Torch };
            Err(Error::io("read", path, unexpected.into()))
        }
        None => Err(malformed(path, "it is no file of torch.save: it begins as no zip archive does").into()),
    }
}

/// A zip archive that torch wrote.
struct Archive {
    pickle: Vec<u8>,
    /// The bytes of each storage in the file, by its name.
    storages: BTreeMap<String, Range<u64>>,
}

impl Archive {
    fn read(file: &File, path: &Path, context: &Context<'_>) -> Result<Self, Error> {
        let invalid = |error: zip::result::ZipError| match error {
            zip::result::ZipError::Io(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io("read", path, e),
            error => malformed(path, format!("its zip archive is damaged: {error}")).into(),
        };
        let mut left = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        let mut archive = ZipArchive::new(file).map_err(invalid)?;
        // Where something stands before an archive, or a name is in it twice, readers do not agree.
        if archive.offset() != 0 || listed(file).is_some_and(|listed| listed != archive.len() as u64) {
            return Err(malformed(
                path,
                "something is before its zip archive, or has a name in it that another file has",
            )
            .into());
        }
        let mut found = Self { pickle: Vec::new(), storages: BTreeMap::new() };
        let (mut folder, mut has_pickle) = (None, false);
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(invalid)?;
            let Ok(name) = std::str::from_utf8(entry.name_raw()).map(str::to_owned) else {
                return Err(malformed(path, "a name in its archive is not UTF-8").into());
            };
            // All entries are in one folder.
            let Some((first, rest)) = name.split_once('/') else {
                return Err(unsuited(path, format!("its archive has {name:?}, which torch.save does not write")).into());
            };
            if *folder.get_or_insert_with(|| first.to_owned()) != first {
                return Err(malformed(path, "its archive has several folders").into());
            }
            if rest.starts_with("code/") || rest == "constants.pkl" {
                let reason = "it is a TorchScript program, not a state dict";
                return Err(unsuited(path, reason).into());
            }
            if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
                let reason = format!("{name:?} is compressed in its archive, and torch stores everything as it is");
                return Err(unsuited(path, reason).into());
            }
            if entry.encrypted() {
                return Err(unsuited(path, format!("{name:?} is encrypted in its archive")).into());
            }
            drop(entry);
            let mut entry = archive.by_index(index).map_err(invalid)?;
            let (size, start) = (entry.size(), entry.data_start());
            // Entries that lie in each other could be read again and again.
            left = left.checked_sub(size).ok_or_else(|| malformed(path, "its archive holds more than the file has"))?;
            let mut content = Vec::new();
            let keeps = !rest.starts_with("data/") && size <= PICKLE_BYTES_MAX;
            // At the end, the checksum is compared.
            let damaged = |e| malformed(path, format!("{name:?} in its archive is damaged: {e}")).into();
            each_window(&mut entry, size, damaged, |window| {
                content.extend_from_slice(if keeps { window } else { &[] });
                Ok(context.advance(window.len() as u64)?)
            })?;
            match rest.strip_prefix("data/") {
                Some(key) => {
                    let start = start.ok_or_else(|| malformed(path, format!("{name:?} is nowhere in its archive")))?;
                    let end = start.checked_add(size).ok_or_else(|| malformed(path, "its archive is too large"))?;
                    if found.storages.insert(key.to_owned(), start..end).is_some() {
                        return Err(malformed(path, format!("{name:?} is in its archive twice")).into());
                    }
                }
                None if rest == "data.pkl" && size > PICKLE_BYTES_MAX => {
                    return Err(malformed(path, format!("its pickle has {size} bytes, more than are read")).into());
                }
                None if rest == "data.pkl" && has_pickle => {
                    return Err(malformed(path, "it has two pickles").into());
                }
                None if rest == "data.pkl" => {
                    found.pickle = content;
                    has_pickle = true;
                }
                None if rest == "byteorder" && content != b"little" => {
                    return Err(unsuited(path, "its numbers are not in little-endian order").into());
                }
                None => {}
            }
        }
        match has_pickle {
            true => Ok(found),
            false => {
                Err(unsuited(path, "it is a zip archive that torch.save did not write: it has no data.pkl").into())
            }
        }
    }

    /// The place of a tensor in the file.
    fn tensor(&self, name: String, view: &View, path: &Path) -> Result<TensorInfo, ExchangeFault> {
        let wrong = |what: &str| malformed(path, format!("tensor {name:?} {what}"));
        let storage = self.storages.get(&view.key).ok_or_else(|| wrong("has a storage that is not in the file"))?;
        let width = view.dtype.width().bytes() as u64;
        if view.stored.checked_mul(width) != Some(storage.end - storage.start) {
            return Err(wrong("has a storage of another size than it says"));
        }
        let elements = view.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
        let elements = elements.ok_or_else(|| wrong("has more elements than can be counted"))?;
        if !is_contiguous(view) {
            let reason = format!(
                "tensor {name:?} is a view whose elements do not lie one after another (shape {:?}, strides {:?})",
                view.shape, view.strides
            );
            return Err(unsuited(path, reason));
        }
        let end = view.offset.checked_add(elements).filter(|end| *end <= view.stored);
        let end = end.ok_or_else(|| wrong("reaches beyond its storage"))?;
        let range = storage.start + view.offset * width..storage.start + end * width;
        Ok(TensorInfo::new(name, view.dtype, view.shape.clone(), range))
    }
}

/// How many files the end of an archive says that it lists; none where no end is found.
fn listed(mut file: &File) -> Option<u64> {
    const END: &[u8] = b"PK\x05\x06";
    const END_64: &[u8] = b"PK\x06\x06";
    // The end has a comment of at most 64 KiB after it, and the larger one is before it.
    let length = file.metadata().ok()?.len();
    let start = length.saturating_sub((1 << 16) + 256);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut tail = Vec::new();
    file.take(length - start).read_to_end(&mut tail).ok()?;
    file.rewind().ok()?;
    let find = |what: &[u8]| tail.windows(what.len()).rposition(|window| window == what);
    let number = |at: usize, bytes: usize| {
        let bytes = tail.get(at..at.checked_add(bytes)?)?;
        Some(bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    match find(END_64) {
        Some(at) => number(at + 32, 8),
        None => number(find(END)? + 10, 2),
    }
}

/// Calls `each` with the content of an entry of `size` bytes, window by window.
fn each_window(
    entry: &mut impl Read,
    size: u64,
    damaged: impl Fn(std::io::Error) -> Error,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut window = vec![0; size.clamp(1, WINDOW_BYTES) as usize];
    loop {
        let read = entry.read(&mut window).map_err(&damaged)?;
        match window.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => each(bytes)?,
        }
    }
}

/// Whether the elements lie one after another, the last dimension fastest.
fn is_contiguous(view: &View) -> bool {
    if view.shape.len() != view.strides.len() {
        return false;
    }
    let mut expected = 1u64;
    let mut follows = |(size, stride): (&u64, &u64)| {
        // A dimension of size 1 is never stepped through.
        let fits = *size == 1 || *stride == expected;
        expected = expected.saturating_mul(*size);
        fits
    };
    view.shape.contains(&0) || view.shape.iter().zip(&view.strides).rev().all(&mut follows)
}
