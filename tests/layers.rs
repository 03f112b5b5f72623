//! The order of modules in `src/lib.rs` holds: each uses only those before it.

use std::path::Path;

/// Modules, lowest first. Those on one line do not use each other.
const LAYERS: &[&[&str]] = &[
    &["context", "digest", "dtype", "json", "random"],
    &["durable"],
    &["codec"],
    &["format"],
    &["checkpoint"],
    &["mask"],
    &["onnx"],
    &["patch"],
    &["edit"],
    &["localize"],
    &["measure"],
    &["model"],
    &["error"],
    &["apply"],
    &["check"],
    &["diff", "algebra", "history", "verify"],
    &["sweep"],
    &["report"],
];

/// Uses of a later module, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("error", "apply", "the one error type joins the refusals that are defined beside the verb that refuses"),
    ("error", "algebra", "the same"),
    ("error", "diff", "the same"),
];

fn sources(folder: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            out.push((relative, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn modules_use_only_those_before_them() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut wrong = Vec::new();
    for (file, text) in &files {
        let module = file.split(['/', '.']).next().unwrap();
        if ["lib", "main", "cli"].contains(&module) {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{file}: {module} is in no layer"));
        for used in text.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = layer(&used) else { continue };
            let excepted = EXCEPTIONS.iter().any(|(a, b, _)| *a == module && *b == used);
            if used != module && other >= own && !excepted {
                wrong.push(format!("{file} uses {used}"));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_command_line_uses_only_the_public_library() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli"), &mut files);
    assert!(files.iter().all(|(_, text)| !text.contains("crate::")));
}

#[test]
fn every_rule_of_the_spec_is_a_variant_and_every_citation_a_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let spec = std::fs::read_to_string(root.join("spec/lcepatch-v1.md")).unwrap();
    let invalid = std::fs::read_to_string(root.join("src/format/invalid.rs")).unwrap();
    for rule in 1.. {
        let in_spec = spec.contains(&format!("| R{rule} |"));
        assert_eq!(in_spec, invalid.contains(&format!("=> {rule},")), "R{rule}");
        if !in_spec {
            break;
        }
    }
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for (file, text) in files {
        for cited in text.split('§').skip(1) {
            let number: String = cited.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            let heading = [format!("## {number} "), format!("### {number} ")];
            assert!(heading.iter().any(|heading| spec.contains(heading)), "{file} cites §{number}");
        }
    }
}
