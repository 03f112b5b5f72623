//! `lcepatch pull`.

use super::exit::{Failure, after, json_path, print, print_json};
use super::signature_argument::{self, Required};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument, place_argument, show};
use crate::check::intact;
use crate::durable::{Existing, check_new_file, refuse_hub_cache};
use crate::error::PublishFault;
use crate::error::list::named;
use crate::patch::Patch;
use crate::publish::{Listed, Shelf, Way, apply_in_order, chosen, copy, leads_to_reference, scratch, squashed, way};
use crate::report::Stat;
use crate::report::table::bytes;
use crate::signature::Signer;
use crate::words::counted;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
With --for, the patches that lead from MODEL to the last version are applied one after the other, each at alpha 1 and each to the \
result of the one before, and the last result is written: base -> v1 -> v2. Which follows which is found by the digests in the patches; \
if there are several ways to a version, the one with the fewest patches is taken, so that a patch from MODEL straight to a version \
spares the others, or takes the place of those that are missing. Every base is checked in full, and every result is read back. \
Patches that lead to several versions, in a circle or not from MODEL are refused by name.

Without --for, the patches are only fetched to the folder -o, with their signatures, and checked.

With --require-signature every patch that is used must be signed as required.

Examples:
  lcepatch pull alice/patches --for alice/base -o newest/
  lcepatch pull published/ --for model/ -o newest/
  lcepatch pull published/ --for model/ --to v2.lcepatch -o v2/
  lcepatch pull published/ --for model/ --squash -o all.lcepatch
  lcepatch pull published/ -o patches/
  lcepatch pull published/ --for model/ -o newest/ --require-signature ~/.ssh/allowed_signers")]
pub struct Arguments {
    /// Where the patches are: a repository of a hub, ORG/NAME[@REVISION], s3://BUCKET/PREFIX, or a directory
    #[arg(value_name = "DEST")]
    place: PathBuf,
    /// The checkpoint to begin with
    #[arg(long = "for", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The last patch to apply, or the only one to fetch: its file, or the first digits of its id
    #[arg(long, value_name = "ID|FILE")]
    to: Option<String>,
    /// Write the result here; without --for, a folder for the patches
    #[arg(long, short, value_name = "RESULT")]
    output: PathBuf,
    /// Write one patch that does what all of them do, and apply none
    #[arg(long, requires = "model")]
    squash: bool,
    #[command(flatten)]
    pub signature: Required,
    /// Replace existing files, never a directory
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What was fetched, and what was made of it.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    /// The place.
    place: &'a str,
    /// Its commit. None in a place without commits.
    commit: Option<&'a str>,
    /// The checkpoint at the beginning. None if patches were only fetched.
    model: Option<String>,
    /// What was written.
    result: String,
    /// The patches, in the order in which they follow each other.
    patches: Vec<Used>,
    /// Whether every byte of the result is that of the last patch's reference, by the digest of what was read back. None if no model was
    /// written.
    is_reference: Option<bool>,
    /// The id of the patch that was written with --squash. None without.
    squashed: Option<String>,
    /// What is not as it should be in the place.
    notes: Vec<String>,
}

/// A patch that was fetched.
#[derive(Debug, Serialize)]
struct Used {
    /// Its file in the place.
    file: String,
    /// The patch id.
    id: String,
    /// Who signed it. None if no signature was required.
    signature: Option<serde_json::Value>,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let context = terminal.context();
    let model = patch_argument::optional_checkpoint(arguments.model.as_deref(), terminal)?;
    match &model {
        Some(_) if arguments.squash => check_new_file(&arguments.output, existing)?,
        Some(model) => arguments::check_result(&arguments.output, model, existing)?,
        None => refuse_hub_cache(&arguments.output.join("patch"))?,
    }
    let place = place_argument::open_existing(&arguments.place, terminal)?;
    let shelf = Shelf::read(&*place, &context)?;
    shelf.notes().for_each(|note| terminal.note(note));
    let name = place.name();
    let to = arguments.to.as_deref();
    let name_of_model = arguments.model.clone().unwrap_or_default();
    let Way { patches: way, elsewhere } = match &model {
        Some(model) => way((model, &name_of_model), &shelf.patches, to, name, &context)?,
        None => Way { patches: chosen(&shelf.patches, to, name)?, elsewhere: Vec::new() },
    };
    let mut notes: Vec<String> = shelf.notes().map(str::to_owned).collect();
    // Without a version that was asked for, the last one is meant, and these may be later.
    if let (None, false) = (to, elsewhere.is_empty()) {
        let files = named(elsewhere.iter().map(|listed| &listed.file));
        let note =
            format!("not on the way, since it begins at another checkpoint, or a patch before it is missing: {files}");
        terminal.note(&note);
        notes.push(note);
    }
    let opener = arguments.signature.for_patches(way.len())?;
    let is_applied = model.is_some();
    let fetch = |listed: &&Listed, folder: &Path, existing: Existing| -> Result<(Patch, Option<Signer>), Failure> {
        let path = copy(&*place, listed, folder, existing, &context)?;
        let (patch, signer) = opener.open(&path, terminal)?;
        if patch.id() != listed.patch.id() {
            let (place, file) = (name.to_owned(), listed.file.clone());
            return Err(PublishFault::Replaced { place, file }.into());
        }
        patch_argument::note_ignored(&patch, terminal);
        if let (true, Some(alpha)) = (is_applied, patch.metadata().recommended_alpha.filter(|alpha| *alpha != 1.0)) {
            let file = &listed.file;
            terminal.note(&format!("{file} is applied at alpha 1, which leads to its reference, though it recommends alpha {alpha} for its base"));
        }
        let source = place.commit().map(|_| format!("{name}/{}", listed.file));
        Ok((patch.with_source(source), signer))
    };
    let mut answered = Answered {
        place: name,
        commit: place.commit(),
        model: arguments.model.as_deref().map(json_path),
        result: json_path(&arguments.output),
        patches: Vec::new(),
        is_reference: None,
        squashed: None,
        notes,
    };
    let used = |listed: &Listed, signer: Option<&Signer>| Used {
        file: listed.file.clone(),
        id: listed.patch.id().to_string(),
        signature: signer.map(signature_argument::json),
    };
    let output = arguments.output.display();
    let mut said = Vec::new();
    let Some(model) = model else {
        for listed in &way {
            let (patch, signer) = fetch(listed, &arguments.output, existing)?;
            intact(&patch, &context)?;
            said.extend(signer.as_ref().map(signature_argument::line));
            let path = arguments.output.join(&listed.file);
            said.push(format!("{}: {}, patch id {}", path.display(), bytes(patch.file_bytes()), patch.id()));
            answered.patches.push(used(listed, signer.as_ref()));
        }
        return end(arguments, &answered, said, terminal);
    };
    let scratch = scratch(&arguments.output)?;
    let mut patches = Vec::new();
    for listed in &way {
        let (patch, signer) = fetch(listed, scratch.temporary_path(), Existing::Keep)?;
        said.extend(signer.as_ref().map(signature_argument::line));
        answered.patches.push(used(listed, signer.as_ref()));
        patches.push(patch);
    }
    let names: Vec<&str> = way.iter().map(|listed| &listed.file[..]).collect();
    let chain = format!("{} -> {}", name_of_model.display(), names.join(" -> "));
    if arguments.squash {
        if let Some(patch) = squashed(&model, patches, &context)? {
            patch.save(&arguments.output, existing)?;
            said.push(chain);
            said.push(show::written(&arguments.output, &Stat::new(&patch)));
            answered.squashed = Some(patch.id().to_string());
        }
        return end(arguments, &answered, said, terminal);
    }
    let n = patches.len();
    let done = apply_in_order(&model, patches, (&arguments.output, existing), scratch.temporary_path(), &context)?;
    if let Some(last) = way.last().filter(|last| !done.is_reference && leads_to_reference(&last.patch)) {
        let file = &last.file;
        terminal.note(&format!(
            "the result is not the reference of {file}: what the patches do not change is other in {} than in their base",
            name_of_model.display()
        ));
    }
    let verified = match (done.is_reference, done.applied.verified) {
        (true, _) => "; read back: every byte is the last reference's, by its digest",
        (false, true) => "; read back: the digest is the one that the last patch declares",
        (false, false) => "",
    };
    said.push(chain);
    said.push(format!("wrote {output}: {} applied{verified}", counted(n, "patch")));
    answered.is_reference = Some(done.is_reference);
    end(arguments, &answered, said, terminal)
}

fn end(arguments: &Arguments, answered: &Answered<'_>, said: Vec<String>, terminal: &Terminal) -> Outcome {
    terminal.done();
    after(match arguments.json {
        true => print_json(terminal, answered),
        false => said.into_iter().try_for_each(print),
    })?;
    Ok(Answer::Yes)
}
