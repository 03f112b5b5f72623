//! Which weight of an export is which tensor of a checkpoint, by content: names do not say, and exporters transpose.

use super::OnnxFile;
use super::transpose::{is_transpose, matrix};
use lcepatch_files::checkpoint::{Checkpoint, Tensor};
use lcepatch_files::context::{Cancelled, Context};
use lcepatch_format::digest::{ContentHash, Digest};
use lcepatch_format::dtype::Dtype;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What [`bind`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bindings {
    /// Initializers that are a tensor of the checkpoint, in the export's order.
    pub bound: Vec<Binding>,
    /// Float initializers of at least two elements that are no tensor of the checkpoint, in the export's order.
    pub unbound_initializers: Vec<String>,
    /// Float tensors of the checkpoint that no initializer is, ascending.
    pub unbound_tensors: Vec<String>,
}

/// An initializer, and the tensor that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The initializer.
    pub initializer: String,
    /// The tensor: of several, one that is not transposed, and of those the first by name.
    pub source: BoundTensor,
    /// The other tensors that it may be, since they have the same content: tied weights, biases that are all zero.
    /// Exporters write equal tensors once, so it may be all of them, and an edit is only sure if they all get the same.
    pub alternatives: Vec<BoundTensor>,
}

impl Binding {
    /// All tensors that it may be.
    pub fn candidates(&self) -> impl Iterator<Item = &BoundTensor> {
        std::iter::once(&self.source).chain(&self.alternatives)
    }
}

/// A tensor of the checkpoint, as an initializer holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundTensor {
    /// Whether the initializer is its transpose.
    pub transposed: bool,
    /// Its name.
    pub tensor: String,
}

/// Tensors with the same dtype and bytes, by name; the first stands for all.
type EqualTensors<'a> = Vec<Tensor<'a>>;

/// Finds for each float initializer of at least two elements the tensors with the same dtype whose bytes are the same,
/// or of which it is the transpose.
///
/// Reads both files once; transposes are compared element by element, and mostly end at the first one.
///
/// # Errors
/// [`Cancelled`].
pub fn bind(file: &OnnxFile, checkpoint: &Checkpoint, context: &Context<'_>) -> Result<Bindings, Cancelled> {
    let initializers: Vec<Tensor<'_>> = file.tensors().filter(|it| is_weight(*it) && it.info.elements() >= 2).collect();
    let sizes: BTreeSet<(Dtype, u64)> = initializers.iter().map(|it| size(*it)).collect();
    let tensors: Vec<Tensor<'_>> = checkpoint.tensors().filter(|it| is_weight(*it)).collect();
    let compared = || tensors.iter().filter(|it| sizes.contains(&size(**it)));
    let total = initializers.iter().chain(compared()).map(|it| it.info.bytes()).sum();
    context.begin("binding weights", total);

    let mut groups: HashMap<(Dtype, Digest), EqualTensors<'_>> = HashMap::new();
    for tensor in compared() {
        groups.entry((tensor.info.dtype, tensor.digest(ContentHash::default(), context)?)).or_default().push(*tensor);
    }
    let mut matrices: BTreeMap<(Dtype, [u64; 2]), Vec<&EqualTensors<'_>>> = BTreeMap::new();
    for ((dtype, _), group) in &groups {
        let shapes: BTreeSet<[u64; 2]> = group.iter().filter_map(|it| matrix(&it.info.shape)).collect();
        for shape in shapes {
            matrices.entry((*dtype, shape)).or_default().push(group);
        }
    }

    let mut bindings = Bindings::default();
    let mut used = BTreeSet::new();
    for initializer in initializers {
        let dtype = initializer.info.dtype;
        let same = groups.get(&(dtype, initializer.digest(ContentHash::default(), context)?));
        let mut sources: BTreeSet<BoundTensor> = same.into_iter().flatten().map(|it| source(*it, false)).collect();
        if let Some([rows, columns]) = matrix(&initializer.info.shape) {
            for group in matrices.get(&(dtype, [columns, rows])).into_iter().flatten() {
                let mut shaped = group.iter().filter(|it| matrix(&it.info.shape) == Some([columns, rows])).peekable();
                if let Some(first) = shaped.peek()
                    && is_transpose(initializer, **first, [rows, columns], context)?
                {
                    sources.extend(shaped.map(|it| source(*it, true)));
                }
            }
        }
        used.extend(sources.iter().map(|source| source.tensor.clone()));
        let mut sources = sources.into_iter();
        match sources.next() {
            Some(source) => {
                let (initializer, alternatives) = (initializer.info.name.clone(), sources.collect());
                bindings.bound.push(Binding { initializer, source, alternatives });
            }
            None => bindings.unbound_initializers.push(initializer.info.name.clone()),
        }
    }
    let unbound = tensors.iter().map(|it| &it.info.name).filter(|name| !used.contains(*name));
    bindings.unbound_tensors = unbound.cloned().collect();
    disambiguate(&mut bindings.bound);
    Ok(bindings)
}

/// Whether an initializer has the name of a tensor, behind the prefix of a wrapper or without that of a model.
pub(super) fn names_match(initializer: &str, tensor: &str) -> bool {
    let ends =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    ends(initializer, tensor) || ends(tensor, initializer)
}

pub(super) fn is_weight(tensor: Tensor<'_>) -> bool {
    tensor.info.dtype.float().is_some()
}

fn size(tensor: Tensor<'_>) -> (Dtype, u64) {
    (tensor.info.dtype, tensor.info.bytes())
}

fn source(tensor: Tensor<'_>, transposed: bool) -> BoundTensor {
    BoundTensor { transposed, tensor: tensor.info.name.clone() }
}

/// Of equal tensors, names may tell which initializer is which: where every tensor has an initializer of its own name, each of these
/// is that tensor alone.
pub(super) fn disambiguate(bound: &mut [Binding]) {
    let own = |binding: &Binding| {
        let named = || binding.candidates().filter(|source| names_match(&binding.initializer, &source.tensor));
        // A symmetric matrix is its own transpose, and so there twice.
        let only = named().next().filter(|first| named().all(|source| source.tensor == first.tensor));
        binding.candidates().find(|source| source.tensor == binding.initializer).or(only).cloned()
    };
    let owned: Vec<Option<BoundTensor>> =
        bound.iter().map(|binding| own(binding).filter(|_| !binding.alternatives.is_empty())).collect();
    let tensors: BTreeSet<String> = owned.iter().flatten().map(|source| source.tensor.clone()).collect();
    for (binding, own) in bound.iter_mut().zip(owned) {
        if let Some(own) = own
            && binding.candidates().all(|source| tensors.contains(&source.tensor))
        {
            (binding.source, binding.alternatives) = (own, Vec::new());
        }
    }
}

#[cfg(test)]
mod tests;
