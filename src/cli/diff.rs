//! `lcepatch diff`.

use super::arguments::Localization;
use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, mask as masks, pair, show};
use crate::algebra::Spectrum;
use crate::codec::Effort;
use crate::diff::{DiffOptions, Labels, Localize, Shard, Size, diff, shard};
use crate::durable::{Existing, check_new_file};
use crate::edit::Alpha;
use crate::format::block::encode::{Portability, Precision};
use crate::localize::random::Among;
use crate::localize::value::{Amount, Density};
use crate::mask::Scope;
use crate::report::table::bytes;
use crate::report::{Kind, Stat};
use crate::words::count;
use clap::{Args, ValueEnum};
use pair::PairArguments;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
Without -o the stat table is printed and nothing is written. Without --density, --k or --all every difference counts. Between equal \
checkpoints the patch is empty: it is written all the same, can be applied, and changes nothing.

Examples:
  lcepatch diff model/ finetuned/
  lcepatch diff neutral/ stereotypical/ -o debias.lcepatch --density 0.5% --recommended-alpha -2
  lcepatch diff v1.safetensors v2.safetensors -o update.lcepatch --all
  lcepatch diff pruned-t/ pruned-r/ -o p.lcepatch --localize mask --mask-from zeros --unpruned t/
  lcepatch diff t/ r/ -o random.lcepatch --localize random --seed 1 --k from-mask --sparsity 30%
  lcepatch diff bert/ bert-mlm/ -o p.lcepatch --k 425000 --common --map-prefix bert.=

In several processes, on one machine or many; `combine` makes the same patch of the parts as one process. Each reads the headers of \
all weight files, and of their data its own share alone:
  lcepatch diff A B --all --shard 1/4 -o 1.part                         and so for 2/4, 3/4, 4/4; then
  lcepatch combine 1.part 2.part 3.part 4.part -o p.lcepatch
With --density or --k each shard first writes its ranks, and finds its blocks once all have:
  lcepatch diff A B --density 0.5% --shard 1/4 -o 1.ranks               and the others; then
  lcepatch diff A B --density 0.5% --shard 1/4 -o 1.part --ranks 1.ranks 2.ranks 3.ranks 4.ranks")]
pub struct Arguments {
    #[command(flatten)]
    pair: PairArguments,
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
    #[arg(long, default_value = "value")]
    localize: Localization,
    /// What --localize random draws from: what either mask keeps, or what the target's keeps
    #[arg(long, default_value = "either", help_heading = "Pruned models")]
    among: DrawnFrom,
    /// The seed of --localize random
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep deltas exactly, or smaller and with an error that the patch records
    #[arg(long, default_value = "exact")]
    delta_dtype: DeltaDtype,
    /// Store what it takes to use the patch without its base
    #[arg(long)]
    portable: bool,
    /// Code in every way and keep the smallest: several times the work of coding, mostly for less than 1 % of the bytes. Dense
    /// blocks, which apply faster, are kept unless a list is 3 % smaller
    #[arg(long)]
    best: bool,
    /// Also name whole files by SHA-256, as hubs list it: takes about a second a gigabyte
    #[arg(long)]
    sha256: bool,
    /// Do this share of the work, and write a part for `lcepatch combine` instead of a patch
    #[arg(long, value_name = "I/N", value_parser = arguments::shard, requires = "output", conflicts_with = "json",
        help_heading = "Several processes")]
    shard: Option<Shard>,
    /// The ranks of all shards, which they write first where weights are ranked
    #[arg(long, value_name = "PART", num_args = 1.., requires = "shard", conflicts_with = "all",
        help_heading = "Several processes")]
    ranks: Vec<PathBuf>,
    /// Alpha that the patch is meant for: `apply` uses it unless another is given
    #[arg(long, value_parser = arguments::alpha, allow_hyphen_values = true, value_name = "ALPHA")]
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
    /// Also measure along how many directions the matrices change: the median of their stable ranks. Takes about a
    /// second for every ten million weights
    #[arg(long, conflicts_with = "shard")]
    spectrum: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// On a terminal, list every layer, where more than twelve would be shortened
    #[arg(long)]
    all_layers: bool,
    /// Print the stat table as JSON
    #[arg(long)]
    json: bool,
}

// Comments on the values of these would be in the help.

/// What random weights are drawn from.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DrawnFrom {
    Either,
    Target,
}

/// How deltas are kept.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DeltaDtype {
    Exact,
    Bf16,
    Int8,
}

#[derive(serde::Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    stat: &'a Stat,
    kind: &'a Kind,
    /// Only where it was asked for.
    spectrum: Option<&'a [Spectrum]>,
}

impl Arguments {
    fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }
}

pub fn run(arguments: Arguments, terminal: &Terminal) -> Outcome {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::freed_memory::keep();
    if let Some(output) = &arguments.output {
        check_new_file(output, arguments.existing())?;
    }
    if arguments.pair.scope() == Scope::Tensor && arguments.density.is_none() {
        return Err(Failure::usage("--scope tensor ranks each tensor for itself", "say how much with --density"));
    }
    let opened = arguments.pair.open(terminal)?;
    let masks = if arguments.all { None } else { opened.masks(&arguments.pair)? };
    let options = options(&arguments, arguments.pair.options(&opened, masks, localize(&arguments)?));
    if let Some(shard) = arguments.shard {
        return write_part(&arguments, shard, &opened, &options, terminal);
    }
    let diffed = diff(&opened.target, &opened.reference, &options, &terminal.context())?;
    terminal.done();
    pair::print_notes(&diffed, terminal);
    let patch = diffed.patch;
    let (stat, mut kind) = (Stat::new(&patch), Kind::of(&patch));
    let mut spectrum = None;
    if arguments.spectrum {
        let measured = show::measure_spectrum(&patch, Some(&opened.target), terminal)?;
        kind = kind.with_spectrum(&measured);
        spectrum = Some(measured);
    }
    if let Some(output) = &arguments.output {
        patch.save(output, arguments.existing())?;
    }
    if arguments.json {
        print_json(terminal, &Printed { stat: &stat, kind: &kind, spectrum: spectrum.as_deref() })?;
    } else if diffed.unchanged == stat.selected {
        match stat.tensors.is_empty() {
            true => {
                let compared = count(patch.metadata().candidates.elements);
                print(format_args!("no difference: both have the same values, in all weights compared ({compared})"))?;
            }
            false => print("no difference: the selected weights are the same in both")?,
        }
        if let Some(output) = &arguments.output {
            print(show::written(output, &stat))?;
        }
    } else {
        print(&kind.sentence)?;
        print("")?;
        if let Some(masks) = &patch.metadata().masks {
            masks::print_overlap(masks)?;
            print("")?;
        }
        show::print_tables(&stat, &show::Layout { width: terminal.width(), all_layers: arguments.all_layers })?;
        if let Some(spectrum) = &spectrum {
            print("")?;
            show::print_ranks(spectrum)?;
        }
        if let Some(output) = &arguments.output {
            print("")?;
            print(show::written(output, &stat))?;
        }
    }
    Ok(Answer::Yes)
}

/// Does the work of one shard.
fn write_part(
    arguments: &Arguments,
    shard: Shard,
    opened: &pair::Opened,
    options: &DiffOptions<'_>,
    terminal: &Terminal,
) -> Outcome {
    let Some(output) = &arguments.output else { return Ok(Answer::No) };
    let (target, reference, context) = (&opened.target, &opened.reference, terminal.context());
    let part = match options.localize {
        Localize::Value { .. } if arguments.ranks.is_empty() => {
            shard::rank(target, reference, options, shard, &context)?
        }
        _ => shard::find(target, reference, options, shard, &arguments.ranks, &context)?,
    };
    terminal.done();
    let size = part.save(output, arguments.existing())?;
    print(format!("wrote {}: {} of {shard}, {}", output.display(), part.content(), bytes(size)))?;
    Ok(Answer::Yes)
}

fn localize(arguments: &Arguments) -> Result<Localize, Failure> {
    let density = arguments.density.map(|density| Size::Amount(Amount::Density(density)));
    let amount = density.or(arguments.k);
    match (arguments.localize, amount) {
        (Localization::Mask, None) if !arguments.all => Ok(Localize::Mask),
        (Localization::Mask, _) => Err(Failure::usage(
            "--localize mask selects all that exactly one mask keeps",
            "leave out --density, --k and --all; `lcepatch select` makes a patch smaller",
        )),
        (Localization::Random, Some(amount)) => {
            let among = match arguments.among {
                DrawnFrom::Either => Among::Either,
                DrawnFrom::Target => Among::Target,
            };
            Ok(Localize::Random { amount, seed: arguments.seed, among })
        }
        (Localization::Random, None) => {
            Err(Failure::usage("--localize random draws a number of weights", "say how many with --k"))
        }
        (Localization::Value, Some(amount)) => Ok(Localize::Value { amount, scope: arguments.pair.scope() }),
        (Localization::Value, None) => Ok(Localize::Full),
    }
}

fn options<'a>(arguments: &Arguments, options: DiffOptions<'a>) -> DiffOptions<'a> {
    DiffOptions {
        precision: match arguments.delta_dtype {
            DeltaDtype::Exact => Precision::Exact,
            DeltaDtype::Bf16 => Precision::Bf16,
            DeltaDtype::Int8 => Precision::Int8,
        },
        portability: if arguments.portable { Portability::Portable } else { Portability::NeedsBase },
        effort: if arguments.best { Effort::Best } else { Effort::Default },
        sha256: arguments.sha256,
        labels: Labels {
            base_model: arguments.base_model.clone(),
            reference_model: arguments.reference_model.clone(),
            license: arguments.license.clone(),
            description: arguments.description.clone(),
            recommended_alpha: arguments.recommended_alpha,
            results: arguments.result.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
            x: arguments.meta.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
        },
        ..options
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A number, true, false or null where the text is one, else the text.
fn json_value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
