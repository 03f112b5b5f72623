//! What a `tokenizer.json` may make of a text, found before the tokenizers library gets it: its steps can multiply a text without
//! bound, and its patterns can take exponential time.

use serde::Deserialize;
use serde_json::Value;

/// How many times longer all steps together may make a text. The longest of published tokenizers is below 100.
const GROWTH_MAX: u64 = 1024;
/// Values in the steps together. Published tokenizers have at most some hundreds.
const VALUES_MAX: u64 = 4096;
/// Bytes of a pattern. The longest of published tokenizers is below 1000.
const PATTERN_BYTES_MAX: usize = 4096;

/// The parts of a tokenizer that are steps; its vocabulary costs what its size says.
#[derive(Deserialize)]
struct Steps {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses a tokenizer that could cost more than its size and a text's say.
///
/// # Errors
/// Says which step is too much.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    let steps: Steps = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut found = Found { values: 0, growth: 1 };
    [steps.normalizer, steps.pre_tokenizer, steps.post_processor, steps.decoder].iter().try_for_each(|s| found.take(s))
}

struct Found {
    values: u64,
    growth: u64,
}

impl Found {
    fn take(&mut self, value: &Value) -> Result<(), String> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(format!("its steps have more than {VALUES_MAX} values"));
        }
        match value {
            Value::Array(values) => values.iter().try_for_each(|value| self.take(value)),
            Value::Object(entries) => {
                self.grow(value)?;
                if let Some(pattern) = value.pointer("/pattern/Regex").and_then(Value::as_str) {
                    check_pattern(pattern)?;
                }
                entries.values().try_for_each(|value| self.take(value))
            }
            _ => Ok(()),
        }
    }

    fn grow(&mut self, step: &Value) -> Result<(), String> {
        let bytes = |key: &str| step.get(key).and_then(Value::as_str).map_or(0, |text| text.len() as u64);
        let times = match step.get("type").and_then(Value::as_str) {
            Some("Replace") => bytes("content"),
            Some("Prepend") => bytes("prepend") + 1,
            // A byte becomes a character of up to two bytes.
            Some("ByteLevel") => 2,
            _ => 1,
        };
        self.growth = self.growth.saturating_mul(times.max(1));
        if self.growth <= GROWTH_MAX {
            return Ok(());
        }
        Err(format!("its steps can make a text {} times as long, more than {GROWTH_MAX}", self.growth))
    }
}

/// Refuses a pattern that repeats what is itself repeated, such as `(a+)+`: to find that a text does not match it can take time that
/// doubles with each character.
fn check_pattern(pattern: &str) -> Result<(), String> {
    let refuse = |reason: &str| {
        let shown: String = pattern.chars().take(80).collect();
        Err(format!("its pattern {shown:?} {reason}"))
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return refuse(&format!("has more than {PATTERN_BYTES_MAX} bytes"));
    }
    // For each open group, whether it repeats something.
    let (mut repeats, mut classes, mut ended) = (vec![false], 0, None);
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let group = ended.take();
        match character {
            '\\' if classes == 0
                && characters.peek().is_some_and(|next| ('1'..='9').contains(next) || *next == 'k') =>
            {
                return refuse("refers to what it found before");
            }
            '\\' => _ = characters.next(),
            '[' => classes += 1,
            ']' if classes > 0 => classes -= 1,
            _ if classes > 0 => {}
            '(' => {
                repeats.push(false);
                // Marks of a kind of group, not repetitions: `(?:`.
                characters.next_if_eq(&'?');
            }
            ')' if repeats.len() > 1 => {
                let inner = repeats.pop().unwrap_or_default();
                ended = Some(inner);
                if let (true, Some(outer)) = (inner, repeats.last_mut()) {
                    *outer = true;
                }
            }
            '+' | '*' | '{' => {
                if group == Some(true) {
                    return refuse("repeats a group that repeats something itself");
                }
                if let Some(inner) = repeats.last_mut() {
                    *inner = true;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_normalizers(normalizers: &[String]) -> Result<(), String> {
        let list = normalizers.join(",");
        check(format!("{{\"normalizer\": {{\"type\": \"Sequence\", \"normalizers\": [{list}]}}}}").as_bytes())
    }

    fn replace(content: &str) -> String {
        format!("{{\"type\": \"Replace\", \"pattern\": {{\"String\": \"a\"}}, \"content\": \"{content}\"}}")
    }

    #[test]
    fn steps_that_multiply_a_text_are_refused_together() {
        assert!(with_normalizers(&[replace("\u{2581}"), replace(&"a".repeat(300))]).is_ok());
        let error = with_normalizers(&[replace(&"a".repeat(300)), replace("aaaa")]).unwrap_err();
        assert!(error.contains("1200 times"), "{error}");
        assert!(with_normalizers(&vec!["{\"type\": \"ByteLevel\"}".to_owned(); 11]).is_err());
        assert!(with_normalizers(&vec!["1".to_owned(); 5000]).is_err());
    }

    #[test]
    fn patterns_that_repeat_repetitions_are_refused_and_published_ones_are_not() {
        for pattern in ["(a+)+$", "(?:a*)*", "((a|b+)c)*d", r"(\p{L}{2,}){3,}", r"(a)\1", "x".repeat(5000).as_str()] {
            assert!(check_pattern(pattern).is_err(), "{pattern}");
        }
        for pattern in [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            " ?[^(\\s|[.,!?\u{2026}])]+",
            r"[!(+*]\)+",
            r"(a+)?",
        ] {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
    }
}
