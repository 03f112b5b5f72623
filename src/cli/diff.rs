//! `lcepatch diff`.

use super::exit::{Failure, print, print_json};
use super::selection::Selection;
use super::shard_argument::{self, ShardArgument};
use super::terminal::Terminal;
use super::{Answer, Outcome, mask as masks, pair, show};
use crate::algebra::Spectrum;
use crate::checkpoint::Checkpoint;
use crate::diff::part::Part;
use crate::diff::plan::{Plan, Run, part_path};
use crate::diff::{DiffOptions, Localize, Shard, diff, shard};
use crate::durable::{Existing, check_new_file};
use crate::error::PartContent;
use crate::report::table::bytes;
use crate::report::{Kind, Stat};
use crate::source::Parts;
use crate::words::count;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(
    override_usage = "lcepatch diff [OPTIONS] <TARGET> <REFERENCE>",
    after_help = "\
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
all weight files, and of their data its own share alone, also of checkpoints on a hub or in S3:
  lcepatch diff A B --all --shard 1/4 -o 1.part                         and so for 2/4, 3/4, 4/4; then
  lcepatch combine 1.part 2.part 3.part 4.part -o p.lcepatch
With --density or --k each shard first writes its ranks, and finds its blocks once all have:
  lcepatch diff A B --density 0.5% --shard 1/4 -o 1.ranks               and the others; then
  lcepatch diff A B --density 0.5% --shard 1/4 -o 1.part --ranks 1.ranks 2.ranks 3.ranks 4.ranks
In array jobs, with a plan that all tasks have (`lcepatch plan`); a shard that is done already is left as it is:
  lcepatch plan A B --all --shards 64 -o run.lceplan
  lcepatch diff --plan run.lceplan --shard auto -o parts/               once for each shard; then
  lcepatch combine parts/*.part -o p.lcepatch"
)]
pub struct Arguments {
    /// The checkpoint that will be edited: a file, an index of shards or a model directory
    #[arg(required_unless_present = "plan")]
    target: Option<PathBuf>,
    /// The checkpoint that behaves differently
    #[arg(required_unless_present = "plan")]
    reference: Option<PathBuf>,
    /// Write the patch here; with --shard, the part, in a folder under the name of its shard
    #[arg(long, short, value_name = "PATCH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Do this share of the work, and write a part for `lcepatch combine` instead of a patch. `auto/N` takes the number of this task of
    /// an array job; with --plan, I and `auto` say enough
    #[arg(long, value_name = "I/N|auto/N", value_parser = shard_argument::parse, requires = "output", conflicts_with = "json",
        help_heading = "Several processes")]
    shard: Option<ShardArgument>,
    /// Do it for the run that `lcepatch plan` planned, with its checkpoints and options
    #[arg(long, value_name = "PLAN", requires = "shard",
        conflicts_with_all = ["target", "reference", "Selection", "PairArguments", "amount"], help_heading = "Several processes")]
    plan: Option<PathBuf>,
    /// The ranks of all shards, which they write first where weights are ranked
    #[arg(long, value_name = "PART", num_args = 1.., requires = "shard", conflicts_with = "all",
        help_heading = "Several processes")]
    ranks: Vec<PathBuf>,
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

    /// Opens the checkpoints.
    fn open(&self, parts: Parts, terminal: &Terminal) -> Result<pair::Opened, Failure> {
        self.selection.check()?;
        let given = |name: &Option<PathBuf>| name.clone().unwrap_or_default();
        self.selection.pair.open(&given(&self.target), &given(&self.reference), parts, terminal)
    }
}

pub fn run(arguments: Arguments, terminal: &Terminal) -> Outcome {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::freed_memory::keep();
    if let (Some(shard), Some(output)) = (&arguments.shard, &arguments.output) {
        return run_shard(&arguments, *shard, output, terminal);
    }
    if let Some(output) = &arguments.output {
        check_new_file(output, arguments.existing())?;
    }
    let opened = arguments.open(Parts::All, terminal)?;
    let options = arguments.selection.options(&opened)?;
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
fn run_shard(arguments: &Arguments, shard: ShardArgument, output: &Path, terminal: &Terminal) -> Outcome {
    let existing = arguments.existing();
    let Some(path) = &arguments.plan else {
        let shard = shard.without_plan()?;
        let output = part_path(output, shard, arguments.selection.is_ranked() && arguments.ranks.is_empty());
        check_new_file(&output, existing)?;
        let opened = arguments.open(Parts::Some, terminal)?;
        let options = arguments.selection.options(&opened)?;
        let part = find_part(arguments, [&opened.target, &opened.reference], &options, shard, None, terminal)?;
        let size = part.save(&output, existing)?;
        return said(&format!("wrote {}: {} of {shard}, {}", output.display(), part.content(), bytes(size)));
    };
    let plan = Plan::open(path)?;
    let shard = shard.of_plan(&plan)?;
    let is_ranks = plan.is_ranked() && arguments.ranks.is_empty();
    let output = part_path(output, shard, is_ranks);
    let content = if is_ranks { PartContent::Ranks } else { PartContent::Blocks };
    let is_done = || existing == Existing::Keep && Part::is_at(&output, plan.run().digest, shard, content);
    let done = || said(&format!("{}: done already, {content} of {shard}", output.display()));
    if is_done() {
        return done();
    }
    check_new_file(&output, existing)?;
    let options = plan.options(path)?;
    let [target, reference] = plan.open_checkpoints(terminal.sources())?;
    for side in plan.sides() {
        terminal.note(&format!("{shard} reads its share of {}", side.shown()));
    }
    let part = find_part(arguments, [&target, &reference], &options, shard, Some(plan.run()), terminal)?;
    match part.save(&output, existing) {
        Ok(size) => said(&format!("wrote {}: {content} of {shard}, {}", output.display(), bytes(size))),
        // Another process did the same meanwhile.
        Err(_) if is_done() => done(),
        Err(error) => Err(error.into()),
    }
}

fn said(text: &str) -> Outcome {
    print(text)?;
    Ok(Answer::Yes)
}

/// Ranks or finds what is in a shard.
fn find_part(
    arguments: &Arguments,
    [target, reference]: [&Checkpoint; 2],
    options: &DiffOptions<'_>,
    shard: Shard,
    run: Option<Run>,
    terminal: &Terminal,
) -> Result<Part, Failure> {
    let context = terminal.context();
    let part = match options.localize {
        Localize::Value { .. } if arguments.ranks.is_empty() => {
            shard::rank(target, reference, options, shard, run, &context)?
        }
        _ => shard::find(target, reference, options, shard, run, &arguments.ranks, &context)?,
    };
    terminal.done();
    Ok(part)
}
