//! `lcepatch runtime`.

use crate::support::{Dir, Run};

/// Runs it where no variable tells of a library, and the data directory is `home`.
fn run(dir: &Dir, arguments: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = dir.command();
    for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    // An index that nobody serves.
    command.env("PIP_INDEX_URL", "http://127.0.0.1:9/simple");
    command.env("LCEPATCH_HOME", dir.path("home")).envs(variables.iter().copied());
    Run::new(arguments, command.args(arguments.split_whitespace()).output().unwrap())
}

#[test]
fn without_a_runtime_the_answer_is_no_and_how_to_get_one() {
    let dir = Dir::new();
    // No system has the build for CUDA in the loader's usual folders unless someone put it there on purpose.
    let status = run(&dir, "runtime status --cuda --json", &[]).fails(1);
    let json = status.json();
    assert_eq!(json["library"], serde_json::Value::Null);
    assert_eq!(json["provider"], "cuda:0");
    assert_eq!(json["help"], "`lcepatch runtime install --cuda` puts one in place");
    assert!(json["looked"].as_array().unwrap().len() > 2, "{json}");
    run(&dir, "runtime status --cuda", &[]).fails(1).prints(&["ORT_DYLIB_PATH is not set", "runtime install --cuda"]);
    assert!(!dir.exists("home"), "asking leaves nothing behind");
}

#[test]
fn a_named_library_must_be_there_and_be_one() {
    let dir = Dir::new();
    let absent = dir.path("absent.so");
    let variable = [("ORT_DYLIB_PATH", absent.to_str().unwrap())];
    let says = ["ORT_DYLIB_PATH is", "absent.so", "no such file", "lcepatch runtime install"];
    run(&dir, "runtime status", &variable).fails(8).says(&says);
    run(&dir, "runtime status --json", &variable).fails(8).says(&says);
    let text = dir.write("text.so", b"not a library");
    let variable = [("ORT_DYLIB_PATH", text.to_str().unwrap())];
    run(&dir, "runtime status", &variable).fails(8).says(&["text.so: not a library of ONNX Runtime"]);
}

#[cfg(unix)]
mod with_a_python {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A `python3` that is this script.
    fn python(dir: &Dir, script: &str) -> String {
        let path = dir.write("bin/python3", format!("#!/bin/sh\n{script}\n").as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{}:/usr/bin:/bin", path.parent().unwrap().display())
    }

    #[track_caller]
    fn fails(script: &str, code: i32, says: &[&str]) {
        let dir = Dir::new();
        let path = python(&dir, script);
        run(&dir, "runtime install", &[("PATH", &path)]).fails(code).says(says);
        assert_eq!(crate::support::names(&dir.path("home/runtime")), Vec::<String>::new(), "something was left");
    }

    #[test]
    fn an_installation_that_fails_says_why_and_leaves_nothing() {
        let says = ["onnxruntime==1.32.0 cannot be downloaded", "127.0.0.1:9"];
        fails("echo 'python3: No module named pip' >&2; exit 1", 9, &says);
        fails(
            "echo 'ERROR: No matching distribution found for onnxruntime==1.32.0' >&2; exit 1",
            9,
            &["onnxruntime==1.32.0 cannot be downloaded: No matching distribution"],
        );
        fails("exit 0", 9, &["it left no wheel"]);
        // Finds the folder after --dest.
        let download = "while [ \"$1\" != --dest ]; do shift; done; echo changed > \"$2/onnxruntime-1.32.0.whl\"";
        fails(download, 6, &["onnxruntime-1.32.0.whl: SHA-256 is", "is expected", "nothing was installed"]);
    }

    #[test]
    fn an_installation_needs_an_index_or_a_python() {
        let dir = Dir::new();
        let says = ["onnxruntime==1.32.0 cannot be downloaded", "127.0.0.1:9", "ORT_DYLIB_PATH"];
        run(&dir, "runtime install", &[("PATH", "/nowhere")]).fails(9).says(&says);
    }
}
