//! Which weight of an export is which tensor, of tensors that are known by their digests alone, as a patch knows its base.

use super::OnnxFile;
use super::bind::{Binding, BoundTensor, disambiguate, is_weight, names_match};
use super::transpose::{matrix, transpose};
use lcepatch_files::checkpoint::Tensor;
use lcepatch_files::context::{Cancelled, Context};
use lcepatch_format::digest::{ContentHash, Digest};
use lcepatch_format::dtype::Dtype;
use lcepatch_format::tensor_table::elements;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorQuery {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<u64>,
    /// What its digest is made with.
    pub hash: ContentHash,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What [`find`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// Initializers that are a tensor that is looked for, in the export's order.
    pub bound: Vec<Binding>,
    /// Tensors that no initializer is, ascending.
    pub absent: Vec<String>,
    /// Tensors of equal elements that may be one initializer or another, or only a part of what one stands for, ascending.
    pub unsure: Vec<String>,
}

/// Finds for each float initializer of at least two elements the tensors whose bytes it holds, or whose transpose's.
///
/// Hashes each initializer that is as large as a tensor that is looked for, twice if its transpose may be one, in parallel.
/// Initializers that are none of the tensors are not listed.
///
/// # Errors
/// [`Cancelled`].
pub fn find(file: &OnnxFile, wanted: &[TensorQuery], context: &Context<'_>) -> Result<Located, Cancelled> {
    let mut by_digest: BTreeMap<(Dtype, ContentHash, Digest), Vec<&TensorQuery>> = BTreeMap::new();
    let mut by_size: BTreeSet<(Dtype, u64)> = BTreeSet::new();
    let mut matrices: BTreeSet<(Dtype, [u64; 2])> = BTreeSet::new();
    for tensor in wanted {
        by_digest.entry((tensor.dtype, tensor.hash, tensor.digest)).or_default().push(tensor);
        by_size.extend(elements(tensor.dtype, &tensor.shape).map(|elements| (tensor.dtype, elements)));
        matrices.extend(matrix(&tensor.shape).map(|shape| (tensor.dtype, shape)));
    }
    let hashes: BTreeSet<ContentHash> = wanted.iter().map(|tensor| tensor.hash).collect();
    let compared = |it: &Tensor<'_>| {
        let elements = it.info.elements();
        is_weight(*it) && elements >= 2 && by_size.contains(&(it.info.dtype, elements))
    };
    let initializers: Vec<Tensor<'_>> = file.tensors().filter(compared).collect();
    context.begin("finding the weights", initializers.iter().map(|it| it.info.bytes()).sum());
    let sources = |it: &Tensor<'_>| -> Result<BTreeSet<BoundTensor>, Cancelled> {
        let dtype = it.info.dtype;
        let equal = |(hash, digest)| by_digest.get(&(dtype, hash, digest)).into_iter().flatten();
        let source = |tensor: &&TensorQuery, transposed| BoundTensor { transposed, tensor: tensor.name.clone() };
        let mut sources = BTreeSet::new();
        for hash in &hashes {
            sources.extend(equal((*hash, it.digest(*hash, context)?)).map(|tensor| source(tensor, false)));
        }
        if let Some([rows, columns]) = matrix(&it.info.shape)
            && matrices.contains(&(dtype, [columns, rows]))
        {
            let bytes = transpose(it.elements(0..rows * columns), [rows, columns], dtype.width());
            it.release(0..rows * columns);
            for hash in &hashes {
                let shaped = equal((*hash, hash.of(&bytes))).filter(|tensor| tensor.shape == [columns, rows]);
                sources.extend(shaped.map(|tensor| source(tensor, true)));
            }
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
    let candidates = tensors_of(&bound);
    let bound = sure(file, bound);
    let certain = tensors_of(&bound);
    let names: BTreeSet<&String> = wanted.iter().map(|tensor| &tensor.name).collect();
    let (unsure, absent) =
        names.into_iter().filter(|name| !certain.contains(*name)).cloned().partition(|name| candidates.contains(name));
    Ok(Located { bound, absent, unsure })
}

fn tensors_of(bound: &[Binding]) -> BTreeSet<String> {
    bound.iter().flat_map(Binding::candidates).map(|source| source.tensor.clone()).collect()
}

/// Leaves out what initializers of equal elements only may be. Trained tensors are equal because they are tied, but any two biases that
/// are all zero are equal too, also to tensors that nobody looks for; and exporters write equal tensors once. So of several such
/// initializers only the one with the tensor's name is sure, and none that is used more than once.
fn sure(file: &OnnxFile, bound: Vec<Binding>) -> Vec<Binding> {
    let constant: Vec<bool> = bound.iter().map(|binding| is_constant(file, &binding.initializer)).collect();
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for (binding, _) in bound.iter().zip(&constant).filter(|(_, constant)| **constant) {
        binding.candidates().for_each(|source| *holders.entry(source.tensor.clone()).or_default() += 1);
    }
    let is_sure = |(binding, constant): (Binding, bool)| {
        if !constant {
            return Some(binding);
        }
        let initializer = file.initializers.iter().find(|it| it.name == binding.initializer)?;
        let only = |source: &&BoundTensor| {
            holders.get(&source.tensor) == Some(&1) || names_match(&binding.initializer, &source.tensor)
        };
        let mut sources = binding.candidates().filter(only).cloned();
        let source = sources.next().filter(|_| initializer.uses <= 1)?;
        let alternatives = sources.collect();
        Some(Binding { source, alternatives, ..binding })
    };
    bound.into_iter().zip(constant).filter_map(is_sure).collect()
}

fn is_constant(file: &OnnxFile, initializer: &str) -> bool {
    let Some(tensor) = file.tensors().find(|it| it.info.name == initializer) else { return false };
    let (n, width) = (tensor.info.elements(), tensor.info.dtype.width());
    let bytes = tensor.elements(0..n);
    (1..n as usize).all(|at| width.load(bytes, at) == width.load(bytes, 0))
}
