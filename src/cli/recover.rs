//! `lcepatch recover`.

use super::exit::print;
use super::terminal::Terminal;
use super::{Answer, Outcome};
use clap::Args;
use lcepatch::apply::recover;
use lcepatch::report::table::count;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
`apply --in-place` edits weight files where they are. Before it changes the first byte, it writes what it will change to a \
journal, .lcepatch-journal beside them, which it removes when all is on the disk. Where a crash or a loss of power came in \
between, the journal is still there: no command uses such files, and this one puts the old bytes back.

Examples:
  lcepatch recover model/")]
pub struct Arguments {
    /// The model directory, or a weight file in it
    model: PathBuf,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let recovered = recover(&arguments.model, &terminal.context())?;
    terminal.done();
    let model = arguments.model.display();
    match recovered {
        None => print(format_args!("{model}: no edit was interrupted here"))?,
        Some(recovered) => {
            let (weights, files) = (count(recovered.weights), recovered.files.join(", "));
            print(format_args!(
                "{model}: put back {weights} weights in {files}; they are what they were before the edit"
            ))?;
        }
    }
    Ok(Answer::Yes)
}
