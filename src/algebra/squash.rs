//! A chain of two patches as one.

use super::content::Content;
use super::draft::{Description, Draft};
use super::invert::known_roots;
use super::{Obstacle, Side, by_name, check_base, common_hash, must_be_exact};
use crate::apply::{Edit, Plan};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
use crate::error::Error;
use crate::format::Patch;
use crate::format::metadata::{Derived, Localization, Metadata};
use crate::format::tensor_table::{Counterparts, TensorEntry};
use crate::mask::BLOCK_ELEMENTS;
use crate::patch::BaseBlock;
use crate::patch::gather::Portability;

/// The patch from the base of `first` to the result of `second`, which is for the result of `first`; both at alpha 1,
/// exactly.
///
/// Two portable patches need nothing else; any other ones need the base of `first`. Memory: the content of one tensor,
/// a block of it, and what is coded.
///
/// # Errors
/// [`Obstacle::Chain`], [`Obstacle::Reduced`], [`Obstacle::NeedsBase`]; a base that does not fit.
pub fn squash(first: &Edit, second: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Patch, Error> {
    must_be_exact(first)?;
    must_be_exact(second)?;
    let hash = common_hash(&[first, second])?;
    check_base(first, "squash", base, context)?;
    if base.is_none() && !second.patch.metadata.portable {
        return Err(Obstacle::NeedsBase { patch: second.path.clone(), verb: "squash" }.into());
    }
    context.begin("squashing", 0);
    let broken = |tensor: &TensorEntry| {
        let tensor = tensor.name.clone();
        Error::from(Obstacle::Chain { first: first.path.clone(), second: second.path.clone(), tensor })
    };
    let portability = if base.is_some() { Portability::NeedsBase } else { Portability::Portable };
    let mut draft = Draft::new(portability, hash);
    for side in by_name(&first.patch.table.tensors, &second.patch.table.tensors) {
        let (entry, content, result) = match side {
            Side::One(entry) => {
                let result = entry.counterparts.map(|there| there.result);
                (entry, Content::read(first, entry, "squash", base)?, result)
            }
            Side::Other(entry) => {
                if let Some(base) = base {
                    let tensor = base.tensor(&entry.name).ok_or_else(|| broken(entry))?;
                    if tensor.digest(hash, context)? != entry.base_digest {
                        return Err(broken(entry));
                    }
                }
                let result = entry.counterparts.map(|there| there.result);
                (entry, Content::read(second, entry, "squash", base)?, result)
            }
            Side::Both(one, other) => {
                if (one.dtype, &one.shape) != (other.dtype, &other.shape) {
                    return Err(broken(one));
                }
                let (content, between) = match base {
                    Some(base) => chained(first, one, second, other, base, context)?,
                    None => {
                        let needs_base = || Obstacle::NeedsBase { patch: first.path.clone(), verb: "squash" };
                        let between = one.counterparts.ok_or_else(needs_base)?.result;
                        let two = Content::read(second, other, "squash", None)?;
                        (joined(Content::read(first, one, "squash", None)?, two), Some(between))
                    }
                };
                let Some(content) = content.filter(|_| between == Some(other.base_digest)) else {
                    return Err(broken(one));
                };
                (one, content, other.counterparts.map(|there| there.result))
            }
        };
        // All that differs is selected, so that the result is the reference.
        let counterparts = result.filter(|_| base.is_none()).map(|result| Counterparts {
            reference: result,
            result,
            inverse_result: entry.base_digest,
        });
        let description = Description { counterparts, ..Description::of(entry) };
        draft.add(description, &differing(content), base.and_then(|base| base.tensor(&entry.name)));
    }
    let ids = [first, second].map(|edit| edit.patch.id.to_string()).to_vec();
    let metadata = Metadata {
        localization: Localization { method: "squash".to_owned(), ..Localization::default() },
        derived: Some(Derived { verb: "squash".to_owned(), patches: ids }),
        base: first.patch.metadata.base.clone(),
        license: first.patch.metadata.license.clone(),
        ..Metadata::default()
    };
    draft.finish(metadata, known_roots, base, context)
}

/// Elements whose bits differ: a second patch may have taken back what the first did.
fn differing(content: Content) -> Content {
    let places: Vec<usize> =
        (0..content.indices.len()).filter(|at| content.base[*at] != content.reference[*at]).collect();
    let content = content.part(&places);
    Content { has_masks: false, has_before: false, base_is_unpruned: false, ..content }
}

/// The content of `one`, then `two`; none if `two` is not for what `one` gives.
fn joined(one: Content, two: Content) -> Option<Content> {
    let mut out = Content::default();
    let (mut a, mut b) = (0, 0);
    while a < one.indices.len() || b < two.indices.len() {
        let index = |content: &Content, at: usize| content.indices.get(at).copied().unwrap_or(u64::MAX);
        let (index_a, index_b) = (index(&one, a), index(&two, b));
        let (base, reference) = match index_a.cmp(&index_b) {
            std::cmp::Ordering::Less => (one.base[a], one.reference[a]),
            std::cmp::Ordering::Greater => (two.base[b], two.reference[b]),
            std::cmp::Ordering::Equal if one.reference[a] != two.base[b] => return None,
            std::cmp::Ordering::Equal => (one.base[a], two.reference[b]),
        };
        out.indices.push(index_a.min(index_b));
        out.base.push(base);
        out.reference.push(reference);
        out.kept.push(crate::patch::Kept::BOTH);
        a += usize::from(index_a <= index_b);
        b += usize::from(index_b <= index_a);
    }
    out.before = vec![0; out.indices.len()];
    Some(out)
}

/// The joined content of a tensor that both change, and the digest of it between the two.
fn chained(
    first: &Edit,
    one: &TensorEntry,
    second: &Edit,
    other: &TensorEntry,
    base: &Checkpoint,
    context: &Context<'_>,
) -> Result<(Option<Content>, Option<Digest>), Error> {
    let mut two = Content::default();
    let mut hasher = first.patch.table.roots.hash.hasher();
    let width = one.dtype.width().bytes() as u64;
    result_blocks(first, base, one, context, |index, bytes| {
        hasher.update(bytes);
        let span = index * BLOCK_ELEMENTS..index * BLOCK_ELEMENTS + bytes.len() as u64 / width;
        // The second patch's blocks may be smaller; the size of ours is a multiple of theirs.
        for block in &other.blocks {
            let own = crate::apply::fit::block_elements(second.patch.table.block_log2, block.index, other.elements());
            if span.contains(&own.start) {
                let [start, end] = [own.start, own.end].map(|at| ((at - span.start) * width) as usize);
                let between = BaseBlock::held(one.dtype, &bytes[start..end]);
                two.extend(second, other, block, "squash", Some(&between))?;
            }
        }
        Ok(())
    })?;
    let content = joined(Content::read(first, one, "squash", Some(base))?, two);
    Ok((content, Some(hasher.finish())))
}

/// Calls `each` with the blocks of [`BLOCK_ELEMENTS`] of a tensor as `edit` makes it at alpha 1.
pub(super) fn result_blocks(
    edit: &Edit,
    base: &Checkpoint,
    entry: &TensorEntry,
    context: &Context<'_>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(tensor) = base.tensor(&entry.name) else { return Ok(()) };
    let plan = Plan::of_own_base(base, std::slice::from_ref(edit));
    let block_bytes = BLOCK_ELEMENTS as usize * entry.dtype.width().bytes();
    let mut buffer = Vec::new();
    let mut index = 0;
    let mut sink = |_: u64, bytes: &[u8]| {
        // Windows do not straddle blocks.
        buffer.extend_from_slice(bytes);
        if buffer.len() == block_bytes {
            each(index, &buffer)?;
            buffer.clear();
            index += 1;
        }
        Ok(())
    };
    plan.edit_tensor(tensor, &mut sink, context)?;
    if buffer.is_empty() { Ok(()) } else { each(index, &buffer) }
}
