//! One cache with `huggingface_hub`, in both orders; and what both understand of names and settings.

use crate::support::hub::{Asks, Hub, local, noise, repo};
use crate::support::python_with_hub;
use lcepatch_files::context::Context;
use lcepatch_hub::name::Name;
use lcepatch_hub::notice::Notice;
use lcepatch_hub::place::repository::{Absent, Repository};
use lcepatch_hub::place::{Content, NewFile, Place};
use lcepatch_hub::settings::Settings;
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Duration;

const IMPORTS: &str = "import huggingface_hub as hub, json, sys\nfrom huggingface_hub import constants\n";

fn hub() -> (Hub, Vec<u8>) {
    let weights = noise(2_000_000, 5);
    let files: &[(&str, &[u8])] =
        &[("config.json", b"{}"), ("model.safetensors", &weights), ("sub/vocab.txt", b"a\nb\n")];
    (Hub::start(&[("--repo", "alice/base", files)]), weights)
}

/// A Python that uses the hub and its cache, without variables of whoever runs the tests.
fn python(hub: &Hub, code: &str) -> Command {
    let mut command = Command::new(python_with_hub());
    for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN_PATH"]
    {
        command.env_remove(variable);
    }
    command.envs(hub.environment()).args(["-c", &format!("{IMPORTS}{code}")]);
    command
}

/// What a Python program prints as JSON.
#[track_caller]
fn asked(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn python_reads_offline_what_was_fetched_here_and_finds_it_whole() {
    let (hub, weights) = hub();
    let client = hub.client();
    let folder =
        client.fetched("alice/base", &["config.json", "model.safetensors", "sub/vocab.txt", ".gitattributes"]).unwrap();
    hub.clear_log();
    let code = "print(json.dumps([hub.snapshot_download('alice/base'), hub.hf_hub_download('alice/base', 'model.safetensors')]))";
    let mut offline = python(&hub, code);
    offline.env("HF_HUB_OFFLINE", "1");
    assert_eq!(asked(offline), json!([folder, folder.join("model.safetensors")]));
    assert!(hub.log().is_empty());
    // Online, it asks, and downloads nothing.
    let online = asked(python(&hub, "print(json.dumps(hub.snapshot_download('alice/base')))"));
    assert_eq!(online, json!(folder));
    assert!(hub.log().iter().all(|entry| entry["origin"] == "hub"));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let mut verify = Command::new(python_with_hub().with_file_name("hf"));
    verify.envs(hub.environment()).args(["cache", "verify", "alice/base"]);
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_python_fetched_is_used_here() {
    let (hub, weights) = hub();
    let folder = asked(python(&hub, "print(json.dumps(hub.snapshot_download('alice/base')))"));
    hub.clear_log();
    let here = hub.client().fetched("alice/base", &["config.json", "model.safetensors", "sub/vocab.txt"]).unwrap();
    assert_eq!(folder, json!(here));
    assert_eq!(std::fs::read(here.join("model.safetensors")).unwrap(), weights);
    assert_eq!(hub.requests().0, ["hub GET /api/models/alice/base/tree/main"]);
    let offline = hub.client_with(|settings| settings.offline = true);
    assert_eq!(offline.fetched("alice/base", &["model.safetensors"]).unwrap(), here);
    // A content that all repositories of the cache share is a link to it.
    let blob = here.join("model.safetensors").canonicalize().unwrap();
    let shared = hub.dir.path("home/hub/blobs/xx/shared");
    std::fs::create_dir_all(shared.parent().unwrap()).unwrap();
    std::fs::rename(&blob, &shared).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("../../blobs/xx/shared", &blob).unwrap();
    #[cfg(unix)]
    assert_eq!(hub.client().fetched("alice/base", &["model.safetensors"]).unwrap(), here);
    let mut of_cdn = hub.log();
    of_cdn.retain(|entry| entry["origin"] == "cdn");
    assert!(of_cdn.is_empty());
}

#[test]
fn a_python_that_downloads_is_waited_for() {
    let (hub, _) = hub();
    // Holds the lock as a download does, until its input ends.
    let snapshot = hub.client().opened("alice/base").unwrap();
    let digest = snapshot.file("model.safetensors").unwrap().digest.as_ref().unwrap().hex();
    let lock = hub.dir.path(&format!("home/hub/.locks/models--alice--base/{digest}.lock"));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let code = format!(
        "from huggingface_hub.utils import WeakFileLock\nwith WeakFileLock({lock:?}):\n print(1, flush=True)\n sys.stdin.read()"
    );
    let mut holder = python(&hub, &code).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| hub.client().fetched("alice/base", &["model.safetensors"]).map(drop));
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!waiting.is_finished());
        drop(holder.stdin.take());
        waiting.join().unwrap().unwrap();
    });
    let process = holder.id();
    holder.wait().unwrap();
    let notices = hub.notices.lock().unwrap();
    let expected = cfg!(target_os = "linux").then_some(process);
    assert!(
        matches!(notices.as_slice(), [Notice::WaitsForLock { process, .. }] if *process == expected),
        "{notices:?}"
    );
}

#[test]
fn python_reads_what_was_published_here_and_the_other_way_round() {
    let (hub, weights) = hub();
    let path = hub.dir.write("p.lcepatch", &weights);
    let attributes = Content::Bytes(b"*.lcepatch filter=lfs diff=lcepatch merge=lfs -text\n".to_vec());
    let files = [
        NewFile { path: ".gitattributes".into(), content: attributes },
        NewFile { path: "p.lcepatch".into(), content: Content::File(local(path)) },
        NewFile {
            path: "README.md".into(),
            content: Content::Bytes(b"---\ntags:\n- lcepatch\n---\n# Patches".to_vec()),
        },
    ];
    let open = || {
        Repository::open(&hub.client(), &repo("alice/patches"), Absent::Create { private: false }, &Context::silent())
            .unwrap()
    };
    open().publish(&files, "Patches", &Context::silent()).unwrap();
    let code = "api = hub.HfApi()\n\
        names = sorted(api.list_repo_files('alice/patches'))\n\
        size = len(open(hub.hf_hub_download('alice/patches', 'p.lcepatch'), 'rb').read())\n\
        tags = hub.ModelCard.load('alice/patches').data.tags\n\
        api.upload_file(path_or_fileobj=b'from python', path_in_repo='p.txt', repo_id='alice/patches')\n\
        print(json.dumps([names, size, tags]))";
    let expected = json!([[".gitattributes", "README.md", "p.lcepatch"], weights.len(), ["lcepatch"]]);
    assert_eq!(asked(python(&hub, code)), expected);
    assert_eq!(open().read("p.txt", 100, &Context::silent()).unwrap(), b"from python");
}

#[test]
fn names_mean_the_same() {
    let (hub, _) = hub();
    let names = [
        "hf://alice/base",
        "hf://models/alice/base",
        "hf://alice/base@v1",
        "hf://alice/base@refs/pr/3",
        "hf://alice/base@refs/pr/3/a/b",
        "hf://alice/base@feature%2Fx/a",
        "hf://alice/base/a/b.json",
        "hf://alice/base@v1/a",
        "https://huggingface.co/alice/base",
        "https://huggingface.co/alice/base/tree/main",
        "https://huggingface.co/alice/base/blob/v1/a%20b/c.json",
        "https://huggingface.co/alice/base/resolve/refs/pr/1/c?download=true",
        "huggingface.co/alice/base/raw/main/x",
        "https://hf.co/alice/base",
        "hf://alice",
        "hf://alice/ba--se",
        "hf://alice/base.git",
        "hf://alice/-base",
        "https://huggingface.co/alice",
        "https://huggingface.co/alice/base/discussions",
        "hf://alice/base//a",
        "hf://",
    ];
    let code = "out = []\n\
        for name in json.loads(sys.argv[1]):\n \
            try:\n  uri = hub.parse_hf_uri(name); out.append([uri.id, uri.revision, uri.path_in_repo])\n \
            except Exception: out.append(None)\n\
        print(json.dumps(out))";
    let mut command = python(&hub, code);
    command.arg(json!(names).to_string());
    let theirs = asked(command);
    let settings = Settings::from_variables(|_| None).unwrap();
    for (name, theirs) in names.iter().zip(theirs.as_array().unwrap()) {
        let ours = match Name::parse(name, &settings) {
            Ok(Name::Hub(name)) => json!([name.id, name.revision, name.path.unwrap_or_default()]),
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => Value::Null,
        };
        assert_eq!(ours, *theirs, "{name}");
    }
}

#[test]
fn settings_are_read_alike() {
    let (hub, _) = hub();
    let home = hub.dir.write("h/token", b" hf_of_a_file\n");
    let home = home.parent().unwrap().to_str().unwrap();
    let code = "print(json.dumps([constants.ENDPOINT, constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_SYMLINKS, \
        constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT, hub.get_token()]))";
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("HF_HOME", home)],
        &[("HF_HOME", "~/x/$LOGNAME/${NOT_SET_AT_ALL}"), ("LOGNAME", "me")],
        &[("XDG_CACHE_HOME", "/nowhere/x"), ("HF_TOKEN", " hf_a\n")],
        &[("HF_HUB_CACHE", "/nowhere/c"), ("HUGGINGFACE_HUB_CACHE", "/nowhere/d")],
        &[("HUGGINGFACE_HUB_CACHE", "/nowhere/d"), ("HUGGING_FACE_HUB_TOKEN", "hf_old")],
        &[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_DISABLE_SYMLINKS", "yes")],
        &[("TRANSFORMERS_OFFLINE", "ON"), ("HF_HUB_ETAG_TIMEOUT", "3"), ("HF_HUB_DOWNLOAD_TIMEOUT", "0")],
        &[("HF_ENDPOINT", "https://hub.example/hf//"), ("HF_TOKEN_PATH", "/nowhere/token")],
    ];
    for case in cases {
        let mut command = Command::new(python_with_hub());
        command
            .env_clear()
            .env("HOME", "/nowhere/home")
            .envs(case.iter().copied())
            .args(["-c", &format!("{IMPORTS}{code}")]);
        let all = [case, &[("HOME", "/nowhere/home")][..]].concat();
        let get = |name: &str| all.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        let ours = Settings::from_variables(get).unwrap();
        let [answer, read] = [ours.answer_timeout, ours.read_timeout].map(|time| time.as_secs());
        let theirs = asked(command);
        let token = theirs[6].as_str().map(|token| lcepatch_hub::settings::Token::new(token).unwrap());
        assert_eq!(
            json!([ours.endpoint, ours.cache, ours.offline, !ours.symlinks, answer, read]),
            json!(theirs.as_array().unwrap()[..6]),
            "{case:?}"
        );
        assert!(ours.token == token, "{case:?}");
    }
}
