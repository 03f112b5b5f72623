//! Long work: without the interpreter's lock, on threads of its own, and stopped by an interruption.

use crate::fault::Fault;
use lcepatch::cli::program::Program;
use lcepatch::context::{Context, Silent};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often an interruption is looked for.
const INTERVAL: Duration = Duration::from_millis(50);

/// The threads that all work is shared among.
struct Threads {
    /// How many were asked for when the first work of this process, or of the one that it was forked from, began.
    number: usize,
    /// The process that they are of. One that was forked has none of its parent's, and starts as many of its own.
    process: u32,
    /// None if the system allows no more.
    pool: Option<Arc<ThreadPool>>,
}

static THREADS: Mutex<Option<Threads>> = Mutex::new(None);

/// The threads that all work is shared among; None if the system allows no more. Asked for with the interpreter's lock, so that no process
/// is forked meanwhile.
///
/// # Errors
/// If the first work begins, and a variable asks for a number of threads that the command refuses, too.
fn threads(_: Python<'_>) -> Result<Option<Arc<ThreadPool>>, Fault> {
    let (mut threads, own) = (THREADS.lock().unwrap_or_else(PoisonError::into_inner), std::process::id());
    let number = match &*threads {
        Some(Threads { process, pool: Some(pool), .. }) if *process == own => return Ok(Some(pool.clone())),
        Some(known) => known.number,
        None => wanted()?,
    };
    let pool = ThreadPoolBuilder::new().num_threads(number).build().ok().map(Arc::new);
    // The parent's pool must not be dropped here, where its threads are not.
    std::mem::forget(threads.replace(Threads { number, process: own, pool: pool.clone() }));
    Ok(pool)
}

/// The number of threads that a variable asks for, or else one for each processor.
fn wanted() -> Result<usize, Fault> {
    let Some(wanted) = std::env::var_os("LCEPATCH_THREADS") else {
        return Ok(std::thread::available_parallelism().map_or(1, NonZero::get));
    };
    let number = wanted.to_str().and_then(|wanted| wanted.parse().ok()).filter(|number| (1..=1024).contains(number));
    let help = "set it to a number from 1 to 1024, or unset it";
    number.ok_or_else(|| Fault::usage(format!("LCEPATCH_THREADS is {wanted:?}"), help))
}

/// Runs short work, which cannot be interrupted, without the interpreter's lock.
pub fn brief<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    // Long work came before it, and has asked for the number.
    let threads = threads(py).ok().flatten();
    py.detach(|| match threads {
        Some(threads) => threads.install(work),
        None => work(),
    })
}

/// What work needs besides its input.
pub struct Tools<'a> {
    /// Progress and interruption.
    pub context: Context<'a>,
    /// Runs commands and looks names up.
    pub program: Program,
}

/// Work that has ended.
pub struct Ended<T> {
    /// How.
    pub outcome: Result<T, Fault>,
    /// The exception of an interruption that came meanwhile. The work may be done all the same.
    pub interrupted: Option<PyErr>,
}

/// Runs `work` on other threads, while other threads of Python run. A signal whose handler raises an exception, such as that of Ctrl-C,
/// cancels it. Notes of the work go to the logger `lcepatch`.
pub fn run<T: Send>(py: Python<'_>, work: impl FnOnce(&Tools<'_>) -> Result<T, Fault> + Send) -> PyResult<Ended<T>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let notes: Arc<Mutex<Vec<String>>> = Arc::default();
    let (keep, flag) = (notes.clone(), cancelled.clone());
    let threads = threads(py).map_err(|fault| fault.raise(py))?;
    let say = Arc::new(move |text: &str| keep.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned()));
    let (ended, interrupted) = py.detach(|| {
        let (send, receive) = channel();
        let mut interrupted = None;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let tools = Tools { context: Context::new(&Silent, &flag), program: Program::new(say, flag.clone()) };
                let work = || match &threads {
                    Some(threads) => threads.install(|| work(&tools)),
                    None => work(&tools),
                };
                // The receiver waits.
                let _ = send.send(catch_unwind(AssertUnwindSafe(work)));
            });
            loop {
                match receive.recv_timeout(INTERVAL) {
                    Ok(ended) => return (Some(ended), interrupted),
                    Err(RecvTimeoutError::Disconnected) => return (None, interrupted),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = Python::attach(|py| py.check_signals()) {
                            cancelled.store(true, Ordering::Relaxed);
                            interrupted = Some(error);
                        }
                    }
                }
            }
        })
    });
    let outcome = match ended {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(Fault::usage("the work ended without an answer", "this is a mistake in lcepatch: report it")),
    };
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    if !notes.is_empty() {
        let logger = py.import("logging")?.getattr("getLogger")?.call1(("lcepatch",))?;
        notes.into_iter().try_for_each(|note| logger.call_method1("warning", ("%s", note)).map(|_| ()))?;
    }
    Ok(Ended { outcome, interrupted })
}

/// As [`run`], for work whose result may be dropped.
pub fn finish<T: Send>(py: Python<'_>, work: impl FnOnce(&Tools<'_>) -> Result<T, Fault> + Send) -> PyResult<T> {
    let Ended { outcome, interrupted } = run(py, work)?;
    match interrupted {
        Some(interrupted) => Err(interrupted),
        None => outcome.map_err(|fault| fault.raise(py)),
    }
}
