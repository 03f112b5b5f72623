//! What is selected of two checkpoints, and how it is kept: the arguments of `diff` and `plan` that decide the bytes of a patch.

use super::arguments::{self, Localization};
use super::exit::Failure;
use super::pair::{Opened, PairArguments};
use crate::codec::Effort;
use crate::diff::{DiffOptions, Labels, Localize, Size};
use crate::edit::Alpha;
use crate::format::block::encode::{Portability, Precision};
use crate::localize::random::Among;
use crate::localize::value::{Amount, Density};
use crate::mask::Scope;
use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct Selection {
    #[command(flatten)]
    pub pair: PairArguments,
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

impl Selection {
    /// The options of a diff of what was opened.
    pub fn options<'a>(&self, opened: &'a Opened) -> Result<DiffOptions<'a>, Failure> {
        let masks = if self.all { None } else { opened.masks(&self.pair)? };
        Ok(options(self, self.pair.options(opened, masks, localize(self)?)))
    }

    /// Whether weights are ranked.
    pub fn is_ranked(&self) -> bool {
        self.density.is_some() || self.k.is_some()
    }

    /// Refuses what cannot be meant, before anything is opened.
    pub fn check(&self) -> Result<(), Failure> {
        if self.pair.scope() == Scope::Tensor && self.density.is_none() {
            return Err(Failure::usage("--scope tensor ranks each tensor for itself", "say how much with --density"));
        }
        Ok(())
    }
}

fn localize(arguments: &Selection) -> Result<Localize, Failure> {
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

fn options<'a>(arguments: &Selection, options: DiffOptions<'a>) -> DiffOptions<'a> {
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
