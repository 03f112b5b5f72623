//! `lcepatch diff`.

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, show};
use clap::Args;
use lcepatch::checkpoint::Checkpoint;
use lcepatch::checkpoint::pair::{OtherDtype, PairOptions, PrefixMap, Unpaired};
use lcepatch::diff::{DiffOptions, Diffed, Labels, Localize, diff};
use lcepatch::durable::{self, Existing};
use lcepatch::edit::Alpha;
use lcepatch::localize::candidates::{CandidateOptions, Params};
use lcepatch::localize::value::{Amount, Density, Scope};
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
    /// Select this many of the candidates, by |reference - target|
    #[arg(long, short, value_parser = arguments::count, group = "amount", value_name = "COUNT")]
    k: Option<u64>,
    /// Select every element that differs, of every tensor: a lossless delta
    #[arg(long, group = "amount")]
    all: bool,
    /// Rank all candidates together, or each tensor for itself
    #[arg(long, default_value = "global", value_parser = ["global", "tensor"])]
    scope: String,
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
    let options = options(&arguments);
    let Diffed { patch, unrecognized, other_differences, unchanged } =
        diff(&target, &reference, &options, &terminal.context())?;
    terminal.done();
    if unrecognized {
        terminal.note("the names are no known transformer's; selecting from all matrices (--params says otherwise)");
    }
    if let [first, rest @ ..] = &other_differences[..] {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        terminal.note(&format!("{first}{more} hold no floats and differ too; only --all carries that"));
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
        show::tables(&stat)?;
        if let Some(output) = &arguments.output {
            print(show::written(output, &stat))?;
        }
    }
    Ok(Answer::Yes)
}

fn options(arguments: &Arguments) -> DiffOptions {
    let scope = if arguments.scope == "tensor" { Scope::Tensor } else { Scope::Global };
    let amount = arguments.density.map(Amount::Density).or(arguments.k.map(Amount::Count));
    let localize = amount.map_or(Localize::Full, |amount| Localize::Value { amount, scope });
    let params = match arguments.params.as_deref() {
        Some("encoder-dense") => Some(Params::EncoderDense),
        Some("matrices") => Some(Params::Matrices),
        Some(_) => Some(Params::All),
        None if localize == Localize::Full => Some(Params::All),
        None => None,
    };
    let (include, exclude) = (arguments.include.clone(), arguments.exclude.clone());
    DiffOptions {
        pair: PairOptions {
            unpaired: if arguments.common { Unpaired::LeaveOut } else { Unpaired::Refuse },
            other_dtype: if arguments.cast { OtherDtype::Cast } else { OtherDtype::Refuse },
            prefix: arguments.map_prefix.clone(),
        },
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
