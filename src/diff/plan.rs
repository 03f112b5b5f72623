//! The plan of a diff on several machines: what each of them must know, and agree on, before it reads its share.
//!
//! It is `sealed`, and holds names and identities of all files with their headers, the options, and the digest of the run, which
//! stands in every part. A plan is not trusted: what it says is checked as what a command line says, its headers as those of files, and
//! none of it costs more than about its own size.

mod options;

use super::DiffOptions;
use super::shard::{Job, Shard, check};
use crate::checkpoint::Checkpoint;
use crate::digest::Digest;
use crate::durable::{self, Existing};
use crate::error::{Error, PlanFault};
use crate::input::{self, Meant, PLAN_MAGIC as MAGIC};
use crate::shard::sealed;
use crate::source::{Pinned, Sources};
use options::Options;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most bytes that the files of a checkpoint may have together, 32 TiB: of a plan that promises more, the list of blocks alone would
/// take gigabytes.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 45;

/// The plan of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    shards: u32,
    options: Options,
    target: Pinned,
    reference: Pinned,
    run: Run,
}

/// A run that was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The digest of all that decides the bytes of the patch but the tensors' values.
    pub layout: Digest,
    /// The digest of all that, and of what the files are. It stands in every part.
    pub digest: Digest,
}

/// How the file holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    shards: u32,
    options: Options,
    target: (Pinned, Vec<u32>),
    reference: (Pinned, Vec<u32>),
    /// Headers, each once: those of target and reference are mostly the same. The files have their places in this list.
    headers: Vec<Vec<u8>>,
    layout: Digest,
}

/// The run with files that are these, and where they are.
fn run_of(layout: Digest, target: &Pinned, reference: &Pinned) -> Result<Run, PlanFault> {
    let files = (&target.place, &target.files, &reference.place, &reference.files);
    let bytes = postcard::to_allocvec(&(layout, files)).map_err(|e| unwritable(e.to_string()))?;
    Ok(Run { layout, digest: Digest::sha256(&bytes) })
}

fn unwritable(reason: String) -> PlanFault {
    PlanFault::Malformed { path: "the new plan".into(), reason }
}

impl Plan {
    /// Plans a diff of two checkpoints, which are open, in `shards` shards.
    ///
    /// # Errors
    /// As [`super::diff`], before anything of the tensors is read; [`crate::error::PartFault::Unsupported`].
    pub fn new(
        (target, of_target): (&Checkpoint, Pinned),
        (reference, of_reference): (&Checkpoint, Pinned),
        options: &DiffOptions<'_>,
        shards: u32,
    ) -> Result<Self, Error> {
        check(options)?;
        let first = Shard::new(1, shards).ok_or_else(|| unwritable(format!("{shards} shards")))?;
        let layout = Job::new(target, reference, options, first)?.run;
        let options = Options::of(options).map_err(unwritable)?;
        let run = run_of(layout, &of_target, &of_reference)?;
        Ok(Self { shards, options, target: of_target, reference: of_reference, run })
    }

    /// The number of shards.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The run.
    pub fn run(&self) -> Run {
        self.run
    }

    /// The target and the reference.
    pub fn sides(&self) -> [&Pinned; 2] {
        [&self.target, &self.reference]
    }

    /// Whether weights are ranked, so that every shard writes ranks first.
    pub fn is_ranked(&self) -> bool {
        self.options.largest.is_some()
    }

    /// The options of the diff.
    ///
    /// # Errors
    /// [`PlanFault::Malformed`], of a plan that was read: `path` names it.
    pub fn options(&self, path: &Path) -> Result<DiffOptions<'static>, PlanFault> {
        self.options.read().map_err(|reason| PlanFault::Malformed { path: path.to_owned(), reason })
    }

    /// The shard of this number.
    ///
    /// # Errors
    /// [`PlanFault::OtherShards`] for a number that it does not have, or for another number of shards.
    pub fn shard(&self, number: u32, of: Option<u32>) -> Result<Shard, PlanFault> {
        let of = of.unwrap_or(self.shards);
        let shard = Shard::new(number, of).filter(|_| of == self.shards);
        shard.ok_or(PlanFault::OtherShards { planned: self.shards, number, of })
    }

    /// Opens target and reference. Files that are not there, or are elsewhere, are first looked for when something of them is needed.
    ///
    /// # Errors
    /// [`PlanFault::OtherSource`] for a file that is another one than when the run was planned; as [`Checkpoint::open`].
    pub fn open_checkpoints(&self, sources: &Sources) -> Result<[Checkpoint; 2], Error> {
        Ok([self.target.open(sources)?, self.reference.open(sources)?])
    }

    /// Reads the plan at `path`.
    ///
    /// # Errors
    /// I/O; [`PlanFault`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = input::open(path, Meant::Plan).and_then(sealed::read);
        Ok(Self::from_bytes(path, &read.map_err(|error| Error::io("read", path, error))?)?)
    }

    /// Reads a plan that is in memory; `path` names it in errors.
    ///
    /// # Errors
    /// [`PlanFault`].
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, PlanFault> {
        let malformed = |reason: &str| PlanFault::Malformed { path: path.to_owned(), reason: reason.to_owned() };
        let stored: Stored = sealed::open(MAGIC, bytes).map_err(|broken| PlanFault::broken(path, broken))?;
        let Stored { shards, options, target, reference, headers, layout } = stored;
        if Shard::new(1, shards).is_none() {
            return Err(malformed(&format!("it has {shards} shards")));
        }
        // A header that many files have would be copied for each.
        let (mut copied, all) = (0, headers.iter().map(Vec::len).sum::<usize>());
        let mut complete = |(mut pinned, places): (Pinned, Vec<u32>)| -> Result<Pinned, PlanFault> {
            pinned.check().map_err(malformed)?;
            if pinned.bytes() > CHECKPOINT_BYTES_MAX {
                return Err(malformed("its files are larger than those of any checkpoint"));
            }
            if places.len() != pinned.files.len() {
                return Err(malformed("it does not have a header for each file"));
            }
            for (file, place) in pinned.files.iter_mut().zip(places) {
                let header =
                    headers.get(place as usize).ok_or_else(|| malformed("it does not have a header that it names"))?;
                copied += header.len();
                if copied > 2 * all {
                    return Err(malformed("its headers are those of too many files"));
                }
                file.header.clone_from(header);
            }
            Ok(pinned)
        };
        let (target, reference) = (complete(target)?, complete(reference)?);
        let run = run_of(layout, &target, &reference)?;
        let plan = Self { shards, options, target, reference, run };
        plan.options(path)?;
        Ok(plan)
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// [`PlanFault::Malformed`] for paths that are not Unicode.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanFault> {
        let mut headers: Vec<Vec<u8>> = Vec::new();
        let mut places = |pinned: &Pinned| -> Vec<u32> {
            let mut place = |header: &Vec<u8>| match headers.iter().position(|other| other == header) {
                Some(place) => place as u32,
                None => {
                    headers.push(header.clone());
                    headers.len() as u32 - 1
                }
            };
            pinned.files.iter().map(|file| place(&file.header)).collect()
        };
        let (of_target, of_reference) = (places(&self.target), places(&self.reference));
        let stored = Stored {
            shards: self.shards,
            options: self.options.clone(),
            target: (self.target.clone(), of_target),
            reference: (self.reference.clone(), of_reference),
            headers,
            layout: self.run.layout,
        };
        sealed::seal(MAGIC, &stored).map_err(unwritable)
    }

    /// Whether it is what is at `path`.
    ///
    /// # Errors
    /// As [`Plan::to_bytes`].
    pub fn is_at(&self, path: &Path) -> Result<bool, PlanFault> {
        let (bytes, mut found) = (self.to_bytes()?, Vec::new());
        let read = input::open_any(path).and_then(|file| file.take(bytes.len() as u64 + 1).read_to_end(&mut found));
        Ok(read.is_ok() && found == bytes)
    }

    /// Writes it to a new file at `path`, all of it or nothing.
    ///
    /// # Errors
    /// [`durable::Failed`].
    pub fn save(&self, path: &Path, existing: Existing) -> Result<(), Error> {
        Ok(durable::write_file(path, &self.to_bytes()?, existing)?)
    }
}

/// Where the part of a shard goes: the file that was named, or a file that is named after the shard, in the folder that was named, which need
/// not be there if its name ends with a slash.
pub(crate) fn part_path(output: &Path, shard: Shard, is_ranks: bool) -> PathBuf {
    let names_folder = output.to_str().is_some_and(|path| path.ends_with(std::path::is_separator));
    match names_folder || output.is_dir() {
        true => {
            let end = if is_ranks { "ranks" } else { "part" };
            output.join(shard.file_name(end))
        }
        false => output.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::options::{Largest, StoredAmount};
    use super::*;
    use crate::context::Context;
    use crate::diff::{Among, Amount, Density, Effort, Labels, Localize, Portability, Size};
    use crate::edit::Alpha;
    use crate::mask::Scope;
    use crate::pair::{PairOptions, Prefix, PrefixMap, Unpaired};
    use crate::source::Place;
    use crate::testing::{all_tensors, floats};
    use proptest::prelude::*;

    /// The plan of a diff of two small checkpoints.
    fn plan(options: &DiffOptions<'_>, shards: u32) -> Result<Plan, Error> {
        let (target, reference) =
            (floats(&[("a", &[1.0, 2.0]), ("b", &[3.0])]), floats(&[("a", &[1.0, 2.5]), ("b", &[3.0])]));
        let pinned = |checkpoint: &Checkpoint| Pinned::here(Path::new("model.safetensors"), checkpoint).unwrap();
        let (of_target, of_reference) = (pinned(&target), pinned(&reference));
        Plan::new((&target, of_target), (&reference, of_reference), options, shards)
    }

    fn read(bytes: &[u8]) -> Result<Plan, PlanFault> {
        Plan::from_bytes(Path::new("run.lceplan"), bytes)
    }

    /// What comes of a plan that somebody changed and sealed anew.
    fn changed(change: impl FnOnce(&mut Stored)) -> Result<Plan, PlanFault> {
        let mut stored: Stored = sealed::open(MAGIC, &plan(&all_tensors(), 2).unwrap().to_bytes().unwrap()).unwrap();
        change(&mut stored);
        read(&sealed::seal(MAGIC, &stored).unwrap())
    }

    #[test]
    fn a_plan_is_read_as_it_was_made() {
        let value = |amount, scope| Localize::Value { amount: Size::Amount(amount), scope };
        let labels = Labels {
            license: Some("MIT".to_owned()),
            recommended_alpha: Alpha::new(-2.1),
            x: serde_json::from_str(r#"{"seed": [1, 2.7e-3, null]}"#).unwrap(),
            ..Labels::default()
        };
        let prefix = PrefixMap::new(vec![Prefix { from: "bert.".to_owned(), to: String::new() }]);
        for options in [
            all_tensors(),
            DiffOptions { localize: value(Amount::Count(2), Scope::Global), labels, ..all_tensors() },
            DiffOptions {
                localize: value(Amount::Density(Density::new(1.0 / 3.0).unwrap()), Scope::Tensor),
                effort: Effort::Best,
                portability: Portability::Portable,
                pair: PairOptions { unpaired: Unpaired::LeaveOut, prefix, ..PairOptions::default() },
                ..all_tensors()
            },
        ] {
            let plan = plan(&options, 7).unwrap();
            let bytes = plan.to_bytes().unwrap();
            let again = read(&bytes).unwrap();
            assert_eq!(
                (again.run(), again.shards(), again.is_ranked()),
                (plan.run(), 7, options.localize != Localize::Full)
            );
            assert_eq!(again.sides(), plan.sides());
            let (told, meant) = (again.options(Path::new("p")).unwrap(), &options);
            assert_eq!(format!("{told:?}"), format!("{meant:?}"));
            assert_eq!(again.to_bytes().unwrap(), bytes);
        }
        let random = Localize::Random { amount: Size::FromMask, seed: 1, among: Among::Either };
        assert!(plan(&DiffOptions { localize: random, ..all_tensors() }, 7).is_err());
        assert!(plan(&all_tensors(), 0).is_err());
    }

    /// What somebody changes, and what is said of it.
    type Case = (&'static str, fn(&mut Stored));

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        assert!(changed(|_| {}).is_ok());
        let cases: [Case; 12] = [
            ("0 shards", |plan| plan.shards = 0),
            ("shards", |plan| plan.shards = u32::MAX),
            ("a file's name is none", |plan| plan.target.0.files[0].name = "../model.safetensors".to_owned()),
            ("a file's name is none", |plan| plan.target.0.files[0].name = "/etc/model.safetensors".to_owned()),
            ("a file's name is none", |plan| plan.reference.0.files[0].name = "..".to_owned()),
            ("has no files", |plan| plan.reference.0.files.clear()),
            ("larger than those of any", |plan| plan.target.0.files[0].bytes = 1 << 60),
            ("not in order", |plan| {
                let file = plan.target.0.files[0].clone();
                plan.target.0.files.push(file);
            }),
            ("a header for each file", |plan| plan.target.1.clear()),
            ("a header that it names", |plan| plan.target.1[0] = 9),
            ("a density of", |plan| {
                let amount = StoredAmount::Density(f64::NAN);
                plan.options.largest = Some(Largest { amount, by_tensor: false });
            }),
            ("an alpha of", |plan| plan.options.labels.recommended_alpha = Some(f64::INFINITY)),
        ];
        for (said, change) in cases {
            let fault = changed(change).unwrap_err();
            assert!(matches!(&fault, PlanFault::Malformed { reason, .. } if reason.contains(said)), "{said}: {fault}");
        }
        // One header for very many files would be copied for each.
        let many = changed(|plan| {
            plan.target.0.is_file = false;
            let file = plan.target.0.files[0].clone();
            plan.target.0.files =
                (0..999).map(|n| crate::source::PinnedFile { name: format!("{n:04}"), ..file.clone() }).collect();
            plan.target.1 = vec![0; 999];
        });
        assert!(many.unwrap_err().to_string().contains("too many files"));
    }

    #[test]
    fn what_headers_and_options_do_not_give_is_no_run() {
        let open = |plan: &Plan| {
            let [target, reference] = plan.open_checkpoints(&Sources::default())?;
            let (options, shard) = (plan.options(Path::new("p"))?, plan.shard(1, None)?);
            super::super::shard::find(&target, &reference, &options, shard, Some(plan.run()), &[], &Context::silent())
        };
        // Nothing is there, and so it is only seen after the headers were compared.
        let there = open(&changed(|_| {}).unwrap()).map_err(|error| error.kind());
        assert_eq!(there.err(), Some(crate::ErrorKind::Io));
        let other: [fn(&mut Stored); 4] = [
            |plan| plan.options.is_portable = true,
            |plan| plan.shards = 3,
            |plan| plan.layout = Digest([7; 32]),
            |plan| plan.headers[0][20] ^= 1,
        ];
        for change in other {
            let refused = open(&changed(change).unwrap()).map_err(|error| error.kind());
            let malformed = [
                crate::ErrorKind::PlanMalformed,
                crate::ErrorKind::CheckpointMalformed,
                crate::ErrorKind::CheckpointUnpaired,
            ];
            assert!(malformed.contains(&refused.err().unwrap()));
        }
        let web =
            changed(|plan| plan.target.0.place = Place::Web { address: "file:///etc/passwd".to_owned() }).unwrap();
        assert!(open(&web).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_fail_in_another_way(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = plan(&all_tensors(), 2).unwrap().to_bytes().unwrap();
            for (at, byte) in changes {
                let at = 40 + at.index(bytes.len() - 40);
                bytes[at] = byte;
            }
            let digest = Digest::sha256(&bytes[40..]);
            bytes[8..40].copy_from_slice(&digest.0);
            if let Ok(plan) = read(&bytes) {
                let _ = plan.open_checkpoints(&Sources::default());
            }
        }
    }
}
