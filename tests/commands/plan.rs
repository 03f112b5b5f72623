//! Runs on several machines by a plan.

use crate::support::*;
use std::fs::File;
use std::time::{Duration, SystemTime};

const PLAN: &str = "plan a b --shards 3 -o run.lceplan";

/// Two models of four files with a tensor each, which differ.
fn models() -> Dir {
    let dir = Dir::new();
    let mut random = Random::new(17);
    for number in 1..=4 {
        let base = random.values(30_000, 1.0);
        let next: Vec<f32> = base.iter().map(|value| value + random.unit() * 1e-3).collect();
        for (model, values) in [("a", base), ("b", next)] {
            let tensor = Tensor::f32(&format!("layers.{number}.weight"), &[300, 100], &values);
            dir.write(&format!("{model}/model-{number:05}-of-00004.safetensors"), &safetensors(&[tensor]));
        }
    }
    dir
}

/// The files of a run, by the end of their names.
fn parts(dir: &Dir, end: &str) -> String {
    let of_end = |name: &String| name.ends_with(end);
    names(&dir.path("parts")).into_iter().filter(of_end).map(|name| format!("parts/{name} ")).collect()
}

#[track_caller]
fn joins_to_the_bytes_of_one_process(flags: &str) {
    let dir = models();
    dir.run(&format!("diff a b {flags} -o whole")).ok();
    dir.run(&format!("{PLAN} {flags}")).ok().prints(&["3 shards", "next: lcepatch diff --plan run.lceplan"]);
    let round = |more: &str| {
        for shard in ["3", "1/3", "2"] {
            dir.run(&format!("diff --plan run.lceplan --shard {shard} -o parts/ {more}")).ok();
        }
    };
    round("");
    if !flags.contains("--all") {
        assert_eq!(parts(&dir, ".part"), "");
        round(&format!("--ranks {}", parts(&dir, ".ranks")));
    }
    dir.run(&format!("combine {} -o joined", parts(&dir, ".part"))).ok();
    assert_eq!(dir.read("joined"), dir.read("whole"), "{flags}");
}

#[test]
fn the_parts_of_a_plan_join_to_the_bytes_of_one_process() {
    joins_to_the_bytes_of_one_process("--all");
    joins_to_the_bytes_of_one_process("--density 3% --params matrices --license MIT --meta seed=[1,2.5] --portable");
    joins_to_the_bytes_of_one_process("--density 3% --scope tensor --best --recommended-alpha -0.1 --exclude *.2.*");
    joins_to_the_bytes_of_one_process("--k 777 --include *.[13].* --map-prefix x.=y. --common");
}

#[test]
fn a_part_that_is_done_is_left_and_another_file_is_not_replaced() {
    let dir = models();
    dir.run(&format!("{PLAN} --all")).ok();
    dir.run(&format!("{PLAN} --all")).ok();
    dir.run(&format!("{PLAN} --all --portable")).fails(2).says(&["exists"]);
    let first = "diff --plan run.lceplan --shard 1 -o";
    dir.run(&format!("{first} 1.part")).ok().prints(&["wrote 1.part: blocks of shard 1 of 3"]);
    let part = dir.read("1.part");
    // Nothing is read: it is known from the part and the plan alone.
    std::fs::rename(dir.path("a"), dir.path("c")).unwrap();
    dir.run(&format!("{first} 1.part")).ok().prints(&["1.part: done already, blocks of shard 1 of 3"]);
    dir.run("diff --plan run.lceplan --shard 2 -o 1.part").fails(2).says(&["exists"]);
    dir.run(&format!("{first} 1.part --force")).fails(3).says(&["model-00001", "no such file"]);
    std::fs::rename(dir.path("c"), dir.path("a")).unwrap();
    let mut damaged = part.clone();
    damaged[100] ^= 1;
    dir.write("1.part", &damaged);
    dir.run(&format!("{first} 1.part")).fails(2).says(&["exists"]);
    dir.run(&format!("{first} 1.part --force")).ok();
    assert_eq!(dir.read("1.part"), part);
    // Without a plan nobody knows whether the checkpoints are the same.
    dir.run("diff a b --all --shard 1/3 -o other.part").ok();
    dir.run("diff a b --all --shard 1/3 -o other.part").fails(2).says(&["exists"]);
    dir.run("diff --plan run.lceplan --shard 2 -o 2.part").ok();
    dir.run("diff --plan run.lceplan --shard 3 -o 3.part").ok();
    dir.run("combine other.part 2.part 3.part -o p").fails(6).says(&["another run"]);
}

#[test]
fn two_processes_on_one_part_are_both_done() {
    let dir = models();
    dir.run(&format!("{PLAN} --all")).ok();
    let run = || {
        let mut command = dir.command();
        let arguments = "diff --plan run.lceplan --shard 2 -o 2.part";
        Run::new(arguments, command.args(arguments.split_whitespace()).output().unwrap())
    };
    let runs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:#?}");
    assert_eq!(names(&dir.path("")).iter().filter(|name| name.contains("2.part")).count(), 1, "no leftovers");
}

#[test]
fn files_that_are_not_needed_may_be_missing_and_those_that_changed_are_refused() {
    let dir = models();
    dir.run(&format!("{PLAN} --all --shards 4 --force").replace("--shards 3 ", "")).ok();
    dir.run("diff --plan run.lceplan --shard 2 -o 2.part").ok();
    let second = "model-00002-of-00004.safetensors";
    for file in names(&dir.path("a")).iter().filter(|name| *name != second) {
        for model in ["a", "b"] {
            std::fs::remove_file(dir.path(&format!("{model}/{file}"))).unwrap();
        }
    }
    dir.run("diff --plan run.lceplan --shard 2 -o again.part").ok();
    assert_eq!(dir.read("again.part"), dir.read("2.part"));
    dir.run("diff --plan run.lceplan --shard 3 -o 3.part").fails(3).says(&["model-00003", "no such file"]);
    // A copy that keeps its time is the same file, and the same bytes written anew are not.
    let path = dir.path(&format!("b/{second}"));
    let bytes = std::fs::read(&path).unwrap();
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    let touch = |time: SystemTime| File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    touch(time);
    dir.run("diff --plan run.lceplan --shard 2 -o copied.part").ok();
    touch(time + Duration::from_secs(1));
    let changed = dir.run("diff --plan run.lceplan --shard 2 -o x.part");
    changed.fails(6).says(&[second, "not the file of the plan", "plan again"]);
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    dir.run("diff --plan run.lceplan --shard 2 -o x.part").fails(5);
    assert!(!dir.exists("x.part") && !dir.exists("3.part"));
}

#[test]
fn array_jobs_say_which_shard_is_meant() {
    let dir = models();
    dir.run(&format!("{PLAN} --all")).ok();
    std::fs::create_dir(dir.path("parts")).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = dir.command();
        for name in [
            "SLURM_ARRAY_TASK_ID",
            "JOB_COMPLETION_INDEX",
            "AWS_BATCH_JOB_ARRAY_INDEX",
            "PBS_ARRAY_INDEX",
            "SGE_TASK_ID",
        ] {
            command.env_remove(name);
        }
        let arguments = "diff --plan run.lceplan --shard auto -o parts";
        command.envs(variables.iter().copied()).args(arguments.split_whitespace());
        Run::new(arguments, command.output().unwrap())
    };
    run(&[("JOB_COMPLETION_INDEX", "0")]).ok();
    run(&[("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "3")]).ok();
    assert_eq!(names(&dir.path("parts")), ["00001-of-00003.part", "00002-of-00003.part"]);
    run(&[("JOB_COMPLETION_INDEX", "3")]).fails(6).says(&["the plan has 3 shards, and shard 4 of 3"]);
    run(&[]).fails(2).says(&["none of their variables is set"]);
}

#[test]
fn what_a_plan_cannot_be_is_refused() {
    let dir = models();
    dir.run(&format!("{PLAN} --all")).ok();
    for (flags, named) in [("--k 1 --delta-dtype bf16", "--delta-dtype"), ("--all --sha256", "--sha256")] {
        dir.run(&format!("plan a b --shards 2 -o x {flags}")).fails(2).says(&[named, "does not go with shards"]);
    }
    for flags in [
        "plan a b --shards 0 -o x --all",
        "plan a b --shards 70000 -o x --all",
        "plan a b --shards 2 --all",
        "diff --plan run.lceplan -o x",
        "diff --plan run.lceplan --shard 1",
        "diff a b --plan run.lceplan --shard 1 -o x",
        "diff --plan run.lceplan --shard 1 -o x --all",
        "diff --plan run.lceplan --shard 1 -o x --common",
        "diff a b --all --shard auto -o x",
        "diff a b --all --shard 1 -o x",
    ] {
        dir.run(flags).fails(2);
    }
    dir.run("diff --plan run.lceplan --shard 1/4 -o x").fails(6).says(&["the plan has 3 shards, and shard 1 of 4"]);
    dir.run("plan a c --shards 2 --all -o x").fails(3);
    dir.run("show run.lceplan").fails(4).says(&["the plan of a diff", "lcepatch diff --plan"]);
    dir.run("diff --plan a/model-00001-of-00004.safetensors --shard 1 -o x").fails(5).says(&["not the plan of a diff"]);
    let whole = dir.read("run.lceplan");
    for at in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        dir.write("damaged", &damaged);
        dir.run("diff --plan damaged --shard 1 -o x").fails(5);
        dir.write("short", &whole[..at]);
        dir.run("diff --plan short --shard 1 -o x").fails(5);
    }
    assert!(!dir.exists("x"));
}

#[test]
fn jobs_are_printed_and_a_makefile_makes_the_patch() {
    let dir = models();
    dir.run("diff a b --density 1% -o whole").ok();
    let job = |kind: &str| dir.run(&format!("{PLAN} --density 1% --print {kind}")).ok().out;
    let slurm = job("slurm");
    for line in ["--array=1-3", "--shard auto", "--ranks run.lceplan.parts/*.ranks", "lcepatch combine"] {
        assert!(slurm.contains(line), "{line}: {slurm}");
    }
    let k8s = job("k8s");
    assert!(k8s.contains("completionMode: Indexed") && k8s.contains("completions: 3"), "{k8s}");
    dir.write("run.mk", job("make").as_bytes());
    let command = dir.command();
    let folder = std::path::Path::new(command.get_program()).parent().unwrap().to_owned();
    let path =
        std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    let made = std::process::Command::new("make")
        .args(["-s", "-j2", "-f", "run.mk"])
        .current_dir(dir.path(""))
        .env("PATH", path.unwrap())
        .output();
    let made = made.unwrap_or_else(|error| missing(format!("needs make: {error}")));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(dir.read("run.lcepatch"), dir.read("whole"));
}
