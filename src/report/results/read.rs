//! Results files, read back.

use super::{AppliedPatch, PatchLine, Reference, Report, Row, Setting, SweepHead};
use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::input::Meant;
use crate::json;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// A file of results, of `sweep` or of `verify --json`.
#[derive(Debug, Clone)]
pub struct Results {
    /// Its name without folders.
    pub name: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What its rows have in common.
    pub setting: Setting,
    /// The user's name for the pair of models of a sweep.
    pub label: Option<String>,
    /// The reference of a sweep.
    pub reference: Option<Reference>,
    /// The patches of a report of `verify`.
    pub applied: Vec<AppliedPatch>,
    /// The patches of a sweep.
    pub patches: Vec<PatchLine>,
    /// The unedited model first.
    pub rows: Vec<Row>,
}

/// A line of a sweep after the first one.
pub(super) enum Line {
    Patch(PatchLine),
    Row(Row),
}

impl Line {
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        match value.get("stat") {
            Some(_) => serde_json::from_value(value).map(Self::Patch),
            None => serde_json::from_value(value).map(Self::Row),
        }
    }
}

/// Reads the results file of a sweep, or a report of `verify --json`. A sweep may still be writing its file: a last line without a line
/// feed is left out.
///
/// # Errors
/// [`Reason::Io`], [`Reason::Results`].
pub fn read(path: &Path) -> Result<Results, Error> {
    let bytes = json::read_file(path, Meant::Results).map_err(|error| Error::io("read", path, error))?;
    json::check(&bytes).map_err(|reason| malformed(path, None, reason))?;
    let text = String::from_utf8_lossy(&bytes);
    let first: Option<Value> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
    let mut results = match first.filter(|first| first.get("sweep").is_some()) {
        Some(head) => read_sweep(head, &text, path)?,
        None => read_report(&text, path)?,
    };
    if results.rows.first().is_none_or(|row| row.case != "unedited") {
        return Err(malformed(path, None, "there is no row of the unedited model"));
    }
    results.name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    results.digest = Digest::sha256(&bytes);
    Ok(results)
}

fn read_sweep(head: Value, text: &str, path: &Path) -> Result<Results, Error> {
    let SweepHead { setting, label, reference, .. } = parsed(head, path, Some(1))?;
    let mut results = Results { label, reference, ..empty(setting) };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    for (at, line) in complete.lines().enumerate().skip(1) {
        match Line::parse(line).map_err(|error| malformed(path, Some(at + 1), error))? {
            Line::Patch(patch) => results.patches.push(patch),
            Line::Row(row) => results.rows.push(row),
        }
    }
    Ok(results)
}

fn read_report(text: &str, path: &Path) -> Result<Results, Error> {
    let value: Value = serde_json::from_str(text).map_err(|error| malformed(path, None, error))?;
    let Report { setting, patches, rows } = parsed(value, path, None)?;
    Ok(Results { applied: patches, rows, ..empty(setting) })
}

fn empty(setting: Setting) -> Results {
    Results {
        name: String::new(),
        digest: Digest::UNKNOWN,
        setting,
        label: None,
        reference: None,
        applied: Vec::new(),
        patches: Vec::new(),
        rows: Vec::new(),
    }
}

fn parsed<T: DeserializeOwned>(value: Value, path: &Path, line: Option<usize>) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| malformed(path, line, error))
}

fn malformed(path: &Path, line: Option<usize>, reason: impl ToString) -> Error {
    Reason::Results { path: path.to_owned(), line, reason: reason.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Better;
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
        assert_eq!((read.rows.len(), read.setting.model.model_type.as_str()), (report.rows.len(), "bert"));
        let compared = read.rows[1].score("crows.diff", "%stereo").unwrap();
        let score = &compared.score;
        assert_eq!((score.n, score.neutral, score.better), (262, Some(50.0), Better::Neutral));
        let change = compared.change.as_ref().unwrap();
        assert_eq!((change.inside_noise, change.flips.unwrap().to_yes), (Some(false), 12));
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
