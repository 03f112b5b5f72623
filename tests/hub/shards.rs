//! Shards of a diff between checkpoints elsewhere, which read their share of the bytes.

use crate::support::hub::Hub;
use crate::support::*;

/// More than is fetched at once.
const SHARD_BYTES: usize = 6 << 20;

/// The files of a model of four shards with a tensor each. Every 1013th weight is another one in the `next` model.
fn model(is_next: bool) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut map) = (vec![("config.json".to_owned(), b"{}".to_vec())], serde_json::Map::new());
    for number in 1..=4u64 {
        let mut bytes = Random::new(number).bytes(SHARD_BYTES);
        bytes.iter_mut().step_by(1013).for_each(|byte| *byte ^= u8::from(is_next));
        let name = format!("model-{number:05}-of-00004.safetensors");
        let tensor = Tensor::new(&format!("layer.{number}.weight"), "U8", &[SHARD_BYTES as u64], bytes);
        map.insert(tensor.name.clone(), name.clone().into());
        files.push((name, safetensors(&[tensor])));
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    files.push(("model.safetensors.index.json".to_owned(), index.into_bytes()));
    files.push(("pytorch_model.bin".to_owned(), b"PK".to_vec()));
    files
}

/// A hub with `alice/base` and `alice/next`, which are in its folder, too.
pub fn hub() -> Hub {
    let models = [("base", model(false)), ("next", model(true))];
    let borrowed = models
        .each_ref()
        .map(|(_, files)| files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>());
    let hub = Hub::start(&[("--repo", "alice/base", &borrowed[0]), ("--repo", "alice/next", &borrowed[1])]);
    for (model, files) in &models {
        for (name, bytes) in files {
            hub.dir.write(&format!("{model}/{name}"), bytes);
        }
    }
    hub
}

#[track_caller]
pub fn run(hub: &Hub, arguments: &str) -> Run {
    let mut command = hub.dir.command();
    let run = command.envs(hub.environment()).args(arguments.split_whitespace()).output().unwrap();
    Run::new(arguments, run)
}

#[test]
fn a_shard_of_checkpoints_elsewhere_fetches_its_share_and_the_headers() {
    let hub = hub();
    hub.dir.run("diff base next --all -o here.lcepatch").ok();
    for shard in 1..=4 {
        hub.clear_log();
        run(&hub, &format!("diff alice/base alice/next --all --shard {shard}/4 -o {shard}.part")).ok();
        let sent = hub.requests().1;
        let (share, headers) = (2 * SHARD_BYTES as u64, 8 * (64 << 10));
        assert!((share..share + headers + (64 << 10)).contains(&sent), "shard {shard}: {sent}");
        assert!(hub.log().iter().all(|request| request["leaked_token"] == false));
    }
    hub.dir.run("combine 1.part 2.part 3.part 4.part -o p.lcepatch").ok();
    assert_eq!(hub.dir.read("p.lcepatch"), hub.dir.read("here.lcepatch"));
    assert!(!hub.cached("alice/base").exists(), "nothing is left in the cache");
}

#[test]
fn names_lead_to_the_same_shards_as_paths() {
    let hub = hub();
    hub.dir.run("diff base next --all --shard 2/3 -o here.part").ok();
    for (number, names) in [
        "alice/base@main hf://alice/next",
        "base alice/next",
        "alice/base/model.safetensors.index.json next/model.safetensors.index.json",
    ]
    .into_iter()
    .enumerate()
    {
        run(&hub, &format!("diff {names} --all --shard 2/3 -o {number}.part")).ok();
        assert_eq!(hub.dir.read(&format!("{number}.part")), hub.dir.read("here.part"), "{names}");
    }
    let file = "model-00001-of-00004.safetensors";
    hub.dir.run(&format!("diff base/{file} next/{file} --all --shard 1/1 -o file.part")).ok();
    let pasted = format!("{}/alice/next/blob/main/{file}", hub.endpoint);
    run(&hub, &format!("diff alice/base/{file} {pasted} --all --shard 1/1 -o names.part")).ok();
    let address = format!("{}/alice/next/resolve/main/{file}?download=true", hub.endpoint);
    run(&hub, &format!("diff base/{file} {address} --all --shard 1/1 -o address.part")).ok();
    assert!(["names.part", "address.part"].iter().all(|part| hub.dir.read(part) == hub.dir.read("file.part")));
    // What is in the cache is read there.
    run(&hub, "diff alice/base alice/next --all -o p.lcepatch").ok();
    hub.clear_log();
    run(&hub, "diff alice/base alice/next --all --shard 2/3 -o cached.part").ok();
    assert_eq!(hub.dir.read("cached.part"), hub.dir.read("here.part"));
    let (requests, _) = hub.requests();
    assert!(requests.iter().all(|line| line.contains("/tree/")), "{requests:?}");
}

#[test]
fn a_server_that_fails_is_said_and_nothing_is_written() {
    let hub = hub();
    // The headers arrive, and then nothing.
    hub.fault(serde_json::json!({"path": "/object/", "after": 8, "status": 404, "times": 99}));
    run(&hub, "diff alice/base alice/next --all --shard 1/4 -o 1.part").fails(9).says(&["error: ", "/object/", "404"]);
    assert!(!hub.dir.exists("1.part"));
}

#[test]
fn a_planned_shard_fetches_its_share_and_no_headers() {
    let hub = hub();
    hub.dir.run("diff base next --all -o here.lcepatch").ok();
    run(&hub, "plan alice/base alice/next --all --shards 4 -o run.lceplan").ok().prints(&["4 shards"]);
    for shard in 1..=4 {
        hub.clear_log();
        run(&hub, &format!("diff --plan run.lceplan --shard {shard} -o {shard}.part")).ok().says(&["alice/base@"]);
        let (requests, sent) = hub.requests();
        let (share, fronts) = (2 * SHARD_BYTES as u64, 2 * (64 << 10));
        assert!((share..=share + fronts).contains(&sent), "shard {shard}: {sent}, {requests:?}");
        assert!(requests.iter().all(|line| !line.contains("/api/")), "{requests:?}");
    }
    hub.clear_log();
    run(&hub, "diff --plan run.lceplan --shard 4 -o 4.part").ok().prints(&["done already"]);
    assert!(hub.log().is_empty());
    hub.dir.run("combine 1.part 2.part 3.part 4.part -o p.lcepatch").ok();
    assert_eq!(hub.dir.read("p.lcepatch"), hub.dir.read("here.lcepatch"));
    // Of a hub that does not have the commit, nothing is taken.
    let other = Hub::start(&[("--repo", "alice/base", &[("config.json", b"{}")]), ("--repo", "alice/next", &[])]);
    let mut command = other.dir.command();
    command.envs(other.environment()).args(["diff", "--shard", "1", "-o", "1.part", "--plan"]);
    let run = Run::new("", command.arg(hub.dir.path("run.lceplan")).output().unwrap());
    run.fails(6).says(&["alice/base has no revision"]);
}

#[test]
fn a_shard_of_an_apply_fetches_its_files_and_the_blocks_for_them() {
    let hub = hub();
    hub.dir.run("diff base next --all -o p.lcepatch").ok();
    hub.dir.run("apply base p.lcepatch -o here --no-undo").ok();
    for shard in 1..=4 {
        hub.clear_log();
        run(&hub, &format!("apply alice/base p.lcepatch -o out --shard {shard}/4")).ok();
        let (requests, sent) = hub.requests();
        assert!(sent < SHARD_BYTES as u64 + 5 * (64 << 10), "shard {shard}: {sent}, {requests:?}");
    }
    run(&hub, "apply alice/base p.lcepatch -o out --finish").ok().prints(&["every byte is the reference's"]);
    for name in names(&hub.dir.path("here")).iter().filter(|name| *name != "lcepatch-log.json") {
        assert!(hub.dir.read(&format!("here/{name}")) == hub.dir.read(&format!("out/{name}")), "{name}");
    }
    assert_eq!(names(&hub.dir.path("here")), names(&hub.dir.path("out")));
}
