//! `lcepatch compare`.

use super::exit::{Failure, print, print_json};
use super::new_patch::{Base, input};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments};
use crate::algebra::{Comparison, Likeness, compare, restrict};
use crate::durable::{Existing, check_new_file};
use crate::report::table::{Align, lines};
use crate::words::count;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Overlap, Jaccard similarity and cosine of two patches, in all and by component. With -o also writes their intersection: the \
part of FIRST at the weights that SECOND selects too.

Examples:
  lcepatch compare seed1.lcepatch seed2.lcepatch --base model/
  lcepatch intersect seed1.lcepatch seed2.lcepatch --base model/ -o common.lcepatch")]
pub struct Arguments {
    /// A patch
    first: PathBuf,
    /// Another
    second: PathBuf,
    #[command(flatten)]
    base: Base,
    /// Write the part of FIRST that SECOND selects too
    #[arg(long, short, value_name = "PATCH")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if let Some(path) = &arguments.output {
        arguments::refuse_inputs([path.as_path()], [arguments.first.as_path(), &arguments.second])?;
        check_new_file(path, existing)?;
    }
    let base = arguments.base.open(terminal)?;
    let (first, second) = (input(&arguments.first, terminal)?, input(&arguments.second, terminal)?);
    let context = terminal.context();
    let comparison = compare(&first, &second, base.as_ref(), &context)?;
    if let Some(path) = &arguments.output {
        let common = restrict(&first, &second, base.as_ref(), &context)?;
        common.save(path, existing)?;
    }
    terminal.done();
    if arguments.json {
        print_json(terminal, &comparison)?;
    } else {
        print_table(&comparison)?;
        if let Some(path) = &arguments.output {
            print("")?;
            print(format_args!("wrote {}: what both select, as in {}", path.display(), arguments.first.display()))?;
        }
    }
    Ok(Answer::Yes)
}

fn print_table(comparison: &Comparison) -> Result<(), Failure> {
    let header = [
        ("component", Align::Left),
        ("first", Align::Right),
        ("second", Align::Right),
        ("both", Align::Right),
        ("Jaccard", Align::Right),
        ("cosine", Align::Right),
        ("same direction", Align::Right),
    ];
    let row = |(name, likeness): (&str, &Likeness)| {
        vec![
            name.to_owned(),
            count(likeness.first),
            count(likeness.second),
            count(likeness.both),
            format!("{:.4}", likeness.jaccard),
            likeness.cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.4}")),
            likeness.same_direction.map_or("-".to_owned(), count),
        ]
    };
    let components = comparison.components.iter().map(|(name, likeness)| (name.as_str(), likeness));
    let rows: Vec<Vec<String>> = components.chain([("all", &comparison.all)]).map(row).collect();
    lines(&header, &rows).into_iter().try_for_each(print)
}
