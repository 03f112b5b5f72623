//! `lcepatch demo`: the main job on the small checkpoints of `fixtures/tiny`, each command printed before it runs.

use super::exit::{Failure, print};
use super::{Answer, Outcome};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
pub struct Arguments {
    /// Directory with the model directories `target` and `reference`
    #[arg(long, default_value = "fixtures/tiny", value_name = "DIR")]
    models: PathBuf,
}

/// Commands and what they show. `TARGET` and `REFERENCE` stand for the models, the other files are made on the way.
const STEPS: &[(&str, &str)] = &[
    ("what differs between the two models, by component and layer", "diff TARGET REFERENCE"),
    (
        "a patch of the 2 % of weights that differ most",
        "diff TARGET REFERENCE -o debias.lcepatch --density 2% --recommended-alpha -2 --quiet",
    ),
    ("what the patch changes, and for which base", "show debias.lcepatch"),
    ("is it intact, and does it fit?", "check debias.lcepatch TARGET"),
    (
        "an edited model, away from the reference",
        "apply TARGET debias.lcepatch --alpha -2 -o edited --undo undo.lcepatch",
    ),
    ("the patch does not fit what is already edited", "check debias.lcepatch edited"),
    ("and back, exactly", "apply edited undo.lcepatch -o restored"),
    ("every difference, without loss", "diff TARGET REFERENCE -o full.lcepatch --all"),
    ("which makes the reference from the target", "apply TARGET full.lcepatch -o rebuilt"),
];

pub fn run(arguments: &Arguments) -> Outcome {
    let absolute = |name: &str| {
        let path = arguments.models.join(name);
        path.canonicalize().map_err(|_| {
            let message = format!("there is no model directory {}", path.display());
            Failure::usage(message, "run the demo in a checkout of lcepatch, or give --models DIR")
        })
    };
    let (target, reference) = (absolute("target")?, absolute("reference")?);
    let folder = tempfile::tempdir().map_err(Failure::Output)?;
    let program = std::env::current_exe().map_err(Failure::Output)?;
    for (what, line) in STEPS {
        print(format_args!("\n# {what}\n$ lcepatch {line}"))?;
        let words = line.split(' ').map(|word| match word {
            "TARGET" => target.as_os_str(),
            "REFERENCE" => reference.as_os_str(),
            word => word.as_ref(),
        });
        // A check that answers no is part of the story; whether the files are right is looked at below.
        Command::new(&program).args(words).current_dir(folder.path()).status().map_err(Failure::Output)?;
    }
    let same = |a: &Path, b: &str| {
        let read = |folder: &Path| std::fs::read(folder.join("model.safetensors"));
        matches!((read(a), read(&folder.path().join(b))), (Ok(a), Ok(b)) if a == b)
    };
    let (restored, rebuilt) = (same(&target, "restored"), same(&reference, "rebuilt"));
    let verdict = |same| if same { "byte for byte the same" } else { "NOT THE SAME" };
    print(format_args!("\nrestored and TARGET: {}", verdict(restored)))?;
    print(format_args!("rebuilt and REFERENCE: {}", verdict(rebuilt)))?;
    Ok(if restored && rebuilt { Answer::Yes } else { Answer::No })
}
