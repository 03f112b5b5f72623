//! `lcepatch push`.

use super::exit::{Failure, after, json_path, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome};
use crate::durable::Existing;
use crate::publish::{Change, NewPatch, Plan, Planned, Pushed, push};
use crate::report::table::{Align, bytes, lines};
use crate::words::counted;
use clap::Args;
use lcepatch_hub::place::repository::Absent;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
What is sent: the patches, each checked whole; the signature beside each (PATCH.sig); patches.json, which lists all patches of the \
place with the digests of their bases; the model card README.md with a figure for each patch; and the line of .gitattributes that git \
needs for patches. In README.md only what stands between the marks of lcepatch is written anew: what you add before and after it stays.

Of what the place has already, nothing is sent again. If nothing is left, nothing happens: no commit, exit code 0.

Examples:
  lcepatch push debias.lcepatch alice/patches
  lcepatch push debias.lcepatch published/
  lcepatch push v1.lcepatch v2.lcepatch published/ --dry-run
  lcepatch push debias.lcepatch published/ --yes --json")]
pub struct Arguments {
    /// The patches
    #[arg(required = true, value_name = "PATCH")]
    patches: Vec<PathBuf>,
    /// Where to: a repository of a hub, ORG/NAME[@BRANCH], a directory, or s3://BUCKET/PREFIX; it is made if it is not there. A new
    /// directory is named so that it is no repository: ./name or name/
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// Only the owner may see a repository that is made
    #[arg(long)]
    private: bool,
    /// What the commit says [default: the names of the patches]
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask on the terminal
    #[arg(long, short)]
    yes: bool,
    /// Replace other patches of the same names
    #[arg(long)]
    force: bool,
    /// Print what was sent as JSON
    #[arg(long)]
    json: bool,
}

/// What was sent.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    /// The place.
    place: &'a str,
    /// The patches.
    patches: Vec<String>,
    /// The files that were sent, or would be. Empty if the place has all of it.
    files: &'a [Planned],
    /// Whether they were sent.
    sent: bool,
    /// The commit of the place afterwards. None in a place without commits.
    commit: Option<&'a str>,
    /// The page of the commit. None if there is none.
    url: Option<&'a str>,
    /// What is not as it should be in the place.
    notes: &'a [String],
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let context = terminal.context();
    let opened = arguments.patches.iter().map(|name| -> Result<NewPatch, crate::Error> {
        NewPatch::open(&terminal.sources().patch_file(name, &context)?.path, &context)
    });
    let patches = opened.collect::<Result<Vec<_>, _>>()?;
    let absent = Absent::Create { private: arguments.private };
    let open = || terminal.sources().place(&arguments.destination, absent, &context);
    let place = open()?;
    let name = place.name().to_owned();
    let plan = Plan::new(&*place, &patches, existing, &context)?;
    terminal.done();
    plan.notes.iter().for_each(|note| terminal.note(note));
    let answer = |plan: &Plan, sent, commit: Option<&str>, url: Option<&str>| {
        print_json(
            terminal,
            &Answered {
                place: &name,
                patches: arguments.patches.iter().map(|path| json_path(path)).collect(),
                files: &plan.planned,
                sent,
                commit,
                url,
                notes: &plan.notes,
            },
        )
    };
    if plan.is_empty() {
        match arguments.json {
            true => answer(&plan, false, place.commit(), None)?,
            false => print(format_args!("{name} has all of it already: nothing was sent"))?,
        }
        return Ok(Answer::Yes);
    }
    if !arguments.json {
        print_plan(&plan, &name)?;
    }
    if arguments.dry_run {
        match arguments.json {
            true => answer(&plan, false, place.commit(), None)?,
            false => print("nothing was sent (--dry-run)")?,
        }
        return Ok(Answer::Yes);
    }
    if !arguments.yes && !terminal.agrees(&format!("send this to {name}?")) {
        match arguments.json {
            true => answer(&plan, false, place.commit(), None)?,
            false => print("nothing was sent")?,
        }
        return Ok(Answer::No);
    }
    let message = arguments.message.clone().unwrap_or_else(|| message(&patches));
    let Pushed { plan, published } = push((place, plan), &patches, existing, &message, open, &context)?;
    terminal.done();
    let (commit, url) = (published.commit.as_deref(), published.url.as_deref());
    after(match arguments.json {
        true => answer(&plan, !plan.is_empty(), commit, url),
        false if plan.is_empty() => print(format_args!("{name} has all of it by now: others have sent it")),
        false => {
            let at = commit.map_or_else(String::new, |commit| format!(": commit {commit}"));
            print(format_args!("sent {} to {name}{at}", counted(plan.planned.len(), "file")))
                .and_then(|()| url.map_or(Ok(()), print))
        }
    })?;
    Ok(Answer::Yes)
}

/// Prints what will be sent.
fn print_plan(plan: &Plan, place: &str) -> Result<(), Failure> {
    let all = plan.planned.iter().fold(0u64, |all, file| all.saturating_add(file.bytes));
    print(format_args!("to {place}: {}, {}", counted(plan.planned.len(), "file"), bytes(all)))?;
    let header = [("file", Align::Left), ("bytes", Align::Right), ("", Align::Left)];
    let rows = plan.planned.iter().map(|planned| {
        let change = match planned.change {
            Change::New => "new",
            Change::Changed => "changed",
        };
        vec![planned.file.clone(), bytes(planned.bytes), change.to_owned()]
    });
    lines(&header, &rows.collect::<Vec<_>>()).into_iter().try_for_each(|line| print(format_args!("  {line}")))
}

/// What a commit says by default.
fn message(patches: &[NewPatch]) -> String {
    match patches {
        [one] => format!("Publish {}", one.file()),
        many => format!("Publish {}", counted(many.len(), "patch")),
    }
}
