//! A chain of two patches, as one patch.

use super::content::{Content, Element, Exact, Masks, Unread};
use super::draft::Draft;
use super::invert::known_roots;
use super::{Side, by_name, check_base, common_hash, must_be_exact};
use crate::apply::{Edit, Plan, counterparts_fit};
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
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
    let hash = common_hash(&[first, second])?;
    check_base(first, "squash", base, context)?;
    if base.is_none() {
        check_base(second, "squash", None, context)?;
        counterparts_fit(&first.patch)?;
        counterparts_fit(&second.patch)?;
    }
    context.begin("squashing", 0);
    let broken = |tensor: &TensorEntry| {
        let tensor = tensor.name.clone();
        Error::from(Obstacle::Chain {
            first: first.patch.name().to_owned(),
            second: second.patch.name().to_owned(),
            tensor,
        })
    };
    let portability = if base.is_some() { Portability::NeedsBase } else { Portability::Portable };
    let mut draft = Draft::new(portability, hash, BLOCK_LOG2);
    for side in by_name(&first.patch.table().tensors, &second.patch.table().tensors) {
        let (entry, content, result) = match side {
            Side::One(entry) => {
                let result = entry.counterparts.map(|tensor| tensor.result);
                (entry, read(first, entry, base)?, result)
            }
            Side::Other(entry) => {
                if let Some(base) = base {
                    let tensor = base.tensor(&entry.name).ok_or_else(|| broken(entry))?;
                    if tensor.digest(hash, context)? != entry.base_digest {
                        return Err(broken(entry));
                    }
                }
                let result = entry.counterparts.map(|tensor| tensor.result);
                (entry, read(second, entry, base)?, result)
            }
            Side::Both(one, other) => {
                if (one.dtype, &one.shape) != (other.dtype, &other.shape) {
                    return Err(broken(one));
                }
                let (content, between) = match base {
                    Some(base) => chained(first, one, second, other, base, context)?,
                    None => {
                        let needs_base =
                            || Obstacle::NeedsBase { patch: first.patch.name().to_owned(), verb: "squash" };
                        let between = one.counterparts.ok_or_else(needs_base)?.result;
                        (joined(read(first, one, None)?, read(second, other, None)?), Some(between))
                    }
                };
                let Some(content) = content.filter(|_| between == Some(other.base_digest)) else {
                    return Err(broken(one));
                };
                (one, content, other.counterparts.map(|tensor| tensor.result))
            }
        };
        // All that differs is selected, so that the result is the reference.
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

/// The elements whose bits differ: the second patch may undo what the first does.
fn differing(content: Exact) -> Exact {
    Exact { masks: Masks::default(), ..content.retain(|element| element.base != element.reference) }
}

/// The content of the chain of `one` and `two`; `None` if the base of `two` is not what `one` gives.
fn joined(one: Exact, two: Exact) -> Option<Exact> {
    let (mut ones, mut twos) = (one.elements.into_iter().peekable(), two.elements.into_iter().peekable());
    let mut elements = Vec::new();
    let index = |element: Option<&Element>| element.map_or(u64::MAX, |element| element.index);
    while let Some(next) = [index(ones.peek()), index(twos.peek())].into_iter().min().filter(|next| *next < u64::MAX) {
        let one = ones.next_if(|element| element.index == next);
        let two = twos.next_if(|element| element.index == next);
        let joined = match (one, two) {
            (Some(one), Some(two)) if one.reference != two.base => return None,
            (Some(one), Some(two)) => Element { reference: two.reference, ..one },
            (one, two) => one.or(two)?,
        };
        elements.push(Element { kept: Kept::BOTH, before: 0, ..joined });
    }
    Some(Exact { elements, masks: Masks::default() })
}

/// The content of the chain of a tensor that both patches change, and the tensor's digest between the two. The content is `None` if
/// `second` makes no sense there.
fn chained(
    first: &Edit,
    one: &TensorEntry,
    second: &Edit,
    other: &TensorEntry,
    base: &Checkpoint,
    context: &Context<'_>,
) -> Result<(Option<Exact>, Option<Digest>), Error> {
    let mut two = Content::default();
    // A second patch for another base need not be decodable on what is between. The digest will tell if that is the reason.
    let mut undecodable = None;
    let mut hasher = first.patch.table().roots.hash.hasher();
    let width = one.dtype.width().bytes() as u64;
    result_blocks(first, base, one, context, |index, bytes| {
        hasher.update(bytes);
        let span = index * BLOCK_ELEMENTS..index * BLOCK_ELEMENTS + bytes.len() as u64 / width;
        // The second patch's blocks may be smaller, but this block is a whole number of them.
        for block in &other.blocks {
            let elements = second.patch.table().elements_of(other, block);
            let [start, end] = [elements.start, elements.end].map(|at| at.saturating_sub(span.start) * width);
            let between = bytes.get(start as usize..end as usize).filter(|_| span.contains(&elements.start));
            if let (Some(between), None) = (between, &undecodable) {
                match two.extend(second, other, block, "squash", Some(&InMemory { dtype: one.dtype, bytes: between })) {
                    Err(Unread { of_base: false, error }) => return Err(error),
                    Err(Unread { error, .. }) => undecodable = Some(error),
                    Ok(()) => {}
                }
            }
        }
        Ok(())
    })?;
    let between = hasher.finish();
    match undecodable {
        Some(error) if between == other.base_digest => return Err(error),
        Some(_) => return Ok((None, Some(between))),
        None => {}
    }
    Ok((joined(read(first, one, Some(base))?, two.exact(second, "squash")?), Some(between)))
}

/// Calls `each` with the index and the bytes of each block of [`BLOCK_ELEMENTS`] of a tensor, as the patch gives it at alpha 1, whatever
/// the alpha of `edit`.
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
        // The parts that arrive do not straddle blocks.
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
