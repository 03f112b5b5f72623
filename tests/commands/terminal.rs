//! No text from a file, a name or an argument acts on the terminal.

use crate::support::*;
use lcepatch::format::metadata::{Derived, Masks, Overlap, SourceFile};
use lcepatch::patch::Patch;
use lcepatch_files::durable::Existing;
use std::path::Path;

/// Sets a title, clears the screen, colours by C1, reorders and hides text, and begins a line of its own.
const HOSTILE: &str = "\x1b]0;owned\x07\x1b[2J\r\u{9b}5m\u{85}\u{7f}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\nINJECTED";
/// What the program styles its own text with.
const STYLES: [&str; 3] = ["\x1b[0m", "\x1b[1m", "\x1b[31m"];

/// Runs with colours, as on a terminal, and expects that nothing hostile came through but the text itself.
#[track_caller]
fn run(dir: &Dir, arguments: &[&str], code: i32) -> Run {
    let output = dir.command().env("CLICOLOR_FORCE", "1").args(arguments).output().unwrap();
    let run = Run::new(&arguments.join(" "), output).fails(code);
    let mut shown = format!("{}{}", run.out, run.err);
    for style in STYLES {
        shown = shown.replace(style, "");
    }
    let acts = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}".contains(c));
    assert!(!shown.contains(acts), "{run:#?}");
    assert!(!shown.lines().any(|line| line.starts_with("INJECTED")), "{run:#?}");
    assert!(shown.contains("INJECTED") && (shown.contains("\\u{202e}") || shown.contains("\\u202e")), "{run:#?}");
    run
}

/// A pair whose tensors have hostile names, and a patch of it with hostile metadata.
fn hostile() -> Dir {
    let dir = Dir::new();
    let tensor = |values: &[f32]| Tensor::f32(&format!("w{HOSTILE}"), &[2, 2], values);
    dir.write("a", &safetensors(&[tensor(&[1.0, 2.0, 3.0, 4.0])]));
    dir.write("b", &safetensors(&[tensor(&[1.5, 2.0, 3.0, 5.0])]));
    dir.write("c", &safetensors(&[Tensor::f32("other", &[1], &[0.0])]));
    dir.run("diff a b -o plain --all").ok();
    let patch = Patch::open(dir.path("plain")).unwrap();
    let text = || HOSTILE.to_owned();
    let mut metadata = patch.metadata().clone();
    (metadata.tool, metadata.description, metadata.license) = (text(), Some(text()), Some(text()));
    metadata.localization.method = text();
    metadata.candidates.family = Some(text());
    metadata.base.model_id = Some(text());
    metadata.reference.files = vec![SourceFile { name: text(), sha256: Some(text()), ..SourceFile::default() }];
    metadata.derived = Some(Derived { verb: text(), patches: vec![text()] });
    let by_component = [(text(), Overlap::default())].into();
    metadata.masks = Some(Masks { source: text(), by_component, ..Masks::default() });
    metadata.results.insert(text(), text().into());
    metadata.x.insert(text(), text().into());
    patch.with_metadata(&metadata).unwrap().save(dir.path("p"), Existing::Keep).unwrap();
    dir
}

#[test]
fn of_patches_and_checkpoints() {
    let dir = hostile();
    run(&dir, &["show", "p"], 0);
    run(&dir, &["show", "p", "--tensors"], 0);
    run(&dir, &["check", "p", "c"], 1);
    run(&dir, &["apply", "c", "p", "-o", "r"], 6);
    run(&dir, &["diff", "a", "c"], 5);
    run(&dir, &["mask", "a", "--compare", "b", "--include", HOSTILE], 2);
}

#[test]
fn in_json_it_is_escaped_and_means_the_same() {
    let dir = hostile();
    let shown = run(&dir, &["show", "p", "--json"], 0).json();
    assert_eq!(shown["metadata"]["description"], HOSTILE);
    assert_eq!(shown["stat"]["tensors"][0]["name"], format!("w{HOSTILE}"));
    run(&dir, &["check", "p", "c", "--json"], 1);
}

#[test]
fn of_names_of_files_and_of_arguments() {
    let dir = hostile();
    // No file's name has a zero byte or a slash; everything else is a name.
    let name = HOSTILE;
    std::fs::copy(dir.path("p"), dir.path(name)).unwrap();
    run(&dir, &["show", name], 0);
    run(&dir, &["check", name], 0);
    run(&dir, &["apply", "a", name, "-o", &format!("{name}.out"), "--undo", &format!("{name}.undo")], 0);
    run(&dir, &["show", &format!("absent{name}")], 3);
    run(&dir, &["apply", "a", &format!("{name}:nan"), "-o", "r"], 2);
    run(&dir, &["show", "p", &format!("--{name}")], 2);
    run(&dir, &["diff", "a", "b", "--scope", name], 2);
    run(&dir, &["apply", "a", name, name, "-o", "twice"], 0).says(&["more than once"]);
}

#[test]
fn of_logs() {
    let dir = hostile();
    let (target, _) = bert_pair();
    write_model(&dir, "model", &target);
    let step = serde_json::json!({
        "time": HOSTILE, "tool": HOSTILE, "before": {}, "after": {}, "undo": {"id": HOSTILE, "file": HOSTILE},
        "patches": [{"id": HOSTILE, "file": HOSTILE, "edit": HOSTILE, "alpha": null}],
    });
    let mut log = serde_json::json!({ "steps": [step] });
    dir.write("model/lcepatch-log.json", log.to_string().as_bytes());
    run(&dir, &["log", "model"], 0);
    run(&dir, &["log", "model", "--json"], 0);
    let status = dir.run("status model --json").fails(1).json();
    log["steps"][0]["after"] = status["files"].clone();
    dir.write("model/lcepatch-log.json", log.to_string().as_bytes());
    run(&dir, &["status", "model"], 0);
    run(&dir, &["revert", "model"], 6);
    dir.write("model/lcepatch-log.json", format!("{{\"steps\": {HOSTILE:?}}}").as_bytes());
    assert_eq!(dir.run("log model").fails(5).err.lines().count(), 2);
}

#[test]
fn the_programs_own_line_breaks_stay() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 10%").ok().prints(&["\n\nwrote p: "]);
    assert!(!dir.run("compare p p --base target.safetensors -o q").ok().out.contains("\\n"));
}

/// Runs with these variables, and no others that have a say in colour or progress.
fn run_with(dir: &Dir, variables: &[(&str, &str)], arguments: &str) -> Run {
    let mut command = dir.command();
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LCEPATCH_COLOR", "LCEPATCH_PROGRESS"] {
        command.env_remove(name);
    }
    Run::new(arguments, command.envs(variables.iter().copied()).args(arguments.split_whitespace()).output().unwrap())
}

#[test]
fn colour_is_by_the_flag_then_by_variables_then_by_the_terminal() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 10%").ok();
    let force = ("CLICOLOR_FORCE", "1");
    let colour = ("LCEPATCH_COLOR", "always");
    for arguments in ["show p", "show --help", "show absent", "show --absent"] {
        let is_coloured = |variables: &[(&str, &str)], more: &str| {
            let run = run_with(&dir, variables, &format!("{arguments} {more}"));
            format!("{}{}", run.out, run.err).contains('\x1b')
        };
        assert!(!is_coloured(&[], "") && !is_coloured(&[], "--color auto"), "{arguments}");
        assert!(
            is_coloured(&[force], "") && is_coloured(&[colour], "") && is_coloured(&[], "--color=always"),
            "{arguments}"
        );
        assert!(is_coloured(&[("NO_COLOR", "1")], "--color always"), "{arguments}");
        assert!(!is_coloured(&[force, colour], "--color never"), "{arguments}");
        assert!(!is_coloured(&[force, ("NO_COLOR", "1")], ""), "{arguments}");
    }
    run_with(&dir, &[], "show p --color blue").fails(2).says(&["blue", "always"]);
}

#[test]
fn progress_for_programs_is_an_object_a_line() {
    let dir = bert_dir();
    let diff = "diff target.safetensors reference.safetensors --force -o p --density 10%";
    let run = run_with(&dir, &[], &format!("{diff} --progress json --json")).ok();
    run.json();
    let lines: Vec<serde_json::Value> = run.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bytes = dir.read("target.safetensors").len() as u64;
    let localizing: Vec<_> = lines.iter().filter(|line| line["stage"] == "localizing").collect();
    assert!(!localizing.is_empty() && localizing[0]["done"] == 0 && localizing[0]["unit"] == "bytes", "{lines:?}");
    assert!(localizing[0]["total"].as_u64().unwrap() > bytes, "{lines:?}");
    let last = lines.last().unwrap();
    assert!(last["done"].as_u64() > Some(0), "{lines:?}");
    let from_variable = run_with(&dir, &[("LCEPATCH_PROGRESS", "json")], diff).ok();
    assert!(from_variable.err.starts_with('{'), "{from_variable:#?}");
}

#[test]
fn progress_is_lines_or_nothing_where_there_is_no_terminal() {
    let dir = bert_dir();
    let diff = "diff target.safetensors reference.safetensors --force -o p --density 10%";
    let plain = run_with(&dir, &[], &format!("{diff} --progress plain")).ok();
    assert!(plain.err.lines().any(|line| line.starts_with("localizing: 0 bytes of ")), "{plain:#?}");
    for form in ["", "--progress auto", "--progress bar", "--progress none", "--progress plain --quiet"] {
        assert_eq!(run_with(&dir, &[], &format!("{diff} {form}")).ok().err, "", "{form}");
    }
}

/// Runs on a terminal of so many columns. The test is ignored where `script` is missing.
#[cfg(target_os = "linux")]
fn on_terminal(dir: &Dir, columns: u32, arguments: &str) -> String {
    let line = format!("stty cols {columns} rows 24; {} {arguments}", env!("CARGO_BIN_EXE_lcepatch"));
    let mut command = std::process::Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .current_dir(dir.path(""))
        .env("LCEPATCH_CONFIG", "")
        .env("NO_COLOR", "1");
    match command.stdin(std::process::Stdio::null()).output() {
        Ok(output) => Run::new(arguments, output).ok().out.replace("\r\n", "\n"),
        Err(error) => missing(format!("needs script: {error}")),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn show_fits_the_terminal_and_folds_layers() {
    let dir = Dir::new();
    let side = |moved: f32| {
        let tensor = |layer: u32| {
            let values: Vec<f32> = (0..16 + layer).map(|at| at as f32 + moved * (layer + 1) as f32).collect();
            Tensor::f32(
                &format!("bert.encoder.layer.{layer}.output.dense.weight"),
                &[16 + u64::from(layer), 1],
                &values,
            )
        };
        safetensors(&(0..24).map(tensor).collect::<Vec<_>>())
    };
    dir.write("a.safetensors", &side(0.0));
    dir.write("b.safetensors", &side(0.25));
    dir.run("diff a.safetensors b.safetensors --all -o p").ok();
    let piped = dir.run("show p").ok().out;
    for columns in [60, 80, 120] {
        let shown = on_terminal(&dir, columns, "show p");
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns as usize, "{widest} of {columns}:\n{shown}");
        assert!(shown.contains("\n6 to 18") && shown.contains("13 layers are one row; --all-layers"), "{shown}");
        assert!(!shown.contains("\n7  ") && shown.contains("\n23  "), "{shown}");
        assert!(on_terminal(&dir, columns, "show p --all-layers").contains("\n7  "), "{shown}");
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest(&on_terminal(&dir, columns, "show p --tensors")) <= columns as usize);
    }
    // Where nothing has to be cut, the identity is whole.
    let id = dir.run("check p --json").ok().json()["id"].as_str().unwrap().to_owned();
    assert!(!on_terminal(&dir, 60, "show p").contains(&id) && on_terminal(&dir, 200, "show p").contains(&id));
    assert!(
        piped.contains(&id) && piped.contains("\n7  ") && piped.contains("####") && !piped.contains(" to "),
        "{piped}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn bars_of_one_length_are_left_out_on_a_terminal() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors --all -o p --include *.0.*query.weight").ok();
    assert!(dir.run("diff target.safetensors reference.safetensors --include *query.weight").ok().out.contains("####"));
    let shown = on_terminal(&dir, 120, "show p");
    assert!(shown.contains("mean |delta|") && !shown.contains("####"), "{shown}");
}

#[test]
fn of_figures() {
    let dir = hostile();
    dir.run("show p --plot p.svg").ok();
    let svg = String::from_utf8(dir.read("p.svg")).unwrap();
    assert!(svg.starts_with("<svg") && !svg.contains(|c: char| c != '\n' && c.is_control()));
    assert!(Path::new(&dir.path("p.svg")).is_file());
}
