//! Finds the initializers of an ONNX export that hold certain tensors, given only the tensors' digests, as a patch has them of its base.

use super::OnnxFile;
use super::bind::{Binding, BoundTensor, disambiguate, is_weight, names_match};
use super::transpose::{matrix, transpose};
use lcepatch_files::checkpoint::Tensor;
use lcepatch_files::context::{Cancelled, Context};
use lcepatch_format::digest::Digest;
use lcepatch_format::dtype::Dtype;
use lcepatch_format::tensor_table::elements;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorQuery {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// The result of [`find`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// Initializers that hold one of the tensors, in the export's order.
    pub bound: Vec<Binding>,
    /// Tensors that no initializer holds, ascending.
    pub absent: Vec<String>,
    /// Tensors whose elements are all equal and that no initializer holds for certain, ascending.
    pub ambiguous: Vec<String>,
}

/// Finds, for each float initializer of at least two elements, the tensors whose bytes it holds, or the bytes of whose transpose.
///
/// Hashes, in parallel, each initializer with the size of one of the tensors, and its transpose where that may be one of them.
///
/// # Errors
/// [`Cancelled`].
pub fn find(file: &OnnxFile, wanted: &[TensorQuery], context: &Context<'_>) -> Result<Located, Cancelled> {
    let mut by_digest: BTreeMap<(Dtype, Digest), Vec<&TensorQuery>> = BTreeMap::new();
    let mut by_size: BTreeSet<(Dtype, u64)> = BTreeSet::new();
    let mut matrices: BTreeSet<(Dtype, [u64; 2])> = BTreeSet::new();
    for tensor in wanted {
        by_digest.entry((tensor.dtype, tensor.digest)).or_default().push(tensor);
        by_size.extend(elements(tensor.dtype, &tensor.shape).map(|elements| (tensor.dtype, elements)));
        matrices.extend(matrix(&tensor.shape).map(|shape| (tensor.dtype, shape)));
    }
    let has_size_of_one = |tensor: &Tensor<'_>| {
        let elements = tensor.info.elements();
        is_weight(*tensor) && elements >= 2 && by_size.contains(&(tensor.info.dtype, elements))
    };
    let initializers: Vec<Tensor<'_>> = file.tensors().filter(has_size_of_one).collect();
    context.begin("finding the weights", initializers.iter().map(|tensor| tensor.info.bytes()).sum());
    let sources = |initializer: &Tensor<'_>| -> Result<BTreeSet<BoundTensor>, Cancelled> {
        let dtype = initializer.info.dtype;
        let equal = |digest| by_digest.get(&(dtype, digest)).into_iter().flatten();
        let source = |tensor: &&TensorQuery, transposed| BoundTensor { transposed, tensor: tensor.name.clone() };
        let mut sources: BTreeSet<BoundTensor> =
            equal(initializer.digest(context)?).map(|tensor| source(tensor, false)).collect();
        if let Some([rows, columns]) = matrix(&initializer.info.shape)
            && matrices.contains(&(dtype, [columns, rows]))
        {
            let bytes = transpose(initializer.elements(0..rows * columns), [rows, columns], dtype.width());
            initializer.release(0..rows * columns);
            let shaped = equal(Digest::of(&bytes)).filter(|tensor| tensor.shape == [columns, rows]);
            sources.extend(shaped.map(|tensor| source(tensor, true)));
        }
        Ok(sources)
    };
    let sources = initializers.par_iter().map(sources).collect::<Result<Vec<_>, Cancelled>>()?;
    let mut bound = Vec::new();
    for (initializer, sources) in initializers.iter().zip(sources) {
        let mut sources = sources.into_iter();
        if let Some(source) = sources.next() {
            let (initializer, alternatives) = (initializer.info.name.clone(), sources.collect());
            bound.push(Binding { initializer, source, alternatives });
        }
    }
    disambiguate(&mut bound);
    let candidates = tensor_names(&bound);
    let bound = unambiguous(file, bound);
    let certain = tensor_names(&bound);
    let names: BTreeSet<&String> = wanted.iter().map(|tensor| &tensor.name).collect();
    let (ambiguous, absent) =
        names.into_iter().filter(|name| !certain.contains(*name)).cloned().partition(|name| candidates.contains(name));
    Ok(Located { bound, absent, ambiguous })
}

fn tensor_names(bound: &[Binding]) -> BTreeSet<String> {
    bound.iter().flat_map(Binding::candidates).map(|source| source.tensor.clone()).collect()
}

/// Keeps the bindings that are certain. Trained tensors are equal only if they are tied. But tensors of constant elements, such as biases
/// that are all zero, are often equal by chance, also to tensors that are not looked for, and exporters write equal tensors once. So a
/// constant initializer is bound only if a single node uses it, and if it is the only one for its tensor or has the tensor's name.
fn unambiguous(file: &OnnxFile, bound: Vec<Binding>) -> Vec<Binding> {
    let constant: Vec<bool> = bound.iter().map(|binding| is_constant(file, &binding.initializer)).collect();
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for (binding, _) in bound.iter().zip(&constant).filter(|(_, constant)| **constant) {
        binding.candidates().for_each(|source| *holders.entry(source.tensor.clone()).or_default() += 1);
    }
    let certain = |(binding, constant): (Binding, bool)| {
        if !constant {
            return Some(binding);
        }
        let initializer = file.initializers().iter().find(|initializer| initializer.name == binding.initializer)?;
        let only = |source: &&BoundTensor| {
            holders.get(&source.tensor) == Some(&1) || names_match(&binding.initializer, &source.tensor)
        };
        let mut sources = binding.candidates().filter(only).cloned();
        let source = sources.next().filter(|_| initializer.uses <= 1)?;
        let alternatives = sources.collect();
        Some(Binding { source, alternatives, ..binding })
    };
    bound.into_iter().zip(constant).filter_map(certain).collect()
}

fn is_constant(file: &OnnxFile, initializer: &str) -> bool {
    let Some(tensor) = file.tensors().find(|tensor| tensor.info.name == initializer) else { return false };
    let (n, width) = (tensor.info.elements(), tensor.info.dtype.width());
    let bytes = tensor.elements(0..n);
    (1..n as usize).all(|at| width.load(bytes, at) == width.load(bytes, 0))
}
