//! What a patch says about itself, for people and tools (spec §6).
//!
//! Canonical JSON: keys sorted, no white space. Readers ignore keys they do not know. Nothing in here decides how a
//! block is decoded.

use super::invalid::Invalid;
use super::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX, METADATA_MARKS_MAX};
use crate::json::Structure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The METADATA section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// What wrote the patch, such as `lcepatch 0.1.0`.
    pub tool: String,
    /// How the selected weights were found.
    pub localization: Localization,
    /// Where they were looked for.
    pub candidates: Candidates,
    /// The checkpoint that the patch applies to.
    pub base: Source,
    /// The checkpoint that it moves towards.
    pub reference: Source,
    /// The pruning masks of base and reference, where they have any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<Masks>,
    /// What this patch was made of, if not of two checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
    /// How tensors were paired, where that was not simply by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing: Option<Pairing>,
    /// Set when deltas are stored with less than full precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced: Option<Reduced>,
    /// Whether the patch can be used without its base.
    pub portable: bool,
    /// Bytes that portability costs, or would cost about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portability_bytes: Option<u64>,
    /// Alpha that the author recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_alpha: Option<f64>,
    /// SPDX licence expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What the patch is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Measured results, free in form.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub results: Map<String, Value>,
    /// Free keys. No version of the format will give a meaning to anything in here.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub x: Map<String, Value>,
}

/// How the selected weights were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Localization {
    /// `value` (paper eq 2), `mask` (eq 1), `random`, `full` (every differing element) or `undo` (what an apply
    /// changed).
    pub method: String,
    /// `global` or `tensor`, the scope of the ranking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The number asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// The share of the candidates asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// The seed of a random selection (spec §20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What could be drawn: `either` or `target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub among: Option<String>,
}

/// The pruning masks of base and reference over the candidates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Masks {
    /// Where they come from: `file`, `pairs`, `zeros` or `sparsity`.
    pub source: String,
    /// Whether what the base held before it was pruned is known at every selected element.
    pub before_pruning: bool,
    /// What they keep.
    pub overlap: Overlap,
    /// What they keep, by component.
    pub by_component: BTreeMap<String, Overlap>,
}

/// How many weights are kept by which of two masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overlap {
    /// Kept by both.
    pub both: u64,
    /// Kept in the base (in localization: the target) only.
    pub base_only: u64,
    /// Kept in the reference only.
    pub reference_only: u64,
    /// Pruned by both.
    pub neither: u64,
}

impl Overlap {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            both: self.both.saturating_add(other.both),
            base_only: self.base_only.saturating_add(other.base_only),
            reference_only: self.reference_only.saturating_add(other.reference_only),
            neither: self.neither.saturating_add(other.neither),
        }
    }

    /// Kept by both over kept by either; 1 if nothing is kept.
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

/// What a patch was made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Derived {
    /// `invert`, `squash`, `combine`, `select` or `intersect`.
    pub verb: String,
    /// Patch ids, and how each was used.
    pub patches: Vec<String>,
}

/// Which weights could be selected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Candidates {
    /// `encoder-dense`, `matrices` or `all`.
    pub params: String,
    /// Globs that a name must match one of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs that a name must not match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The architecture that the names were recognized as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Candidate tensors.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their elements by component, such as `attention.output`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_component: BTreeMap<String, u64>,
    /// Their elements by layer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_layer: BTreeMap<String, u64>,
}

/// A checkpoint, by its digests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// The model's name on a hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Elements of all its tensors.
    pub elements: u64,
    /// Its weight files.
    pub files: Vec<SourceFile>,
}

/// One file of a checkpoint, with its digest and, if that was asked for, the one that hubs list for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFile {
    /// File name without folders.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of what comes before the first tensor and of the tensors' digests by BLAKE3, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// SHA-256 of the whole file, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How tensors were paired.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pairing {
    /// Tensors that only the base has, and were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_base: Vec<String>,
    /// Tensors that only the reference has, and were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_reference: Vec<String>,
    /// Tensors that differ in shape or kind of dtype, and were left out on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mismatched: Vec<String>,
    /// Tensors whose reference was rounded to the base's dtype.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cast: Vec<String>,
    /// Prefix of the reference's names, and what stands for it in the base's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<(String, String)>,
    /// Several such prefixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<(String, String)>,
    /// Names in the reference, and the other names that the base has for the same weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<(String, String)>,
    /// Tensors of which only the rows that both have were looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Rows>,
}

/// A tensor that has more rows in one of two checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rows {
    /// The tensor's name in the base.
    pub name: String,
    /// The base's rows.
    pub base: u64,
    /// The reference's rows.
    pub reference: u64,
}

/// What reduced precision costs, measured over all selected elements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reduced {
    /// `bf16` or `int8`.
    pub delta_dtype: String,
    /// Largest absolute difference between a stored and a true delta.
    pub max_error: f64,
    /// Root of the sum of squared errors over the sum of squared deltas.
    pub relative_error: f64,
}

impl Metadata {
    /// Canonical JSON.
    ///
    /// # Errors
    /// R10: more than readers take, or a free value that JSON cannot hold.
    pub fn write(&self) -> Result<Vec<u8>, Invalid> {
        // Through `Value`, whose maps are sorted.
        let text = serde_json::to_value(self).and_then(|value| serde_json::to_vec(&value)).map_err(refuse)?;
        check_size(&text)?;
        Ok(text)
    }

    /// Reads JSON, canonical or not. Its size is checked before anything is allocated.
    ///
    /// # Errors
    /// R10.
    pub fn read(bytes: &[u8]) -> Result<Self, Invalid> {
        check_size(bytes)?;
        let value: Value = serde_json::from_slice(bytes).map_err(refuse)?;
        if let Some(place) = not_an_object(&value) {
            return Err(Invalid::Metadata { reason: format!("{place:?} is not a JSON object") });
        }
        serde_json::from_value(value).map_err(refuse)
    }
}

/// What should be an object and is none. The JSON library also reads arrays as structures, field by field.
fn not_an_object(value: &Value) -> Option<String> {
    let known = [
        "",
        "/localization",
        "/candidates",
        "/base",
        "/reference",
        "/masks",
        "/masks/overlap",
        "/derived",
        "/pairing",
        "/reduced",
    ];
    let is_other = |value: &Value| !value.is_object() && !value.is_null();
    let found = known.into_iter().find(|place| value.pointer(place).is_some_and(is_other));
    let elements = ["/base/files", "/reference/files", "/pairing/rows"].into_iter().find(|place| {
        value.pointer(place).and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| !one.is_object()))
    });
    let overlaps = value.pointer("/masks/by_component").and_then(Value::as_object);
    let overlaps =
        overlaps.is_some_and(|all| all.values().any(|one| !one.is_object())).then_some("/masks/by_component");
    let top = (!value.is_object()).then_some("the metadata");
    top.or(found).or(elements).or(overlaps).map(str::to_owned)
}

/// The limits of spec §6.
fn check_size(text: &[u8]) -> Result<(), Invalid> {
    let refuse = |reason| Err(Invalid::Metadata { reason });
    let (bytes, Structure { marks, depth }) = (text.len() as u64, Structure::of(text));
    match () {
        () if bytes > METADATA_BYTES_MAX => refuse(format!("{bytes} bytes, more than {METADATA_BYTES_MAX}")),
        () if marks > METADATA_MARKS_MAX => {
            refuse(format!("{marks} values and keys, more than the {METADATA_MARKS_MAX} that readers take"))
        }
        () if depth > METADATA_DEPTH_MAX => {
            refuse(format!("objects and arrays {depth} deep in each other, more than {METADATA_DEPTH_MAX}"))
        }
        () => Ok(()),
    }
}

fn refuse(error: serde_json::Error) -> Invalid {
    Invalid::Metadata { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_no_object() {
        for text in ["[]", "null", r#"{"masks":[]}"#, r#"{"base":[]}"#, r#"{"base":{"files":[[]]}}"#] {
            assert!(Metadata::read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Metadata::read(br#"{"masks":{"by_component":{"output":[]}}}"#).is_err());
    }

    #[test]
    fn unknown_keys_are_ignored_and_missing_ones_have_defaults() {
        let metadata = Metadata::read(br#"{"tool":"other 2","novel":{"a":[1]},"x":{"mine":1}}"#).unwrap();
        assert_eq!(metadata.tool, "other 2");
        assert_eq!(metadata.x["mine"], 1);
        assert_eq!(String::from_utf8(Metadata::default().write().unwrap()).unwrap().find(' '), None);
    }

    #[test]
    fn refuses_what_is_no_object() {
        assert!(matches!(Metadata::read(b"[]"), Err(Invalid::Metadata { .. })));
        assert!(matches!(Metadata::read(b"{"), Err(Invalid::Metadata { .. })));
        assert!(matches!(Metadata::read(br#"{"tool":1}"#), Err(Invalid::Metadata { .. })));
        let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
        assert!(matches!(Metadata::read(&deep), Err(Invalid::Metadata { .. })));
    }
}
