use super::*;
use crate::context::Context;
use crate::measure::{Layers, Work};
use batches::Limits;

fn engine() -> Engine {
    Engine::start(runtime::Provider::Cpu, None).unwrap()
}

#[test]
fn every_family_agrees() {
    let engine = engine();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    let mut failed = 0;
    for directory in names {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let result = (|| -> Result<(f32, f32), Box<dyn std::error::Error>> {
            let checkpoint = Checkpoint::open(&directory)?;
            let config = Config::read(&directory)?;
            let files = WeightFiles::of(&checkpoint)?;
            let graph = graph::build(&config, &checkpoint, &|file| files.location(file), Interface::Scoring)?;
            let mut session = session::load(&graph, &files, &checkpoint, Edited::new(), &engine)?;
            let expected = Checkpoint::open(&directory.join("expected.safetensors"))?;
            let floats = |n: &str| -> Vec<f32> {
                let t = expected.tensor(n).unwrap();
                t.elements(0..t.info.elements()).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
            };
            let ints = |n: &str| -> Vec<i64> {
                let t = expected.tensor(n).unwrap();
                t.elements(0..t.info.elements()).as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            };
            let (ids, mask) = (ints("input_ids"), ints("attention_mask"));
            let length = expected.tensor("input_ids").unwrap().info.shape[1] as usize;
            let mut work = Work::default();
            let mut at = Vec::new();
            let head = graph.facts.kind != crate::measure::Kind::Encoder;
            for (row, ids) in ids.chunks(length).enumerate() {
                let n = mask[row * length..][..length].iter().sum::<i64>() as usize;
                let ids: Vec<u32> = ids[..n].iter().map(|i| *i as u32).collect();
                let sequence = work.sequence(&ids);
                for position in 0..n as u32 {
                    let d = head.then(|| work.distribution(sequence, position));
                    at.push((
                        row * length + position as usize,
                        work.embedding(sequence, position..position + 1, Layers::Every),
                        d,
                    ));
                }
            }
            let batches = Batches::new(&work, graph.facts.vocabulary, Limits::CPU);
            let answers = session.answer(&work, &batches, &Context::silent())?;
            let (mut worst_hidden, mut worst_logits) = (0f32, 0f32);
            for layer in 0..=graph.facts.layers as usize {
                let all = floats(&format!("hidden.{layer}"));
                let width = all.len() / (ids.len());
                let scale = all.iter().fold(0f32, |a, b| a.max(b.abs()));
                for (row, question, _) in &at {
                    for (a, b) in answers.embeddings[*question][layer].iter().zip(&all[row * width..][..width]) {
                        worst_hidden = worst_hidden.max((a - b).abs() / scale);
                    }
                }
            }
            if head {
                let all = floats("logits");
                let v = graph.facts.vocabulary as usize;
                for (row, _, d) in &at {
                    let logits = &all[row * v..][..v];
                    let most = logits.iter().fold(f32::MIN, |a, b| a.max(*b));
                    let sum = logits.iter().map(|l| f64::from(l - most).exp()).sum::<f64>().ln() as f32 + most;
                    for (a, b) in answers.distributions[d.unwrap()].iter().zip(logits) {
                        worst_logits = worst_logits.max((a - (b - sum)).abs() / (b - sum).abs().max(1.0));
                    }
                }
            }
            Ok((worst_hidden, worst_logits))
        })();
        println!("{name}: {result:?}");
        failed += usize::from(!result.is_ok_and(|(a, b)| a < 1e-4 && b < 1e-4));
    }
    assert_eq!(failed, 0);
}
