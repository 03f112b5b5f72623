//! Names of a hub in the arguments of commands.

use crate::support::hub::{Hub, TOKEN};
use crate::support::*;

/// A hub with a pair of models, one of them also in a folder of a repository beside weights in other formats, and an empty
/// repository of patches. The pair is in its folder, too: `base` and `next`.
fn hub() -> Hub {
    let (target, reference) = bert_pair();
    let (target, reference) = (safetensors(&target), safetensors(&reference));
    let files = |weights| [("config.json", &b"{}"[..]), ("model.safetensors", weights), ("pytorch_model.bin", b"PK")];
    let nested = [("sub/config.json", &b"{}"[..]), ("sub/model.safetensors", &target), ("sub/model.gguf", b"GGUF")];
    let hub = Hub::start(&[
        ("--repo", "alice/base", &files(&target)),
        ("--repo", "alice/next", &files(&reference)),
        ("--repo", "alice/nested", &nested),
        ("--repo", "alice/patches", &[]),
    ]);
    hub.dir.write("base/model.safetensors", &target);
    hub.dir.write("next/model.safetensors", &reference);
    hub
}

/// Runs a command as alice. Nothing that it prints has her token.
#[track_caller]
fn run(hub: &Hub, arguments: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = hub.dir.command();
    command.envs(hub.environment()).envs(variables.iter().copied());
    let run = Run::new(arguments, command.args(arguments.split_whitespace()).output().unwrap());
    assert!(!format!("{}{}", run.out, run.err).contains(TOKEN), "{run:#?}");
    run
}

#[test]
fn a_name_is_what_its_files_are() {
    let hub = hub();
    hub.dir.run("diff base next --all -o here.lcepatch").ok();
    let pasted = format!("{}/alice/next/blob/main/model.safetensors", hub.endpoint);
    for (number, [target, reference]) in [
        ["alice/base", "alice/next"],
        ["hf://alice/base@main/model.safetensors", "hf://models/alice/next"],
        ["alice/nested/sub", &pasted],
        ["base", "alice/next"],
    ]
    .into_iter()
    .enumerate()
    {
        run(&hub, &format!("diff {target} {reference} --all -o {number}.lcepatch"), &[]).ok();
        let same = hub.dir.read(&format!("{number}.lcepatch")) == hub.dir.read("here.lcepatch");
        assert!(same, "{target} {reference}");
    }
    let (requests, _) = hub.requests();
    assert!(!requests.iter().any(|line| line.ends_with(".bin") || line.ends_with(".gguf")), "{requests:?}");
    assert!(hub.log().iter().all(|request| request["leaked_token"] == false));
}

#[test]
fn answers_and_logs_say_the_commit() {
    let hub = hub();
    run(&hub, "diff alice/base alice/next --all -o p.lcepatch", &[]).ok();
    run(&hub, "push p.lcepatch alice/patches", &[]).ok();
    let applied = run(&hub, "apply alice/base alice/patches:0.5 -o half --json", &[]).ok();
    let json = applied.json();
    applied.says(&["alice/base@main is commit ", "alice/patches@main is commit "]);
    assert_eq!(json["patches"][0]["alpha_source"], "given");
    let sources = json["sources"].as_array().unwrap();
    let [base, patch] = &sources[..] else { panic!("{json}") };
    let commit = |source: &serde_json::Value| source["commit"].as_str().unwrap().to_owned();
    assert_eq!((&base["name"], &base["file"]), (&"alice/base".into(), &serde_json::Value::Null));
    assert_eq!((&patch["name"], &patch["file"]), (&"alice/patches".into(), &"p.lcepatch".into()));
    let log = run(&hub, "log half --json", &[]).ok().json();
    assert_eq!(log["steps"][0]["base"], format!("alice/base@{}", commit(base)));
    assert_eq!(log["steps"][0]["patches"][0]["source"], format!("alice/patches@{}/p.lcepatch", commit(patch)));
    // What was fetched is enough, and nobody is asked.
    hub.clear_log();
    run(&hub, "apply alice/base alice/patches:0.5 -o again", &[("HF_HUB_OFFLINE", "1")]).ok();
    assert_eq!(hub.requests().0, Vec::<String>::new());
    assert_eq!(hub.dir.read("again/model.safetensors"), hub.dir.read("half/model.safetensors"));
}

#[test]
fn show_fetches_the_header_alone_and_nothing_elsewhere_is_changed() {
    let hub = hub();
    run(&hub, "diff alice/base alice/next --all -o p.lcepatch", &[]).ok();
    run(&hub, "push p.lcepatch alice/patches", &[]).ok();
    hub.clear_log();
    let shown = run(&hub, "show alice/patches --json", &[]).ok().json();
    assert_eq!(shown["stat"]["file_bytes"], hub.dir.read("p.lcepatch").len());
    assert_eq!(shown["carried"], serde_json::Value::Null, "the blocks were not read");
    let (requests, bytes) = hub.requests();
    assert!(requests.len() <= 3 && bytes <= 128 << 10, "{requests:?}: {bytes} bytes");
    run(&hub, "apply alice/base alice/patches -o out", &[]).ok();
    let before = hub.requests().0.len();
    for command in ["apply alice/base alice/patches --in-place", "revert alice/base"] {
        run(&hub, command, &[]).fails(6).says(&["alice/base is not on this machine", "-o"]);
    }
    assert_eq!(hub.requests().0.len(), before, "a refusal needs no request");
    run(&hub, "show alice/pathces", &[]).fails(6).says(&["has no repository alice/pathces", "the token must be of"]);
    run(&hub, "show alice/patches/q.lcepatch", &[]).fails(6).says(&["has no file \"q.lcepatch\"; it has p.lcepatch"]);
    run(&hub, "show alice/base", &[]).fails(6).says(&["has no file \"*.lcepatch\""]);
}

#[test]
fn a_folder_that_is_named_as_an_owner_decides_nothing_in_silence() {
    let hub = hub();
    run(&hub, "diff alice/base alice/next --all -o p.lcepatch --recommended-alpha -2", &[]).ok();
    hub.dir.write("alice/other", b"");
    run(&hub, "push p.lcepatch alice/patches", &[]).fails(2).says(&["may be a repository", "hf://", "./"]);
    assert!(!hub.dir.exists("alice/patches"));
    run(&hub, "push p.lcepatch hf://alice/patches", &[]).ok();
    run(&hub, "show alice/patches", &[]).fails(3).says(&["help: look at the path", "hf://"]);
    let pulled = run(&hub, "pull hf://alice/patches --for hf://alice/base -o out --json", &[]).ok();
    let json = pulled.json();
    let sources: Vec<_> = json["sources"].as_array().unwrap().iter().map(|source| &source["name"]).collect();
    assert_eq!(sources, ["alice/base", "alice/patches"]);
    pulled.says(&["p.lcepatch is applied at alpha 1", "recommends alpha -2"]);
    let log = run(&hub, "log out --json", &[]).ok().json();
    let source = log["steps"][0]["patches"][0]["source"].as_str().unwrap().to_owned();
    assert!(source.starts_with("alice/patches@") && source.ends_with("/p.lcepatch"), "{source}");
    // What is printed leads to the same again, also as a patch to publish.
    run(&hub, &format!("show hf://{source}"), &[]).ok();
    run(&hub, &format!("push hf://{source} ./copy"), &[]).ok();
    assert_eq!(hub.dir.read("copy/p.lcepatch"), hub.dir.read("p.lcepatch"));
}
