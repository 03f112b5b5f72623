//! `--shard`: which share of the work a process does.

use super::arguments;
use super::exit::Failure;
use crate::diff::Shard;
use crate::diff::plan::Plan;
use crate::words::counted;

/// Which shard is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardArgument {
    /// `I/N`.
    Of(Shard),
    /// `I`, of as many as are planned.
    Number(u32),
    /// The one of this task of an array job.
    Auto,
    /// The same, of an array job of so many tasks.
    AutoOf(u32),
}

/// `2/4`, `2`, `auto` or `auto/4`.
pub fn parse(text: &str) -> Result<ShardArgument, String> {
    match text {
        "auto" => Ok(ShardArgument::Auto),
        _ if text.starts_with("auto/") => arguments::shards(&text["auto/".len()..]).map(ShardArgument::AutoOf),
        _ if text.contains('/') => arguments::shard(text).map(ShardArgument::Of),
        _ => {
            let number = text.parse().ok().filter(|number| (1..=Shard::MAX).contains(number));
            number
                .map(ShardArgument::Number)
                .ok_or_else(|| "write I/N, I, auto or auto/N; shards are counted from 1".to_owned())
        }
    }
}

impl ShardArgument {
    /// The shard, where nothing is planned.
    pub fn without_plan(self) -> Result<Shard, Failure> {
        match self {
            Self::Of(shard) => Ok(shard),
            Self::AutoOf(of) => {
                let number = of_task(of, |name| std::env::var(name).ok())?;
                Shard::new(number, of).ok_or_else(|| {
                    let message = format!("the array job says shard {number}, and there are {of}");
                    Failure::usage(message, "submit an array of 1 to the number of shards")
                })
            }
            Self::Number(_) | Self::Auto => Err(Failure::usage(
                "how many shards there are is not known",
                "write --shard I/N or auto/N; or, for a diff, give the run's --plan (`lcepatch plan`)",
            )),
        }
    }

    /// The shard of a run that was planned.
    pub fn of_plan(self, plan: &Plan) -> Result<Shard, Failure> {
        match self {
            Self::Of(shard) => Ok(plan.shard(shard.number(), Some(shard.of()))?),
            Self::Number(number) => Ok(plan.shard(number, None)?),
            Self::Auto | Self::AutoOf(_) => {
                let number = of_task(plan.shards(), |name| std::env::var(name).ok())?;
                let of = if let Self::AutoOf(of) = self { Some(of) } else { None };
                Ok(plan.shard(number, of)?)
            }
        }
    }
}

/// The number, from 1 on, of the task of an array job of `shards` tasks, by the variables that schedulers set.
fn of_task(shards: u32, variable: impl Fn(&str) -> Option<String>) -> Result<u32, Failure> {
    let read = |name: &str| -> Result<Option<u32>, Failure> {
        match variable(name).filter(|value| !value.is_empty() && value != "undefined") {
            None => Ok(None),
            Some(value) => value.parse().map(Some).map_err(|_| {
                Failure::usage(
                    format!("{name} is {value:?}, and a number is expected"),
                    "say which shard with --shard I",
                )
            }),
        }
    };
    // Counted from 0 by these, and by the others as the job was submitted.
    let mut found: Vec<(&str, u32)> = Vec::new();
    for name in ["JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX"] {
        found.extend(read(name)?.map(|index| (name, index.saturating_add(1))));
    }
    if let Some(number) = read("PBS_ARRAY_INDEX")? {
        found.push(("PBS_ARRAY_INDEX", number));
    }
    let arrays = [
        ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP"],
        ["SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"],
    ];
    for [name, first, last, step] in arrays {
        let Some(id) = read(name)? else { continue };
        let (first, last, step) = (read(first)?.unwrap_or(1), read(last)?, read(step)?.unwrap_or(1).max(1));
        let count = match (read("SLURM_ARRAY_TASK_COUNT")?.filter(|_| name.starts_with("SLURM")), last) {
            (Some(count), _) => count,
            (None, Some(last)) => (last.saturating_sub(first) / step).saturating_add(1),
            (None, None) => shards,
        };
        // Of an array that runs some tasks again, the position says nothing.
        if count != shards || id < first {
            let tasks = counted(count, "task");
            let message = format!("the array job has {tasks}, and there are {}", counted(shards, "shard"));
            return Err(Failure::usage(
                message,
                "submit an array of 1 to the number of shards, or say which one with --shard I",
            ));
        }
        found.push((name, ((id - first) / step).saturating_add(1)));
    }
    match found[..] {
        [(_, number)] => Ok(number),
        [] => Err(Failure::usage(
            "--shard auto is for array jobs, and none of their variables is set",
            "they are SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX, PBS_ARRAY_INDEX and SGE_TASK_ID; say which shard with --shard I",
        )),
        [(_, number), ref others @ ..] if others.iter().all(|(_, other)| *other == number) => Ok(number),
        [(one, number), ..] => {
            let (other, another) = found.iter().find(|(_, other)| *other != number).copied().unwrap_or((one, number));
            let message = format!("{one} says shard {number}, and {other} says {another}");
            Err(Failure::usage(message, "say which shard with --shard I"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(shards: u32, variables: &[(&str, &str)]) -> Result<u32, String> {
        let get = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        of_task(shards, get).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn the_variables_of_array_jobs_say_the_shard() {
        let slurm = |id: &'static str, min: &'static str, count: &'static str| {
            [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_COUNT", count)]
        };
        assert_eq!(task(4, &slurm("3", "1", "4")), Ok(3));
        assert_eq!(task(4, &slurm("3", "0", "4")), Ok(4));
        let stepped = [&slurm("7", "1", "4")[..], &[("SLURM_ARRAY_TASK_STEP", "2")]].concat();
        assert_eq!(task(4, &stepped), Ok(4));
        assert_eq!(task(4, &[("JOB_COMPLETION_INDEX", "0")]), Ok(1));
        assert_eq!(task(4, &[("AWS_BATCH_JOB_ARRAY_INDEX", "3")]), Ok(4));
        assert_eq!(task(4, &[("PBS_ARRAY_INDEX", "4")]), Ok(4));
        let sge = [("SGE_TASK_ID", "5"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "8"), ("SGE_TASK_STEPSIZE", "2")];
        assert_eq!(task(4, &sge), Ok(3));
        assert_eq!(task(4, &[("SGE_TASK_ID", "undefined"), ("PBS_ARRAY_INDEX", "2")]), Ok(2));
        assert_eq!(task(4, &[("JOB_COMPLETION_INDEX", "1"), ("PBS_ARRAY_INDEX", "2")]), Ok(2));
    }

    #[test]
    fn a_task_that_may_be_of_another_array_is_refused() {
        // A task that is run again alone: the third, which would be taken for the first.
        let again = [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "3"), ("SLURM_ARRAY_TASK_COUNT", "1")];
        assert!(task(4, &again).unwrap_err().contains("1 task, and there are 4 shards"));
        let sge = [("SGE_TASK_ID", "5"), ("SGE_TASK_FIRST", "5"), ("SGE_TASK_LAST", "5")];
        assert!(task(4, &sge).unwrap_err().contains("1 task"));
        assert!(task(4, &[]).unwrap_err().contains("none of their variables"));
        assert!(task(4, &[("PBS_ARRAY_INDEX", "x")]).unwrap_err().contains("\\\"x\\\""));
        let two = [("JOB_COMPLETION_INDEX", "1"), ("PBS_ARRAY_INDEX", "3")];
        assert!(task(4, &two).unwrap_err().contains("says shard 2, and PBS_ARRAY_INDEX says 3"));
    }

    #[test]
    fn a_shard_is_one_of_several_a_number_or_that_of_the_task() {
        assert_eq!(parse("auto"), Ok(ShardArgument::Auto));
        assert_eq!(parse("auto/9"), Ok(ShardArgument::AutoOf(9)));
        assert_eq!(parse("3"), Ok(ShardArgument::Number(3)));
        assert_eq!(parse("3/4"), Ok(ShardArgument::Of(Shard::new(3, 4).unwrap())));
        assert!(["0", "4/3", "auto/0", "auto/x", "x", "", "-1", "65537"].iter().all(|text| parse(text).is_err()));
    }
}
