use crate::support::*;
use lcepatch_format::header::{Packing, Preamble, read_sections, section, write_section};
use lcepatch_format::limits::PREAMBLE_BYTES;

fn patched() -> Dir {
    let dir = bert_dir();
    let mut words: Vec<&str> =
        "diff target.safetensors reference.safetensors -o p --density 5% --sha256 --license MIT".split(' ').collect();
    words.extend(["--recommended-alpha", "-2", "--description", "less of it", "--base-model", "org/model"]);
    words.extend(["--meta", "note=\u{1b}[31mred", "--result", "weat=0.5"]);
    dir.run_words(&words).ok();
    dir
}

#[test]
fn shows_what_a_person_wants_to_know() {
    let dir = patched();
    let base = dir.read("target.safetensors");
    let digest = lcepatch_format::digest::Digest::sha256(&base).to_string();
    let run = dir.run("show p").ok();
    assert!(run.out.starts_with("A sparse change of 102 of the "), "{run:?}");
    run.prints(&["less of it", "MIT", "org/model", &digest, "-2 is recommended", "weat: 0.5", "global ranking"])
        .prints(&["attention.output", "portable", "102 weights"]);
}

#[test]
fn text_from_a_patch_cannot_drive_the_terminal() {
    let run = patched().run("show p").ok();
    assert!(!run.out.contains('\u{1b}'), "{run:?}");
}

#[test]
fn json_has_the_metadata_and_every_tensor() {
    let dir = patched();
    let shown = dir.run("show p --json").ok().json();
    assert_eq!(shown["metadata"]["recommended_alpha"], -2.0);
    assert_eq!(shown["metadata"]["results"]["weat"], 0.5);
    assert_eq!(shown["metadata"]["localization"]["k"], 102);
    assert_eq!((&shown["kind"]["extent"], &shown["kind"]["changed"]), (&"sparse".into(), &102.into()));
    let rows = shown["stat"]["tensors"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["selected"].as_u64().unwrap()).sum::<u64>(), 102);
    dir.run("show p --tensors").ok().prints(&["bert.encoder.layer.0.output.dense.weight", "[16, 16]"]);
}

/// Writes `q`: `p` with these bytes as its METADATA.
fn with_metadata(dir: &Dir, metadata: &[u8]) {
    let bytes = dir.read("p");
    let payload_bytes = Preamble::read(&bytes, bytes.len() as u64).unwrap().payload_bytes;
    let (front, payload) = bytes.split_at(bytes.len() - payload_bytes as usize);
    let mut sections = Vec::new();
    for part in read_sections(&front[PREAMBLE_BYTES as usize..]).unwrap() {
        match part.kind {
            section::METADATA => write_section(&mut sections, part.kind, metadata, Packing::Raw),
            _ => sections.extend_from_slice(part.stored),
        }
    }
    dir.write("q", &[&Preamble::write(&sections, payload_bytes), payload].concat());
}

#[test]
fn metadata_of_other_kinds_is_left_out_and_named() {
    let dir = patched();
    with_metadata(&dir, br#"{"tool":7,"description":"kept","base":{"files":["a"]}}"#);
    dir.run("show q").ok().prints(&[
        "kept",
        "ignored      /tool, which is a number, and not a string",
        "/base/files, which is an array",
    ]);
    let ignored = dir.run("show q --json").ok().json()["ignored_metadata"].clone();
    assert_eq!(ignored[0]["pointer"], "/tool");
    assert_eq!(dir.run("show p --json").ok().json()["ignored_metadata"], serde_json::json!([]));
}

#[test]
fn a_patch_whose_metadata_is_no_json_is_as_good_as_any() {
    let dir = patched();
    with_metadata(&dir, b"[");
    dir.run("show q").ok().prints(&["ignored      all metadata, which is not valid JSON", "102 weights"]);
    let unknown_alpha = "note: q ignored: all metadata, which is not valid JSON";
    dir.run("check q target.safetensors").ok().says(&[unknown_alpha, "if it recommends an alpha, that is not known"]);
    dir.run("apply target.safetensors q -o r").ok().says(&[unknown_alpha]);
    for (patch, result) in [("p", "of-p"), ("q", "of-q")] {
        dir.run(&format!("apply target.safetensors {patch} --alpha 1 -o {result}")).ok();
    }
    assert_eq!(dir.read("of-q"), dir.read("of-p"));
}

#[test]
fn draws_the_figure() {
    let dir = patched();
    dir.run("show p --plot f.svg").ok();
    assert!(String::from_utf8(dir.read("f.svg")).unwrap().contains("att. out"));
    dir.run("show p --plot f.png").fails(2).says(&["SVG only", "f.svg"]);
    dir.run("show p --plot f.gif").fails(2).says(&[".svg"]);
}

#[test]
fn what_is_no_patch_is_told_apart() {
    let dir = patched();
    dir.run("show target.safetensors").fails(4).says(&["this is a checkpoint (safetensors), not a patch", "R1"]);
    dir.run("show missing").fails(3);
    let mut bytes = dir.read("p");
    bytes.pop();
    dir.write("short", &bytes);
    dir.run("show short").fails(4).says(&["R4"]);
    let text: Vec<u8> = dir.read("p").into_iter().filter(|byte| *byte != b'\r').collect();
    dir.write("text", &text);
    dir.run("show text").fails(4).says(&["text mode", "R2"]);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = patched();
    let mut child = dir
        .command()
        .args(["show", "p", "--tensors", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}
