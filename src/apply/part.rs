//! One part of a tensor through its rewrite: to a new file or to the journal of an edit in place, hashed on the way.

use super::rewrite::Rewrite;
use super::run::Applied;
use super::tensor::SPAN;
use super::undo::UndoBlocks;
use crate::checkpoint::{Checkpoint, Tensor, WeightFile};
use crate::context::Context;
use crate::digest::{ContentHash, Digest, PartDigest, PartHasher, join};
use crate::durable::{Failed, NewFile, Segments, write_at};
use crate::error::Error;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Where a rewritten part goes.
pub(super) enum Output<'o> {
    /// Into a new file, at the place where the base has it.
    File(&'o NewFile),
    /// To the journal of an edit in place, of which the file is number `file`.
    Journal { file: u32, segments: &'o mut Segments },
}

/// What is known of a part that was rewritten.
pub(super) struct Part {
    /// Weights that were edited.
    pub edited: u64,
    /// The digest of the result's bytes, by BLAKE3.
    pub result: PartDigest,
    /// What leads back to the base, if that was asked for.
    pub undo: Option<UndoBlocks>,
}

/// Rewrites a part of a tensor; `with_undo` also keeps what leads back.
///
/// # Errors
/// What [`Rewrite::rewrite`] returns; [`Failed::Io`].
pub(super) fn rewrite_part(
    rewrite: &impl Rewrite,
    tensor: Tensor<'_>,
    part: Range<u64>,
    mut output: Output<'_>,
    with_undo: bool,
    context: &Context<'_>,
) -> Result<Part, Error> {
    let (info, width) = (tensor.info, tensor.info.dtype.width());
    let bytes_of = |elements: u64| elements * width.bytes() as u64;
    let hasher = || match part == (0..info.elements()) {
        true => PartHasher::Whole(ContentHash::Blake3.hasher()),
        false => PartHasher::new(bytes_of(part.start), info.bytes(), bytes_of(SPAN)),
    };
    let mut of_result = hasher();
    let mut undo = with_undo.then(|| UndoBlocks::new(info.dtype, hasher()));
    let mut each = |range: Range<u64>, bytes: &mut [u8], edits: &[(u32, u64)]| {
        let place = info.range.start + bytes_of(range.start);
        if let Some(undo) = &mut undo {
            undo.add(range.start, bytes, edits);
        }
        if let Output::Journal { file, segments } = &mut output {
            segments.add(*file, place, width, bytes, edits);
        }
        width.store_at(bytes, edits);
        of_result.update(bytes);
        match output {
            Output::File(new) => {
                Ok(write_at(new.file(), bytes, place).map_err(|e| Failed::io("write", new.path(), e))?)
            }
            Output::Journal { .. } => Ok(()),
        }
    };
    let edited = rewrite.rewrite(tensor, part.clone(), &mut each, context)?;
    Ok(Part { edited, result: of_result.finish(), undo })
}

/// What is known of the tensors that were rewritten.
#[derive(Default)]
pub(super) struct Rewritten {
    /// Weights that were edited.
    pub edited: u64,
    /// The digests of the result's bytes, by BLAKE3 and by name.
    pub digests: BTreeMap<String, Digest>,
    /// What leads back to the base, by name.
    pub undo: BTreeMap<String, Vec<UndoBlocks>>,
}

impl Rewritten {
    /// Takes in all parts of some tensors, in order.
    pub fn add<'t>(&mut self, parts: impl IntoIterator<Item = (&'t str, Part)>) {
        let mut results: BTreeMap<&str, Vec<PartDigest>> = BTreeMap::new();
        for (name, part) in parts {
            self.edited += part.edited;
            results.entry(name).or_default().push(part.result);
            if let Some(undo) = part.undo {
                self.undo.entry(name.to_owned()).or_default().push(undo);
            }
        }
        self.digests.extend(results.into_iter().map(|(name, parts)| (name.to_owned(), join(&parts))));
    }

    /// What was written, once it has been read back.
    pub fn applied(&self) -> Applied {
        let (edited, digests) = (self.edited, self.digests.clone());
        Applied { edited, tensors: digests.len(), digests, ..Applied::default() }
    }

    /// Reads the rewritten tensors of `result` again, which is the file at `path` as it now is, with the layout of `base`.
    ///
    /// # Errors
    /// [`Failed::ReadBack`] for one that is not what was written; I/O; cancellation.
    pub fn read_back(&self, base: &WeightFile, result: &WeightFile, context: &Context<'_>) -> Result<(), Error> {
        let here = base.tensors.iter().filter_map(|info| Some((info, self.digests.get(&info.name)?)));
        let here: Vec<_> = here.collect();
        context.begin("reading back", here.iter().map(|(info, _)| info.bytes()).sum());
        here.par_iter().try_for_each(|(info, expected)| {
            let tensor = Tensor { file: result, file_index: 0, info };
            if tensor.digest(ContentHash::Blake3, context)? != **expected {
                return Err(Failed::ReadBack { path: result.path.clone(), tensor: info.name.clone() }.into());
            }
            Ok(())
        })
    }
}

/// The digests of some tensors of a checkpoint, made with `hash`: those that are known by BLAKE3, or computed from their bytes.
///
/// # Errors
/// Cancellation.
pub(super) fn digests_by(
    hash: ContentHash,
    known: &BTreeMap<String, Digest>,
    result: &Checkpoint,
    context: &Context<'_>,
) -> Result<BTreeMap<String, Digest>, Error> {
    if hash == ContentHash::Blake3 {
        return Ok(known.clone());
    }
    let tensors = known.keys().filter_map(|name| result.tensor(name));
    tensors.map(|tensor| Ok((tensor.info.name.clone(), tensor.digest(hash, context)?))).collect()
}
