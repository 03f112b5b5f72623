//! Reads `config.json`: the architecture and its sizes.

use super::ModelFault;
use lcepatch_files::input::{Folder, Found, Meant, Unexpected};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Architectures, by `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    Albert,
    Bert,
    DistilBert,
    Electra,
    Gpt2,
    GptNeoX,
    Llama,
    Opt,
    Roberta,
}

const FAMILIES: [(&str, Family); 12] = [
    ("albert", Family::Albert),
    ("bert", Family::Bert),
    ("distilbert", Family::DistilBert),
    ("electra", Family::Electra),
    ("gpt2", Family::Gpt2),
    ("gpt_neox", Family::GptNeoX),
    ("llama", Family::Llama),
    ("mistral", Family::Llama),
    ("opt", Family::Opt),
    ("qwen2", Family::Llama),
    ("roberta", Family::Roberta),
    ("xlm-roberta", Family::Roberta),
];

/// The largest accepted size. No dimension of a model comes near it, and a list of as many numbers fits in memory.
const SIZE_MAX: u64 = 1 << 24;

/// The known architectures, for messages.
pub(super) fn known_architectures() -> String {
    FAMILIES.map(|(name, _)| name).join(", ")
}

impl Family {
    /// Whether it predicts the next token, not a masked one.
    pub fn is_causal(self) -> bool {
        matches!(self, Self::Gpt2 | Self::GptNeoX | Self::Llama | Self::Opt)
    }
}

/// A parsed `config.json`.
#[derive(Debug, Clone)]
pub struct Config {
    family: Option<Family>,
    model_type: String,
    path: PathBuf,
    json: Value,
}

impl Config {
    /// The architecture, if it is a known one.
    pub fn family(&self) -> Option<Family> {
        self.family
    }

    /// `model_type`, as written.
    pub fn model_type(&self) -> &str {
        &self.model_type
    }

    /// Reads `config.json` of a model directory.
    ///
    /// # Errors
    /// [`ModelFault::NoConfig`], [`ModelFault::Malformed`].
    pub fn read(directory: &Path) -> Result<Self, ModelFault> {
        let path = directory.join("config.json");
        let text = match lcepatch_files::json::read_file(&path, Meant::Model) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let adapter = Unexpected::directory(directory, Meant::Checkpoint);
                if adapter.found == Found::Directory(Folder::Adapter) {
                    return Err(ModelFault::Io {
                        operation: "open",
                        path: directory.to_owned(),
                        source: adapter.into(),
                    });
                }
                return Err(ModelFault::NoConfig { directory: directory.to_owned() });
            }
            Err(source) => return Err(ModelFault::Io { operation: "read", path, source }),
        };
        Self::parse(&path, &text)
    }

    /// Parses the text of a `config.json`; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ModelFault> {
        let malformed = |reason: String| ModelFault::Malformed { path: path.to_owned(), reason };
        lcepatch_files::json::check(text).map_err(malformed)?;
        let json: Value = serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        let model_type = json.get("model_type").and_then(Value::as_str);
        let model_type = model_type.ok_or_else(|| malformed("it has no model_type".to_owned()))?.to_owned();
        let family = FAMILIES.iter().find(|(name, _)| *name == model_type).map(|(_, family)| *family);
        Ok(Self { family, model_type, path: path.to_owned(), json })
    }

    /// The number of layers. It is bounded here, since some architectures store the weights of one layer for all.
    pub(super) fn layers(&self, keys: &[&'static str]) -> Result<u64, ModelFault> {
        const LAYERS_MAX: u64 = 4096;
        match self.size(keys)? {
            layers if layers <= LAYERS_MAX => Ok(layers),
            layers => Err(self.malformed(format!("{} is {layers}, more than {LAYERS_MAX}", keys[0]))),
        }
    }

    /// The architecture, which must be a known one for a graph to be built.
    ///
    /// # Errors
    /// [`ModelFault::Architecture`].
    pub fn known_family(&self) -> Result<Family, ModelFault> {
        self.family.ok_or_else(|| ModelFault::Architecture { found: self.model_type.clone() })
    }

    /// Whether the name of a class that saved the model, such as `BertForMaskedLM`, ends in one of these.
    pub(super) fn is_saved_from(&self, suffixes: &[&str]) -> bool {
        let classes = self.json.get("architectures").and_then(Value::as_array).into_iter().flatten();
        classes.filter_map(Value::as_str).any(|class| suffixes.iter().any(|suffix| class.ends_with(suffix)))
    }

    /// A size, which is at least 1 and small enough for any real model.
    pub(super) fn size(&self, keys: &[&'static str]) -> Result<u64, ModelFault> {
        let found = self.value(keys).ok_or_else(|| self.malformed(format!("it has no {}", keys[0])))?;
        match found.as_u64() {
            Some(size @ 1..=SIZE_MAX) => Ok(size),
            _ => Err(self.malformed(format!("{} is {found}, which is not a size", keys[0]))),
        }
    }

    /// A size, or `default` if the configuration does not have it.
    pub(super) fn size_or(&self, keys: &[&'static str], default: u64) -> Result<u64, ModelFault> {
        if self.value(keys).is_none() { Ok(default) } else { self.size(keys) }
    }

    pub(super) fn number_or(&self, keys: &[&'static str], default: f64) -> Result<f64, ModelFault> {
        match self.value(keys) {
            None => Ok(default),
            Some(found) => match found.as_f64() {
                Some(number) if number.is_finite() => Ok(number),
                _ => Err(self.malformed(format!("{} is {found}, which is not a number", keys[0]))),
            },
        }
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.json.get(key).and_then(Value::as_bool)
    }

    pub(super) fn flag_or(&self, key: &'static str, default: bool) -> bool {
        self.flag(key).unwrap_or(default)
    }

    pub(super) fn text_or<'a>(&'a self, keys: &[&'static str], default: &'a str) -> &'a str {
        self.value(keys).and_then(Value::as_str).unwrap_or(default)
    }

    /// The settings of rotary embeddings: `rope_parameters`, or `rope_scaling` of older files.
    pub(super) fn rotary(&self, key: &str) -> Option<&Value> {
        let in_block =
            |block: &str| self.json.get(block).and_then(|block| block.get(key)).filter(|value| !value.is_null());
        in_block("rope_parameters").or_else(|| in_block("rope_scaling")).or_else(|| self.json.get(key))
    }

    /// Checks that a setting is absent or has the only supported value.
    pub(super) fn require_setting(&self, key: &'static str, supported: &'static str) -> Result<(), ModelFault> {
        let found = match self.json.get(key) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if found == supported { Ok(()) } else { Err(ModelFault::Setting { key, found, supported }) }
    }

    /// A token id.
    pub(super) fn token(&self, key: &str) -> Option<u32> {
        // Models with several ends of text list them; the first one is the tokenizer's.
        let value = self.json.get(key)?;
        value.get(0).unwrap_or(value).as_u64().and_then(|id| u32::try_from(id).ok())
    }

    fn value(&self, keys: &[&'static str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.json.get(*key).filter(|value| !value.is_null()))
    }

    fn malformed(&self, reason: String) -> ModelFault {
        ModelFault::Malformed { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ModelFault> {
        Config::parse(Path::new("config.json"), text.as_bytes())
    }

    #[test]
    fn an_unknown_architecture_is_named_beside_the_known_ones() {
        let config = parse(r#"{"model_type": "t5", "architectures": ["T5ForCausalLM"]}"#).unwrap();
        assert!(config.is_saved_from(&["ForCausalLM"]) && !config.is_saved_from(&["ForMaskedLM"]));
        let error = config.known_family().unwrap_err().to_string();
        assert!(error.contains("\"t5\"") && error.contains("distilbert, electra"), "{error}");
        assert!(parse("{}").unwrap_err().to_string().contains("no model_type"));
        assert!(parse("[").is_err());
    }

    #[test]
    fn sizes_are_positive_and_settings_checked() {
        let config = parse(r#"{"model_type": "bert", "a": 0, "b": 7, "c": null, "d": "relative"}"#).unwrap();
        assert!(config.size(&["a"]).is_err() && config.size(&["missing"]).is_err());
        assert_eq!(config.size(&["missing", "b"]).unwrap(), 7);
        assert_eq!(config.size_or(&["c"], 3).unwrap(), 3);
        assert!(config.require_setting("d", "absolute").is_err());
        assert!(
            config.require_setting("c", "absolute").is_ok() && config.require_setting("missing", "absolute").is_ok()
        );
    }
}
