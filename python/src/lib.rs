//! The native part of the Python module `lcepatch`. What people call is in `python/lcepatch`, with names and types for Python; here are
//! only the steps that need the library.
//!
//! Structured answers are JSON texts, since Python reads them in one line. Work runs without the interpreter's lock (`work`), and
//! arrays stay where they are (`memory`).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod fault;
mod memory;
mod text;
mod work;

mod extent;

mod checkpoint;

mod edits;
mod patch;

mod undo;
mod verbs;

use pyo3::prelude::*;

/// The native part of lcepatch.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::checkpoint::Checkpoint;
    #[pymodule_export]
    use super::patch::Patch;
    #[pymodule_export]
    use super::undo::{Undo, apply_};
    #[pymodule_export]
    use super::verbs::{answer, apply, check, combine, compare, diff, invert, main, restrict, select, squash};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
