//! Writes a patch as a SHiRA adapter.

use super::{CONFIG, DELTAS, INDICES, PREFIX, WEIGHTS, delta};
use crate::apply::{Edit, Plan, PlanOptions};
use crate::checkpoint::names::{self, Component};
use crate::checkpoint::{Checkpoint, Layout, Tensor, header};
use crate::context::Context;
use crate::dtype::Dtype;
use crate::durable::{Existing, NewDirectory, NewFile, check_new_directory, write_file};
use crate::error::{Error, ExchangeFault};
use crate::input::Meant;
use crate::json;
use crate::pair::PrefixMap;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

/// How many times the bytes of the patch the padding may take.
const PADDING_MOST: u64 = 16;
/// Bytes of a weight: row and column, and what is added.
const WEIGHT_BYTES: u64 = 12;

/// How an adapter is written.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Write it although most of it is padding.
    pub any_padding: bool,
    /// Replaces a prefix of the base's tensor names by that of the model's modules.
    pub prefix: Option<PrefixMap>,
}

/// An adapter that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Exported {
    /// Modules that change.
    pub modules: u64,
    /// Weights that change.
    pub changed: u64,
    /// Weights among them that single precision does not lead to exactly.
    pub inexact: u64,
    /// Weights that are listed and do not change.
    pub padding: u64,
    /// PEFT's `r`.
    pub r: u64,
    /// Bytes of the adapter's weights file.
    pub bytes: u64,
}

/// The weight of a linear layer.
struct Module<'a> {
    /// Its name in the model.
    name: String,
    tensor: Tensor<'a>,
    rows: u64,
    columns: u64,
    changed: u64,
    inexact: u64,
}

impl Module<'_> {
    /// Weights that PEFT wants listed.
    fn listed(&self, r: u64) -> u64 {
        r.saturating_mul(self.rows + self.columns)
    }

    /// The smallest `r` with which all that changes can be listed.
    fn r(&self) -> u64 {
        self.changed.div_ceil(self.rows + self.columns)
    }

    fn elements(&self) -> u64 {
        self.rows * self.columns
    }
}

/// Writes what `edit` makes of `base` as an adapter, to a new directory at `output`.
///
/// Cost: the tensors that change are read three times. Memory: 40 bytes for each weight listed in one tensor.
///
/// # Errors
/// [Kinds](crate::ErrorKind) `ExportUnsuited`, `NotFinite`, `PublishAdapter`; what [`Plan::check`] returns; those of outputs.
pub(crate) fn export(
    base: &Checkpoint,
    edit: &Edit,
    options: &Options,
    output: &Path,
    context: &Context<'_>,
) -> Result<Exported, Error> {
    check_output(output)?;
    let plan = Plan::check(base, std::slice::from_ref(edit), &PlanOptions::default(), context)?;
    let modules = modules(&plan, options, context)?;
    context.begin("comparing", modules.iter().map(|module| module.tensor.info.bytes()).sum());
    let count = |mut module| count(&plan, &mut module, context).map(|()| module);
    let counted: Vec<Module<'_>> = modules.into_par_iter().map(count).collect::<Result<_, Error>>()?;
    let modules: Vec<Module<'_>> = counted.into_iter().filter(|module| module.changed > 0).collect();
    let exported = sizes(edit, &modules, options)?;
    context.begin("writing", modules.iter().map(|module| module.tensor.info.bytes()).sum());
    let new = NewDirectory::create(output)?;
    let written = write_weights(&plan, edit, &modules, exported.r, &new, context).and_then(|bytes| {
        let config = config(edit, &modules, exported.r);
        let written = write_file(&new.temporary_path().join(CONFIG), config.as_bytes(), Existing::Keep);
        written.map_err(|failed| failed.inside(output))?;
        Ok(bytes)
    });
    let bytes = base.settled(written)?;
    new.commit()?;
    Ok(Exported { bytes, ..exported })
}

/// Refuses a directory that cannot be the adapter's. Called before the work begins.
pub(crate) fn check_output(output: &Path) -> Result<(), Error> {
    let is_patch = |name: std::ffi::OsString| Path::new(&name).extension().is_some_and(|end| end == "lcepatch");
    let mut entries = std::fs::read_dir(output).into_iter().flatten().flatten();
    if entries.any(|entry| is_patch(entry.file_name())) {
        return Err(ExchangeFault::BesidePatches { path: output.to_owned() }.into());
    }
    Ok(check_new_directory(output)?)
}

/// The modules of the tensors that `plan` changes.
fn modules<'a>(plan: &Plan<'a>, options: &Options, context: &Context<'_>) -> Result<Vec<Module<'a>>, Error> {
    let base = plan.base();
    let model_type = model_type(base);
    let (mut modules, mut refused, mut of) = (Vec::new(), Vec::new(), 0);
    for tensor in plan.changed().filter_map(|name| base.tensor(name)) {
        of += 1;
        let name = &tensor.info.name;
        let module = match linear(tensor, model_type.as_deref()) {
            Ok(module) => module,
            Err(why) => {
                refused.push((name.clone(), why.to_owned()));
                continue;
            }
        };
        if names::is_tied_head(name)
            && let Some(tied) = tied_to(tensor, base, context)?
        {
            refused.push((name.clone(), format!("it is tied to {tied:?}, which PEFT would change with it")));
            continue;
        }
        let name = options.prefix.as_ref().map_or_else(|| module.to_owned(), |prefix| prefix.apply(module));
        let [rows, columns] = [0, 1].map(|dim| tensor.info.shape.get(dim).copied().unwrap_or(1));
        modules.push(Module { name, tensor, rows, columns, changed: 0, inexact: 0 });
    }
    // PEFT takes a name in `target_modules` for every module whose name ends with it.
    for module in &modules {
        let end = format!(".{}.weight", module.name);
        if let Some(other) = base.tensors().find(|other| other.info.name.ends_with(&end) && !same(other, module.tensor))
        {
            let why = format!("its name is the end of {:?}, and PEFT would take it for both", other.info.name);
            refused.push((module.tensor.info.name.clone(), why));
        }
    }
    if refused.is_empty() { Ok(modules) } else { Err(ExchangeFault::NotLinear { tensors: refused, of }.into()) }
}

fn same(one: &Tensor<'_>, other: Tensor<'_>) -> bool {
    one.info.name == other.info.name
}

/// `model_type` of the `config.json` beside the weights.
fn model_type(base: &Checkpoint) -> Option<String> {
    let folder = match base.layout() {
        Layout::Directory { .. } => base.path(),
        Layout::File | Layout::Index { .. } => base.path().parent()?,
    };
    let text = json::read_file(&folder.join("config.json"), Meant::Model).ok()?;
    json::check(&text).ok()?;
    let config: Value = serde_json::from_slice(&text).ok()?;
    Some(config.get("model_type")?.as_str()?.to_owned())
}

/// Models whose dense layers transformers makes of `Conv1D`, which stores a matrix the other way round.
const CONV1D: [&str; 4] = ["gpt2", "openai-gpt", "imagegpt", "decision_transformer"];
/// Names of these layers.
const CONV1D_LAYERS: [&str; 4] = ["c_attn", "c_proj", "c_fc", "q_attn"];

/// The name of the `nn.Linear` module that a tensor is the weight of, or why it is none.
fn linear<'t>(tensor: Tensor<'t>, model_type: Option<&str>) -> Result<&'t str, &'static str> {
    let info = tensor.info;
    if ![Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64].contains(&info.dtype) {
        return Err("its dtype is none that torch adds single precision to");
    }
    let module = info.name.strip_suffix(".weight").ok_or("it is not the weight of a module")?;
    let place = names::place(&info.name);
    match (place.component, &info.shape[..]) {
        (Component::Embeddings, _) => return Err("it is an embedding, by its name"),
        (Component::Norm, _) => return Err("it belongs to a norm, by its name"),
        (_, [rows, columns]) if *rows > 0 && *columns > 0 => {
            if [rows, columns].into_iter().any(|dim| i32::try_from(*dim).is_err()) {
                return Err("it has more rows or columns than indices of 32 bits reach");
            }
        }
        _ => return Err("it is not a matrix"),
    }
    let last = module.rsplit('.').next().unwrap_or_default();
    if CONV1D_LAYERS.contains(&last) && model_type.is_none_or(|model| CONV1D.contains(&model)) {
        return Err("it belongs to a Conv1D of transformers, or config.json does not say that it does not");
    }
    Ok(module)
}

/// The embedding that a head is tied to: the same numbers are in both.
fn tied_to(head: Tensor<'_>, base: &Checkpoint, context: &Context<'_>) -> Result<Option<String>, Error> {
    let is_embedding = |other: &Tensor<'_>| {
        let alike = (&other.info.shape, other.info.dtype) == (&head.info.shape, head.info.dtype);
        alike && names::place(&other.info.name).component == Component::Embeddings
    };
    for embedding in base.tensors().filter(is_embedding) {
        if embedding.digest(context)? == head.digest(context)? {
            return Ok(Some(embedding.info.name.clone()));
        }
    }
    Ok(None)
}

/// Counts what changes in a module.
fn count(plan: &Plan<'_>, module: &mut Module<'_>, context: &Context<'_>) -> Result<(), Error> {
    let tensor = module.tensor;
    let (mut changed, mut inexact) = (0, 0);
    let mut each = |index, base, result| {
        changed += 1;
        inexact += u64::from(!finite_delta(tensor, index, base, result)?.1);
        Ok(())
    };
    plan.changed_elements(tensor, &mut each, context)?;
    (module.changed, module.inexact) = (changed, inexact);
    Ok(())
}

/// The delta of an element, and whether it is exact.
fn finite_delta(tensor: Tensor<'_>, index: u64, base: u64, result: u64) -> Result<(f32, bool), Error> {
    let dtype = tensor.info.dtype;
    let Some((delta, is_exact)) = delta(dtype, base, result) else { return Ok((0.0, false)) };
    if delta.is_finite() {
        return Ok((delta, is_exact));
    }
    let value = |bits| dtype.float().map_or(0.0, |float| float.value(bits));
    let (side, value) = if value(base).is_finite() { ("result", value(result)) } else { ("base", value(base)) };
    let (tensor, format) = (tensor.info.name.clone(), "SHiRA");
    let reason = "what it adds to a weight is a finite number in single precision";
    Err(ExchangeFault::NotFinite { tensor, index, value, side, format, reason }.into())
}

/// What the adapter will hold.
fn sizes(edit: &Edit, modules: &[Module<'_>], options: &Options) -> Result<Exported, ExchangeFault> {
    let Some(r) = modules.iter().map(Module::r).max() else {
        let alpha = edit.kind.alpha().map_or(1.0, |alpha| alpha.value());
        return Err(ExchangeFault::Nothing { patch: edit.patch.name().to_owned(), alpha });
    };
    if let Some(module) = modules.iter().find(|module| module.listed(r) > module.elements()) {
        let (listed, elements) = (module.listed(r), module.elements());
        return Err(ExchangeFault::Rank { module: module.name.clone(), r, listed, elements });
    }
    let sum = |of: fn(&Module<'_>) -> u64| modules.iter().map(of).sum::<u64>();
    let (changed, inexact) = (sum(|module| module.changed), sum(|module| module.inexact));
    let padding = modules.iter().map(|module| module.listed(r)).sum::<u64>() - changed;
    let (padding_bytes, patch) = (padding * WEIGHT_BYTES, edit.patch.file_bytes());
    if padding_bytes > patch.saturating_mul(PADDING_MOST) && !options.any_padding {
        return Err(ExchangeFault::Padding { padding: padding_bytes, patch, most: PADDING_MOST });
    }
    Ok(Exported { modules: modules.len() as u64, changed, inexact, padding, r, bytes: 0 })
}

/// Writes the file of weights, and returns its size.
fn write_weights(
    plan: &Plan<'_>,
    edit: &Edit,
    modules: &[Module<'_>],
    r: u64,
    new: &NewDirectory,
    context: &Context<'_>,
) -> Result<u64, Error> {
    let names = modules.iter().flat_map(|module| {
        let name = |end| format!("{PREFIX}{}{end}", module.name);
        let listed = module.listed(r);
        [(name(INDICES), Dtype::I32, vec![2, listed]), (name(DELTAS), Dtype::F32, vec![listed])]
    });
    let names: Vec<(String, Dtype, Vec<u64>)> = names.collect();
    let tensors = names.iter().map(|(name, dtype, shape)| (&name[..], *dtype, &shape[..]));
    let id = edit.patch.id().to_string();
    let alpha = edit.kind.alpha().map_or_else(String::new, |alpha| alpha.to_string());
    let metadata = [("format", "pt"), ("lcepatch.patch", &id), ("lcepatch.alpha", &alpha)];
    let path = new.path();
    let failed = |e| crate::durable::Failed::io("write", path, e);
    let file = NewFile::create(&new.temporary_path().join(WEIGHTS), Existing::Keep)?;
    let mut out = BufWriter::new(file.file());
    let header = header(tensors, &metadata);
    out.write_all(&header).map_err(failed)?;
    let mut bytes = header.len() as u64;
    for module in modules {
        let listed = listed(plan, module, r, context)?;
        bytes += listed.len() as u64 * WEIGHT_BYTES;
        let mut write = |number: [u8; 4]| out.write_all(&number).map_err(failed);
        let columns = module.columns;
        listed.iter().try_for_each(|(index, _)| write(((index / columns) as i32).to_le_bytes()))?;
        listed.iter().try_for_each(|(index, _)| write(((index % columns) as i32).to_le_bytes()))?;
        listed.iter().try_for_each(|(_, delta)| write(delta.to_le_bytes()))?;
    }
    out.flush().map_err(failed)?;
    drop(out);
    file.commit().map_err(|failed| failed.inside(path))?;
    Ok(bytes)
}

/// What is listed of a module: the flat index of each weight, ascending, and what is added to it, which is zero for the padding.
fn listed(plan: &Plan<'_>, module: &Module<'_>, r: u64, context: &Context<'_>) -> Result<Vec<(u64, f32)>, Error> {
    let tensor = module.tensor;
    let mut listed: Vec<(u64, f32)> = Vec::new();
    let mut each = |index, base, result| {
        listed.push((index, finite_delta(tensor, index, base, result)?.0));
        Ok(())
    };
    plan.changed_elements(tensor, &mut each, context)?;
    let mut padding = Padding { missing: module.listed(r) - listed.len() as u64, ..Padding::default() };
    padding.find(tensor, listed.iter().map(|(index, _)| *index));
    listed.extend(padding.chosen());
    listed.sort_unstable_by_key(|(index, _)| *index);
    Ok(listed)
}

/// Weights that are listed although they do not change.
#[derive(Default)]
struct Padding {
    /// How many are needed.
    missing: u64,
    free: Vec<u64>,
    /// Weights that are -0, and not a number. Adding zero would change them, so that they are used last.
    negative_zeros: Vec<u64>,
}

impl Padding {
    /// Finds the first weights that are not among the ascending `changed` ones.
    fn find(&mut self, tensor: Tensor<'_>, changed: impl Iterator<Item = u64>) {
        let mut changed = changed.peekable();
        let (dtype, width) = (tensor.info.dtype, tensor.info.dtype.width());
        let Some(float) = dtype.float() else { return };
        for part in tensor.element_windows(0..tensor.info.elements()) {
            if self.free.len() as u64 >= self.missing {
                return;
            }
            let bytes = tensor.elements(part.clone());
            for index in part.clone() {
                if changed.next_if_eq(&index).is_some() {
                    continue;
                }
                let value = float.value(width.load(bytes, (index - part.start) as usize));
                let is_kept = value != 0.0 || value.is_sign_positive();
                let kind = if is_kept { &mut self.free } else { &mut self.negative_zeros };
                if (kind.len() as u64) < self.missing {
                    kind.push(index);
                }
            }
            tensor.release(part);
        }
    }

    fn chosen(self) -> impl Iterator<Item = (u64, f32)> {
        let free = self.free.into_iter().map(|index| (index, 0.0));
        // -0 + -0 is -0.
        free.chain(self.negative_zeros.into_iter().map(|index| (index, -0.0))).take(self.missing as usize)
    }
}

/// The text of `adapter_config.json`.
fn config(edit: &Edit, modules: &[Module<'_>], r: u64) -> String {
    let modules: Vec<&str> = modules.iter().map(|module| &module.name[..]).collect();
    let config: BTreeMap<&str, Value> = [
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(edit.patch.metadata().base.model_id)),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_weights", json!(true)),
        // With a name that PEFT does not know, it takes the positions from the file and draws none.
        ("mask_type", json!("lcepatch")),
        ("modules_to_save", Value::Null),
        ("peft_type", json!("SHIRA")),
        ("r", json!(r)),
        ("random_seed", Value::Null),
        ("revision", Value::Null),
        ("target_modules", json!(modules)),
        ("task_type", Value::Null),
    ]
    .into();
    // Keys and values are texts, numbers and lists of these, which JSON can always hold.
    format!("{:#}\n", json!(config))
}
