//! Which weight of an export is which tensor of a checkpoint, by content: names do not say, and exporters transpose.

use super::OnnxFile;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::{Cancelled, Context};
use crate::digest::Sha256Digest;
use crate::dtype::Dtype;
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
    pub source: Source,
    /// The other tensors that it may be, since they have the same content: tied weights, biases that are all zero.
    /// Exporters write equal tensors once, so it may be all of them, and an edit is only sure if they all get the same.
    pub alternatives: Vec<Source>,
}

/// A tensor of the checkpoint, as an initializer holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Whether the initializer is its transpose.
    pub transposed: bool,
    /// Its name.
    pub tensor: String,
}

/// Tensors with the same dtype and bytes, by name; the first stands for all.
type Group<'a> = Vec<Tensor<'a>>;

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

    let mut groups: HashMap<(Dtype, Sha256Digest), Group<'_>> = HashMap::new();
    for tensor in compared() {
        groups.entry((tensor.info.dtype, tensor.digest(context)?)).or_default().push(*tensor);
    }
    let mut matrices: BTreeMap<(Dtype, [u64; 2]), Vec<&Group<'_>>> = BTreeMap::new();
    for ((dtype, _), group) in &groups {
        let shapes: BTreeSet<[u64; 2]> = group.iter().filter_map(|it| matrix(*it)).collect();
        for shape in shapes {
            matrices.entry((*dtype, shape)).or_default().push(group);
        }
    }

    let mut bindings = Bindings::default();
    let mut used = BTreeSet::new();
    for initializer in initializers {
        let dtype = initializer.info.dtype;
        let same = groups.get(&(dtype, initializer.digest(context)?));
        let mut sources: BTreeSet<Source> = same.into_iter().flatten().map(|it| source(*it, false)).collect();
        if let Some([rows, columns]) = matrix(initializer) {
            for group in matrices.get(&(dtype, [columns, rows])).into_iter().flatten() {
                let mut shaped = group.iter().filter(|it| matrix(**it) == Some([columns, rows])).peekable();
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
    Ok(bindings)
}

fn is_weight(tensor: Tensor<'_>) -> bool {
    tensor.info.dtype.float().is_some()
}

fn size(tensor: Tensor<'_>) -> (Dtype, u64) {
    (tensor.info.dtype, tensor.info.bytes())
}

fn source(tensor: Tensor<'_>, transposed: bool) -> Source {
    Source { transposed, tensor: tensor.info.name.clone() }
}

/// Rows and columns of a tensor whose transpose has other bytes, as a row's and a column's has not.
fn matrix(tensor: Tensor<'_>) -> Option<[u64; 2]> {
    match tensor.info.shape[..] {
        [rows, columns] if rows >= 2 && columns >= 2 => Some([rows, columns]),
        _ => None,
    }
}

/// Rows and columns that are compared at a time, so that both tensors are read in pieces that a cache can hold.
const TILE: usize = 64;

/// Whether `first`, of `rows` times `columns` elements, is the transpose of `second`.
fn is_transpose(
    first: Tensor<'_>,
    second: Tensor<'_>,
    [rows, columns]: [u64; 2],
    context: &Context<'_>,
) -> Result<bool, Cancelled> {
    let (n, width) = (rows * columns, first.info.dtype.width());
    let (a, b) = (first.elements(0..n), second.elements(0..n));
    let (rows, columns) = (rows as usize, columns as usize);
    let tile = |top: usize, left: usize| {
        (top..rows.min(top + TILE)).all(|row| {
            (left..columns.min(left + TILE))
                .all(|column| width.load(a, row * columns + column) == width.load(b, column * rows + row))
        })
    };
    let mut same = true;
    for top in (0..rows).step_by(TILE) {
        same = same && (0..columns).step_by(TILE).all(|left| tile(top, left));
        context.advance(0)?;
        if !same {
            break;
        }
    }
    first.release(0..n);
    second.release(0..n);
    Ok(same)
}

#[cfg(test)]
mod tests;
