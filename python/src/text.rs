//! Texts of Python that are no text: half of a pair of surrogates is a letter there, and can be in no file, name or patch.

use crate::fault::Fault;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyUnicodeEncodeError;
use pyo3::prelude::*;

/// A text, path or word that a function takes.
pub struct Text<T>(pub T);

impl<'py, T: FromPyObjectOwned<'py, Error = PyErr>> FromPyObject<'_, 'py> for Text<T> {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = value.py();
        value.extract().map(Self).map_err(|error: PyErr| match unreadable(py, &error) {
            Some(why) => not_text(&why).raise(py),
            None => error,
        })
    }
}

/// Why a value is no text, if that is the error.
pub fn unreadable(py: Python<'_>, error: &PyErr) -> Option<String> {
    let error = error.value(py).cast::<PyUnicodeEncodeError>().ok()?;
    let text = error.getattr("object").ok()?.repr().ok()?;
    Some(format!("{text} is no text: there is half of a pair of surrogates at index {}", error.getattr("start").ok()?))
}

/// The error that a value is no text.
pub fn not_text(why: &str) -> Fault {
    Fault::usage(why, "give text that can be written as UTF-8")
}
