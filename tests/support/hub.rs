//! A model hub on loopback, `hubserver.py`, and clients of it.

use super::{Dir, missing};
use lcepatch_files::context::Context;
use lcepatch_hub::name::RepoName;
use lcepatch_hub::notice::{Notice, Notify};
use lcepatch_hub::place::LocalFile;
use lcepatch_hub::request::{Method, Request};
use lcepatch_hub::settings::Settings;
use lcepatch_hub::{Client, Fault, RemoteFile, Snapshot};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The token of `alice`, who owns what is under her name.
pub const TOKEN: &str = "hf_alice_secret";

/// How a repository is given to the server (`--repo`, `--private` or `--gated`), its name, and its files.
pub type Repository<'a> = (&'a str, &'a str, &'a [(&'a str, &'a [u8])]);

/// A hub that runs until the value is dropped, with a cache of its own.
pub struct Hub {
    server: Child,
    pub endpoint: String,
    pub dir: Dir,
    /// What clients of it said while they waited.
    pub notices: Arc<Mutex<Vec<Notice>>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Hub {
    /// Starts a hub with repositories. A test that asks for it is ignored where there is no Python.
    pub fn start(repositories: &[Repository]) -> Self {
        Self::with(repositories, &[])
    }

    /// As [`Hub::start`], with further arguments of the server.
    pub fn with(repositories: &[Repository], arguments: &[&str]) -> Self {
        let dir = Dir::new();
        let mut command = Command::new("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/hubserver.py"));
        command.args(["--token", &format!("{TOKEN}=alice"), "--token", "hf_bob_secret=bob"]).args(arguments);
        for (kind, id, files) in repositories {
            std::fs::create_dir_all(dir.path(&format!("hub/{id}"))).unwrap();
            for (path, bytes) in *files {
                dir.write(&format!("hub/{id}/{path}"), bytes);
            }
            command.args([kind, format!("{id}={}", dir.path(&format!("hub/{id}")).display()).as_str()]);
        }
        // Its errors are of clients that close their connections. It ends with its input, also if this process is killed.
        let server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut server = server.unwrap_or_else(|error| missing(format!("needs python3: {error}")));
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let endpoint = said["endpoint"].as_str().unwrap().to_owned();
        Self { server, endpoint, dir, notices: Arc::default() }
    }

    /// The variables of the environment under which this hub and its cache are used.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let home = self.dir.path("home").to_str().unwrap().to_owned();
        [
            ("HF_ENDPOINT", self.endpoint.clone()),
            ("HF_HOME", home),
            ("HF_TOKEN", TOKEN.to_owned()),
            ("HF_HUB_DISABLE_XET", "1".to_owned()),
        ]
    }

    /// Settings for alice, which `change` changes. Tries follow each other at once.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) -> Settings {
        let environment = self.environment();
        let get =
            |name: &str| environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone());
        let mut settings = Settings::from_variables(get).unwrap();
        settings.back_off = Duration::from_millis(1);
        change(&mut settings);
        settings
    }

    /// A client for alice.
    pub fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    pub fn client_with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let notices = self.notices.clone();
        let notify: Notify = Arc::new(move |notice: &Notice| notices.lock().unwrap().push(notice.clone()));
        Client::with_notices(self.settings(change), notify)
    }

    /// Where the cache keeps a repository.
    pub fn cached(&self, id: &str) -> PathBuf {
        self.dir.path(&format!("home/hub/models--{}", id.replace('/', "--")))
    }

    /// Lets something go wrong with the next requests: the arguments of `HubServer.fault`.
    pub fn fault(&self, fault: Value) {
        self.test(
            Request::new(Method::POST, self.at("faults")).bytes("application/json", json!([fault]).to_string().into()),
        );
    }

    /// The requests so far, without those of tests.
    pub fn log(&self) -> Vec<Value> {
        let log = self.test(Request::get(self.at("log")));
        serde_json::from_slice(&log).unwrap()
    }

    pub fn clear_log(&self) {
        self.test(Request::new(Method::DELETE, self.at("log")));
    }

    /// The methods and paths of the requests so far, without queries, and how many bytes were sent in all.
    pub fn requests(&self) -> (Vec<String>, u64) {
        let log = self.log();
        let line = |entry: &Value| {
            let path = entry["path"].as_str().unwrap().split('?').next().unwrap().to_owned();
            format!("{} {} {path}", entry["origin"].as_str().unwrap(), entry["method"].as_str().unwrap())
        };
        (log.iter().map(line).collect(), log.iter().map(|entry| entry["sent"].as_u64().unwrap()).sum())
    }

    fn at(&self, what: &str) -> String {
        format!("{}/_test/{what}", self.endpoint)
    }

    fn test(&self, request: Request) -> Vec<u8> {
        let client = Client::new(self.settings(|settings| settings.token = None));
        client.http().send_and_read(&request, 1 << 24, &Context::silent()).unwrap().1
    }
}

/// A repository's name, such as `alice/base@main/config.json`.
pub fn repo(text: &str) -> RepoName {
    match lcepatch_hub::name::Name::parse(&format!("hf://{text}"), &Settings::from_variables(|_| None).unwrap()) {
        Ok(lcepatch_hub::name::Name::Hub(name)) => name,
        other => panic!("{text}: {other:?}"),
    }
}

/// What most tests do with a client, without progress.
pub trait Asks {
    fn opened(&self, name: &str) -> Result<Snapshot, Fault>;
    fn part_of(&self, name: &str) -> Result<RemoteFile, Fault>;
    /// Fetches files and returns the folder of the snapshot.
    fn fetched(&self, name: &str, paths: &[&str]) -> Result<PathBuf, Fault>;
}

impl Asks for Client {
    fn opened(&self, name: &str) -> Result<Snapshot, Fault> {
        self.open(&repo(name), &Context::silent())
    }

    fn part_of(&self, name: &str) -> Result<RemoteFile, Fault> {
        self.file(&repo(name), &Context::silent())
    }

    fn fetched(&self, name: &str, paths: &[&str]) -> Result<PathBuf, Fault> {
        self.opened(name)?.fetch(self, paths, &Context::silent())
    }
}

/// A file to publish, as it is now.
pub fn local(path: PathBuf) -> LocalFile {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(std::fs::read(&path).unwrap());
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    LocalFile { path, sha256 }
}

/// Bytes without a pattern, the same for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut numbers = lcepatch_format::random::Numbers::new(seed);
    (0..bytes.div_ceil(8)).flat_map(|_| numbers.bits().to_le_bytes()).take(bytes).collect()
}
