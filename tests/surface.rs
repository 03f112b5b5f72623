//! The names that the library shows: a change is seen in the golden file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The file of the module `name`, declared in the folder `folder`.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    let alone = folder.join(format!("{name}.rs"));
    if alone.exists() { alone } else { folder.join(name).join("mod.rs") }
}

/// The names in the tree of a `use`, such as `a::{B, c::D as E}`.
fn used(tree: &str) -> Vec<String> {
    let Some((_, list)) = tree.split_once('{') else {
        let name = tree.rsplit(" as ").next().unwrap_or(tree);
        return vec![name.rsplit("::").next().unwrap_or(name).trim().to_owned()];
    };
    list.trim_end_matches('}')
        .split(',')
        .filter(|item| !item.trim().is_empty())
        .flat_map(|item| used(item.trim()))
        .collect()
}

/// Adds the public names of a module, `path` being what they begin with.
fn collect(file: &Path, path: &str, names: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let folder = file.parent().unwrap();
    let folder = match file.file_stem().unwrap().to_str().unwrap() {
        "lib" | "mod" => folder.to_owned(),
        name => folder.join(name),
    };
    let mut is_hidden = false;
    let mut statements = text.lines().peekable();
    while let Some(line) = statements.next() {
        if line.starts_with("#[") || line.starts_with("//") {
            is_hidden |= line.contains("doc(hidden)");
            continue;
        }
        let Some(item) = line.strip_prefix("pub ") else {
            is_hidden = false;
            continue;
        };
        if std::mem::take(&mut is_hidden) {
            continue;
        }
        let (kind, rest) = item.split_once(' ').unwrap();
        match kind {
            "use" => {
                let mut tree = rest.to_owned();
                while !tree.ends_with(';') {
                    tree += statements.next().unwrap().trim();
                }
                names.extend(used(tree.trim_end_matches(';')).into_iter().map(|name| format!("{path}{name}")));
            }
            "mod" => collect(
                &file_of(&folder, rest.trim_end_matches(';')),
                &format!("{path}{}::", rest.trim_end_matches(';')),
                names,
            ),
            "struct" | "enum" | "trait" | "fn" | "const" | "type" => {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                names.insert(format!("{path}{name}"));
            }
            _ => panic!("{}: {line}", file.display()),
        }
    }
}

#[test]
fn the_library_shows_these_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    collect(&root.join("src/lib.rs"), "", &mut names);
    let (golden, shown) =
        (root.join("tests/golden/names.txt"), names.into_iter().map(|name| name + "\n").collect::<String>());
    if std::env::var("TRYCMD").is_ok_and(|what| what == "overwrite") {
        std::fs::write(&golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    let [expected, shown]: [BTreeSet<&str>; 2] = [expected.lines().collect(), shown.lines().collect()];
    let (gone, new): (Vec<_>, Vec<_>) = (expected.difference(&shown).collect(), shown.difference(&expected).collect());
    assert!(
        gone.is_empty() && new.is_empty(),
        "no longer public: {gone:?}; newly public: {new:?} (tests/golden/names.txt)"
    );
}
