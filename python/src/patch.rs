//! A patch, whose header is read.

use crate::checkpoint::Checkpoint;
use crate::edits::{Given, Options};
use crate::text::Text;
use crate::work::finish;
use lcepatch::Existing;
use lcepatch::algebra::positions;
use lcepatch::cli::program::{figure, sentence};
use lcepatch::format::block::Streams;
use lcepatch::patch;
use lcepatch::report::Stat;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;

/// A patch.
#[pyclass(frozen, module = "lcepatch._native")]
pub struct Patch {
    pub patch: patch::Patch,
    /// Whether it has no file, and its name is none.
    is_new: bool,
}

impl Patch {
    /// A patch that has no file yet.
    pub fn new(patch: patch::Patch) -> Self {
        Self { patch, is_new: true }
    }
}

/// What is known of a patch from its header.
#[derive(serde::Serialize)]
struct Described<'a> {
    id: String,
    sentence: String,
    alpha: f64,
    stat: Stat,
    metadata: &'a lcepatch::format::Metadata,
}

#[pymethods]
impl Patch {
    /// A patch by any name that the command knows.
    #[staticmethod]
    fn load(
        py: Python<'_>,
        name: Text<PathBuf>,
        signers: Text<Option<PathBuf>>,
        signer: Text<Option<String>>,
    ) -> PyResult<Self> {
        let patch = finish(py, |tools| Ok(tools.program.patch(&name.0, signers.0, signer.0)?))?;
        Ok(Self { patch, is_new: false })
    }

    /// The patch whose file has these bytes.
    #[staticmethod]
    fn of_bytes(py: Python<'_>, bytes: Vec<u8>) -> PyResult<Self> {
        Ok(Self::new(finish(py, move |_| Ok(patch::Patch::from_bytes("the bytes", bytes)?))?))
    }

    /// Its name, unless it has no file.
    #[getter]
    fn name(&self) -> Option<PathBuf> {
        (!self.is_new).then(|| self.patch.name().to_owned())
    }

    /// What is known of it from its header, as JSON.
    fn describe(&self) -> String {
        let (alpha, _) = self.patch.default_alpha();
        let described = Described {
            id: self.patch.id().to_string(),
            sentence: sentence(&self.patch),
            alpha: alpha.value(),
            stat: Stat::new(&self.patch),
            metadata: self.patch.metadata(),
        };
        serde_json::json!(described).to_string()
    }

    /// What `lcepatch show` prints about it.
    fn show(&self, py: Python<'_>) -> PyResult<String> {
        finish(py, |tools| Ok(tools.program.show(&self.patch)?))
    }

    /// What it selects, by layer and component, as SVG.
    fn figure(&self) -> String {
        figure(&self.patch)
    }

    /// Writes it to a new file.
    fn save(&self, py: Python<'_>, path: Text<PathBuf>, replace: bool) -> PyResult<()> {
        let existing = if replace { Existing::Replace } else { Existing::Keep };
        finish(py, |_| Ok(self.patch.save(&path.0, existing).map_err(lcepatch::Error::from)?))
    }

    /// The bytes of its file.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = finish(py, |_| Ok(self.patch.to_bytes()?))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The flat indices of the elements of a tensor that it selects, as little-endian 64-bit integers; None if it does not change the
    /// tensor.
    fn positions<'py>(
        &self,
        py: Python<'py>,
        tensor: Text<String>,
        base: Option<&Checkpoint>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let base = base.map(|base| &base.checkpoint);
        let found = finish(py, |tools| Ok(positions(&self.patch, &tensor.0, base, &tools.context)?))?;
        Ok(found.map(|positions| {
            let bytes: Vec<u8> = positions.into_iter().flat_map(u64::to_le_bytes).collect();
            PyBytes::new(py, &bytes)
        }))
    }

    /// The names in the base of the tensors that it changes and that are wanted.
    fn targets(&self, py: Python<'_>, wishes: &Bound<'_, PyDict>) -> PyResult<Vec<String>> {
        let options = Options::of(wishes)?;
        finish(py, |tools| options.targets(&self.patch, &tools.context))
    }

    /// Whether the positions of all selected elements of a tensor are known without the base.
    fn is_base_free(&self, py: Python<'_>, tensor: Text<String>) -> PyResult<bool> {
        finish(py, |_| {
            for (entry, block) in self.patch.table().blocks().filter(|(entry, _)| entry.name == tensor.0) {
                let bytes = self.patch.block(entry, block)?;
                if Streams::read(&bytes).is_ok_and(|streams| streams.needs_base()) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// The patches of Python's objects.
pub fn patches_of(patches: Vec<(PyRef<'_, Patch>, Option<f64>)>) -> Vec<Given> {
    patches.into_iter().map(|(patch, alpha)| (patch.patch.clone(), alpha)).collect()
}
