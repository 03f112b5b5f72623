//! `lcepatch report`.

use super::exit::print;
use super::{Answer, Outcome};
use clap::Args;
use lcepatch::durable::{Existing, check_output, write_file};
use lcepatch::error::Error;
use lcepatch::report::page::page;
use lcepatch::report::results::read;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
The page has figures of every score against alpha and against k, all strategies together, of where the selected weights are, and tables \
of all numbers. It is one file that needs no other and no network. Files of `sweep` with the same --label, or of the same pair of \
models, are drawn together: a line is their mean, a band the range of the runs.

Examples:
  lcepatch report sweep.jsonl -o report.html
  lcepatch report seed0.jsonl seed1.jsonl -o report.html --title 'Debiasing our encoder'
  lcepatch verify model/ --patch p.lcepatch --alpha -2,2 --weat 8 --json > verify.json; lcepatch report verify.json -o report.html")]
pub struct Arguments {
    /// Results of `sweep`, or reports of `verify --json`
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// Write the page here
    #[arg(long, short, value_name = "PAGE")]
    output: PathBuf,
    /// The page's title
    #[arg(long, value_name = "TEXT", default_value = "Local edits, measured")]
    title: String,
    /// Replace an existing page
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    check_output(&arguments.output, existing)?;
    let results = arguments.results.iter().map(|path| read(path)).collect::<Result<Vec<_>, Error>>()?;
    write_file(&arguments.output, page(&results, &arguments.title).as_bytes(), existing)?;
    print(format_args!("wrote {}", arguments.output.display()))?;
    Ok(Answer::Yes)
}
