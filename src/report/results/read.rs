//! Results files, read back.

use super::{AppliedPatch, Localization, PatchLine, Reference, Report, Row, Setting, SweepHead, VERSION};
use crate::digest::Digest;
use crate::edit::{Alpha, EditKind};
use crate::error::{Error, Reason};
use crate::input::Meant;
use crate::json;
use crate::measure::expectation::Expectation;
use crate::measure::statistics::Alternative;
use crate::report::verify::case;
use crate::sweep::Strategy;
use serde::Serialize;
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
    /// The directions of changes that were stated before a sweep.
    pub expect: Vec<Expectation>,
    /// The prompts that every model continued.
    pub prompts: Vec<String>,
    /// The reference of a sweep.
    pub reference: Option<Reference>,
    /// The patches of a report of `verify`.
    pub applied: Vec<AppliedPatch>,
    /// The patches of a sweep.
    pub patches: Vec<PatchLine>,
    /// The unedited model first.
    pub rows: Vec<Row>,
}

impl Results {
    /// What the tests of a measure's changes look for.
    pub fn expected(&self, measure: &str) -> Alternative {
        Expectation::of(&self.expect, measure)
    }
}

/// A line of a sweep after the first one.
pub(super) enum Line {
    Patch(PatchLine),
    Row(Row),
}

impl Line {
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if value.get("stat").is_some() {
            let patch: PatchLine = parsed(value)?;
            patch.localization.check()?;
            return Ok(Self::Patch(patch));
        }
        let row: Row = parsed(value)?;
        row.check()?;
        Ok(Self::Row(row))
    }
}

impl Localization {
    /// Refuses a strategy that this version does not know.
    fn check(&self) -> Result<(), String> {
        let known = [Strategy::Value, Strategy::Mask, Strategy::Random].map(Strategy::label);
        match known.contains(&self.strategy.as_str()) {
            true => Ok(()),
            false => Err(format!("{:?} is not a strategy that this version knows", self.strategy)),
        }
    }
}

impl Row {
    /// Refuses an edit that this version does not know, or in a sweep, where rows are compared by their cases, one with the case of
    /// another.
    fn check(&self) -> Result<(), String> {
        let alpha = self.alpha.and_then(Alpha::new).map(EditKind::Interpolate);
        let is_named = |kind: &EditKind| {
            self.edit.as_deref() == Some(kind.label()) && self.alpha == kind.alpha().map(|alpha| alpha.value())
        };
        let edit = [EditKind::Prune, EditKind::Switch].into_iter().chain(alpha).find(is_named);
        if edit.is_none() && (self.edit.is_some() || self.localization.is_some()) {
            let (edit, alpha) = (self.edit.as_deref().unwrap_or_default(), self.alpha);
            let alpha = alpha.map_or(String::new(), |alpha| format!(" with alpha {alpha}"));
            return Err(format!("{edit:?}{alpha} is not an edit that this version knows"));
        }
        if self.localization.is_some() && self.case != case(edit) {
            return Err(format!("its case is {:?}, that of its edit is {:?}", self.case, case(edit)));
        }
        self.localization.as_ref().map_or(Ok(()), Localization::check)
    }
}

/// Refuses the first line of a sweep of a later version.
///
/// # Errors
/// [`Reason::LaterResults`], [`Reason::Results`].
pub(super) fn check_version(head: &Value, path: &Path) -> Result<(), Error> {
    match head.get("sweep").and_then(Value::as_u64) {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            Err(Reason::LaterResults { path: path.to_owned(), found, known: VERSION }.into())
        }
        _ => Err(malformed(path, Some(1), "it is not the first line of a sweep")),
    }
}

/// Reads the results file of a sweep, or a report of `verify --json`. A sweep may still be writing its file: a last line without a line
/// feed is left out.
///
/// # Errors
/// [`Reason::Io`], [`Reason::Results`], [`Reason::LaterResults`].
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
    check_version(&head, path)?;
    let head = parsed(head).map_err(|reason| malformed(path, Some(1), reason))?;
    let SweepHead { setting, label, reference, expect, prompts, .. } = head;
    let expect: Result<_, _> = expect.iter().map(|text| Expectation::parse(text)).collect();
    let expect = expect.map_err(|reason| malformed(path, Some(1), reason))?;
    let mut results = Results { label, reference, expect, prompts, ..empty(setting) };
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
    let report = parsed(value).map_err(|reason| malformed(path, None, reason))?;
    let Report { setting, patches, prompts, rows } = report;
    rows.iter().try_for_each(Row::check).map_err(|reason| malformed(path, None, reason))?;
    Ok(Results { applied: patches, prompts, rows, ..empty(setting) })
}

fn empty(setting: Setting) -> Results {
    Results {
        name: String::new(),
        digest: Digest::UNKNOWN,
        setting,
        label: None,
        expect: Vec::new(),
        prompts: Vec::new(),
        reference: None,
        applied: Vec::new(),
        patches: Vec::new(),
        rows: Vec::new(),
    }
}

fn parsed<T: Serialize + DeserializeOwned>(value: Value) -> Result<T, String> {
    let parsed = T::deserialize(&value).map_err(|error| error.to_string())?;
    json::refuse_arrays_for_objects(&value, &parsed)?;
    Ok(parsed)
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

    const UNEDITED: &str = r#"{"case":"unedited","edited":0,"seconds":0,"measures":[]}"#;

    /// A sweep with one edited row.
    fn edited(edit: &str, alpha: &str, case: &str) -> String {
        let rest = r#""localization":{"strategy":"value"},"edited":1,"seconds":0,"measures":[]"#;
        format!("{{\"sweep\":1}}\n{UNEDITED}\n{{\"edit\":{edit:?},\"alpha\":{alpha},\"case\":{case:?},{rest}}}\n")
    }

    #[test]
    fn a_sweep_may_end_in_a_blank_line() {
        for text in
            [edited("ip", "0.5", "alpha 0.5"), edited("ep", "-2", "alpha -2") + "\n", edited("pr", "null", "pr")]
        {
            assert_eq!(written(&text).unwrap().rows.len(), 2);
        }
    }

    #[test]
    fn what_is_no_result_is_refused_with_its_line() {
        for (text, says) in [
            ("", "an empty file, not results"),
            ("[]", "not results"),
            ("{\"sweep\":1}\n", "no row of the unedited model"),
            ("{\"sweep\":1}\n{\"case\":1}\n", "line 2"),
            ("{\"sweep\":1}\nx\n", "line 2"),
            ("{\"sweep\":2}\n", "a later version"),
            ("{\"sweep\":0}\n", "line 1: not results"),
            ("{\"rows\":[[null, null, \"unedited\", null, null, 0, 0, []]]}", "rows[0] is an array, not an object"),
            (&edited("ip", "0.5", "alpha 0.5").replace("value", "guess"), "\"guess\" is not a strategy"),
            (&edited("zz", "0.5", "alpha 0.5"), "\"zz\" with alpha 0.5 is not an edit"),
            (&edited("ep", "0.5", "alpha 0.5"), "is not an edit"),
            (&edited("ip", "0.5", "alpha 1"), "its case is \"alpha 1\", that of its edit is \"alpha 0.5\""),
            (
                &edited("ip", "0.5", "alpha 0.5").replace("{\"strategy\":\"value\"}", "[\"value\"]"),
                "localization is an array",
            ),
        ] {
            let error = written(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
