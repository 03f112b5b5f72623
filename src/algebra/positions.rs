//! Which elements a patch selects.

use super::{check_base, must_be_justified};
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::{Error, Obstacle};
use crate::format::block::{BaseElements, Streams};
use crate::patch::{Filter, Patch, TensorBlock};

/// The flat indices of the elements of `tensor` that a patch selects, ascending; None if it does not change the tensor.
///
/// Where positions are coded without the base, none is needed. Memory: 8 bytes for each selected element, and a block.
///
/// # Errors
/// [Kind](crate::ErrorKind) `AlgebraNeedsBase`, `AlgebraSelected`; a base that does not fit; R18 to R20.
pub fn positions(
    patch: &Patch,
    tensor: &str,
    base: Option<&Checkpoint>,
    context: &Context<'_>,
) -> Result<Option<Vec<u64>>, Error> {
    // Nothing else of the base has to fit.
    let patch = patch.part(&Filter::default(), |entry| entry.name == tensor);
    let Some(entry) = patch.table().tensors.iter().find(|entry| entry.name == tensor) else { return Ok(None) };
    let edit = Edit::to_reference(patch.clone());
    match base {
        Some(_) => check_base(&edit, "read", base, context)?,
        None => must_be_justified(&edit, "read")?,
    }
    let base = base.and_then(|base| base.tensor(tensor));
    let mut positions = Vec::with_capacity(entry.selected as usize);
    for block in &entry.blocks {
        let range = patch.table().elements_of(entry, block);
        context.advance(block.bytes)?;
        let here = base.map(|base| TensorBlock::new(base, range.clone()));
        let bytes = patch.block(entry, block)?;
        if here.is_none() && Streams::read(&bytes).is_ok_and(|streams| streams.needs_base()) {
            return Err(Obstacle::NeedsBase { patch: patch.name().to_owned(), verb: "read" }.into());
        }
        let here = here.as_ref().map(|base| base as &dyn BaseElements);
        let decoded = patch.decode_bytes(entry, block, &bytes, here).map_err(|undecoded| undecoded.error)?;
        positions.extend(decoded.positions.iter().map(|position| range.start + u64::from(*position)));
    }
    Ok(Some(positions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Portability, floats, patch};

    #[test]
    fn positions_are_those_of_the_elements_that_differ() {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0, 3.0])]), floats(&[("w", &[1.5, 2.0, 4.0])]));
        let patch = patch(&base, &reference, Portability::Portable);
        let found = |tensor, base| positions(&patch, tensor, base, &Context::silent()).unwrap();
        assert_eq!(found("w", None), Some(vec![0, 2]));
        assert_eq!(found("w", Some(&base)), Some(vec![0, 2]));
        assert_eq!(found("v", None), None);
        assert!(positions(&patch, "w", Some(&reference), &Context::silent()).is_err());
    }
}
