//! Completions and manual pages, in the shells and programs that read them, and the configuration.

use crate::support::*;
use std::process::Command;

/// What a shell answers to a script that may source the completions, `c`. The test is ignored where the shell is missing.
#[track_caller]
fn in_shell(shell: &str, arguments: &[&str], script: &str) -> String {
    let dir = Dir::new();
    dir.write("c", dir.run(&format!("completions {shell}")).ok().out.as_bytes());
    dir.write("debias.lcepatch", b"");
    let mut command = Command::new(shell);
    command
        .args(arguments)
        .arg(script)
        .current_dir(dir.path(""))
        .env("HOME", dir.path(""))
        .env_remove("XDG_CONFIG_HOME");
    match command.output() {
        Ok(output) => {
            let run = Run::new(script, output).ok();
            assert_eq!(run.err, "", "{run:#?}");
            run.out
        }
        Err(error) => missing(format!("needs {shell}: {error}")),
    }
}

/// Asks bash as its Tab key does: the function of the command gets all words, and the one to complete.
fn in_bash(words: &str) -> String {
    let last = words.split(' ').count() - 1;
    let script = format!(
        "source c; COMP_WORDS=({words}); COMP_CWORD={last}; _lcepatch lcepatch \"${{COMP_WORDS[-1]}}\" \
         \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
    );
    in_shell("bash", &["--norc", "-c"], &script)
}

#[test]
fn bash_completes_commands_flags_values_and_files() {
    assert_eq!(in_bash("lcepatch ap"), "apply\n");
    assert_eq!(in_bash("lcepatch apply --in-"), "--in-place\n");
    assert_eq!(in_bash("lcepatch completions powersh"), "powershell\n");
    // Where the function has no answer, bash completes files.
    assert_eq!(in_bash("lcepatch show deb"), "\n");
    assert!(in_shell("bash", &["--norc", "-c"], "source c; complete -p lcepatch").contains("-o default"));
}

#[test]
fn fish_completes_commands_flags_values_and_files() {
    let complete = |words: &str| in_shell("fish", &["--no-config", "-c"], &format!("source c; complete -C '{words}'"));
    assert_eq!(complete("lcepatch ap"), "apply\tApply patches to a base, at any alpha\n");
    assert!(complete("lcepatch apply --in-").starts_with("--in-place\t"));
    assert!(complete("lcepatch diff --params ").contains("encoder-dense"));
    assert_eq!(complete("lcepatch show deb"), "debias.lcepatch\n");
}

#[test]
fn zsh_completes_with_it_and_patches_are_files() {
    let script = "autoload -U compinit; compinit -D; source ./c; echo $_comps[lcepatch]; functions _lcepatch";
    let said = in_shell("zsh", &["-f", "-c"], script);
    assert!(said.starts_with("_lcepatch\n"), "{said}");
    let patches = said.lines().find(|line| line.contains("*::patches")).unwrap();
    assert!(patches.ends_with(":_files' \\") || patches.contains(":_files'"), "{patches}");
}

#[test]
fn every_shell_has_the_commands() {
    let dir = Dir::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish", "nushell"] {
        let script = dir.run(&format!("completions {shell}")).ok().out;
        for word in ["apply", "in-place", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    dir.run("completions tcsh").fails(2).says(&["tcsh", "nushell"]);
}

#[test]
fn manual_pages_are_printed_or_written_and_not_replaced() {
    let dir = Dir::new();
    dir.run("man").ok().prints(&[".TH lcepatch 1 ", "lcepatch\\-apply(1)"]);
    dir.run("man runtime status").ok().prints(&[".TH lcepatch-runtime-status 1 "]);
    dir.run("man nothing").fails(2).says(&["has no command \"nothing\"", "apply"]);
    dir.run("man show twice").fails(2).says(&["lcepatch show has no command", "lcepatch man show"]);
    dir.run("man apply -o pages").ok().prints(&["wrote pages/lcepatch-apply.1"]);
    dir.run("man -o pages").fails(2).says(&["lcepatch-apply.1", "exists already"]);
    assert_eq!(names(&dir.path("pages")), ["lcepatch-apply.1"], "nothing is written beside what is refused");
    dir.run("man -o pages --force").ok();
    assert!(dir.exists("pages/lcepatch.1") && !names(&dir.path("pages")).iter().any(|name| name.contains("help")));
}

#[test]
fn man_reads_the_pages_without_a_warning() {
    let dir = Dir::new();
    dir.run("man -o pages").ok();
    for page in names(&dir.path("pages")) {
        let mut command = Command::new("man");
        command.args(["--warnings", "-l", &page]).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let output = match command.current_dir(dir.path("pages")).output() {
            Ok(output) => Run::new(&page, output).ok(),
            Err(error) => missing(format!("needs man: {error}")),
        };
        assert!(output.err.is_empty() && output.out.contains("NAME"), "{output:#?}");
    }
}

/// Runs with a configuration file of this text.
fn configured(dir: &Dir, text: &str, variables: &[(&str, &str)], arguments: &str) -> Run {
    let path = dir.write("home/lcepatch/config.toml", text.as_bytes());
    let mut command = dir.command();
    for name in ["NO_COLOR", "CLICOLOR_FORCE", "LCEPATCH_CONFIG", "LCEPATCH_COLOR", "LCEPATCH_PROGRESS"] {
        command.env_remove(name);
    }
    // On Windows APPDATA is what XDG_CONFIG_HOME is elsewhere.
    let home = path.parent().unwrap().parent().unwrap();
    command.env("XDG_CONFIG_HOME", home).env("APPDATA", home).envs(variables.iter().copied());
    Run::new(arguments, command.args(arguments.split_whitespace()).output().unwrap())
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let dir = bert_dir();
    let diff = "diff target.safetensors reference.safetensors --density 10% --force -o p";
    let colour_and_json = |variables: &[(&str, &str)], flags: &str| {
        let text = "color = 'always'\nprogress = 'json'\nthreads = 2\n";
        let run = configured(&dir, text, variables, &format!("{diff} {flags}")).ok();
        (run.out.contains('\x1b'), run.err.starts_with('{'))
    };
    assert_eq!(colour_and_json(&[], ""), (true, true));
    assert_eq!(colour_and_json(&[("LCEPATCH_CONFIG", "")], ""), (false, false));
    let variables = [("LCEPATCH_COLOR", "never"), ("LCEPATCH_PROGRESS", "none")];
    assert_eq!(colour_and_json(&variables, ""), (false, false));
    assert_eq!(colour_and_json(&variables, "--color always --progress json"), (true, true));
    assert_eq!(colour_and_json(&[], "--color never --quiet"), (false, false));
}

#[test]
fn the_configuration_changes_no_byte_of_a_patch() {
    let dir = bert_dir();
    let diff = "diff target.safetensors reference.safetensors --density 10%";
    dir.run(&format!("{diff} -o p")).ok();
    let text =
        "threads = 1\ncolor = 'always'\nprogress = 'plain'\nendpoint = 'http://127.0.0.1:1'\nallowed_signers = 'l'";
    configured(&dir, text, &[], &format!("{diff} -o q")).ok();
    assert_eq!(dir.read("p"), dir.read("q"));
}

#[test]
fn what_is_wrong_in_the_configuration_is_an_error() {
    let dir = bert_dir();
    let fails = |text: &str, says: &[&str]| {
        configured(&dir, text, &[], "mask target.safetensors --sparsity 1%").fails(2).says(says)
    };
    fails("colour = 'never'", &["config.toml: there is no key \"colour\"", "help: color is similar"]);
    fails("alpha = 2", &["no key \"alpha\"", "allowed_signers"]);
    fails("color = 'blue'", &["blue", "always"]);
    fails("threads = 2\ncolor", &["config.toml: line 2: "]);
    let absent = [("LCEPATCH_CONFIG", "absent.toml")];
    configured(&dir, "", &absent, "show p").fails(3).says(&["absent.toml"]);
    // The version and the help do not depend on it.
    configured(&dir, "alpha = 2", &[], "--version").ok();
}

#[test]
fn a_configured_list_of_signers_is_required() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors --density 10% -o p").ok();
    dir.write(
        "home/lcepatch/list",
        b"alice@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c\n",
    );
    let text = "allowed_signers = 'list'";
    configured(&dir, text, &[], "check p").fails(11).says(&["p.sig"]);
    configured(&dir, text, &[], "apply target.safetensors p -o r").fails(11);
    configured(&dir, text, &[("LCEPATCH_ALLOWED_SIGNERS", "absent")], "check p").fails(3).says(&["absent"]);
    configured(&dir, text, &[("LCEPATCH_ALLOWED_SIGNERS", "")], "check p").ok();
    dir.run("check p --signer alice@example.com").fails(2).says(&["--require-signature"]);
}

/// Runs git here, with a home of its own and this `lcepatch` on the path.
fn git(dir: &Dir, words: &[&str]) -> Run {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_lcepatch")).parent().unwrap().to_owned();
    let paths = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let path = std::env::join_paths([bin].into_iter().chain(paths)).unwrap();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir.path("")).env("PATH", path).env("HOME", dir.path("home"));
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("XDG_CONFIG_HOME")
        .env("LCEPATCH_CONFIG", "")
        .env("GIT_PAGER", "cat");
    for name in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{name}_NAME"), "a").env(format!("GIT_{name}_EMAIL"), "a@b");
    }
    match command.output() {
        Ok(output) => Run::new(&words.join(" "), output),
        Err(error) => missing(format!("needs {}: {error}", words[0])),
    }
}

/// A repository with a checkpoint `a.safetensors` and a patch `p.lcepatch` in two versions, the second one not committed.
fn repository() -> Dir {
    let dir = bert_dir();
    std::fs::create_dir(dir.path("home")).unwrap();
    dir.run("diff target.safetensors reference.safetensors --density 5% -o p.lcepatch").ok();
    std::fs::copy(dir.path("target.safetensors"), dir.path("a.safetensors")).unwrap();
    dir.write("pointer.lcepatch", b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 7\n");
    git(&dir, &["git", "init", "-q"]).ok();
    git(&dir, &["git", "add", "p.lcepatch", "a.safetensors", "pointer.lcepatch"]).ok();
    git(&dir, &["git", "commit", "-q", "-m", "first"]).ok();
    dir.run("diff target.safetensors reference.safetensors --density 9% -o p.lcepatch --force").ok();
    std::fs::copy(dir.path("reference.safetensors"), dir.path("a.safetensors")).unwrap();
    dir.write("pointer.lcepatch", b"version https://git-lfs.github.com/spec/v1\noid sha256:0b\nsize 7\n");
    dir
}

#[test]
fn git_shows_patches_and_checkpoints_as_text() {
    let dir = repository();
    git(&dir, &["git", "diff"]).ok().prints(&["Binary files"]);
    git(&dir, &["lcepatch", "git", "install"]).ok().prints(&["set diff.lcepatch.textconv", "added 2 lines to"]);
    git(&dir, &["lcepatch", "git", "install"]).ok().prints(&["has its lines already"]);
    let diff = git(&dir, &["git", "diff"]).ok().prints(&["-  selected ", "+  selected ", "patch id", "+oid sha256:0b"]);
    let line = "bert.encoder.layer.0.attention.output.dense.weight";
    assert!(diff.out.lines().any(|text| text.starts_with(&format!("-{line}")) && text.contains("F32")), "{}", diff.out);
    let names_files = |text: &&str| text.starts_with(['-', '+']) && text.contains("lcepatch:");
    assert_eq!(diff.out.lines().find(names_files), None, "the file's name, which is git's own for the first");
    git(&dir, &["lcepatch", "git", "uninstall"]).ok().prints(&["removed diff.lcepatch.textconv", "removed 2 lines"]);
    git(&dir, &["git", "diff"]).ok().prints(&["Binary files"]);
}

#[test]
fn git_is_set_up_for_all_repositories_too_and_other_lines_stay() {
    let dir = repository();
    dir.write("home/.config/git/attributes", b"*.png binary");
    git(&dir, &["lcepatch", "git", "install", "--global"]).ok();
    let text = String::from_utf8(dir.read("home/.config/git/attributes")).unwrap();
    assert_eq!(text, "*.png binary\n*.lcepatch diff=lcepatch\n*.safetensors diff=lcepatch\n");
    assert!(!dir.exists(".gitattributes"));
    git(&dir, &["git", "diff"]).ok().prints(&["+  selected "]);
    git(&dir, &["lcepatch", "git", "uninstall", "--global"]).ok();
    assert_eq!(dir.read("home/.config/git/attributes"), b"*.png binary\n");
}

#[test]
fn git_goes_on_where_a_file_cannot_be_shown() {
    let dir = Dir::new();
    dir.write("x.lcepatch", b"neither");
    dir.run("git textconv x.lcepatch").ok().prints(&["cannot be shown: this file"]);
    dir.run("git textconv absent").fails(3).says(&["absent"]);
    let outside = git(&dir, &["lcepatch", "git", "install"]);
    outside.fails(2).says(&["not in a git repository", "--global"]);
}
