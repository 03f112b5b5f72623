//! Results on disk: a new file, or a new directory.

use super::refusal::Refusal;
use super::rewrite::Rewrite;
use super::tensor::SPAN;
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile};
use crate::context::Context;
use crate::digest::{Digest, PartDigest, PartHasher, join};
use crate::durable::{Existing, Failed, NewDirectory, NewFile, journal, write_at};
use crate::error::Error;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements that were edited.
    pub edited: u64,
    /// Tensors that they are in.
    pub tensors: usize,
    /// Whether the result's digest is the one that the patch promises (known for one patch at alpha 1 and a full check).
    pub verified: bool,
    /// The digests of the tensors that were edited, by name, where the patch promises them.
    pub digests: BTreeMap<String, Digest>,
    /// Files of the base's directory that were left behind because they hold weights in another format.
    pub left_behind: Vec<String>,
}

/// Other formats of the same weights, which an edit of the safetensors files would leave stale.
const OTHER_WEIGHTS: [&str; 9] = [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf"];

/// Writes the result to `path`: a file for a base that is a file, a model directory otherwise. `before_commit` gets the
/// finished result before it is put in its place.
///
/// The base is not touched. After an error, `path` is what it was before.
///
/// # Errors
/// [`Failed`] for outputs; [`Refusal`] for numbers and digests; what decoding returns.
pub fn to_path(
    rewrite: &impl Rewrite,
    path: &Path,
    existing: Existing,
    before_commit: impl FnOnce(&Checkpoint, &Applied) -> Result<(), Error>,
    context: &Context<'_>,
) -> Result<Applied, Error> {
    let base = rewrite.base();
    context.begin("applying", base.bytes());
    if base.layout == Layout::File {
        if same_file(path, &base.path) {
            return Err(Refusal::SameFile { path: path.to_owned() }.into());
        }
        let new = NewFile::create(path, existing)?;
        let mut applied = Applied::default();
        write_weights(rewrite, &[(0, &new)], &mut applied, context)?;
        before_commit(&Checkpoint::open_files(path, Layout::File, &[new.temporary_path().to_owned()])?, &applied)?;
        new.commit()?;
        return Ok(applied);
    }
    let new = NewDirectory::create(path)?;
    let mut applied = Applied::default();
    let weights = base.files.iter().map(|file| new.temporary_path().join(file.name()));
    let files = weights.map(|path| NewFile::create(&path, Existing::Keep)).collect::<Result<Vec<_>, Failed>>()?;
    write_weights(rewrite, &files.iter().enumerate().collect::<Vec<_>>(), &mut applied, context)?;
    files.into_iter().try_for_each(NewFile::commit)?;
    applied.left_behind = carry_along(base, &new)?;
    before_commit(&Checkpoint::open(&result_root(base, new.temporary_path()))?, &applied)?;
    new.commit()?;
    Ok(applied)
}

/// Writes weight files of the base, by index, with the edits.
pub(super) fn write_weights(
    rewrite: &impl Rewrite,
    outputs: &[(usize, &NewFile)],
    applied: &mut Applied,
    context: &Context<'_>,
) -> Result<(), Error> {
    let mut digests = Vec::new();
    for (index, new) in outputs {
        let file = &rewrite.base().files[*index];
        new.file().set_len(file.bytes()).map_err(|e| Failed::io("write", new.path(), e))?;
        let work = work(rewrite, file, *index);
        let each = |work: &Work<'_>| match work {
            Work::Copy(range) => copy(file, range, new, context).map(|()| None),
            Work::Edit(tensor, part) => edit(rewrite, *tensor, part.clone(), new, context).map(Some),
        };
        let done = new.while_writing(|| work.par_iter().map(each).collect::<Result<Vec<_>, Error>>())?;
        let mut by_tensor: BTreeMap<&str, Vec<PartDigest>> = BTreeMap::new();
        for (work, done) in work.iter().zip(done) {
            if let (Work::Edit(tensor, _), Some((edited, digest))) = (work, done) {
                applied.edited += edited;
                by_tensor.entry(&tensor.info.name).or_default().extend(digest);
            }
        }
        applied.tensors += by_tensor.len();
        digests.extend(by_tensor.into_iter().map(|(name, parts)| (name.to_owned(), join(&parts))));
    }
    if rewrite.promise().is_some() {
        rewrite.keep_promise(&digests)?;
        applied.verified = true;
        applied.digests.extend(digests);
    }
    Ok(())
}

/// A part of a file: bytes to copy, or elements of a tensor to edit.
enum Work<'a> {
    Copy(Range<u64>),
    Edit(Tensor<'a>, Range<u64>),
}

/// The parts of `file`, which is that `index` of the base, in order; together they are the whole file.
fn work<'a>(rewrite: &impl Rewrite, file: &'a WeightFile, index: usize) -> Vec<Work<'a>> {
    let mut work = Vec::new();
    let mut copied = 0;
    for info in &file.tensors {
        if rewrite.changes(&info.name) {
            let tensor = Tensor { file, file_index: index, info };
            work.push(Work::Copy(copied..info.range.start));
            work.extend(rewrite.parts(tensor).into_iter().map(|part| Work::Edit(tensor, part)));
            copied = info.range.end;
        }
    }
    work.push(Work::Copy(copied..file.bytes()));
    work.retain(|work| !matches!(work, Work::Copy(range) if range.is_empty()));
    work
}

/// Writes elements of a tensor; returns how many were edited, and their digest if a promise is to be kept.
fn edit(
    rewrite: &impl Rewrite,
    tensor: Tensor<'_>,
    part: Range<u64>,
    new: &NewFile,
    context: &Context<'_>,
) -> Result<(u64, Option<PartDigest>), Error> {
    let (info, width) = (tensor.info, tensor.info.dtype.width().bytes() as u64);
    let mut hasher = rewrite.promise().map(|hash| match part == (0..info.elements()) {
        true => PartHasher::Whole(hash.hasher()),
        false => PartHasher::new(part.start * width, info.bytes(), SPAN * width),
    });
    let mut sink = |offset, bytes: &[u8]| {
        if let Some(hasher) = &mut hasher {
            hasher.update(bytes);
        }
        let written = write_at(new.file(), bytes, info.range.start + offset);
        written.map_err(|e| Failed::io("write", new.path(), e).into())
    };
    let edited = rewrite.rewrite(tensor, part.clone(), &mut sink, context)?;
    Ok((edited, hasher.map(PartHasher::finish)))
}

/// Copies bytes from file to file; the system may do it without passing them through this process.
fn copy(file: &WeightFile, range: &Range<u64>, new: &NewFile, context: &Context<'_>) -> Result<(), Error> {
    const PART_BYTES: u64 = 64 << 20;
    let mut from = File::open(&file.path).map_err(|e| Error::io("open", &file.path, e))?;
    let failed = |e| Failed::io("write", new.path(), e);
    let mut to = std::fs::OpenOptions::new().write(true).open(new.temporary_path()).map_err(failed)?;
    from.seek(SeekFrom::Start(range.start)).map_err(|e| Error::io("read", &file.path, e))?;
    to.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    let mut left = range.end - range.start;
    while left > 0 {
        let part = left.min(PART_BYTES);
        let copied = std::io::copy(&mut from.by_ref().take(part), &mut to).map_err(failed)?;
        if copied != part {
            return Err(Error::io("read", &file.path, std::io::ErrorKind::UnexpectedEof.into()));
        }
        left -= part;
        context.advance(part)?;
    }
    Ok(())
}

/// Copies what makes a directory loadable beside the weights: configuration, tokenizer, index. Returns what was left
/// behind. Of a base that is an index alone, only the index comes along.
fn carry_along(base: &Checkpoint, new: &NewDirectory) -> Result<Vec<String>, Error> {
    let (directory, only_index) = match &base.layout {
        Layout::Index { index } => (index.parent().unwrap_or(Path::new("")).to_owned(), index.file_name()),
        _ => (base.path.clone(), None),
    };
    let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
    let weights: Vec<String> = base.files.iter().map(WeightFile::name).collect();
    let mut left_behind = Vec::new();
    carry_folder(&directory, new.temporary_path(), &mut |name, top| {
        let text = name.to_string_lossy();
        if text == journal::FILE_NAME
            || only_index.is_some_and(|index| index != name)
            || (top && weights.iter().any(|weight| *weight == text))
        {
            return false;
        }
        let stale = OTHER_WEIGHTS.iter().any(|suffix| text.ends_with(suffix)) || text.ends_with(".safetensors");
        if stale {
            left_behind.push(text.into_owned());
        }
        !stale
    })?;
    left_behind.sort();
    Ok(left_behind)
}

/// Copies the files that `wanted` (given the name, and whether it is in the topmost folder), following links; hidden
/// folders, such as version control's, stay behind.
fn carry_folder(from: &Path, to: &Path, wanted: &mut impl FnMut(&std::ffi::OsStr, bool) -> bool) -> Result<(), Error> {
    fn walk(
        from: &Path,
        to: &Path,
        depth: usize,
        wanted: &mut impl FnMut(&std::ffi::OsStr, bool) -> bool,
    ) -> Result<(), Error> {
        const DEPTH_MAX: usize = 8;
        for entry in std::fs::read_dir(from).map_err(|e| Error::io("list", from, e))? {
            let name = entry.map_err(|e| Error::io("list", from, e))?.file_name();
            let (source, target) = (from.join(&name), to.join(&name));
            let metadata = std::fs::metadata(&source).map_err(|e| Error::io("read", &source, e))?;
            if metadata.is_dir() {
                if depth < DEPTH_MAX && !name.to_string_lossy().starts_with('.') && wanted(&name, false) {
                    std::fs::create_dir(&target).map_err(|e| Failed::io("create", &target, e))?;
                    walk(&source, &target, depth + 1, wanted)?;
                }
            } else if wanted(&name, depth == 0) {
                std::fs::copy(&source, &target).map_err(|e| Failed::io("write", &target, e))?;
                let sync = File::open(&target).and_then(|file| file.sync_all());
                sync.map_err(|e| Failed::io("sync", &target, e))?;
            }
        }
        Ok(())
    }
    walk(from, to, 0, wanted)
}

/// What to open in `directory` to get the result of a base that is not a single file.
fn result_root(base: &Checkpoint, directory: &Path) -> PathBuf {
    match &base.layout {
        Layout::Index { index } => directory.join(index.file_name().unwrap_or_default()),
        _ => directory.to_owned(),
    }
}

pub(super) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
