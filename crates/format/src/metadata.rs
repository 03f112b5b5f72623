//! The descriptive metadata of a patch (spec §6).
//!
//! Stored as canonical JSON: keys are sorted, without white space. Readers ignore unknown keys. Metadata never decides how a block is
//! decoded.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

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
    /// The seed of a random selection (spec §20).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Which weights a random selection was drawn from: those that `either` of target and reference keeps, or those that the `target`
    /// keeps (spec §20).
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
    /// Tensors whose reference was rounded to the base's dtype.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cast: Vec<String>,
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

impl Metadata {
    /// Serializes to canonical JSON.
    ///
    /// # Errors
    /// R10: a limit of spec §6 is exceeded, or a value in `results` or `x` cannot be expressed in JSON.
    pub fn write(&self) -> Result<Vec<u8>, Invalid> {
        // The maps of `Value` are sorted.
        let text = serde_json::to_value(self).and_then(|value| serde_json::to_vec(&value)).map_err(refuse)?;
        check_size(&text)?;
        Ok(text)
    }

    /// Parses JSON, canonical or not. The limits are checked before memory is allocated.
    ///
    /// # Errors
    /// R10.
    pub fn read(bytes: &[u8]) -> Result<Self, Invalid> {
        check_size(bytes)?;
        let value: Value = serde_json::from_slice(bytes).map_err(refuse)?;
        if let Some(pointer) = not_an_object(&value) {
            return Err(Invalid::Metadata { reason: format!("{pointer:?} is not a JSON object") });
        }
        serde_json::from_value(value).map_err(refuse)
    }
}

/// The JSON pointer of a value that must be an object and is not one. This needs a check because serde also deserializes a struct from an
/// array of its fields.
fn not_an_object(value: &Value) -> Option<&'static str> {
    const OBJECTS: [&str; 9] = [
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
    const ARRAYS_OF_OBJECTS: [&str; 3] = ["/base/files", "/reference/files", "/pairing/rows"];
    const MAP_OF_OBJECTS: &str = "/masks/by_component";

    if !value.is_object() {
        return Some("the metadata");
    }
    let at = |pointer: &str| value.pointer(pointer).unwrap_or(&Value::Null);
    let is_wrong_object = |pointer: &&str| !at(pointer).is_object() && !at(pointer).is_null();
    let has_wrong_item = |pointer: &&str| at(pointer).as_array().into_iter().flatten().any(|item| !item.is_object());
    let has_wrong_value =
        |pointer: &str| at(pointer).as_object().into_iter().flat_map(Map::values).any(|value| !value.is_object());
    OBJECTS
        .into_iter()
        .find(is_wrong_object)
        .or_else(|| ARRAYS_OF_OBJECTS.into_iter().find(has_wrong_item))
        .or_else(|| has_wrong_value(MAP_OF_OBJECTS).then_some(MAP_OF_OBJECTS))
}

/// Checks the limits of spec §6.
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
    fn refuses_arrays_in_place_of_objects() {
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
    fn refuses_invalid_json_and_wrong_types() {
        assert!(matches!(Metadata::read(b"[]"), Err(Invalid::Metadata { .. })));
        assert!(matches!(Metadata::read(b"{"), Err(Invalid::Metadata { .. })));
        assert!(matches!(Metadata::read(br#"{"tool":1}"#), Err(Invalid::Metadata { .. })));
        let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
        assert!(matches!(Metadata::read(&deep), Err(Invalid::Metadata { .. })));
    }
}
