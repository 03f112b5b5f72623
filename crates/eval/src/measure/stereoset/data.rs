//! The three published JSON forms of StereoSet.

use super::super::BadData;
use super::super::data::DataFile;
use super::inputs::has_blank;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;

/// The labels of the three sentences of a triple, in the order of [`Triple::sentences`].
const LABELS: [&str; 3] = ["stereotype", "anti-stereotype", "unrelated"];

/// A context with a blank, and three sentences that fill it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Triple {
    /// Its name in the data.
    pub id: String,
    /// The word that the stereotype is about.
    pub term: String,
    /// The kind of bias.
    pub domain: String,
    /// The sentence with a BLANK.
    pub context: String,
    /// The stereotype, its opposite, and the sentence that makes no sense.
    pub sentences: [String; 3],
}

/// The content of a file.
#[derive(Debug)]
pub(crate) struct Triples {
    /// The triples of the intrasentence task, in the order of the file.
    pub intrasentence: Vec<Triple>,
    /// The number of triples of the intersentence task.
    pub intersentence: u64,
}

/// Reads a file in any of the forms:
/// - the published one, `{"data": {"intrasentence": [{.., "sentences": [{"sentence", "gold_label"}, ..]}, ..]}}`;
/// - a list, `[{.., "data": {"stereotype": {"sentence"}, ..}}, ..]`;
/// - by label, `{"stereotype": [{.., "sentence"}, ..], ..}`, where triples of both tasks come together by their ids.
///
/// # Errors
/// [`BadData::Malformed`].
pub(crate) fn read_triples(file: &DataFile) -> Result<Triples, BadData> {
    lcepatch_files::json::check(file.without_byte_order_mark()).map_err(|reason| file.malformed(None, reason))?;
    let whole: Value = serde_json::from_slice(file.without_byte_order_mark()).map_err(|error| {
        let line = u64::try_from(error.line()).ok().filter(|&line| line > 0);
        file.malformed(line, format!("not JSON: {error}"))
    })?;
    let read = match whole {
        Value::Array(list) => each(list, ByLabel::triple).map(|intrasentence| (intrasentence, 0)),
        Value::Object(mut object) if object.contains_key("data") => {
            published(object.remove("data").unwrap_or_default())
        }
        Value::Object(object) if LABELS.iter().all(|label| object.contains_key(*label)) => regrouped(object),
        _ => Err("neither an object with \"data\", as published, nor a list of triples nor lists by label".to_owned()),
    };
    let (intrasentence, intersentence) = read.map_err(|reason| file.malformed(None, reason))?;
    Ok(Triples { intrasentence, intersentence })
}

#[derive(Deserialize)]
struct Sentence {
    sentence: String,
}

#[derive(Deserialize)]
struct ByLabel {
    id: String,
    target: String,
    bias_type: String,
    context: String,
    data: Labelled,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Labelled {
    stereotype: Sentence,
    anti_stereotype: Sentence,
    unrelated: Sentence,
}

impl ByLabel {
    fn triple(self) -> Result<Triple, String> {
        let Labelled { stereotype, anti_stereotype, unrelated } = self.data;
        Ok(Triple {
            id: self.id,
            term: self.target,
            domain: self.bias_type,
            context: self.context,
            sentences: [stereotype, anti_stereotype, unrelated].map(|sentence| sentence.sentence),
        })
    }
}

#[derive(Deserialize)]
struct Published {
    id: String,
    target: String,
    bias_type: String,
    context: String,
    sentences: Vec<Gold>,
}

#[derive(Deserialize)]
struct Gold {
    sentence: String,
    gold_label: String,
}

impl Published {
    fn triple(self) -> Result<Triple, String> {
        let of = |label: &str| {
            let mut matching = self.sentences.iter().filter(|sentence| sentence.gold_label == label);
            match (matching.next(), matching.next()) {
                (Some(one), None) => Ok(one.sentence.clone()),
                _ => Err(format!("not one sentence with the gold_label {label:?}")),
            }
        };
        let [stereotype, anti, unrelated] = LABELS.map(of);
        Ok(Triple {
            sentences: [stereotype?, anti?, unrelated?],
            id: self.id,
            term: self.target,
            domain: self.bias_type,
            context: self.context,
        })
    }
}

fn published(data: Value) -> Result<(Vec<Triple>, u64), String> {
    let Value::Object(mut tasks) = data else { return Err("\"data\" is not an object".to_owned()) };
    let mut list = |task: &str| match tasks.remove(task) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("\"data\".{task:?} is not a list")),
    };
    let (intrasentence, intersentence) = (list("intrasentence")?, list("intersentence")?);
    Ok((each(intrasentence, Published::triple)?, intersentence.len() as u64))
}

#[derive(Deserialize)]
struct Alone {
    id: String,
    target: String,
    bias_type: String,
    context: String,
    sentence: String,
}

fn regrouped(mut object: serde_json::Map<String, Value>) -> Result<(Vec<Triple>, u64), String> {
    let mut list = |label: &str| match object.remove(label) {
        Some(Value::Array(list)) => {
            each(list, |alone: Alone| Ok(alone)).map_err(|reason| format!("in {label:?}: {reason}"))
        }
        _ => Err(format!("{label:?} is not a list")),
    };
    let [stereotype, anti, unrelated] = LABELS.map(&mut list);
    let by_id = |list: Vec<Alone>| -> HashMap<String, Alone> {
        list.into_iter().map(|alone| (alone.id.clone(), alone)).collect()
    };
    let (mut anti, mut unrelated) = (by_id(anti?), by_id(unrelated?));
    let (mut triples, mut intersentence) = (Vec::new(), 0);
    for first in stereotype? {
        let take = |others: &mut HashMap<String, Alone>, label: &str| {
            let other = others.remove(&first.id).filter(|other| other.context == first.context);
            other
                .ok_or_else(|| format!("{} has no {label} with the same context", first.id))
                .map(|other| other.sentence)
        };
        let (anti, unrelated) = (take(&mut anti, "anti-stereotype")?, take(&mut unrelated, "unrelated")?);
        if has_blank(&first.context) {
            triples.push(Triple {
                id: first.id,
                term: first.target,
                domain: first.bias_type,
                context: first.context,
                sentences: [first.sentence, anti, unrelated],
            });
        } else {
            intersentence += 1;
        }
    }
    if let Some(id) = anti.keys().chain(unrelated.keys()).min() {
        return Err(format!("{id} has no stereotype"));
    }
    Ok((triples, intersentence))
}

/// Reads the entries of a list. The error names the entry that cannot be read.
fn each<Raw: DeserializeOwned, T>(
    list: Vec<Value>,
    finish: impl Fn(Raw) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let read = |(i, value)| {
        let raw = serde_json::from_value(value).map_err(|error| error.to_string());
        raw.and_then(&finish).map_err(|reason| format!("entry {i}: {reason}"))
    };
    list.into_iter().enumerate().map(read).collect()
}
