//! Some tensors of patches instead of all, and of patches that are elsewhere the blocks of these tensors alone.

use super::fit::counterparts_fit;
use crate::context::Context;
use crate::error::{Error, Obstacle};
use crate::format::tensor_table::TensorEntry;
use crate::patch::{Filter, Patch, Unreadable};
use lcepatch_files::fetched::Fetched;
use std::ops::Range;

/// How many bytes that nobody needs are fetched rather than asking once more.
const GAP_BYTES: u64 = 256 << 10;

/// How many bytes are asked for at once.
const WINDOW_BYTES: u64 = 4 << 20;

/// The same patches, of which only the tensors that `filter` accepts are used, by the names that the patches give them. Each patch
/// keeps its id; what it declares of its result holds of these tensors alone.
///
/// The blocks that are needed of a patch that is elsewhere are fetched to a temporary file. Memory: a few MiB.
///
/// # Errors
/// [Kind](crate::ErrorKind) `SelectionImpossible` for a glob that does not parse or matches no tensor of any patch, and for a patch of
/// which nothing is left; R21; I/O; cancellation.
pub fn choose(patches: Vec<Patch>, filter: &Filter, context: &Context<'_>) -> Result<Vec<Patch>, Error> {
    let accepts = filter.accepts()?;
    filter.must_match(patches.iter().flat_map(|patch| &patch.table().tensors).map(|entry| entry.name.as_str()))?;
    let choose = |patch: Patch| {
        counterparts_fit(&patch)?;
        let part = patch.part(filter, &accepts);
        if part.table().tensors.is_empty() {
            let reason = format!("of {} no tensor is left", patch.name().display());
            return Err(Obstacle::Empty { reason }.into());
        }
        if part.is_remote() { fetched(part, context) } else { Ok(part) }
    };
    patches.into_iter().map(choose).collect()
}

/// The same patch, of which only the tensors that `keeps` accepts are seen and used, which may be none.
///
/// # Errors
/// R21; I/O; cancellation.
pub(super) fn choose_entries(
    patch: Patch,
    keeps: impl Fn(&TensorEntry) -> bool,
    context: &Context<'_>,
) -> Result<Patch, Error> {
    counterparts_fit(&patch)?;
    let part = patch.part(&Filter::default(), keeps);
    if part.is_remote() { fetched(part, context) } else { Ok(part) }
}

/// The patch, with the blocks of its tensors in a temporary file.
fn fetched(patch: Patch, context: &Context<'_>) -> Result<Patch, Error> {
    let failed = |reason: std::io::Error| Unreadable { patch: patch.name().into(), reason: reason.into() };
    let front = patch.header_bytes();
    let blocks = patch.table().blocks().map(|(_, block)| front + block.offset..front + block.offset + block.bytes);
    let ranges = joined(blocks.collect());
    context.begin("download", ranges.iter().map(|range| range.end - range.start).sum());
    let here = Fetched::new(patch.reader().clone(), ranges.iter().cloned()).map_err(failed)?;
    for range in ranges {
        here.fetch(&range).map_err(failed)?;
        context.advance(range.end - range.start)?;
    }
    Ok(patch.fetched(here))
}

/// The ranges in order, those with small gaps joined, and none longer than [`WINDOW_BYTES`] that has several in it.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES && range.end <= last.start + WINDOW_BYTES => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
// Lists of one range are meant.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;
    use crate::apply::Edit;
    use crate::error::ErrorKind;
    use crate::testing::{Portability, applied, contents, floats, patch};

    #[test]
    fn ranges_are_joined_over_small_gaps_and_up_to_a_window() {
        let far = GAP_BYTES + 21;
        assert_eq!(joined(vec![20..20, 0..10, 10..20, far..far + 9]), [0..20, far..far + 9]);
        assert_eq!(joined(vec![0..10, GAP_BYTES..GAP_BYTES + 5]), [0..GAP_BYTES + 5]);
        let (half, whole) = (WINDOW_BYTES / 2, WINDOW_BYTES);
        assert_eq!(joined(vec![0..half, half..whole, whole..whole + 1]), [0..whole, whole..whole + 1]);
        assert_eq!(joined(vec![0..3 * whole]), vec![0..3 * whole], "a block is fetched as one");
    }

    #[test]
    fn of_a_patch_some_tensors_are_applied_from_what_was_fetched() {
        let base = floats(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]);
        let reference = floats(&[("a", &[1.0, 2.5]), ("b", &[3.5, 4.0])]);
        let whole = patch(&base, &reference, Portability::Portable);
        let bytes = whole.to_bytes().unwrap();
        let remote = Patch::from_source("p".as_ref(), bytes).unwrap();
        let only = |globs: &[&str]| Filter {
            include: globs.iter().map(|glob| (*glob).to_owned()).collect(),
            ..Filter::default()
        };
        let chosen = |patch: &Patch, globs: &[&str]| {
            choose(vec![patch.clone()], &only(globs), &Context::silent()).map(|mut patches| patches.remove(0))
        };
        for patch in [&whole, &remote] {
            let part = chosen(patch, &["b"]).unwrap();
            assert!(!part.is_remote() && part.id() == whole.id());
            let said = part.chosen().unwrap();
            assert_eq!((said.tensors, said.of, &said.include[..]), (1, 2, &["b".to_owned()][..]));
            let expected = floats(&[("a", &[1.0, 2.0]), ("b", &[3.5, 4.0])]);
            assert_eq!(applied(&base, &[Edit::to_reference(part)]), contents(&expected));
            assert!(chosen(patch, &["*"]).unwrap().chosen().is_none(), "that is all of it");
        }
        let refused = chosen(&whole, &["b", "c*"]).map_err(|error| (error.kind(), error.to_string())).unwrap_err();
        assert_eq!(refused.0, ErrorKind::SelectionImpossible);
        assert!(refused.1.contains("\"c*\""), "{}", refused.1);
    }
}
