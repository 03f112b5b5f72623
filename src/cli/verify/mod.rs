//! `lcepatch verify`.

pub mod measures;

use super::arguments::EditWithoutAlpha;
use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, patch_argument};
use crate::apply::Check;
use crate::durable::{Existing, check_new_file, write_file};
use crate::edit::{Alpha, EditKind};
use crate::error::list::named;
use crate::measure::threshold::{NotMeasured, Threshold};
use crate::model::runtime::Provider;
use crate::model::tokenizer::Tokenizer;
use crate::model::{Engine, ExportedGraph, Model};
use crate::pair::{Prefix, PrefixMap};
use crate::patch::Patch;
use crate::report::plot::{sweep, sweep_lines};
use crate::report::results::Runtime;
use crate::report::verify::{Detail, Setup, case, json, lines, summary};
use crate::verify::{Evaluation, MeasurePlan, Report, VerifyOptions, verify};
use crate::words::counted;
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Args)]
#[command(after_help = "\
Each measure gives what the published code gives, and its name says which variant it is. The report says what a score means, over how \
many items it is, and whether a change is more than noise. WEAT's lists are built in. The other benchmarks are not part of this program: \
docs/measuring.md says where they are published.

The model is measured as it is, and then with the patches at each --alpha and --edit. Its files do not change.

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
    /// Measure with this ONNX export of the model; its weights are recognized by their content, not by their names
    #[arg(long, value_name = "MODEL.onnx")]
    onnx: Option<PathBuf>,
    /// A patch to measure the effect of; several are applied together
    #[arg(long, short, value_name = "PATCH")]
    patch: Vec<PathBuf>,
    /// How strongly to apply the patches; one edited model for each [default: what they recommend, and 1; none with --edit]
    #[arg(long, short, value_parser = arguments::alpha, value_delimiter = ',', allow_hyphen_values = true,
        value_name = "ALPHA,...", requires = "patch")]
    alpha: Vec<Alpha>,
    /// Edits without an alpha, one edited model for each: pr (prune), sw (switch masks)
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
    /// Exit with code 1 if this is true of any edited model, as in 'ppl.mlm>+1%' or '|weat8|>0.5'; may be repeated
    #[arg(long, value_name = "CONDITION", value_parser = threshold)]
    fail_if: Vec<Threshold>,
    /// Draw the scores against alpha into this .svg file, or with `-` in the terminal
    #[arg(long, value_name = "FILE|-")]
    plot: Option<PathBuf>,
    /// Write the results into the patch's metadata, where `show` finds them; the patch gets another id
    #[arg(long, requires = "patch")]
    record: bool,
    /// Replace an existing plot
    #[arg(long)]
    force: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// With --json: also what each item of the data contributes
    #[arg(long, requires = "json")]
    items: bool,
}

/// What runs the model.
#[derive(Args)]
pub struct Computing {
    /// What runs the model: the CPU, or an NVIDIA GPU
    #[arg(long, default_value = "cpu", help_heading = "Computing")]
    provider: ProviderName,
    /// Which GPU, counted from 0
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Computing")]
    device: u16,
}

// Comments on its values would be in the help.
/// What runs the model.
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

    /// How results are computed, for the report. The weight files are not hashed.
    pub fn setup(&self, engine: &Engine, terminal: &Terminal) -> Setup {
        let threads = terminal.threads().unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let runtime = Runtime { version: engine.about.version.clone(), provider: engine.provider.label(), threads };
        Setup { runtime, weights: BTreeMap::new() }
    }
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let (plot_in_terminal, plot_file) = match arguments.plot.as_deref() {
        Some(path) if path == Path::new("-") => (true, None),
        path => (false, path),
    };
    if plot_in_terminal && arguments.json {
        return Err(Failure::usage(
            "--json and --plot - would both print to standard output",
            "draw into a file, such as --plot sweep.svg",
        ));
    }
    if let Some(path) = plot_file {
        arguments::refuse_inputs([path], arguments.patch.iter().map(PathBuf::as_path))?;
        arguments::is_svg(path)?;
        check_new_file(path, existing)?;
    }
    if arguments.record && arguments.patch.len() > 1 {
        return Err(Failure::usage("--record writes into one patch", "give one --patch"));
    }
    let measures = arguments.measures.found(terminal)?;
    let context = terminal.context();
    let checkpoint = patch_argument::model(&arguments.model, terminal)?;
    let patches = arguments
        .patch
        .iter()
        .map(|name| patch_argument::open(name, terminal))
        .collect::<Result<Vec<Patch>, Failure>>()?;
    patches.iter().for_each(|patch| patch_argument::note_ignored(patch, terminal));
    let cases = cases(&arguments.alpha, &arguments.edit, &patches, &[Alpha::ONE])?;
    let model = match &arguments.onnx {
        Some(onnx) => Model::with_onnx(checkpoint.path(), &checkpoint, onnx, &context)?,
        None => Model::open(checkpoint.path(), &checkpoint)?,
    };
    model.notes().iter().for_each(|note| terminal.note(note));
    if let Some(exported) = model.exported_graph() {
        note_unbound(exported, terminal);
    }
    let tokenizer = Arc::new(Tokenizer::read(checkpoint.path(), model.config())?);
    let mut plan = MeasurePlan::default();
    measures.plan(&tokenizer, &model, checkpoint.path(), !patches.is_empty(), &mut plan)?;
    let measured = plan.measured();
    arguments.fail_if.iter().try_for_each(|threshold| threshold.check(&measured)).map_err(not_measured)?;
    tokenizer.check(&plan.work)?;
    let options = VerifyOptions {
        check: if arguments.quick { Check::Quick } else { Check::Full },
        prefix: PrefixMap::new(arguments.map_prefix.clone()),
        comparison: measures.comparison(),
    };
    // ONNX Runtime may be missing. It is looked for last, so that wrong arguments are reported first.
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
    if let Some(path) = plot_file {
        write_file(path, sweep(&report).as_bytes(), existing)?;
    }
    if arguments.json {
        print_json(terminal, &json(&report, &setup, if arguments.items { Detail::Items } else { Detail::Scores }))?;
    } else {
        lines(&report, &setup).into_iter().try_for_each(print)?;
        if plot_in_terminal {
            print("")?;
            sweep_lines(&report, terminal.characters()).into_iter().try_for_each(print)?;
        }
        if let Some(path) = plot_file {
            print(format_args!("wrote {}", path.display()))?;
        }
    }
    answer(arguments, &report, terminal)
}

/// Prints a note about the weights of an export that are in no tensor of the checkpoint, so that no edit reaches them.
fn note_unbound(exported: &ExportedGraph, terminal: &Terminal) {
    let names = &exported.bindings().unbound_initializers;
    if names.is_empty() {
        return;
    }
    let (initializers, names) = (counted(names.len(), "initializer"), named(names.iter()));
    terminal.note(&format!("{initializers} of the export in no tensor of the checkpoint: {names}"));
}

/// The edits that were asked for, in their order. By default these are interpolations at the alpha that the patches recommend and at the
/// alphas in `also`.
pub fn cases(
    alphas: &[Alpha],
    edits: &[EditWithoutAlpha],
    patches: &[Patch],
    also: &[Alpha],
) -> Result<Vec<EditKind>, Failure> {
    let edits = edits.iter().copied().map(EditKind::from);
    let mut kinds: Vec<EditKind> = alphas.iter().map(|alpha| EditKind::Interpolate(*alpha)).chain(edits).collect();
    if let (true, [first, others @ ..]) = (kinds.is_empty(), patches) {
        let (alpha, _) = first.default_alpha();
        if let Some(other) = others.iter().find(|other| other.default_alpha().0 != alpha) {
            let (path, other) = (other.name().display(), other.default_alpha().0);
            let message = format!("{path} recommends alpha {other}, and the first patch alpha {alpha}");
            return Err(Failure::usage(message, "give the alpha for all patches with --alpha"));
        }
        kinds.push(EditKind::Interpolate(alpha));
        kinds.extend(also.iter().filter(|other| **other != alpha).map(|other| EditKind::Interpolate(*other)));
    }
    // Alpha 0 is the unedited model, which is always there.
    kinds.retain(|kind| kind.alpha().is_none_or(|alpha| alpha.value() != 0.0));
    Ok(kinds)
}

/// Writes the results into the patch's metadata, replaces its file, and returns its new id.
fn record(patch: &Patch, report: &Report, setup: &Setup) -> Result<crate::digest::Digest, Failure> {
    let mut metadata = patch.metadata().clone();
    metadata.results.extend(summary(report, setup));
    let recorded = patch.with_metadata(&metadata)?;
    recorded.save(patch.name(), Existing::Replace)?;
    Ok(recorded.id())
}

fn not_measured(error: NotMeasured) -> Failure {
    Failure::usage(error.to_string(), "name one of these")
}

fn threshold(text: &str) -> Result<Threshold, String> {
    Threshold::parse(text).map_err(|error| error.to_string())
}

/// The answer: no if any condition of `--fail-if` is true.
fn answer(arguments: &Arguments, report: &Report, terminal: &Terminal) -> Outcome {
    let mut answer = Answer::Yes;
    let (unedited, edited) = match &report.rows[..] {
        [unedited, edited @ ..] => (unedited, edited),
        [] => return Ok(answer),
    };
    for threshold in &arguments.fail_if {
        // Without an edited model, a condition on a score is one on the model itself.
        let rows = if edited.is_empty() && !threshold.is_of_change() { std::slice::from_ref(unedited) } else { edited };
        for row in rows {
            let violation = threshold.violation(&row.outcomes, &unedited.outcomes);
            let violation = violation.map_err(not_measured)?;
            if let Some(violation) = violation {
                terminal.note(&format!("{}: {}", case(row.edit), violation.sentence));
                answer = Answer::No;
            }
        }
    }
    Ok(answer)
}
