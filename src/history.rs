//! The log of a model directory: which patches were applied to it. It is a small file beside the weights, never inside them, so that
//! their digests stay those that a hub lists.

use crate::checkpoint::{Checkpoint, Layout, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::edit::EditKind;
use crate::error::{Error, Reason};
use crate::input::Meant;
use crate::json;
use crate::patch::{Chosen, Patch};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the log in a model directory.
pub(crate) const FILE_NAME: &str = "lcepatch-log.json";

/// The log of a model directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct History {
    /// The steps, first to last.
    pub steps: Vec<Step>,
}

/// One run of `apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Step {
    /// When it ended, as RFC 3339 in UTC.
    pub time: String,
    /// The name and version of the program.
    pub tool: String,
    /// The patches, in the order in which they were given.
    pub patches: Vec<AppliedPatch>,
    /// Where the base came from, with its commit, if it was fetched: `org/model@3f2a9c1…`.
    #[serde(default)]
    pub base: Option<String>,
    /// The weight files before.
    pub before: Digests,
    /// The weight files after.
    pub after: Digests,
    /// The undo patch, if one was written.
    pub undo: Option<Undo>,
}

/// A patch that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AppliedPatch {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub file: String,
    /// Where it came from, with its commit, if it was fetched: `org/patches@3f2a9c1…/debias.lcepatch`.
    #[serde(default)]
    pub source: Option<String>,
    /// Which of its tensors were edited, if not all.
    #[serde(default)]
    pub part: Option<Chosen>,
    /// `ip`, `ep`, `pr` or `sw`.
    pub edit: String,
    /// The strength, where the edit has one.
    pub alpha: Option<f64>,
}

/// The undo patch of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Undo {
    /// Its id.
    pub id: String,
    /// Its file's name.
    pub file: String,
}

/// SHA-256 of each weight file, in hexadecimal, by name.
pub(crate) type Digests = BTreeMap<String, String>;

/// The state of a model directory, according to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// There is no log, or no step in it.
    NoSteps,
    /// The weight files are those after this number of steps; 0 is the base.
    After(usize),
    /// The weight files are none that the log knows.
    Changed,
}

impl History {
    /// Reads the log of the model directory `checkpoint`; it is empty if there is no file. `None` if the checkpoint is not a
    /// directory.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Io`, `LogMalformed`.
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        path(checkpoint).map(Self::read).transpose()
    }

    /// Reads the log at `path`; it is empty if there is no file.
    ///
    /// # Errors
    /// [Kinds](crate::ErrorKind) `Io`, `LogMalformed`.
    pub(crate) fn read(path: PathBuf) -> Result<Self, Error> {
        let text = match json::read_file(&path, Meant::Log) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        Ok(Self::parse(&text).map_err(|reason| Reason::Log { path, reason })?)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        json::check(text)?;
        let history = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        json::refuse_arrays_for_objects(&value, &history)?;
        Ok(history)
    }

    /// The content of the file [`FILE_NAME`].
    ///
    /// # Errors
    /// [`Reason::Log`], for a value that JSON cannot hold.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| Reason::Log { path: FILE_NAME.into(), reason: e.to_string() })?;
        Ok((text + "\n").into_bytes())
    }

    /// The state of weight files with these digests.
    pub(crate) fn state(&self, files: &Digests) -> State {
        if self.steps.is_empty() {
            return State::NoSteps;
        }
        // The last match, because steps may lead back to an earlier state.
        match self.steps.iter().rposition(|step| step.after == *files) {
            Some(at) => State::After(at + 1),
            None => self.steps.iter().position(|step| step.before == *files).map_or(State::Changed, State::After),
        }
    }
}

impl Step {
    /// A step that applied `patches` to `base`, if that was fetched, and ended now.
    pub(crate) fn new(
        patches: Vec<AppliedPatch>,
        base: Option<String>,
        before: Digests,
        after: Digests,
        undo: Option<Undo>,
    ) -> Self {
        Self {
            time: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
            patches,
            base,
            before,
            after,
            undo,
        }
    }
}

impl AppliedPatch {
    /// A patch that was applied as `kind`.
    pub(crate) fn new(patch: &Patch, kind: EditKind) -> Self {
        let alpha = kind.alpha().map(|alpha| alpha.value());
        Self {
            id: patch.id().to_string(),
            file: file_name(patch.name()),
            source: patch.source().map(str::to_owned),
            part: patch.chosen().cloned(),
            edit: kind.label().to_owned(),
            alpha,
        }
    }
}

impl Undo {
    /// The undo patch with this id, at `path`. Only the file name is recorded, so that a published log shows no private paths.
    pub(crate) fn new(id: Digest, path: &Path) -> Self {
        Self { id: id.to_string(), file: file_name(path) }
    }
}

/// SHA-256 of the weight files of `checkpoint`, by the names that these files have in `named`. The two differ if the files were written
/// elsewhere.
///
/// # Errors
/// [`Cancelled`].
pub(crate) fn digests(
    checkpoint: &Checkpoint,
    named: &Checkpoint,
    context: &Context<'_>,
) -> Result<Digests, Cancelled> {
    context.begin("hashing the files", checkpoint.bytes());
    let files = checkpoint.files().par_iter().zip(named.files());
    files.map(|(file, named): (&WeightFile, _)| Ok((named.name(), file.sha256(context)?.to_string()))).collect()
}

/// The folder of a checkpoint that is a model directory, or an index of shards in one.
pub(crate) fn folder(checkpoint: &Checkpoint) -> Option<PathBuf> {
    match checkpoint.layout() {
        Layout::File => None,
        Layout::Directory { .. } => Some(checkpoint.path().to_owned()),
        Layout::Index { index } => Some(index.parent().map(Path::to_owned).unwrap_or_default()),
    }
}

fn path(checkpoint: &Checkpoint) -> Option<PathBuf> {
    folder(checkpoint).map(|folder| folder.join(FILE_NAME))
}

/// Whether `name` is the name of a file in the same folder. A log may come from someone else, and must not lead to other folders.
pub(crate) fn is_plain(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|own| own == name)
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
        let step = |before: &str, after: &str| Step::new(Vec::new(), None, files(before), files(after), None);
        let history = History { steps: vec![step("a", "b"), step("b", "c")] };
        let states = ["a", "b", "c", "d"].map(|digest| history.state(&files(digest)));
        assert_eq!(states, [State::After(0), State::After(1), State::After(2), State::Changed]);
        assert_eq!(History::default().state(&files("a")), State::NoSteps);
        let there_and_back = History { steps: vec![step("a", "b"), step("b", "a")] };
        assert_eq!(there_and_back.state(&files("a")), State::After(2));
    }

    #[test]
    fn names_in_a_log_lead_to_no_other_folder() {
        assert!(["undo.lcepatch", ".hidden", "a..b"].into_iter().all(is_plain));
        assert!(!["", ".", "..", "../up", "folder/undo", "undo/", "/root"].into_iter().any(is_plain));
    }

    #[test]
    fn a_written_log_is_read_back_and_a_missing_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        // The header of a file without tensors.
        std::fs::write(folder.path().join("model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        assert_eq!(History::of(&checkpoint).unwrap(), Some(History::default()));
        let undo = Undo::new(Digest([7; 32]), Path::new("folder/undo.lcepatch"));
        let history = History { steps: vec![Step::new(Vec::new(), None, files("a"), files("b"), Some(undo))] };
        std::fs::write(folder.path().join(FILE_NAME), history.to_bytes().unwrap()).unwrap();
        assert_eq!(History::of(&checkpoint).unwrap(), Some(history.clone()));
        assert_eq!(history.steps[0].undo.as_ref().unwrap().file, "undo.lcepatch");
    }

    #[test]
    fn a_log_of_arrays_is_refused() {
        assert_eq!(History::parse(br#"{"steps": []}"#), Ok(History::default()));
        assert!(History::parse(b"[[]]").unwrap_err().contains("array"));
        let step = r#"{"steps": [["", "", [], null, {}, {}, null]]}"#;
        assert!(History::parse(step.as_bytes()).unwrap_err().contains("steps[0]"));
    }

    #[test]
    fn a_checkpoint_of_one_file_has_no_log() {
        assert_eq!(History::of(&crate::testing::floats(&[("w", &[1.0])])).unwrap(), None);
    }
}
