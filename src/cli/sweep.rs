//! `lcepatch sweep`.

use super::arguments::{EditName, Localization};
use super::exit::Failure;
use super::pair::{self, PairArguments};
use super::terminal::Terminal;
use super::verify::{Computing, measures::Measures};
use super::{Answer, Outcome, arguments};
use crate::apply::Check;
use crate::diff::{Diffed, Localize, Size};
use crate::edit::{Alpha, EditKind};
use crate::error::{Error, ErrorKind, Reason};
use crate::localize::value::Amount;
use crate::mask::Scope;
use crate::model::Model;
use crate::model::tokenizer::Tokenizer;
use crate::patch::Patch;
use crate::report::results::{ResultsFile, SweepHead, file_digests};
use crate::report::verify::{Setup, brief};
use crate::source::Parts;
use crate::sweep::{self, Grid, Recorder, Strategy, sweep};
use crate::verify::{Baseline, Evaluation, MeasurePlan, Measurement, VerifyOptions};
use crate::words::counted;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;

/// The alphas, if none are given.
const ALPHAS: [f64; 5] = [-2.0, -1.0, 0.5, 1.0, 2.0];

#[derive(Args)]
#[command(after_help = "\
Each strategy is used with each --k, and the random one also with each seed. The weights that it selects are edited in every way that \
--edit and --alpha name, and each edited model is measured like the unedited one, with the same questions. No patch and no model is \
written: `diff` makes any of the patches again, with the same id.

  value    the largest differences; between pruned models, only of weights that both keep
  mask     the weights that exactly one pruning mask keeps; takes no --k
  random   weights drawn from those that either mask keeps; for `pr`, that the target's mask keeps

Each row is in the results file as soon as it is measured. After an interruption, run the same command again; it may also name more \
strategies, sizes, seeds or alphas. What is in the file already is not measured again. Another model, other data or other measures need \
another file.

Needs ONNX Runtime: `lcepatch runtime install`.

Examples:
  lcepatch sweep target/ reference/ -o sweep.jsonl --k 1% --alpha -2,-1,0.5,1,2 --weat 8 --perplexity heldout.txt
  lcepatch sweep t20/ r20/ -o sweep.jsonl --mask-from zeros --strategies value,mask,random --k from-mask,10% --seeds 0,1,2 \\
      --edit ip,ep,pr --crows-pairs crows_pairs_anonymized.csv --stereoset test.json
  lcepatch report sweep.jsonl -o report.html")]
pub struct Arguments {
    /// The checkpoint that will be edited: a model directory
    target: PathBuf,
    /// The checkpoint that behaves differently
    reference: PathBuf,
    #[command(flatten)]
    pair: PairArguments,
    /// The results: a file of JSON lines, which is created or continued
    #[arg(long, short, value_name = "RESULTS")]
    output: PathBuf,
    /// How weights are selected
    #[arg(
        long,
        default_value = "value,random",
        value_delimiter = ',',
        value_name = "STRATEGY,...",
        hide_possible_values = true
    )]
    strategies: Vec<Localization>,
    /// How many weights: shares of the candidates such as 10%, counts, or as many as the masks select
    #[arg(long, short, default_value = "1%", value_delimiter = ',', value_parser = arguments::amount,
        value_name = "SHARE|COUNT|from-mask,...")]
    k: Vec<Size>,
    /// The seeds of the random strategy
    #[arg(long, default_value = "0", value_delimiter = ',', value_name = "SEED,...")]
    seeds: Vec<u64>,
    /// Edits: ip (interpolate) takes the alphas from 0 to 1, ep (extrapolate) the others; pr (prune) and sw (switch masks) take none
    #[arg(
        long,
        default_value = "ip,ep",
        value_delimiter = ',',
        value_name = "ip,ep,pr,sw",
        hide_possible_values = true
    )]
    edit: Vec<EditName>,
    /// How strongly to edit
    /// [default: those of -2, -1, 0.5, 1 and 2 that --edit takes]
    #[arg(long, short, value_parser = arguments::alpha, value_delimiter = ',', allow_hyphen_values = true,
        value_name = "ALPHA,...", verbatim_doc_comment)]
    alpha: Vec<Alpha>,
    /// What to call the pair; `report` draws files of the same label together, such as those of several training runs
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    measures: Measures,
    #[command(flatten)]
    computing: Computing,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let grid = grid(arguments)?;
    let measures = arguments.measures.found(terminal)?;
    let opened = arguments.pair.open(&arguments.target, &arguments.reference, Parts::All, terminal)?;
    if !opened.target.path().is_dir() {
        let message = format!("{} is a file", arguments.target.display());
        return Err(Failure::usage(
            message,
            "the target is measured: give its directory, with config.json, tokenizer and weights",
        ));
    }
    let masks = opened.masks(&arguments.pair)?;
    if masks.is_none() && grid.strategies.contains(&Strategy::Mask) {
        let help = "say where they are with --target-mask and --reference-mask, --mask-from zeros, or --sparsity";
        return Err(Failure::usage("the mask strategy needs pruning masks", help));
    }
    if masks.is_none() && grid.sizes.contains(&Size::FromMask) {
        let help = "say where they are with --target-mask and --reference-mask, --mask-from zeros, or --sparsity";
        return Err(Failure::usage("--k from-mask needs pruning masks", help));
    }
    let cells = grid.cells(masks.is_some());
    let total = cells.iter().map(|(_, edits)| edits.len()).sum();
    if total == 0 {
        return Err(Failure::usage("there is no edit to measure", "see --strategies, --edit and --alpha"));
    }
    // Whether the file can be continued is known before anything is measured.
    let mut file = ResultsFile::open(&arguments.output)?;
    let options = arguments.pair.options(&opened, masks, Localize::Mask);
    let context = terminal.context();
    let model = Model::open(opened.target.path(), &opened.target)?;
    model.notes().iter().for_each(|note| terminal.note(note));
    let tokenizer = Arc::new(Tokenizer::read(opened.target.path(), model.config())?);
    let mut plan = MeasurePlan::default();
    measures.plan(&tokenizer, &model, opened.target.path(), true, &mut plan)?;
    tokenizer.check(&plan.work)?;
    // ONNX Runtime may be missing. It is looked for last, so that wrong arguments are reported first.
    let engine = arguments.computing.engine(terminal)?;
    let verify_options = VerifyOptions { check: Check::Quick, prefix: None, comparison: measures.comparison() };
    context.begin("hashing the files", opened.target.bytes() + opened.reference.bytes());
    let weights = file_digests(&opened.target, &context)?;
    let reference_weights = file_digests(&opened.reference, &context)?;
    let setup = Setup { weights, ..arguments.computing.setup(&engine, terminal) };
    let (model, checkpoint, plan) = (&model, &opened.target, &plan);
    let evaluation = Evaluation { model, checkpoint, plan, options: &verify_options, engine: &engine };
    sweep::check(&grid, &opened.target, &opened.reference, &options, evaluation, &context)?;
    let baseline = Baseline::measure(evaluation, &context)?;
    let reference = (opened.reference.path(), &reference_weights);
    let head = SweepHead::new(&baseline, reference, &setup, &verify_options.comparison, arguments.label.as_deref());
    file.begin(&head, &baseline.unedited)?;
    terminal.progress(&brief(&baseline.unedited));
    let mut recorder = Recording { file, terminal, measured: 0, found: 0, total };
    let swept = sweep(&grid, &opened.target, &opened.reference, &options, &baseline, &mut recorder, &context);
    swept.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => Reason::Paused { path: arguments.output.clone() }.into(),
        _ => error,
    })?;
    terminal.done();
    let Recording { measured, found, .. } = recorder;
    terminal.progress(&format!(
        "{}: {} measured, {found} found in the file",
        arguments.output.display(),
        counted(measured, "row")
    ));
    Ok(Answer::Yes)
}

fn grid(arguments: &Arguments) -> Result<Grid, Failure> {
    let scope = arguments.pair.scope();
    if scope == Scope::Tensor && arguments.k.iter().any(|size| !matches!(size, Size::Amount(Amount::Density(_)))) {
        return Err(Failure::usage("--scope tensor ranks each tensor for itself", "give --k as shares, such as 1%"));
    }
    let strategy = |name: &Localization| match name {
        Localization::Value => Strategy::Value,
        Localization::Mask => Strategy::Mask,
        Localization::Random => Strategy::Random,
    };
    let alphas = match &arguments.alpha[..] {
        [] => ALPHAS.iter().filter_map(|alpha| Alpha::new(*alpha)).collect(),
        // Nothing that was asked for is left out.
        given => {
            match given.iter().find(|alpha| alpha.value() != 0.0 && !arguments.edit.contains(&EditName::at(**alpha))) {
                Some(alpha) => {
                    let edit = EditName::at(*alpha);
                    let message = format!("--alpha {alpha} is of the edit {edit}, which --edit does not name");
                    return Err(Failure::usage(message, format!("add {edit} to --edit, or leave the alpha out")));
                }
                None => given.to_vec(),
            }
        }
    };
    let mut edits = Vec::new();
    for edit in &arguments.edit {
        match edit {
            EditName::Pr => edits.push(EditKind::Prune),
            EditName::Sw => edits.push(EditKind::Switch),
            EditName::Ip | EditName::Ep => {
                // Alpha 0 is the unedited model, which is always measured.
                let alphas = alphas.iter().copied().filter(|alpha| alpha.value() != 0.0);
                let of_edit = alphas.filter(|alpha| EditName::at(*alpha) == *edit);
                edits.extend(of_edit.map(EditKind::Interpolate));
            }
        }
    }
    let mut grid = Grid {
        strategies: arguments.strategies.iter().map(strategy).collect(),
        sizes: arguments.k.clone(),
        seeds: arguments.seeds.clone(),
        edits,
        scope,
    };
    without_repetition(&mut grid.strategies);
    without_repetition(&mut grid.sizes);
    without_repetition(&mut grid.seeds);
    without_repetition(&mut grid.edits);
    Ok(grid)
}

fn without_repetition<T: PartialEq + Copy>(list: &mut Vec<T>) {
    let mut kept = Vec::new();
    for item in list.drain(..) {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    *list = kept;
}

/// Records rows in the results file, and prints a line for each.
struct Recording<'a> {
    file: ResultsFile,
    terminal: &'a Terminal,
    /// Rows that this run measured.
    measured: usize,
    /// Rows that earlier runs measured.
    found: usize,
    /// All rows of the grid.
    total: usize,
}

impl Recorder for Recording<'_> {
    fn patch(
        &mut self,
        localization: &sweep::Localization,
        diffed: &Diffed,
        edits: Vec<EditKind>,
    ) -> Result<Vec<EditKind>, Error> {
        let asked = edits.len();
        let left = self.file.patch(localization, diffed, edits)?;
        // The notes are the same for every patch of the pair.
        if self.measured + self.found == 0 {
            pair::print_notes(diffed, self.terminal);
        }
        self.found += asked - left.len();
        Ok(left)
    }

    fn row(&mut self, localization: &sweep::Localization, patch: &Patch, row: &Measurement) -> Result<(), Error> {
        self.file.row(localization, patch, row)?;
        self.measured += 1;
        let (done, total) = (self.measured + self.found, self.total);
        self.terminal.progress(&format!("[{done}/{total}] {localization}: {}", brief(row)));
        Ok(())
    }
}
