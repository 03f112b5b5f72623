//! Files of results, read back.

use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::input::Meant;
use crate::json;
use crate::report::Stat;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of results.
#[derive(Debug, Clone)]
pub struct Results {
    /// Its name without folders.
    pub name: String,
    /// Of its bytes.
    pub digest: Digest,
    /// What its rows have in common.
    pub head: Head,
    /// The patches of a sweep.
    pub patches: Vec<PatchLine>,
    /// The unedited model first.
    pub rows: Vec<Row>,
}

/// What the rows of a file have in common.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Head {
    /// What wrote it.
    pub tool: String,
    /// What people call the pair.
    pub label: Option<String>,
    /// The model.
    pub model: Model,
    /// The reference of a sweep.
    pub reference: Option<Reference>,
    /// What computed.
    pub runtime: Runtime,
    /// The patches of a report of `verify`.
    pub patches: Vec<PatchName>,
}

/// A model, as told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its directory.
    pub path: String,
    /// `model_type` of its configuration.
    pub model_type: String,
    /// The dtypes of its weights.
    pub dtypes: Vec<String>,
    /// Digests of its files, by name.
    pub weights: BTreeMap<String, String>,
}

/// A reference, as told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// Where it was.
    pub path: String,
    /// Digests of its files, by name.
    pub weights: BTreeMap<String, String>,
}

/// What computed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Runtime {
    /// The version of ONNX Runtime.
    pub version: String,
    /// Such as `CPU`.
    pub provider: String,
}

/// A patch of a report of `verify`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PatchName {
    /// Its file.
    pub path: String,
    /// Its id.
    pub id: String,
}

/// How the weights of a row were found.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Localization {
    /// `value`, `mask` or `random`.
    pub strategy: String,
    /// How many were asked for, such as `10%`.
    pub k: Option<String>,
    /// Of random ones.
    pub seed: Option<u64>,
    /// What random ones are drawn from.
    pub among: Option<String>,
}

/// A patch of a sweep.
#[derive(Debug, Clone, Deserialize)]
pub struct PatchLine {
    /// How its weights were found.
    pub localization: Localization,
    /// Among how many.
    pub candidates: u64,
    /// Where they are.
    pub stat: Stat,
}

/// A model and what was measured of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// None of the unedited model, and in a report of `verify`.
    pub localization: Option<Localization>,
    /// The id of the patch.
    pub patch: Option<String>,
    /// Such as `alpha -2`.
    pub case: String,
    /// The edit's name, such as `ep`.
    pub edit: Option<String>,
    /// The strength, where there is one.
    pub alpha: Option<f64>,
    /// How many weights were edited.
    pub edited: u64,
    /// Of the measurement.
    pub seconds: f64,
    /// What was measured.
    pub measures: Vec<Measure>,
}

/// The result of a measure.
#[derive(Debug, Clone, Deserialize)]
pub struct Measure {
    /// Its name.
    pub measure: String,
    /// Its numbers, the main one first.
    pub scores: Vec<Score>,
    /// How it was measured.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The data's digests, by name.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

/// A number.
#[derive(Debug, Clone, Deserialize)]
pub struct Score {
    /// Its name.
    pub name: String,
    /// None if it is not finite.
    pub value: Option<f64>,
    /// Items it is over.
    pub n: u64,
    /// Standard error.
    pub error: Option<f64>,
    /// 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// p of its test.
    pub p: Option<f64>,
    /// What it says.
    pub meaning: String,
    /// The value without bias.
    pub neutral: Option<f64>,
    /// `lower`, `higher` or `neutral`.
    pub better: String,
    /// How it changed from the unedited model.
    pub change: Option<Change>,
}

/// How a number changed.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// After less before; none if it is not finite.
    pub difference: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Whether that may be chance.
    pub inside_noise: Option<bool>,
}

impl Row {
    /// A score by its measure and name.
    pub fn score(&self, measure: &str, name: &str) -> Option<&Score> {
        let measure = self.measures.iter().find(|there| there.measure == measure)?;
        measure.scores.iter().find(|score| score.name == name)
    }
}

/// Reads the file of a sweep, or a report of `verify --json`. A sweep's file may still grow: a last line without an end is left out.
///
/// # Errors
/// [`Reason::Io`], [`Reason::Results`].
pub fn read(path: &Path) -> Result<Results, Error> {
    let bytes = json::read_file(path, Meant::Results).map_err(|error| Error::io("read", path, error))?;
    json::check(&bytes).map_err(|reason| Malformed { path: path.to_owned() }.at(None, reason))?;
    let digest = Digest::sha256(&bytes);
    let text = String::from_utf8_lossy(&bytes);
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let malformed = Malformed { path: path.to_owned() };
    let first: Option<Value> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
    let mut results = Results { name, digest, head: Head::default(), patches: Vec::new(), rows: Vec::new() };
    match first.filter(|first| first.get("sweep").is_some()) {
        Some(head) => {
            results.head = malformed.parsed(head, Some(1))?;
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for (at, line) in whole.lines().enumerate().skip(1) {
                let value: Value = serde_json::from_str(line).map_err(|error| malformed.at(Some(at + 1), error))?;
                match value.get("stat") {
                    Some(_) => results.patches.push(malformed.parsed(value, Some(at + 1))?),
                    None => results.rows.push(malformed.parsed(value, Some(at + 1))?),
                }
            }
        }
        None => {
            let mut value: Value = serde_json::from_str(&text).map_err(|error| malformed.at(None, error))?;
            let rows = value.get_mut("rows").map(Value::take);
            results.rows = malformed.parsed(rows.unwrap_or(Value::Null), None)?;
            results.head = malformed.parsed(value, None)?;
        }
    }
    if results.rows.first().is_none_or(|row| row.case != "unedited") {
        return Err(malformed.at(None, "there is no row of the unedited model").into());
    }
    Ok(results)
}

/// A file that is not what is read.
struct Malformed {
    path: PathBuf,
}

impl Malformed {
    fn at(&self, line: Option<usize>, reason: impl ToString) -> Reason {
        Reason::Results { path: self.path.clone(), line, reason: reason.to_string() }
    }

    fn parsed<T: for<'a> Deserialize<'a>>(&self, value: Value, line: Option<usize>) -> Result<T, Error> {
        serde_json::from_value(value).map_err(|error| self.at(line, error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verify::sample::full;
    use crate::report::verify::{Detail, Setup, json};

    fn written(text: &str) -> Result<Results, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_report_of_verify_is_read_back() {
        let report = full();
        let json = json(&report, &Setup::default(), Detail::Items);
        let read = written(&serde_json::to_string_pretty(&json).unwrap()).unwrap();
        assert_eq!((read.rows.len(), read.head.model.model_type.as_str()), (report.rows.len(), "bert"));
        let score = read.rows[1].score("crows.diff", "%stereo").unwrap();
        assert_eq!((score.n, score.neutral, score.better.as_str()), (262, Some(50.0), "neutral"));
        assert_eq!(score.change.as_ref().unwrap().inside_noise, Some(false));
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_line() {
        for (text, says) in [
            ("", "an empty file, not results"),
            ("[]", "not results"),
            ("{\"sweep\":1}\n", "no row of the unedited model"),
            ("{\"sweep\":1}\n{\"case\":1}\n", "line 2"),
            ("{\"sweep\":1}\nx\n", "line 2"),
        ] {
            let error = written(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
