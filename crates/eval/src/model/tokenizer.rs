//! Reads the tokenizer of a model directory: `tokenizer.json`, or `vocab.txt` as in the first BERT releases.

mod budget;

use super::ModelFault;
use super::config::Config;
use crate::measure::{Encoding, Mask, Tokens, WorkList};
use lcepatch_files::input::Meant;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, NormalizerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

/// A tokenizer that neither truncates nor pads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    mask: Option<Mask>,
    begin: Option<u32>,
    words_begin_with_a_blank: bool,
    /// The number of rows of the model's embeddings.
    rows: u64,
    /// Whether it failed to encode a text.
    failed: AtomicBool,
    files: Vec<PathBuf>,
}

impl Tokenizer {
    /// The files that were read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Reads the tokenizer of a model directory.
    ///
    /// # Errors
    /// [`ModelFault::NoTokenizer`], [`ModelFault::Malformed`].
    pub fn read(directory: &Path, config: &Config) -> Result<Self, ModelFault> {
        let settings = Settings::read(directory)?;
        let (json, vocabulary) = (directory.join("tokenizer.json"), directory.join("vocab.txt"));
        let (mut inner, file) = if json.is_file() {
            let read = |source| ModelFault::Io { operation: "read", path: json.clone(), source };
            let text = lcepatch_files::json::read_file(&json, Meant::Model).map_err(read)?;
            budget::check(&text).map_err(|reason| malformed(&json, reason))?;
            let parsed = caught(|| tokenizers::Tokenizer::from_bytes(&text).map_err(|error| error.to_string()));
            let parsed = parsed.unwrap_or_else(|| Err("it cannot be read".to_owned()));
            (parsed.map_err(|reason| malformed(&json, reason))?, json)
        } else if vocabulary.is_file() {
            let open = |source| ModelFault::Io { operation: "open", path: vocabulary.clone(), source };
            lcepatch_files::input::open(&vocabulary, Meant::Model).map_err(open)?;
            (wordpiece(directory, &vocabulary, &settings)?, vocabulary)
        } else {
            return Err(ModelFault::NoTokenizer { directory: directory.to_owned() });
        };
        normalize_as_set(&mut inner, &settings, config);
        // Files often have padding and truncation of a training run.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(&file, error.to_string()))?;
        let tried = caught(|| inner.encode("A text.", true).map(drop).map_err(|error| error.to_string()));
        tried.unwrap_or_else(|| Err(GAVE_UP.to_owned())).map_err(|reason| malformed(&file, reason))?;
        // A tokenizer may have tokens without a row in the model, such as one for padding. `check` finds those that a text needs.
        let rows = config.size(&["vocab_size"])?;
        let id = |text: &str| inner.token_to_id(text).map(|id| Mask { id, text: text.to_owned() });
        let usual = ["[MASK]", "<mask>"];
        let mask = settings.token("mask_token").and_then(|text| id(&text)).or_else(|| usual.into_iter().find_map(id));
        let begin = ["bos_token", "eos_token"].iter().find_map(|key| id(&settings.token(key)?)).map(|token| token.id);
        let begin = begin.or_else(|| config.token("bos_token_id")).or_else(|| config.token("eos_token_id"));
        let words_begin_with_a_blank = inner.get_pre_tokenizer().is_some_and(blanks_stay_with_words);
        let begin = begin.filter(|id| u64::from(*id) < rows);
        let mask = mask.filter(|mask| u64::from(mask.id) < rows);
        Ok(Self {
            inner,
            mask,
            begin,
            words_begin_with_a_blank,
            rows,
            failed: AtomicBool::new(false),
            files: vec![file],
        })
    }

    /// Checks that every token of a work list has a row in the model, and that all texts were encoded.
    ///
    /// # Errors
    /// [`ModelFault::Vocabulary`], naming the first one; [`ModelFault::Malformed`].
    pub fn check(&self, work: &WorkList) -> Result<(), ModelFault> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(malformed(&self.files[0], GAVE_UP.to_owned()));
        }
        match work.sequences().iter().flatten().find(|id| u64::from(**id) >= self.rows) {
            Some(id) => Err(ModelFault::Vocabulary {
                token: self.inner.id_to_token(*id),
                id: *id,
                vocabulary: u32::try_from(self.rows).unwrap_or(u32::MAX),
            }),
            None => Ok(()),
        }
    }

    fn encode_with(&self, text: &str, special_tokens: bool) -> Encoding {
        let encoded = caught(|| self.inner.encode(text, special_tokens));
        if encoded.is_none() {
            self.failed.store(true, Ordering::Relaxed);
        }
        // A tokenizer that encodes one text fails only on unknown characters, if it has no token for them.
        let Some(Ok(encoding)) = encoded else { return Encoding::default() };
        Encoding {
            ids: encoding.get_ids().to_vec(),
            special: encoding.get_special_tokens_mask().iter().map(|special| *special == 1).collect(),
            words: encoding.get_word_ids().to_vec(),
        }
    }
}

/// Calls `function`, and returns None if it panics, as the libraries behind tokenizers do on some files.
fn caught<T>(function: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(function)).ok()
}

impl Tokens for Tokenizer {
    fn encode(&self, text: &str) -> Encoding {
        self.encode_with(text, true)
    }

    fn encode_plain(&self, text: &str) -> Encoding {
        self.encode_with(text, false)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, false).unwrap_or_default()
    }

    fn mask(&self) -> Option<Mask> {
        self.mask.clone()
    }

    fn begin(&self) -> Option<u32> {
        self.begin
    }

    fn words_begin_with_a_blank(&self) -> bool {
        self.words_begin_with_a_blank
    }
}

/// `tokenizer_config.json` and `special_tokens_map.json`, either of which may be missing.
struct Settings(Vec<Value>);

impl Settings {
    fn read(directory: &Path) -> Result<Self, ModelFault> {
        let mut found: Vec<Value> = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = directory.join(name);
            match lcepatch_files::json::read_file(&path, Meant::Model) {
                Ok(text) => {
                    lcepatch_files::json::check(&text).map_err(|reason| malformed(&path, reason))?;
                    found.push(serde_json::from_slice(&text).map_err(|error| malformed(&path, error.to_string()))?);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ModelFault::Io { operation: "read", path, source }),
            }
        }
        // The older file counts, but not beside a list of added tokens, as transformers reads them.
        if found.len() == 2 && found[0].get(ADDED_TOKENS).is_some() {
            found.truncate(1);
        }
        found.reverse();
        Ok(Self(found))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find_map(|settings| settings.get(key)).filter(|value| !value.is_null())
    }

    /// A special token: its text, or an object with it.
    fn token(&self, key: &str) -> Option<String> {
        added_token(self.get(key)?, true).map(|token| token.content)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }
}

/// Why nothing is measured with some tokenizers.
const GAVE_UP: &str = "its steps fail on a text, or take too long on it";

/// Tokens by id in `tokenizer_config.json`.
const ADDED_TOKENS: &str = "added_tokens_decoder";

/// A token: its text, or an object with it and with how it is found in texts.
fn added_token(value: &Value, special: bool) -> Option<tokenizers::AddedToken> {
    let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
    let flag = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", special);
    let token = tokenizers::AddedToken::from(content, special).lstrip(flag("lstrip", false));
    let token = token.rstrip(flag("rstrip", false)).single_word(flag("single_word", false));
    Some(token.normalized(flag("normalized", !special)))
}

fn malformed(path: &Path, reason: String) -> ModelFault {
    ModelFault::Malformed { path: path.to_owned(), reason }
}

/// BERT's normalizer with the settings, of which three are true or absent by default.
fn bert_normalizer(settings: &Settings) -> BertNormalizer {
    BertNormalizer::new(
        true,
        settings.flag("tokenize_chinese_chars").unwrap_or(true),
        settings.flag("strip_accents"),
        settings.flag("do_lower_case").unwrap_or(true),
    )
}

/// Gives the tokenizer of a `tokenizer.json` the normalizer that `tokenizer_config.json` asks for: the classes of BERT's tokenizer take
/// case and accents from there, and not from the file of the tokenizer.
fn normalize_as_set(tokenizer: &mut tokenizers::Tokenizer, settings: &Settings, config: &Config) {
    const CLASSES: [&str; 4] = ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"];
    const MODEL_TYPES: [&str; 4] = ["bert", "distilbert", "electra", "mpnet"];
    let class = settings.get("tokenizer_class").and_then(Value::as_str);
    let of_bert = match class {
        Some(class) => CLASSES.contains(&class.strip_suffix("Fast").unwrap_or(class)),
        None => MODEL_TYPES.contains(&config.model_type()),
    };
    if of_bert && matches!(tokenizer.get_normalizer(), Some(NormalizerWrapper::BertNormalizer(_))) {
        tokenizer.with_normalizer(Some(bert_normalizer(settings)));
    }
}

/// BERT's tokenizer, from its vocabulary, the settings and the tokens added to it, as transformers makes it (`BertTokenizer`, 5.24).
fn wordpiece(directory: &Path, path: &Path, settings: &Settings) -> Result<tokenizers::Tokenizer, ModelFault> {
    let named = |key: &str, usual: &str| {
        let token = settings.get(key).and_then(|value| added_token(value, true));
        let token = token.unwrap_or_else(|| tokenizers::AddedToken::from(usual, true));
        tokenizers::AddedToken { special: true, ..token }
    };
    let [unk, sep, pad, cls, mask] =
        [("unk", "[UNK]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("cls", "[CLS]"), ("mask", "[MASK]")]
            .map(|(key, usual)| named(&format!("{key}_token"), usual));
    budget::check_added([&unk, &sep, &pad, &cls, &mask].map(|token| token.content.as_str()).into_iter())
        .map_err(|reason| malformed(&directory.join("tokenizer_config.json"), reason))?;
    let model = WordPiece::from_file(&path.to_string_lossy()).unk_token(unk.content.clone()).build();
    let model = model.map_err(|error| malformed(path, error.to_string()))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(bert_normalizer(settings)))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));

    let (file, mut added) = added_tokens(directory, settings, &[&unk, &sep, &pad, &cls, &mask])?;
    added.sort_by_key(|(id, _)| *id);
    budget::check_added(added.iter().map(|(_, token)| token.content.as_str()))
        .map_err(|reason| malformed(&file, reason))?;
    // All at once: each time a table of all of them is made.
    tokenizer.add_tokens(&added.iter().map(|(_, token)| token.clone()).collect::<Vec<_>>());
    for (id, token) in &added {
        let found = tokenizer.token_to_id(&token.content);
        if found != Some(*id) {
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            let reason =
                format!("token {:?} has the id {id}; the next one after the vocabulary gives {found}", token.content);
            return Err(malformed(&file, reason));
        }
    }
    let is_added = |content: &str| added.iter().any(|(_, token)| token.content == content);
    if let Some(missing) = [&unk, &sep, &cls].into_iter().find(|token| tokenizer.token_to_id(&token.content).is_none())
    {
        return Err(malformed(path, format!("it has no {}", missing.content)));
    }
    let lists = ["extra_special_tokens", "additional_special_tokens"].into_iter();
    let list = lists.filter_map(|key| settings.get(key)?.as_array()).next();
    let extra = list.into_iter().flatten().filter_map(|value| added_token(value, true));
    let id = |token: &tokenizers::AddedToken| {
        (token.content.clone(), tokenizer.token_to_id(&token.content).unwrap_or_default())
    };
    let post_processor = BertProcessing::new(id(&sep), id(&cls));
    let special = [unk, sep, pad, cls, mask].into_iter().chain(extra);
    let special: Vec<_> = special.filter(|token| !is_added(&token.content)).collect();
    budget::check_added(special.iter().map(|token| token.content.as_str()))
        .map_err(|reason| malformed(&directory.join("tokenizer_config.json"), reason))?;
    tokenizer.add_special_tokens(&special);
    tokenizer.with_post_processor(Some(post_processor));
    Ok(tokenizer)
}

/// The tokens that were added to a vocabulary, with their ids, and the file that lists them.
fn added_tokens(
    directory: &Path,
    settings: &Settings,
    named: &[&tokenizers::AddedToken],
) -> Result<(PathBuf, Vec<(u32, tokenizers::AddedToken)>), ModelFault> {
    let listed = |path: &Path| malformed(path, "added tokens are not an object of tokens and ids".to_owned());
    if let Some(tokens) = settings.get(ADDED_TOKENS) {
        let path = directory.join("tokenizer_config.json");
        let token = |(id, token): (&String, &Value)| Some((id.parse().ok()?, added_token(token, false)?));
        let tokens = tokens.as_object().and_then(|tokens| tokens.iter().map(token).collect::<Option<Vec<_>>>());
        return tokens.map(|tokens| (path.clone(), tokens)).ok_or_else(|| listed(&path));
    }
    let path = directory.join("added_tokens.json");
    let text = match lcepatch_files::json::read_file(&path, Meant::Model) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((path, Vec::new())),
        Err(source) => return Err(ModelFault::Io { operation: "read", path, source }),
    };
    let tokens: BTreeMap<String, u32> = serde_json::from_slice(&text).map_err(|_| listed(&path))?;
    let token = |(text, id): (String, u32)| {
        let special = named.iter().any(|token| token.content == text);
        (id, tokenizers::AddedToken::from(text, special))
    };
    Ok((path, tokens.into_iter().map(token).collect()))
}

/// Whether blanks are part of the words they stand before, and are not added to the first word.
fn blanks_stay_with_words(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) => !bytes.add_prefix_space,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(blanks_stay_with_words),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fixtures/tokenizers/golden.json`, which `make.py` beside it writes.
    #[test]
    fn a_vocabulary_with_what_lies_beside_it_gives_the_tokens_of_transformers() {
        let golden: Value = serde_json::from_str(include_str!("../../../../fixtures/tokenizers/golden.json")).unwrap();
        let words = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
        let (vocabulary, texts): (Vec<String>, Vec<String>) = (words(&golden["vocabulary"]), words(&golden["texts"]));
        assert!(texts.len() >= 300);
        for case in golden["cases"].as_array().unwrap() {
            let dir = tempfile::tempdir().unwrap();
            let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
            write("vocab.txt", vocabulary.join("\n") + "\n");
            write("config.json", r#"{"model_type":"bert","vocab_size":100}"#.to_owned());
            case["files"].as_object().unwrap().iter().for_each(|(name, content)| write(name, content.to_string()));
            let tokenizer = Tokenizer::read(dir.path(), &Config::read(dir.path()).unwrap()).unwrap();
            let mask = tokenizer.mask().map(|mask| mask.id);
            assert_eq!(mask.map(u64::from), case["mask"].as_u64(), "{}", case["name"]);
            for (text, ids) in texts.iter().zip(case["ids"].as_array().unwrap()) {
                let found = serde_json::to_value(tokenizer.encode(text).ids).unwrap();
                assert_eq!(found, *ids, "{}: {text:?}", case["name"]);
            }
        }
    }

    /// `fixtures/tokenizers/settings.json`, which `settings.py` beside it writes.
    #[test]
    fn case_and_accents_are_those_of_the_settings_where_transformers_goes_by_them() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let golden: Value =
            serde_json::from_slice(&std::fs::read(fixtures.join("tokenizers/settings.json")).unwrap()).unwrap();
        let tokenizer = std::fs::read_to_string(fixtures.join("models/bert/tokenizer.json")).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 80);
        for case in cases {
            let dir = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
            write("config.json", r#"{"model_type":"bert","vocab_size":100}"#);
            let lowercase = format!("\"lowercase\":{}", case["lowercase"]);
            write("tokenizer.json", &tokenizer.replace("\"lowercase\":true", &lowercase));
            write("tokenizer_config.json", &case["settings"].to_string());
            let tokenizer = Tokenizer::read(dir.path(), &Config::read(dir.path()).unwrap()).unwrap();
            for (text, ids) in golden["texts"].as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
                let found = serde_json::to_value(tokenizer.encode(text.as_str().unwrap()).ids).unwrap();
                assert_eq!(found, *ids, "{case}: {text}");
            }
        }
    }

    #[test]
    fn a_token_without_a_row_matters_where_a_text_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhe\n");
        write("config.json", r#"{"model_type":"bert","vocab_size":6}"#);
        write("added_tokens.json", r#"{"<pad>":6}"#);
        let tokenizer = Tokenizer::read(dir.path(), &Config::read(dir.path()).unwrap()).unwrap();
        let check = |text: &str| {
            let mut work = WorkList::default();
            work.sequence(&tokenizer.encode(text).ids);
            tokenizer.check(&work).map_err(|fault| fault.to_string())
        };
        assert_eq!(check("he"), Ok(()));
        assert!(check("he <pad>").unwrap_err().contains("\"<pad>\" with the id 6"));
        write("added_tokens.json", r#"{"<pad>":9}"#);
        let fault = Tokenizer::read(dir.path(), &Config::read(dir.path()).unwrap()).err().unwrap().to_string();
        assert!(fault.contains("has the id 9"), "{fault}");
    }
}
