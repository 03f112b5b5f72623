//! Reads `config.json`: the architecture, its sizes, and whether everything that the file says is understood.

use super::ModelFault;
use super::graph::families::{self, Family, Keys};
use lcepatch_files::input::{Folder, Found, Meant, Unexpected};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The largest accepted size. No dimension of a model comes near it, and a list of as many numbers fits in memory.
const SIZE_MAX: u64 = 1 << 24;

/// The known architectures, for messages.
pub(super) fn known_architectures() -> String {
    let names: Vec<&str> = families::ALL.iter().map(|family| family.model_type).collect();
    names.join(", ")
}

/// A parsed `config.json`.
#[derive(Debug, Clone)]
pub struct Config {
    family: Option<&'static Family>,
    model_type: String,
    path: PathBuf,
    json: Value,
}

/// The key of the tokens after which a text has ended.
const END: &str = "eos_token_id";

impl Config {
    /// The architecture, if it is a known one.
    pub fn family(&self) -> Option<&'static Family> {
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
        let json = parse_json(path, text)?;
        let model_type = json.get("model_type").and_then(Value::as_str);
        let model_type = model_type.ok_or_else(|| malformed("it has no model_type".to_owned()))?.to_owned();
        let family = families::ALL.iter().copied().find(|family| family.model_type == model_type);
        Ok(Self { family, model_type, path: path.to_owned(), json })
    }

    /// The architecture, which must be a known one for a graph to be built.
    ///
    /// # Errors
    /// [`ModelFault::Architecture`].
    pub fn known_family(&self) -> Result<&'static Family, ModelFault> {
        self.family.ok_or_else(|| ModelFault::Architecture { found: self.model_type.clone() })
    }

    /// Checks every key of the file against the tables of its family. Returns what a reader of the results must know.
    ///
    /// # Errors
    /// [`ModelFault::Setting`] for a key with a value that changes what the model computes, and that is not supported.
    pub(super) fn check(&self, family: &Family) -> Result<Vec<String>, ModelFault> {
        let mut unknown = Vec::new();
        for (key, found) in self.json.as_object().into_iter().flatten() {
            // What the family's table says goes before what is said of all.
            let Some(keys) = [&family.keys, &Keys::COMMON].into_iter().find(|keys| keys.knows(key)) else {
                unknown.push(format!("{key:?}"));
                continue;
            };
            if let Some((key, supported)) = keys.fixed.iter().find(|(fixed, _)| fixed == key) {
                self.require(key, found, supported)?;
            }
        }
        let mut notes = self.check_classes(family)?;
        if !unknown.is_empty() {
            let (noun, verb) = if unknown.len() == 1 { ("key", "is") } else { ("keys", "are") };
            let names = unknown.join(", ");
            notes.push(format!("config.json has the {noun} {names}, which {verb} not known and not used"));
        }
        Ok(notes)
    }

    /// Checks that the classes that saved the model are those of transformers: another class computes something else.
    fn check_classes(&self, family: &Family) -> Result<Vec<String>, ModelFault> {
        let supported = "a class of transformers for this model_type";
        let setting = |key, found: &str| ModelFault::Setting { key, found: found.to_owned(), supported };
        let mut notes = Vec::new();
        for class in self.classes() {
            match family.head_of(class) {
                None => return Err(setting("architectures", class)),
                Some(head) => notes.extend(head.note(class)),
            }
        }
        let code = self.json.get("auto_map").and_then(Value::as_object).into_iter().flatten();
        let code = code.filter_map(|(auto, class)| Some((auto, class.as_str().or_else(|| class.get(0)?.as_str())?)));
        let mut noted = false;
        for (auto, path) in code {
            let class = path.rsplit('.').next().unwrap_or(path);
            // Configurations and tokenizers are read here in any case.
            if auto.contains("Model") && family.head_of(class).is_none() {
                return Err(setting("auto_map", path));
            }
            if auto.contains("Model") && !noted {
                noted = true;
                notes.push(format!(
                    "config.json names code of its own in auto_map ({path}); the class {class} of transformers is computed instead"
                ));
            }
        }
        Ok(notes)
    }

    /// The tokens after which a text has ended, as `generate` of transformers has them: of `generation_config.json` in the directory, or
    /// else of the configuration.
    ///
    /// # Errors
    /// [`ModelFault::Io`], [`ModelFault::Malformed`].
    pub fn end_tokens(&self, directory: &Path) -> Result<Vec<u32>, ModelFault> {
        let path = directory.join("generation_config.json");
        let own = match path.is_file() {
            true => {
                let read = |source| ModelFault::Io { operation: "read", path: path.clone(), source };
                let text = lcepatch_files::json::read_file(&path, Meant::Model).map_err(read)?;
                parse_json(&path, &text)?.get(END).cloned()
            }
            false => None,
        };
        let found = own.as_ref().or_else(|| self.json.get(END));
        let ids = match found {
            Some(Value::Array(ids)) => ids.iter().collect(),
            one => one.into_iter().collect::<Vec<_>>(),
        };
        Ok(ids.into_iter().filter_map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect())
    }

    /// The classes that saved the model, such as `BertForMaskedLM`.
    fn classes(&self) -> impl Iterator<Item = &str> {
        self.json.get("architectures").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether the name of a class that saved the model ends in one of these.
    pub(super) fn is_saved_from(&self, suffixes: &[&str]) -> bool {
        self.classes().any(|class| suffixes.iter().any(|suffix| class.ends_with(suffix)))
    }

    /// The number of layers. It is bounded here, since some architectures store the weights of one layer for all.
    pub(super) fn layers(&self, keys: &[&'static str]) -> Result<u64, ModelFault> {
        const LAYERS_MAX: u64 = 4096;
        match self.size(keys)? {
            layers if layers <= LAYERS_MAX => Ok(layers),
            layers => Err(self.malformed(format!("{} is {layers}, more than {LAYERS_MAX}", keys[0]))),
        }
    }

    /// A size, which is at least 1 and small enough for any real model. Of several keys the first that is there counts.
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

    /// A size that null takes away. A key that is absent has its default, which null does not.
    pub(super) fn optional_size(&self, key: &'static str, default: Option<u64>) -> Result<Option<u64>, ModelFault> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(_) => self.size(&[key]).map(Some),
        }
    }

    /// An index, such as the id of a token.
    pub(super) fn index_or(&self, key: &'static str, default: u64) -> Result<u64, ModelFault> {
        match self.get(key) {
            None => Ok(default),
            Some(found) => match found.as_u64() {
                Some(index @ 0..=SIZE_MAX) => Ok(index),
                _ => Err(self.malformed(format!("{key} is {found}, which is not an index"))),
            },
        }
    }

    pub(super) fn number_or(&self, key: &'static str, default: f64) -> Result<f64, ModelFault> {
        Ok(self.optional_number(key, Some(default))?.unwrap_or(default))
    }

    /// A number that null takes away.
    pub(super) fn optional_number(&self, key: &'static str, default: Option<f64>) -> Result<Option<f64>, ModelFault> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(found) => self.finite(key, found).map(Some),
        }
    }

    /// A value as a number.
    pub(super) fn finite(&self, key: &str, found: &Value) -> Result<f64, ModelFault> {
        let number = found.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| self.malformed(format!("{key} is {found}, which is not a number")))
    }

    pub(super) fn flag_or(&self, key: &'static str, default: bool) -> Result<bool, ModelFault> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(found) => Err(self.malformed(format!("{key} is {found}, which is neither true nor false"))),
        }
    }

    pub(super) fn text_or<'a>(&'a self, key: &'static str, default: &'a str) -> Result<&'a str, ModelFault> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::String(text)) => Ok(text),
            Some(found) => Err(self.malformed(format!("{key} is {found}, which is not a text"))),
        }
    }

    /// A list, or None where there is none.
    pub(super) fn list(&self, key: &'static str) -> Result<Option<&Vec<Value>>, ModelFault> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(found) => Err(self.malformed(format!("{key} is {found}, which is not a list"))),
        }
    }

    /// The value of a key, which may be null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        // What is read is in the table of the family: no key is used that `check` takes for another one.
        debug_assert!(
            self.family.is_none_or(|family| family.keys.uses(key) || Keys::COMMON.uses(key)),
            "{key} is not in the table of {}",
            self.model_type
        );
        self.json.get(key)
    }

    /// A size under one of the names that architectures give it, whether or not this one does. For exported graphs, of any architecture.
    pub(super) fn size_of_any(&self, keys: &[&'static str]) -> Result<u64, ModelFault> {
        let found = keys.iter().find_map(|key| self.json.get(*key)?.as_u64());
        match found {
            Some(size @ 1..=SIZE_MAX) => Ok(size),
            Some(found) => Err(self.malformed(format!("{} is {found}, which is not a size", keys[0]))),
            None => Err(self.malformed(format!("it has no {}", keys[0]))),
        }
    }

    /// The position id of a sequence's first token: models that count positions from the id of their padding token leave out the rows of
    /// their table before it.
    pub(super) fn first_position(&self) -> Result<u64, ModelFault> {
        Ok(match self.model_type.as_str() {
            "roberta" | "xlm-roberta" | "camembert" => self.index_or("pad_token_id", 1)? + 1,
            "mpnet" => 2,
            _ => 0,
        })
    }

    /// Refuses a value of a key.
    pub(super) fn refused(key: &'static str, found: impl ToString, supported: &'static str) -> ModelFault {
        ModelFault::Setting { key, found: found.to_string(), supported }
    }

    fn require(&self, key: &'static str, found: &Value, supported: &'static str) -> Result<(), ModelFault> {
        let found = match found {
            Value::Null => return Ok(()),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if found == supported { Ok(()) } else { Err(Self::refused(key, shortened(found), supported)) }
    }

    /// A token id.
    pub(super) fn token(&self, key: &str) -> Option<u32> {
        // Models with several ends of text list them; the first one is the tokenizer's.
        let value = self.json.get(key)?;
        value.get(0).unwrap_or(value).as_u64().and_then(|id| u32::try_from(id).ok())
    }

    fn value(&self, keys: &[&'static str]) -> Option<&Value> {
        keys.iter().find_map(|key| self.get(key).filter(|value| !value.is_null()))
    }

    pub(super) fn malformed(&self, reason: String) -> ModelFault {
        ModelFault::Malformed { path: self.path.clone(), reason }
    }
}

/// A value for a message: a block of settings is not printed whole.
fn shortened(found: String) -> String {
    const LENGTH_MAX: usize = 60;
    match found.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{} ...", &found[..end]),
        None => found,
    }
}

/// Parses JSON that comes with a model; `path` names it in errors.
fn parse_json(path: &Path, text: &[u8]) -> Result<Value, ModelFault> {
    let malformed = |reason: String| ModelFault::Malformed { path: path.to_owned(), reason };
    lcepatch_files::json::check(text).map_err(malformed)?;
    serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ModelFault> {
        Config::parse(Path::new("config.json"), text.as_bytes())
    }

    /// The notes on a configuration of BERT with some more keys, or why it is refused.
    fn checked(keys: &str) -> Result<Vec<String>, String> {
        let config = parse(&format!(r#"{{"model_type": "bert", {keys}}}"#)).unwrap();
        config.check(config.known_family().unwrap()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_unknown_architecture_is_named_beside_the_known_ones() {
        let config = parse(r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"]}"#).unwrap();
        assert!(config.is_saved_from(&["ForCausalLM"]) && !config.is_saved_from(&["ForMaskedLM"]));
        let error = config.known_family().unwrap_err().to_string();
        assert!(error.contains("\"mamba\"") && error.contains("distilbert, electra"), "{error}");
        assert!(parse("{}").unwrap_err().to_string().contains("no model_type"));
        assert!(parse("[").is_err());
    }

    #[test]
    fn values_have_their_types_and_null_is_not_the_default_where_it_takes_something_away() {
        let config =
            parse(r#"{"model_type": "mystery", "a": 0, "b": 7, "c": null, "d": "x", "e": 1.5, "f": true}"#).unwrap();
        assert!(config.size(&["a"]).is_err() && config.size(&["missing"]).is_err());
        assert_eq!(config.index_or("a", 3).unwrap(), 0);
        assert_eq!(config.size(&["missing", "b"]).unwrap(), 7);
        assert_eq!(config.size_or(&["c"], 3).unwrap(), 3);
        let window = |key| config.optional_size(key, Some(9)).unwrap();
        assert_eq!((window("missing"), window("c"), window("b")), (Some(9), None, Some(7)));
        assert_eq!(config.optional_number("e", None).unwrap(), Some(1.5));
        assert!(config.number_or("d", 1.0).is_err() && config.text_or("b", "x").is_err());
        assert!(config.flag_or("f", false).unwrap() && config.flag_or("b", false).is_err());
    }

    #[test]
    fn settings_that_change_the_computation_are_refused_and_unknown_keys_noted() {
        assert_eq!(checked(r#""hidden_size": 8, "is_decoder": false, "quantization_config": null"#), Ok(Vec::new()));
        let decoder = checked(r#""is_decoder": true"#).unwrap_err();
        assert!(decoder.contains("is_decoder to true; only false"), "{decoder}");
        let quantized = checked(r#""quantization_config": {"quant_method": "fp8"}"#).unwrap_err();
        assert!(quantized.contains("quantization_config"), "{quantized}");
        let notes = checked(r#""speed": 1, "depth": 2"#).unwrap();
        assert!(notes.len() == 1 && notes[0].contains("\"depth\", \"speed\", which are not known"), "{notes:?}");
    }

    #[test]
    fn classes_of_transformers_are_known_and_others_refused() {
        let class = |name: &str| checked(&format!(r#""architectures": ["{name}"]"#));
        assert_eq!(class("BertForMaskedLM"), Ok(Vec::new()));
        assert!(class("BertForSequenceClassification").unwrap()[0].contains("is not measured"));
        for other in ["MyBertForMaskedLM", "BertLMHeadModel", "RobertaForMaskedLM", "Bert", ""] {
            assert!(class(other).unwrap_err().contains("architectures"), "{other}");
        }
        let code = |path: &str| checked(&format!(r#""auto_map": {{"AutoConfig": "c.C", "AutoModel": "{path}"}}"#));
        assert!(code("modeling.BertModel").unwrap()[0].contains("auto_map"));
        assert!(code("modeling.MyBert").unwrap_err().contains("auto_map to modeling.MyBert"));
    }
}
