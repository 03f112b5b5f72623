//! Files that are fetched into the cache.

use crate::support::hub::{Asks, Hub, TOKEN, noise, repo};
use lcepatch_files::context::{Context, Progress, Silent};
use lcepatch_hub::settings::Settings;
use lcepatch_hub::{Client, Fault, Kind, checkpoint_files};
use serde_json::json;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const BYTES: usize = 3_000_000;

/// A hub with a checkpoint, and its weights.
fn hub() -> (Hub, Vec<u8>) {
    let weights = noise(BYTES, 2);
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{\"model_type\": \"none\"}"),
        ("model.safetensors", &weights),
        ("1_Pooling/config.json", b"{}"),
        ("pytorch_model.bin", b"never"),
        ("README.md", b"# A model"),
    ];
    (Hub::start(&[("--repo", "alice/base", files)]), weights)
}

/// Fetches what `LCEPATCH_TEST_FETCH` names, as a process that a test can end.
pub fn fetch_alone(name: &str) -> ExitCode {
    let client = Client::new(Settings::from_environment().unwrap());
    let fetched = client.fetched(name, &["model.safetensors"]);
    if fetched.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything below a folder that is no complete file of the cache.
fn leftovers(folder: &Path) -> Vec<String> {
    crate::support::names(&folder.join("blobs")).into_iter().filter(|name| name.contains('.')).collect()
}

#[test]
fn a_checkpoint_is_fetched_as_python_would_keep_it() {
    let (hub, weights) = hub();
    let client = hub.client();
    let snapshot = client.opened("alice/base").unwrap();
    let paths: Vec<&str> = checkpoint_files(&snapshot.files, "").iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["1_Pooling/config.json", "config.json", "model.safetensors"]);
    let folder = snapshot.fetch(&client, &paths, &Context::silent()).unwrap();
    let cached = hub.cached("alice/base");
    assert_eq!(folder, cached.join("snapshots").join(&snapshot.commit));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let sha256 = snapshot.file("model.safetensors").unwrap().digest.as_ref().unwrap().hex();
    assert_eq!(folder.join("model.safetensors").read_link().unwrap(), Path::new("../../blobs").join(sha256));
    let inner = folder.join("1_Pooling/config.json").read_link().unwrap();
    assert!(inner.starts_with("../../../blobs"), "{inner:?}");
    assert_eq!(std::fs::read_to_string(cached.join("refs/main")).unwrap(), snapshot.commit);
    assert_eq!(leftovers(&cached), Vec::<String>::new());
    // Once more: only the listing is asked for.
    hub.clear_log();
    client.fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(hub.requests().0, ["hub GET /api/models/alice/base/tree/main"]);
    // By its commit nothing is.
    hub.clear_log();
    client.fetched(&format!("alice/base@{}", snapshot.commit), &["model.safetensors"]).unwrap();
    assert!(hub.log().is_empty());
}

#[test]
fn offline_the_cache_is_enough_and_no_socket_is_opened() {
    let (hub, weights) = hub();
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    hub.clear_log();
    let offline = hub.client_with(|settings| settings.offline = true);
    assert_eq!(offline.fetched("alice/base", &["model.safetensors"]).unwrap(), folder);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let fault = offline.fetched("alice/base", &["config.json"]).unwrap_err();
    assert!(matches!(&fault, Fault::Offline { what, .. } if what.ends_with("/config.json")), "{fault:?}");
    assert!(matches!(offline.opened("alice/other"), Err(Fault::Offline { .. })));
    assert!(matches!(offline.opened("alice/base@v1"), Err(Fault::Offline { .. })));
    // Also where no listing was kept, as by an older program.
    std::fs::remove_dir_all(hub.cached("alice/base").join("trees")).unwrap();
    assert_eq!(offline.opened("alice/base").unwrap().files.len(), 1);
    assert!(hub.log().is_empty());
}

#[test]
fn a_listing_of_several_pages_is_read_to_its_end() {
    let names: Vec<String> = (0..7).map(|i| format!("f{i}.json")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"{}"[..])).collect();
    let hub = Hub::with(&[("--repo", "alice/many", &files)], &["--page", "3"]);
    let snapshot = hub.client().opened("alice/many").unwrap();
    assert_eq!(snapshot.files.len(), 8, "with .gitattributes");
    assert_eq!(hub.log().len(), 3);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    snapshot.fetch(&hub.client_with(|settings| settings.parallel = 8), &all, &Context::silent()).unwrap();
}

#[test]
fn a_cut_download_continues_in_the_call_and_over_calls() {
    let (hub, weights) = hub();
    hub.fault(json!({"path": "/object/", "cut_after": 1_000_000}));
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let (_, sent) = hub.requests();
    assert!(sent < BYTES as u64 + 100_000, "no byte twice: {sent}");
    // Cut, and then the hub fails until the call gives up.
    let (hub, weights) = self::hub();
    hub.fault(json!({"path": "/object/", "cut_after": 1_000_000}));
    hub.fault(json!({"path": "/object/", "status": 503, "times": 6}));
    assert!(matches!(hub.client().fetched("alice/base", &["model.safetensors"]), Err(Fault::Server { .. })));
    let cached = hub.cached("alice/base");
    assert_eq!(leftovers(&cached).len(), 1);
    hub.clear_log();
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let ranges: Vec<_> = hub.log().iter().filter_map(|entry| entry["range"].as_str().map(str::to_owned)).collect();
    assert!(!ranges.is_empty() && ranges.iter().all(|range| range == "bytes=1000000-"), "{ranges:?}");
    assert_eq!(leftovers(&cached), Vec::<String>::new());
}

#[test]
fn a_rest_that_cannot_be_continued_is_fetched_from_the_beginning() {
    let (hub, weights) = hub();
    hub.fault(json!({"path": "/object/", "cut_after": 1_000_000}));
    hub.fault(json!({"path": "/object/", "ignore_range": true}));
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_flipped_bit_is_fetched_again_and_twice_it_is_a_fault() {
    let (hub, weights) = hub();
    hub.fault(json!({"path": "/object/", "corrupt": true}));
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let (hub, _) = self::hub();
    hub.fault(json!({"path": "/object/", "corrupt": true, "times": 2}));
    // A small file has a digest of another kind.
    hub.fault(json!({"path": "/resolve/.*/config.json", "corrupt": true, "times": 2}));
    for file in ["model.safetensors", "config.json"] {
        let fault = hub.client().fetched("alice/base", &[file]).unwrap_err();
        let snapshot = hub.client().opened("alice/base").unwrap();
        let right = snapshot.file(file).unwrap().digest.as_ref().unwrap().hex();
        assert!(
            matches!(&fault, Fault::Digest { expected, found, .. } if expected == right && found != right),
            "{fault:?}"
        );
        assert_eq!(fault.kind(), Kind::Network);
    }
    let cached = hub.cached("alice/base");
    assert_eq!(crate::support::names(&cached.join("blobs")), Vec::<String>::new(), "nothing damaged is stored");
    assert!(!cached.join("snapshots").exists());
}

#[test]
fn damage_of_what_an_earlier_call_left_is_noticed() {
    let (hub, weights) = hub();
    let snapshot = hub.client().opened("alice/base").unwrap();
    let blobs = hub.cached("alice/base").join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let sha256 = snapshot.file("model.safetensors").unwrap().digest.as_ref().unwrap().hex();
    let partial = blobs.join(format!("{sha256}.lcepatch.incomplete"));
    for left in [vec![0; 5000], vec![0; BYTES], vec![0; BYTES + 1]] {
        std::fs::write(&partial, left).unwrap();
        let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
        std::fs::remove_file(blobs.join(sha256)).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_is_continued_where_it_was() {
    let (hub, weights) = hub();
    // The first answer ends after a third, and the second does not begin before the process is dead.
    hub.fault(json!({"path": "/object/", "cut_after": 1_000_000}));
    hub.fault(json!({"path": "/object/", "delay": 60}));
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.envs(hub.environment()).env("LCEPATCH_TEST_FETCH", "alice/base").spawn().unwrap();
    let blobs = hub.cached("alice/base").join("blobs");
    let partial = || {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).max()
    };
    for _ in 0..600 {
        if partial() == Some(1_000_000) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(partial(), Some(1_000_000));
    hub.clear_log();
    let folder = hub.client().fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let sent = hub.requests().1;
    assert!(sent < BYTES as u64 - 900_000, "what was here was not sent again: {sent}");
}

/// Asks to stop after some bytes.
struct StopAfter(AtomicU64, AtomicBool);

impl Progress for StopAfter {
    fn begin(&self, _: &str, _: u64) {}
    fn count(&self, _: &str, _: u64) {}
    fn advance(&self, done: u64) {
        if self.0.fetch_add(done, Ordering::Relaxed) + done > 500_000 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn who_stops_a_download_continues_it_later() {
    let (hub, _) = hub();
    let client = hub.client();
    let snapshot = client.opened("alice/base").unwrap();
    let stop = StopAfter(AtomicU64::new(0), AtomicBool::new(false));
    let fault = snapshot.fetch(&client, &["model.safetensors"], &Context::new(&stop, &stop.1)).unwrap_err();
    assert_eq!(fault.kind(), Kind::Interrupted);
    assert_eq!(leftovers(&hub.cached("alice/base")).len(), 1);
    let counted = StopAfter(AtomicU64::new(0), AtomicBool::new(false));
    snapshot.fetch(&client, &["model.safetensors"], &Context::new(&counted, &AtomicBool::new(false))).unwrap();
    assert_eq!(counted.0.into_inner(), BYTES as u64, "each byte is counted once");
    let cancelled = AtomicBool::new(true);
    assert!(matches!(client.open(&repo("alice/base"), &Context::new(&Silent, &cancelled)), Err(Fault::Cancelled)));
}

#[test]
fn two_at_once_download_once() {
    let (hub, _) = hub();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| hub.client().fetched("alice/base", &["model.safetensors"]).unwrap());
        }
    });
    let of_cdn = hub.log().iter().filter(|entry| entry["origin"] == "cdn").count();
    assert_eq!(of_cdn, 1);
}

#[test]
fn more_than_the_disk_holds_is_not_begun() {
    let (hub, _) = hub();
    let client = hub.client();
    let mut snapshot = client.opened("alice/base").unwrap();
    for file in &mut snapshot.files {
        file.bytes = 1 << 60;
    }
    hub.clear_log();
    let fault = snapshot.fetch(&client, &["model.safetensors"], &Context::silent()).unwrap_err();
    assert!(matches!(fault, Fault::DiskFull { needed, free, .. } if needed == 1 << 60 && free < needed), "{fault:?}");
    assert!(hub.log().is_empty());
}

#[test]
fn without_links_the_files_are_in_the_snapshot() {
    let (hub, weights) = hub();
    let client = hub.client_with(|settings| settings.symlinks = false);
    let folder = client.fetched("alice/base", &["model.safetensors"]).unwrap();
    assert!(folder.join("model.safetensors").symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    hub.clear_log();
    client.fetched("alice/base", &["model.safetensors"]).unwrap();
    assert_eq!(hub.log().len(), 1);
}

#[test]
fn nothing_in_the_cache_holds_the_token() {
    fn walk(folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "{path:?}");
            }
        }
    }
    let (hub, _) = hub();
    hub.client().fetched("alice/base", &["config.json", "README.md"]).unwrap();
    walk(&hub.dir.path("home"));
}
