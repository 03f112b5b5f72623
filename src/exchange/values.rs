//! Files of values: for each tensor that changes, `{name}.indices`, the flat indices of its elements that change, and `{name}.values`,
//! what they become, in the tensor's own dtype. What vLLM's `CheckpointWeightPatch` and trainers that hand weights to it take.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::imported::{Import, Imported, find};
use crate::apply::{Edit, Plan, PlanOptions};
use crate::checkpoint::{Checkpoint, Tensor, header};
use crate::context::Context;
use crate::dtype::Dtype;
use crate::durable::{Existing, Failed, NewFile};
use crate::error::{Error, ExchangeFault};
use crate::pair::PrefixMap;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

const INDICES: &str = ".indices";
const VALUES: &str = ".values";

/// Bits of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indices {
    /// `I32`, which readers expect.
    Narrow,
    /// `I64`, for tensors of 2^31 elements and more.
    Wide,
}

impl Indices {
    fn dtype(self) -> Dtype {
        match self {
            Self::Narrow => Dtype::I32,
            Self::Wide => Dtype::I64,
        }
    }

    fn reaches(self, elements: u64) -> bool {
        self == Self::Wide || elements < 1 << 31
    }
}

/// A file of values that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Exported {
    /// Tensors that change.
    pub tensors: u64,
    /// Elements that change.
    pub changed: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes what `edit` makes of `base` as a file of values.
///
/// Cost: the tensors that change are read twice. Memory: 16 bytes for each element that changes in one tensor.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `ExportUnsuited`, `NotFinite`; what [`Plan::check`] returns; those of outputs.
pub(crate) fn export(
    base: &Checkpoint,
    edit: &Edit,
    indices: Indices,
    output: &Path,
    existing: Existing,
    context: &Context<'_>,
) -> Result<Exported, Error> {
    let plan = Plan::check(base, std::slice::from_ref(edit), &PlanOptions::default(), context)?;
    let tensors: Vec<Tensor<'_>> = plan.changed().filter_map(|name| base.tensor(name)).collect();
    for tensor in &tensors {
        check_tensor(*tensor, indices)?;
    }
    let size = tensors.iter().map(|tensor| tensor.info.bytes()).sum();
    context.begin("comparing", size);
    let counted = tensors.par_iter().map(|tensor| Ok((*tensor, count(&plan, *tensor, context)?)));
    let counted: Vec<(Tensor<'_>, u64)> = counted.collect::<Result<_, Error>>()?;
    let changing: Vec<(Tensor<'_>, u64)> = counted.into_iter().filter(|(_, changed)| *changed > 0).collect();
    if changing.is_empty() {
        let alpha = edit.kind.alpha().map_or(1.0, |alpha| alpha.value());
        return Err(ExchangeFault::Nothing { patch: edit.patch.name().to_owned(), alpha }.into());
    }
    context.begin("writing", size);
    let new = NewFile::create(output, existing)?;
    let bytes = base.settled(new.while_writing(|| write(&plan, edit, &changing, indices, &new, context)))?;
    new.commit()?;
    let changed = changing.iter().map(|(_, changed)| changed).sum();
    Ok(Exported { tensors: changing.len() as u64, changed, bytes })
}

/// Refuses a tensor whose elements an index does not reach, or does not count as torch does.
fn check_tensor(tensor: Tensor<'_>, indices: Indices) -> Result<(), ExchangeFault> {
    let (dtype, elements) = (tensor.info.dtype, tensor.info.elements());
    if !counts_numbers(dtype) {
        return Err(ExchangeFault::Dtype { tensor: tensor.info.name.clone(), dtype });
    }
    match indices.reaches(elements) {
        true => Ok(()),
        false => Err(ExchangeFault::TooLong { tensor: tensor.info.name.clone(), elements }),
    }
}

/// Whether each element is one number, so that its index is that of torch.
fn counts_numbers(dtype: Dtype) -> bool {
    dtype.storage_bits() == u64::from(dtype.width().bits())
}

/// The number of elements of a tensor that change.
fn count(plan: &Plan<'_>, tensor: Tensor<'_>, context: &Context<'_>) -> Result<u64, Error> {
    let mut changed = 0;
    let mut each = |index, _, result| {
        changed += 1;
        Ok(must_be_number(tensor, index, result)?)
    };
    plan.changed_elements(tensor, &mut each, context)?;
    Ok(changed)
}

fn must_be_number(tensor: Tensor<'_>, index: u64, bits: u64) -> Result<(), ExchangeFault> {
    match tensor.info.dtype.float().map(|float| float.value(bits)) {
        Some(value) if value.is_nan() => {
            let (tensor, side, format) = (tensor.info.name.clone(), "result", "a file of values");
            let reason = "its readers take NaN for a weight that does not change";
            Err(ExchangeFault::NotFinite { tensor, index, value, side, format, reason })
        }
        _ => Ok(()),
    }
}

/// Writes the file, and returns its size.
fn write(
    plan: &Plan<'_>,
    edit: &Edit,
    changing: &[(Tensor<'_>, u64)],
    indices: Indices,
    new: &NewFile,
    context: &Context<'_>,
) -> Result<u64, Error> {
    let parts = changing.iter().flat_map(|(tensor, changed)| {
        let name = |end| format!("{}{end}", tensor.info.name);
        [(name(INDICES), indices.dtype(), [*changed]), (name(VALUES), tensor.info.dtype, [*changed])]
    });
    let parts: Vec<(String, Dtype, [u64; 1])> = parts.collect();
    let tensors = parts.iter().map(|(name, dtype, shape)| (&name[..], *dtype, &shape[..]));
    let shapes = changing.iter().map(|(tensor, _)| (tensor.info.name.clone(), Value::from(tensor.info.shape.clone())));
    let shapes = Value::Object(shapes.collect::<Map<String, Value>>()).to_string();
    let id = edit.patch.id().to_string();
    let alpha = edit.kind.alpha().map_or_else(String::new, |alpha| alpha.to_string());
    let metadata = [("format", "pt"), ("shapes", &shapes[..]), ("lcepatch.alpha", &alpha), ("lcepatch.patch", &id)];
    let failed = |e| Failed::io("write", new.path(), e);
    let mut out = BufWriter::new(new.file());
    let header = header(tensors, &metadata);
    out.write_all(&header).map_err(failed)?;
    let mut bytes = header.len() as u64;
    for (tensor, _) in changing {
        let width = tensor.info.dtype.width();
        let mut values = Vec::new();
        let mut each = |index: u64, _, result| {
            values.push(result);
            let written = match indices {
                Indices::Narrow => out.write_all(&(index as i32).to_le_bytes()),
                Indices::Wide => out.write_all(&(index as i64).to_le_bytes()),
            };
            Ok(written.map_err(failed)?)
        };
        plan.changed_elements(*tensor, &mut each, context)?;
        bytes += values.len() as u64 * (indices.dtype().width().bytes() + width.bytes()) as u64;
        let mut packed = Vec::new();
        width.store_all(&values, &mut packed);
        out.write_all(&packed).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    Ok(bytes)
}

/// Makes the patch of a file of values, which at alpha 1 sets the elements of `base` that it lists. `prefix` replaces a prefix of the
/// file's names by that of the base's.
///
/// Memory: 40 bytes for each element that the file lists in one tensor, and the encoded patch.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `ImportMalformed`, `ImportUnsuited`, `NotFinite`; those of checkpoints.
pub(crate) fn import(
    file: &Checkpoint,
    base: &Checkpoint,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Imported, Error> {
    file.settled(base.settled(import_mapped(file, base, prefix, context)))
}

fn import_mapped(
    file: &Checkpoint,
    base: &Checkpoint,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Imported, Error> {
    let path = file.path();
    let malformed = |reason: String| ExchangeFault::Malformed { path: path.to_owned(), reason };
    let shapes = shapes(file).map_err(malformed)?;
    let mut by_name: BTreeMap<&str, [Option<Tensor<'_>>; 2]> = BTreeMap::new();
    for tensor in file.tensors() {
        let name = &tensor.info.name;
        if let Some(name) = name.strip_suffix(INDICES) {
            let [indices, _] = by_name.entry(name).or_default();
            *indices = Some(tensor);
        } else if let Some(name) = name.strip_suffix(VALUES) {
            let [_, values] = by_name.entry(name).or_default();
            *values = Some(tensor);
        } else {
            let reason = format!("it also has {name:?}, which is neither indices nor values");
            return Err(ExchangeFault::Unsuited { path: path.to_owned(), reason }.into());
        }
    }
    let mut by_tensor = BTreeMap::new();
    for (name, parts) in by_name {
        let [Some(indices), Some(values)] = parts else {
            return Err(malformed(format!("{name:?} has indices or values without the others")).into());
        };
        let tensor = find(base, name, prefix, path)?;
        if let Some(shape) = shapes.get(name).filter(|shape| **shape != tensor.info.shape) {
            return Err(ExchangeFault::OtherTensor {
                path: path.to_owned(),
                tensor: tensor.info.name.clone(),
                expected: format!("of shape {shape:?}"),
                dtype: tensor.info.dtype,
                shape: tensor.info.shape.clone(),
            }
            .into());
        }
        if by_tensor.insert(&tensor.info.name, (tensor, indices, values)).is_some() {
            return Err(malformed(format!("two names are {:?} of the base", tensor.info.name)).into());
        }
    }
    context.begin("importing", by_tensor.values().map(|(tensor, ..)| tensor.info.bytes()).sum());
    let mut import = Import::new(base);
    for (tensor, indices, values) in by_tensor.into_values() {
        import.add(tensor, &elements(tensor, indices, values, path)?, context)?;
    }
    import.finish("values", None, context)
}

/// The shapes of the tensors that a file lists elements of, where its metadata has them (`shapes`): indices count the elements of these.
fn shapes(file: &Checkpoint) -> Result<BTreeMap<String, Vec<u64>>, String> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(default, rename = "__metadata__")]
        metadata: BTreeMap<String, String>,
    }
    let mut shapes = BTreeMap::new();
    for file in file.files() {
        let json = file.header().get(8..).unwrap_or_default();
        let Header { metadata } = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let Some(text) = metadata.get("shapes") else { continue };
        let listed: BTreeMap<String, Vec<u64>> =
            serde_json::from_str(text).map_err(|error| format!("its `shapes` are not understood: {error}"))?;
        shapes.extend(listed);
    }
    Ok(shapes)
}

/// The elements that are listed of a tensor: flat index, and the bits in the base and after it, in ascending order.
fn elements(
    tensor: Tensor<'_>,
    indices: Tensor<'_>,
    values: Tensor<'_>,
    path: &Path,
) -> Result<Vec<(u64, u64, u64)>, ExchangeFault> {
    let (info, name) = (tensor.info, &tensor.info.name);
    let malformed = |reason: String| ExchangeFault::Malformed { path: path.to_owned(), reason };
    let (places, new) = (indices.info, values.info);
    if !counts_numbers(info.dtype) || new.dtype != info.dtype {
        return Err(ExchangeFault::OtherTensor {
            path: path.to_owned(),
            tensor: name.clone(),
            expected: new.dtype.to_string(),
            dtype: info.dtype,
            shape: info.shape.clone(),
        });
    }
    if ![Dtype::I32, Dtype::I64].contains(&places.dtype) || places.shape.len() != 1 || new.shape != places.shape {
        let (dtype, one, other) = (places.dtype, &places.shape, &new.shape);
        return Err(malformed(format!(
            "{name:?} has indices of dtype {dtype} and shape {one:?} and values of shape {other:?}; both must be one list, the indices I32 or I64"
        )));
    }
    let width = info.dtype.width();
    let at = |index: u64| {
        let bits = places.dtype.width().load(indices.elements(index..index + 1), 0);
        let place = if places.dtype == Dtype::I32 { i64::from(bits as u32 as i32) } else { bits as i64 };
        let inside = u64::try_from(place).ok().filter(|place| *place < info.elements());
        let place =
            inside.ok_or_else(|| malformed(format!("{name:?} lists element {place} of {}", info.elements())))?;
        let result = width.load(values.elements(index..index + 1), 0);
        must_be_number(tensor, place, result)?;
        Ok((place, width.load(tensor.elements(place..place + 1), 0), result))
    };
    let mut listed = (0..places.elements()).map(at).collect::<Result<Vec<_>, ExchangeFault>>()?;
    listed.sort_unstable_by_key(|(index, ..)| *index);
    match listed.array_windows().find_map(|[(a, ..), (b, ..)]| (a == b).then_some(*a)) {
        Some(twice) => Err(malformed(format!("{name:?} lists element {twice} twice"))),
        None => Ok(listed),
    }
}
