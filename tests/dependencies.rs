//! What the packages are built from: who uses the library compiles neither a command line nor a runtime, and every licence is one that
//! may be linked.

use std::collections::BTreeSet;
use std::process::Command;

/// What cargo prints, run where the workspace is.
fn cargo(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .arg("--locked")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The names of all packages that `package` is built from.
fn dependencies(package: &str, features: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package", package];
    let tree = cargo(&[&tree, features].concat());
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_user_of_the_library_compiles_no_command_line_and_no_runtime() {
    let library = dependencies("lcepatch", &["--no-default-features"]);
    for not_wanted in ["clap", "indicatif", "anstream", "ctrlc", "ort", "tokenizers", "lcepatch-eval"] {
        assert!(!library.contains(not_wanted), "{not_wanted}");
    }
    assert!(library.contains("lcepatch-onnx") && library.contains("safetensors"));
}

#[test]
fn the_format_knows_no_files_threads_or_maps() {
    let format = dependencies("lcepatch-format", &[]);
    for not_wanted in ["memmap2", "rayon", "tempfile", "libc", "safetensors", "lcepatch-files"] {
        assert!(!format.contains(not_wanted), "{not_wanted}");
    }
    assert!(!dependencies("lcepatch-eval", &[]).contains("lcepatch"), "the evaluation knows no patch");
}

#[test]
fn the_python_module_adds_its_bindings_alone() {
    let command = dependencies("lcepatch", &[]);
    let module = dependencies("lcepatch-python", &[]);
    let added: Vec<&str> = module.difference(&command).map(String::as_str).collect();
    assert_eq!(added, ["lcepatch-python", "pyo3", "pyo3-ffi", "pyo3-macros", "pyo3-macros-backend"]);
}

#[test]
fn every_licence_may_be_linked() {
    const ALLOWED: &[&str] = &[
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        // the list of certificate authorities: data, not code
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    ];
    let with = ["--package", "lcepatch", "--package", "lcepatch-python"];
    let tree = ["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}|{l}"];
    let tree = cargo(&[&tree[..], &with].concat());
    let licences = tree.lines().filter_map(|line| line.split_once('|'));
    let licences: BTreeSet<(&str, &str)> = licences.map(|(package, licence)| (package, licence.trim())).collect();
    assert!(licences.len() > 100, "{}", licences.len());
    for (package, licence) in licences {
        // Of alternatives one suffices, of what is joined by AND each is needed.
        let licence = licence.trim_end_matches(" (*)").replace(['(', ')'], "").replace('/', " OR ");
        let may_be_linked = licence.split(" AND ").all(|all| {
            all.split(" OR ").any(|one| ALLOWED.contains(&one.trim().trim_end_matches(" WITH LLVM-exception")))
        });
        assert!(may_be_linked, "{package}: {licence}");
    }
}
