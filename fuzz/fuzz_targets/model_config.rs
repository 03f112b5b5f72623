//! Configurations over a checkpoint: a graph or a reason, never a panic, and no size that the checkpoint does not justify.
#![no_main]

use lcepatch::checkpoint::Checkpoint;
use lcepatch_eval::model::config::Config;
use lcepatch_eval::model::graph::{Interface, Location, build};
use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

static CHECKPOINTS: LazyLock<Vec<Checkpoint>> = LazyLock::new(|| {
    let models = ["bert", "gpt2", "gpt-neox", "llama3-tied", "opt-projected", "albert"];
    let path = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/models").join(name);
    models.iter().filter_map(|name| Checkpoint::open(&path(name)).ok()).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = Config::parse(Path::new("config.json"), bytes) else { return };
    let locate = |file: usize| Location(file.to_string());
    for checkpoint in CHECKPOINTS.iter() {
        for interface in [Interface::Scoring, Interface::Standard] {
            let _ = build(&config, checkpoint, &locate, interface);
        }
    }
});
