//! Errors of the library as exceptions of `lcepatch.errors`.

use lcepatch::ErrorKind;
use lcepatch::cli::program::{self, Unanswered};
use pyo3::prelude::*;

/// Why something was not done.
#[derive(Debug)]
pub enum Fault {
    /// The library, or the command, says why.
    Unanswered(Unanswered),
    /// An array is not as it must be.
    Array {
        /// A stable name.
        kind: &'static str,
        /// What is wrong.
        message: String,
        /// What to do.
        help: &'static str,
    },
}

impl<E: Into<Unanswered>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Unanswered(error.into())
    }
}

impl Fault {
    /// Arguments that cannot be used.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Unanswered(Unanswered::Usage { message: message.into(), help: Some(help.into()) })
    }

    /// The exception.
    pub fn raise(self, py: Python<'_>) -> PyErr {
        self.exception(py).unwrap_or_else(|error| error)
    }

    fn exception(self, py: Python<'_>) -> PyResult<PyErr> {
        let (code, kind, message, details, help, rule) = match self {
            Self::Unanswered(Unanswered::Library(error)) => {
                if error.kind() == ErrorKind::Interrupted {
                    return Ok(pyo3::exceptions::PyKeyboardInterrupt::new_err(()));
                }
                let (code, message) = (program::exit_code(error.kind()), program::message(&error));
                (code, error.code(), message, error.details(), program::help(&error), error.rule())
            }
            Self::Unanswered(Unanswered::Usage { message, help }) => {
                (program::USAGE, "usage", message, Vec::new(), help, None)
            }
            Self::Array { kind, message, help } => {
                (program::exit_code(ErrorKind::BaseDiffers), kind, message, Vec::new(), Some(help.to_owned()), None)
            }
        };
        let of = py.import("lcepatch.errors")?.getattr("_of")?;
        Ok(PyErr::from_value(of.call1((code, kind, message, details, help, rule))?))
    }
}
