//! `lcepatch verify`.

pub mod measures;

use super::arguments::EditWithoutAlpha;
use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::apply::Check;
use crate::durable::{self, Existing};
use crate::edit::{Alpha, EditKind};
use crate::error::list::named;
use crate::measure::threshold::Threshold;
use crate::model::runtime::Provider;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Engine, ExportedGraph, Model};
use crate::pair::{Prefix, PrefixMap};
use crate::patch::Patch;
use crate::report::plot::{sweep, sweep_lines};
use crate::report::results::Runtime;
use crate::report::verify::{Detail, Setup, case, json, lines, summary};
use crate::verify::{Evaluation, MeasurePlan, Report, VerifyOptions, verify};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Each measure is that of the published code, named by its variant; the report says what it means, over how many items, and whether a \
change is more than noise. Benchmark data is not part of this program: the README says where it is published. WEAT's lists are built in.

The model is measured as it is, and then with the patches at each --alpha and --edit. Nothing is written to the model.

Needs ONNX Runtime: `lcepatch runtime install`.

Examples:
  lcepatch verify model/ --weat 6,7,8
  lcepatch verify model/ --patch debias.lcepatch --weat 6,7,8
  lcepatch verify model/ --patch debias.lcepatch --alpha -2,-1,0.5,1,2 --crows-pairs crows_pairs_anonymized.csv \\
      --stereoset test.json --perplexity heldout.txt --kl --plot sweep.svg
  lcepatch verify pruned/ --patch p.lcepatch --edit pr,sw --weat 8 --weat-encoding wordpiece
  lcepatch verify model/ --patch p.lcepatch --perplexity heldout.txt --fail-if 'ppl.mlm>+1%' --json
  lcepatch verify t5/ --onnx t5-encoder.onnx --weat 6,7,8
  lcepatch verify gpt2/ --crows-pairs crows_pairs_anonymized.csv --perplexity wiki.txt --provider cuda")]
pub struct Arguments {
    /// The model directory: config.json, tokenizer, weights
    model: PathBuf,
    /// Measure through this export of the model; its weights are found by content, whatever they are called
    #[arg(long, value_name = "MODEL.onnx")]
    onnx: Option<PathBuf>,
    /// A patch to measure the effect of; several are applied together
    #[arg(long, short, value_name = "PATCH")]
    patch: Vec<PathBuf>,
    /// How strongly to apply the patches, one model for each [default: what they recommend, and 1; without --edit]
    #[arg(long, short, value_parser = arguments::alpha, value_delimiter = ',', allow_hyphen_values = true,
        value_name = "ALPHA,...", requires = "patch")]
    alpha: Vec<Alpha>,
    /// Edits without an alpha, one model for each: prune, switch masks
    #[arg(long, value_delimiter = ',', value_name = "pr,sw", requires = "patch")]
    edit: Vec<EditWithoutAlpha>,
    #[command(flatten)]
    measures: measures::Measures,
    #[command(flatten)]
    computing: Computing,
    /// Check the base's values at the selected weights only
    #[arg(long)]
    quick: bool,
    /// Exchange a prefix of the patches' names for one of the model's, as in `bert.=`; may be repeated,
    /// and the longest one that fits counts
    #[arg(long, value_name = "PATCH=MODEL", value_parser = arguments::prefix_map)]
    map_prefix: Vec<Prefix>,
    /// Exit with code 1 if this comes true of any edited model, as in 'ppl.mlm>+1%' or '|weat8|>0.5'; may be repeated
    #[arg(long, value_name = "CONDITION", value_parser = threshold)]
    fail_if: Vec<Threshold>,
    /// Draw the scores against alpha into this .svg file, or with `-` in the terminal
    #[arg(long, value_name = "FILE|-")]
    plot: Option<PathBuf>,
    /// Write the results into the patch's metadata, where `show` prints them; the patch gets another id
    #[arg(long, requires = "patch")]
    record: bool,
    /// Replace an existing plot
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// With --json: what each item of the data contributes, too
    #[arg(long, requires = "json")]
    items: bool,
}

#[derive(Args)]
pub struct Computing {
    /// What computes
    #[arg(long, default_value = "cpu", help_heading = "Computing")]
    provider: ProviderName,
    /// Which GPU
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Computing")]
    device: u16,
}

// Comments on its values would be in the help.
/// What computes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProviderName {
    Cpu,
    Cuda,
}

impl Computing {
    pub fn engine(&self, terminal: &Terminal) -> Result<Engine, Failure> {
        let provider = match self.provider {
            ProviderName::Cpu => Provider::Cpu,
            ProviderName::Cuda => Provider::Cuda { device: self.device.into() },
        };
        Ok(Engine::start(provider, terminal.threads())?)
    }

    /// With what is measured; the digests of weights are not looked for.
    pub fn setup(&self, engine: &Engine, terminal: &Terminal) -> Setup {
        let threads = terminal.threads().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let runtime = Runtime { version: engine.about.version.clone(), provider: engine.provider.label(), threads };
        Setup { runtime, weights: BTreeMap::new() }
    }
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let (shown, plot) = match arguments.plot.as_deref() {
        Some(path) if path == Path::new("-") => (true, None),
        path => (false, path),
    };
    if shown && arguments.json {
        return Err(Failure::usage("--json and --plot - both print", "draw into a file, such as --plot sweep.svg"));
    }
    if let Some(path) = plot {
        arguments::refuse_inputs([path], arguments.patch.iter().map(PathBuf::as_path))?;
        arguments::is_svg(path)?;
        if path.exists() && existing == Existing::Keep {
            return Err(durable::Failed::Exists { path: path.to_owned() }.into());
        }
    }
    if arguments.record && arguments.patch.len() > 1 {
        return Err(Failure::usage("--record writes into one patch", "give one --patch"));
    }
    arguments.measures.check()?;
    let context = terminal.context();
    let checkpoint = patch_argument::model(&arguments.model, terminal)?;
    let patches =
        arguments.patch.iter().map(|path| patch_argument::open(path)).collect::<Result<Vec<Patch>, Failure>>()?;
    let cases = cases(&arguments.alpha, &arguments.edit, &patches, &[Alpha::ONE])?;
    let model = match &arguments.onnx {
        Some(onnx) => Model::with_onnx(&arguments.model, &checkpoint, onnx, &context)?,
        None => Model::open(&arguments.model, &checkpoint)?,
    };
    if let Some(exported) = model.exported_graph() {
        unbound(exported, terminal);
    }
    let tokenizer = Tokenizer::read(&arguments.model, model.config())?;
    let mut plan = MeasurePlan::default();
    arguments.measures.plan(&tokenizer, model.facts(), !patches.is_empty(), &mut plan)?;
    tokenizer.check(&plan.work)?;
    let options = VerifyOptions {
        check: if arguments.quick { Check::Quick } else { Check::Full },
        prefix: PrefixMap::new(arguments.map_prefix.clone()),
        seed: arguments.measures.seed(),
    };
    // Everything that was given is right: only now is something asked for that may be missing.
    let engine = arguments.computing.engine(terminal)?;
    let (model, checkpoint, plan) = (&model, &checkpoint, &plan);
    let evaluation = Evaluation { model, checkpoint, plan, options: &options, engine: &engine };
    let mut report = verify(evaluation, &patches, &cases, &context)?;
    let mut weights = BTreeMap::new();
    if arguments.record {
        for file in checkpoint.files() {
            weights.insert(file.name(), file.sha256(&context)?);
        }
        for file in model.exported_graph().iter().flat_map(|exported| exported.file().files()) {
            weights.insert(file.name(), file.sha256(&context)?);
        }
    }
    terminal.done();
    let setup = Setup { weights, ..arguments.computing.setup(&engine, terminal) };
    if let (true, [patch]) = (arguments.record, &patches[..]) {
        report.patches[0].id = record(patch, &report, &setup)?;
    }
    if let Some(path) = plot {
        durable::write_file(path, sweep(&report).as_bytes(), existing)?;
    }
    if arguments.json {
        print_json(&json(&report, &setup, if arguments.items { Detail::Items } else { Detail::Scores }))?;
    } else {
        lines(&report, &setup).into_iter().try_for_each(print)?;
        if shown {
            print("")?;
            sweep_lines(&report, terminal.characters()).into_iter().try_for_each(print)?;
        }
        if let Some(path) = plot {
            print(format_args!("wrote {}", path.display()))?;
        }
    }
    answer(arguments, &report, terminal)
}

/// Says which weights of an export are not the checkpoint's, so that no edit reaches them.
fn unbound(exported: &ExportedGraph, terminal: &Terminal) {
    let names = &exported.bindings().unbound_initializers;
    if names.is_empty() {
        return;
    }
    let (count, names) = (names.len(), named(names.iter()));
    terminal.note(&format!("{count} initializers of the export are no tensors of the checkpoint: {names}"));
}

/// The edits that were asked for, in their order; if none were, at the alpha that the patches recommend, and at `more`.
pub fn cases(
    alphas: &[Alpha],
    edits: &[EditWithoutAlpha],
    patches: &[Patch],
    more: &[Alpha],
) -> Result<Vec<EditKind>, Failure> {
    let edits = edits.iter().copied().map(EditKind::from);
    let mut kinds: Vec<EditKind> = alphas.iter().map(|alpha| EditKind::Interpolate(*alpha)).chain(edits).collect();
    if let (true, [first, others @ ..]) = (kinds.is_empty(), patches) {
        let (alpha, _) = first.default_alpha();
        if let Some(other) = others.iter().find(|other| other.default_alpha().0 != alpha) {
            let (path, other) = (other.name().display(), other.default_alpha().0);
            let message = format!("{path} is meant for alpha {other}, and the first patch for {alpha}");
            return Err(Failure::usage(message, "say at which they are applied together, with --alpha"));
        }
        kinds.push(EditKind::Interpolate(alpha));
        kinds.extend(more.iter().filter(|more| **more != alpha).map(|more| EditKind::Interpolate(*more)));
    }
    // Alpha 0 is the unedited model, which is always there.
    kinds.retain(|kind| kind.alpha().is_none_or(|alpha| alpha.value() != 0.0));
    Ok(kinds)
}

/// Puts the results into the patch's file, and returns its new id.
fn record(patch: &Patch, report: &Report, setup: &Setup) -> Result<crate::digest::Digest, Failure> {
    let mut metadata = patch.metadata().clone();
    metadata.results.extend(summary(report, setup));
    let recorded = patch.with_metadata(&metadata)?;
    recorded.save(patch.name(), Existing::Replace)?;
    Ok(recorded.id())
}

fn threshold(text: &str) -> Result<Threshold, String> {
    Threshold::parse(text).map_err(|error| error.to_string())
}

/// No, if a condition came true.
fn answer(arguments: &Arguments, report: &Report, terminal: &Terminal) -> Outcome {
    let mut answer = Answer::Yes;
    let (unedited, edited) = match &report.rows[..] {
        [unedited, edited @ ..] => (unedited, edited),
        [] => return Ok(answer),
    };
    for threshold in &arguments.fail_if {
        // A condition on a score holds of the model alone, too.
        let rows = if edited.is_empty() && !threshold.is_of_change() { std::slice::from_ref(unedited) } else { edited };
        for row in rows {
            let violation = threshold.violation(&row.outcomes, &unedited.outcomes);
            let violation = violation.map_err(|error| Failure::usage(error.to_string(), "name one of these"))?;
            if let Some(violation) = violation {
                terminal.note(&format!("{}: {}", case(row.edit), violation.sentence));
                answer = Answer::No;
            }
        }
    }
    Ok(answer)
}
