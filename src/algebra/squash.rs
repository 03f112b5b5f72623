//! A chain of two patches, as one patch.

use super::content::{Content, Element, Exact, Masks, Unread};
use super::draft::Draft;
use super::invert::known_roots;
use super::{Side, by_name, check_base, must_be_exact};
use crate::apply::{Edit, Plan, counterparts_fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::{Digest, Hasher};
use crate::edit::{Alpha, EditKind};
use crate::error::{Error, Obstacle};
use crate::format::block::encode::Portability;
use crate::format::block::{BLOCK_ELEMENTS, InMemory, Kept};
use crate::format::builder::TensorParts;
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Derived, Localization, Metadata};
use crate::format::tensor_table::{Counterparts, TensorEntry};
use crate::patch::Patch;

/// The exact patch from the base of `first` to the result of `second`, whose base is the result of `first`; both at alpha 1.
///
/// Two portable patches need no checkpoint; any others need the base of `first`. Memory: the content of one tensor, one of its blocks,
/// and the encoded blocks.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `AlgebraChain`, `AlgebraReduced`, `AlgebraNeedsBase`; a base that does not fit.
pub fn squash(first: &Edit, second: &Edit, base: Option<&Checkpoint>, context: &Context<'_>) -> Result<Patch, Error> {
    must_be_exact(first, context)?;
    must_be_exact(second, context)?;
    check_base(first, "squash", base, context)?;
    if base.is_none() {
        check_base(second, "squash", None, context)?;
        counterparts_fit(&first.patch)?;
        counterparts_fit(&second.patch)?;
    }
    context.begin("squashing", 0);
    let no_chain = |tensor: &TensorEntry| {
        let tensor = tensor.name.clone();
        Error::from(Obstacle::Chain {
            first: first.patch.name().to_owned(),
            second: second.patch.name().to_owned(),
            tensor,
        })
    };
    let portability = if base.is_some() { Portability::NeedsBase } else { Portability::Portable };
    let mut draft = Draft::new(portability, BLOCK_LOG2);
    for side in by_name(&first.patch.table().tensors, &second.patch.table().tensors) {
        let (entry, content, result) = match side {
            Side::One(entry) => {
                let result = entry.counterparts.map(|tensor| tensor.result);
                (entry, read(first, entry, base)?, result)
            }
            Side::Other(entry) => {
                if let Some(base) = base {
                    let tensor = base.tensor(&entry.name).ok_or_else(|| no_chain(entry))?;
                    if tensor.digest(context)? != entry.base_digest {
                        return Err(no_chain(entry));
                    }
                }
                let result = entry.counterparts.map(|tensor| tensor.result);
                (entry, read(second, entry, base)?, result)
            }
            Side::Both(in_first, in_second) => {
                if (in_first.dtype, &in_first.shape) != (in_second.dtype, &in_second.shape) {
                    return Err(no_chain(in_first));
                }
                let (content, digest_between) = match base {
                    Some(base) => chained((first, in_first), (second, in_second), base, context)?,
                    None => {
                        let needs_base =
                            || Obstacle::NeedsBase { patch: first.patch.name().to_owned(), verb: "squash" };
                        let digest_between = in_first.counterparts.ok_or_else(needs_base)?.result;
                        (joined(read(first, in_first, None)?, read(second, in_second, None)?), digest_between)
                    }
                };
                let Some(content) = content.filter(|_| digest_between == in_second.base_digest) else {
                    return Err(no_chain(in_first));
                };
                (in_first, content, in_second.counterparts.map(|tensor| tensor.result))
            }
        };
        // The patch selects every element that differs, so its result equals its reference.
        let counterparts = result.filter(|_| base.is_none()).map(|result| Counterparts {
            reference: result,
            result,
            inverse_result: entry.base_digest,
        });
        let parts = TensorParts { counterparts, ..TensorParts::of(entry) };
        draft.add(parts, &differing(content), base.and_then(|base| base.tensor(&entry.name)));
    }
    let ids = [first, second].map(|edit| edit.patch.id().to_string()).to_vec();
    let metadata = Metadata {
        localization: Localization { method: "squash".to_owned(), ..Localization::default() },
        derived: Some(Derived { verb: "squash".to_owned(), patches: ids }),
        base: first.patch.metadata().base.clone(),
        license: first.patch.metadata().license.clone(),
        ..Metadata::default()
    };
    draft.finish(metadata, known_roots, base, context)
}

/// Decodes the tensor `entry` of a patch.
fn read(edit: &Edit, entry: &TensorEntry, base: Option<&Checkpoint>) -> Result<Exact, Error> {
    Ok(Content::read(edit, entry, "squash", base)?.exact(edit, "squash")?)
}

/// The elements whose bits differ. The second patch may undo what the first one does, and such elements are left out.
fn differing(content: Exact) -> Exact {
    Exact { masks: Masks::default(), ..content.retain(|element| element.base != element.reference) }
}

/// Joins the contents of one tensor in two patches; `None` if the second one's base is not what the first one gives.
fn joined(first: Exact, second: Exact) -> Option<Exact> {
    let (mut firsts, mut seconds) = (first.elements.into_iter().peekable(), second.elements.into_iter().peekable());
    let mut elements = Vec::new();
    let index = |element: &Element| element.index;
    while let Some(next) = firsts.peek().map(index).into_iter().chain(seconds.peek().map(index)).min() {
        let of_first = firsts.next_if(|element| element.index == next);
        let of_second = seconds.next_if(|element| element.index == next);
        let joined = match (of_first, of_second) {
            (Some(first), Some(second)) if first.reference != second.base => return None,
            (Some(first), Some(second)) => Element { reference: second.reference, ..first },
            (first, second) => first.or(second)?,
        };
        elements.push(Element { kept: Kept::BOTH, before: 0, ..joined });
    }
    Some(Exact { elements, masks: Masks::default() })
}

/// Joins the contents of a tensor that both patches change. Returns them with the tensor's digest between the two patches. The content is
/// `None` if the second patch cannot be decoded on the result of the first, or is not for it.
///
/// The first patch's result is made one block at a time, and the second patch is decoded on each block while it is in memory.
fn chained(
    (first, in_first): (&Edit, &TensorEntry),
    (second, in_second): (&Edit, &TensorEntry),
    base: &Checkpoint,
    context: &Context<'_>,
) -> Result<(Option<Exact>, Digest), Error> {
    let dtype = in_first.dtype;
    let width = dtype.width().bytes() as u64;
    let mut of_second = Content::default();
    let mut undecodable = None;
    let mut hasher = Hasher::default();
    result_blocks(first, base, in_first, context, |index, bytes| {
        hasher.update(bytes);
        let span = index * BLOCK_ELEMENTS..index * BLOCK_ELEMENTS + bytes.len() as u64 / width;
        // The second patch's blocks may be smaller, but this block is a whole number of them.
        for block in &in_second.blocks {
            let elements = second.patch.table().elements_of(in_second, block);
            let [start, end] = [elements.start, elements.end].map(|at| at.saturating_sub(span.start) * width);
            let block_bytes = bytes.get(start as usize..end as usize).filter(|_| span.contains(&elements.start));
            if let (Some(bytes), None) = (block_bytes, &undecodable) {
                match of_second.extend(second, in_second, block, "squash", Some(&InMemory { dtype, bytes })) {
                    Err(Unread { of_base: false, error }) => return Err(error),
                    Err(Unread { error, .. }) => undecodable = Some(error),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    })?;
    let digest_between = hasher.finish();
    // If the second patch is for another base, that is why it cannot be decoded, and the caller says so. On its own base, it is damaged.
    match undecodable {
        Some(error) if digest_between == in_second.base_digest => return Err(error),
        Some(_) => return Ok((None, digest_between)),
        None => {}
    }
    let content = joined(read(first, in_first, Some(base))?, of_second.exact(second, "squash")?);
    Ok((content, digest_between))
}

/// Applies the patch of `edit` to one tensor of its base at alpha 1, whatever alpha `edit` has. Calls `each` with the index and the bytes
/// of each block of [`BLOCK_ELEMENTS`] of the result.
pub(super) fn result_blocks(
    edit: &Edit,
    base: &Checkpoint,
    entry: &TensorEntry,
    context: &Context<'_>,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(tensor) = base.tensor(&entry.name) else { return Ok(()) };
    let at_one = EditKind::Interpolate(Alpha::ONE);
    let other;
    let edit = if edit.kind == at_one {
        edit
    } else {
        other = Edit { patch: edit.patch.clone(), kind: at_one };
        &other
    };
    let plan = Plan::of_own_base(base, std::slice::from_ref(edit), None);
    let block_bytes = BLOCK_ELEMENTS as usize * entry.dtype.width().bytes();
    let mut buffer = Vec::new();
    let mut index = 0;
    let mut sink = |_: u64, bytes: &[u8]| {
        // No part reaches from one block into the next.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::error::ErrorKind;
    use crate::testing::{applied, checkpoint, contents, floats, portable};

    /// Three checkpoints. From the first to the third, one weight goes its way in two steps, and one goes there and back.
    fn three() -> [Checkpoint; 3] {
        [
            floats(&[("a", &[1.0, 2.0, 3.0]), ("b", &[4.0]), ("c", &[5.0])]),
            floats(&[("a", &[1.0, 2.5, 3.5]), ("b", &[4.5]), ("c", &[5.0])]),
            floats(&[("a", &[1.5, 2.0, 3.75]), ("b", &[4.5]), ("c", &[6.0])]),
        ]
    }

    #[test]
    fn a_squashed_chain_does_what_its_patches_do_one_after_the_other() {
        let [a, b, c] = three();
        let (first, second) = (portable(&a, &b, 1.0), portable(&b, &c, 1.0));
        for base in [None, Some(&a)] {
            let squashed = squash(&first, &second, base, &Context::silent()).unwrap();
            let selected: Vec<_> =
                squashed.table().tensors.iter().map(|entry| (entry.name.as_str(), entry.selected)).collect();
            assert_eq!(selected, [("a", 2), ("b", 1), ("c", 1)], "what was taken back is not in it");
            assert_eq!(applied(&a, &[Edit::to_reference(squashed)]), contents(&c));
        }
    }

    /// A checkpoint with dtypes whose entries are not what is edited: half a byte, and eight bytes.
    fn packed(byte: u64) -> Checkpoint {
        let bytes = |n: u64| (0..n).map(|at| (at * byte) & 0xff).collect::<Vec<u64>>();
        checkpoint(&[
            ("c".to_owned(), Dtype::C64, vec![10], bytes(80)),
            ("f".to_owned(), Dtype::F4, vec![16], bytes(8)),
        ])
    }

    #[test]
    fn packed_and_complex_numbers_are_squashed_byte_by_byte() {
        let [a, b, c] = [3, 5, 7].map(packed);
        let (first, second) = (portable(&a, &b, 1.0), portable(&b, &c, 1.0));
        for base in [None, Some(&a)] {
            let squashed = squash(&first, &second, base, &Context::silent()).unwrap();
            assert_eq!(applied(&a, &[Edit::to_reference(squashed)]), contents(&c));
        }
    }

    #[test]
    fn patches_that_are_no_chain_are_refused() {
        let [a, b, c] = three();
        for base in [None, Some(&a)] {
            let refused = squash(&portable(&a, &b, 1.0), &portable(&a, &c, 1.0), base, &Context::silent());
            assert_eq!(refused.map_err(|error| error.kind()).err(), Some(ErrorKind::AlgebraChain));
        }
    }
}
