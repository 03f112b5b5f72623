//! Rewrites one part of a tensor, to a new file or to the journal of an edit in place, and hashes the result.

use super::rewrite::{Edits, Rewrite};
use super::run::Applied;
use super::tensor::SPAN;
use super::undo::{UndoBlocks, UndoPart};
use crate::checkpoint::{Tensor, WeightFile};
use crate::context::Context;
use crate::digest::{Digest, Hasher, PartDigest, PartHasher, join};
use crate::durable::{Failed, NewFile, Segments, write_at};
use crate::error::Error;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Where a rewritten part goes.
pub(super) enum Output<'o> {
    /// Into a new file, at the part's offset in the base's file.
    File(&'o NewFile),
    /// To the journal of an edit in place. `file` is the number of the edited file in the journal.
    Journal { file: u32, segments: &'o mut Segments },
}

/// What rewriting a part yields.
pub(super) struct Part {
    /// The number of edited weights.
    pub edited: u64,
    /// The BLAKE3 digest of the result's bytes.
    pub result: PartDigest,
    /// The blocks of the undo patch, if it was asked for.
    pub undo: Option<UndoPart>,
}

/// Rewrites a part of a tensor. `with_undo` also collects the blocks of the undo patch.
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
        true => PartHasher::Whole(Hasher::default()),
        false => PartHasher::new(bytes_of(part.start), info.bytes(), bytes_of(SPAN)),
    };
    let mut result_hasher = hasher();
    let mut undo = with_undo.then(|| UndoBlocks::new(info.dtype, hasher()));
    let mut each = |range: Range<u64>, bytes: &mut [u8], edits: Edits<'_>| {
        let place = info.range().start + bytes_of(range.start);
        if with_undo || matches!(output, Output::Journal { .. }) {
            edits.with_list(width, bytes, |base, edits| {
                if let Some(undo) = &mut undo {
                    undo.add(range.start, base, edits);
                }
                if let Output::Journal { file, segments } = &mut output {
                    segments.add(*file, place, width, base, edits);
                }
            });
        }
        edits.make(width, bytes);
        result_hasher.update(bytes);
        match output {
            Output::File(new) => {
                Ok(write_at(new.file(), bytes, place).map_err(|e| Failed::io("write", new.path(), e))?)
            }
            Output::Journal { .. } => Ok(()),
        }
    };
    let edited = rewrite.rewrite(tensor, part.clone(), &mut each, context)?;
    Ok(Part { edited, result: result_hasher.finish(), undo: undo.map(UndoBlocks::finish) })
}

/// What rewriting tensors yields.
#[derive(Default)]
pub(super) struct Rewritten {
    /// The number of edited weights.
    pub edited: u64,
    /// The BLAKE3 digests of the result's tensors, by name.
    pub digests: BTreeMap<String, Digest>,
    /// The parts of the undo patch, by the tensor's name.
    pub undo: BTreeMap<String, Vec<UndoPart>>,
}

impl Rewritten {
    /// Adds tensors, each with its name and with all of its parts in order.
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

    /// The summary for the caller. It holds only once [`Rewritten::read_back`] has passed.
    pub fn applied(&self) -> Applied {
        let (edited, digests) = (self.edited, self.digests.clone());
        Applied { edited, tensors: digests.len(), digests, ..Applied::default() }
    }

    /// Reads the rewritten tensors again from `result`, the file as it now is on the disk, with the layout of `base`.
    ///
    /// # Errors
    /// [`Failed::ReadBack`] for a tensor that is not what was written; I/O; cancellation.
    pub fn read_back(&self, base: &WeightFile, result: &WeightFile, context: &Context<'_>) -> Result<(), Error> {
        let rewritten = base.tensors().iter().filter_map(|info| Some((info, self.digests.get(&info.name)?)));
        let rewritten: Vec<_> = rewritten.collect();
        context.begin("reading back", rewritten.iter().map(|(info, _)| info.bytes()).sum());
        rewritten.par_iter().try_for_each(|(info, expected)| {
            let tensor = Tensor { file: result, file_index: 0, info };
            if tensor.digest(context)? != **expected {
                return Err(Failed::ReadBack { path: result.path().to_owned(), tensor: info.name.clone() }.into());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::{Plan, PlanOptions};
    use crate::testing::{floats, portable};

    #[test]
    fn a_rewritten_part_has_the_digest_of_the_results_bytes() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let (context, edits) = (Context::silent(), [portable(&base, &reference, 1.0)]);
        let plan = Plan::check(&base, &edits, &PlanOptions::default(), &context).unwrap();
        let mut segments = Segments::default();
        let output = Output::Journal { file: 0, segments: &mut segments };
        let part = rewrite_part(&plan, base.tensor("w").unwrap(), 0..2, output, false, &context).unwrap();
        assert!(part.undo.is_none());
        let mut rewritten = Rewritten::default();
        rewritten.add([("w", part)]);
        let result = reference.tensor("w").unwrap().digest(&context).unwrap();
        assert_eq!(rewritten.digests, BTreeMap::from([("w".to_owned(), result)]));
        assert_eq!((rewritten.applied().edited, rewritten.applied().tensors), (1, 1));
    }
}
