//! Which tensors of a patch are meant, if not all.

use super::Patch;
use crate::format::tensor_table::TensorEntry;
use serde::{Deserialize, Serialize};

/// Which tensors stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Globs. A tensor's name must match one of them, if there are any.
    pub include: Vec<String>,
    /// Globs. A tensor's name must match none of them.
    pub exclude: Vec<String>,
    /// Components, such as `attention.output`. A tensor must belong to one of them, if there are any.
    pub components: Vec<String>,
}

/// How some tensors of a patch were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Chosen {
    /// [`Filter::include`].
    pub include: Vec<String>,
    /// [`Filter::exclude`].
    pub exclude: Vec<String>,
    /// [`Filter::components`].
    pub components: Vec<String>,
    /// How many tensors they are.
    pub tensors: u64,
    /// How many tensors the patch changes.
    pub of: u64,
}

impl Filter {
    /// Whether every tensor stays.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.components.is_empty()
    }
}

impl Patch {
    /// The same patch, of which only the tensors that `keeps` accepts, by `filter`, are seen and used.
    pub(crate) fn part(&self, filter: &Filter, keeps: impl Fn(&TensorEntry) -> bool) -> Self {
        let whole: &crate::format::Patch = self;
        let content = whole.part(keeps);
        let [tensors, of] = [&content, whole].map(|patch| patch.table().tensors.len() as u64);
        if tensors == of {
            return self.clone();
        }
        let Filter { include, exclude, components } = filter.clone();
        self.clone().of_part(content, Chosen { include, exclude, components, tensors, of })
    }
}
