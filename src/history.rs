//! What was applied to a model directory: a small file beside the weights, never inside them, so that their digests stay
//! those that a hub lists.

use crate::checkpoint::{Checkpoint, Layout, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::edit::EditKind;
use crate::error::{Error, Reason};
use crate::input::Meant;
use crate::json;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the log in a model directory.
pub const FILE_NAME: &str = "lcepatch-log.json";

/// The log of a model directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What was done, first to last.
    pub steps: Vec<Step>,
}

/// One apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// What did it.
    pub tool: String,
    /// The patches, in their order.
    pub patches: Vec<AppliedPatch>,
    /// The weight files before.
    pub before: Digests,
    /// The weight files after.
    pub after: Digests,
    /// The patch that takes it back, if one was written.
    pub undo: Option<Undo>,
}

/// A patch that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedPatch {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub file: String,
    /// `ip`, `ep`, `pr` or `sw`.
    pub edit: String,
    /// The strength, where the edit has one.
    pub alpha: Option<f64>,
}

/// The patch that takes a step back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub file: String,
}

/// SHA-256 of each weight file, in hexadecimal, by name.
pub type Digests = BTreeMap<String, String>;

/// What a model directory is, by its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There is no log, or no step in it.
    NoSteps,
    /// After that many steps of the log, all of them if nothing has happened since; 0 is the base.
    After(usize),
    /// None of the states that the log knows.
    Changed,
}

impl History {
    /// The log of the model directory that `checkpoint` is; empty if there is none. None for a checkpoint that is no
    /// directory.
    ///
    /// # Errors
    /// [`Reason::Io`], [`Reason::Log`].
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        let Some(path) = path(checkpoint) else { return Ok(None) };
        let text = match json::read_file(&path, Meant::Log) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Some(Self::default())),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let parsed = json::check(&text).and_then(|()| serde_json::from_slice(&text).map_err(|e| e.to_string()));
        let history = parsed.map_err(|reason| Reason::Log { path, reason })?;
        Ok(Some(history))
    }

    /// The log as it is written, for the file named [`FILE_NAME`].
    ///
    /// # Errors
    /// [`Reason::Log`] for what JSON cannot hold.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| Reason::Log { path: FILE_NAME.into(), reason: e.to_string() })?;
        Ok((text + "\n").into_bytes())
    }

    /// What files with these digests are.
    pub fn state(&self, files: &Digests) -> State {
        if self.steps.is_empty() {
            return State::NoSteps;
        }
        // The latest first: steps may have led back to where they came from.
        match self.steps.iter().rposition(|step| step.after == *files) {
            Some(at) => State::After(at + 1),
            None => self.steps.iter().position(|step| step.before == *files).map_or(State::Changed, State::After),
        }
    }
}

impl Step {
    /// What `patches` do, now.
    pub fn new(patches: Vec<AppliedPatch>, before: Digests, after: Digests, undo: Option<Undo>) -> Self {
        Self {
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
            patches,
            before,
            after,
            undo,
        }
    }
}

impl AppliedPatch {
    /// The patch with this id, from `path`, of which `kind` was done.
    pub fn new(id: Digest, path: &Path, kind: EditKind) -> Self {
        let alpha = kind.alpha().map(|alpha| alpha.value());
        Self { id: id.to_string(), file: file_name(path), edit: kind.label().to_owned(), alpha }
    }
}

impl Undo {
    /// The undo patch with this id, at `path`. Only its name is kept: where it lies is nobody else's business.
    pub fn new(id: Digest, path: &Path) -> Self {
        Self { id: id.to_string(), file: file_name(path) }
    }
}

/// SHA-256 of the weight files of a checkpoint, by their names in `named`, which is the same or lies elsewhere.
///
/// # Errors
/// [`Cancelled`].
pub(crate) fn digests(
    checkpoint: &Checkpoint,
    named: &Checkpoint,
    context: &Context<'_>,
) -> Result<Digests, Cancelled> {
    context.begin("hashing the files", checkpoint.bytes());
    let files = checkpoint.files.par_iter().zip(&named.files);
    files.map(|(file, named): (&WeightFile, _)| Ok((named.name(), file.sha256(context)?.to_string()))).collect()
}

/// The folder of a checkpoint that is a model directory, or an index of shards in one.
pub(crate) fn folder(checkpoint: &Checkpoint) -> Option<PathBuf> {
    match &checkpoint.layout {
        Layout::File => None,
        Layout::Directory { .. } => Some(checkpoint.path.clone()),
        Layout::Index { index } => Some(index.parent().map(Path::to_owned).unwrap_or_default()),
    }
}

fn path(checkpoint: &Checkpoint) -> Option<PathBuf> {
    folder(checkpoint).map(|folder| folder.join(FILE_NAME))
}

/// Whether a name in a log is that of a file and leads to no other folder: others may have written it.
pub(crate) fn is_plain(name: &str) -> bool {
    let path = Path::new(name);
    path.components().eq(path.file_name().map(std::path::Component::Normal))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(digest: &str) -> Digests {
        Digests::from([("model.safetensors".to_owned(), digest.to_owned())])
    }

    #[test]
    fn a_state_is_found_by_its_digests() {
        let step = |before: &str, after: &str| Step::new(Vec::new(), files(before), files(after), None);
        let history = History { steps: vec![step("a", "b"), step("b", "c")] };
        let states = ["a", "b", "c", "d"].map(|digest| history.state(&files(digest)));
        assert_eq!(states, [State::After(0), State::After(1), State::After(2), State::Changed]);
        assert_eq!(History::default().state(&files("a")), State::NoSteps);
        let there_and_back = History { steps: vec![step("a", "b"), step("b", "a")] };
        assert_eq!(there_and_back.state(&files("a")), State::After(2));
    }
}
