//! Faults at every place: each call that changes the disk fails once, and the process dies once in front of each, for every command that
//! writes. Afterwards there is the old file or the new file, whole, or one command leads to either, and the message is true.
//!
//! The calls are counted by `LCEPATCH_FAULT`, which only debug builds know (`crates/files/src/durable/fault.rs`).
#![cfg(all(unix, debug_assertions))]

use crate::support::*;
use std::collections::BTreeMap;
use std::path::Path;

const CODES_OF_FAULTS: [i32; 3] = [3, 5, 10];
const KINDS: [&str; 8] = ["create", "lock", "write", "truncate", "sync", "permissions", "rename", "unlink"];

/// What a folder holds, by path: weights, logs and patches; not what killed processes leave.
type Content = BTreeMap<String, Vec<u8>>;

fn content(folder: &Path) -> Content {
    fn walk(folder: &Path, prefix: &str, into: &mut Content) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_name().to_string_lossy().starts_with(".lcepatch-") {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), into);
            } else if name != "lcepatch-log.json" && !name.ends_with("/lcepatch-log.json") {
                into.insert(name, std::fs::read(entry.path()).unwrap());
            } else {
                // The time of a step is of the run.
                let log: serde_json::Value = serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap();
                into.insert(name, format!("{} steps", log["steps"].as_array().unwrap().len()).into_bytes());
            }
        }
    }
    let mut into = Content::new();
    walk(folder, "", &mut into);
    into
}

/// A command that writes, on a model directory of two shards.
struct Case {
    name: &'static str,
    /// Run before, without faults.
    before: &'static [&'static str],
    command: &'static str,
    /// Whether weights are read-only, so that they are replaced.
    read_only: bool,
}

const CASES: [Case; 12] = [
    Case { name: "edit", before: &[], command: "apply model p --in-place --alpha -2", read_only: false },
    Case { name: "edit, undo elsewhere", before: &[], command: "apply model p --in-place --undo u", read_only: false },
    Case { name: "edit, no log", before: &[], command: "apply model p --in-place --no-log --quick", read_only: false },
    Case { name: "edit one file", before: &[], command: "apply one.safetensors p --in-place", read_only: false },
    Case { name: "replace", before: &[], command: "apply model p --in-place --alpha -2", read_only: true },
    Case { name: "replace all", before: &[], command: "apply model all --in-place", read_only: false },
    Case { name: "revert", before: &["apply model p --in-place"], command: "revert model", read_only: false },
    Case { name: "new directory", before: &[], command: "apply model p -o new", read_only: false },
    Case { name: "new file", before: &[], command: "apply one.safetensors p -o out --force", read_only: false },
    Case {
        name: "diff",
        before: &[],
        command: "diff one.safetensors two.safetensors -o p --all --force",
        read_only: false,
    },
    Case {
        name: "combine",
        before: &[],
        command: "combine p p:2 -o out --force --base one.safetensors",
        read_only: false,
    },
    Case { name: "mask", before: &[], command: "mask model --sparsity 10% -o m --pruned new", read_only: false },
];

fn prepared(case: &Case) -> Dir {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let (target, reference) = bert_pair();
    dir.write("one.safetensors", &safetensors(&target));
    dir.write("two.safetensors", &safetensors(&reference));
    dir.write("out", b"old");
    write_model(&dir, "model", &target);
    dir.run("diff one.safetensors two.safetensors -o p --density 10%").ok();
    dir.run("diff one.safetensors two.safetensors -o all --all").ok();
    case.before.iter().for_each(|command| drop(dir.run(command).ok()));
    if case.read_only {
        for shard in ["model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"] {
            std::fs::set_permissions(dir.path(shard), std::fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// Runs the case with a fault. None if the run ended before it was reached.
fn faulty(dir: &Dir, case: &Case, fault: &str) -> Option<Run> {
    let mut command = dir.command();
    command.args(case.command.split_whitespace()).env("LCEPATCH_FAULT", fault).env("LCEPATCH_THREADS", "2");
    // An abort writes no core.
    let run = Run::new(case.command, command.output().unwrap());
    assert!(!run.err.contains("panicked"), "{fault}: {run:?}");
    (run.code != Some(0)).then_some(run)
}

fn all_faults(what: &str, kinds: &[&str]) {
    let mut tried = 0;
    for case in &CASES {
        let original = prepared(case);
        let old = content(&original.path(""));
        let done = Dir::new();
        copy(&original.path(""), &done.path(""));
        done.run(case.command).ok();
        let new = content(&done.path(""));
        for kind in kinds {
            for at in 1.. {
                let fault = format!("{kind}:{at}:{what}");
                let dir = Dir::new();
                copy(&original.path(""), &dir.path(""));
                let Some(run) = faulty(&dir, case, &fault) else {
                    // Not reached, or something that is optional failed.
                    if at > 400 || !reaches(&dir, &original, case, &format!("{kind}:{at}:kill")) {
                        break;
                    }
                    assert_eq!(content(&dir.path("")), new, "{} {fault}", case.name);
                    continue;
                };
                tried += 1;
                let label = format!("{} {fault}: {run:?}", case.name);
                if let Some(code) = run.code {
                    assert!(CODES_OF_FAULTS.contains(&code), "{label}");
                }
                let journal = dir.exists("model/.lcepatch-journal") || dir.exists(".lcepatch-journal");
                if journal {
                    // Someone writes to the folder first.
                    for folder in ["", "model/"] {
                        run_here(&dir, &format!("mask two.safetensors --sparsity 10% -o {folder}y")).ok();
                        std::fs::remove_file(dir.path(&format!("{folder}y"))).unwrap();
                    }
                    let (model, refused) = match dir.exists("model/.lcepatch-journal") {
                        true => ("model", run_here(&dir, "status model")),
                        false => ("one.safetensors", run_here(&dir, "check p one.safetensors")),
                    };
                    refused.fails(5).says(&["was interrupted", "lcepatch recover"]);
                    if what == "error" {
                        assert!(run.err.contains("lcepatch recover"), "{label}");
                    }
                    run_here(&dir, &format!("recover {model}")).ok();
                }
                let now = content(&dir.path(""));
                let outputs_alone = |(name, bytes): (&String, &Vec<u8>)| {
                    // An undo patch or a mask may be there before the weights change.
                    old.get(name) == Some(bytes)
                        || (["u", "m"].contains(&name.as_str()) && new.get(name) == Some(bytes))
                };
                let is_old = now.iter().all(outputs_alone) && old.keys().all(|name| now.contains_key(name));
                let is_new = now == new;
                assert!(is_old || is_new, "{label}: neither old nor new: {:?}", differences(&now, &old, &new));
                if what == "error" && !journal {
                    // What the message says is true: of one of several outputs, or of the whole result.
                    let named = run.err.split_once("error: ").and_then(|(_, rest)| rest.split_once(" is in its place"));
                    match named.map(|(name, _)| (new.get(name), now.get(name))) {
                        Some((Some(expected), found)) => assert_eq!(found, Some(expected), "{label}"),
                        Some((None, _)) => assert!(is_new, "{label}"),
                        None => assert!(is_old, "{label}"),
                    }
                }
                // No process is left, so that the next write removes what this one left.
                for folder in ["", "model/"] {
                    run_here(&dir, &format!("diff two.safetensors one.safetensors -o {folder}x --all")).ok();
                    let left = names(&dir.path(folder)).into_iter().filter(|name| name.starts_with(".lcepatch-"));
                    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "{label}");
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} faults were reached");
    eprintln!("{tried} faults of kind {what}");
}

/// Runs a command where a process may have been killed, and left temporary files.
fn run_here(dir: &Dir, arguments: &str) -> Run {
    let output = dir.command().args(arguments.split_whitespace()).output().unwrap();
    Run::new(arguments, output)
}

/// Whether the case gets as far as to a call that would kill it.
fn reaches(_: &Dir, original: &Dir, case: &Case, fault: &str) -> bool {
    let dir = Dir::new();
    copy(&original.path(""), &dir.path(""));
    faulty(&dir, case, fault).is_some()
}

fn differences(now: &Content, old: &Content, new: &Content) -> Vec<String> {
    let names = now.keys().chain(old.keys()).chain(new.keys()).collect::<std::collections::BTreeSet<_>>();
    let state = |name: &&String| {
        let (is_old, is_new) = (now.get(*name) == old.get(*name), now.get(*name) == new.get(*name));
        format!(
            "{name}: {}",
            match (is_old, is_new) {
                (true, true) => "same",
                (true, false) => "old",
                (false, true) => "new",
                _ => "neither",
            }
        )
    };
    names.iter().map(state).filter(|text| !text.ends_with("same")).collect()
}

#[test]
fn every_call_may_fail() {
    all_faults("error", &KINDS);
}

#[test]
fn the_process_may_die_anywhere() {
    all_faults("kill", &["any"]);
}

/// The command and `recover` are killed by the system, at any time.
#[test]
fn real_kills_lose_nothing() {
    let rounds = std::env::var("LCEPATCH_KILLS").map_or(50, |rounds| rounds.parse().unwrap());
    let mut random = Random::new(7);
    let mut interrupted = 0;
    for round in 0..rounds {
        let case = &CASES[round % 8];
        let original = prepared(case);
        let old = content(&original.path(""));
        let done = Dir::new();
        copy(&original.path(""), &done.path(""));
        let start = std::time::Instant::now();
        done.run(case.command).ok();
        let took = start.elapsed().as_micros() as f64;
        let new = content(&done.path(""));
        let kill = |arguments: &str, after: f64| {
            let mut child = original.command();
            child
                .args(arguments.split_whitespace())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let mut child = child.spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(after as u64));
            child.kill().unwrap();
            child.wait().unwrap();
        };
        kill(case.command, took * f64::from(random.unit().abs()));
        while original.exists("model/.lcepatch-journal") || original.exists(".lcepatch-journal") {
            interrupted += 1;
            let model = if original.exists("model/.lcepatch-journal") { "model" } else { "one.safetensors" };
            if random.unit() > 0.0 {
                kill(&format!("recover {model}"), 5000.0 * f64::from(random.unit().abs()));
            } else {
                run_here(&original, &format!("recover {model}")).ok();
            }
        }
        let now = content(&original.path(""));
        let old_outputs =
            now.iter().all(|(name, bytes)| old.get(name) == Some(bytes) || ["u", "m"].contains(&name.as_str()));
        assert!(
            now == new || old_outputs && old.keys().all(|name| now.contains_key(name)),
            "round {round}, {}: {:?}",
            case.name,
            differences(&now, &old, &new)
        );
    }
    eprintln!("{rounds} kills, {interrupted} recoveries begun");
}
