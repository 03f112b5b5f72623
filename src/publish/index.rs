//! `patches.json`: which patches are in a place, and for which base.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::Listed;
use crate::digest::Digest;
use crate::json;
use crate::patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of the index in a place.
pub(crate) const FILE_NAME: &str = "patches.json";
/// The version of the index's format.
const SCHEMA: u64 = 1;
/// The largest index that is read, in bytes.
pub(crate) const BYTES_MAX: u64 = 8 << 20;

/// The content of [`FILE_NAME`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// The version of the format, 1.
    pub schema: u64,
    /// The patches, in the order of their names.
    pub patches: Vec<Entry>,
}

/// A patch in an [`Index`]. All of it is also in the patch's header, but for the signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its file, beside the index.
    pub file: String,
    /// The patch id, in hexadecimal digits.
    pub id: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// The root of the digests of its tensors in the base.
    pub base: String,
    /// The root of the digests of its tensors in the reference. None if the patch does not know it.
    #[serde(default)]
    pub reference: Option<String>,
    /// The root of the digests of its tensors in the result at alpha 1. None if the patch does not know it.
    #[serde(default)]
    pub result: Option<String>,
    /// The base's name on a hub, as the patch states it.
    #[serde(default)]
    pub base_model: Option<String>,
    /// The alpha that its author recommends.
    #[serde(default)]
    pub recommended_alpha: Option<f64>,
    /// When it was made, as the patch states it under `x`.
    #[serde(default)]
    pub created: Option<String>,
    /// Whether a signature is beside it, in `FILE.sig`.
    #[serde(default)]
    pub signed: bool,
}

/// Why an index is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is not one.
    Malformed(String),
    /// A later version wrote it.
    Later(u64),
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "is not an index of patches: {reason}"),
            Self::Later(found) => write!(f, "has schema {found}, and this version reads {SCHEMA}"),
        }
    }
}

impl Index {
    /// The index of the patches of a place.
    pub fn of<'a>(patches: impl IntoIterator<Item = &'a Listed>) -> Self {
        let mut patches: Vec<Entry> = patches.into_iter().map(Entry::of).collect();
        patches.sort_by(|a, b| a.file.cmp(&b.file));
        Self { schema: SCHEMA, patches }
    }

    /// Parses an index. Keys that are not known are ignored.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn parse(text: &[u8]) -> Result<Self, Unread> {
        let malformed = |error: serde_json::Error| Unread::Malformed(error.to_string());
        json::check(text).map_err(Unread::Malformed)?;
        let value: Value = serde_json::from_slice(text).map_err(malformed)?;
        match value.get("schema").map(Value::as_u64) {
            Some(Some(SCHEMA)) => {}
            Some(Some(later)) if later > SCHEMA => return Err(Unread::Later(later)),
            Some(_) => return Err(Unread::Malformed("its schema is no version".to_owned())),
            None => return Err(Unread::Malformed("it has no schema".to_owned())),
        }
        let index = serde_json::from_value(value.clone()).map_err(malformed)?;
        json::refuse_arrays_for_objects(&value, &index).map_err(Unread::Malformed)?;
        Ok(index)
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Numbers that JSON does not have do not come out of metadata, so that nothing in here fails.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        (text + "\n").into_bytes()
    }

    /// What it says of a patch, in a sentence, if that is not so.
    pub fn contradiction(&self, listed: &Listed) -> Option<String> {
        let Some(said) = self.patches.iter().find(|entry| entry.file == listed.file) else {
            return Some(format!("{FILE_NAME} does not list {}", listed.file));
        };
        let is = Entry::of(listed);
        let differs = [
            ("id", said.id != is.id),
            ("bytes", said.bytes != is.bytes),
            ("base", said.base != is.base),
            ("reference", said.reference != is.reference),
            ("result", said.result != is.result),
            ("base_model", said.base_model != is.base_model),
            ("recommended_alpha", said.recommended_alpha != is.recommended_alpha),
        ];
        let (what, _) = differs.into_iter().find(|(_, differs)| *differs)?;
        Some(format!("{FILE_NAME} is wrong about the {what} of {}: the patch itself counts", listed.file))
    }
}

impl Entry {
    fn of(listed: &Listed) -> Self {
        let patch = &listed.patch;
        let (metadata, roots) = (patch.metadata(), patch.table().roots);
        let known = |digest: Digest| digest.is_known().then(|| digest.to_string());
        Self {
            file: listed.file.clone(),
            id: patch.id().to_string(),
            bytes: patch.file_bytes(),
            base: base_root(patch).to_string(),
            reference: known(roots.reference),
            result: known(roots.result),
            base_model: metadata.base.model_id.clone(),
            recommended_alpha: metadata.recommended_alpha,
            created: created(patch),
            signed: listed.signed,
        }
    }
}

/// The root of the digests of a patch's tensors in its base.
pub(crate) fn base_root(patch: &Patch) -> Digest {
    Digest::root(patch.table().tensors.iter().map(|entry| &entry.base_digest))
}

/// When a patch was made, if its metadata have a date or a time under `x.created`. The format has no times of its own, so that the same
/// checkpoints give the same patch.
pub(super) fn created(patch: &Patch) -> Option<String> {
    let text = patch.metadata().x.get("created")?.as_str()?;
    let is_date = text.parse::<jiff::civil::Date>().is_ok() || text.parse::<jiff::Timestamp>().is_ok();
    (is_date && text.len() <= 40).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{floats, portable};

    fn listed(x: &str) -> Listed {
        let (base, reference) = (floats(&[("w", &[1.0, 2.0])]), floats(&[("w", &[1.0, 3.0])]));
        let patch = portable(&base, &reference, 1.0).patch;
        let mut metadata = patch.metadata().clone();
        metadata.x.insert("created".to_owned(), x.into());
        metadata.recommended_alpha = Some(-0.5);
        let patch = patch.with_metadata(&metadata).unwrap();
        Listed { file: "p.lcepatch".to_owned(), patch, signed: true }
    }

    #[test]
    fn an_index_is_read_as_it_was_written_and_is_the_same_each_time() {
        let index = Index::of([&listed("2026-11-28")]);
        assert_eq!(Index::parse(&index.to_bytes()), Ok(index.clone()));
        assert_eq!(Index::of([&listed("2026-11-28")]).to_bytes(), index.to_bytes());
        let entry = &index.patches[0];
        assert_eq!(entry.created.as_deref(), Some("2026-11-28"));
        assert_eq!(entry.reference, entry.result, "all differences are in it");
        assert_ne!(Some(&entry.base), entry.reference.as_ref());
    }

    #[test]
    fn only_dates_count_as_such() {
        for (text, is_date) in
            [("2026-11-28T04:30:00Z", true), ("yesterday", false), ("", false), ("2026-11-28\n# x", false)]
        {
            assert_eq!(created(&listed(text).patch).is_some(), is_date, "{text}");
        }
    }

    #[test]
    fn what_is_no_index_is_said_and_what_is_later_too() {
        assert_eq!(Index::parse(br#"{"schema": 2, "patches": 5}"#), Err(Unread::Later(2)));
        assert!(Index::parse(br#"{"schema": 1, "patches": [], "more": 1}"#).is_ok());
        let texts: [&[u8]; 8] = [
            b"",
            b"[]",
            b"{}",
            br#"{"schema": "1", "patches": []}"#,
            br#"{"schema": 0, "patches": []}"#,
            br#"{"schema": 1}"#,
            br#"{"schema": 1, "patches": [["p", "id", 1, "base", null, null, null, null, null, true]]}"#,
            br#"{"schema": 1, "patches": [{"file": "p", "id": "", "bytes": -1, "base": ""}]}"#,
        ];
        for text in texts {
            let text = text.to_vec();
            assert!(matches!(Index::parse(&text), Err(Unread::Malformed(_))), "{}", String::from_utf8_lossy(&text));
        }
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(matches!(Index::parse(&deep), Err(Unread::Malformed(_))));
    }

    #[test]
    fn what_an_index_says_wrongly_is_noticed() {
        let patch = listed("2026-11-28");
        let right = Index::of([&patch]);
        assert_eq!(right.contradiction(&patch), None);
        let mut wrong = right.clone();
        wrong.patches[0].base = "00".repeat(32);
        assert!(wrong.contradiction(&patch).unwrap().contains("wrong about the base of p.lcepatch"));
        wrong.patches.clear();
        assert!(wrong.contradiction(&patch).unwrap().contains("does not list p.lcepatch"));
    }
}
