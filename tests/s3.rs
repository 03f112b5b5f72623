//! Objects of S3, on two servers that speak like it: rclone checks signatures, but compares nothing before it writes and sends parts
//! with the status of the whole; moto takes any signature, compares, and lists page by page.

use crate::support::hub::local;
use crate::support::*;
use lcepatch_files::context::Context;
use lcepatch_hub::place::{Content, NewFile, Place};
use lcepatch_hub::request::{Method, Request};
use lcepatch_hub::s3::{Access, Bucket, Prefix};
use lcepatch_hub::settings::Settings;
use lcepatch_hub::{Client, Fault};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The secret key, which nothing may print.
const SECRET: &str = "wJalrXUtnFEMIsecretKEY";

/// A server that runs until the value is dropped, and a scratch directory with two models and the patch between them.
struct Server {
    process: Child,
    endpoint: String,
    dir: Dir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// rclone; its buckets are the folders in `root`. A test that asks for it is ignored where it cannot be installed.
    fn rclone() -> Self {
        let dir = Dir::new();
        std::fs::create_dir_all(dir.path("root/models")).unwrap();
        let mut command = Command::new(servers().join("rclone"));
        command.args(["serve", "s3", "--addr", "127.0.0.1:0", "--vfs-cache-mode", "off", "--dir-cache-time", "0"]);
        command.args(["--auth-key", &format!("alice,{SECRET}")]).arg(dir.path("root"));
        let server = Self::start(command, dir);
        for name in ["base", "next"] {
            server.dir.write(
                &format!("root/models/{name}/model.safetensors"),
                &server.dir.read(&format!("{name}.safetensors")),
            );
            server.dir.write(&format!("root/models/{name}/config.json"), b"{}");
        }
        server
    }

    /// moto, with one bucket.
    fn moto() -> Self {
        let mut command = Command::new(servers().join("moto_server"));
        command.args(["-p", "0"]);
        let server = Self::start(command, Dir::new());
        server.put("", b"");
        server
    }

    fn start(mut command: Command, dir: Dir) -> Self {
        let (base, next) = bert_pair();
        dir.write("base.safetensors", &safetensors(&base));
        dir.write("next.safetensors", &safetensors(&next));
        dir.run("diff base.safetensors next.safetensors --all -o p.lcepatch").ok();
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find_map(|line| line.find("http://").map(|at| line[at..].to_owned())).unwrap();
        let endpoint = line.trim_end_matches(']').trim_end_matches('/').to_owned();
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, endpoint, dir }
    }

    fn environment(&self) -> [(&'static str, String); 5] {
        let path = |name: &str| self.dir.path(name).to_str().unwrap().to_owned();
        [
            ("AWS_ENDPOINT_URL_S3", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", "alice".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("XDG_CACHE_HOME", path("cache")),
            ("HOME", path("home")),
        ]
    }

    fn command(&self) -> Command {
        let mut command = self.dir.command();
        for variable in ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "HF_HUB_OFFLINE"] {
            command.env_remove(variable);
        }
        command.envs(self.environment());
        command
    }

    /// Runs the command with these variables beside the server's own. What it prints never has the secret.
    fn run_with(&self, variables: &[(&str, &str)], arguments: &str) -> Run {
        let output =
            self.command().envs(variables.iter().copied()).args(arguments.split_whitespace()).output().unwrap();
        let run = Run::new(arguments, output);
        assert!(!run.err.contains("panicked") && !run.err.contains(SECRET) && !run.out.contains(SECRET), "{run:?}");
        run
    }

    fn run(&self, arguments: &str) -> Run {
        self.run_with(&[], arguments)
    }

    fn client(&self) -> Client {
        Client::new(Settings::from_variables(|_| None).unwrap())
    }

    fn bucket(&self, name: &str) -> Bucket {
        let environment = self.environment();
        let get =
            |name: &str| environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone());
        Bucket::with_access(&self.client(), name, Access::from_variables(get).unwrap()).unwrap()
    }

    fn place(&self, key: &str) -> Prefix {
        Prefix::open(self.bucket("models"), key, &Context::silent()).unwrap()
    }

    /// Writes an object to moto, or the bucket, without the code that is tested.
    fn put(&self, key: &str, bytes: &[u8]) {
        let request = Request::new(Method::PUT, format!("{}/models/{key}", self.endpoint));
        let credential =
            "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let request = request.header("authorization", credential).bytes("application/octet-stream", bytes.to_vec());
        let (answer, _) = self.client().http().send_and_read(&request, 1 << 20, &Context::silent()).unwrap();
        assert!(answer.is_success(), "{answer:?}");
    }
}

fn new(path: &str, bytes: &[u8]) -> NewFile {
    NewFile { path: path.to_owned(), content: Content::Bytes(bytes.to_vec()) }
}

#[test]
fn names_of_s3_are_read_where_paths_are() {
    let server = Server::rclone();
    let dir = &server.dir;
    server.run("diff s3://models/base s3://models/next/ --all -o q.lcepatch").ok();
    server.run("apply base.safetensors q.lcepatch -o q.safetensors").ok();
    assert_eq!(dir.read("q.safetensors"), dir.read("next.safetensors"));
    dir.write("root/models/patches/p.lcepatch", &dir.read("p.lcepatch"));
    for name in ["s3://models/patches/p.lcepatch", "s3://models/patches", "s3://models/patches/"] {
        let id = |name: &str| server.run(&format!("show {name} --json")).ok().json()["stat"]["id"].clone();
        assert_eq!(id(name), id("p.lcepatch"));
    }
    server.run("apply s3://models/base s3://models/patches/p.lcepatch:1 -o out").ok();
    assert_eq!(dir.read("out/model.safetensors"), dir.read("next.safetensors"));
    assert_eq!(dir.read("out/config.json"), b"{}");
    server.run("apply s3://models/base/model.safetensors s3://models/patches -o one.safetensors").ok();
    assert_eq!(dir.read("one.safetensors"), dir.read("next.safetensors"));
}

#[test]
fn shards_of_a_diff_read_objects_by_range() {
    let server = Server::rclone();
    let dir = &server.dir;
    server.run("plan s3://models/base s3://models/next/ --all --shards 2 -o run.lceplan").ok();
    server.run("diff --plan run.lceplan --shard 1 -o 1.part").ok().says(&["s3://models/base"]);
    server.run("diff --plan run.lceplan --shard 2/2 -o 2.part").ok();
    server.run("combine 1.part 2.part -o joined.lcepatch").ok();
    dir.run("diff root/models/base root/models/next --all -o whole.lcepatch").ok();
    assert!(dir.read("joined.lcepatch") == dir.read("whole.lcepatch"));
    assert!(!dir.exists("cache"), "nothing is left");
    server.run("diff s3://models/base/model.safetensors s3://models/next --all --shard 1/2 -o one.part").ok();
    dir.run("diff root/models/base root/models/next --all --shard 1/2 -o here.part").ok();
    assert!(dir.read("one.part") == dir.read("here.part"));
    // An object that was written anew has another tag.
    dir.write("root/models/next/model.safetensors", &dir.read("base.safetensors"));
    server.run("diff --plan run.lceplan --shard 1 -o other.part").fails(6).says(&["not the file of the plan", "tag"]);
    server.run("diff --plan run.lceplan --shard 1 -o 1.part").ok().prints(&["done already"]);
    let server = Server::moto();
    for name in ["base", "next"] {
        server.put(&format!("{name}/model.safetensors"), &server.dir.read(&format!("{name}.safetensors")));
    }
    server.run("plan s3://models/base s3://models/next --all --shards 2 -o run.lceplan").ok();
    server.run("diff --plan run.lceplan --shard 1 -o 1.part").ok();
    server.put("base/model.safetensors", &server.dir.read("next.safetensors"));
    server.run("diff --plan run.lceplan --shard 2 -o 2.part").fails(6).says(&["not the file of the plan"]);
}

#[test]
fn a_state_is_fetched_once_and_its_cache_is_not_edited() {
    let server = Server::rclone();
    let fetch = || server.bucket("models").checkpoint("base", ".index.json", &Context::silent()).unwrap();
    let (folder, objects) = fetch();
    assert_eq!(
        objects.iter().map(|object| &object.key[..]).collect::<Vec<_>>(),
        ["base/config.json", "base/model.safetensors"]
    );
    let cached = server.bucket("models").fetch(&folder, &objects, &Context::silent()).unwrap();
    // What is there is not fetched again: this would be seen.
    let model = cached.join("model.safetensors");
    let mut bytes = std::fs::read(&model).unwrap();
    assert_eq!(bytes, server.dir.read("base.safetensors"));
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&model, &bytes).unwrap();
    assert_eq!(server.bucket("models").fetch(&folder, &objects, &Context::silent()).unwrap(), cached);
    assert_eq!(std::fs::read(&model).unwrap(), bytes);
    server.run(&format!("apply {} p.lcepatch --in-place", model.display())).fails(6).says(&["-o"]);
    server.run("apply s3://models/base p.lcepatch --in-place").fails(6);
    // Another state is another folder.
    server.dir.write("root/models/base/config.json", b"{ }");
    let (folder, objects) = fetch();
    assert_ne!(server.bucket("models").fetch(&folder, &objects, &Context::silent()).unwrap(), cached);
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::rclone();
    let show = "show s3://models/base/model.safetensors";
    server.run_with(&[("AWS_SECRET_ACCESS_KEY", "damaged")], show).fails(6).says(&["AWS_SECRET_ACCESS_KEY"]);
    server.run_with(&[("AWS_ACCESS_KEY_ID", "mallory")], show).fails(6).says(&["AWS_ACCESS_KEY_ID"]);
    server
        .run_with(&[("AWS_ACCESS_KEY_ID", "")], show)
        .fails(6)
        .says(&["not signed", "aws configure export-credentials"]);
    server.run_with(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_PROFILE", "none")], show).fails(2).says(&["AWS_PROFILE"]);
    server.run("show s3://models/none.lcepatch").fails(6).says(&["s3://models has no file \"none.lcepatch\""]);
    server.run("apply s3://models/none p.lcepatch -o x").fails(6).says(&["s3://models has no file \"none\""]);
    server.run("show s3://nowhere/p.lcepatch").fails(6).says(&["s3://nowhere", "no such bucket"]);
    server.run("show s3://evil.example%2f/p.lcepatch").fails(2).says(&["names no bucket"]);
}

#[test]
fn lists_have_as_many_pages_as_they_need() {
    let server = Server::moto();
    // The model is on the second page.
    (0..1005).for_each(|number| server.put(&format!("many/f{number}.bin"), b""));
    server.put("many/model.safetensors", &server.dir.read("base.safetensors"));
    assert_eq!(server.bucket("models").list("many/", &Context::silent()).unwrap().len(), 1006);
    server.run("check p.lcepatch s3://models/many").ok();
}

#[test]
fn what_is_pushed_twice_is_sent_once() {
    for server in [Server::rclone(), Server::moto()] {
        let push = "push p.lcepatch s3://models/new/place --yes --json";
        assert_eq!(server.run(push).ok().json()["sent"], true);
        assert_eq!(server.run(push).ok().json()["sent"], false);
        server.run("find base.safetensors --in s3://models/new/place/").ok().prints(&["p.lcepatch"]);
        server.run("pull s3://models/new/place --for base.safetensors -o pulled").ok();
        server.run("show s3://models/new/place").ok();
    }
}

#[test]
fn of_two_who_push_at_once_both_are_listed() {
    let server = Server::moto();
    let dir = &server.dir;
    dir.run("diff next.safetensors base.safetensors --all -o back.lcepatch").ok();
    let push = |patch: &str| {
        let mut command = server.command();
        command.args(["push", patch, "s3://models/both", "--yes"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let runs =
        [push("p.lcepatch"), push("back.lcepatch")].map(|child| Run::new("push", child.wait_with_output().unwrap()));
    runs.into_iter().for_each(|run| drop(run.ok()));
    let index: serde_json::Value =
        serde_json::from_slice(&server.place("both").read("patches.json", 1 << 20, &Context::silent()).unwrap())
            .unwrap();
    assert_eq!(index["patches"].as_array().unwrap().len(), 2, "{index}");
}

#[test]
fn whoever_publishes_on_an_old_state_is_told() {
    let server = Server::moto();
    let [one, other] = [0, 1].map(|_| server.place("old"));
    one.publish(&[new("a", b"1")], "", &Context::silent()).unwrap();
    assert!(matches!(other.publish(&[new("b", b"2")], "", &Context::silent()), Err(Fault::Moved { .. })));
    let now = server.place("old");
    assert_eq!(now.files().iter().map(|file| (&file.path[..], file.bytes)).collect::<Vec<_>>(), [("a", 1)]);
    now.publish(&[new("a", b"changed")], "", &Context::silent()).unwrap();
    assert_eq!(server.place("old").read("a", 9, &Context::silent()).unwrap(), b"changed");
    assert!(
        matches!(now.read("a", 9, &Context::silent()), Err(Fault::Changed { .. })),
        "what is read is of the state that was listed"
    );
}

#[test]
fn long_files_are_sent_in_parts() {
    let server = Server::moto();
    let bytes = (64 << 20) + 5;
    let path = server.dir.write("long", b"first");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
    let long = NewFile { path: "long".to_owned(), content: Content::File(local(path)) };
    server.place("parts").publish(&[long], "", &Context::silent()).unwrap();
    let place = server.place("parts");
    let open = place.open("long", &Context::silent()).unwrap();
    assert_eq!((open.bytes(), open.read_at(0, 6).unwrap()), (bytes, b"first\0".to_vec()));
    assert!(server.bucket("models").list("", &Context::silent()).unwrap()[0].tag.ends_with("-2"));
}
