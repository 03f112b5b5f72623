//! Known answers: `fixtures/vectors`, by discovery.

use crate::support::*;
use lcepatch::Error;
use lcepatch::apply::{Apply, Check, DifferentBase, Edit, PlanOptions};
use lcepatch::check::{intact, true_of};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::edit::{Alpha, EditKind, interpolate};
use lcepatch::patch::Patch;
use lcepatch_format::Metadata;
use lcepatch_format::block::decode::{streams, verify};
use lcepatch_format::block::encode::values_digest;
use lcepatch_format::block::{DecodedBlock, decode};
use lcepatch_format::dtype::{Dtype, Rounded};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors")
}

/// Name, path and expectation of every vector.
pub fn all() -> Vec<(String, PathBuf, Value)> {
    let folder = folder().join("v1");
    let patches = names(&folder).into_iter().filter(|name| name.ends_with(".lcepatch"));
    let vectors: Vec<_> = patches
        .map(|name| {
            let path = folder.join(&name);
            let expected = std::fs::read(path.with_extension("json")).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, path, serde_json::from_slice(&expected).unwrap())
        })
        .collect();
    assert!(vectors.len() >= 60, "only {} vectors were found", vectors.len());
    vectors
}

fn open(path: &Path, kind: EditKind) -> Result<Edit, Error> {
    let patch = Patch::open(path)?;
    Ok(Edit { patch, kind })
}

/// Reads the whole patch, checks it against its base, if it has one, and applies it; the result's tensors.
fn apply(patch: &Path, base: Option<&Path>, kind: EditKind) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let context = Context::silent();
    let edit = open(patch, kind)?;
    intact(&edit.patch, &context)?;
    let Some(base) = base else { return Ok(Vec::new()) };
    true_of(&edit.patch, (&Checkpoint::open(base)?, None), Check::Full, &context)?;
    together(&[edit], base, DifferentBase::Refuse)
}

/// Applies patches; the result's tensors.
pub fn together(edits: &[Edit], base: &Path, different_base: DifferentBase) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let (context, base) = (Context::silent(), Checkpoint::open(base)?);
    let mut options = PlanOptions::default();
    options.different_base = different_base;
    let dir = Dir::new();
    Apply::new(&base, edits).options(options).to(&dir.path("r"), &context)?;
    Ok(read_safetensors(&dir.read("r")))
}

#[test]
fn every_vector_is_accepted_or_rejected_by_its_rule() {
    for (name, path, expected) in all() {
        let base = expected["base"].as_str().map(|base| path.with_file_name(base));
        let outcome = apply(&path, base.as_deref(), EditKind::Interpolate(Alpha::ONE));
        match expected["expect"].as_str().unwrap() {
            "accept" => {
                check_metadata(&name, &path, &expected);
                check_outcome(&name, &expected["result"], outcome);
                for other in expected["alphas"].as_array().into_iter().flatten() {
                    let alpha = Alpha::new(other["alpha"].as_f64().unwrap()).unwrap();
                    check_outcome(
                        &format!("{name} at {alpha}"),
                        &other["result"],
                        apply(&path, base.as_deref(), EditKind::Interpolate(alpha)),
                    );
                }
                for other in expected["elsewhere"].as_array().into_iter().flatten() {
                    let base = path.with_file_name(other["base"].as_str().unwrap());
                    let edits = [open(&path, alpha(other)).unwrap()];
                    let result = together(&edits, &base, DifferentBase::Add);
                    check_outcome(&format!("{name} elsewhere"), &other["result"], result);
                    assert!(together(&edits, &base, DifferentBase::Refuse).is_err(), "{name} elsewhere, unasked");
                }
                for several in expected["together"].as_array().into_iter().flatten() {
                    let patches = several["patches"].as_array().unwrap().iter();
                    let file = |patch: &Value| path.with_file_name(patch["patch"].as_str().unwrap());
                    let edits: Vec<Edit> = patches.map(|patch| open(&file(patch), alpha(patch)).unwrap()).collect();
                    let result = together(&edits, base.as_deref().unwrap(), DifferentBase::Refuse);
                    check_outcome(&format!("{name} together"), &several["result"], result);
                }
                for (edit, expected) in expected["edits"].as_object().into_iter().flatten() {
                    let kind = if edit == "pr" { EditKind::Prune } else { EditKind::Switch };
                    check_outcome(&format!("{name} {edit}"), expected, apply(&path, base.as_deref(), kind));
                }
            }
            wanted => match outcome {
                Ok(_) => panic!("{name} is accepted, it must break {wanted}"),
                Err(error) => {
                    assert_eq!(error.rule().map(|r| format!("R{r}")).as_deref(), Some(wanted), "{name}: {error}")
                }
            },
        }
    }
}

fn alpha(of: &Value) -> EditKind {
    EditKind::Interpolate(Alpha::new(of["alpha"].as_f64().unwrap()).unwrap())
}

/// What is read of the metadata, and what is ignored, where a vector says it.
fn check_metadata(name: &str, path: &Path, expected: &Value) {
    let patch = Patch::open(path).unwrap_or_else(|e| panic!("{name}: {e}"));
    if let Some(pointers) = expected["ignored"].as_array() {
        let found: BTreeSet<&str> = patch.ignored_metadata().iter().map(|part| part.pointer.as_str()).collect();
        assert_eq!(found, pointers.iter().filter_map(Value::as_str).collect(), "{name}");
    }
    if expected["metadata"].is_object() {
        let (known, ignored) = Metadata::read(expected["metadata"].to_string().as_bytes());
        assert_eq!(ignored, [], "{name}");
        assert_eq!(patch.metadata(), &known, "{name}");
    }
}

/// A result, or null where it must be refused.
fn check_outcome(name: &str, expected: &Value, outcome: Result<Vec<(String, Vec<u8>)>, Error>) {
    match outcome {
        Ok(result) => check_result(name, expected, &result),
        Err(error) => {
            assert!(expected.is_null(), "{name}: {error}");
            let refused = ["base.", "edit.", "mask.", "numbers."].iter().any(|kind| error.code().starts_with(kind));
            assert!(refused, "{name}: {error}");
        }
    }
}

fn check_result(name: &str, expected: &Value, result: &[(String, Vec<u8>)]) {
    assert!(expected.is_object(), "{name}: a result was not expected");
    for (tensor, bytes) in expected.as_object().into_iter().flatten() {
        let found = result.iter().find(|(found, _)| found == tensor).unwrap_or_else(|| panic!("{name}: no {tensor}"));
        let hex: String = found.1.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(hex.as_str()), bytes.as_str(), "{name}: {tensor}");
    }
}

#[test]
fn a_block_is_checked_as_it_is_decoded() {
    let (mut accepted, mut refused, mut codecs) = (0, 0, BTreeSet::new());
    for (name, path, _) in all() {
        let Ok(patch) = Patch::open(&path) else { continue };
        let table = patch.table();
        for (entry, block) in table.blocks() {
            let (dtype, selected, range) = (entry.dtype, block.selected, table.elements_of(entry, block));
            let elements = (range.end - range.start) as u32;
            let Ok(honest) = patch.block(entry, block) else { continue };
            if selected > 1000 || streams(&honest, dtype).is_ok_and(|streams| streams.needs_base()) {
                continue;
            }
            let flipped = (0..8 * honest.len().min(300)).map(|bit| {
                let mut bytes = honest.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            });
            for bytes in flipped.chain([honest.clone()]) {
                let decoded = decode(&bytes, dtype, elements, selected, None);
                let digest = |block: DecodedBlock| block.carried_base().map(|bits| values_digest(dtype, bits));
                let (found, expected) = (verify(&bytes, dtype, elements, selected), decoded.map(digest));
                assert_eq!(found.as_ref().ok(), expected.as_ref().ok(), "{name}: {found:?}, decoded {expected:?}");
                match found {
                    Ok(_) => {
                        accepted += 1;
                        codecs.extend(streams(&bytes, dtype).map(|streams| streams.deltas.0 as u8));
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(
        accepted > 1000 && refused > 1000 && codecs == BTreeSet::from([1, 2, 3, 4]),
        "{accepted} {refused} {codecs:?}"
    );
}

#[test]
fn there_is_a_vector_for_every_rule() {
    let found: Vec<String> = all().iter().map(|(_, _, e)| e["expect"].as_str().unwrap().to_owned()).collect();
    for rule in 1..=21 {
        assert!(found.contains(&format!("R{rule}")), "no vector breaks R{rule}");
    }
}

#[test]
fn the_arithmetic_table_holds() {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(folder().join("arithmetic.json")).unwrap()).unwrap();
    assert!(rows.len() >= 100);
    for row in rows {
        let bits = |key: &str| row[key].as_str().map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let dtype = Dtype::from_name(row["dtype"].as_str().unwrap()).unwrap();
        let float = dtype.float().unwrap();
        let (base, reference) = (bits("base").unwrap(), bits("reference").unwrap());
        let delta = dtype.ulp_delta(base, reference);
        assert_eq!(dtype.add_ulp(base, delta), reference, "{row}");
        let alpha = Alpha::new(row["alpha"].as_f64().unwrap()).unwrap();
        let result = if alpha == Alpha::ONE {
            Some(reference)
        } else if alpha.value() == 0.0 {
            Some(base)
        } else {
            match interpolate(float, float.value(base), [(alpha, float.value(reference) - float.value(base))]) {
                Rounded::Finite(bits) => Some(bits),
                Rounded::NotFinite(_) => None,
            }
        };
        assert_eq!(result, bits("result"), "{row}");
    }
}
