//! The results file of a sweep as it grows.

use super::read::{Line, check_version};
use super::{Localization, MeasureSettings, PatchLine, Reference, SweepHead, VERSION};
use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::diff::Diffed;
use crate::digest::Digest;
use crate::durable::{Found, Lines};
use crate::edit::EditKind;
use crate::error::{Error, Reason};
use crate::measure::compare::Comparison;
use crate::measure::expectation::Expectation;
use crate::patch::Patch;
use crate::report::Stat;
use crate::report::verify::{Detail, Setup, case, hexadecimal, row_of, setting};
use crate::sweep::{self, Recorder};
use crate::verify::{Baseline, Measurement};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// SHA-256 of each weight file of a checkpoint, by name.
///
/// # Errors
/// [`Cancelled`].
pub fn file_digests(checkpoint: &Checkpoint, context: &Context<'_>) -> Result<BTreeMap<String, Digest>, Cancelled> {
    checkpoint.files().iter().map(|file| Ok((file.name(), file.sha256(context)?))).collect()
}

impl SweepHead {
    /// The head of a sweep whose unedited model `baseline` has measured. `reference` is the path and the file digests of the reference,
    /// `comparison` is how changes are tested, `label` the user's name for the pair.
    pub fn new(
        baseline: &Baseline<'_>,
        reference: (&Path, &BTreeMap<String, Digest>),
        setup: &Setup,
        comparison: &Comparison,
        label: Option<&str>,
    ) -> Self {
        let (path, weights) = reference;
        let measures = baseline.unedited.outcomes.iter().map(|outcome| MeasureSettings {
            measure: outcome.measure.clone(),
            settings: outcome.settings.clone(),
            data: hexadecimal(&outcome.data),
        });
        Self {
            sweep: VERSION,
            setting: setting(&baseline.model(), &baseline.work(), setup),
            label: label.map(str::to_owned),
            reference: Some(Reference { path: path.display().to_string(), weights: hexadecimal(weights) }),
            seed: comparison.seed,
            prompts: baseline.prompts(),
            prompt_tokens: baseline.prompt_tokens(),
            expect: comparison.expected.iter().map(Expectation::to_string).collect(),
            measures: measures.collect(),
        }
    }
}

impl From<&sweep::Localization> for Localization {
    fn from(localization: &sweep::Localization) -> Self {
        Self {
            strategy: localization.strategy.label().to_owned(),
            k: localization.size.map(|size| size.to_string()),
            seed: localization.seed,
            among: localization.among.map(|among| among.label().to_owned()),
        }
    }
}

/// Keys of the first line that may differ when a sweep goes on: no result depends on them.
const MAY_DIFFER: &[&[&str]] = &[&["label"], &["model", "path"], &["reference", "path"], &["runtime", "threads"]];

/// The results of a sweep on disk. It knows what earlier runs measured.
pub struct ResultsFile {
    lines: Lines,
    path: PathBuf,
    found: Found,
    /// The first line, if the file has one.
    head: Option<Value>,
    /// The id of each localization's patch.
    patches: BTreeMap<Localization, String>,
    /// Localizations and cases that were measured.
    measured: BTreeSet<(Localization, String)>,
}

impl ResultsFile {
    /// Opens the file at `path`, or creates an empty one. [`ResultsFile::begin`] is the first to write to it.
    ///
    /// # Errors
    /// [`Reason::Results`], [`Reason::LaterResults`], I/O.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (lines, found) = Lines::open(path)?;
        let (patches, measured) = (BTreeMap::new(), BTreeSet::new());
        let mut file = Self { lines, path: path.to_owned(), found, head: None, patches, measured };
        for at in 0..file.found.lines.len() {
            let text = &file.found.lines[at];
            crate::json::check(text.as_bytes()).map_err(|reason| file.malformed(at, reason))?;
            if at > 0 {
                let line = Line::parse(text).map_err(|error| file.malformed(at, error))?;
                file.remember(line);
                continue;
            }
            let head: Value = serde_json::from_str(text).map_err(|error| file.malformed(at, error))?;
            check_version(&head, path)?;
            file.head = Some(head);
        }
        Ok(file)
    }

    /// Begins an empty file, or continues one whose first line equals `head` but for keys that may differ.
    ///
    /// # Errors
    /// [`Reason::OtherSweep`], [`Reason::Results`], I/O.
    pub fn begin(&mut self, head: &SweepHead, unedited: &Measurement) -> Result<(), Error> {
        let head = json!(head);
        match &self.head {
            Some(first) => {
                if let Some(difference) = difference(&common(first), &common(&head), "") {
                    return Err(self.other(difference));
                }
            }
            // An unfinished line of another file is not ours to drop.
            None if !head.to_string().starts_with(&self.found.unfinished) => {
                return Err(self.malformed(0, "it is not the first line of this sweep"));
            }
            None => self.append(&head)?,
        }
        if self.found.lines.len() < 2 {
            self.append(&row_of(unedited, Detail::Scores))?;
        }
        Ok(())
    }

    fn malformed(&self, at: usize, reason: impl ToString) -> Error {
        Reason::Results { path: self.path.clone(), line: Some(at + 1), reason: reason.to_string() }.into()
    }

    fn remember(&mut self, line: Line) {
        match line {
            Line::Patch(PatchLine { localization, stat, .. }) => {
                self.patches.insert(localization, stat.id);
            }
            Line::Row(row) => self.measured.extend(row.localization.map(|localization| (localization, row.case))),
        }
    }

    /// Appends a line, its keys in alphabetical order as in every JSON that is printed.
    fn append(&mut self, line: &impl Serialize) -> Result<(), Error> {
        Ok(self.lines.append(&json!(line).to_string())?)
    }

    fn other(&self, difference: String) -> Error {
        Reason::OtherSweep { path: self.path.clone(), difference }.into()
    }
}

impl Recorder for ResultsFile {
    fn patch(
        &mut self,
        localization: &sweep::Localization,
        diffed: &Diffed,
        edits: Vec<EditKind>,
    ) -> Result<Vec<EditKind>, Error> {
        let (key, patch) = (Localization::from(localization), &diffed.patch);
        let id = patch.id().to_string();
        match self.patches.get(&key) {
            None => {
                let line = PatchLine {
                    localization: key.clone(),
                    candidates: patch.metadata().candidates.elements,
                    // `diff` makes the patch again, which has the rows of its tensors.
                    stat: Stat { tensors: Vec::new(), ..Stat::new(patch) },
                };
                self.append(&line)?;
                self.patches.insert(key.clone(), id);
            }
            Some(earlier) if *earlier != id => {
                return Err(self.other(format!("{localization}: the patch was {earlier}, and is {id} now")));
            }
            Some(_) => {}
        }
        let is_left = |edit: &EditKind| !self.measured.contains(&(key.clone(), case(Some(*edit))));
        Ok(edits.into_iter().filter(is_left).collect())
    }

    fn row(&mut self, localization: &sweep::Localization, patch: &Patch, row: &Measurement) -> Result<(), Error> {
        let mut row = row_of(row, Detail::Scores);
        (row.localization, row.patch) = (Some(localization.into()), Some(patch.id().to_string()));
        self.append(&row)?;
        self.remember(Line::Row(row));
        Ok(())
    }
}

/// A first line without the keys that may differ.
fn common(head: &Value) -> Value {
    let mut head = head.clone();
    for keys in MAY_DIFFER {
        let [parents @ .., last] = keys else { continue };
        let parent = parents.iter().try_fold(&mut head, |value, key| value.get_mut(*key));
        if let Some(object) = parent.and_then(Value::as_object_mut) {
            object.remove(*last);
        }
    }
    head
}

/// Describes the first difference of two values, which are at `path` in a first line.
fn difference(old: &Value, new: &Value, path: &str) -> Option<String> {
    match (old, new) {
        (old, new) if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            keys.into_iter().find_map(|key| {
                let value = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                difference(&value(old), &value(new), &path)
            })
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let mut pairs = old.iter().zip(new).enumerate();
            pairs.find_map(|(at, (old, new))| difference(old, new, &format!("{path}[{at}]")))
        }
        _ => Some(format!("{path} was {old}, and is {new} now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_and_paths_may_differ() {
        let head = |path: &str, digest: &str| json!({ "label": path, "model": { "path": path, "weights": { "a": digest } }, "runtime": { "threads": path } });
        let differs = |old: &Value, new: &Value| difference(&common(old), &common(new), "");
        assert_eq!(differs(&head("a", "1"), &head("b", "1")), None);
        let expected = r#"model.weights.a was "1", and is "2" now"#;
        assert_eq!(differs(&head("a", "1"), &head("a", "2")).as_deref(), Some(expected));
    }
}
