//! The way through the patches of a place: from a checkpoint to a version, each patch on the result of the one before it.
//!
//! Only headers are read. Where they do not tell every digest between two patches, the patches are taken to follow each other if nothing
//! speaks against it; when they are applied, every base is checked in full.

use super::Listed;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, PublishFault};
use crate::format::metadata::Source;
use crate::format::tensor_table::TensorEntry;
use crate::localize::scan::of_files;
use crate::patch::Patch;
use crate::words::plural;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// How many orders of patches are looked at.
const WAYS_MAX: usize = 4096;
/// The fewest digits of an id that name a patch.
const ID_DIGITS_MIN: usize = 4;

/// The way from a checkpoint to a version.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// The patches in their order, at least one.
    pub patches: Vec<&'a Listed>,
    /// Patches of the place that are neither on a way from the checkpoint nor lead to it: those of other checkpoints, or those before
    /// which one is missing.
    pub elsewhere: Vec<&'a Listed>,
}

/// The way from `model`, which messages call `name`, to the last version, or to the patch `to`. Of several ways the one with the fewest
/// patches. A patch is on it only if the whole checkpoint is its base, as far as the patch says what that is: other tensors than those that it
/// changes are part of a version, too.
///
/// Hashes the checkpoint.
///
/// # Errors
/// [`PublishFault`]: `Empty`, `Unknown`, `Fork`, `Cycle`, `Broken`, `Current`, `TooManyWays`; a checkpoint that changed meanwhile;
/// cancellation.
pub(crate) fn way<'a>(
    (model, name): (&Checkpoint, &Path),
    patches: &'a [Listed],
    to: Option<&str>,
    place: &str,
    context: &Context<'_>,
) -> Result<Way<'a>, Error> {
    if patches.is_empty() {
        return Err(PublishFault::Empty { place: place.to_owned() }.into());
    }
    let to = to.map(|wanted| named(patches, wanted, place)).transpose()?;
    let start = State::of(model, patches, context);
    let start = model.settled(start)?;
    let mut ways = Ways { patches, place, model: name, met: ways_to(&start, patches) };
    let way = ways.search(start, to)?;
    let elsewhere = (0..patches.len()).filter(|at| !ways.met.contains(at));
    Ok(Way {
        patches: way.into_iter().map(|at| &patches[at]).collect(),
        elsewhere: elsewhere.map(|at| &patches[at]).collect(),
    })
}

/// The patches of a place, or only the one that is asked for.
///
/// # Errors
/// [`PublishFault`]: `Empty`, `Unknown`.
pub(crate) fn chosen<'a>(
    patches: &'a [Listed],
    to: Option<&str>,
    place: &str,
) -> Result<Vec<&'a Listed>, PublishFault> {
    match to {
        Some(wanted) => Ok(vec![&patches[named(patches, wanted, place)?]]),
        None if patches.is_empty() => Err(PublishFault::Empty { place: place.to_owned() }),
        None => Ok(patches.iter().collect()),
    }
}

/// The index of the patch with this name, with or without its extension, or with an id that begins so.
fn named(patches: &[Listed], wanted: &str, place: &str) -> Result<usize, PublishFault> {
    let stem = |file: &str| file.strip_suffix(super::shelf::EXTENSION) == Some(wanted);
    let by_name = patches.iter().position(|listed| listed.file == wanted || stem(&listed.file));
    let by_id = || {
        let begins = |listed: &Listed| listed.patch.id().to_string().starts_with(&wanted.to_lowercase());
        let mut found = (0..patches.len()).filter(|at| wanted.len() >= ID_DIGITS_MIN && begins(&patches[*at]));
        // One patch may be there under two names.
        let first = found.next()?;
        found.all(|other| patches[other].patch.id() == patches[first].patch.id()).then_some(first)
    };
    by_name.or_else(by_id).ok_or_else(|| PublishFault::Unknown {
        place: place.to_owned(),
        wanted: wanted.to_owned(),
        files: patches.iter().map(|listed| listed.file.clone()).collect(),
    })
}

/// What is known of the model after some patches.
#[derive(Debug, Clone)]
struct State<'a> {
    /// By the names of tensors that patches change.
    tensors: BTreeMap<&'a str, Content>,
    /// The digests of the whole files, as far as they are known.
    files: Option<Vec<String>>,
}

/// What is known of a tensor.
#[derive(Debug, Clone, Copy)]
enum Content {
    /// Its digest.
    Known(Digest),
    /// It is what the patch of this index makes of it, which states the digest over all of its tensors only.
    Of(usize),
}

/// Whether a patch is for a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Follows {
    No,
    /// Nothing speaks against it.
    Perhaps,
    Yes,
}

impl<'a> State<'a> {
    /// The state of `model`, before any patch.
    fn of(model: &Checkpoint, patches: &'a [Listed], context: &Context<'_>) -> Result<Self, Error> {
        let digests = super::find::digests(model, patches, context)?;
        let mut known = None;
        if patches.iter().any(|listed| files(&listed.patch.metadata().base).is_some()) {
            let by_name = digests.iter().map(|(name, digest)| ((*name).to_owned(), *digest)).collect();
            known = Some(of_files(model, &by_name, context)?.iter().map(Digest::to_string).collect());
        }
        let tensors = digests.into_iter().map(|(name, digest)| (name, Content::Known(digest))).collect();
        Ok(Self { tensors, files: known })
    }

    /// The state after one patch more.
    fn after(&self, patches: &'a [Listed], at: usize) -> Self {
        let patch = &patches[at].patch;
        let mut tensors = self.tensors.clone();
        for entry in &patch.table().tensors {
            let content = entry.counterparts.map_or(Content::Of(at), |tensor| Content::Known(tensor.result));
            tensors.insert(&entry.name, content);
        }
        let files = reference_files(patch).filter(|_| self.is_base_of(patch) == Some(true));
        Self { tensors, files: files.map(|files| files.into_iter().map(str::to_owned).collect()) }
    }

    /// Whether the whole files are those of the patch's base; None if that is not known, or if they are divided in another way.
    fn is_base_of(&self, patch: &Patch) -> Option<bool> {
        let (known, declared) = (self.files.as_ref()?, files(&patch.metadata().base)?);
        (known.len() == declared.len()).then(|| known.iter().eq(declared.iter()))
    }

    /// Whether the patch is for this state.
    fn follows(&self, patches: &'a [Listed], at: usize) -> Follows {
        let patch = &patches[at].patch;
        let mut between = BTreeSet::new();
        for entry in &patch.table().tensors {
            match self.tensors.get(&entry.name[..]) {
                Some(Content::Known(digest)) if *digest == entry.base_digest => {}
                Some(Content::Of(earlier)) => {
                    between.insert(*earlier);
                }
                Some(Content::Known(_)) | None => return Follows::No,
            }
        }
        let by_files = match self.is_base_of(patch) {
            Some(true) => Follows::Yes,
            Some(false) => return Follows::No,
            None => Follows::Perhaps,
        };
        let by_root = between.into_iter().map(|earlier| self.joins(patches, earlier, patch)).min();
        match by_root {
            Some(Follows::No) => Follows::No,
            Some(follows) => follows.max(by_files),
            None => Follows::Yes,
        }
    }

    /// Whether this is what a patch makes of its tensors.
    fn is_result_of(&self, patch: &Patch) -> bool {
        let table = patch.table();
        let digest = |entry: &TensorEntry| match self.tensors.get(&entry.name[..]) {
            Some(Content::Known(digest)) => Some(*digest),
            _ => None,
        };
        let digests: Option<Vec<Digest>> = table.tensors.iter().map(digest).collect();
        digests.is_some_and(|digests| Digest::root(&digests) == table.roots.result)
    }

    /// Whether `next` is for what the patch `earlier` leaves of its tensors, as far as the digest over all of them tells.
    fn joins(&self, patches: &[Listed], earlier: usize, next: &Patch) -> Follows {
        let table = patches[earlier].patch.table();
        let in_next = |entry: &TensorEntry| {
            let is_its_own = matches!(self.tensors.get(&entry.name[..]), Some(Content::Of(patch)) if *patch == earlier);
            let tensors = &next.table().tensors;
            let at = tensors.binary_search_by(|other| other.name.as_bytes().cmp(entry.name.as_bytes())).ok()?;
            is_its_own.then(|| tensors[at].base_digest)
        };
        let digests: Option<Vec<Digest>> = table.tensors.iter().map(in_next).collect();
        match digests {
            Some(digests) if table.roots.result.is_known() => match Digest::root(&digests) == table.roots.result {
                true => Follows::Yes,
                false => Follows::No,
            },
            _ => Follows::Perhaps,
        }
    }
}

/// The digests of the files of a checkpoint, if its description has all of them.
fn files(source: &Source) -> Option<Vec<&str>> {
    let files: Option<Vec<&str>> = source.files.iter().map(|file| file.content.as_deref()).collect();
    files.filter(|files| !files.is_empty())
}

/// Whether the result of a patch on its own base is its reference, to the byte.
pub(crate) fn leads_to_reference(patch: &Patch) -> bool {
    reference_files(patch).is_some()
}

/// The digests of the files of a patch's reference, if its result is the reference.
fn reference_files(patch: &Patch) -> Option<Vec<&str>> {
    let metadata = patch.metadata();
    let is_whole = metadata.localization.method == "full" && metadata.pairing.is_none();
    files(&metadata.reference).filter(|_| is_whole)
}

/// All orders in which patches follow each other.
struct Ways<'a, 'm> {
    patches: &'a [Listed],
    place: &'m str,
    model: &'m Path,
    /// Patches that lead to the checkpoint, and those that follow something on a way from it.
    met: BTreeSet<usize>,
}

/// The patches that lead to the state, directly or through others.
fn ways_to(start: &State<'_>, patches: &[Listed]) -> BTreeSet<usize> {
    let mut met: BTreeSet<usize> = (0..patches.len()).filter(|at| start.is_result_of(&patches[*at].patch)).collect();
    let mut versions: Vec<Vec<&str>> =
        start.files.iter().map(|files| files.iter().map(String::as_str).collect()).collect();
    versions.extend(met.iter().filter_map(|at| files(&patches[*at].patch.metadata().base)));
    while let Some(version) = versions.pop() {
        for (at, listed) in patches.iter().enumerate() {
            if reference_files(&listed.patch).as_ref() == Some(&version) && met.insert(at) {
                versions.extend(files(&listed.patch.metadata().base));
            }
        }
    }
    met
}

impl<'a> Ways<'a, '_> {
    /// The shortest way to `to`, or to the one version at the end of all ways.
    fn search(&mut self, start: State<'a>, to: Option<usize>) -> Result<Vec<usize>, PublishFault> {
        let missing = self.missing(&start);
        let is_result = |at: &usize| start.is_result_of(&self.patches[*at].patch);
        let current = match to {
            Some(to) => Some(to).filter(is_result),
            // Of several the one that says so of the whole checkpoint: others may leave what later ones change as they found it.
            None => {
                let all: Vec<usize> = (0..self.patches.len()).filter(is_result).collect();
                let known = start.files.as_deref();
                let is_whole = |at: &&usize| {
                    let files = reference_files(&self.patches[**at].patch);
                    known.zip(files).is_some_and(|(known, files)| known.iter().eq(files.iter()))
                };
                all.iter().find(is_whole).or(all.last()).copied()
            }
        };
        // By the number of steps, so that the first way that gets there is the shortest.
        let mut open = VecDeque::from([(Vec::new(), start)]);
        let mut ends: Vec<Vec<usize>> = Vec::new();
        let mut looked_at = 0;
        while let Some((path, state)) = open.pop_front() {
            looked_at += 1;
            if looked_at > WAYS_MAX {
                let place = self.place.to_owned();
                return Err(PublishFault::TooManyWays { place, most: WAYS_MAX });
            }
            if to.is_some() && path.last() == to.as_ref() {
                return Ok(path);
            }
            let (used, unused): (Vec<_>, Vec<_>) = (0..self.patches.len())
                .map(|at| (at, state.follows(self.patches, at)))
                .filter(|(_, follows)| *follows != Follows::No)
                .partition(|(at, _)| path.contains(at));
            self.met.extend(unused.iter().map(|(at, _)| *at));
            if let (None, Some((again, _))) = (to, used.iter().find(|(_, follows)| *follows == Follows::Yes)) {
                return Err(self.cycle(&path, *again));
            }
            // What follows for certain comes before what may.
            let surest = unused.iter().map(|(_, follows)| *follows).max();
            let next: Vec<usize> =
                unused.iter().filter(|(_, follows)| Some(*follows) == surest).map(|(at, _)| *at).collect();
            for at in &next {
                open.push_back(([&path[..], &[*at]].concat(), state.after(self.patches, *at)));
            }
            if next.is_empty() && !path.is_empty() {
                ends.push(path);
            }
        }
        let model = self.model.to_owned();
        let place = self.place.to_owned();
        let file = |at: usize| self.patches[at].file.clone();
        let mut versions: Vec<&Vec<usize>> = Vec::new();
        for end in &ends {
            let last = |path: &[usize]| path.last().map(|at| version(&self.patches[*at].patch));
            if versions.iter().all(|other| last(other) != last(end)) {
                versions.push(end);
            }
        }
        match (&versions[..], to, current) {
            (_, Some(to), Some(_)) => Err(PublishFault::Current { place, model, patch: file(to) }),
            (_, Some(to), None) => Err(PublishFault::Broken { place, model, to: Some(file(to)), missing }),
            ([], None, Some(current)) => Err(PublishFault::Current { place, model, patch: file(current) }),
            ([], None, None) => Err(PublishFault::Broken { place, model, to: None, missing }),
            ([one], None, _) => Ok((*one).clone()),
            (several, None, _) => {
                let ends = several.iter().filter_map(|path| path.last()).map(|at| file(*at)).collect();
                Err(PublishFault::Fork { place, model, ends })
            }
        }
    }

    fn cycle(&self, path: &[usize], again: usize) -> PublishFault {
        let start = path.iter().position(|at| *at == again).unwrap_or(0);
        let files = path[start..].iter().chain([&again]).map(|at| self.patches[*at].file.clone());
        PublishFault::Cycle { place: self.place.to_owned(), patches: files.collect() }
    }

    /// A line about each patch that is not for the checkpoint.
    fn missing(&self, start: &State<'_>) -> Vec<String> {
        let line = |listed: &Listed| {
            let tensors = &listed.patch.table().tensors;
            let is_there = |entry: &&TensorEntry| matches!(start.tensors.get(&entry.name[..]), Some(Content::Known(digest)) if *digest == entry.base_digest);
            let (n, differing) = (tensors.len(), tensors.len() - tensors.iter().filter(is_there).count());
            let base = super::index::base_root(&listed.patch).short();
            let (file, noun) = (&listed.file, plural(n, "tensor"));
            match differing {
                0 if start.is_base_of(&listed.patch) == Some(false) => Some(format!(
                    "{file}: what it changes is as in its base {base}, and the rest of the checkpoint is not"
                )),
                0 => None,
                _ => Some(format!("{file}: {differing} of {n} {noun} are others than in its base {base}")),
            }
        };
        self.patches.iter().filter_map(line).collect()
    }
}

/// What a patch leads to, as far as two patches can be compared by it.
fn version(patch: &Patch) -> (Vec<&str>, Digest) {
    let (table, id) = (patch.table(), patch.id());
    let root = if table.roots.result.is_known() { table.roots.result } else { id };
    (table.tensors.iter().map(|entry| &entry.name[..]).collect(), root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::{Portability, floats, patch};

    fn listed(file: &str, base: &Checkpoint, reference: &Checkpoint, portability: Portability) -> Listed {
        Listed { file: format!("{file}.lcepatch"), patch: patch(base, reference, portability), signed: false }
    }

    /// Four versions of a model; not every step changes every tensor.
    fn versions() -> [Checkpoint; 4] {
        [
            floats(&[("a", &[1.0]), ("b", &[1.0]), ("c", &[1.0])]),
            floats(&[("a", &[2.0]), ("b", &[2.0]), ("c", &[1.0])]),
            floats(&[("a", &[3.0]), ("b", &[2.0]), ("c", &[1.0])]),
            floats(&[("a", &[3.0]), ("b", &[2.0]), ("c", &[4.0])]),
        ]
    }

    /// The files of the way, or the code of the error.
    fn found(model: &Checkpoint, patches: &[Listed], to: Option<&str>) -> Result<String, ErrorKind> {
        let way =
            way((model, "model".as_ref()), patches, to, "place", &Context::silent()).map_err(|error| error.kind())?;
        Ok(way
            .patches
            .iter()
            .map(|listed| listed.file.strip_suffix(".lcepatch").unwrap())
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn patches_are_taken_in_the_order_in_which_they_follow_each_other() {
        let [v0, v1, v2, v3] = versions();
        for portability in [Portability::Portable, Portability::NeedsBase] {
            let patch = |file, base, reference| listed(file, base, reference, portability);
            let patches = [patch("3", &v2, &v3), patch("1", &v0, &v1), patch("2", &v1, &v2)];
            assert_eq!(found(&v0, &patches, None).as_deref(), Ok("1 2 3"));
            assert_eq!(found(&v1, &patches, None).as_deref(), Ok("2 3"));
            assert_eq!(found(&v0, &patches, Some("2")).as_deref(), Ok("1 2"));
            assert_eq!(found(&v0, &patches, Some("3.lcepatch")).as_deref(), Ok("1 2 3"), "its own tensors fit v0, too");
            assert_eq!(found(&v3, &patches, None), Err(ErrorKind::ChainComplete));
            assert_eq!(found(&v1, &patches, Some("1")), Err(ErrorKind::ChainComplete));
            assert_eq!(found(&v2, &patches, Some("1")), Err(ErrorKind::ChainBroken));
            assert_eq!(found(&v0, &patches[2..], None), Err(ErrorKind::ChainBroken));
            assert_eq!(found(&v0, &patches, Some("4")), Err(ErrorKind::PatchNotFound));
            let id = patches[1].patch.id().to_string();
            assert_eq!(found(&v0, &patches, Some(&id[..8])).as_deref(), Ok("1"));
            assert_eq!(found(&v0, &[], None), Err(ErrorKind::PatchNotFound));
        }
    }

    #[test]
    fn a_patch_that_leads_straight_to_a_version_joins_a_broken_chain_and_shortens_a_whole_one() {
        let [v0, v1, v2, v3] = versions();
        for portability in [Portability::Portable, Portability::NeedsBase] {
            let patch = |file, base, reference| listed(file, base, reference, portability);
            let broken = [patch("1", &v0, &v1), patch("3", &v2, &v3), patch("0-3", &v0, &v3)];
            assert_eq!(found(&v0, &broken, Some("0-3")).as_deref(), Ok("0-3"));
            let joined = [patch("2", &v1, &v2), patch("1", &v0, &v1), patch("0-2", &v0, &v2), patch("3", &v2, &v3)];
            assert_eq!(found(&v0, &joined, None).as_deref(), Ok("0-2 3"));
        }
    }

    /// Each step changes another tensor, so that every patch fits the tensors of every version before it.
    #[test]
    fn a_patch_is_on_the_way_only_if_those_before_it_are_there() {
        let version = |changed: usize| {
            let value = |at: usize| if at < changed { 2.0 } else { 1.0 };
            floats(&[("a", &[value(0)]), ("b", &[value(1)]), ("c", &[value(2)])])
        };
        let [v0, v1, v2, v3] = [0, 1, 2, 3].map(version);
        for portability in [Portability::Portable, Portability::NeedsBase] {
            let patch = |file, base, reference| listed(file, base, reference, portability);
            let all = || vec![patch("1", &v0, &v1), patch("2", &v1, &v2), patch("3", &v2, &v3)];
            let found = |model: &Checkpoint, patches: &[Listed]| {
                let way = way((model, "model".as_ref()), patches, None, "place", &Context::silent())?;
                let files =
                    |listed: Vec<&Listed>| listed.iter().map(|one| one.file[..1].to_owned()).collect::<String>();
                Ok::<_, Error>((files(way.patches), files(way.elsewhere)))
            };
            let is = |way: &str, elsewhere: &str| (way.to_owned(), elsewhere.to_owned());
            assert_eq!(found(&v0, &all()).unwrap(), is("123", ""));
            assert_eq!(found(&v1, &all()).unwrap(), is("23", ""), "what leads to it is not elsewhere");
            let mut without = all();
            without.remove(1);
            assert_eq!(found(&v0, &without).unwrap(), is("1", "3"));
            without = all();
            without.remove(0);
            let refused = found(&v0, &without).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ChainBroken);
            assert!(
                refused.details().iter().any(|line| line.starts_with("2.lcepatch: what it changes is as")),
                "{refused:?}"
            );
            let current = found(&v3, &all()).unwrap_err();
            assert!(current.to_string().contains("3.lcepatch"), "{current}");
        }
    }

    #[test]
    fn several_ends_and_circles_are_refused_by_name() {
        let [v0, v1, v2, _] = versions();
        let other = floats(&[("a", &[7.0]), ("b", &[1.0]), ("c", &[1.0])]);
        for portability in [Portability::Portable, Portability::NeedsBase] {
            let patch = |file, base, reference| listed(file, base, reference, portability);
            let fork = [patch("1", &v0, &v1), patch("other", &v0, &other), patch("2", &v1, &v2)];
            let refused = way((&v0, "v0".as_ref()), &fork, None, "place", &Context::silent()).unwrap_err();
            assert!(refused.to_string().contains("other.lcepatch, 2.lcepatch"), "{refused}");
            assert_eq!(found(&v0, &fork, Some("other")).as_deref(), Ok("other"));
            let circle = [patch("1", &v0, &v1), patch("back", &v1, &v0)];
            let refused = way((&v0, "v0".as_ref()), &circle, None, "place", &Context::silent()).unwrap_err();
            assert!(refused.to_string().contains("1.lcepatch -> back.lcepatch -> 1.lcepatch"), "{refused}");
            assert_eq!(found(&v0, &circle, Some("1")).as_deref(), Ok("1"));
        }
    }
}
