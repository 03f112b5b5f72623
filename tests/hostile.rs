//! `fixtures/hostile`, by discovery: files that are small and would cost a lot. What a file costs follows from its size.

use crate::support::*;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What a hostile file may take more than an honest one: memory of one thread, and time of all. Builds for tests are slower.
const BYTES_MAX: u64 = 100_000_000;
const CPU_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 });

/// What a process took.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    bytes: u64,
    cpu: Duration,
}

/// What `child` has taken so far, as Linux tells it.
fn cost(child: &Child) -> Option<Cost> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).ok();
    let status = read("status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.to_owned();
    let stat = read("stat")?;
    // Behind the name in parentheses: user and system time are the 12th and 13th, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
    Some(Cost { bytes: peak.parse::<u64>().ok()? * 1024, cpu: Duration::from_millis(ticks * 10) })
}

/// Runs `lcepatch` with one thread and watches it; one that takes far too long is stopped. Each further thread that decodes blocks
/// takes the memory of a block more, up to 70 MB.
fn watched(dir: &Dir, arguments: &str) -> (Run, Cost) {
    let mut command = dir.command();
    command.args(arguments.split_whitespace()).env("LCEPATCH_THREADS", "1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Read, so that it never waits for us.
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let (started, mut most) = (Instant::now(), Cost::default());
    while child.try_wait().unwrap().is_none() {
        most = cost(&child).unwrap_or(most);
        if most.cpu > 4 * CPU_MAX || most.bytes > 20 * BYTES_MAX || started.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    reader.join().unwrap().unwrap();
    (Run::new(arguments, child.wait_with_output().unwrap()), most)
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_costs_what_its_size_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    // Beside NAME.json lies NAME.KIND, where the kind may end in `.json` too.
    let mut cases = names(&root.join("hostile"));
    cases.retain(|name| name.ends_with(".json") && name.matches('.').count() == 1);
    assert!(cases.len() >= 10, "only {cases:?}");
    let honest = root.join("vectors/v1/accept_worked_example.lcepatch");
    let (run, usual) = watched(&Dir::new(), &format!("check {}", honest.display()));
    run.ok();
    let mut failures = Vec::new();
    for name in cases {
        let case: Value = serde_json::from_slice(&std::fs::read(root.join("hostile").join(&name)).unwrap()).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        let file = root.join("hostile").join(text("file"));
        let dir = Dir::new();
        if text("command").starts_with("verify") && !cfg!(feature = "verify") {
            continue;
        }
        if let Some(model) = case["model"].as_str() {
            for name in names(&root.join(model)) {
                dir.write(&format!("model/{name}"), &std::fs::read(root.join(model).join(&name)).unwrap());
            }
            let place = text("file").split_once('.').unwrap().1;
            dir.write(&format!("model/{place}"), &std::fs::read(&file).unwrap());
        }
        let command = text("command").replace("FILE", file.to_str().unwrap()).replace("MODEL", "model");
        let (run, cost) = watched(&dir, &command);
        println!("{name}: {cost:?}");
        let ended = run.code == case["exit"].as_i64().map(|code| code as i32) && run.err.contains(text("says"));
        let cheap = cost.bytes <= usual.bytes + BYTES_MAX && cost.cpu <= usual.cpu + CPU_MAX;
        if !ended || !cheap {
            failures.push(format!("{name}: {cost:?} {run:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
