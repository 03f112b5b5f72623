//! Bounds the cost of a `tokenizer.json` before the tokenizers library reads it: its steps can multiply the length of a text without bound,
//! its patterns can take exponential time, and its tables can take many times their size in memory.

mod charsmap;
mod pattern;

use pattern::Cost;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// The most by which all steps together may multiply the length of a text. Published tokenizers stay below 100.
const GROWTH_MAX: u64 = 1024;
/// The most JSON values in all steps. Published tokenizers have at most some hundreds.
const VALUES_MAX: u64 = 4096;
/// The most steps that change or split a text. Published tokenizers have at most two dozen.
const STEPS_MAX: u64 = 64;
/// The deepest nesting of the values of steps.
const DEPTH_MAX: u32 = 16;
/// The most tokens that are added around a text.
const AROUND_MAX: u64 = 256;
/// The most bytes of an added token, which is searched in texts first, and of a prefix or suffix of tokens.
const TOKEN_BYTES_MAX: usize = 256;
/// The most bytes of a token of a vocabulary whose tokens are all tried at each position of a text.
const PIECE_BYTES_MAX: usize = 1024;
/// The most nodes of a vocabulary that is read as a prefix tree. Each takes some hundred bytes.
const TREE_FREE: u64 = 1 << 17;
/// Beyond that, one node is allowed per so many bytes of the file. Published tokenizers have at least twelve bytes per node.
const BYTES_A_LETTER: u64 = 8;
/// The most characters of a word that is looked up in parts, which takes cubic time. 100 is usual.
const WORD_CHARACTERS_MAX: u64 = 256;

/// The parts of a tokenizer that can cost more than their size says.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(default)]
    normalizer: Steps,
    #[serde(default)]
    pre_tokenizer: Steps,
    #[serde(default)]
    post_processor: Steps,
    #[serde(default)]
    decoder: Steps,
    #[serde(borrow, default)]
    added_tokens: Vec<Added<'a>>,
    #[serde(borrow, default)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Added<'a> {
    #[serde(borrow, default)]
    content: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
struct Model<'a> {
    max_input_chars_per_word: Option<u64>,
    #[serde(borrow, default)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    end_of_word_suffix: Option<Cow<'a, str>>,
    #[serde(default)]
    vocab: Pieces,
}

/// Refuses a tokenizer whose cost is not bounded by its size and that of the text.
///
/// # Errors
/// Says what is too much.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    let parts: Parts<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut found = Found::default();
    for Steps(steps) in [&parts.normalizer, &parts.pre_tokenizer, &parts.decoder] {
        found.take(steps)?;
    }
    found.patterns.check().map_err(|why| format!("its patterns {why}"))?;
    around(&parts.post_processor.0)?;
    check_added(parts.added_tokens.iter().map(|token| &*token.content))?;
    let model = parts.model;
    let affixes = [model.continuing_subword_prefix, model.end_of_word_suffix];
    if let Some(affix) = affixes.iter().flatten().find(|affix| affix.len() > TOKEN_BYTES_MAX) {
        return Err(format!("a prefix or suffix of its tokens has {} bytes, more than {TOKEN_BYTES_MAX}", affix.len()));
    }
    if let Some(most) = model.max_input_chars_per_word.filter(|most| *most > WORD_CHARACTERS_MAX) {
        return Err(format!("max_input_chars_per_word is {most}, more than {WORD_CHARACTERS_MAX}"));
    }
    let Pieces { longest, letters } = model.vocab;
    if longest > PIECE_BYTES_MAX {
        return Err(format!("a token of its vocabulary has {longest} bytes, more than {PIECE_BYTES_MAX}"));
    }
    let (bytes, letters_max) = (text.len(), TREE_FREE + text.len() as u64 / BYTES_A_LETTER);
    if letters > letters_max {
        return Err(format!(
            "a tree of its vocabulary has {letters} letters, more than the {letters_max} of {bytes} bytes"
        ));
    }
    Ok(())
}

/// Refuses added tokens that are too long: the automaton that searches for them takes a thousand times their size.
///
/// # Errors
/// Says which one.
pub(super) fn check_added<'a>(mut tokens: impl Iterator<Item = &'a str>) -> Result<(), String> {
    match tokens.find(|token| token.len() > TOKEN_BYTES_MAX) {
        Some(token) => {
            let (bytes, shown) = (token.len(), token.chars().take(40).collect::<String>());
            Err(format!("the added token {shown:?} has {bytes} bytes, more than {TOKEN_BYTES_MAX}"))
        }
        None => Ok(()),
    }
}

/// An item of a template, which may add a list of tokens around a text.
fn around(step: &Value) -> Result<(), String> {
    fn count(value: &Value, key: &str) -> u64 {
        match value {
            Value::Array(values) => values.iter().map(|value| count(value, key)).sum(),
            Value::Object(entries) => {
                entries.iter().map(|(name, value)| u64::from(name == key) + count(value, key)).sum()
            }
            _ => 0,
        }
    }
    fn ids(value: &Value) -> u64 {
        match value {
            Value::Array(values) => values.iter().map(ids).max().unwrap_or_default(),
            Value::Object(entries) => entries
                .iter()
                .map(
                    |(name, value)| {
                        if name == "ids" { value.as_array().map_or(0, Vec::len) as u64 } else { ids(value) }
                    },
                )
                .max()
                .unwrap_or_default(),
            _ => 0,
        }
    }
    let tokens = count(step, "SpecialToken").saturating_mul(ids(step).max(1));
    if tokens <= AROUND_MAX {
        Ok(())
    } else {
        Err(format!("it puts up to {tokens} tokens around a text, more than {AROUND_MAX}"))
    }
}

struct Found {
    steps: u64,
    growth: u64,
    patterns: Cost,
}

impl Default for Found {
    fn default() -> Self {
        Self { steps: 0, growth: 1, patterns: Cost::default() }
    }
}

impl Found {
    fn take(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Array(values) => values.iter().try_for_each(|value| self.take(value)),
            Value::Object(entries) => {
                self.step(value)?;
                let parts = entries.iter().filter(|(key, _)| *key != "pattern");
                parts.map(|(_, value)| value).try_for_each(|value| self.take(value))
            }
            _ => Ok(()),
        }
    }

    /// Recognizes a step by its fields, since `type` is optional.
    fn step(&mut self, step: &Value) -> Result<(), String> {
        let bytes = |key: &str| step.get(key).and_then(Value::as_str).map(|text| text.len() as u64);
        let pattern = |kind: &str| step.get("pattern")?.get(kind)?.as_str();
        let mut empty = pattern("String") == Some("");
        if let Some(pattern) = pattern("Regex") {
            let (cost, in_nothing) = pattern::cost(pattern)?;
            self.patterns = self.patterns + cost;
            empty |= in_nothing;
        }
        if step.get("length").and_then(Value::as_u64) == Some(0) {
            return Err("it cuts texts into pieces of length 0".to_owned());
        }
        let charsmap = step.get("precompiled_charsmap").and_then(Value::as_str);
        let times = [
            // A pattern that matches the empty string matches between all characters, too.
            bytes("content").map(|bytes| bytes + u64::from(empty)),
            bytes("prepend").map(|bytes| bytes + 1),
            bytes("replacement"),
            // A byte becomes a character of up to two bytes.
            (step.get("type").is_some_and(|kind| kind == "ByteLevel") || step.get("trim_offsets").is_some())
                .then_some(2),
            charsmap.map(charsmap::growth).transpose()?,
        ];
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(format!("it has more than {STEPS_MAX} steps"));
        }
        self.growth =
            times.into_iter().flatten().fold(self.growth, |growth, times| growth.saturating_mul(times.max(1)));
        if self.growth <= GROWTH_MAX {
            return Ok(());
        }
        Err(format!("its steps can make a text {} times as long, more than {GROWTH_MAX}", self.growth))
    }
}

/// Steps, read no further than there may be values.
#[derive(Default)]
struct Steps(Value);

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut left = VALUES_MAX;
        Few { left: &mut left, depth: DEPTH_MAX }.deserialize(deserializer).map(Self)
    }
}

/// Reads a value of which `left` values are left, and `depth` levels.
struct Few<'l> {
    left: &'l mut u64,
    depth: u32,
}

impl Few<'_> {
    fn inner(&mut self) -> Few<'_> {
        Few { left: self.left, depth: self.depth.saturating_sub(1) }
    }

    fn level<E: Error>(&self) -> Result<(), E> {
        if self.depth > 0 {
            Ok(())
        } else {
            Err(E::custom(format_args!("its steps are more than {DEPTH_MAX} levels deep")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Few<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom(format_args!("its steps have more than {VALUES_MAX} values")))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Few<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("steps")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<Value, A::Error> {
        self.level()?;
        let mut out = Vec::new();
        while let Some(value) = values.next_element_seed(self.inner())? {
            out.push(value);
        }
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        self.level()?;
        let mut out = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.inner())?;
            out.insert(key, value);
        }
        Ok(out.into())
    }
}

/// A vocabulary that is a list of tokens and scores. One that is a table is not measured, since tokens are looked up whole.
#[derive(Default)]
struct Pieces {
    /// Bytes of the longest token.
    longest: usize,
    /// The bytes of all tokens, with common prefixes counted once.
    letters: u64,
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Vocabulary)
    }
}

struct Vocabulary;

impl<'de> Visitor<'de> for Vocabulary {
    type Value = Pieces;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a vocabulary")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Pieces, A::Error> {
        let mut tokens = Vec::new();
        while let Some((token, _)) = values.next_element::<(String, IgnoredAny)>()? {
            tokens.push(token);
        }
        tokens.sort_unstable();
        let common = |pair: &[String]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
        let all: usize = tokens.iter().map(String::len).sum();
        let shared: usize = tokens.windows(2).map(common).sum();
        let longest = tokens.iter().map(String::len).max().unwrap_or_default();
        Ok(Pieces { longest, letters: (all - shared) as u64 })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Pieces, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Pieces::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};

    fn checked(part: &str, value: &str) -> Result<(), String> {
        check(format!("{{\"{part}\": {value}}}").as_bytes())
    }

    fn with_normalizers(normalizers: &[String]) -> Result<(), String> {
        let list = normalizers.join(",");
        checked("normalizer", &format!("{{\"type\": \"Sequence\", \"normalizers\": [{list}]}}"))
    }

    fn replace(content: &str) -> String {
        format!("{{\"type\": \"Replace\", \"pattern\": {{\"String\": \"a\"}}, \"content\": \"{content}\"}}")
    }

    fn refused(result: Result<(), String>, why: &str) {
        let error = result.unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn steps_that_multiply_a_text_are_refused_together() {
        assert!(with_normalizers(&[replace("\u{2581}"), replace(&"a".repeat(300))]).is_ok());
        refused(with_normalizers(&[replace(&"a".repeat(300)), replace("aaaa")]), "1200 times");
        refused(with_normalizers(&vec!["{\"type\": \"ByteLevel\"}".to_owned(); 11]), "2048 times");
        let between = r#"{"pattern": {"Regex": "b*"}, "content": "aaa"}"#.to_owned();
        refused(with_normalizers(&vec![between; 6]), "4096 times");
    }

    #[test]
    fn steps_are_few_and_shallow() {
        refused(with_normalizers(&vec!["1".to_owned(); 5000]), "4096 values");
        refused(with_normalizers(&vec![replace("b"); 80]), "64 steps");
        refused(checked("decoder", &("[".repeat(40) + &"]".repeat(40))), "16 levels");
        let pattern = r#"{"type": "Split", "pattern": {"Regex": "a*b"}}"#.to_owned();
        refused(with_normalizers(&vec![pattern.clone(); 17]), "17 n steps");
        assert!(with_normalizers(&vec![pattern; 16]).is_ok());
        refused(with_normalizers(&[r#"{"type": "FixedLength", "length": 0}"#.to_owned()]), "length 0");
    }

    #[test]
    fn tables_and_tokens_are_bounded() {
        let long = "a".repeat(2000);
        refused(checked("added_tokens", &format!(r#"[{{"content": "{long}"}}]"#)), "2000 bytes");
        refused(checked("model", &format!(r#"{{"vocab": [["a", 0.5], ["{long}", 1]]}}"#)), "2000 bytes");
        let tree: Vec<String> = (0..400).map(|n| format!(r#"["{n:03}{}", 0]"#, "a".repeat(400))).collect();
        refused(checked("model", &format!(r#"{{"vocab": [{}]}}"#, tree.join(","))), "160444 letters");
        refused(checked("model", &format!(r#"{{"continuing_subword_prefix": "{long}"}}"#)), "2000 bytes");
        refused(checked("model", r#"{"max_input_chars_per_word": 1000}"#), "is 1000");
        assert!(checked("model", &format!(r#"{{"vocab": {{"{long}": 1}}, "max_input_chars_per_word": 100}}"#)).is_ok());
        let template = |uses: usize, ids: usize| {
            let single = vec![r#"{"SpecialToken": {"id": "x", "type_id": 0}}"#; uses].join(",");
            let ids = vec!["7"; ids].join(",");
            checked(
                "post_processor",
                &format!(r#"{{"single": [{single}], "special_tokens": {{"x": {{"ids": [{ids}]}}}}}}"#),
            )
        };
        assert!(template(16, 16).is_ok());
        refused(template(17, 16), "272 tokens");
    }

    #[test]
    fn a_table_of_characters_says_how_long_a_text_may_get() {
        let charsmap = |units: &[(usize, u32)], replacements: &str| {
            let mut array = vec![0u32; 512];
            units.iter().for_each(|(at, unit)| array[*at] = *unit);
            let array = array.iter().flat_map(|unit| unit.to_le_bytes());
            let bytes: Vec<u8> = 2048u32.to_le_bytes().into_iter().chain(array).chain(replacements.bytes()).collect();
            charsmap::growth(&Base64::encode_string(&bytes))
        };
        // From the root to 256 + 'a', which has a leaf at 256 + 'a' ^ 1.
        let root = (0, 256 << 10);
        let a = (256 + 97, u32::from(b'a') | 1 << 8 | 1 << 10);
        assert_eq!(charsmap(&[root, a, ((256 + 97) ^ 1, 4)], "b\0\0\0long\0"), Ok(4));
        assert!(charsmap(&[root, a, ((256 + 97) ^ 1, 40)], "b\0").unwrap_err().contains("behind its end"));
        assert!(charsmap(&[(0, 512 << 10)], "").unwrap_err().contains("behind its end"));
        assert!(charsmap::growth("AAAA").unwrap_err().contains("empty"));
        assert!(charsmap::growth("/////w==").unwrap_err().contains("cut short"));
        assert!(charsmap::growth("?").unwrap_err().contains("base64"));
    }
}
