//! `fixtures/released`: every version reads what the release wrote, and applies it to the same bytes.

use crate::support::*;
use crate::vectors::together;
use lcepatch::apply::{DifferentBase, Edit};
use lcepatch::check::intact;
use lcepatch::context::Context;
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::patch::Patch;
use lcepatch_format::digest::Digest;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/released/v1")
}

fn released() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("released.json")).unwrap()).unwrap()
}

#[test]
fn released_files_are_as_they_were_written() {
    let released = released();
    let files = released["files"].as_object().unwrap();
    assert_eq!(names(&folder()).len(), files.len() + 1, "a file was added to those that are never changed");
    for (name, digest) in files {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        assert_eq!(Digest::sha256(&bytes).to_string(), digest.as_str().unwrap(), "{name}");
        if name.ends_with(".lcepatch") {
            let patch = Patch::open(folder().join(name)).unwrap();
            intact(&patch, &Context::silent()).unwrap();
            assert_eq!(patch.ignored_metadata().len(), 0, "{name}");
        }
    }
}

#[test]
fn released_patches_give_the_same_bytes() {
    let released = released();
    let cases = released["cases"].as_array().unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let edit = |of: &Value| {
            let kind = match case["edit"].as_str().unwrap() {
                "ip" => EditKind::Interpolate(Alpha::new(of["alpha"].as_f64().unwrap()).unwrap()),
                "pr" => EditKind::Prune,
                other => panic!("{other}"),
            };
            Edit { patch: Patch::open(folder().join(of["patch"].as_str().unwrap())).unwrap(), kind }
        };
        let edits: Vec<Edit> = case["patches"].as_array().unwrap().iter().map(edit).collect();
        let base = folder().join(case["base"].as_str().unwrap());
        match together(&edits, &base, DifferentBase::Refuse) {
            Ok(mut result) => {
                result.sort();
                let data: Vec<u8> = result.into_iter().flat_map(|(_, bytes)| bytes).collect();
                assert_eq!(case["result"].as_str(), Some(Digest::sha256(&data).to_string().as_str()), "{case}");
            }
            Err(error) => assert!(case["result"].is_null(), "{case}: {error}"),
        }
    }
}
