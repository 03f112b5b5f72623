//! The descriptive metadata of a patch (spec §6).
//!
//! Stored as canonical JSON: keys are sorted, without white space. Readers ignore unknown keys. Metadata never decides how a block is
//! decoded, and is no reason to refuse a patch: what is not as the spec says counts as absent ([`Ignored`]).

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod known;

use super::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX, METADATA_MARKS_MAX};
use crate::json::Structure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The METADATA section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Name and version of the tool that wrote the patch, such as `lcepatch 0.1.0`.
    pub tool: String,
    /// How the selected weights were chosen.
    pub localization: Localization,
    /// The weights from which they were chosen.
    pub candidates: Candidates,
    /// The checkpoint that the patch applies to.
    pub base: Source,
    /// The checkpoint whose values the selected weights take at alpha 1.
    pub reference: Source,
    /// The pruning masks of base and reference, if they have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<Masks>,
    /// The patches that this one was made from, if it was not made from two checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
    /// How tensors were paired, if not simply by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing: Option<Pairing>,
    /// The error of deltas, if they are stored with reduced precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced: Option<Reduced>,
    /// Whether the patch can be read without its base.
    pub portable: bool,
    /// How many bytes larger portability makes the patch (portable patches), or would make it (an estimate).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portability_bytes: Option<u64>,
    /// The alpha that the author recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_alpha: Option<f64>,
    /// SPDX licence expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What the patch is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Measured results, in any form.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub results: Map<String, Value>,
    /// User-defined keys. No version of the format will define any key here.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub x: Map<String, Value>,
}

/// How the selected weights were chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Localization {
    /// `value` (paper eq 2), `mask` (paper eq 1), `random`, `full` (every differing element) or `undo` (the elements that an apply
    /// changed).
    pub method: String,
    /// The scope of the ranking, `global` or `tensor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The requested number of weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// The requested share of the candidates, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// The seed of a random selection (spec §A11).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Which weights a random selection was drawn from: those that `either` of target and reference keeps, or those that the `target`
    /// keeps (spec §A11).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub among: Option<String>,
}

/// The pruning masks of base and reference over the candidates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Masks {
    /// Where the masks come from: `file`, `pairs`, `zeros` or `sparsity`.
    pub source: String,
    /// Whether the base's value before pruning is known at every selected element.
    pub before_pruning: bool,
    /// Number of weights that the masks keep.
    pub overlap: Overlap,
    /// Number of weights that the masks keep, by component.
    pub by_component: BTreeMap<String, Overlap>,
}

/// Number of weights that two masks keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlap {
    /// Kept by both.
    pub both: u64,
    /// Kept only in the base (during localization: the target).
    pub base_only: u64,
    /// Kept only in the reference.
    pub reference_only: u64,
    /// Pruned by both.
    pub neither: u64,
}

impl Overlap {
    /// The sums of both counts.
    pub fn and(self, other: Self) -> Self {
        Self {
            both: self.both.saturating_add(other.both),
            base_only: self.base_only.saturating_add(other.base_only),
            reference_only: self.reference_only.saturating_add(other.reference_only),
            neither: self.neither.saturating_add(other.neither),
        }
    }

    /// Jaccard index of the masks: kept by both, divided by kept by either; 1 if nothing is kept.
    pub fn jaccard(&self) -> f64 {
        let either = self.both as f64 + self.differing() as f64;
        if either == 0.0 { 1.0 } else { self.both as f64 / either }
    }

    /// Kept by exactly one (paper eq 1).
    pub fn differing(&self) -> u64 {
        self.base_only.saturating_add(self.reference_only)
    }

    /// Pruned in the base.
    pub fn base_pruned(&self) -> u64 {
        self.reference_only.saturating_add(self.neither)
    }

    /// Pruned in the reference.
    pub fn reference_pruned(&self) -> u64 {
        self.base_only.saturating_add(self.neither)
    }

    /// All weights.
    pub fn elements(&self) -> u64 {
        self.both.saturating_add(self.differing()).saturating_add(self.neither)
    }
}

/// The patches that a patch was made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Derived {
    /// `invert`, `squash`, `combine`, `select` or `intersect`.
    pub verb: String,
    /// The patch ids, each with how it was used.
    pub patches: Vec<String>,
}

/// The weights that could be selected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidates {
    /// `encoder-dense`, `matrices` or `all`.
    pub params: String,
    /// Globs of which a tensor's name must match at least one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs of which a tensor's name must match none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The architecture, recognized from the names of tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Number of candidate tensors.
    pub tensors: u64,
    /// Number of candidate elements.
    pub elements: u64,
    /// Number of candidate elements by component, such as `attention.output`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_component: BTreeMap<String, u64>,
    /// Number of candidate elements by layer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_layer: BTreeMap<String, u64>,
}

/// Identifies a checkpoint by its digests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// The model's name on a hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Number of elements of all tensors.
    pub elements: u64,
    /// The weight files.
    pub files: Vec<SourceFile>,
}

/// A weight file of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFile {
    /// File name without folders.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the bytes before the first tensor followed by the BLAKE3 digests of all tensors; 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// SHA-256 of the whole file as hubs list it, if it was requested; 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How tensors were paired.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pairing {
    /// Tensors that exist only in the base and were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_base: Vec<String>,
    /// Tensors that exist only in the reference and were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_reference: Vec<String>,
    /// Tensors with different shapes or kinds of dtype, which were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mismatched: Vec<String>,
    /// Number of tensors whose reference was rounded to the base's dtype.
    #[serde(skip_serializing_if = "is_zero")]
    pub cast: u64,
    /// A prefix of names in the reference, and the prefix that replaces it in the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<(String, String)>,
    /// Several such pairs of prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<(String, String)>,
    /// Names in the reference, each with the different name of the same weights in the base.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<(String, String)>,
    /// Tensors with different numbers of rows, of which only the common rows were compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Rows>,
}

/// A tensor with different numbers of rows in two checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rows {
    /// The tensor's name in the base.
    pub name: String,
    /// Number of rows in the base.
    pub base: u64,
    /// Number of rows in the reference.
    pub reference: u64,
}

/// The error of deltas of reduced precision, over all selected elements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reduced {
    /// `bf16` or `int8`.
    pub delta_dtype: String,
    /// Largest absolute difference between a stored and an exact delta.
    pub max_error: f64,
    /// Square root of the sum of squared errors divided by the sum of squared deltas.
    pub relative_error: f64,
}

/// A part of a patch's metadata that counts as absent, because it is not what spec §6 says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// JSON pointer to the part; empty for all of the metadata.
    pub pointer: String,
    /// What it is, and what it must be.
    pub reason: String,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pointer, reason } = self;
        if pointer.is_empty() {
            write!(f, "all metadata, which {reason}")
        } else {
            write!(f, "{pointer}, which {reason}")
        }
    }
}

/// Metadata that readers would ignore, since it exceeds a limit of spec §6.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its metadata {reason}")]
pub struct Unwritable {
    /// What it has too much of.
    pub reason: String,
}

/// Whether a count is left out.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Metadata {
    /// Serializes to canonical JSON.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub fn write(&self) -> Result<Vec<u8>, Unwritable> {
        // The maps of `Value` are sorted.
        let text = serde_json::to_value(self).and_then(|value| serde_json::to_vec(&value));
        let text = text.map_err(|error| Unwritable { reason: format!("cannot be written as JSON: {error}") })?;
        match excess(&text) {
            Some(reason) => Err(Unwritable { reason }),
            None => Ok(text),
        }
    }

    /// Parses JSON, canonical or not, and says what of it counts as absent. Nothing is refused: of bytes that are not a JSON object within
    /// the limits of spec §6, which are checked before memory is allocated, all is absent.
    pub fn read(bytes: &[u8]) -> (Self, Vec<Ignored>) {
        Self::known(bytes).unwrap_or_else(|reason| (Self::default(), vec![Ignored { pointer: String::new(), reason }]))
    }

    /// As [`Metadata::read`], or why all of it is absent.
    fn known(bytes: &[u8]) -> Result<(Self, Vec<Ignored>), String> {
        if let Some(reason) = excess(bytes) {
            return Err(reason);
        }
        let invalid = |error: serde_json::Error| format!("is not valid JSON: {error}");
        let mut value = serde_json::from_slice(bytes).map_err(invalid)?;
        let ignored = known::keep(&mut value)?;
        // What is left has the kinds of the fields.
        Ok((serde_json::from_value(value).map_err(invalid)?, ignored))
    }
}

/// The limit of spec §6 that a text exceeds, if any.
fn excess(text: &[u8]) -> Option<String> {
    let (bytes, Structure { marks, depth }) = (text.len() as u64, Structure::of(text));
    let of = |found: u64, what: &str, most: u64| format!("has {found} {what}, more than the {most} that readers take");
    match () {
        () if bytes > METADATA_BYTES_MAX => Some(of(bytes, "bytes", METADATA_BYTES_MAX)),
        () if marks > METADATA_MARKS_MAX => Some(of(marks, "values and keys", METADATA_MARKS_MAX)),
        () if depth > METADATA_DEPTH_MAX => {
            Some(of(depth.into(), "objects and arrays in each other", METADATA_DEPTH_MAX.into()))
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Metadata, Vec<Ignored>) {
        Metadata::read(text.as_bytes())
    }

    /// The pointers to what is ignored.
    fn ignored(text: &str) -> Vec<String> {
        read(text).1.into_iter().map(|ignored| ignored.pointer).collect()
    }

    #[test]
    fn unknown_keys_are_ignored_and_missing_ones_have_defaults() {
        let (metadata, ignored) = read(r#"{"tool":"other 2","novel":{"a":[1]},"x":{"mine":1}}"#);
        assert_eq!((metadata.tool.as_str(), &metadata.x["mine"], ignored), ("other 2", &1.into(), vec![]));
        assert_eq!(String::from_utf8(Metadata::default().write().unwrap()).unwrap().find(' '), None);
    }

    #[test]
    fn what_is_no_json_object_within_the_limits_counts_as_none() {
        let deep = |depth: usize| format!(r#"{{"x":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        let long =
            |bytes: usize| format!(r#"{{"description":"{}"}}"#, "d".repeat(bytes - r#"{"description":""}"#.len()));
        let many = |marks: usize| format!(r#"{{"x":{{"a":[0{}]}}}}"#, ",0".repeat(marks - 5));
        assert!(read(&deep(62)).1.is_empty() && read(&long(1 << 20)).1.is_empty() && read(&many(1 << 17)).1.is_empty());
        let outside = [
            deep(63),
            long((1 << 20) + 1),
            many((1 << 17) + 1),
            String::new(),
            "[]".to_owned(),
            "null".to_owned(),
            "{".to_owned(),
            "{} {}".to_owned(),
            r#"{"tool":"a","x":{"a":1e999}}"#.to_owned(),
            r#"{"tool":"a","x":{"a":"\ud800"}}"#.to_owned(),
            r#"{"tool":"a","unknown":{"\udc00":1}}"#.to_owned(),
            r#"{"tool":"a","recommended_alpha":NaN}"#.to_owned(),
        ];
        for text in outside {
            let (metadata, ignored) = read(&text);
            let start: String = text.chars().take(60).collect();
            assert_eq!(metadata, Metadata::default(), "{start}");
            assert_eq!(ignored.len(), 1, "{start}");
            assert_eq!(ignored[0].pointer, "", "{start}");
        }
        assert_eq!(Metadata::read(b"{\"tool\":\"\xff\"}").0, Metadata::default());
    }

    #[test]
    fn known_keys_of_other_kinds_count_as_absent_and_are_named() {
        let text = r#"{
            "tool": 1, "license": null, "portable": "yes", "recommended_alpha": -2, "portability_bytes": 1.0,
            "localization": {"method": "value", "k": -1, "seed": 18446744073709551616, "density": 1},
            "candidates": {"include": ["a", 1], "exclude": ["b"], "by_layer": {"0": 1, "1": "2"}, "by_component": {"q/k": 3}},
            "base": {"model_id": null, "files": [{"name": "a", "bytes": "9", "content": 1}, {}]},
            "reference": {"files": [{"name": "a"}, "b"]},
            "masks": {"overlap": {"both": 1e3, "neither": 7}, "by_component": {"a/b~": {"both": 1, "neither": []}}},
            "derived": [], "pairing": {"prefix": ["a", "b", "c"], "renamed": [["a", "b"]], "prefixes": [["a"]], "rows": [[]]},
            "reduced": {"max_error": "big", "relative_error": 3}, "results": 7, "x": {"null": null}
        }"#;
        let (metadata, ignored) = read(text);
        let mut pointers: Vec<&str> = ignored.iter().map(|ignored| ignored.pointer.as_str()).collect();
        pointers.sort_unstable();
        let expected = [
            "/base/files/0/bytes",
            "/base/files/0/content",
            "/base/model_id",
            "/candidates/by_layer",
            "/candidates/include",
            "/derived",
            "/license",
            "/localization/k",
            "/localization/seed",
            "/masks/by_component/a~1b~0/neither",
            "/masks/overlap/both",
            "/pairing/prefix",
            "/pairing/prefixes",
            "/pairing/rows",
            "/portability_bytes",
            "/portable",
            "/reduced/max_error",
            "/reference/files",
            "/results",
            "/tool",
        ];
        assert_eq!(pointers, expected);
        assert_eq!(ignored[0].to_string(), "/tool, which is a number, and not a string");
        assert_eq!((metadata.recommended_alpha, metadata.localization.density), (Some(-2.0), Some(1.0)));
        assert_eq!(metadata.candidates.exclude, ["b"]);
        assert_eq!((metadata.base.files.len(), metadata.base.files[0].name.as_str()), (2, "a"));
        let masks = metadata.masks.unwrap();
        assert_eq!((masks.overlap.neither, masks.by_component["a/b~"].both), (7, 1));
        assert_eq!(metadata.pairing.unwrap().renamed, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(metadata.reduced.unwrap().relative_error, 3.0);
        assert_eq!(metadata.x["null"], Value::Null);
    }

    #[test]
    fn of_a_key_given_twice_the_last_counts() {
        assert_eq!(read(r#"{"tool":1,"tool":"a","x":1,"x":{"b":2,"b":3}}"#).0.x["b"], 3);
        assert_eq!(ignored(r#"{"tool":1,"tool":"a"}"#), [""; 0]);
        assert_eq!(ignored(r#"{"tool":"a","tool":1}"#), ["/tool"]);
    }

    #[test]
    fn what_readers_would_ignore_is_not_written() {
        let described = |bytes: usize| Metadata { description: Some("d".repeat(bytes)), ..Metadata::default() };
        assert!(described(1 << 19).write().is_ok());
        let error = described(1 << 20).write().unwrap_err().to_string();
        assert!(error.starts_with("its metadata has 1048") && error.ends_with("1048576 that readers take"), "{error}");
    }
}
