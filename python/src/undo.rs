//! Edits of arrays in place, and the way back.

use crate::checkpoint::Checkpoint;
use crate::edits::{Given, Options};
use crate::extent::{Lending, agrees};
use crate::fault::Fault;
use crate::patch::{Patch, patches_of};
use crate::work::{Ended, brief, finish, run};
use lcepatch::ErrorKind;
use lcepatch::apply::{Edit, Exchange, Plan, PlanOptions};
use lcepatch::cli::program::{self, Unanswered};
use lcepatch::context::{Cancelled, Context};
use lcepatch::format::digest::Digest;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One tensor that was edited, or will be.
#[derive(Clone)]
struct Edited {
    /// All names of its memory.
    names: Vec<String>,
    /// What it holds on the other side.
    exchange: Exchange,
    array: Lending,
    /// Whether the elements were exchanged.
    is_done: bool,
    /// The digest of the elements as they were written.
    written: Digest,
}

impl Edited {
    fn new(exchange: Exchange, array: Lending) -> Self {
        let names = vec![exchange.tensor().to_owned()];
        Self { names, exchange, array, is_done: false, written: Digest::UNKNOWN }
    }

    /// Whether the edited elements are still as they were written.
    fn is_unchanged(&self) -> bool {
        self.exchange.digest((*self.array.memory).as_ref()) == self.written
    }

    /// Writes the elements; with `hashes`, returns the digest of the whole tensor afterwards.
    fn write(&mut self, hashes: bool) -> Option<Digest> {
        let Self { exchange, array, is_done, written, .. } = self;
        *is_done = true;
        array.memory.write(|bytes| {
            if hashes {
                let (elements, whole) = exchange.exchange_and_digest(bytes);
                *written = elements;
                return Some(whole);
            }
            *written = exchange.other_digest();
            exchange.exchange(bytes);
            None
        })
    }
}

/// Takes back what was written.
fn take_back(edited: &mut [Edited]) {
    edited.par_iter_mut().filter(|edited| edited.is_done).for_each(|edited| {
        let Edited { exchange, array, .. } = edited;
        array.memory.write(|bytes| exchange.exchange(bytes));
    });
}

/// The way back from an edit in place.
#[pyclass(frozen, module = "lcepatch._native")]
pub struct Undo {
    edited: Mutex<Arc<Vec<Edited>>>,
}

impl Undo {
    /// For a moment only, and with the interpreter's lock: in a process that is forked meanwhile, nobody would give it back.
    fn lock(&self, _: Python<'_>) -> MutexGuard<'_, Arc<Vec<Edited>>> {
        self.edited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Undo {
    /// Nothing was edited.
    #[new]
    fn new() -> Self {
        Self { edited: Mutex::default() }
    }

    /// The names of the tensors that were edited and are not restored.
    fn names(&self, py: Python<'_>) -> Vec<String> {
        self.lock(py).iter().map(|edited| edited.exchange.tensor().to_owned()).collect()
    }

    /// How many elements of a tensor were edited.
    fn selected(&self, py: Python<'_>, tensor: &str) -> u64 {
        let edited = self.lock(py);
        edited.iter().filter(|edited| edited.exchange.tensor() == tensor).map(|edited| edited.exchange.len()).sum()
    }

    /// The flat indices of the edited elements of a tensor, as little-endian 64-bit integers, and the bits that they had.
    fn held<'py>(&self, py: Python<'py>, tensor: &str) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let edited = self.lock(py);
        let Edited { exchange, .. } = edited.iter().find(|edited| edited.exchange.tensor() == tensor)?;
        let positions: Vec<u8> = exchange.positions().into_iter().flat_map(u64::to_le_bytes).collect();
        Some((PyBytes::new(py, &positions), PyBytes::new(py, &exchange.bits())))
    }

    /// Forgets a tensor, which is restored in another way.
    fn forget(&self, py: Python<'_>, tensor: &str) {
        let mut edited = std::mem::take(&mut *self.lock(py));
        // Without the lock: giving an array back may run other code.
        Arc::make_mut(&mut edited).retain(|edited| edited.exchange.tensor() != tensor);
        *self.lock(py) = edited;
    }

    /// The names of the tensors whose edited elements something has changed since.
    fn changed(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let edited = self.lock(py).clone();
        finish(py, |_| {
            let changed = edited.iter().filter(|edited| !edited.is_unchanged());
            Ok(changed.map(|edited| edited.exchange.tensor().to_owned()).collect())
        })
    }

    /// Restores all edited elements. It cannot be interrupted.
    fn restore(&self, py: Python<'_>) {
        let edited = std::mem::take(&mut *self.lock(py));
        // A thread of a parent process that looked for changes has it still.
        brief(py, || take_back(&mut Arc::unwrap_or_clone(edited)));
    }
}

/// Edits the arrays of `base` in place: all of them, or none. `undo`, which is empty, then is the way back: it is there before, so that no
/// interruption can lose it.
#[pyfunction]
pub fn apply_(
    py: Python<'_>,
    undo: &Undo,
    base: &Checkpoint,
    patches: Vec<(PyRef<'_, Patch>, Option<f64>)>,
    wishes: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let (given, options) = (patches_of(patches), Options::of(wishes)?);
    let Ended { outcome, interrupted } = run(py, |tools| edit(base, given, &options, &tools.context))?;
    let mut edited = match (outcome, &interrupted) {
        (Ok(edited), _) => edited,
        (Err(_), Some(_)) => Vec::new(),
        (Err(fault), None) => return Err(fault.raise(py)),
    };
    if let Some(interrupted) = interrupted {
        // Done all the same, and taken back.
        brief(py, || take_back(&mut edited));
        return Err(interrupted);
    }
    *undo.lock(py) = Arc::new(edited);
    Ok(())
}

fn edit(base: &Checkpoint, given: Vec<Given>, options: &Options, context: &Context<'_>) -> Result<Vec<Edited>, Fault> {
    let edits = options.edits(given, context)?;
    let options = options.plan()?;
    let look_again = |fault| look_again(fault, base, &edits, &options, context);
    let exchanges = Plan::with_exchanges(&base.checkpoint, &edits, &options, context);
    let (plan, exchanges) = exchanges.map_err(|error| look_again(error.into()))?;
    let mut edited: Vec<Edited> = Vec::new();
    for exchange in exchanges {
        let Some(array) = base.arrays.get(exchange.tensor()).cloned() else { continue };
        if array.memory.read_only() {
            return Err(Fault::Array {
                kind: "array.read-only",
                message: format!("{:?} is read-only", exchange.tensor()),
                help: "copy the array, or set its flag `writeable`",
            });
        }
        edited.push(Edited::new(exchange, array));
    }
    let mut edited = without_twins(edited, context)?;
    // From here on nothing reads the base but what looks at the result.
    match write_all(&mut edited, &plan, context) {
        Ok(()) => Ok(edited),
        Err(fault) => {
            take_back(&mut edited);
            Err(look_again(fault))
        }
    }
}

/// A fault that blames a patch, unless another look at the arrays, of which nothing is edited, says that something else has changed them
/// meanwhile.
fn look_again(fault: Fault, base: &Checkpoint, edits: &[Edit], options: &PlanOptions, context: &Context<'_>) -> Fault {
    let Fault::Unanswered(Unanswered::Library(error)) = &fault else { return fault };
    let kind = error.kind();
    if !matches!(kind, ErrorKind::PatchInvalid | ErrorKind::ResultDiffers) {
        return fault;
    }
    let is_changed = match Plan::with_exchanges(&base.checkpoint, edits, options, context) {
        Err(of_base) if matches!(of_base.kind(), ErrorKind::BaseDiffers | ErrorKind::BaseAlreadyApplied) => {
            return of_base.into();
        }
        // What a patch says wrongly it says wrongly each time.
        Err(again) => program::message(&again) != program::message(error),
        Ok(_) => kind == ErrorKind::PatchInvalid,
    };
    match is_changed {
        true => Fault::Array {
            kind: "array.changed",
            message: "something else changes the arrays while they are edited".to_owned(),
            help: "keep what else writes to them away until the edit is done",
        },
        false => fault,
    }
}

/// Writes the result, and compares it with the digest that the patch declares, if it declares one.
fn write_all(edited: &mut [Edited], plan: &Plan<'_>, context: &Context<'_>) -> Result<(), Fault> {
    let declares = plan.declares_result();
    context.begin("writing", edited.iter().map(|edited| edited.array.memory.place().1 as u64).sum());
    let write = |edited: &mut Edited| -> Result<Vec<(String, Digest)>, Cancelled> {
        context.advance(edited.array.memory.place().1 as u64)?;
        let digest = edited.write(declares);
        Ok(digest.map(|digest| edited.names.iter().map(|name| (name.clone(), digest)).collect()).unwrap_or_default())
    };
    let digests = edited.par_iter_mut().map(write).collect::<Result<Vec<_>, Cancelled>>()?;
    let by_name = digests.into_iter().flatten().collect();
    Ok(plan.check_result(&by_name)?)
}

/// The tensors that are edited, each memory once: weights that are tied have several names. Arrays that share memory in other ways, such as
/// a transposed view, must be changed alike where they do.
fn without_twins(mut edited: Vec<Edited>, context: &Context<'_>) -> Result<Vec<Edited>, Fault> {
    edited.sort_by(|one, other| one.array.extent.order().cmp(&other.array.extent.order()));
    let mut single: Vec<Edited> = Vec::new();
    // The indices of those that reach as far as the next one.
    let mut near: Vec<usize> = Vec::new();
    for next in edited {
        near.retain(|at| !single[*at].array.extent.ends_before(&next.array.extent));
        let is_empty = next.array.extent.is_empty();
        let mut twin = None;
        for at in near.iter().copied().filter(|_| !is_empty) {
            let other = &single[at];
            context.advance(0)?;
            if other.array.is_same(&next.array) && other.exchange.is_same(&next.exchange) {
                twin = Some(at);
                break;
            }
            check_together(other, &next)?;
        }
        match twin {
            Some(at) => single[at].names.extend(next.names),
            None => {
                near.push(single.len());
                single.push(next);
            }
        }
    }
    Ok(single)
}

/// Checks that two arrays share no memory, or become what the patch makes of each.
fn check_together(first: &Edited, second: &Edited) -> Result<(), Fault> {
    if first.array.extent.is_apart(&second.array.extent) {
        return Ok(());
    }
    let is_same = first.array.is_same(&second.array);
    // Of two exchanges of one memory, each would find what the other one has written.
    let is_one_memory = is_same || first.array.is_direct() && second.array.is_direct();
    let [one, two] = [first, second].map(|edited| (&edited.array, &edited.exchange));
    if !is_one_memory && agrees(one, two) && agrees(two, one) {
        return Ok(());
    }
    let how = match is_one_memory && !is_same {
        true => "and only in part",
        false => "and the patch changes them differently",
    };
    let (first, second) = (first.exchange.tensor(), second.exchange.tensor());
    Err(Fault::Array {
        kind: "base.shared",
        message: format!("{first:?} and {second:?} share memory, {how}"),
        help: "untie the weights: give each array memory of its own",
    })
}
