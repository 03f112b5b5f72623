//! `lcepatch find`.

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, patch_argument, place_argument};
use crate::apply::BaseState;
use crate::error::ErrorKind;
use crate::publish::{Found, Shelf, find};
use crate::report::table::bytes;
use crate::words::plural;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
A patch fits if every tensor that it changes has the digest that the patch gives for its base. The headers of the patches are read, \
and of the checkpoint the tensors that one of them changes. What patches.json says does not count where a patch says otherwise. The \
exit code is 1 if none fits.

Examples:
  lcepatch find alice/base
  lcepatch find alice/base --in alice/patches
  lcepatch find model/ --in published/
  lcepatch find model/ --in published/ --json | jq -r '.patches[] | select(.fits) | .file'")]
pub struct Arguments {
    /// The checkpoint
    model: PathBuf,
    /// Where the patches are: a repository of a hub, ORG/NAME[@REVISION], s3://BUCKET/PREFIX, or a directory
    /// [default: the repositories of the hub whose cards name MODEL as their base]
    #[arg(long = "in", value_name = "DEST")]
    place: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The patches of one or several places, and which of them fit.
#[derive(Debug, Default, Serialize)]
struct Answered {
    /// The patches, place by place, in the order of their names.
    patches: Vec<Row>,
    /// What is not as it should be in the places.
    notes: Vec<String>,
}

/// A patch of a place.
#[derive(Debug, Serialize)]
struct Row {
    /// Its place, with the commit where there is one.
    place: String,
    /// Its file.
    file: String,
    /// The patch id.
    id: String,
    /// Bytes of its file.
    bytes: u64,
    /// Whether it fits.
    fits: bool,
    /// What the checkpoint is to it: `base`, `result`, `reference` or `unknown`.
    state: &'static str,
    /// How many of its tensors the checkpoint does not have as they are in the patch's base.
    differing: usize,
    /// How many tensors it changes.
    tensors: usize,
    /// The base's name on a hub, as the patch states it.
    base_model: Option<String>,
    /// The alpha that its author recommends.
    recommended_alpha: Option<f64>,
    /// Whether a signature is beside it.
    signed: bool,
}

impl Row {
    fn of(place: &str, found: &Found<'_>) -> Self {
        let (listed, metadata) = (found.listed, found.listed.patch.metadata());
        let state = match found.state {
            BaseState::Base => "base",
            BaseState::Result => "result",
            BaseState::Reference => "reference",
            BaseState::Adapter | BaseState::Unknown => "unknown",
        };
        Self {
            place: place.to_owned(),
            file: listed.file.clone(),
            id: listed.patch.id().to_string(),
            bytes: listed.patch.file_bytes(),
            fits: found.fits(),
            state,
            differing: found.differing,
            tensors: listed.patch.table().tensors.len(),
            base_model: metadata.base.model_id.clone(),
            recommended_alpha: metadata.recommended_alpha,
            signed: listed.signed,
        }
    }

    /// For people.
    fn line(&self) -> String {
        let Self { differing, tensors, .. } = self;
        let fit = match self.state {
            "base" => "fits".to_owned(),
            "result" => "is applied already".to_owned(),
            "reference" => "does not fit: this is its reference".to_owned(),
            _ => format!("does not fit: {differing} of {tensors} {} differ", plural(*tensors, "tensor")),
        };
        let alpha = self.recommended_alpha.map_or_else(String::new, |alpha| format!(", recommends alpha {alpha}"));
        let signed = if self.signed { ", signed" } else { "" };
        let model = self.base_model.as_ref().map_or_else(String::new, |model| format!(", for {model}"));
        format!("{}: {fit} ({}{model}{alpha}{signed})", self.file, bytes(self.bytes))
    }
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let context = terminal.context();
    let places = match &arguments.place {
        Some(place) => vec![place.clone()],
        None => terminal.sources().patches_for(&arguments.model, &context)?.ok_or_else(|| {
            let message = format!(
                "{} is not a repository of a hub, where patches could be looked for",
                arguments.model.display()
            );
            Failure::usage(message, "say where the patches are with --in")
        })?,
    };
    let model = patch_argument::checkpoint(&arguments.model, terminal)?;
    let mut answered = Answered::default();
    for place in &places {
        // Of the repositories that a search finds, one may be gone, locked or not as it should be, which says nothing of the others.
        let read = || -> Result<_, Failure> {
            let opened = place_argument::open_existing(place, terminal)?;
            let shelf = Shelf::read(&*opened, &context)?;
            Ok((opened, shelf))
        };
        let (opened, shelf) = match read() {
            Err(Failure::Library(error)) if arguments.place.is_none() && error.kind() != ErrorKind::Interrupted => {
                answered.notes.push(error.to_string());
                continue;
            }
            read => read?,
        };
        let found = find(&model, &shelf.patches, &context)?;
        answered.patches.extend(found.iter().map(|found| Row::of(opened.name(), found)));
        answered.notes.extend(shelf.notes().map(str::to_owned));
    }
    terminal.done();
    let fits = answered.patches.iter().any(|row| row.fits);
    match arguments.json {
        true => print_json(terminal, &answered)?,
        false => {
            answered.notes.iter().for_each(|note| terminal.note(note));
            print_rows(answered.patches, arguments.place.is_none(), fits)?;
        }
    }
    Ok(if fits { Answer::Yes } else { Answer::No })
}

/// Prints the patches that fit first.
fn print_rows(mut rows: Vec<Row>, with_place: bool, fits: bool) -> Result<(), Failure> {
    if !fits {
        print(format_args!("no patch fits, of {}", rows.len()))?;
    }
    rows.sort_by_key(|row| !row.fits);
    rows.iter().try_for_each(|row| match with_place {
        true => print(format_args!("{}: {}", row.place, row.line())),
        false => print(row.line()),
    })
}
