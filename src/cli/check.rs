//! `lcepatch check`.

use super::exit::{Failure, json_path, print, print_json};
use super::signature_argument::{self, Required};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::apply::{Check, Fit, OnnxBase, fit};
use crate::check::{Intact, intact, true_of};
use crate::checkpoint::Checkpoint;
use crate::error::list::first_ten;
use crate::error::{BaseState, Difference};
use crate::pair::{Prefix, PrefixMap};
use crate::patch::Patch;
use crate::words::{counted, plural};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Without a base: every digest is verified, every block that can be decoded without its base is decoded, and base values
are compared with their digest.
With a base: also whether the patch fits it (exit code 1 if not), and if so, all blocks, and what the patch says of the
base's values and of its result at alpha 1.

A signature beside the patch (debias.lcepatch.sig) is verified: that the key in it signed this very file. Whose key that is, only a list of signers tells: --require-signature accepts the patch by one of theirs, or ends with exit code 11 before anything else.

Examples:
  lcepatch check debias.lcepatch
  lcepatch check debias.lcepatch --require-signature ~/.ssh/allowed_signers
  lcepatch check debias.lcepatch model/
  lcepatch check debias.lcepatch model/ --quick
  lcepatch check debias.lcepatch model.onnx")]
pub struct Arguments {
    /// The patch, or - for standard input
    patch: PathBuf,
    /// The checkpoint that it may be for, or an ONNX export of it
    base: Option<PathBuf>,
    /// Compare the base's values at the selected positions instead of hashing whole tensors
    #[arg(long)]
    quick: bool,
    /// List every tensor that differs, not only ten
    #[arg(long)]
    full: bool,
    /// Exchange a prefix of the patch's names for one of the base's, as in `bert.=`; may be repeated,
    /// and the longest one that fits counts
    #[arg(long, value_name = "PATCH=BASE", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
    #[command(flatten)]
    pub signature: Required,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let context = terminal.context();
    let (patch, signer) = arguments.signature.open_any(&arguments.patch, terminal)?;
    patch_argument::note_ignored(&patch, terminal);
    // Damage is reported before a base that does not fit.
    let Intact { blocks, mut decoded, carried } = intact(&patch, &context)?;
    let mut found = None;
    if let Some(base) = &arguments.base {
        let (base, missing) = open(base, &patch, terminal)?;
        let check = if arguments.quick { Check::Quick } else { Check::Full };
        let prefix = PrefixMap::new(arguments.map_prefix.clone());
        let prefix = prefix.as_ref();
        let fit = match missing.is_empty() {
            true => fit(&base, &patch, check, prefix, &context)?,
            false => Fit { differences: missing, state: BaseState::Unknown },
        };
        if fit.differences.is_empty() {
            true_of(&patch, (&base, prefix), check, &context)?;
            decoded = blocks;
        }
        found = Some(fit);
    }
    terminal.done();
    let fits = found.as_ref().is_none_or(|fit| fit.differences.is_empty());
    let state = found.as_ref().map(|fit| match fit.state {
        BaseState::Base => "base",
        BaseState::Result => "result",
        BaseState::Reference => "reference",
        BaseState::Adapter => "adapter",
        BaseState::Unknown => "unknown",
    });
    // Claims that decide nothing, and are no reason to refuse it.
    let denied = carried.denied(patch.metadata());
    if arguments.json {
        let differences: Vec<_> = found.iter().flat_map(|fit| &fit.differences).collect();
        let differences: Vec<_> =
            differences.iter().map(|(name, how)| json!({"tensor": name, "difference": how.to_string()})).collect();
        print_json(
            terminal,
            &json!({
                "patch": json_path(&arguments.patch), "id": patch.id().to_string(), "intact": true, "blocks": blocks,
                "decoded": decoded, "fits": found.as_ref().map(|_| fits), "state": state, "differences": differences,
                "signature": signer.as_ref().map(signature_argument::json),
                "carried": carried, "denied": denied, "ignored_metadata": patch.ignored_metadata(),
            }),
        )?;
    } else {
        let (name, id) = (arguments.patch.display(), patch.id());
        print(format_args!("{name}: intact, {decoded} of {} decoded, patch id {id}", counted(blocks, "block")))?;
        print(signature_argument::about(&arguments.patch, signer.as_ref()))?;
        for claim in &denied {
            print(format_args!("  its metadata is wrong: {}", claim))?;
        }
        if let (Some(fit), Some(base)) = (&found, &arguments.base) {
            print(format_args!("{}: {}", base.display(), verdict(fit, patch.table().tensors.len())))?;
            let differences = fit.differences.iter();
            let (shown, more) = if arguments.full { (differences.collect(), 0) } else { first_ten(differences) };
            for (name, how) in shown {
                print(format_args!("  {name}: {how}"))?;
            }
            if more > 0 {
                print(format_args!("  and {more} more; `--full` lists them"))?;
            }
        }
    }
    Ok(if fits { Answer::Yes } else { Answer::No })
}

/// The base, and what an ONNX file lacks of it.
fn open(base: &Path, patch: &Patch, terminal: &Terminal) -> Result<(Checkpoint, Vec<(String, Difference)>), Failure> {
    if patch_argument::is_onnx(base) {
        let base = terminal.sources().file(base, &terminal.context())?;
        let OnnxBase { tensors, missing, .. } = OnnxBase::open(&base, [patch], &terminal.context())?;
        return Ok((tensors, missing));
    }
    Ok((patch_argument::checkpoint(base, terminal)?, Vec::new()))
}

fn verdict(fit: &Fit, tensors: usize) -> String {
    match fit.state {
        BaseState::Base => "fits".to_owned(),
        BaseState::Result => {
            "does not fit: it is what the patch produces at alpha 1, so it is already applied".to_owned()
        }
        BaseState::Reference => "does not fit: it is the patch's reference".to_owned(),
        BaseState::Adapter => "does not fit: it holds an adapter (such as LoRA), not the model".to_owned(),
        BaseState::Unknown => {
            let (n, noun) = (fit.differences.len(), plural(tensors, "tensor"));
            format!("does not fit: {n} of {tensors} {noun} {}", if n == 1 { "differs" } else { "differ" })
        }
    }
}
