//! The known keys of the metadata and their kinds: the table of spec §6.

use super::Ignored;
use serde_json::{Map, Value};

/// A kind of JSON value.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Boolean,
    /// From 0 to 2^64 - 1, without fraction or exponent.
    Integer,
    Number,
    /// An array of two strings.
    TextPair,
    /// An array of values of one kind.
    List(&'static Kind),
    /// An object with these known keys, and any others.
    Object(&'static [(&'static str, Kind)]),
    /// An object whose keys all have values of one kind.
    Map(&'static Kind),
}

use Kind::{Boolean, Integer, Number, Object, Text, TextPair};

const TEXTS: Kind = Kind::List(&Text);
const TEXT_PAIRS: Kind = Kind::List(&TextPair);
const COUNTS: Kind = Kind::Map(&Integer);
/// An object in which no key has a meaning.
const FREE: Kind = Object(&[]);

const METADATA: &[(&str, Kind)] = &[
    ("tool", Text),
    ("localization", Object(LOCALIZATION)),
    ("masks", Object(MASKS)),
    ("derived", Object(&[("verb", Text), ("patches", TEXTS)])),
    ("candidates", Object(CANDIDATES)),
    ("base", Object(SOURCE)),
    ("reference", Object(SOURCE)),
    ("pairing", Object(PAIRING)),
    ("reduced", Object(&[("delta_dtype", Text), ("max_error", Number), ("relative_error", Number)])),
    ("portable", Boolean),
    ("portability_bytes", Integer),
    ("recommended_alpha", Number),
    ("license", Text),
    ("description", Text),
    ("results", FREE),
    ("x", FREE),
];

const LOCALIZATION: &[(&str, Kind)] =
    &[("method", Text), ("scope", Text), ("k", Integer), ("density", Number), ("seed", Integer), ("among", Text)];

const MASKS: &[(&str, Kind)] = &[
    ("source", Text),
    ("before_pruning", Boolean),
    ("overlap", Object(OVERLAP)),
    ("by_component", Kind::Map(&Object(OVERLAP))),
];

const OVERLAP: &[(&str, Kind)] =
    &[("both", Integer), ("base_only", Integer), ("reference_only", Integer), ("neither", Integer)];

const CANDIDATES: &[(&str, Kind)] = &[
    ("params", Text),
    ("include", TEXTS),
    ("exclude", TEXTS),
    ("family", Text),
    ("tensors", Integer),
    ("elements", Integer),
    ("by_component", COUNTS),
    ("by_layer", COUNTS),
];

const SOURCE: &[(&str, Kind)] =
    &[("model_id", Text), ("elements", Integer), ("files", Kind::List(&Object(SOURCE_FILE)))];

const SOURCE_FILE: &[(&str, Kind)] = &[("name", Text), ("bytes", Integer), ("content", Text), ("sha256", Text)];

const PAIRING: &[(&str, Kind)] = &[
    ("only_in_base", TEXTS),
    ("only_in_reference", TEXTS),
    ("mismatched", TEXTS),
    ("cast", Integer),
    ("prefix", TextPair),
    ("prefixes", TEXT_PAIRS),
    ("renamed", TEXT_PAIRS),
    ("rows", Kind::List(&Object(&[("name", Text), ("base", Integer), ("reference", Integer)]))),
];

/// Removes every known key that has a value of another kind, and says which these are.
///
/// # Errors
/// What `metadata` is, if it is no object.
pub fn keep(metadata: &mut Value) -> Result<Vec<Ignored>, String> {
    let kind = Object(METADATA);
    if !kind.fits(metadata) {
        return Err(mismatch(metadata, kind));
    }
    let mut ignored = Vec::new();
    kind.prune(metadata, &mut String::new(), &mut ignored);
    Ok(ignored)
}

fn mismatch(found: &Value, expected: Kind) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("is {found}, and not {}", expected.name())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Text => "a string",
            Boolean => "a boolean",
            Integer => "an integer from 0 to 2^64 - 1",
            Number => "a number",
            TextPair => "an array of two strings",
            Kind::List(Text) => "an array of strings",
            Kind::List(TextPair) => "an array of arrays of two strings",
            Kind::List(_) => "an array of objects",
            Kind::Map(Integer) => "an object of integers",
            Kind::Map(_) => "an object of objects",
            Object(_) => "an object",
        }
    }

    /// Whether `value` is of this kind. An object is, whatever is under its known keys.
    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Text, Value::String(_)) | (Boolean, Value::Bool(_)) | (Number, Value::Number(_)) => true,
            (Object(_), Value::Object(_)) => true,
            (Integer, Value::Number(number)) => number.is_u64(),
            (TextPair, Value::Array(items)) => items.len() == 2 && items.iter().all(Value::is_string),
            (Kind::List(kind), Value::Array(items)) => items.iter().all(|item| kind.fits(item)),
            (Kind::Map(kind), Value::Object(entries)) => entries.values().all(|value| kind.fits(value)),
            _ => false,
        }
    }

    /// Removes the known keys of other kinds in `value`, which is of this kind and lies at `pointer`.
    fn prune(self, value: &mut Value, pointer: &mut String, ignored: &mut Vec<Ignored>) {
        match (self, value) {
            (Object(known), Value::Object(entries)) => {
                for (key, kind) in known {
                    within(pointer, key, |pointer| kind.prune_entry(entries, key, pointer, ignored));
                }
            }
            (Kind::Map(kind), Value::Object(entries)) => {
                for (key, value) in entries {
                    within(pointer, key, |pointer| kind.prune(value, pointer, ignored));
                }
            }
            (Kind::List(kind), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    within(pointer, &index.to_string(), |pointer| kind.prune(item, pointer, ignored));
                }
            }
            _ => {}
        }
    }

    /// Removes `key` if its value is of another kind than this one, and prunes it otherwise.
    fn prune_entry(
        self,
        entries: &mut Map<String, Value>,
        key: &str,
        pointer: &mut String,
        ignored: &mut Vec<Ignored>,
    ) {
        let Some(value) = entries.get_mut(key) else { return };
        if self.fits(value) {
            return self.prune(value, pointer, ignored);
        }
        ignored.push(Ignored { pointer: pointer.clone(), reason: mismatch(value, self) });
        entries.remove(key);
    }
}

/// Calls `visit` with `pointer` lengthened by one step (RFC 6901).
fn within(pointer: &mut String, step: &str, visit: impl FnOnce(&mut String)) {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
    visit(pointer);
    pointer.truncate(length);
}
