//! `lcepatch ask`.

use super::arguments::EditWithoutAlpha;
use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::verify::{Computing, cases};
use super::{Answer, Outcome, arguments, patch_argument};
use crate::apply::Check;
use crate::ask::ask;
use crate::edit::Alpha;
use crate::measure::compare::Comparison;
use crate::measure::predictions::{BadPrompt, PredictionQuery, Prompts};
use crate::model::Model;
use crate::model::tokenizer::Tokenizer;
use crate::pair::PrefixMap;
use crate::patch::Patch;
use crate::report::ask::{json, lines};
use crate::verify::{Evaluation, MeasurePlan, VerifyOptions};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
A masked language model is asked which token stands at [MASK]. Write [MASK] whatever the model's own mask token is called; a text with \
several masks is asked about each of them in turn. A causal language model is asked how the text goes on. The answers are probabilities \
over the whole vocabulary.

Without --options, the likeliest tokens of all columns are shown. An option that the model splits into several tokens gets the product of \
their probabilities, each given the tokens before it, so options of different lengths are hard to compare.

The model is asked as it is, and then with the patches at each --alpha and --edit. Its files do not change.

Needs ONNX Runtime: `lcepatch runtime install`.

Examples:
  lcepatch ask model/ 'The nurse said that [MASK] was late.'
  lcepatch ask model/ 'The nurse said that [MASK] was late.' --patch debias.lcepatch --options she,he,they
  lcepatch ask model/ 'The [MASK] was late.' 'My [MASK] called.' --patch debias.lcepatch --alpha -2,-1,1 --top 3 --json
  lcepatch ask gpt2/ 'The nurse said that' --options she,he")]
pub struct Arguments {
    /// The model directory: config.json, tokenizer, weights
    model: PathBuf,
    /// Texts with [MASK]; for a causal model, texts to continue
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    /// A patch to see the effect of; several are applied together
    #[arg(long, short, value_name = "PATCH")]
    patch: Vec<PathBuf>,
    /// How strongly to apply the patches, one column for each [default: what they recommend, or 1; without --edit]
    #[arg(long, short, value_parser = arguments::alpha, value_delimiter = ',', allow_hyphen_values = true,
        value_name = "ALPHA,...", requires = "patch")]
    alpha: Vec<Alpha>,
    /// Edits without an alpha, one column for each: prune, switch masks
    #[arg(long, value_delimiter = ',', value_name = "pr,sw", requires = "patch")]
    edit: Vec<EditWithoutAlpha>,
    /// The words to look at, as in she,he,they
    #[arg(long, short, value_delimiter = ',', value_name = "WORD,...")]
    options: Vec<String>,
    /// How many of the likeliest tokens to show
    #[arg(long, short = 'n', default_value_t = 5, value_name = "N", conflicts_with = "options",
        value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Check the base's values at the selected weights only
    #[arg(long)]
    quick: bool,
    /// Exchange a prefix of the patches' names for one of the model's, as in `bert.=`
    #[arg(long, value_name = "PATCH=MODEL", value_parser = arguments::prefix_map)]
    map_prefix: Option<PrefixMap>,
    #[command(flatten)]
    computing: Computing,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let checkpoint = patch_argument::model(&arguments.model, terminal)?;
    let patches = arguments
        .patch
        .iter()
        .map(|name| patch_argument::open(name, terminal))
        .collect::<Result<Vec<Patch>, Failure>>()?;
    patches.iter().for_each(|patch| patch_argument::note_ignored(patch, terminal));
    let cases = cases(&arguments.alpha, &arguments.edit, &patches, &[])?;
    let model = Model::open(checkpoint.path(), &checkpoint)?;
    model.notes().iter().for_each(|note| terminal.note(note));
    let tokenizer = Tokenizer::read(checkpoint.path(), model.config())?;
    let mut plan = MeasurePlan::default();
    let prompts = Prompts::plan(&arguments.texts, query(arguments), &tokenizer, model.facts(), &mut plan.work)
        .map_err(|bad| match bad {
            BadPrompt::Model(bad) => bad.into(),
            bad => Failure::usage(bad.to_string(), bad.help()),
        })?;
    tokenizer.check(&plan.work)?;
    let options = VerifyOptions {
        check: if arguments.quick { Check::Quick } else { Check::Full },
        prefix: arguments.map_prefix.clone(),
        comparison: Comparison::default(),
    };
    // ONNX Runtime may be missing. It is looked for last, so that wrong arguments are reported first.
    let engine = arguments.computing.engine(terminal)?;
    let evaluation =
        Evaluation { model: &model, checkpoint: &checkpoint, plan: &plan, options: &options, engine: &engine };
    let answers = ask(evaluation, &prompts, &tokenizer, &patches, &cases, &terminal.context())?;
    terminal.done();
    if arguments.json {
        print_json(terminal, &json(&answers, &arguments.computing.setup(&engine, terminal)))?;
    } else {
        lines(&answers).into_iter().try_for_each(print)?;
    }
    Ok(Answer::Yes)
}

/// Which predictions are shown.
fn query(arguments: &Arguments) -> PredictionQuery {
    match &arguments.options[..] {
        [] => PredictionQuery::Top(arguments.top.into()),
        options => PredictionQuery::Options(options.to_vec()),
    }
}
