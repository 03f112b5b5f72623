//! The file of a sweep as it grows.

use crate::checkpoint::Checkpoint;
use crate::context::{Cancelled, Context};
use crate::diff::Diffed;
use crate::digest::Digest;
use crate::durable::{Found, Lines};
use crate::edit::EditKind;
use crate::error::{Error, Reason};
use crate::patch::Patch;
use crate::report::Stat;
use crate::report::verify::{Setup, TOOL, case, model_json, row_json, runtime_json, work_json};
use crate::sweep::{Journal, Localization};
use crate::verify::{Bench, Row};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A checkpoint by its path and the digests of its files.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of each weight file, by name.
    pub weights: BTreeMap<String, Digest>,
}

impl Source {
    /// Hashes the files of a checkpoint.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn of(checkpoint: &Checkpoint, context: &Context<'_>) -> Result<Self, Cancelled> {
        let files = checkpoint.files.iter().map(|file| Ok((file.name(), file.sha256(context)?)));
        Ok(Self { path: checkpoint.path.clone(), weights: files.collect::<Result<_, Cancelled>>()? })
    }
}

/// The first line: what all others have in common. `seed` is that of the measures, `label` what people call the pair.
pub fn head(bench: &Bench<'_>, reference: &Source, setup: &Setup, seed: u64, label: Option<&str>) -> Value {
    let digests = |digests: &BTreeMap<String, Digest>| -> Map<String, Value> {
        digests.iter().map(|(name, digest)| (name.clone(), digest.to_string().into())).collect()
    };
    let measures = bench.unedited.outcomes.iter().map(
        |outcome| json!({ "measure": outcome.measure, "settings": outcome.settings, "data": digests(&outcome.data) }),
    );
    json!({
        "sweep": 1,
        "tool": TOOL,
        "label": label,
        "model": model_json(&bench.model(), setup),
        "reference": { "path": reference.path.display().to_string(), "weights": digests(&reference.weights) },
        "runtime": runtime_json(setup),
        "work": work_json(&bench.work()),
        "seed": seed,
        "measures": measures.collect::<Vec<_>>(),
    })
}

/// Keys of the first line that say nothing about what was measured.
const TOLD: &[&[&str]] = &[&["label"], &["model", "path"], &["reference", "path"], &["runtime", "threads"]];

/// The results of a sweep on disk: a journal that knows what earlier runs measured.
pub struct ResultsFile {
    lines: Lines,
    path: PathBuf,
    found: Found,
    /// The patch of each localization.
    patches: BTreeMap<String, String>,
    /// Localizations and cases that were measured.
    measured: BTreeSet<(String, String)>,
}

impl ResultsFile {
    /// Opens the file at `path`, or makes an empty one. Until [`ResultsFile::begin`] it stays as it is.
    ///
    /// # Errors
    /// [`Reason::Results`], I/O.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (lines, found) = Lines::open(path)?;
        let (patches, measured) = (BTreeMap::new(), BTreeSet::new());
        let mut file = Self { lines, path: path.to_owned(), found, patches, measured };
        for at in 0..file.found.lines.len() {
            let line = &file.found.lines[at];
            crate::json::check(line.as_bytes()).map_err(|reason| file.malformed(at, reason))?;
            let value = serde_json::from_str(line).map_err(|error| file.malformed(at, error.to_string()))?;
            file.take(&value);
        }
        match file.first()? {
            Some(first) if first.get("sweep").is_none() => {
                Err(file.malformed(0, "it is not the first line of a sweep".to_owned()))
            }
            _ => Ok(file),
        }
    }

    /// Begins the file, or goes on with it, if its first line says the same as `head`.
    ///
    /// # Errors
    /// [`Reason::OtherSweep`], [`Reason::Results`], I/O.
    pub fn begin(&mut self, head: &Value, unedited: &Row) -> Result<(), Error> {
        match self.first()? {
            Some(first) => {
                if let Some(difference) = difference(&common(&first), &common(head), "") {
                    return Err(self.other(difference));
                }
            }
            // Whatever else is there is someone's.
            None if !head.to_string().starts_with(&self.found.unfinished) => {
                return Err(self.malformed(0, "it is not the first line of this sweep".to_owned()));
            }
            None => self.append(head)?,
        }
        if self.found.lines.len() < 2 {
            self.append(&row_json(unedited))?;
        }
        Ok(())
    }

    fn first(&self) -> Result<Option<Value>, Error> {
        let first = self.found.lines.first().map(|line| serde_json::from_str(line));
        first.transpose().map_err(|error| self.malformed(0, error.to_string()))
    }

    fn malformed(&self, at: usize, reason: String) -> Error {
        Reason::Results { path: self.path.clone(), line: Some(at + 1), reason }.into()
    }

    /// Learns from a line.
    fn take(&mut self, line: &Value) {
        let Some(localization) = line.get("localization") else { return };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        if let Some(id) = text(line.get("stat").and_then(|stat| stat.get("id"))) {
            self.patches.insert(localization.to_string(), id);
        } else if let Some(case) = text(line.get("case")) {
            self.measured.insert((localization.to_string(), case));
        }
    }

    fn append(&mut self, line: &Value) -> Result<(), Error> {
        Ok(self.lines.append(&line.to_string())?)
    }

    fn other(&self, difference: String) -> Error {
        Reason::OtherSweep { path: self.path.clone(), difference }.into()
    }
}

impl Journal for ResultsFile {
    fn patch(
        &mut self,
        localization: &Localization,
        diffed: &Diffed,
        edits: Vec<EditKind>,
    ) -> Result<Vec<EditKind>, Error> {
        let (place, patch) = (localization_json(localization), &diffed.patch);
        let (key, id) = (place.to_string(), patch.id.to_string());
        match self.patches.get(&key) {
            None => {
                // Its tensors are in the patch that `diff` makes.
                let stat = Stat { tensors: Vec::new(), ..Stat::new(patch) };
                let candidates = patch.metadata.candidates.elements;
                self.append(&json!({ "localization": place, "candidates": candidates, "stat": stat }))?;
                self.patches.insert(key.clone(), id);
            }
            Some(there) if *there != id => {
                return Err(self.other(format!("{localization}: the patch was {there}, and is {id} now")));
            }
            Some(_) => {}
        }
        let is_left = |edit: &EditKind| !self.measured.contains(&(key.clone(), case(Some(*edit))));
        Ok(edits.into_iter().filter(is_left).collect())
    }

    fn row(&mut self, localization: &Localization, patch: &Patch, row: &Row) -> Result<(), Error> {
        let mut line = row_json(row);
        line["localization"] = localization_json(localization);
        line["patch"] = patch.id.to_string().into();
        self.append(&line)?;
        self.take(&line);
        Ok(())
    }
}

fn localization_json(localization: &Localization) -> Value {
    json!({
        "strategy": localization.strategy.label(),
        "k": localization.size.map(|size| size.to_string()),
        "seed": localization.seed,
        "among": localization.among.map(|among| among.label()),
    })
}

/// A first line without what may differ.
fn common(head: &Value) -> Value {
    let mut head = head.clone();
    for keys in TOLD {
        let [folders @ .., last] = keys else { continue };
        let inner = folders.iter().try_fold(&mut head, |value, key| value.get_mut(*key));
        if let Some(object) = inner.and_then(Value::as_object_mut) {
            object.remove(*last);
        }
    }
    head
}

/// The first place at which two values differ, in words.
fn difference(there: &Value, here: &Value, place: &str) -> Option<String> {
    match (there, here) {
        (there, here) if there == here => None,
        (Value::Object(there), Value::Object(here)) => {
            let keys: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
            keys.into_iter().find_map(|key| {
                let of = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or(Value::Null);
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                difference(&of(there), &of(here), &place)
            })
        }
        (Value::Array(there), Value::Array(here)) if there.len() == here.len() => {
            let mut pairs = there.iter().zip(here).enumerate();
            pairs.find_map(|(at, (there, here))| difference(there, here, &format!("{place}[{at}]")))
        }
        _ => Some(format!("{place} was {there}, and is {here} now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_and_paths_may_differ() {
        let head = |path: &str, digest: &str| json!({ "label": path, "model": { "path": path, "weights": { "a": digest } }, "runtime": { "threads": path } });
        let differs = |there: &Value, here: &Value| difference(&common(there), &common(here), "");
        assert_eq!(differs(&head("a", "1"), &head("b", "1")), None);
        let expected = r#"model.weights.a was "1", and is "2" now"#;
        assert_eq!(differs(&head("a", "1"), &head("a", "2")).as_deref(), Some(expected));
    }
}
