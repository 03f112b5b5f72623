//! Reads a SHiRA adapter as a patch.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::super::imported::{Import, Imported, find};
use super::{CONFIG, DELTAS, INDICES, PREFIX, WEIGHTS, merged};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::context::Context;
use crate::dtype::{Dtype, Rounded};
use crate::error::{Error, ExchangeFault};
use crate::input::Meant;
use crate::json;
use crate::pair::PrefixMap;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is read of `adapter_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    peft_type: Option<String>,
    r: u64,
    base_model_name_or_path: Option<String>,
    modules_to_save: Option<serde_json::Value>,
    target_modules: Option<serde_json::Value>,
}

/// The tensors of one module.
#[derive(Default)]
struct Parts<'a> {
    indices: Option<Tensor<'a>>,
    deltas: Option<Tensor<'a>>,
}

/// Makes the patch of the adapter in `directory`: at alpha 1 it gives, bit by bit, what PEFT's `merge_and_unload` makes of `base`.
/// `prefix` replaces a prefix of the names of the model's modules by that of the base's tensors.
///
/// Memory: 40 bytes for each weight that the adapter lists in one module, and the encoded patch.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `ImportMalformed`, `ImportUnsuited`, `NotFinite`; those of checkpoints.
pub(crate) fn import(
    directory: &Path,
    base: &Checkpoint,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Imported, Error> {
    let config = config(&directory.join(CONFIG))?;
    let path = directory.join(WEIGHTS);
    if !path.exists() && directory.join("adapter_model.bin").exists() {
        let reason = "its weights are a Python pickle, adapter_model.bin".to_owned();
        return Err(ExchangeFault::OtherAdapter { path: directory.to_owned(), reason }.into());
    }
    let adapter = Checkpoint::open(&path)?;
    let imported = import_open(&adapter, &config, base, prefix, context);
    adapter.settled(base.settled(imported))
}

fn import_open(
    adapter: &Checkpoint,
    config: &Config,
    base: &Checkpoint,
    prefix: Option<&PrefixMap>,
    context: &Context<'_>,
) -> Result<Imported, Error> {
    let path = adapter.path();
    let mut modules: BTreeMap<&str, Parts<'_>> = BTreeMap::new();
    for tensor in adapter.tensors() {
        let name = tensor.info.name.strip_prefix(PREFIX).unwrap_or(&tensor.info.name);
        if let Some(module) = name.strip_suffix(INDICES) {
            modules.entry(module).or_default().indices = Some(tensor);
        } else if let Some(module) = name.strip_suffix(DELTAS) {
            modules.entry(module).or_default().deltas = Some(tensor);
        } else {
            let reason = format!("it also has {:?}, which is not of SHiRA", tensor.info.name);
            return Err(unsuited(path, reason).into());
        }
    }
    let mut by_tensor: BTreeMap<&str, (Tensor<'_>, &str, Parts<'_>)> = BTreeMap::new();
    for (module, parts) in modules {
        must_be_target(config, module, path)?;
        let tensor = find(base, &format!("{module}.weight"), prefix, path)?;
        if by_tensor.insert(&tensor.info.name, (tensor, module, parts)).is_some() {
            return Err(malformed(path, format!("two modules are {:?} of the base", tensor.info.name)).into());
        }
    }
    context.begin("importing", by_tensor.values().map(|(tensor, ..)| tensor.info.bytes()).sum());
    let mut import = Import::new(base);
    for (tensor, module, parts) in by_tensor.into_values() {
        import.add(tensor, &elements(tensor, module, parts, config.r, path)?, context)?;
    }
    let model = config.base_model_name_or_path.clone().filter(|name| is_hub_name(name));
    import.finish("shira", model, context)
}

fn malformed(path: &Path, reason: String) -> ExchangeFault {
    ExchangeFault::Malformed { path: path.to_owned(), reason }
}

fn unsuited(path: &Path, reason: String) -> ExchangeFault {
    ExchangeFault::Unsuited { path: path.to_owned(), reason }
}

fn config(path: &PathBuf) -> Result<Config, Error> {
    let text = json::read_file(path, Meant::Model).map_err(|e| Error::io("read", path, e))?;
    json::check(&text).map_err(|reason| malformed(path, reason))?;
    let config: Config = serde_json::from_slice(&text).map_err(|e| malformed(path, e.to_string()))?;
    let is_empty = |value: &serde_json::Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    match config.peft_type.as_deref() {
        Some("SHIRA") => {}
        Some(other) => {
            let reason = format!("this is an adapter of type {other}, which is not a list of weights");
            return Err(ExchangeFault::OtherAdapter { path: path.to_owned(), reason }.into());
        }
        None => return Err(malformed(path, "it has no peft_type, so it is no adapter of PEFT".to_owned()).into()),
    }
    if config.modules_to_save.as_ref().is_some_and(|modules| !is_empty(modules)) {
        let reason = "the adapter also replaces whole modules (modules_to_save)".to_owned();
        return Err(ExchangeFault::OtherAdapter { path: path.to_owned(), reason }.into());
    }
    Ok(config)
}

/// Refuses a module that PEFT would not change, since it is none of the `target_modules`.
fn must_be_target(config: &Config, module: &str, path: &Path) -> Result<(), ExchangeFault> {
    let targets = match &config.target_modules {
        None | Some(serde_json::Value::Null) => return Ok(()),
        Some(serde_json::Value::Array(targets)) => targets,
        Some(pattern) => {
            let reason = format!("its target_modules is {pattern}; a list of modules says which of them PEFT changes");
            return Err(unsuited(path, reason));
        }
    };
    let is_target =
        |target: &str| module.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    match targets.iter().filter_map(serde_json::Value::as_str).any(is_target) {
        true => Ok(()),
        false => Err(malformed(path, format!("{module:?} is none of the target_modules, so PEFT would leave it out"))),
    }
}

/// Whether a name is one of a hub, and no path.
fn is_hub_name(name: &str) -> bool {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
    };
    matches!(name.split_once('/'), Some((owner, model)) if is_word(owner) && is_word(model))
}

/// The weights that a module lists: flat index, and the bits in the base and after the merge, in ascending order.
fn elements(
    tensor: Tensor<'_>,
    module: &str,
    parts: Parts<'_>,
    r: u64,
    path: &Path,
) -> Result<Vec<(u64, u64, u64)>, Error> {
    let (Some(indices), Some(deltas)) = (parts.indices, parts.deltas) else {
        return Err(malformed(path, format!("{module:?} has shira_weight or shira_indices without the other")).into());
    };
    let info = tensor.info;
    let &[rows, columns] = &info.shape[..] else {
        let expected = "the weight of an nn.Linear".to_owned();
        return Err(ExchangeFault::OtherTensor {
            path: path.to_owned(),
            tensor: info.name.clone(),
            expected,
            dtype: info.dtype,
            shape: info.shape.clone(),
        }
        .into());
    };
    let listed = r.checked_mul(rows + columns).filter(|listed| *listed > 0 && *listed <= info.elements());
    let found = (&indices.info.shape[..], &deltas.info.shape[..]);
    match listed {
        Some(listed) if found == (&[2, listed], &[listed]) => {}
        _ => {
            let reason = format!(
                "{module:?} lists {:?} indices and {:?} weights; with r = {r} and a matrix of {rows} x {columns} PEFT wants [2, k] and [k], k = r * (rows + columns) and at most all",
                found.0, found.1
            );
            return Err(malformed(path, reason).into());
        }
    }
    let mut listed = numbers(indices, deltas, module, path)?
        .map(|(row, column, delta)| {
            let inside = |at: f64, size: u64| (at >= 0.0 && at < size as f64 && at.fract() == 0.0).then_some(at as u64);
            match (inside(row, rows), inside(column, columns)) {
                (Some(row), Some(column)) => Ok((row * columns + column, delta)),
                _ => Err(malformed(
                    path,
                    format!("{module:?} lists the weight at row {row}, column {column} of {rows} x {columns}"),
                )),
            }
        })
        .collect::<Result<Vec<(u64, f32)>, ExchangeFault>>()?;
    listed.sort_unstable_by_key(|(index, _)| *index);
    if let Some(index) = listed.array_windows().find_map(|[(a, _), (b, _)]| (a == b).then_some(*a)) {
        let (row, column) = (index / columns, index % columns);
        let reason = format!("{module:?} lists the weight at row {row}, column {column} twice");
        return Err(malformed(path, reason).into());
    }
    let width = info.dtype.width();
    let element = |(index, delta): &(u64, f32)| {
        let base = width.load(tensor.elements(*index..*index + 1), 0);
        match merged(info.dtype, base, *delta) {
            Some(Rounded::Finite(result)) => Ok((*index, base, result)),
            Some(Rounded::NotFinite(_)) => {
                Err(ExchangeFault::BecomesNotFinite { tensor: info.name.clone(), index: *index }.into())
            }
            None => Err(ExchangeFault::OtherTensor {
                path: path.to_owned(),
                tensor: info.name.clone(),
                expected: "a matrix of F16, BF16, F32 or F64".to_owned(),
                dtype: info.dtype,
                shape: info.shape.clone(),
            }
            .into()),
        }
    };
    listed.iter().map(element).collect()
}

/// Row, column and delta of each weight that is listed. Indices may be floats, as PEFT saves them on Windows.
fn numbers<'a>(
    indices: Tensor<'a>,
    deltas: Tensor<'a>,
    module: &str,
    path: &Path,
) -> Result<impl Iterator<Item = (f64, f64, f32)> + 'a, ExchangeFault> {
    let (places, values) = (indices.info.dtype, deltas.info.dtype);
    let is_known = |tensor: Tensor<'_>| {
        // The dtypes that PEFT writes, and what it becomes where a model is loaded with fewer bits.
        let known: &[Dtype] = if tensor.info.name.ends_with(INDICES) {
            &[Dtype::I32, Dtype::I64, Dtype::F32]
        } else {
            &[Dtype::F32, Dtype::F16, Dtype::Bf16]
        };
        known.contains(&tensor.info.dtype)
    };
    if let Some(tensor) = [indices, deltas].into_iter().find(|tensor| !is_known(*tensor)) {
        let reason = format!("{:?} of {module:?} has dtype {}", tensor.info.name, tensor.info.dtype);
        return Err(malformed(path, reason));
    }
    let k = deltas.info.elements();
    let place = move |at: u64| {
        let bits = places.width().load(indices.elements(at..at + 1), 0);
        match places {
            Dtype::I32 => f64::from(bits as u32 as i32),
            Dtype::I64 => bits as i64 as f64,
            _ => f64::from(f32::from_bits(bits as u32)),
        }
    };
    let value = move |at: u64| {
        let bits = values.width().load(deltas.elements(at..at + 1), 0);
        values.float().map_or(f32::NAN, |float| float.value(bits) as f32)
    };
    Ok((0..k).map(move |at| (place(at), place(k + at), value(at))))
}
