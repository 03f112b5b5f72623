//! The order of modules in each `lib.rs` holds: each uses only those before it.

use crate::support::Dir;
use std::path::{Path, PathBuf};

/// All source files below a folder: their paths from there, and their text.
fn sources(root: &Path) -> Vec<(String, String)> {
    fn walk(root: &Path, folder: &Path, out: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                out.push((relative, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    walk(root, root, &mut files);
    files
}

/// The module that a line of `lib.rs` declares.
fn declared_module(line: &str) -> Option<&str> {
    let rest = ["pub mod ", "pub(crate) mod ", "mod "].iter().find_map(|start| line.strip_prefix(start))?;
    rest.strip_suffix(';')
}

/// The word that a text begins with.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The modules that a text names after `crate::`, alone or in braces.
fn modules_used(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                c if at_start && !c.is_whitespace() => {
                    used.push(word(&list[at..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    used
}

/// Where a file uses a module that stands below its own in `lib.rs`.
fn wrong_uses(root: &Path) -> Vec<String> {
    let library = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let order: Vec<&str> = library.lines().filter_map(|line| declared_module(line)).collect();
    let place = |module: &str| order.iter().position(|there| *there == module);
    let mut wrong = Vec::new();
    for (file, text) in sources(root) {
        let module = file.split(['/', '.']).next().unwrap();
        // The command line is a program of its own, and the helpers of unit tests serve every module.
        if ["lib", "main", "cli", "testing"].contains(&module) {
            continue;
        }
        let own = place(module).unwrap_or_else(|| panic!("{file}: {module} is not in lib.rs"));
        for used in modules_used(&text) {
            if place(&used).is_some_and(|other| other > own) {
                wrong.push(format!("{file} uses {used}"));
            }
        }
    }
    wrong
}

/// The source folders of all packages.
fn source_folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = packages.chain([root.to_owned()]).map(|package| package.join("src")).collect();
    assert_eq!(folders.len(), 6, "packages");
    folders
}

#[test]
fn modules_use_only_those_before_them() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/src");
    for folder in source_folders().into_iter().chain([python]) {
        assert_eq!(wrong_uses(&folder), Vec::<String>::new(), "{}", folder.display());
    }
}

#[test]
fn uses_of_later_modules_are_found_however_they_are_written() {
    let dir = Dir::new();
    dir.write("lib.rs", b"pub mod one;\npub mod two;\n// Group\npub mod three;\n");
    dir.write("one.rs", b"use crate::two::Two;\n");
    dir.write("two/mod.rs", b"use crate::{one::{self, three}, three::Three};\nfn f() { crate::one::f() }\n");
    dir.write("three.rs", b"use crate::{\n    one,\n    two::Two,\n};\n");
    let mut wrong = wrong_uses(&dir.path(""));
    wrong.sort();
    assert_eq!(wrong, ["one.rs uses two", "two/mod.rs uses three"]);
}

/// Whether a line of code has a text that names a flag (`--force`) or a subcommand (`` `lcepatch show` ``).
fn names_the_command_line(line: &str) -> bool {
    let code = !line.trim_start().starts_with("//");
    let starts_word = |before: &str| before.ends_with([' ', '`', '"', '(']);
    let flag = line
        .match_indices("--")
        .any(|(at, _)| starts_word(&line[..at]) && line[at + 2..].starts_with(|c: char| c.is_ascii_lowercase()));
    code && (flag || line.contains("`lcepatch "))
}

#[test]
fn the_library_names_no_flag_and_no_subcommand() {
    for named in ["\"use --in-place\"", "f(\"--cast\", x)", "    \"`lcepatch show` lists\"", "\"made by `diff --all`\""]
    {
        assert!(names_the_command_line(named), "{named}");
    }
    for (file, text) in source_folders().iter().flat_map(|folder| sources(folder)) {
        // The command line itself, a program that the library calls, and a text for those who will use the command.
        let may = ["model/runtime/install.rs", "publish/card.rs"].contains(&file.as_str());
        if file.starts_with("cli/") || may || !file.ends_with(".rs") {
            continue;
        }
        for line in text.lines() {
            assert!(!names_the_command_line(line), "{file}: {line}");
        }
    }
}

#[test]
fn every_rule_of_the_spec_is_a_variant_and_every_citation_a_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [format, apply] = ["spec/lcepatch-v1.md", "spec/apply-v1.md"];
    let [format, apply] = [format, apply].map(|text| std::fs::read_to_string(root.join(text)).unwrap());
    let spec = format + &apply;
    let invalid = std::fs::read_to_string(root.join("crates/format/src/invalid.rs")).unwrap();
    for rule in 1.. {
        let in_spec = spec.contains(&format!("| R{rule} |"));
        assert_eq!(in_spec, invalid.contains(&format!("=> {rule},")), "R{rule}");
        if !in_spec {
            break;
        }
    }
    for (file, text) in source_folders().iter().flat_map(|folder| sources(folder)) {
        for cited in text.split('§').skip(1) {
            let number: String =
                cited.chars().take_while(|c| c.is_ascii_digit() || c.is_ascii_uppercase() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            let heading = [format!("## {number} "), format!("### {number} ")];
            assert!(heading.iter().any(|heading| spec.contains(heading)), "{file} cites §{number}");
        }
    }
}
