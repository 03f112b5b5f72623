//! `lcepatch recover`.

use super::exit::{after, print};
use super::terminal::Terminal;
use super::{Answer, Outcome};
use crate::apply::{Recovered, recover};
use crate::words::counted;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
`apply --in-place` and `revert` write what they will change to a journal, .lcepatch-journal beside the weights, before the first byte \
changes, and remove it when all is on the disk. Where a crash or a loss of power came in between, the journal is still there: no command \
uses such files, and this one ends the change. It puts the old bytes back, or, where the result was complete, finishes it. It can \
be interrupted itself, and repeated.

Examples:
  lcepatch recover model/")]
pub struct Arguments {
    /// The model directory, or a weight file in it
    model: PathBuf,
    /// Believe a journal that was copied or restored together with its files
    #[arg(long)]
    copied: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let recovered = recover(&arguments.model, arguments.copied, &terminal.context())?;
    terminal.done();
    let model = arguments.model.display();
    match recovered {
        None => print(format_args!("{model}: no edit was interrupted here"))?,
        Some(Recovered::TakenBack { files, weights }) => {
            let (weights, files) = (counted(weights, "weight"), files.join(", "));
            after(print(format_args!(
                "{model}: put back {weights} in {files}; read back: every byte is what it was before the edit"
            )))?;
        }
        Some(Recovered::Finished { files }) => {
            after(print(format_args!("{model}: the result was complete; put {} in place", files.join(", "))))?;
        }
    }
    Ok(Answer::Yes)
}
