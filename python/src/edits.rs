//! Patches at alphas, and how they are applied.

use crate::fault::Fault;
use crate::patch::{Patch, alpha};
use lcepatch::apply::{Check, DifferentBase, Edit, NotFinite, PlanOptions, choose};
use lcepatch::context::Context;
use lcepatch::pair::{Prefix, PrefixMap};
use lcepatch::patch::{self, Filter};
use pyo3::prelude::*;

/// A patch, and the alpha that was given.
pub type Given = (patch::Patch, Option<f64>);

/// The patches of Python's objects.
pub fn patches_of(patches: Vec<(PyRef<'_, Patch>, Option<f64>)>) -> Vec<Given> {
    patches.into_iter().map(|(patch, alpha)| (patch.patch.clone(), alpha)).collect()
}

/// How to check and edit.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    quick: bool,
    different_base: bool,
    not_finite: bool,
    prefix: Vec<(String, String)>,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Options {
    /// Those of the library.
    pub fn plan(&self) -> PlanOptions {
        let mut options = PlanOptions::default();
        options.check = if self.quick { Check::Quick } else { Check::Full };
        options.different_base = if self.different_base { DifferentBase::Add } else { DifferentBase::Refuse };
        options.not_finite = if self.not_finite { NotFinite::Write } else { NotFinite::Refuse };
        let prefixes = self.prefix.iter().cloned().map(|(from, to)| Prefix { from, to });
        options.prefix = PrefixMap::new(prefixes.collect());
        options
    }

    /// The edits, of the tensors that are wanted.
    pub fn edits(&self, given: Vec<Given>, context: &Context<'_>) -> Result<Vec<Edit>, Fault> {
        let mut filter = Filter::default();
        (filter.include, filter.exclude) = (self.include.clone(), self.exclude.clone());
        let (patches, alphas): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        let alphas: Vec<_> =
            patches.iter().zip(alphas).map(|(patch, given)| alpha(patch, given)).collect::<Result<_, _>>()?;
        let patches = if filter.is_empty() { patches } else { choose(patches, &filter, context)? };
        Ok(patches.into_iter().zip(alphas).map(|(patch, alpha)| Edit::at(patch, alpha)).collect())
    }
}
