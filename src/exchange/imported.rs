//! A patch of a base, made of the new values of some of its elements.

use crate::algebra::{Draft, Element, Exact};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::diff::{Portability, source};
use crate::digest::Digest;
use crate::error::Error;
use crate::format::block::Kept;
use crate::format::builder::TensorParts;
use crate::format::limits::BLOCK_LOG2;
use crate::format::metadata::{Localization, Metadata};
use crate::pair::PrefixMap;
use crate::patch::Patch;
use std::path::Path;

/// A patch that was imported.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The patch.
    pub patch: Patch,
    /// Elements that were listed, and are the same in the base.
    pub unchanged: u64,
}

/// Collects the tensors of an imported patch, in ascending order of their names.
pub(super) struct Import<'a> {
    base: &'a Checkpoint,
    draft: Draft,
    listed: u64,
    changed: u64,
}

impl<'a> Import<'a> {
    pub fn new(base: &'a Checkpoint) -> Self {
        Self { base, draft: Draft::new(Portability::NeedsBase, BLOCK_LOG2), listed: 0, changed: 0 }
    }

    /// Adds the elements of a tensor, each with its flat index and its bits in base and result, in ascending order. Those that stay the
    /// same are left out.
    pub fn add(
        &mut self,
        tensor: Tensor<'_>,
        elements: &[(u64, u64, u64)],
        context: &Context<'_>,
    ) -> Result<(), Error> {
        self.listed += elements.len() as u64;
        let changed = elements.iter().filter(|(_, base, reference)| base != reference);
        let element = |&(index, base, reference): &(u64, u64, u64)| Element {
            index,
            base,
            reference,
            kept: Kept::BOTH,
            before: 0,
        };
        let content = Exact { elements: changed.map(element).collect(), ..Exact::default() };
        if content.elements.is_empty() {
            return Ok(());
        }
        self.changed += content.elements.len() as u64;
        let info = tensor.info;
        let parts = TensorParts {
            name: info.name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            base_digest: tensor.digest(context)?,
            counterparts: None,
        };
        self.draft.add(parts, &content, Some(tensor));
        Ok(())
    }

    /// The patch. `format` is the name of the format that it comes from, `model` that of the base on a hub.
    pub fn finish(self, format: &str, model: Option<String>, context: &Context<'_>) -> Result<Imported, Error> {
        let metadata = Metadata {
            localization: Localization { method: format!("import, {format}"), ..Localization::default() },
            base: source(self.base, model),
            ..Metadata::default()
        };
        let unknown = (Digest::UNKNOWN, Digest::UNKNOWN);
        let patch = self.draft.finish(metadata, |_| unknown, Some(self.base), context)?;
        Ok(Imported { patch, unchanged: self.listed - self.changed })
    }
}

/// The tensor of the base that another tool calls `name`, with its beginning exchanged by `prefix`. Fails with the name that was looked
/// for, and the base's tensor that is nearest to it: its name is an end of the other one.
pub(super) fn find<'a>(
    base: &'a Checkpoint,
    name: &str,
    prefix: Option<&PrefixMap>,
    path: &Path,
) -> Result<Tensor<'a>, crate::error::ExchangeFault> {
    let name = prefix.map_or_else(|| name.to_owned(), |prefix| prefix.apply(name));
    let ends = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|front| front.ends_with('.'));
    base.tensor(&name).ok_or_else(|| {
        let mut names = base.tensors().map(|tensor| &tensor.info.name);
        let near = names.find(|other| ends(other, &name) || ends(&name, other)).cloned();
        crate::error::ExchangeFault::NotInBase { path: path.to_owned(), tensor: name, near }
    })
}
