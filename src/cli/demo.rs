//! `lcepatch demo` removes the bias of a small model, and prints each command before it runs it.
//!
//! The models are part of the program (`fixtures/demo`), so the demo needs no checkout. Every step runs this program with arguments that a
//! user could type.

use super::exit::{Failure, print};
use super::{Answer, Outcome, program};
use crate::error::Reason;
use crate::words::counted;
use clap::Args;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
#[command(after_help = "\
Two small BERTs come with this program: `biased` learned from sentences in which nurses are women and engineers are men, \
`counterfactual` went on with the same sentences with the other pronoun. The demo makes a patch of the few weights in which they differ \
most, and shows how strongly it changes `biased` at which alpha. The sentences are made from templates; fixtures/demo says how.

Measuring needs ONNX Runtime. If there is none, the demo installs it like `lcepatch runtime install`, with python3. Without network or \
Python it does not measure, and says so.

The exit code is 1 if a command does not do what it should.

Examples:
  lcepatch demo
  lcepatch demo folder/")]
pub struct Arguments {
    /// Write the models and all results to this folder [default: a new one among the temporary files]
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// The files that the demo writes before its first command.
const FILES: &[(&str, &[u8])] = &[
    ("biased/config.json", include_bytes!("../../fixtures/demo/biased/config.json")),
    ("biased/model.safetensors", BIASED),
    ("biased/tokenizer.json", include_bytes!("../../fixtures/demo/biased/tokenizer.json")),
    ("biased/tokenizer_config.json", include_bytes!("../../fixtures/demo/biased/tokenizer_config.json")),
    ("counterfactual/config.json", include_bytes!("../../fixtures/demo/counterfactual/config.json")),
    ("counterfactual/model.safetensors", include_bytes!("../../fixtures/demo/counterfactual/model.safetensors")),
    ("counterfactual/tokenizer.json", include_bytes!("../../fixtures/demo/counterfactual/tokenizer.json")),
    (
        "counterfactual/tokenizer_config.json",
        include_bytes!("../../fixtures/demo/counterfactual/tokenizer_config.json"),
    ),
    ("pairs.csv", include_bytes!("../../fixtures/demo/pairs.csv")),
    ("heldout.txt", include_bytes!("../../fixtures/demo/heldout.txt")),
];

const BIASED: &[u8] = include_bytes!("../../fixtures/demo/biased/model.safetensors");

/// A command of the demo.
struct Step {
    /// What it shows, in a sentence that is printed first.
    what: &'static str,
    /// Its arguments.
    words: &'static [&'static str],
    /// How many lines of its output are printed.
    lines: usize,
    /// Its exit code if it does what it should.
    code: i32,
}

/// A command that should succeed.
const fn step(what: &'static str, words: &'static [&'static str], lines: usize) -> Step {
    Step { what, words, lines, code: 0 }
}

const MAKE: &[Step] = &[
    step(
        "a patch of the 1 % of the weights in which the models differ most",
        &[
            "diff",
            "biased",
            "counterfactual",
            "-o",
            "debias.lcepatch",
            "--density",
            "1%",
            "--recommended-alpha",
            "1.75",
        ],
        30,
    ),
    step("what it changes, and where", &["show", "debias.lcepatch"], 14),
];

#[cfg(feature = "verify")]
const INSTALL: Step = step("ONNX Runtime, which measures; only the first time", &["runtime", "install"], 2);

#[cfg(feature = "verify")]
const MEASURE: &[Step] = &[
    step(
        "what the model expects at [MASK], before and after: of two occupations, of a woman and of a man",
        &[
            "ask",
            "biased",
            "The librarian said that [MASK] was late.",
            "The plumber said that [MASK] was late.",
            "The woman said that [MASK] was late.",
            "The father said that [MASK] was late.",
            "--patch",
            "debias.lcepatch",
            "--options",
            "she,he",
        ],
        40,
    ),
    step(
        "from more bias through none to the other side: the patch, and as many weights drawn at random",
        &[
            "sweep",
            "biased",
            "counterfactual",
            "-o",
            "sweep.jsonl",
            "--k",
            "1%",
            "--alpha",
            "-1,0.5,1,1.5,1.75,2,3",
            "--crows-pairs",
            "pairs.csv",
            "--perplexity",
            "heldout.txt",
            "--quiet",
        ],
        0,
    ),
    step("the same as a figure", &["report", "sweep.jsonl", "-o", "-"], 60),
    step("and as a picture", &["report", "sweep.jsonl", "-o", "sweep.svg"], 1),
];

const EDIT: &[Step] = &[
    step("is it intact, and does it fit?", &["check", "debias.lcepatch", "biased"], 12),
    step(
        "the edit in the model itself, at the alpha that the patch recommends",
        &["apply", "biased", "debias.lcepatch", "--in-place", "--undo", "undo.lcepatch"],
        12,
    ),
    Step {
        what: "it fits no model that is edited already",
        words: &["check", "debias.lcepatch", "biased"],
        lines: 6,
        code: 1,
    },
    step("and back", &["revert", "biased"], 6),
];

pub fn run(arguments: &Arguments) -> Outcome {
    let folder = match &arguments.folder {
        Some(folder) => empty_folder(folder)?,
        None => {
            let made = tempfile::Builder::new().prefix("lcepatch-demo-").tempdir();
            made.map_err(|source| failed("make a folder in", &std::env::temp_dir(), source))?.keep()
        }
    };
    for (name, bytes) in FILES {
        let path = folder.join(name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|source| failed("write", &path, source))?;
    }
    let program = program::itself().map_err(|source| failed("find", Path::new("lcepatch"), source))?;
    let demo = Demo { program, folder };
    // A step that fails does not keep the others from running.
    let run = |steps: &[Step]| steps.iter().try_fold(true, |all, step| Ok::<_, Failure>(demo.run(step)? && all));
    let mut as_expected = run(MAKE)?;
    #[cfg(feature = "verify")]
    if demo.can_measure()? {
        as_expected &= run(MEASURE)?;
    }
    #[cfg(not(feature = "verify"))]
    print("This lcepatch was built without the feature `verify`, so nothing is measured.")?;
    as_expected &= run(EDIT)?;
    let is_restored = std::fs::read(demo.folder.join("biased/model.safetensors")).is_ok_and(|bytes| bytes == BIASED);
    let verdict = if is_restored { "byte for byte what it was" } else { "NOT WHAT IT WAS" };
    print("")?;
    print(format_args!("biased/model.safetensors is {verdict}; all files are in {}", demo.folder.display()))?;
    Ok(if as_expected && is_restored { Answer::Yes } else { Answer::No })
}

/// Makes the folder that was asked for, and refuses one with files in it. Returns its absolute path.
fn empty_folder(folder: &Path) -> Result<PathBuf, Failure> {
    let unusable = |source| failed("make", folder, source);
    std::fs::create_dir_all(folder).map_err(unusable)?;
    if std::fs::read_dir(folder).map_err(unusable)?.next().is_some() {
        let message = format!("{} is not empty", folder.display());
        return Err(Failure::usage(message, "name a new folder, or leave it out for a temporary one"));
    }
    std::path::absolute(folder).map_err(unusable)
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> Failure {
    Reason::Io { operation, path: path.to_owned(), source }.into()
}

/// Runs the commands.
struct Demo {
    /// This program, and the arguments that come before all others.
    program: Vec<OsString>,
    /// Where the commands run.
    folder: PathBuf,
}

impl Demo {
    /// Prints a command, runs it, and prints the first lines of its output. Returns whether it ended with the exit code that it should.
    fn run(&self, step: &Step) -> Result<bool, Failure> {
        let shown = |word: &&str| if word.contains([' ', '[']) { format!("'{word}'") } else { (*word).to_owned() };
        let words: Vec<String> = step.words.iter().map(shown).collect();
        print("")?;
        print(format_args!("# {}", step.what))?;
        print(format_args!("$ lcepatch {}", words.join(" ")))?;
        let [program, first @ ..] = &self.program[..] else { return Ok(false) };
        let mut command = Command::new(program);
        command.args(first);
        // The demo's own patches are not signed.
        command.env("LCEPATCH_ALLOWED_SIGNERS", "");
        let output = command.args(step.words).current_dir(&self.folder).output();
        let output = output.map_err(|source| failed("run", Path::new(program), source))?;
        let out = String::from_utf8_lossy(&output.stdout);
        let as_expected = output.status.code() == Some(step.code);
        let (lines, rest) = (out.lines().take(step.lines), out.lines().count().saturating_sub(step.lines));
        lines.into_iter().try_for_each(print)?;
        if rest > 0 && step.lines > 0 {
            print(format_args!("... {}", counted(rest, "more line")))?;
        }
        if !as_expected {
            String::from_utf8_lossy(&output.stderr).lines().try_for_each(print)?;
            print(format_args!(
                "this should have ended with exit code {}, and ended with {}",
                step.code, output.status
            ))?;
        }
        Ok(as_expected)
    }

    /// Whether there is an ONNX Runtime to measure with. If there is none, installs it.
    #[cfg(feature = "verify")]
    fn can_measure(&self) -> Result<bool, Failure> {
        use crate::model::runtime::{Provider, find};
        if find(Provider::Cpu).is_ok() || self.run(&INSTALL)? {
            return Ok(true);
        }
        print("")?;
        print("There is no ONNX Runtime, so nothing is measured. The rest of the demo does not need it.")?;
        print(
            "`lcepatch runtime install` needs python3 with pip, and the network. If you have the library, name it with ORT_DYLIB_PATH.",
        )?;
        Ok(false)
    }
}
