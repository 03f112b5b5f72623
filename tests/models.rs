//! Our graphs against transformers: every model of `fixtures/models`, hidden states and logits.

use crate::support::{read_safetensors, runtime};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch_eval::measure::{Answers, Layers, ModelKind, Tokens, WorkList};
use lcepatch_eval::model::batches::Limits;
use lcepatch_eval::model::runtime::{Library, Origin, Provider};
use lcepatch_eval::model::tokenizer::Tokenizer;
use lcepatch_eval::model::{EditedTensors, Engine, Model};
use lcepatch_files::checkpoint::names;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn engine(threads: Option<usize>) -> Engine {
    let (provider, library) = (Provider::Cpu, runtime());
    let found = Library { provider, library, origin: Origin::Named, site_packages: Vec::new() };
    Engine::with_library(&found, threads).unwrap()
}

fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let mut models: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    models.sort();
    assert!(models.len() >= 40);
    models
}

/// What transformers says of a few sequences.
struct Expected {
    /// Token ids, padded to one length.
    ids: Vec<i64>,
    mask: Vec<i64>,
    length: usize,
    /// By layer.
    hidden: Vec<Vec<f32>>,
    logits: Option<Vec<f32>>,
}

impl Expected {
    fn read(directory: &Path) -> Self {
        let file = std::fs::read(directory.join("expected.safetensors")).unwrap();
        let (tensors, file) = (read_safetensors(&file), safetensors::SafeTensors::deserialize(&file).unwrap());
        let bytes = |name: &str| tensors.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes.clone());
        let floats = |bytes: Vec<u8>| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<f32>>();
        let integers = |name: &str| {
            bytes(name).unwrap().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<i64>>()
        };
        let (ids, mask) = (integers("input_ids"), integers("attention_mask"));
        let length = file.tensor("input_ids").unwrap().shape()[1];
        let hidden = (0..).map_while(|layer| bytes(&format!("hidden.{layer}")).map(floats)).collect();
        Self { ids, mask, length, hidden, logits: bytes("logits").map(floats) }
    }

    /// Rows of tokens, and each sequence.
    fn sequences(&self) -> impl Iterator<Item = (usize, Vec<u32>)> {
        self.ids.chunks(self.length).zip(self.mask.chunks(self.length)).enumerate().map(|(row, (ids, mask))| {
            let length = mask.iter().sum::<i64>() as usize;
            (row * self.length, ids[..length].iter().map(|id| *id as u32).collect())
        })
    }
}

/// Asks for everything: each row's hidden states and distribution.
fn everything(expected: &Expected, kind: ModelKind) -> (WorkList, Vec<(usize, usize, Option<usize>)>) {
    let mut work = WorkList::default();
    let mut asked = Vec::new();
    for (first, ids) in expected.sequences() {
        let sequence = work.sequence(&ids);
        for position in 0..ids.len() as u32 {
            let distribution = (kind != ModelKind::Encoder).then(|| work.distribution(sequence, position));
            let hidden = work.embedding(sequence, position..position + 1, Layers::Every);
            asked.push((first + position as usize, hidden, distribution));
        }
    }
    (work, asked)
}

fn answers(directory: &Path, engine: &Engine, limits: Limits, ask: impl Fn(&Model) -> WorkList) -> Answers {
    let checkpoint = Checkpoint::open(directory).unwrap();
    let model = Model::open(directory, &checkpoint).unwrap();
    let work = ask(&model);
    let mut session = model.session(&checkpoint, EditedTensors::new(), engine).unwrap();
    session.answer(&work, &model.batches(&work, limits), &Context::silent()).unwrap()
}

/// The largest difference, as a share of the largest expected number.
fn distance<'n>(pairs: impl Iterator<Item = (&'n f32, &'n f32)>) -> f32 {
    let (mut distance, mut scale) = (0f32, f32::MIN_POSITIVE);
    for (found, expected) in pairs {
        let difference = (found - expected).abs();
        distance = if difference.is_nan() { f32::INFINITY } else { distance.max(difference) };
        scale = scale.max(expected.abs());
    }
    distance / scale
}

/// Equal is what differs by no more than this from what transformers computes.
const EQUAL: f32 = 1e-5;

/// How far a model's hidden states and log-probabilities are from what transformers computes, or why there are none.
fn distances(directory: &Path, engine: &Engine) -> Result<[f32; 2], String> {
    let expected = Expected::read(directory);
    let checkpoint = Checkpoint::open(directory).map_err(|error| error.to_string())?;
    let model = Model::open(directory, &checkpoint).map_err(|fault| fault.to_string())?;
    let facts = *model.facts();
    if (facts.layers as usize + 1, facts.kind != ModelKind::Encoder)
        != (expected.hidden.len(), expected.logits.is_some())
    {
        return Ok([f32::INFINITY; 2]);
    }
    let (_, asked) = everything(&expected, facts.kind);
    let found = answers(directory, engine, Limits::CPU, |_| everything(&expected, facts.kind).0);
    let hidden = expected.hidden.iter().enumerate().map(|(layer, expected)| {
        let width = found.embeddings[0][layer].len();
        distance(asked.iter().flat_map(|(row, hidden, _)| {
            found.embeddings[*hidden][layer].iter().zip(&expected[row * width..(row + 1) * width])
        }))
    });
    let hidden = hidden.fold(0f32, f32::max);
    let Some(logits) = &expected.logits else { return Ok([hidden, 0.0]) };
    let vocabulary = facts.vocabulary as usize;
    let probabilities = asked.iter().map(|(row, _, distribution)| {
        let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
        let sum = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        let logarithms: Vec<f32> = logits.iter().map(|logit| (f64::from(*logit) - sum) as f32).collect();
        distance(found.distributions[distribution.unwrap()].iter().zip(&logarithms))
    });
    Ok([hidden, probabilities.fold(0f32, f32::max)])
}

#[test]
fn every_family_agrees_with_transformers() {
    let engine = engine(None);
    for directory in models() {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let [hidden, probabilities] = distances(&directory, &engine).unwrap();
        println!("{name}: hidden states {hidden:.1e}, log-probabilities {probabilities:.1e}");
        assert!(hidden < EQUAL && probabilities < EQUAL, "{name}: {hidden}, {probabilities}");
    }
}

#[test]
fn the_dense_layers_of_every_family_have_their_components() {
    for directory in models() {
        let checkpoint = Checkpoint::open(&directory).unwrap();
        let tensors: Vec<_> = checkpoint.tensors().map(|tensor| tensor.info).collect();
        let family = names::recognize(tensors.iter().map(|info| info.name.as_str()));
        assert!(family.is_some(), "{}", directory.display());
        // Matrices of layers that are not dense: routers, and tables of distances.
        let is_other =
            |name: &str| ["mlp.gate.weight", "moe.gate.weight", "bias.weight"].iter().any(|end| name.ends_with(end));
        for info in tensors.iter().filter(|info| names::place(&info.name).layer.is_some() && info.shape.len() == 2) {
            assert_eq!(names::is_encoder_dense(&info.name, 2), !is_other(&info.name), "{}", info.name);
        }
    }
}

/// One configuration of each family, or those in the folder that LCEPATCH_CONFIGURATIONS names. `tests/reference/configurations.py` makes
/// them, with PyTorch.
#[test]
fn random_configurations_are_computed_as_transformers_does_or_refused() {
    let folder = std::env::var_os("LCEPATCH_CONFIGURATIONS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/configurations"));
    let engine = engine(None);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut directories: Vec<_> = entries.filter(|entry| entry.is_dir()).collect();
    directories.sort();
    let (mut counts, mut wrong) = (BTreeMap::<(String, &str), usize>::new(), Vec::new());
    for directory in &directories {
        let case: serde_json::Value =
            serde_json::from_slice(&std::fs::read(directory.join("case.json")).unwrap()).unwrap();
        let found = match distances(directory, &engine) {
            Err(_) => "refused",
            Ok(distances) if distances.iter().all(|distance| *distance < EQUAL) => "equal",
            Ok(distances) => {
                wrong.push(format!("{}: {distances:?}", directory.display()));
                "wrong"
            }
        };
        *counts.entry((case["family"].as_str().unwrap().to_owned(), found)).or_default() += 1;
    }
    counts.iter().for_each(|((family, found), count)| println!("{family}: {count} {found}"));
    assert!(wrong.is_empty() && directories.len() >= 28, "{}", wrong.join("\n"));
}

#[test]
fn answers_are_the_same_bits_in_any_batches_on_any_threads() {
    let expected = |directory: &Path| Expected::read(directory);
    let [two, one] = [None, Some(1)].map(engine);
    for directory in models() {
        let ask = |model: &Model| everything(&expected(&directory), model.facts().kind).0;
        let wide = answers(&directory, &two, Limits::CPU, ask);
        let narrow = answers(&directory, &one, Limits { tokens: 1, logits: 1 }, ask);
        assert_eq!(wide, narrow, "{}", directory.display());
    }
}

#[test]
fn tokenizers_agree_with_transformers() {
    let mut tried = 0;
    for directory in models().into_iter().filter(|directory| directory.join("tokens.json").exists()) {
        let checkpoint = Checkpoint::open(&directory).unwrap();
        let model = Model::open(&directory, &checkpoint).unwrap();
        let tokenizer = Tokenizer::read(&directory, model.config()).unwrap();
        let texts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(directory.join("tokens.json")).unwrap()).unwrap();
        for (text, ids) in texts.as_object().unwrap() {
            let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(tokenizer.encode(text).ids, ids, "{}: {text}", directory.display());
        }
        tried += 1;
    }
    assert!(tried >= 8);
}
