//! `lcepatch demo`: the main job on the small trained models of `fixtures/imp`, each command printed before it runs.

use super::exit::{Failure, print};
use super::{Answer, Outcome};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
pub struct Arguments {
    /// Model directory to edit
    #[arg(long, default_value = "fixtures/imp/target/pruned", value_name = "DIR")]
    target: PathBuf,
    /// Model directory that behaves differently
    #[arg(long, default_value = "fixtures/imp/reference/pruned", value_name = "DIR")]
    reference: PathBuf,
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
    #[cfg(feature = "verify")]
    ("ONNX Runtime, which measures; only the first time", "runtime install"),
    #[cfg(feature = "verify")]
    (
        "what it does to the model, at several strengths",
        "verify TARGET --patch debias.lcepatch --alpha -4,-2,-1,1,2,4 --weat 6,8 --plot sweep.svg --quiet",
    ),
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
    let absolute = |path: &Path| {
        path.canonicalize().map_err(|_| {
            let message = format!("there is no model directory {}", path.display());
            Failure::usage(message, "run the demo in a checkout of lcepatch, or give --target DIR and --reference DIR")
        })
    };
    let (target, reference) = (absolute(&arguments.target)?, absolute(&arguments.reference)?);
    let folder = tempfile::Builder::new().prefix("lcepatch-demo-").tempdir().map_err(Failure::Output)?.keep();
    let program = std::env::current_exe().map_err(Failure::Output)?;
    for (what, line) in STEPS {
        print("")?;
        print(format_args!("# {what}"))?;
        print(format_args!("$ lcepatch {line}"))?;
        let words = line.split(' ').map(|word| match word {
            "TARGET" => target.as_os_str(),
            "REFERENCE" => reference.as_os_str(),
            word => word.as_ref(),
        });
        // A check that answers no is part of the story; whether the files are right is looked at below.
        Command::new(&program).args(words).current_dir(&folder).status().map_err(Failure::Output)?;
    }
    let same = |a: &Path, b: &str| {
        let read = |folder: &Path| std::fs::read(folder.join("model.safetensors"));
        matches!((read(a), read(&folder.join(b))), (Ok(a), Ok(b)) if a == b)
    };
    let (restored, rebuilt) = (same(&target, "restored"), same(&reference, "rebuilt"));
    let verdict = |same| if same { "byte for byte the same" } else { "NOT THE SAME" };
    print("")?;
    print(format_args!("restored and TARGET: {}", verdict(restored)))?;
    print(format_args!("rebuilt and REFERENCE: {}", verdict(rebuilt)))?;
    print("")?;
    print(format_args!("all files are in {}", folder.display()))?;
    let figure = folder.join("sweep.svg");
    if figure.exists() {
        print(format_args!("the figure of bias against alpha is {}", figure.display()))?;
    }
    Ok(if restored && rebuilt { Answer::Yes } else { Answer::No })
}
