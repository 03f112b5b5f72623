//! `lcepatch plan`.

use super::exit::{Failure, json_path, print, print_json, print_text};
use super::selection::Selection;
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments};
use crate::diff::plan::Plan;
use crate::durable::{Existing, check_new_file};
use crate::report::table::bytes;
use crate::shard::Shard;
use crate::source::Pinned;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
The plan holds the names of all weight files with what each of them is (a commit, a tag, or the time of its last change), their headers, and the \
options of the diff. A process that has it reads nothing but its share, and refuses files that are others by then (exit code 6). It \
can be run again: a part that is done is left as it is. docs/several-machines.md says which exit codes are worth another try.

With --density or --k there are two rounds: all shards write their ranks, and then their parts.

Examples:
  lcepatch plan v1/ v2/ --all --shards 64 -o run.lceplan
  lcepatch diff --plan run.lceplan --shard 7 -o parts/
  lcepatch combine parts/*.part -o update.lcepatch
  lcepatch plan s3://models/v1/ s3://models/v2/ --all --shards 64 -o run.lceplan --print slurm > job.sh")]
pub struct Arguments {
    /// The checkpoint that will be edited: a file, an index of shards or a model directory, also on a hub or in S3
    target: PathBuf,
    /// The checkpoint that behaves differently
    reference: PathBuf,
    /// How many shards there are
    #[arg(long, value_name = "N", value_parser = arguments::shards)]
    shards: u32,
    /// Write the plan here
    #[arg(long, short, value_name = "PLAN")]
    output: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Print a job that runs the plan and joins its parts: an array of Slurm, an indexed job of Kubernetes, or a makefile
    #[arg(long, value_name = "WHAT", conflicts_with = "json")]
    print: Option<Job>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print what is planned as JSON
    #[arg(long)]
    json: bool,
}

// Comments on its values would be in the help.
/// What runs a plan.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Job {
    Slurm,
    K8s,
    Make,
}

#[derive(Serialize)]
struct Planned {
    /// The file.
    plan: String,
    /// What stands in every part of the run.
    run: String,
    shards: u32,
    /// Whether all shards write ranks first.
    ranked: bool,
    target: Side,
    reference: Side,
}

#[derive(Serialize)]
struct Side {
    name: String,
    files: usize,
    bytes: u64,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    arguments.selection.check()?;
    let (opened, [of_target, of_reference]) =
        arguments.selection.pair.open_pinned(&arguments.target, &arguments.reference, terminal)?;
    let options = arguments.selection.options(&opened)?;
    let (target, reference) = ((&opened.target, of_target), (&opened.reference, of_reference));
    let plan = Plan::new(target, reference, &options, arguments.shards)?;
    opened.target.unchanged()?;
    opened.reference.unchanged()?;
    terminal.done();
    if !plan.is_at(&arguments.output)? {
        check_new_file(&arguments.output, existing)?;
        plan.save(&arguments.output, existing)?;
    }
    if arguments.json {
        let side = |side: &Pinned| Side { name: side.shown(), files: side.files.len(), bytes: side.bytes() };
        let [target, reference] = plan.sides().map(side);
        let (shards, ranked, run) = (plan.shards(), plan.is_ranked(), plan.run().digest.to_string());
        let plan = json_path(&arguments.output);
        print_json(terminal, &Planned { plan, run, shards, ranked, target, reference })?;
        return Ok(Answer::Yes);
    }
    if let Some(job) = arguments.print {
        print_text(job.text(&arguments.output, &plan)?.as_bytes())?;
        return Ok(Answer::Yes);
    }
    let all: u64 = plan.sides().iter().map(|side| side.bytes()).sum();
    let (path, shards) = (arguments.output.display(), plan.shards());
    print(format!("wrote {path}: {shards} shards, each of about {}", bytes(all / u64::from(shards))))?;
    print(format!("next: lcepatch diff --plan {path} --shard I -o parts/, for each I from 1 to {shards}"))?;
    Ok(Answer::Yes)
}

impl Job {
    /// A job that runs all shards of the plan at `path`, and joins their parts.
    fn text(self, path: &Path, plan: &Plan) -> Result<String, Failure> {
        let shards = plan.shards();
        let path = path.to_str().filter(|path| path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c)));
        let path = path.ok_or_else(|| {
            Failure::usage("the name of the plan has characters that shells, make or YAML read", "give it a plain name")
        })?;
        let patch = format!("{}.lcepatch", path.strip_suffix(".lceplan").unwrap_or(path));
        let parts = format!("{path}.parts");
        let diff = format!("lcepatch diff --plan {path} --progress none -o {parts}/");
        let ranked = plan.is_ranked();
        let with_ranks = if ranked { format!(" --ranks {parts}/*.ranks") } else { String::new() };
        Ok(match self {
            Self::Slurm => {
                let array = format!("sbatch --parsable --requeue --array=1-{shards}");
                let (first, after) = match ranked {
                    true => {
                        let ranks = format!("ranks=$({array} --job-name=ranks --wrap '{diff} --shard auto')\n");
                        (ranks, " --dependency=afterok:$ranks")
                    }
                    false => (String::new(), ""),
                };
                format!(
                    "#!/bin/sh\n\
                     # Runs {path} and writes {patch}. Run it again after a failure: what is done is left as it is.\n\
                     set -eu\n\
                     mkdir -p {parts}\n\
                     {first}\
                     parts=$({array} --job-name=parts{after} --wrap '{diff} --shard auto{with_ranks}')\n\
                     sbatch --job-name=combine --dependency=afterok:$parts --wrap 'lcepatch combine {parts}/*.part -o {patch}'\n"
                )
            }
            Self::Make => {
                let file = |shard: Shard, end: &str| format!("{parts}/{}", shard.file_name(end));
                let files = |end| Shard::all(shards).map(|shard| file(shard, end)).collect::<Vec<_>>().join(" ");
                let mut text = format!(
                    "# Runs {path} and writes {patch}: make -j N -f THIS. A target that is there is not made again.\n\
                     {patch}: {all}\n\tlcepatch combine $^ -o $@\n",
                    all = files("part")
                );
                let (needs, with) = if ranked { (" $(ranks)", " --ranks $^") } else { ("", "") };
                if ranked {
                    text += &format!("ranks := {}\n", files("ranks"));
                }
                for shard in Shard::all(shards) {
                    let line = format!("lcepatch diff --plan {path} --progress none --shard {}", shard.number());
                    text += &format!("{}:{needs} | {parts}\n\t{line} -o $@{with}\n", file(shard, "part"));
                    if ranked {
                        text += &format!("{}: | {parts}\n\t{line} -o $@\n", file(shard, "ranks"));
                    }
                }
                text + &format!("{parts}:\n\tmkdir -p $@\n")
            }
            Self::K8s => {
                let job = |name: &str, more: &str| {
                    format!(
                        "apiVersion: batch/v1\n\
                         kind: Job\n\
                         metadata:\n  name: lcepatch-{name}\n\
                         spec:\n\
                         \x20 completionMode: Indexed\n\
                         \x20 completions: {shards}\n\
                         \x20 parallelism: {parallel}\n\
                         \x20 backoffLimitPerIndex: 3\n\
                         \x20 podFailurePolicy:\n\
                         \x20   rules:\n\
                         \x20     # not worth another try: docs/several-machines.md\n\
                         \x20     - action: FailIndex\n\
                         \x20       onExitCodes: {{containerName: lcepatch, operator: In, values: [2, 4, 5, 6, 7, 8]}}\n\
                         \x20 template:\n\
                         \x20   spec:\n\
                         \x20     restartPolicy: Never\n\
                         \x20     containers:\n\
                         \x20       - name: lcepatch\n\
                         \x20         image: lcepatch # an image with the command\n\
                         \x20         workingDir: /run/lcepatch # where the plan is, and {parts}/ for the parts\n\
                         \x20         command: [sh, -c, \"{diff} --shard auto{more}\"]\n\
                         \x20         volumeMounts: [{{name: run, mountPath: /run/lcepatch}}]\n\
                         \x20     volumes:\n\
                         \x20       - name: run\n\
                         \x20         persistentVolumeClaim: {{claimName: lcepatch}}\n",
                        parallel = shards.min(16)
                    )
                };
                let end = format!("# then: lcepatch combine {parts}/*.part -o {patch}\n");
                match ranked {
                    true => format!(
                        "# When all are complete, the second job: kubectl wait --for=condition=complete job/lcepatch-ranks\n{}---\n{}{end}",
                        job("ranks", ""),
                        job("parts", &with_ranks)
                    ),
                    false => format!("{}{end}", job("parts", "")),
                }
            }
        })
    }
}
