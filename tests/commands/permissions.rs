//! Files and folders that the user may not read or write.

use crate::support::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// Changes a mode, and back when it is dropped, so that the scratch directory can be removed.
struct Mode(std::path::PathBuf, Permissions);

impl Mode {
    fn set(dir: &Dir, name: &str, mode: u32) -> Self {
        let path = dir.path(name);
        let before = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Self(path, before)
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        std::fs::set_permissions(&self.0, self.1.clone()).unwrap();
    }
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let dir = bert_dir();
    let _mode = Mode::set(&dir, "reference.safetensors", 0);
    let run = dir.run_bound("diff target.safetensors reference.safetensors -o p --all");
    run.fails(3).says(&["reference.safetensors", "Permission denied"]);
    assert!(!dir.exists("p"));
}

#[test]
fn a_folder_that_may_not_be_written_keeps_what_it_has() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --all").ok();
    dir.write("full/target.safetensors", &dir.read("target.safetensors"));
    let _mode = Mode::set(&dir, "full", 0o555);
    dir.run_bound("apply target.safetensors p -o full/result").fails(3).says(&["full", "Permission denied"]);
    assert_eq!(names(&dir.path("full")), ["target.safetensors"]);
}
