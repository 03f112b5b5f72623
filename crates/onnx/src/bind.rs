//! Binds the initializers of an ONNX export to the tensors of a checkpoint by content, since exporters rename and transpose weights.

use super::OnnxFile;
use super::transpose::{is_transpose, matrix};
use lcepatch_files::checkpoint::{Checkpoint, Tensor};
use lcepatch_files::context::{Cancelled, Context};
use lcepatch_format::digest::Digest;
use lcepatch_format::dtype::Dtype;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The result of [`bind`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bindings {
    /// Initializers that hold a tensor of the checkpoint, in the export's order.
    pub bound: Vec<Binding>,
    /// Float initializers of at least two elements that hold no tensor of the checkpoint, in the export's order.
    pub unbound_initializers: Vec<String>,
    /// Float tensors of the checkpoint that no initializer holds, ascending.
    pub unbound_tensors: Vec<String>,
}

/// An initializer and the tensor that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The initializer.
    pub initializer: String,
    /// The tensor. Of several with the same content, one that is not transposed, and of those the first by name.
    pub source: BoundTensor,
    /// The other tensors with the same content, such as tied weights and biases that are all zero. Exporters write equal tensors once, so
    /// the initializer may hold all of them: an edit is certain only if it changes all of them alike.
    pub alternatives: Vec<BoundTensor>,
}

impl Binding {
    /// All tensors that it may hold.
    pub fn candidates(&self) -> impl Iterator<Item = &BoundTensor> {
        std::iter::once(&self.source).chain(&self.alternatives)
    }
}

/// A tensor of the checkpoint that an initializer holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoundTensor {
    /// Whether the initializer holds its transpose.
    pub transposed: bool,
    /// Its name.
    pub tensor: String,
}

/// Tensors with the same dtype and bytes, by name.
type EqualTensors<'a> = Vec<Tensor<'a>>;

/// Finds, for each float initializer of at least two elements, the tensors of the same dtype with the same bytes, and those whose transpose
/// has the same bytes.
///
/// Reads both files once. Transposes are compared element by element; most comparisons end at the first element.
///
/// # Errors
/// [`Cancelled`].
pub fn bind(file: &OnnxFile, checkpoint: &Checkpoint, context: &Context<'_>) -> Result<Bindings, Cancelled> {
    let initializers: Vec<Tensor<'_>> =
        file.tensors().filter(|tensor| is_weight(*tensor) && tensor.info.elements() >= 2).collect();
    let sizes: BTreeSet<(Dtype, u64)> = initializers.iter().map(|tensor| size(*tensor)).collect();
    let tensors: Vec<Tensor<'_>> = checkpoint.tensors().filter(|tensor| is_weight(*tensor)).collect();
    let compared = || tensors.iter().filter(|tensor| sizes.contains(&size(**tensor)));
    let total = initializers.iter().chain(compared()).map(|tensor| tensor.info.bytes()).sum();
    context.begin("binding weights", total);

    let mut groups: HashMap<(Dtype, Digest), EqualTensors<'_>> = HashMap::new();
    for tensor in compared() {
        groups.entry((tensor.info.dtype, tensor.digest(context)?)).or_default().push(*tensor);
    }
    let mut matrices: BTreeMap<(Dtype, [u64; 2]), Vec<&EqualTensors<'_>>> = BTreeMap::new();
    for ((dtype, _), group) in &groups {
        let shapes: BTreeSet<[u64; 2]> = group.iter().filter_map(|tensor| matrix(&tensor.info.shape)).collect();
        for shape in shapes {
            matrices.entry((*dtype, shape)).or_default().push(group);
        }
    }

    let mut bindings = Bindings::default();
    let mut used = BTreeSet::new();
    for initializer in initializers {
        let dtype = initializer.info.dtype;
        let same = groups.get(&(dtype, initializer.digest(context)?));
        let mut sources: BTreeSet<BoundTensor> =
            same.into_iter().flatten().map(|tensor| source(*tensor, false)).collect();
        if let Some([rows, columns]) = matrix(&initializer.info.shape) {
            for group in matrices.get(&(dtype, [columns, rows])).into_iter().flatten() {
                let mut shaped =
                    group.iter().filter(|tensor| matrix(&tensor.info.shape) == Some([columns, rows])).peekable();
                if let Some(first) = shaped.peek()
                    && is_transpose(initializer, **first, [rows, columns], context)?
                {
                    sources.extend(shaped.map(|tensor| source(*tensor, true)));
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
    let unbound = tensors.iter().map(|tensor| &tensor.info.name).filter(|name| !used.contains(*name));
    bindings.unbound_tensors = unbound.cloned().collect();
    disambiguate(&mut bindings.bound);
    Ok(bindings)
}

/// Whether an initializer has the name of a tensor, give or take a prefix such as that of a wrapper module.
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

/// Tells equal tensors apart by name, where each of them has an initializer of the same name. Each of these then holds that tensor alone.
pub(super) fn disambiguate(bound: &mut [Binding]) {
    let by_name = |binding: &Binding| {
        let named = || binding.candidates().filter(|source| names_match(&binding.initializer, &source.tensor));
        // A symmetric matrix equals its transpose, so it is a candidate twice.
        let only = named().next().filter(|first| named().all(|source| source.tensor == first.tensor));
        binding.candidates().find(|source| source.tensor == binding.initializer).or(only).cloned()
    };
    let matches: Vec<Option<BoundTensor>> =
        bound.iter().map(|binding| by_name(binding).filter(|_| !binding.alternatives.is_empty())).collect();
    let tensors: BTreeSet<String> = matches.iter().flatten().map(|source| source.tensor.clone()).collect();
    for (binding, tensor) in bound.iter_mut().zip(matches) {
        if let Some(tensor) = tensor
            && binding.candidates().all(|source| tensors.contains(&source.tensor))
        {
            (binding.source, binding.alternatives) = (tensor, Vec::new());
        }
    }
}

#[cfg(test)]
mod tests;
