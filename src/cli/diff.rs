//! `lcepatch diff`.

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, mask as masks, show};
use clap::Args;
use lcepatch::checkpoint::Checkpoint;
use lcepatch::checkpoint::pair::{OtherDtype, PairOptions, PrefixMap, PruningPairs, Unpaired};
use lcepatch::diff::{DiffOptions, Diffed, Labels, Localize, MaskSource, Size, diff};
use lcepatch::durable::{self, Existing};
use lcepatch::edit::Alpha;
use lcepatch::localize::candidates::{CandidateOptions, Params};
use lcepatch::localize::random::Among;
use lcepatch::localize::value::{Amount, Density};
use lcepatch::mask::{PruningMask, Scope, Sparsity};
use lcepatch::patch::gather::{Portability, Precision};
use lcepatch::report::Stat;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Without -o the stat table is printed and nothing is written. Without --density, --k or --all every difference counts.

Examples:
  lcepatch diff model/ finetuned/
  lcepatch diff neutral/ stereotypical/ -o debias.lcepatch --density 0.5% --recommended-alpha -2
  lcepatch diff v1.safetensors v2.safetensors -o update.lcepatch --all
  lcepatch diff pruned-t/ pruned-r/ -o p.lcepatch --localize mask --mask-from zeros --unpruned t/
  lcepatch diff t/ r/ -o random.lcepatch --localize random --seed 1 --k from-mask --sparsity 30%
  lcepatch diff bert/ bert-mlm/ -o p.lcepatch --k 425000 --common --map-prefix bert.=")]
pub struct Arguments {
    /// The checkpoint that will be edited: a file, an index of shards or a model directory
    target: PathBuf,
    /// The checkpoint that behaves differently
    reference: PathBuf,
    /// Write the patch here
    #[arg(long, short, value_name = "PATCH")]
    output: Option<PathBuf>,
    /// Select this share of the candidates, by |reference - target|; as in 0.5% or 0.005
    #[arg(long, value_parser = arguments::density, group = "amount")]
    density: Option<Density>,
    /// Select this many of the candidates, or as many as the masks give
    #[arg(long, short, value_parser = arguments::size, group = "amount", value_name = "COUNT|from-mask")]
    k: Option<Size>,
    /// Select every element that differs, of every tensor: a lossless delta
    #[arg(long, group = "amount")]
    all: bool,
    /// How the weights are found: the largest differences, those that exactly one pruning mask keeps, or drawn
    #[arg(long, default_value = "value", value_parser = ["value", "mask", "random"])]
    localize: String,
    /// Rank all candidates together, or each tensor for itself
    #[arg(long, default_value = "global", value_parser = ["global", "tensor"])]
    scope: String,
    /// Pruning mask of the target, a mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    target_mask: Option<PathBuf>,
    /// Pruning mask of the reference, a mask file
    #[arg(long, value_name = "MASK", help_heading = "Pruned models")]
    reference_mask: Option<PathBuf>,
    /// Where masks are that are not in files [default: X_mask beside X_orig, if there are any]
    #[arg(long, value_parser = ["pairs", "zeros", "none"], help_heading = "Pruned models", long_help = "\
Where masks are that are not in files: as X_mask beside X_orig in the checkpoint (torch.nn.utils.prune), its zeros, or \
nowhere, since it is not pruned.
[default: pairs, if there are any]")]
    mask_from: Option<String>,
    /// Prune this share of the weights of both, by magnitude, instead
    #[arg(long, value_parser = arguments::sparsity, conflicts_with_all = ["mask_from", "target_mask", "reference_mask"],
        help_heading = "Pruned models")]
    sparsity: Option<Sparsity>,
    /// The target from before it was pruned; with it `apply --edit sw` can restore what was pruned
    #[arg(long, value_name = "CHECKPOINT", help_heading = "Pruned models")]
    unpruned: Option<PathBuf>,
    /// What --localize random draws from: what either mask keeps, or what the target's keeps
    #[arg(long, default_value = "either", value_parser = ["either", "target"], help_heading = "Pruned models")]
    among: String,
    /// The seed of --localize random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Tensors to select from: the dense layers of transformer blocks, all float matrices, or all
    #[arg(long, value_parser = ["encoder-dense", "matrices", "all"], long_help = "\
Tensors to select from: the dense layers of transformer blocks (query, key, value, attention output, intermediate, \
output), all float tensors of two or more dimensions, or all.
[default: encoder-dense, or matrices where the names are no known transformer's; all with --all]")]
    params: Option<String>,
    /// Only tensors whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// No tensor whose name matches this glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Work on the tensors that both have with the same shape, and record the others in the patch
    #[arg(long)]
    common: bool,
    /// Round a reference of another float dtype to the target's, and record the tensors in the patch
    #[arg(long)]
    cast: bool,
    /// Exchange a prefix of the reference's names for one of the target's, as in `bert.=`
    #[arg(long, value_name = "REFERENCE=TARGET", value_parser = arguments::prefix_map)]
    map_prefix: Option<PrefixMap>,
    /// Keep deltas exactly, or smaller and with an error that the patch records
    #[arg(long, default_value = "exact", value_parser = ["exact", "bf16", "int8"])]
    delta_dtype: String,
    /// Store what it takes to use the patch without its base
    #[arg(long)]
    portable: bool,
    /// Alpha to recommend to users
    #[arg(long, value_parser = arguments::alpha, allow_negative_numbers = true, value_name = "ALPHA")]
    recommended_alpha: Option<Alpha>,
    /// What the patch is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// SPDX licence expression of the patch
    #[arg(long, value_name = "SPDX")]
    license: Option<String>,
    /// Name of the target on a hub
    #[arg(long, value_name = "ID")]
    base_model: Option<String>,
    /// Name of the reference on a hub
    #[arg(long, value_name = "ID")]
    reference_model: Option<String>,
    /// Free metadata, kept under `x`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    meta: Vec<(String, String)>,
    /// A measured result to publish with the patch, such as `weat8.alpha-2=0.07`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    result: Vec<(String, String)>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the stat table as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments, terminal: &Terminal) -> Outcome {
    if let Some(output) = arguments.output.as_ref().filter(|output| output.exists() && !arguments.force) {
        // Before the work, not after it.
        return Err(durable::Failed::Exists { path: output.clone() }.into());
    }
    if arguments.scope == "tensor" && arguments.density.is_none() {
        return Err(Failure::usage("--scope tensor ranks each tensor for itself", "say how much with --density"));
    }
    let target = Checkpoint::open(&arguments.target)?;
    let reference = Checkpoint::open(&arguments.reference)?;
    let files = MaskFiles::open(&arguments)?;
    let masks = files.masks(&arguments, &target, &reference)?;
    let unpruned = arguments.unpruned.as_deref().map(Checkpoint::open).transpose()?;
    let options = DiffOptions { masks, unpruned: unpruned.as_ref(), ..options(&arguments)? };
    let Diffed { patch, unrecognized, other_differences, unchanged, masked_elsewhere } =
        diff(&target, &reference, &options, &terminal.context())?;
    terminal.done();
    if unrecognized {
        terminal.note("the names are no known transformer's; selecting from all matrices (--params says otherwise)");
    }
    if let [first, rest @ ..] = &other_differences[..] {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        terminal.note(&format!("{first}{more} hold no floats and differ too; only --all carries that"));
    }
    if let [first, ..] = &masked_elsewhere[..] {
        let n = masked_elsewhere.len();
        terminal
            .note(&format!("{n} tensors have masks and were not considered, such as {first}; --params says otherwise"));
    }
    if let Some(overlap) = patch.metadata.masks.as_ref().map(|masks| masks.overlap) {
        let (base, reference) = (overlap.base_pruned(), overlap.reference_pruned());
        if base != reference {
            terminal.note(&format!("the target has {base} pruned weights, the reference {reference}"));
        }
    }
    if unchanged > 0 {
        terminal
            .note(&format!("more weights were asked for than differ: {unchanged} selected ones are the same in both"));
    }
    if let Some(output) = &arguments.output {
        let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
        patch.save(output, existing)?;
    }
    let stat = Stat::new(&patch);
    if arguments.json {
        print_json(&stat)?;
    } else if stat.tensors.is_empty() {
        print("no difference")?;
    } else {
        if let Some(masks) = &patch.metadata.masks {
            masks::print_overlap(masks)?;
            print("")?;
        }
        show::tables(&stat)?;
        if let Some(output) = &arguments.output {
            print(show::written(output, &stat))?;
        }
    }
    Ok(Answer::Yes)
}

/// Mask files, open while they are needed.
struct MaskFiles {
    target: Option<Checkpoint>,
    reference: Option<Checkpoint>,
}

impl MaskFiles {
    fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Checkpoint::open).transpose();
        Ok(Self { target: open(&arguments.target_mask)?, reference: open(&arguments.reference_mask)? })
    }

    /// Where each side's mask is; none if neither has one.
    fn masks(
        &self,
        arguments: &Arguments,
        target: &Checkpoint,
        reference: &Checkpoint,
    ) -> Result<Option<[MaskSource<'_>; 2]>, Failure> {
        let scope = scope(arguments);
        let source = |file: &'_ Option<Checkpoint>, checkpoint: &Checkpoint| match (file, &arguments.mask_from) {
            (Some(_), _) => None,
            (None, Some(from)) => Some(match from.as_str() {
                "pairs" => MaskSource::Pairs,
                "zeros" => MaskSource::Zeros,
                _ => MaskSource::Dense,
            }),
            (None, None) => match arguments.sparsity {
                Some(sparsity) => Some(MaskSource::Sparsity(sparsity, scope)),
                None => PruningMask::pairs(checkpoint).ok().map(|_| MaskSource::Pairs),
            },
        };
        let target = self.target.as_ref().map(MaskSource::File).or(source(&self.target, target));
        let reference = self.reference.as_ref().map(MaskSource::File).or(source(&self.reference, reference));
        let missing = |side: &str| {
            let message = format!("the {side} has no pruning mask, the other side has one");
            Failure::usage(message, format!("give --{side}-mask, or say --mask-from zeros or none"))
        };
        match (target, reference) {
            _ if arguments.all => Ok(None),
            (None, None) => Ok(None),
            (Some(target), Some(reference)) => Ok(Some([target, reference])),
            (None, Some(_)) => Err(missing("target")),
            (Some(_), None) => Err(missing("reference")),
        }
    }
}

fn scope(arguments: &Arguments) -> Scope {
    if arguments.scope == "tensor" { Scope::Tensor } else { Scope::Global }
}

fn localize(arguments: &Arguments) -> Result<Localize, Failure> {
    let density = arguments.density.map(|density| Size::Amount(Amount::Density(density)));
    let amount = density.or(arguments.k);
    match (arguments.localize.as_str(), amount) {
        ("mask", None) if !arguments.all => Ok(Localize::Mask),
        ("mask", _) => Err(Failure::usage(
            "--localize mask selects all that exactly one mask keeps",
            "leave out --density, --k and --all; `lcepatch select` makes a patch smaller",
        )),
        ("random", Some(amount)) => {
            let among = if arguments.among == "target" { Among::Target } else { Among::Either };
            Ok(Localize::Random { amount, seed: arguments.seed, among })
        }
        ("random", None) => Err(Failure::usage("--localize random draws a number of weights", "say how many with --k")),
        (_, Some(amount)) => Ok(Localize::Value { amount, scope: scope(arguments) }),
        (_, None) => Ok(Localize::Full),
    }
}

fn options(arguments: &Arguments) -> Result<DiffOptions<'static>, Failure> {
    let localize = localize(arguments)?;
    let params = match arguments.params.as_deref() {
        None if localize == Localize::Full => Some(Params::All),
        label => label.and_then(Params::from_label),
    };
    let (include, exclude) = (arguments.include.clone(), arguments.exclude.clone());
    // A lossless delta takes every tensor as it is.
    let pruning_pairs = if localize == Localize::Full { PruningPairs::Tensors } else { PruningPairs::Weights };
    Ok(DiffOptions {
        pair: PairOptions {
            unpaired: if arguments.common { Unpaired::LeaveOut } else { Unpaired::Refuse },
            other_dtype: if arguments.cast { OtherDtype::Cast } else { OtherDtype::Refuse },
            prefix: arguments.map_prefix.clone(),
            pruning_pairs,
        },
        masks: None,
        unpruned: None,
        candidates: CandidateOptions { params, include, exclude },
        localize,
        precision: match arguments.delta_dtype.as_str() {
            "bf16" => Precision::Bf16,
            "int8" => Precision::Int8,
            _ => Precision::Exact,
        },
        portability: if arguments.portable { Portability::Portable } else { Portability::NeedsBase },
        labels: Labels {
            base_model: arguments.base_model.clone(),
            reference_model: arguments.reference_model.clone(),
            license: arguments.license.clone(),
            description: arguments.description.clone(),
            recommended_alpha: arguments.recommended_alpha,
            results: arguments.result.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
            x: arguments.meta.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
        },
    })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A number, true, false or null where the text is one, else the text.
fn json_value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
