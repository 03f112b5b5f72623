//! Every command line in the documentation runs, and prints what the documentation says.
//!
//! Blocks marked `console` are run in their order by a shell, those of a file in one scratch directory with small models. What follows
//! a command in its block is its output, where a line `...` stands for any lines, and `[..]` for any text. Words behind `console` say what else a block
//! needs: `needs-runtime` (an ONNX Runtime, run by a test of its own), `needs-hub` (a hub on loopback, on which `alice/base` and
//! `alice/next` are the models, run by a test of its own), `needs-uv`, `needs-peft` and `needs-ray` (run by the tests of the Python module),
//! `not-run` (never run here, but its flags are looked up in the help).

use crate::support::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Block {
    /// Words behind `console`.
    marks: Vec<String>,
    /// Commands, each with the output that follows it.
    commands: Vec<(String, Vec<String>)>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec!["README.md".into(), "CONTRIBUTING.md".into(), "SECURITY.md".into()];
    documents.extend(
        names(&root().join("docs")).into_iter().filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}")),
    );
    documents.into_iter().map(|name: String| root().join(name)).collect()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(marks) = line.strip_prefix("```console") else { continue };
        let mut block = Block { marks: marks.split_whitespace().map(str::to_owned).collect(), commands: Vec::new() };
        let mut inside = lines.by_ref().take_while(|line| *line != "```");
        while let Some(line) = inside.next() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    let mut command = command.to_owned();
                    while let Some(begun) = command.strip_suffix('\\') {
                        command = format!("{begun} {}", inside.next().expect("a line after a backslash").trim());
                    }
                    block.commands.push((command, Vec::new()));
                }
                None => block.commands.last_mut().expect("output follows a command").1.push(line.to_owned()),
            }
        }
        blocks.push(block);
    }
    blocks
}

/// Whether a line is the expected one, in which `[..]` stands for any text.
fn is_line(expected: &str, shown: &str) -> bool {
    match expected.split_once("[..]") {
        Some((start, end)) => shown.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => shown == expected,
    }
}

/// Whether `shown` is `expected`, in which a line `...` stands for any lines.
fn matches(expected: &[&str], shown: &[&str]) -> bool {
    match expected {
        [] => shown.is_empty(),
        ["...", rest @ ..] => (0..=shown.len()).any(|at| matches(rest, &shown[at..])),
        [first, rest @ ..] => shown.first().is_some_and(|line| is_line(first, line)) && matches(rest, &shown[1..]),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// A directory with what the documentation takes for given.
fn scratch() -> Dir {
    let dir = Dir::new();
    let models = [
        ("model", "target/pruned"),
        ("other-model", "reference/pruned"),
        ("t20", "target/pruned"),
        ("r20", "reference/pruned"),
    ];
    for (name, fixture) in models {
        copy(&root().join("fixtures/imp").join(fixture), &dir.path(name));
    }
    std::fs::copy(root().join("fixtures/imp/target/unpruned.safetensors"), dir.path("unpruned.safetensors")).unwrap();
    // In the form of the published files, under their names.
    let benchmarks = root().join("fixtures/benchmarks");
    copy(&benchmarks.join("seat"), &dir.path("seat"));
    for (from, to) in [("crows_pairs.csv", "crows_pairs_anonymized.csv"), ("stereoset_test.json", "test.json")] {
        std::fs::copy(benchmarks.join(from), dir.path(to)).unwrap();
    }
    dir.write("heldout.txt", b"the nurse said that she was late .\nhe is an engineer , and she is a doctor .\n");
    dir
}

#[test]
fn every_command_line_in_the_documentation_runs() {
    let run = run_documentation(None, None);
    assert!(run >= 40, "only {run} command lines were run");
}

#[test]
#[cfg(feature = "net")]
fn every_command_line_that_asks_a_hub_does_too() {
    let [base, next] = [("alice/base", "target/pruned"), ("alice/next", "reference/pruned")].map(|(name, fixture)| {
        let folder = root().join("fixtures/imp").join(fixture);
        let files: Vec<_> =
            names(&folder).into_iter().map(|file| (file.clone(), std::fs::read(folder.join(&file)).unwrap())).collect();
        (name, files)
    });
    let [base, next] = [&base, &next].map(|(name, files)| {
        (*name, files.iter().map(|(file, bytes)| (file.as_str(), bytes.as_slice())).collect::<Vec<_>>())
    });
    let hub = hub::Hub::start(&[("--repo", base.0, &base.1), ("--repo", next.0, &next.1)]);
    let run = run_documentation(None, Some(&hub.environment()));
    assert!(run >= 47, "only {run} command lines were run");
}

#[test]
fn every_command_line_that_runs_a_model_does_too() {
    let run = run_documentation(Some(&runtime()), None);
    assert!(run >= 50, "only {run} command lines were run");
}

/// Runs every block, those that need a runtime or a hub only if there is one; returns how many command lines.
fn run_documentation(runtime: Option<&Path>, hub: Option<&[(&str, String)]>) -> usize {
    let bin = Path::new(env!("CARGO_BIN_EXE_lcepatch")).parent().unwrap();
    let path = std::env::join_paths(
        [bin.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    let mut run = 0;
    for document in documents() {
        let name = document.strip_prefix(root()).unwrap().display();
        let dir = scratch();
        for block in blocks(&std::fs::read_to_string(&document).unwrap()) {
            let is_left_out = block.marks.iter().any(|mark| match mark.as_str() {
                "needs-runtime" => runtime.is_none(),
                "needs-hub" => hub.is_none(),
                "needs-uv" | "needs-peft" | "needs-ray" | "not-run" => true,
                other => panic!("{name}: what is {other:?}?"),
            });
            if is_left_out {
                continue;
            }
            for (command, expected) in &block.commands {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", command])
                    .current_dir(dir.path(""))
                    .env("PATH", &path)
                    .env_remove("LCEPATCH_THREADS")
                    .env("LCEPATCH_CONFIG", "");
                runtime.map(|library| shell.env("ORT_DYLIB_PATH", library));
                shell.envs(hub.into_iter().flatten().map(|(name, value)| (*name, value)));
                let output = Run::new(command, shell.output().unwrap());
                // What ends with another exit code says so.
                let code = command.rsplit_once("# exit code ").map_or(0, |(_, code)| code.parse().unwrap());
                assert_eq!(output.code, Some(code), "{name}: {output:#?}");
                let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
                let shown = format!("{}{}", output.out, output.err);
                let shown: Vec<&str> = shown.lines().collect();
                assert!(
                    expected.is_empty() || matches(&expected, &shown),
                    "{name}: it prints\n{}\n{output:#?}",
                    shown.join("\n")
                );
                run += 1;
            }
        }
    }
    run
}

#[test]
fn every_flag_in_the_documentation_is_in_the_help() {
    let dir = Dir::new();
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for (command, _) in blocks(&text).into_iter().flat_map(|block| block.commands) {
            // As a word of its own: not the end of a patch's name.
            let command = format!(" {}", command.replace('\'', " "));
            // `-n lcepatch` is the namespace of ssh-keygen's signatures.
            for call in command.replace(" -n lcepatch", "").split(" lcepatch ").skip(1) {
                let call = call.split(['|', ';', '&', '#']).next().unwrap();
                let mut words = call.split_whitespace();
                let verb = words.next().unwrap().to_owned();
                if verb.starts_with('-') {
                    continue;
                }
                let help = help.entry(verb.clone()).or_insert_with(|| dir.run(&format!("{verb} --help")).ok().out);
                for flag in words.filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap();
                    let known = help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == flag)
                        || flag == "--cuda";
                    assert!(known, "{}: {verb} has no {flag}", document.display());
                }
            }
        }
    }
    assert!(help.len() >= 15, "{:?}", help.keys());
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let link = link.split('#').next().unwrap();
            if !link.is_empty() && !link.contains("://") {
                assert!(document.parent().unwrap().join(link).exists(), "{}: {link}", document.display());
            }
        }
    }
}

/// The paths of this repository that a text names: words that begin with one of its folders.
fn paths(text: &str) -> Vec<&str> {
    const FOLDERS: &[&str] = &["src/", "crates/", "tests/", "fixtures/", "spec/", "fuzz/", "benches/", "docs/"];
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    text.split(|c| !is_of_path(c))
        .map(|word| word.trim_end_matches(['.', '/', '-']))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .collect()
}

#[test]
fn every_path_in_the_documentation_exists() {
    let mut documents = documents();
    for name in
        ["fixtures/README.md", "tests/README.md", "benches/README.md", "spec/rationale.md", "spec/guarantees.md"]
    {
        documents.push(root().join(name));
    }
    let mut checked = 0;
    for document in documents {
        for path in paths(&std::fs::read_to_string(&document).unwrap()) {
            // Ignored files are made by whoever needs them.
            let exists = root().join(path).exists() || path.starts_with("fuzz/corpus");
            assert!(exists, "{}: {path}", document.display());
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
