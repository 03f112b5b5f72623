//! The tokenizer of a model directory: `tokenizer.json`, or `vocab.txt` of BERT's first files.

mod budget;

use super::ModelFault;
use super::config::Config;
use crate::measure::{Encoding, Mask, Tokens};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenizers::Model as _;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

/// A tokenizer that neither truncates nor pads.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    mask: Option<Mask>,
    begin: Option<u32>,
    words_begin_with_a_blank: bool,
    /// What was read, for reports.
    pub files: Vec<PathBuf>,
}

impl Tokenizer {
    /// Reads the tokenizer of a model directory.
    ///
    /// # Errors
    /// [`ModelFault::Missing`], [`ModelFault::Malformed`]; [`ModelFault::Vocabulary`] if it has ids that the model does not.
    pub fn read(directory: &Path, config: &Config) -> Result<Self, ModelFault> {
        let settings = Settings::read(directory)?;
        let (json, vocabulary) = (directory.join("tokenizer.json"), directory.join("vocab.txt"));
        let (mut inner, file) = if json.is_file() {
            let read = |source| ModelFault::Io { operation: "read", path: json.clone(), source };
            let text = crate::json::read_file(&json).map_err(read)?;
            budget::check(&text).map_err(|reason| malformed(&json, reason))?;
            let parsed = tokenizers::Tokenizer::from_bytes(&text);
            (parsed.map_err(|error| malformed(&json, error.to_string()))?, json)
        } else if vocabulary.is_file() {
            (wordpiece(&vocabulary, settings.flag("do_lower_case", true))?, vocabulary)
        } else {
            let what = "tokenizer.json or vocab.txt";
            return Err(ModelFault::Missing { directory: directory.to_owned(), what });
        };
        // Files often carry the settings of a training run.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(&file, error.to_string()))?;
        inner.encode("A text.", true).map_err(|error| malformed(&file, error.to_string()))?;
        let most = inner.get_vocab(true).into_values().max().map_or(0, |id| id + 1);
        let rows = config.size(&["vocab_size"])?;
        if u64::from(most) > rows {
            let vocabulary = u32::try_from(rows).unwrap_or(u32::MAX);
            return Err(ModelFault::Vocabulary { tokens: most, vocabulary });
        }
        let id = |text: &str| inner.token_to_id(text).map(|id| Mask { id, text: text.to_owned() });
        let usual = ["[MASK]", "<mask>"];
        let mask = settings.token("mask_token").and_then(|text| id(&text)).or_else(|| usual.into_iter().find_map(id));
        let begin = ["bos_token", "eos_token"].iter().find_map(|key| id(&settings.token(key)?)).map(|token| token.id);
        let begin = begin.or_else(|| config.token("bos_token_id")).or_else(|| config.token("eos_token_id"));
        let words_begin_with_a_blank = inner.get_pre_tokenizer().is_some_and(blanks_stay_with_words);
        let begin = begin.filter(|id| u64::from(*id) < rows);
        Ok(Self { inner, mask, begin, words_begin_with_a_blank, files: vec![file] })
    }

    fn encode_with(&self, text: &str, special_tokens: bool) -> Encoding {
        // A tokenizer that encodes anything encodes everything but for an unknown character without a token for it.
        let Ok(encoding) = self.inner.encode(text, special_tokens) else { return Encoding::default() };
        Encoding {
            ids: encoding.get_ids().to_vec(),
            special: encoding.get_special_tokens_mask().iter().map(|special| *special == 1).collect(),
            words: encoding.get_word_ids().to_vec(),
        }
    }
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
        let mut found = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = directory.join(name);
            match crate::json::read_file(&path) {
                Ok(text) => {
                    crate::json::check(&text).map_err(|reason| malformed(&path, reason))?;
                    found.push(serde_json::from_slice(&text).map_err(|error| malformed(&path, error.to_string()))?);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ModelFault::Io { operation: "read", path, source }),
            }
        }
        Ok(Self(found))
    }

    /// A special token: its text, or an object with it.
    fn token(&self, key: &str) -> Option<String> {
        self.0.iter().find_map(|settings| {
            let value = settings.get(key)?;
            value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
        })
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        self.0.iter().find_map(|settings| settings.get(key)?.as_bool()).unwrap_or(default)
    }
}

fn malformed(path: &Path, reason: String) -> ModelFault {
    ModelFault::Malformed { path: path.to_owned(), reason }
}

/// BERT's tokenizer, from its vocabulary alone.
fn wordpiece(path: &Path, lowercase: bool) -> Result<tokenizers::Tokenizer, ModelFault> {
    let model = WordPiece::from_file(&path.to_string_lossy()).unk_token("[UNK]".to_owned()).build();
    let model = model.map_err(|error| malformed(path, error.to_string()))?;
    let special = |token: &str| {
        let id = model.token_to_id(token).ok_or_else(|| malformed(path, format!("it has no {token}")))?;
        Ok::<(String, u32), ModelFault>((token.to_owned(), id))
    };
    let (sep, cls, _) = (special("[SEP]")?, special("[CLS]")?, special("[UNK]")?);
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(BertNormalizer::new(true, true, None, lowercase)))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_post_processor(Some(BertProcessing::new(sep, cls)))
        .with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let known = special.into_iter().filter(|token| tokenizer.token_to_id(token).is_some());
    let known: Vec<_> = known.map(|token| tokenizers::AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&known);
    Ok(tokenizer)
}

/// Whether blanks are part of the words they stand before, and are not added to the first word.
fn blanks_stay_with_words(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) => !bytes.add_prefix_space,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(blanks_stay_with_words),
        _ => false,
    }
}
