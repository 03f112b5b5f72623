//! `lcepatch apply --in-place` and `recover`.

use crate::support::*;

const SHARDS: [&str; 2] = ["model/model-00001-of-00002.safetensors", "model/model-00002-of-00002.safetensors"];
const JOURNAL: &str = "model/.lcepatch-journal";

/// A model directory of two shards, and a patch for it.
fn model(flags: &str) -> Dir {
    let dir = bert_dir();
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    dir.run(&format!("diff target.safetensors reference.safetensors -o p {flags}")).ok();
    dir
}

fn shards(dir: &Dir) -> [Vec<u8>; 2] {
    SHARDS.map(|shard| dir.read(shard))
}

/// The same model, edited to a new directory.
fn expected(dir: &Dir, flags: &str) -> [Vec<u8>; 2] {
    dir.run(&format!("apply model p -o expected {flags}")).ok();
    SHARDS.map(|shard| dir.read(&shard.replace("model/", "expected/")))
}

/// What the file system calls a file, whatever its name.
#[cfg(unix)]
fn inode(dir: &Dir, name: &str) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&dir.path(name).metadata().unwrap())
}

/// Runs `apply` until it writes behind so many blocks of a file, and dies.
#[cfg(unix)]
fn crash(dir: &Dir, arguments: &str, blocks: u32) {
    let script = format!("ulimit -c 0; ulimit -f {blocks}; exec \"$0\" {arguments}");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_lcepatch")]).current_dir(dir.path(""));
    let status = command.env("LCEPATCH_THREADS", "1").stderr(std::process::Stdio::null()).status().unwrap();
    assert!(status.code().is_none(), "{status}");
}

/// A model directory in which an edit was interrupted, and what its shards held before.
#[cfg(unix)]
fn interrupted() -> (Dir, [Vec<u8>; 2]) {
    let dir = model("--density 10%");
    let before = shards(&dir);
    // The journal fits into the limit, and the shards do not.
    crash(&dir, "apply model p --alpha -2 --in-place", 6);
    assert!(dir.exists(JOURNAL));
    (dir, before)
}

#[test]
fn the_bytes_are_those_of_a_new_file() {
    for patch in ["--density 10%", "--density 10% --portable", "--density 60%", "--all"] {
        for flags in ["", "--quick", "--alpha -2", "--alpha 0.5 --no-log", "--edit pr --quick", "--alpha 0"] {
            let dir = model(patch);
            let expected = expected(&dir, flags);
            dir.run(&format!("apply model p --in-place {flags}")).ok();
            assert_eq!(shards(&dir), expected, "{patch} {flags}");
            assert!(names(&dir.path("model")).iter().all(|name| !name.starts_with('.')));
        }
    }
}

#[cfg(unix)]
#[test]
fn a_small_edit_is_made_in_the_file_itself() {
    let dir = model("--density 10%");
    let before = SHARDS.map(|shard| inode(&dir, shard));
    let run = dir.run("apply model p --in-place").ok();
    run.prints(&["205 weights", "the digest is the one that the patch declares"]);
    assert_eq!(SHARDS.map(|shard| inode(&dir, shard)), before);
    dir.run("status model").ok().prints(&["the base + p:1"]);
    dir.run("diff model reference.safetensors -o q --density 10%").ok();
    // The undo patch is made of the journal's values.
    dir.run("apply model q --in-place --undo u").ok();
    assert_eq!(SHARDS.map(|shard| inode(&dir, shard)), before);
    dir.run("revert model").ok();
    assert_eq!(SHARDS.map(|shard| inode(&dir, shard)), before);
    dir.run("status model").ok().prints(&["the base + p:1"]);
}

#[cfg(unix)]
#[test]
fn a_file_with_another_name_keeps_what_it_holds_there() {
    let dir = model("--density 10%");
    let before = dir.read("target.safetensors");
    std::fs::hard_link(dir.path("target.safetensors"), dir.path("other.safetensors")).unwrap();
    dir.run("apply target.safetensors p --in-place").ok();
    assert_eq!(dir.read("other.safetensors"), before);
    assert_ne!(dir.read("target.safetensors"), before);
}

#[cfg(unix)]
#[test]
fn what_is_refused_is_refused_before_a_byte_changes() {
    let dir = Dir::new();
    let half = |bits: [u16; 64]| {
        Tensor::new("w", "F16", &[64], bits.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<u8>>())
    };
    let (mut target, mut reference) = ([0x3c00; 64], [0x3c00; 64]);
    // The first one has a result, the last one does not.
    (target[63], reference[0], reference[63]) = (0x7bff, 0x4000, 0x7bfe);
    dir.write("a", &safetensors(&[half(target)]));
    dir.write("b", &safetensors(&[half(reference)]));
    dir.run("diff a b -o p --all").ok();
    let modified = || dir.path("a").metadata().unwrap().modified().unwrap();
    let (bytes, time) = (dir.read("a"), modified());
    dir.run("apply a p --alpha -2 --in-place").fails(7).says(&["element 63"]);
    dir.run("apply b p --in-place").fails(6);
    assert_eq!((dir.read("a"), modified()), (bytes, time));
    assert_eq!(dir.names(), ["a", "b", "p"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_edit_is_told_and_taken_back() {
    let (dir, before) = interrupted();
    assert_ne!(shards(&dir), before, "it was interrupted too early to be a test");
    for command in ["status model", "apply model p --in-place", "apply model p -o r", "check p model", "revert model"] {
        dir.run(command).fails(5).says(&["was interrupted", "lcepatch recover"]);
    }
    // Whatever way leads to one of the files.
    std::os::unix::fs::symlink(dir.path(SHARDS[1]), dir.path("link.safetensors")).unwrap();
    for path in [SHARDS[0], SHARDS[1], "model/model.safetensors.index.json", "link.safetensors"] {
        dir.run(&format!("diff {path} reference.safetensors")).fails(5).says(&["was interrupted"]);
    }
    dir.run("recover model").ok().prints(&["put back 205 weights", "model-00001-of-00002.safetensors"]);
    assert_eq!(shards(&dir), before);
    assert!(!dir.exists(JOURNAL));
    dir.run("recover model").ok().prints(&["no edit was interrupted here"]);
    dir.run("status model").ok().prints(&["no patch was applied here"]);
    dir.run("apply model p --in-place").ok();
}

#[cfg(unix)]
#[test]
fn weights_of_a_module_do_not_come_along_half_edited() {
    let (dir, before) = interrupted();
    dir.write("outer/model.safetensors", &dir.read("target.safetensors"));
    std::fs::rename(dir.path("model"), dir.path("outer/module")).unwrap();
    dir.run("apply outer p -o new").fails(5).says(&["outer/module/", "was interrupted"]);
    assert!(!dir.exists("new"));
    dir.run("recover outer/module").ok();
    let shard = std::fs::File::open(dir.path("outer/module/model-00001-of-00002.safetensors")).unwrap();
    shard.lock().unwrap();
    dir.run("apply outer p -o new").fails(2).says(&["another process is writing"]);
    drop(shard);
    dir.run("apply outer p -o new").ok();
    assert_eq!(dir.read("new/module/model-00001-of-00002.safetensors"), before[0]);
}

#[cfg(unix)]
#[test]
fn a_crash_at_any_place_can_be_recovered_from() {
    let dir = model("--density 10%");
    let before = shards(&dir);
    for blocks in [0, 2, 4, 5, 6, 7, 8, 10] {
        crash(&dir, "apply model p --alpha -2 --in-place", blocks);
        dir.run(&format!("recover {}", SHARDS[1])).ok();
        assert_eq!(shards(&dir), before, "{blocks} blocks");
        let left = names(&dir.path("model")).into_iter().filter(|name| name.starts_with(".lcepatch-"));
        left.for_each(|name| std::fs::remove_file(dir.path(&format!("model/{name}"))).unwrap());
    }
    dir.run("apply model p --in-place").ok();
}

#[cfg(unix)]
#[test]
fn readers_and_editors_wait_for_each_other() {
    let dir = model("--density 10%");
    let shard = std::fs::File::open(dir.path(SHARDS[1])).unwrap();
    // Someone edits it in place.
    shard.lock().unwrap();
    let (edit, recover) = ("apply model p --in-place", "recover model");
    for command in ["apply model p -o r", "status model", "check p model", "diff model reference.safetensors"] {
        dir.run(command).fails(2).says(&["another process is writing", "wait for it"]);
    }
    dir.run(edit).fails(2).says(&["another process is using"]);
    // Someone reads it.
    shard.lock_shared().unwrap();
    dir.run("status model").ok();
    dir.run(edit).fails(2).says(&["another process is using"]);
    // Whatever way leads to it.
    std::os::unix::fs::symlink(dir.path("model"), dir.path("link")).unwrap();
    dir.run("apply link/model.safetensors.index.json p --in-place").fails(2);
    drop(shard);
    dir.run(edit).ok();

    let (dir, _) = interrupted();
    let shard = std::fs::File::open(dir.path(SHARDS[0])).unwrap();
    shard.lock_shared().unwrap();
    dir.run(recover).fails(2).says(&["another process is using"]);
    drop(shard);
    dir.run(recover).ok();
}

#[cfg(unix)]
#[test]
fn a_hubs_cache_is_never_written_to() {
    let dir = model("--density 10%");
    let snapshot = "models--org--name/snapshots/0123456789abcdef";
    std::fs::create_dir_all(dir.path(snapshot)).unwrap();
    std::fs::create_dir_all(dir.path("models--org--name/blobs")).unwrap();
    std::fs::rename(dir.path("target.safetensors"), dir.path("models--org--name/blobs/77")).unwrap();
    std::os::unix::fs::symlink("../../blobs/77", dir.path(&format!("{snapshot}/model.safetensors"))).unwrap();
    std::os::unix::fs::symlink(dir.path(snapshot), dir.path("link")).unwrap();
    let before = dir.read("link/model.safetensors");
    for model in [snapshot, "link", "models--org--name/blobs/77"] {
        dir.run(&format!("apply {model} p --in-place")).fails(6).says(&["hub's cache", "-o"]);
    }
    for output in [format!("{snapshot}/r"), "link/r".to_owned(), "models--org--name/blobs/r".to_owned()] {
        dir.run(&format!("apply {snapshot} p -o {output}")).fails(6).says(&["hub's cache"]);
        dir.run(&format!("diff link reference.safetensors -o {output}")).fails(6).says(&["hub's cache"]);
    }
    assert_eq!(dir.read("link/model.safetensors"), before);
    assert_eq!(names(&dir.path(snapshot)), ["model.safetensors"]);
    dir.run(&format!("apply {snapshot} p -o own")).ok();
    // A directory of one's own, linked to the cache: the link becomes a file, what it led to stays.
    std::fs::create_dir(dir.path("mine")).unwrap();
    std::os::unix::fs::symlink(dir.path("models--org--name/blobs/77"), dir.path("mine/model.safetensors")).unwrap();
    dir.run("apply mine p --in-place").ok();
    assert_eq!(dir.read("models--org--name/blobs/77"), before);
    assert_eq!(dir.read("mine/model.safetensors"), dir.read("own/model.safetensors"));
    dir.run("revert mine").ok();
    assert_eq!(dir.read("mine/model.safetensors"), before);
}

#[cfg(unix)]
#[test]
fn read_only_weights_in_a_folder_of_ones_own_are_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let dir = model("--density 10%");
    let expected = expected(&dir, "--alpha -2");
    let mode = |shard: &str| dir.path(shard).metadata().unwrap().permissions().mode() & 0o777;
    SHARDS.iter().for_each(|shard| {
        std::fs::set_permissions(dir.path(shard), std::fs::Permissions::from_mode(0o444)).unwrap();
    });
    dir.run("apply model p --alpha -2 --in-place").ok();
    assert_eq!(shards(&dir), expected);
    assert_eq!(SHARDS.map(mode), [0o444; 2]);
    dir.run("revert model").ok();
    dir.run(&format!("apply {} p -o {} --force --allow-different-base", SHARDS[0], SHARDS[1])).fails(6);
    dir.run(&format!("apply target.safetensors p -o {} --force", SHARDS[1])).ok();
    assert_eq!(mode(SHARDS[1]), 0o444);
}

/// Runs the command as a user who owns nothing, by way of `through`.
#[cfg(unix)]
fn run_as_another_user(dir: &Dir, through: &[&str], arguments: &str) -> Run {
    std::fs::set_permissions(dir.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // The build may lie where that user may not look.
    let program = dir.path("lcepatch");
    std::fs::copy(env!("CARGO_BIN_EXE_lcepatch"), &program).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65533", "--clear-groups"]).args(through).arg(program);
    let output = command.args(arguments.split_whitespace()).current_dir(dir.path("")).output();
    // Or it was not this program that ended with this code.
    let output =
        output.ok().filter(|output| output.status.code() < Some(126) && !output.stderr.starts_with(b"setpriv"));
    Run::new(arguments, output.unwrap_or_else(|| missing("needs root, setpriv and prlimit")))
}

#[cfg(unix)]
#[test]
fn a_system_that_starts_no_more_threads_is_slow_and_no_more() {
    let dir = model("--density 10%");
    let expected = expected(&dir, "--alpha -2");
    std::fs::set_permissions(dir.path("model"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for shard in SHARDS {
        std::fs::set_permissions(dir.path(shard), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    }
    let no_threads = ["prlimit", "--nproc=0"];
    run_as_another_user(&dir, &no_threads, "apply model p --in-place --alpha -2 --threads 8").ok();
    assert_eq!(shards(&dir), expected);
    run_as_another_user(&dir, &no_threads, "check p model").fails(1);
}

#[cfg(unix)]
#[test]
fn weights_that_may_not_be_replaced_stay_as_they_are() {
    let dir = model("--density 10%");
    let before = shards(&dir);
    // Whoever may write to the folder may not remove what others own.
    std::fs::set_permissions(dir.path("model"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let run = run_as_another_user(&dir, &[], "apply model p --in-place");
    run.fails(3).says(&["rename to", "Operation not permitted"]);
    assert_eq!(shards(&dir), before);
    dir.run("status model").ok();
    assert!(names(&dir.path("model")).iter().all(|name| !name.starts_with(".lcepatch-")));
}

#[cfg(unix)]
#[test]
fn a_pipe_gets_the_result_and_a_device_is_never_replaced() {
    let dir = model("--density 10%");
    assert!(std::process::Command::new("mkfifo").arg(dir.path("pipe")).status().unwrap().success());
    let reader = {
        let pipe = dir.path("pipe");
        std::thread::spawn(move || std::fs::read(pipe).unwrap())
    };
    dir.run("diff target.safetensors reference.safetensors -o pipe --density 10%").ok();
    assert_eq!(reader.join().unwrap(), dir.read("p"));
    dir.run("diff target.safetensors reference.safetensors -o pipe --density 10% --force")
        .fails(2)
        .says(&["is a device, a pipe or a socket"]);
    dir.run("apply target.safetensors p -o /dev/null --force").fails(2).says(&["is a device"]);
    dir.run("apply target.safetensors p -o /dev/null").ok();
    // A name of standard output is one, whatever file that is.
    std::os::unix::fs::symlink("/proc/self/fd/1", dir.path("stdout")).unwrap();
    let mut command = dir.command();
    command.args(["apply", "target.safetensors", "p", "--force", "-o", "stdout"]);
    let redirected = command.stdout(std::fs::File::create(dir.path("redirected")).unwrap()).output().unwrap();
    Run::new("apply -o stdout", redirected).fails(2).says(&["is a device, a pipe or a socket"]);
    assert!(dir.path("stdout").is_symlink());
    assert_eq!(names(&dir.path("")).iter().filter(|name| *name == "pipe").count(), 1);
}

#[cfg(unix)]
#[test]
fn other_models_in_the_folder_can_be_read_and_not_edited_in_place() {
    let (dir, _) = interrupted();
    dir.write("model/other.safetensors", &dir.read("target.safetensors"));
    dir.run("apply model/other.safetensors p -o r").ok();
    // It was not interrupted itself.
    dir.run("apply model/other.safetensors p --in-place")
        .fails(5)
        .says(&["a change of model was", "lcepatch recover model`"]);
    assert_eq!(dir.read("model/other.safetensors"), dir.read("target.safetensors"));
}

#[cfg(unix)]
#[test]
fn a_journal_that_may_not_be_read_may_be_about_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _) = interrupted();
    std::fs::set_permissions(dir.path(JOURNAL), std::fs::Permissions::from_mode(0o000)).unwrap();
    dir.run_bound("diff model reference.safetensors").fails(5).says(&["was interrupted"]);
    dir.run_bound(&format!("diff {} reference.safetensors", SHARDS[1])).fails(5).says(&["was interrupted"]);
}

#[cfg(unix)]
#[test]
fn weights_that_got_another_name_after_a_crash_are_known_again() {
    let (dir, before) = interrupted();
    std::fs::rename(dir.path(SHARDS[0]), dir.path("model/renamed.safetensors")).unwrap();
    dir.run("diff model/renamed.safetensors reference.safetensors --common").fails(5).says(&["was interrupted"]);
    dir.run("recover model").fails(6).says(&["not there any more", "put it back"]);
    std::fs::rename(dir.path("model/renamed.safetensors"), dir.path(SHARDS[0])).unwrap();
    dir.run("recover model").ok();
    assert_eq!(shards(&dir), before);
}

#[test]
fn an_output_takes_the_place_of_no_other_and_of_nothing_of_the_base() {
    let dir = model("--density 10%");
    let before = shards(&dir);
    let own = [SHARDS[0], "model/model.safetensors.index.json", "model/lcepatch-log.json"];
    for place in own {
        for to in ["--in-place", "-o new"] {
            dir.run(&format!("apply model p {to} --force --undo {place}")).fails(6).says(&["is a file of the base"]);
            dir.run(&format!("apply model p {to} --force --keep-mask {place}"))
                .fails(6)
                .says(&["is a file of the base"]);
        }
    }
    for outputs in ["-o x --undo x", "-o x --undo ./x", "-o x --keep-mask x", "-o x --undo y --keep-mask y"] {
        let run = dir.run(&format!("apply target.safetensors p --force {outputs}"));
        run.fails(2).says(&["is where another output goes"]);
    }
    for outputs in ["-o x --undo x", "-o x --undo x/y"] {
        dir.run(&format!("apply model p {outputs}")).fails(2).says(&["is where another output goes"]);
    }
    // Names that are kept for what the next write removes, or refuses to go on beside.
    for name in ["model/.lcepatch-journal", ".lcepatch-0-x.tmp"] {
        dir.run(&format!("apply model p --in-place --undo {name}"))
            .fails(2)
            .says(&["reserves for its temporary files"]);
        dir.run(&format!("diff target.safetensors reference.safetensors -o {name} --all")).fails(2);
    }
    assert_eq!(shards(&dir), before);
    assert!(!dir.exists("x") && !dir.exists("new"));
    dir.run("apply model p --in-place --undo model/u").ok();
}

#[test]
fn a_checkpoint_that_is_open_is_not_replaced() {
    let dir = model("--density 10%");
    let before = dir.read("target.safetensors");
    for command in [
        "diff target.safetensors reference.safetensors --all",
        "diff reference.safetensors target.safetensors --density 10%",
        "mask target.safetensors --sparsity 10%",
        "combine p:0.5 p --base target.safetensors",
    ] {
        let run = dir.run(&format!("{command} -o target.safetensors --force"));
        run.fails(2).says(&["target.safetensors is a checkpoint that is being read", "choose another name"]);
    }
    assert_eq!(dir.read("target.safetensors"), before);
    // Whoever has it open.
    let shard = std::fs::File::open(dir.path(SHARDS[1])).unwrap();
    shard.lock_shared().unwrap();
    dir.run(&format!("apply target.safetensors p -o {} --force", SHARDS[1])).fails(2);
    drop(shard);
    dir.run(&format!("apply target.safetensors p -o {} --force", SHARDS[1])).ok();
}

#[cfg(unix)]
#[test]
fn paths_of_any_bytes_are_told_in_json() {
    use std::os::unix::ffi::OsStrExt;
    let dir = model("--density 10%");
    let other = std::ffi::OsStr::from_bytes(b"mod\xffel");
    std::fs::rename(dir.path("model"), dir.path("").join(other)).unwrap();
    let run = |before: &[&str], after: &[&str]| {
        let output = dir.command().args(before).arg(other).args(after).output().unwrap();
        Run::new(&before.join(" "), output).ok().json()
    };
    assert_eq!(run(&["apply"], &["p", "--in-place", "--json"])["result"], "mod\u{fffd}el");
    assert_eq!(run(&["status"], &["--json"])["model"], "mod\u{fffd}el");
}

#[cfg(unix)]
#[test]
fn what_cannot_be_said_is_done_all_the_same() {
    let dir = model("--density 10%");
    let run = |arguments: &str| {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = dir.command().args(arguments.split_whitespace()).stdout(full).output().unwrap();
        Run::new(arguments, output).fails(3)
    };
    run("apply model p --in-place").says(&["all is done", "standard output"]);
    dir.run("status model").ok().prints(&["the base + p:1"]);
    run("revert model").says(&["all is done"]);
    for arguments in ["--help", "--version", "help apply", "diff --help"] {
        run(arguments).says(&["write standard output"]);
    }
}

#[cfg(unix)]
#[test]
fn weights_that_were_replaced_since_are_left_alone() {
    let (dir, before) = interrupted();
    let mut other = before[1].clone();
    let end = other.len();
    other[end / 2..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    dir.write(SHARDS[1], &other);
    let first = dir.read(SHARDS[0]);
    dir.run("recover model").fails(6).says(&["replaced, changed or copied since", "remove", "--copied"]);
    assert_eq!(shards(&dir), [first, other]);
    // The same file once more is no other file.
    dir.write(SHARDS[1], &before[1]);
    dir.run("recover model").ok();
    assert_eq!(shards(&dir), before);

    let (dir, _) = interrupted();
    let mut journal = dir.read(JOURNAL);
    *journal.last_mut().unwrap() ^= 1;
    dir.write(JOURNAL, &journal);
    dir.run("recover model").fails(5).says(&["not a valid journal"]);
}

#[test]
fn a_result_that_is_refused_after_the_edit_is_taken_back() {
    let dir = model("--density 10%");
    dir.run("apply model p --in-place --undo u").ok();
    let edited = shards(&dir);
    let mut log = dir.run("log model --json").ok().json();
    let digests = log["steps"][0]["before"].as_object_mut().unwrap();
    digests.values_mut().for_each(|digest| *digest = "0".repeat(64).into());
    dir.write("model/lcepatch-log.json", log.to_string().as_bytes());
    dir.run("revert model").fails(6).says(&["would not be what it was before"]);
    assert_eq!(shards(&dir), edited);
    assert!(!dir.exists(JOURNAL));
}
