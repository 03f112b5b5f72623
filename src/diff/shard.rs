//! A diff in several processes, or on several machines, joined to the bytes that one process would write.
//!
//! A shard is a run of consecutive blocks of the pair. [`find`] encodes what is selected in it, and [`join`] makes the patch of what all
//! shards found. Where weights are ranked, a shard must know how many of the largest are in the other shards: first [`rank`] finds out.

use super::outline::Outline;
use super::part::{Blocks, Content, PairContent, Part, Ranks};
use super::plan::Run;
use super::write::{Found, write};
use super::{DiffOptions, Diffed, Localize, Size};
use crate::checkpoint::{Checkpoint, WeightFile, side_by_side};
use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, PartContent, PartFault, PlanFault, Undivided};
use crate::format::block::encode::Precision;
use crate::format::block::{BlockId, block_range};
use crate::localize::candidates::{Candidates, Kinds};
use crate::localize::scan::blocks_of;
use crate::localize::value::{self, Cutoff, RankingGroup};
use crate::pair::{OtherDtype, Pair};
use crate::patch::encode::EncodeOptions;
pub use crate::shard::Shard;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The blocks of `pair` in a shard.
fn blocks_in(shard: Shard, pair: &Pair<'_>) -> Vec<BlockId> {
    let bytes = |BlockId { tensor, index }: &BlockId| {
        let pair = &pair.tensors[*tensor];
        let range = block_range(*index, pair.target.info.elements());
        let width = |info: &crate::checkpoint::TensorInfo| info.dtype.width().bytes() as u64;
        (range.end - range.start) * (width(pair.target.info) + width(pair.reference.info))
    };
    shard.share(blocks_of(pair, 0..pair.tensors.len()), bytes)
}

/// What all shards of a run have in common, and the blocks of one shard.
pub(super) struct Job<'a> {
    pair: Pair<'a>,
    outline: Outline,
    pub run: Digest,
    shard: Shard,
    blocks: Vec<BlockId>,
    candidates: Vec<usize>,
    /// The groups of tensors that are ranked together; empty where all that differs is selected.
    groups: Vec<RankingGroup>,
}

impl<'a> Job<'a> {
    /// Describes the run by the headers of two checkpoints.
    pub fn new(
        target: &'a Checkpoint,
        reference: &'a Checkpoint,
        options: &DiffOptions<'_>,
        shard: Shard,
    ) -> Result<Self, Error> {
        check(options)?;
        let pair = Pair::new(target, reference, &options.pair)?;
        let kinds = if options.localize == Localize::Full { Kinds::Every } else { Kinds::Floats };
        let candidates = Candidates::new(&pair.targets(), &options.candidates, kinds)?;
        let tensors = candidates.tensors.clone();
        let groups = match options.localize {
            Localize::Value { amount: Size::Amount(amount), scope } => value::groups(&pair, &tensors, amount, scope)?,
            _ => Vec::new(),
        };
        let outline = Outline::new(&pair, candidates, options)?;
        let wanted: Vec<u64> = groups.iter().map(|group| group.cutoff.k()).collect();
        let decides = (&outline, options.effort, wanted, shard.of());
        let decides = postcard::to_allocvec(&decides)
            .map_err(|e| PartFault::Malformed { path: "the new part".into(), reason: e.to_string() })?;
        let blocks = blocks_in(shard, &pair);
        Ok(Self { run: Digest::sha256(&decides), pair, outline, shard, blocks, candidates: tensors, groups })
    }

    /// The job of a run that may have been planned. Files elsewhere that it reads are known to be there, and the ones that are meant.
    fn of_run(
        target: &'a Checkpoint,
        reference: &'a Checkpoint,
        options: &DiffOptions<'_>,
        shard: Shard,
        run: Option<Run>,
    ) -> Result<Self, Error> {
        let mut job = Self::new(target, reference, options, shard)?;
        if let Some(Run { layout, digest }) = run {
            if layout != job.run {
                let reason = "its headers and options have another digest".to_owned();
                return Err(PlanFault::Malformed { path: "the plan".into(), reason }.into());
            }
            job.run = digest;
        }
        let pairs = job.blocks.iter().map(|block| &job.pair.tensors[block.tensor]);
        let of_blocks: [BTreeSet<usize>; 2] = pairs
            .map(|pair| (pair.target.file_index, pair.reference.file_index))
            .unzip::<_, _, _, BTreeSet<usize>>()
            .into();
        let files = [target, reference].into_iter().zip(&of_blocks);
        let files: Vec<&WeightFile> =
            files.flat_map(|(side, files)| files.iter().map(|at| &side.files()[*at])).collect();
        side_by_side(&files, |file| file.reach())?;
        Ok(job)
    }

    /// About the number of bytes to read.
    fn bytes(&self) -> u64 {
        (self.pair.target.bytes() + self.pair.reference.bytes()) / u64::from(self.shard.of())
    }
}

/// Refuses options with which a diff cannot be divided into shards.
pub(super) fn check(options: &DiffOptions<'_>) -> Result<(), PartFault> {
    let masks = options.masks.is_some() || options.unpruned.is_some();
    let what = match options.localize {
        Localize::Mask | Localize::Random { .. } => Undivided::Localization,
        Localize::Value { amount: Size::FromMask, .. } => Undivided::SizeOfMasks,
        _ if masks => Undivided::Masks,
        _ if options.pair.other_dtype == OtherDtype::Cast => Undivided::Cast,
        _ if options.precision != Precision::Exact => Undivided::ReducedPrecision,
        _ if options.sha256 => Undivided::Sha256,
        _ => return Ok(()),
    };
    Err(PartFault::Unsupported { what })
}

/// Ranks the differences of a shard that may be among the largest of all, for [`find`]. Needed where weights are ranked.
///
/// Reads the shard's blocks once, in most cases. Memory: 48 bytes for each weight that the whole patch selects, at most. With a
/// `run` that was planned the part is one of it.
///
/// # Errors
/// As [`super::diff`]; [`PartFault::Unsupported`]; `PlanFault`.
pub fn rank(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    shard: Shard,
    run: Option<Run>,
    context: &Context<'_>,
) -> Result<Part, Error> {
    let job = Job::of_run(target, reference, options, shard, run)?;
    context.begin("ranking", job.bytes());
    let keys = value::largest(&job.pair, &job.blocks, &job.groups, context);
    let keys = target.settled(reference.settled(keys.map_err(Error::from)))?;
    Ok(Part { run: job.run, shard, content: Content::Ranks(keys.into_iter().map(Ranks::new).collect()) })
}

/// Encodes what is selected in a shard: one of the parts for [`join`]. `ranks` are the files with the ranks of all shards, where weights
/// are ranked.
///
/// Cost and memory as of [`super::diff`], for the shard's share of the blocks; and 64 bytes for each different key of the ranks.
///
/// # Errors
/// As [`super::diff`]; [`PartFault`]: ranks that are missing, or not of this run; `PlanFault`.
pub fn find(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    shard: Shard,
    run: Option<Run>,
    ranks: &[PathBuf],
    context: &Context<'_>,
) -> Result<Part, Error> {
    target.settled(reference.settled(find_in_mapped(target, reference, options, shard, run, ranks, context)))
}

fn find_in_mapped(
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    shard: Shard,
    run: Option<Run>,
    ranks: &[PathBuf],
    context: &Context<'_>,
) -> Result<Part, Error> {
    let job = Job::of_run(target, reference, options, shard, run)?;
    let coding = EncodeOptions { encoding: options.encoding(), masks: None, unpruned: None };
    let found = match options.localize {
        Localize::Full => {
            context.begin("localizing", job.bytes());
            Found::full(&job.pair, &job.blocks, &job.candidates, coding, context)?
        }
        _ => {
            let groups = selected_here(&job, ranks)?;
            context.begin("localizing", job.bytes());
            let of_shard = Found::largest(&job.pair, &job.blocks, &groups, None, coding, context)?;
            let (expected, found) = (groups.iter().map(|group| group.cutoff.k()).sum(), of_shard.elements());
            if found != expected {
                return Err(PartFault::Changed { shard: shard.number(), of: shard.of(), expected, found }.into());
            }
            of_shard
        }
    };
    let Job { run, outline, pair, .. } = job;
    let unpaired = if shard.number() == 1 { Some(outline.hash_unpaired(&pair, context)?) } else { None };
    let pair = unpaired.map(|unpaired| Box::new(PairContent { outline, unpaired }));
    Ok(Part { run, shard, content: Content::Blocks(Blocks { found, pair }) })
}

/// A key, and how many elements have it in earlier shards, in this one and in later ones.
struct Rank {
    key: u64,
    earlier: u64,
    here: u64,
    later: u64,
}

impl Rank {
    /// The key of `count` elements of one shard, which is earlier than this one, this one, or later.
    fn new(key: u64, count: u64, shard: Ordering) -> Self {
        let (mut earlier, mut here, mut later) = (0, 0, 0);
        match shard {
            Ordering::Less => earlier = count,
            Ordering::Equal => here = count,
            Ordering::Greater => later = count,
        }
        Self { key, earlier, here, later }
    }

    /// The number of elements with this key in all shards.
    fn all(&self) -> u64 {
        self.earlier.saturating_add(self.here).saturating_add(self.later)
    }
}

/// The job's groups, with the selection in the job's own shard that follows from the ranks of all shards.
fn selected_here(job: &Job<'_>, paths: &[PathBuf]) -> Result<Vec<RankingGroup>, Error> {
    let mut ranks: Vec<Vec<Rank>> = job.groups.iter().map(|_| Vec::new()).collect();
    each_part(paths, Some((job.run, job.shard.of())), |path, part| {
        let Content::Ranks(of_groups) = part.content else {
            return Err(PartFault::Content {
                path: path.to_owned(),
                found: part.content.kind(),
                expected: PartContent::Ranks,
            });
        };
        if of_groups.len() != job.groups.len() {
            let reason = "it ranks other groups of tensors".to_owned();
            return Err(PartFault::Malformed { path: path.to_owned(), reason });
        }
        let side = part.shard.number().cmp(&job.shard.number());
        for ((ranks, group), of_group) in ranks.iter_mut().zip(&job.groups).zip(of_groups) {
            let own = of_group.keys().map(|(key, count)| Rank::new(key, count, side));
            *ranks = merge(std::mem::take(ranks), own, group.cutoff.k());
        }
        Ok(())
    })?;
    let select = |(group, ranks): (&RankingGroup, Vec<Rank>)| {
        let cutoff = cutoff(group.cutoff.k(), &ranks);
        let cutoff = cutoff.map_err(|found| {
            let (number, of) = (job.shard.number(), job.shard.of());
            PartFault::Changed { shard: number, of, expected: group.cutoff.k(), found }
        })?;
        Ok(RankingGroup { cutoff, ..group.clone() })
    };
    Ok(job.groups.iter().zip(ranks).map(select).collect::<Result<Vec<RankingGroup>, PartFault>>()?)
}

/// Which of the `k` elements with the largest keys are in this shard. Fails with the number of elements if there are fewer than `k`.
fn cutoff(k: u64, ranks: &[Rank]) -> Result<Cutoff, u64> {
    let (mut left, mut here, mut key, mut ties) = (k, 0, u64::MAX, 0);
    for rank in ranks {
        // All elements with this key are selected, unless it is the last one: then the first ones are.
        ties = left.saturating_sub(rank.earlier).min(rank.here);
        key = rank.key;
        here += ties;
        left = left.saturating_sub(rank.all());
    }
    if left > 0 { Err(k - left) } else { Ok(Cutoff::Above { key, ties, k: here }) }
}

/// Merges ranks that are descending by key, up to the key with which there are at least `k` elements.
fn merge(a: Vec<Rank>, b: impl Iterator<Item = Rank>, k: u64) -> Vec<Rank> {
    let (mut a, mut b) = (a.into_iter().peekable(), b.peekable());
    let mut merged: Vec<Rank> = Vec::new();
    let mut elements = 0u64;
    loop {
        let from_a = match (a.peek(), b.peek()) {
            (Some(a), Some(b)) => a.key >= b.key,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let Some(next) = (if from_a { a.next() } else { b.next() }) else { break };
        let all = next.all();
        match merged.last_mut().filter(|last| last.key == next.key) {
            Some(last) => {
                last.earlier = last.earlier.saturating_add(next.earlier);
                last.here = last.here.saturating_add(next.here);
                last.later = last.later.saturating_add(next.later);
            }
            None if elements >= k => break,
            None => merged.push(next),
        }
        elements = elements.saturating_add(all);
    }
    merged
}

/// Calls `each` with every part, read one by one. They must be the parts of all shards of one run; `expected` is the run and its number of
/// shards, if they are known.
fn each_part(
    paths: &[PathBuf],
    mut expected: Option<(Digest, u32)>,
    mut each: impl FnMut(&Path, Part) -> Result<(), PartFault>,
) -> Result<(), Error> {
    let mut seen: BTreeMap<u32, &Path> = BTreeMap::new();
    for path in paths {
        let part = Part::open(path)?;
        let run = (part.run, part.shard.of());
        if *expected.get_or_insert(run) != run {
            return Err(PartFault::OtherRun { path: path.clone() }.into());
        }
        let shard = part.shard.number();
        if Shard::new(shard, part.shard.of()).is_none() {
            let reason = format!("there is no {}", part.shard);
            return Err(PartFault::Malformed { path: path.clone(), reason }.into());
        }
        if let Some(first) = seen.insert(shard, path) {
            return Err(PartFault::Twice { first: first.to_owned(), second: path.clone(), shard }.into());
        }
        each(path, part)?;
    }
    let of = expected.map_or(0, |(_, of)| of);
    let shards: Vec<u32> = (1..=of).filter(|shard| !seen.contains_key(shard)).collect();
    if !shards.is_empty() {
        return Err(PartFault::Missing { shards, of }.into());
    }
    Ok(())
}

/// Makes the patch of what all shards found, byte for byte the one of [`super::diff`]. `parts` are the files of the shards, in any order.
///
/// Memory: the encoded blocks, and one part.
///
/// # Errors
/// [`PartFault`]: parts that are damaged, missing, or not of one run.
pub fn join(parts: &[PathBuf], context: &Context<'_>) -> Result<Diffed, Error> {
    context.begin("joining", 0);
    let mut by_shard = BTreeMap::new();
    each_part(parts, None, |path, part| {
        let Content::Blocks(blocks) = part.content else {
            return Err(PartFault::Content {
                path: path.to_owned(),
                found: part.content.kind(),
                expected: PartContent::Blocks,
            });
        };
        by_shard.insert(part.shard.number(), (path.to_owned(), blocks));
        Ok(())
    })?;
    let mut pair = None;
    let mut all = Found::default();
    let mut last = PathBuf::new();
    for (path, Blocks { found, pair: described }) in by_shard.into_values() {
        pair = pair.or(described);
        all.encoded.extend(found.encoded);
        all.digests.extend(found.digests);
        last = path;
    }
    let malformed = |reason: &str| PartFault::Malformed { path: last.clone(), reason: reason.to_owned() };
    let pair = *pair.ok_or_else(|| malformed("no part describes the checkpoints"))?;
    check_joined(&pair, &all).map_err(malformed)?;
    write(pair.outline, all, &pair.unpaired, None, context)
}

/// Checks that the blocks and digests of all parts are those of the described tensors. Parts are files, which may be damaged or forged.
fn check_joined(pair: &PairContent, all: &Found) -> Result<(), &'static str> {
    let PairContent { outline, unpaired } = pair;
    let blocks_per_tensor = outline.blocks_per_tensor();
    let n_blocks = blocks_per_tensor.iter().fold(0u64, |sum, blocks| sum.saturating_add(*blocks));
    if !outline.is_consistent() || outline.unpaired() != unpaired.len() || n_blocks != all.digests.len() as u64 {
        return Err("the digests are not those of its tensors");
    }
    let ids: Vec<BlockId> = all.encoded.iter().map(|(encodings, _)| encodings.id()).collect();
    let in_order = ids.windows(2).all(|pair| pair[0] < pair[1]);
    let exists = |id: &BlockId| blocks_per_tensor.get(id.tensor).is_some_and(|blocks| id.index < *blocks);
    let plausible = all.encoded.iter().all(|(encodings, _)| encodings.is_plausible());
    if !in_order || !ids.iter().all(exists) || !plausible {
        return Err("the blocks are not those of its tensors");
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "the ranges that were read are compared with those expected")]
mod tests {
    use super::*;
    use crate::checkpoint::{Malformed, OpenError, Sources};
    use crate::testing::{Counting, all_tensors};
    use proptest::prelude::*;

    /// The `k` largest, as [`value::largest`] gives them.
    fn largest(keys: &[u64], k: usize) -> Vec<(u64, u64)> {
        let mut sorted = keys.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        sorted.truncate(k);
        sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)).collect()
    }

    proptest! {
        #[test]
        fn shards_select_together_what_one_ranking_does(
            shards in prop::collection::vec(prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..30), 1..6),
            k: prop::sample::Index,
        ) {
            let all: Vec<(u64, usize, usize)> = shards
                .iter()
                .enumerate()
                .flat_map(|(shard, keys)| keys.iter().enumerate().map(move |(at, key)| (*key, shard, at)))
                .collect();
            let k = k.index(all.len() + 1);
            let mut ranked = all.clone();
            ranked.sort_by_key(|(key, shard, at)| (std::cmp::Reverse(*key), *shard, *at));
            ranked.truncate(k);
            for this in 0..shards.len() {
                let mut ranks = Vec::new();
                for (number, keys) in shards.iter().enumerate() {
                    let own = Ranks::new(largest(keys, k));
                    let own = own.keys().map(|(key, count)| Rank::new(key, count, number.cmp(&this)));
                    ranks = merge(ranks, own, k as u64);
                }
                let Ok(Cutoff::Above { key: cut, ties, k: here }) = cutoff(k as u64, &ranks) else { panic!() };
                let mut left = ties;
                let mut selected = Vec::new();
                for (at, key) in shards[this].iter().enumerate() {
                    let tied = *key == cut && left > 0;
                    left -= u64::from(tied);
                    selected.extend((tied || *key > cut).then_some((*key, this, at)));
                }
                let mut expected: Vec<_> = ranked.iter().filter(|(_, shard, _)| *shard == this).copied().collect();
                expected.sort_by_key(|(.., at)| *at);
                prop_assert_eq!(selected.len() as u64, here);
                prop_assert_eq!(selected, expected);
            }
        }
    }

    /// Number of weights in each file of [`sources`].
    const WEIGHTS: usize = 30_000;

    /// A model of three shards with one tensor each, whose weights are multiples of `step`: its files, and the index.
    fn files(step: f32) -> (Vec<(String, Vec<u8>)>, String) {
        let (mut files, mut map) = (Vec::new(), serde_json::Map::new());
        for number in 1..=3u8 {
            let name = format!("model-{number:05}-of-00003.safetensors");
            let header =
                format!(r#"{{"w{number}":{{"dtype":"F32","shape":[{WEIGHTS}],"data_offsets":[0,{}]}}}}"#, 4 * WEIGHTS);
            let mut bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
            (0..WEIGHTS).for_each(|at| bytes.extend((at as f32 * step * f32::from(number)).to_le_bytes()));
            map.insert(format!("w{number}"), name.clone().into());
            files.push((name, bytes));
        }
        (files, serde_json::json!({ "weight_map": map }).to_string())
    }

    /// The same model, its files elsewhere, and these.
    fn sources(step: f32) -> (Checkpoint, Vec<std::sync::Arc<Counting>>) {
        let (files, index) = files(step);
        let sources: Vec<_> = files.into_iter().map(|(name, bytes)| (name, Counting::new(bytes))).collect();
        let texts = vec![("model.safetensors.index.json".to_owned(), index.into_bytes())];
        let weights = sources.iter().map(|(name, source)| (name.clone(), source.clone() as _)).collect();
        let checkpoint = Checkpoint::of_sources(Sources { path: "far/model".as_ref(), named: None, texts, weights });
        (checkpoint.unwrap(), sources.into_iter().map(|(_, source)| source).collect())
    }

    #[test]
    fn a_shard_fetches_from_the_files_of_its_own_blocks_only_and_all_make_the_patch_of_local_files() {
        let folder = tempfile::tempdir().unwrap();
        let local = |name: &str, step| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let (files, index) = files(step);
            files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
            std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
            Checkpoint::open(folder).unwrap()
        };
        let context = Context::silent();
        let options = DiffOptions { localize: Localize::Full, ..all_tensors() };
        let whole = super::super::diff(&local("a", 1.0), &local("b", 1.5), &options, &context).unwrap().patch;
        let mut parts = Vec::new();
        for number in 1..=3 {
            let ((target, of_target), (reference, of_reference)) = (sources(1.0), sources(1.5));
            let all = || of_target.iter().chain(&of_reference);
            assert!(all().all(|source| source.take() == [0..65_536]), "a header takes one read");
            let part =
                find(&target, &reference, &options, Shard::new(number, 3).unwrap(), None, &[], &context).unwrap();
            let touched = |source: &std::sync::Arc<Counting>| source.take().iter().any(|range| !range.is_empty());
            let touched: Vec<bool> = all().map(touched).collect();
            let own = |file: u32| file % 3 == number - 1;
            assert_eq!(touched, (0..6).map(own).collect::<Vec<bool>>(), "shard {number}");
            let path = folder.path().join(format!("{number}.part"));
            part.save(&path, crate::durable::Existing::Keep).unwrap();
            parts.push(path);
        }
        let joined = join(&parts, &context).unwrap().patch;
        assert_eq!(joined.to_bytes().unwrap(), whole.to_bytes().unwrap());
    }

    #[test]
    fn a_shard_elsewhere_that_is_not_there_is_named() {
        let (files, index) = files(1.0);
        let weights = files.into_iter().skip(1).map(|(name, bytes)| (name, Counting::new(bytes) as _)).collect();
        let texts = vec![("i.safetensors.index.json".to_owned(), index.into_bytes())];
        let sources = Sources { path: "far".as_ref(), named: None, texts, weights };
        let error = Checkpoint::of_sources(sources).unwrap_err();
        let missing = Malformed::MissingShards { missing: vec!["model-00001-of-00003.safetensors".to_owned()], of: 3 };
        assert!(
            matches!(error, OpenError::Malformed { path, reason } if path.ends_with("i.safetensors.index.json") && reason == missing)
        );
    }
}
