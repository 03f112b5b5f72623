//! Arguments that `diff` and `sweep` share: the two checkpoints, their pruning masks, and the candidates.

use super::exit::Failure;
use super::terminal::Terminal;
use super::{arguments, patch_argument};
use crate::checkpoint::Checkpoint;
use crate::diff::{DiffOptions, Diffed, Localize, MaskSource};
use crate::error::list::named;
use crate::format::metadata::Rows;
use crate::localize::candidates::Params;
use crate::mask::{PruningMask, Scope, Sparsity};
use crate::pair::{OtherDtype, Prefix, PrefixMap, Unpaired};
use crate::source::{Parts, Pinned};
use crate::words::{count, counted};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct PairArguments {
    /// Rank all candidates together, or each tensor for itself
    #[arg(long, default_value = "global")]
    scope: arguments::Scope,
    /// Pruning mask of the target, a mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    target_mask: Option<PathBuf>,
    /// Pruning mask of the reference, a mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    reference_mask: Option<PathBuf>,
    /// Where masks are that are not in files [default: X_mask beside X_orig, if there are any]
    #[arg(
        long,
        help_heading = "Pruned models",
        long_help = "\
Where masks are that are not in files: as X_mask beside X_orig in the checkpoint (torch.nn.utils.prune), its zeros, or \
nowhere, since it is not pruned.
[default: pairs, if there are any]"
    )]
    mask_from: Option<MaskFrom>,
    /// Prune this share of the weights of both, by magnitude, instead
    #[arg(long, value_parser = arguments::sparsity, conflicts_with_all = ["mask_from", "target_mask", "reference_mask"],
        help_heading = "Pruned models")]
    sparsity: Option<Sparsity>,
    /// The target from before it was pruned; with it `apply --edit sw` can restore what was pruned
    #[arg(long, value_name = "CHECKPOINT", help_heading = "Pruned models")]
    unpruned: Option<PathBuf>,
    /// Tensors to select from: the dense layers of transformer blocks, all float matrices, or all
    #[arg(
        long,
        long_help = "\
Tensors to select from: the dense layers of transformer blocks (query, key, value, attention output, intermediate, \
output), all float tensors of two or more dimensions, or all.
[default: encoder-dense, or matrices where the names are no known transformer's; all with --all]"
    )]
    params: Option<arguments::Candidates>,
    /// Only tensors whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No tensor whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Work on the tensors that both have with the same shape, and on the rows that both have of embeddings; record the
    /// others in the patch
    #[arg(long)]
    common: bool,
    /// Round a reference of another float dtype to the target's, and record the tensors in the patch
    #[arg(long)]
    cast: bool,
    /// Exchange a prefix of the reference's names for one of the target's, as in `bert.=`; may be repeated,
    /// and the longest one that fits counts
    #[arg(long, value_name = "REFERENCE=TARGET", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
}

// Comments on its values would be in the help.
/// Where masks are that are not in files.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum MaskFrom {
    Pairs,
    Zeros,
    None,
}

impl PairArguments {
    /// Opens the checkpoints and mask files. Of checkpoints that are elsewhere, all is fetched, or the parts that are looked at.
    pub fn open(&self, target: &Path, reference: &Path, parts: Parts, terminal: &Terminal) -> Result<Opened, Failure> {
        let (target, reference) = match parts {
            Parts::All => {
                let locate = |name| terminal.sources().checkpoint(name, &terminal.context());
                let (target, reference) = (locate(target)?, locate(reference)?);
                // Of large models, reading the headers takes a noticeable time.
                let both = rayon::join(|| target.checkpoint(), || reference.checkpoint());
                (both.0?, both.1?)
            }
            Parts::Some => return Ok(self.open_pinned(target, reference, terminal)?.0),
        };
        self.with_masks([target, reference], terminal)
    }

    /// Opens the checkpoints, of which parts are read, and mask files. Also says what the files of target and reference are.
    pub fn open_pinned(
        &self,
        target: &Path,
        reference: &Path,
        terminal: &Terminal,
    ) -> Result<(Opened, [Pinned; 2]), Failure> {
        let open = |name| terminal.sources().checkpoint_in_parts(name, &terminal.context());
        let both = rayon::join(|| open(target), || open(reference));
        let ((target, of_target), (reference, of_reference)) = (both.0?, both.1?);
        Ok((self.with_masks([target, reference], terminal)?, [of_target, of_reference]))
    }

    fn with_masks(&self, [target, reference]: [Checkpoint; 2], terminal: &Terminal) -> Result<Opened, Failure> {
        let open = |name: &Option<PathBuf>| patch_argument::optional_checkpoint(name.as_deref(), terminal);
        [&target, &reference].into_iter().for_each(|side| patch_argument::note_stale(side, terminal));
        Ok(Opened {
            target,
            reference,
            target_mask: open(&self.target_mask)?,
            reference_mask: open(&self.reference_mask)?,
            unpruned: open(&self.unpruned)?,
        })
    }

    pub fn scope(&self) -> Scope {
        self.scope.into()
    }

    /// Options for an exact patch that needs its base; `masks` come from [`Opened::masks`].
    pub fn options<'a>(
        &self,
        opened: &'a Opened,
        masks: Option<[MaskSource<'a>; 2]>,
        localize: Localize,
    ) -> DiffOptions<'a> {
        let mut options = DiffOptions::of(localize);
        options.pair.unpaired = if self.common { Unpaired::LeaveOut } else { Unpaired::Refuse };
        options.pair.other_dtype = if self.cast { OtherDtype::Cast } else { OtherDtype::Refuse };
        options.pair.prefix = PrefixMap::new(self.map_prefix.clone());
        options.candidates.params = self.params.map(Params::from).or(options.candidates.params);
        (options.candidates.include, options.candidates.exclude) = (self.include.clone(), self.exclude.clone());
        (options.masks, options.unpruned) = (masks, opened.unpruned.as_ref());
        options
    }
}

/// The open checkpoints and mask files.
pub struct Opened {
    pub target: Checkpoint,
    pub reference: Checkpoint,
    target_mask: Option<Checkpoint>,
    reference_mask: Option<Checkpoint>,
    unpruned: Option<Checkpoint>,
}

impl Opened {
    /// The source of each side's pruning mask, or `None` if neither side is pruned.
    pub fn masks(&self, arguments: &PairArguments) -> Result<Option<[MaskSource<'_>; 2]>, Failure> {
        let source = |file: &'_ Option<Checkpoint>, checkpoint: &Checkpoint| match (file, arguments.mask_from) {
            (Some(_), _) => None,
            (None, Some(MaskFrom::Pairs)) => Some(MaskSource::Pairs),
            (None, Some(MaskFrom::Zeros)) => Some(MaskSource::Zeros),
            (None, Some(MaskFrom::None)) => Some(MaskSource::Dense),
            (None, None) => match arguments.sparsity {
                Some(sparsity) => Some(MaskSource::Sparsity(sparsity, arguments.scope())),
                None => PruningMask::pairs(checkpoint).ok().map(|_| MaskSource::Pairs),
            },
        };
        let target = self.target_mask.as_ref().map(MaskSource::File).or(source(&self.target_mask, &self.target));
        let reference =
            self.reference_mask.as_ref().map(MaskSource::File).or(source(&self.reference_mask, &self.reference));
        let missing = |side: &str| {
            let message = format!("the {side} has no pruning mask, the other side has one");
            Failure::usage(message, format!("give --{side}-mask, or say --mask-from zeros or none"))
        };
        match (target, reference) {
            (None, None) => Ok(None),
            (Some(target), Some(reference)) => Ok(Some([target, reference])),
            (None, Some(_)) => Err(missing("target")),
            (Some(_), None) => Err(missing("reference")),
        }
    }
}

/// Prints notes about the patch that was made.
pub fn print_notes(diffed: &Diffed, terminal: &Terminal) {
    if let Some(pairing) = &diffed.patch.metadata().pairing {
        let left_out = [
            (&pairing.only_in_base, "only in the target"),
            (&pairing.only_in_reference, "only in the reference"),
            (&pairing.mismatched, "of another shape or kind of dtype in the reference"),
        ];
        for (names, why) in left_out.into_iter().filter(|(names, _)| !names.is_empty()) {
            let tensors = counted(names.len(), "tensor");
            terminal.note(&format!("{tensors} left out, {why}: {}", named(names.iter())));
        }
        for Rows { name, base, reference } in &pairing.rows {
            let (both, all) = (base.min(reference), base.max(reference));
            let longer = if base > reference { "target" } else { "reference" };
            terminal.note(&format!("{name}: of the {longer}'s {all} rows, only the first {both} are compared"));
        }
        if let [(reference, target), ..] = &pairing.renamed[..] {
            let renamed = counted(pairing.renamed.len(), "tensor");
            terminal.note(&format!("{renamed} paired by another name, such as {reference} with {target}"));
        }
    }
    if diffed.unrecognized {
        terminal.note("the names are no known transformer's; selecting from all matrices (--params says otherwise)");
    }
    if let [first, rest @ ..] = &diffed.other_differences[..] {
        let (more, differ) = match rest.len() {
            0 => (String::new(), "holds no floats and differs"),
            more => (format!(" and {more} more"), "hold no floats and differ"),
        };
        terminal.note(&format!("{first}{more} {differ} too; only --all carries that"));
    }
    if let [first, ..] = &diffed.masked_elsewhere[..] {
        let tensors = counted(diffed.masked_elsewhere.len(), "tensor");
        terminal.note(&format!("{tensors} with masks not considered, such as {first}; --params says otherwise"));
    }
    if let Some(overlap) = diffed.patch.metadata().masks.as_ref().map(|masks| masks.overlap) {
        let (base, reference) = (overlap.base_pruned(), overlap.reference_pruned());
        if base != reference {
            let (base, reference) = (counted(base, "pruned weight"), count(reference));
            terminal.note(&format!("the target has {base}, the reference {reference}"));
        }
    }
    if diffed.unchanged > 0 {
        let unchanged = count(diffed.unchanged);
        let why = match diffed.patch.metadata().localization.method.as_str() {
            "random" => "weights were drawn whether they differ or not",
            _ => "more weights were asked for than differ",
        };
        terminal.note(&format!("{why}: of the selected ones, {unchanged} have the same value in both"));
    }
}
