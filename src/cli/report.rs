//! `lcepatch report`.

use super::exit::{Failure, print};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments};
use crate::durable::{Existing, check_new_file, write_file};
use crate::error::Error;
use crate::report::page::{lines, page, svg};
use crate::report::results::read;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
The page has figures of every score against alpha and against k, all strategies together, of where the selected weights are, and tables \
of all numbers. It is one file that needs no other and no network. Files of `sweep` with the same --label, or of the same pair of \
models, are drawn together: a line is their mean, a band the range of the runs.

An .svg file has the figures of scores against alpha alone; with `-` they are drawn in the terminal.

Examples:
  lcepatch report sweep.jsonl -o report.html
  lcepatch report sweep.jsonl -o -
  lcepatch report seed0.jsonl seed1.jsonl -o report.html --title 'Debiasing our encoder'
  lcepatch verify model/ --patch p.lcepatch --alpha -2,2 --weat 8 --json > verify.json; lcepatch report verify.json -o report.html")]
pub struct Arguments {
    /// Results of `sweep`, or reports of `verify --json`
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,
    /// Write the page, or a picture, here; `-` is the terminal
    #[arg(long, short, value_name = "PAGE|PICTURE|-")]
    output: PathBuf,
    /// The page's title
    #[arg(long, value_name = "TEXT", default_value = "Local edits, measured")]
    title: String,
    /// Replace an existing page
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let output = &arguments.output;
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let shown = output == Path::new("-");
    if !shown {
        arguments::refuse_inputs([output.as_path()], arguments.results.iter().map(PathBuf::as_path))?;
        check_new_file(output, existing)?;
    }
    let results = arguments
        .results
        .iter()
        .map(|name| read(&terminal.sources().file(name, &terminal.context())?))
        .collect::<Result<Vec<_>, Error>>()?;
    if shown {
        let lines = lines(&results, terminal.characters());
        if lines.is_empty() {
            return Err(Failure::usage("there is no edit in these results to draw", "give results with --alpha"));
        }
        lines.into_iter().try_for_each(print)?;
        return Ok(Answer::Yes);
    }
    let drawn = match output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
        true => svg(&results),
        false => page(&results, &arguments.title),
    };
    write_file(output, drawn.as_bytes(), existing)?;
    print(format_args!("wrote {}", output.display()))?;
    Ok(Answer::Yes)
}
