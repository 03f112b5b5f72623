//! Patches at alphas, and how they are applied.

use crate::fault::Fault;
use crate::text::{not_text, unreadable};
use lcepatch::apply::{Check, DifferentBase, Edit, NotFinite, PlanOptions, choose};
use lcepatch::context::Context;
use lcepatch::edit::Alpha;
use lcepatch::pair::{Prefix, PrefixMap};
use lcepatch::patch::{self, Filter};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A patch, and the alpha that was given.
pub type Given = (patch::Patch, Option<f64>);

/// An alpha that was given, or else the one that the patch recommends, or 1.
pub fn alpha(patch: &patch::Patch, given: Option<f64>) -> Result<Alpha, Fault> {
    let Some(given) = given else { return Ok(patch.default_alpha().0) };
    Alpha::new(given).ok_or_else(|| Fault::usage(format!("alpha {given} is not finite"), "give a finite number"))
}

/// Pairs of prefixes: those of the patches, and those of the base.
pub type Prefixes = Vec<(String, String)>;

/// The map of prefixes, if there are any.
pub fn prefix_map(pairs: &Prefixes) -> Option<PrefixMap> {
    PrefixMap::new(pairs.iter().cloned().map(|(from, to)| Prefix { from, to }).collect())
}

/// The one of `choices` that has this name.
pub fn one_of<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    choices.iter().find(|(choice, _)| *choice == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        Fault::usage(format!("{what} cannot be {name:?}"), format!("choose one of {}", names.join(", ")))
    })
}

/// The keyword argument with this name, or its default.
pub fn wish<'py, T>(wishes: &Bound<'py, PyDict>, name: &str) -> PyResult<T>
where
    T: FromPyObjectOwned<'py, Error = PyErr> + Default,
{
    let Some(value) = wishes.get_item(name)? else { return Ok(T::default()) };
    let py = wishes.py();
    value.extract().map_err(|error: PyErr| match unreadable(py, &error) {
        Some(why) => not_text(&format!("{name}: {why}")).raise(py),
        None => PyTypeError::new_err(format!("{name}: {}", error.value(py))),
    })
}

/// How to check and edit: the keys of `EditOptions` in Python.
pub struct Options {
    check: Option<String>,
    different_base: bool,
    not_finite: bool,
    prefix: Prefixes,
    include: Vec<String>,
    exclude: Vec<String>,
}

impl Options {
    /// Those of keyword arguments.
    pub fn of(wishes: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            check: wish(wishes, "check")?,
            different_base: wish(wishes, "different_base")?,
            not_finite: wish(wishes, "not_finite")?,
            prefix: wish(wishes, "prefix")?,
            include: wish(wishes, "include")?,
            exclude: wish(wishes, "exclude")?,
        })
    }

    /// Those of the library.
    pub fn plan(&self) -> Result<PlanOptions, Fault> {
        let mut options = PlanOptions::default();
        if let Some(check) = &self.check {
            options.check = one_of("check", check, &[("full", Check::Full), ("quick", Check::Quick)])?;
        }
        options.different_base = if self.different_base { DifferentBase::Add } else { DifferentBase::Refuse };
        options.not_finite = if self.not_finite { NotFinite::Write } else { NotFinite::Refuse };
        options.prefix = prefix_map(&self.prefix);
        Ok(options)
    }

    /// The names in the base of the tensors that `patch` changes and that are wanted.
    pub fn targets(&self, patch: &patch::Patch, context: &Context<'_>) -> Result<Vec<String>, Fault> {
        let patches = self.chosen(vec![patch.clone()], context)?;
        let prefix = prefix_map(&self.prefix);
        let own = |name: &String| prefix.as_ref().map_or_else(|| name.clone(), |prefix| prefix.apply(name));
        Ok(patches.iter().flat_map(|patch| &patch.table().tensors).map(|entry| own(&entry.name)).collect())
    }

    fn chosen(&self, patches: Vec<patch::Patch>, context: &Context<'_>) -> Result<Vec<patch::Patch>, Fault> {
        let mut filter = Filter::default();
        (filter.include, filter.exclude) = (self.include.clone(), self.exclude.clone());
        Ok(if filter.is_empty() { patches } else { choose(patches, &filter, context)? })
    }

    /// The edits, of the tensors that are wanted.
    pub fn edits(&self, given: Vec<Given>, context: &Context<'_>) -> Result<Vec<Edit>, Fault> {
        let (patches, alphas): (Vec<_>, Vec<_>) = given.into_iter().unzip();
        let alphas: Vec<_> =
            patches.iter().zip(alphas).map(|(patch, given)| alpha(patch, given)).collect::<Result<_, _>>()?;
        let patches = self.chosen(patches, context)?;
        Ok(patches.into_iter().zip(alphas).map(|(patch, alpha)| Edit::at(patch, alpha)).collect())
    }
}
