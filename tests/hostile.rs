//! `fixtures/hostile`, by discovery: files that are small and would cost a lot. What a file costs follows from its size.

use crate::support::*;
use serde_json::Value;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What a hostile file may take more than an honest one: memory, and processor time. The most, 82 MB, is taken by two patches with as many
/// objects in their metadata as readers take. Builds for tests are slower.
const BYTES_MAX: u64 = 100_000_000;
const CPU_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 3 });

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

/// Runs `lcepatch` and watches it; one that takes far too long is stopped.
fn watched(dir: &Dir, arguments: &str, threads: &str) -> (Run, Cost) {
    let mut command = dir.command();
    command.args(arguments.split_whitespace()).env("LCEPATCH_THREADS", threads);
    if needs_runtime(arguments) {
        command.env("ORT_DYLIB_PATH", runtime());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Read, so that it never waits for us.
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let err = std::thread::spawn(move || std::io::read_to_string(&mut err));
    let (started, mut most) = (Instant::now(), Cost::default());
    while child.try_wait().unwrap().is_none() {
        most = cost(&child).unwrap_or(most);
        if most.cpu > 4 * CPU_MAX || most.bytes > 20 * BYTES_MAX || started.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    out.join().unwrap().unwrap();
    let mut run = Run::new(arguments, child.wait_with_output().unwrap());
    run.err = err.join().unwrap().unwrap();
    (run, most)
}

fn needs_runtime(arguments: &str) -> bool {
    ["verify", "ask", "sweep"].iter().any(|verb| arguments.starts_with(verb))
}

/// The honest files that hostile ones lie among.
fn honest() -> Dir {
    let dir = Dir::new();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let bytes = std::fs::read(fixture("models/bert").join(name)).unwrap();
        let mut other = bytes.clone();
        let (shard, words) = match name {
            "model.safetensors" => {
                let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                other[data..].chunks_exact_mut(4).for_each(|weight| weight[2] ^= 1);
                ("a.safetensors", name)
            }
            "tokenizer.json" => (name, "vocab.txt"),
            _ => (name, name),
        };
        dir.write(&format!("model/{name}"), &bytes);
        dir.write(&format!("other/{name}"), &other);
        dir.write(&format!("sharded/{shard}"), &bytes);
        let text = if words == "vocab.txt" { vocabulary(&bytes) } else { bytes };
        dir.write(&format!("vocabulary/{words}"), &text);
    }
    for (name, from) in [
        ("crows.csv", "benchmarks/crows_pairs.csv"),
        ("stereoset.json", "benchmarks/stereoset_dev.json"),
        ("text", "reference/text.txt"),
    ] {
        dir.write(name, &std::fs::read(fixture(from)).unwrap());
    }
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32])), "").unwrap();
    dir.write("key", key.to_openssh(LineEnding::LF).unwrap().as_bytes());
    dir.write("list", format!("a@b {}\n", key.public_key().to_openssh().unwrap()).as_bytes());
    for command in [
        "diff model other -o honest.lcepatch --density 5% --portable",
        "sign honest.lcepatch --key key",
        "apply model honest.lcepatch -o edited",
        "diff model other --all --shard 2/2 -o 2.part",
        "diff model other --density 5% --shard 2/2 -o 2.ranks",
        "mask model --sparsity 10% -o mask.safetensors",
    ] {
        dir.run(command).ok();
    }
    dir
}

/// The words of a `tokenizer.json`, as BERT's first files have them.
fn vocabulary(tokenizer: &[u8]) -> Vec<u8> {
    let json: Value = serde_json::from_slice(tokenizer).unwrap();
    let ids =
        json["model"]["vocab"].as_object().unwrap().iter().map(|(word, id)| (id.as_u64().unwrap(), word.as_str()));
    ids.collect::<BTreeMap<_, _>>().into_values().flat_map(|word| [word, "\n"]).collect::<String>().into_bytes()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { copy(&from, &to) } else { _ = std::fs::copy(from, to).unwrap() }
    }
}

/// The name of the undo patch in a model directory.
fn undo(model: &Path) -> String {
    names(model).into_iter().find(|name| name.starts_with("lcepatch-undo-")).unwrap()
}

/// Runs every command on every hostile file whose name `chosen` lets through, with so many threads.
fn walk(threads: &str, chosen: impl Fn(&str) -> bool) {
    let (folder, honest) = (fixture("hostile"), honest());
    let cases: Vec<String> =
        names(&folder).into_iter().filter(|name| name.ends_with(".json") && chosen(name)).collect();
    // What each verb takes of honest files.
    let usual = |command: &str| match command.split_once(' ').unwrap().0 {
        "verify" => "verify model --patch honest.lcepatch --weat 6",
        "ask" => "ask model a[MASK] --patch honest.lcepatch",
        "sweep" => "sweep model other -o usual --weat 6 --alpha 1 --edit ip --strategies value",
        _ => "check honest.lcepatch model",
    };
    let mut costs: BTreeMap<&str, Cost> = BTreeMap::new();
    let mut failures = Vec::new();
    for name in &cases {
        let case: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        let packed = std::fs::read(folder.join(name.replace(".json", ".zst"))).unwrap();
        let bytes = zstd::bulk::decompress(&packed, case["bytes"].as_u64().unwrap() as usize).unwrap();
        for run in case["runs"].as_array().unwrap() {
            let command = run["command"].as_str().unwrap();
            let measures = needs_runtime(command) || command.starts_with("report") || command.starts_with("export");
            if measures && !cfg!(feature = "verify") {
                continue;
            }
            let dir = Dir::new();
            copy(&honest.path(""), &dir.path(""));
            let undo = undo(&dir.path("edited"));
            let command = command.replace("UNDO", &undo);
            let honest = usual(&command);
            let usual = *costs.entry(honest).or_insert_with(|| {
                let (run, cost) = watched(&dir, honest, threads);
                run.ok();
                cost
            });
            dir.write(&case["place"].as_str().unwrap().replace("UNDO", &undo), &bytes);
            let (ended, cost) = watched(&dir, &command, threads);
            println!("{name}: {command}: {cost:?} {:?}", ended.code);
            let expected = run["exit"].as_i64().map(|code| code as i32);
            let right = ended.code == expected && ended.err.contains(run["says"].as_str().unwrap());
            let cheap = cost.bytes <= usual.bytes + BYTES_MAX && cost.cpu <= usual.cpu + CPU_MAX;
            let left: Vec<String> = dir.names().into_iter().filter(|name| name.starts_with(".lcepatch-")).collect();
            if !right || !cheap || !left.is_empty() || ended.err.contains("panicked") {
                let said: String = ended.err.chars().take(500).collect();
                failures.push(format!("{name}: {command}: {cost:?}, {:?}, left {left:?}: {said}", ended.code));
            }
        }
    }
    assert!(!cases.is_empty() && failures.is_empty(), "{failures:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_costs_what_its_size_says() {
    walk("1", |_| true);
}

#[test]
#[cfg(target_os = "linux")]
fn a_patch_costs_no_more_memory_on_many_threads() {
    walk("16", |name| name.starts_with("patch_of_"));
}
