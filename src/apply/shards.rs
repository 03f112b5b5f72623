//! An apply in several processes, each of which writes some of the files of the result, and one more that puts them in their place.
//!
//! The files are gathered in a folder beside the result. With them every process leaves a receipt: what it wrote, by the digests of
//! what was read back. [`InShards::finish`] reads all files again, compares them with the receipts and with what the patch declares, and then
//! makes the directory of the result, with all that [`Apply::to`](super::Apply::to) puts there but an undo patch.

use super::carry::carry_along;
use super::choose::choose_entries;
use super::job::is_reference_of;
use super::plan::{Edit, Plan, PlanOptions};
use super::rewrite::{EachPart, Rewrite};
use super::run::{Applied, same_file, write_weights};
use super::{Check, Done};
use crate::checkpoint::{Checkpoint, Layout, Tensor, WeightFile, side_by_side};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::durable::{Existing, Failed, NewDirectory, NewFile, check_new_directory, write_file};
use crate::error::{Error, PartFault, Refusal};
use crate::format::tensor_table::TensorEntry;
use crate::history::{self, AppliedPatch, Digests, History, Step};
use crate::input;
use crate::localize::scan::of_files;
use crate::pair::PrefixMap;
use crate::shard::Shard;
use crate::shard::sealed;
use crate::source::Pinned;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// First bytes of a receipt.
const MAGIC: [u8; 8] = *b"\x89LCR\r\n\x1a\n";

/// End of the name of a receipt.
const RECEIPT_EXTENSION: &str = "receipt";

/// An apply that several processes share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InShards<'a> {
    /// The base: a model directory or an index of shards.
    pub base: &'a Checkpoint,
    /// What its files are.
    pub files: &'a Pinned,
    pub edits: &'a [Edit],
    pub options: &'a PlanOptions,
    /// Whether the apply is recorded in the log of the result.
    pub log: bool,
    /// The directory of the result.
    pub output: &'a Path,
}

/// What one process wrote.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    run: Digest,
    shard: Shard,
    /// Whether deltas were added to a checkpoint that is not the patch's base.
    added: bool,
    /// The number of edited weights.
    edited: u64,
    files: Vec<Written>,
    /// The digests of the edited tensors.
    digests: BTreeMap<String, Digest>,
}

/// A file that was written and read back.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Written {
    name: String,
    bytes: u64,
    content: Digest,
    /// SHA-256 of the base's file and of this one, in hexadecimal digits, for the log.
    logged: Option<[String; 2]>,
}

/// What became of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardDone {
    /// Whether it was done already.
    pub before: bool,
    /// Number of files.
    pub files: usize,
    pub edited: u64,
    /// Whether deltas were added to a checkpoint that is not the patch's base.
    pub added: bool,
    /// The folder where the files are gathered.
    pub folder: PathBuf,
}

impl InShards<'_> {
    /// Writes the files of one shard, and its receipt.
    ///
    /// # Errors
    /// As [`Apply::to`](super::Apply::to); [`PartFault::OtherRun`] if files of another run are gathered there.
    pub fn write(&self, shard: Shard, existing: Existing, context: &Context<'_>) -> Result<ShardDone, Error> {
        self.refuse_output()?;
        let folder = self.folder();
        let (run, path) = (self.run(shard.of())?, folder.join(shard.file_name(RECEIPT_EXTENSION)));
        if existing == Existing::Keep {
            for other in receipts_in(&folder)? {
                let receipt = Receipt::open(&other)?;
                if receipt.run != run {
                    return Err(PartFault::OtherRun { path: other }.into());
                }
                if receipt.shard == shard && receipt.is_kept(&folder) {
                    return Ok(receipt.done(folder, true));
                }
            }
        }
        let own = shard.share(self.base.files().iter().enumerate().collect(), |(_, file)| file.bytes());
        side_by_side(&own, |(_, file)| file.reach())?;
        let own: Vec<usize> = own.into_iter().map(|(index, _)| index).collect();
        let edits = self.edits_of(&own, context)?;
        let plan = Plan::check(self.base, &edits, self.options, context)?;
        let files = own.iter().map(|index| &self.base.files()[*index]);
        let create = |file: &WeightFile| NewFile::create(&folder.join(file.name()), Existing::Replace);
        std::fs::create_dir_all(&folder).map_err(|e| Failed::io("create", &folder, e))?;
        let new = files.clone().map(create).collect::<Result<Vec<_>, Failed>>()?;
        let outputs: Vec<(usize, &NewFile)> = own.iter().copied().zip(&new).collect();
        context.begin("applying", files.clone().map(WeightFile::bytes).sum());
        let (applied, _) = write_weights(&OfFiles(&plan), None, &outputs, context)?;

        let results = files.clone().zip(&new).map(|(file, new)| file.with_layout_of(new.temporary_path(), new.file()));
        let results = results.collect::<Result<Vec<_>, _>>()?;
        context.begin("hashing the files", results.iter().map(WeightFile::bytes).sum());
        let pairs: Vec<(&WeightFile, &WeightFile)> = files.zip(&results).collect();
        let written = |(base, result): &(&WeightFile, &WeightFile)| -> Result<Written, Cancelled> {
            let digest = |tensor: Tensor<'_>| match applied.digests.get(&tensor.info.name) {
                Some(known) => Ok(*known),
                None => tensor.digest(context),
            };
            let content = result.content_digest(|info| digest(Tensor { file: result, file_index: 0, info }))?;
            let sha256 = |file: &WeightFile| Ok::<_, Cancelled>(file.sha256(context)?.to_string());
            let logged = if self.log { Some([sha256(base)?, sha256(result)?]) } else { None };
            Ok(Written { name: base.name(), bytes: result.bytes(), content, logged })
        };
        let written = pairs.par_iter().map(written).collect::<Result<Vec<_>, Cancelled>>();
        self.base.unchanged()?;
        let files = written?;
        drop(results);
        new.into_iter().try_for_each(NewFile::commit)?;
        let Applied { edited, digests, .. } = applied;
        let receipt = Receipt { run, shard, added: plan.is_added(), edited, files, digests };
        write_file(&path, &receipt.to_bytes()?, Existing::Replace)?;
        Ok(receipt.done(folder, false))
    }

    /// Makes the directory of the result, if what is on the disk is what all shards wrote, and what the patch declares. `beside` is the folder of
    /// the files beside the base's weights, if the base is elsewhere. After a call that was killed when the result had its name, it
    /// compares the result and removes what is left.
    ///
    /// Reads the result once; twice on disks without links, where files are copied.
    ///
    /// # Errors
    /// [`PartFault`]: shards that are missing, or of another run; files that changed; [`Refusal::DeclaredDigest`]; outputs.
    pub fn finish(&self, beside: Option<&Path>, context: &Context<'_>) -> Result<Done, Error> {
        let folder = self.folder();
        let is_there = self.output.is_dir() && folder.is_dir() && !same_file(self.output, self.base.path());
        if !is_there {
            self.refuse_output()?;
        }
        let receipts = self.receipts(&folder)?;
        let written: BTreeMap<&str, &Written> =
            receipts.iter().flat_map(|receipt| &receipt.files).map(|file| (&file.name[..], file)).collect();
        let place = if is_there { self.output } else { &folder };
        let found = compare(self.base, &receipts, place, context);
        // Another directory of this name is somebody else's.
        let (result, digests) =
            if is_there { found.or_else(|error| self.refuse_output().and(Err(error)))? } else { found? };
        let edited: BTreeMap<String, Digest> = receipts.iter().flat_map(|receipt| receipt.digests.clone()).collect();
        let mut applied = Applied {
            edited: receipts.iter().map(|receipt| receipt.edited).sum(),
            tensors: edited.len(),
            digests: edited,
            ..Applied::default()
        };
        let added = receipts.iter().any(|receipt| receipt.added);
        let mut is_reference = false;
        if !added && self.options.check == Check::Full {
            let plan = Plan::of_own_base(self.base, self.edits, self.options.prefix.as_ref());
            applied.verified = plan.compare_declared(&digests)?;
            is_reference = is_reference_of(&plan, &result, &Applied { digests, ..Applied::default() }, context)?;
        }
        drop(result);

        if !is_there {
            let new = NewDirectory::create(self.output)?;
            let mut is_copied = false;
            for file in self.base.files() {
                let (from, to) = (folder.join(file.name()), new.temporary_path().join(file.name()));
                // The folder is beside the result, and so on its disk; not every disk has links.
                let put = std::fs::hard_link(&from, &to).or_else(|_| {
                    is_copied = true;
                    std::fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all())
                });
                put.map_err(|e| Failed::io("write", &to, e).inside(self.output))?;
            }
            if is_copied {
                compare(self.base, &receipts, new.temporary_path(), context)?;
            }
            let not_carried = carry_along(self.base, beside, new.temporary_path())?;
            (applied.left_behind, applied.unreadable) = (not_carried.weights, not_carried.unreadable);
            if self.log
                && let Some(log) = self.log_with_step(beside, &written)?
            {
                let to = new.temporary_path().join(history::FILE_NAME);
                write_file(&to, &log, Existing::Replace).map_err(|failed| failed.inside(self.output))?;
            }
            new.commit()?;
        }
        // The result is complete. What stays behind is only in the way.
        let _ = std::fs::remove_dir_all(&folder);
        Ok(Done { applied, is_reference, added, undo: None })
    }

    /// The folder where the files are gathered.
    fn folder(&self) -> PathBuf {
        let mut name = self.output.file_name().unwrap_or_default().to_owned();
        name.push(".shards");
        self.output.with_file_name(name)
    }

    fn refuse_output(&self) -> Result<(), Error> {
        if same_file(self.output, self.base.path()) {
            return Err(Refusal::SameFile { path: self.output.to_owned() }.into());
        }
        Ok(check_new_directory(self.output)?)
    }

    /// The digest of all that decides the bytes of the result but the base's tensors.
    fn run(&self, shards: u32) -> Result<Digest, PartFault> {
        let patch = |edit: &Edit| {
            let bits = edit.kind.alpha().map(|alpha| alpha.value().to_bits());
            (edit.patch.id(), edit.patch.chosen().cloned(), edit.kind.label(), bits)
        };
        let patches: Vec<_> = self.edits.iter().map(patch).collect();
        let headers: Vec<Vec<u8>> = self.base.files().iter().map(|file| file.header().to_vec()).collect();
        // Where the files are is no part of it: a base may be read from several places.
        let decides = (shards, patches, self.options, self.log, &self.files.files, headers);
        let bytes = postcard::to_allocvec(&decides)
            .map_err(|e| PartFault::Malformed { path: "the new receipt".into(), reason: e.to_string() })?;
        Ok(Digest::sha256(&bytes))
    }

    /// The edits of the tensors in the files with these indices, and of those whose pruning masks are there.
    fn edits_of(&self, own: &[usize], context: &Context<'_>) -> Result<Vec<Edit>, Error> {
        let prefix = self.options.prefix.as_ref();
        let is_own = |tensor: Option<Tensor<'_>>| tensor.is_some_and(|tensor| own.contains(&tensor.file_index));
        let keeps = |entry: &TensorEntry| {
            let name = prefix.map_or_else(|| entry.name.clone(), |prefix: &PrefixMap| prefix.apply(&entry.name));
            // A tensor that the base does not have is missed by every shard.
            self.base.tensor(&name).is_none()
                || is_own(self.base.tensor(&name))
                || is_own(self.base.companion_mask(&name))
        };
        let edit = |edit: &Edit| -> Result<Edit, Error> {
            Ok(Edit { patch: choose_entries(edit.patch.clone(), keeps, context)?, kind: edit.kind })
        };
        self.edits.iter().map(edit).collect()
    }

    /// The receipts of all shards of this run.
    fn receipts(&self, folder: &Path) -> Result<Vec<Receipt>, Error> {
        let mut receipts: BTreeMap<u32, Receipt> = BTreeMap::new();
        let mut of = 0;
        for path in receipts_in(folder)? {
            let receipt = Receipt::open(&path)?;
            let shard = receipt.shard;
            if Shard::new(shard.number(), shard.of()).is_none() {
                let reason = format!("there is no {shard}");
                return Err(PartFault::Malformed { path, reason }.into());
            }
            if receipt.run != self.run(shard.of())? {
                return Err(PartFault::OtherRun { path }.into());
            }
            if of != 0 && of != shard.of() {
                return Err(PartFault::OtherRun { path }.into());
            }
            of = shard.of();
            receipts.insert(shard.number(), receipt);
        }
        let shards: Vec<u32> = (1..=of.max(1)).filter(|number| !receipts.contains_key(number)).collect();
        if !shards.is_empty() {
            return Err(PartFault::Missing { shards, of: of.max(1) }.into());
        }
        Ok(receipts.into_values().collect())
    }

    /// The bytes of the log of the result.
    fn log_with_step(
        &self,
        beside: Option<&Path>,
        written: &BTreeMap<&str, &Written>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let history = match beside {
            Some(folder) => Some(History::read(folder.join(history::FILE_NAME))?),
            None => History::of(self.base)?,
        };
        let Some(mut history) = history else { return Ok(None) };
        let digests = |at: usize| -> Digests {
            let logged = |file: &&Written| file.logged.as_ref().map(|both| (file.name.clone(), both[at].clone()));
            written.values().filter_map(logged).collect()
        };
        let patches = self.edits.iter().map(|edit: &Edit| AppliedPatch::new(&edit.patch, edit.kind)).collect();
        let source = self.base.source().map(str::to_owned);
        history.steps.push(Step::new(patches, source, digests(0), digests(1), None));
        Ok(Some(history.to_bytes()?))
    }
}

/// Compares the weight files of a result that are in `place` with what the shards wrote, and returns them with the digests of all tensors.
///
/// # Errors
/// [`PartFault::OtherFile`]; as [`Checkpoint::open`]; cancellation.
fn compare(
    base: &Checkpoint,
    receipts: &[Receipt],
    place: &Path,
    context: &Context<'_>,
) -> Result<(Checkpoint, BTreeMap<String, Digest>), Error> {
    let paths: Vec<PathBuf> = base.files().iter().map(|file| place.join(file.name())).collect();
    // A link would become a part of the result, and what it leads to might not.
    let is_link = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|found| !found.is_file());
    if let Some(link) = paths.iter().find(is_link) {
        let reason = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not the file that a shard wrote");
        return Err(Error::io("open", link, reason));
    }
    let result = Checkpoint::open_files(place, Layout::Directory { index: None }, &paths)?;
    context.begin("hashing the result", result.bytes());
    let tensors: Vec<Tensor<'_>> = result.tensors().collect();
    let digest = |tensor: &Tensor<'_>| Ok((tensor.info.name.clone(), tensor.digest(context)?));
    let digests: BTreeMap<String, Digest> = tensors.par_iter().map(digest).collect::<Result<_, Cancelled>>()?;
    let contents = of_files(&result, &digests, context)?;
    for receipt in receipts {
        let other = |path: &Path| PartFault::OtherFile { path: path.to_owned(), shard: receipt.shard.number() };
        for (name, expected) in &receipt.digests {
            if digests.get(name) != Some(expected) {
                return Err(other(result.tensor(name).map_or(place, |tensor| tensor.file.path())).into());
            }
        }
    }
    for (file, content) in result.files().iter().zip(&contents) {
        let name = file.name();
        let wrote = receipts.iter().find_map(|receipt| {
            receipt.files.iter().find(|written| written.name == name).map(|written| (receipt.shard, written.content))
        });
        match wrote {
            Some((_, expected)) if expected == *content => {}
            Some((shard, _)) => {
                return Err(PartFault::OtherFile { path: place.join(name), shard: shard.number() }.into());
            }
            None => {
                let reason = format!("no receipt has {name:?}");
                return Err(PartFault::Malformed { path: place.to_owned(), reason }.into());
            }
        }
    }
    result.unchanged()?;
    Ok((result, digests))
}

impl Receipt {
    fn open(path: &Path) -> Result<Self, Error> {
        let read = input::open_any(path).and_then(sealed::read);
        let bytes = read.map_err(|error| Error::io("read", path, error))?;
        Ok(sealed::open(MAGIC, &bytes).map_err(|broken| PartFault::broken(path, broken))?)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, PartFault> {
        sealed::seal(MAGIC, self).map_err(|reason| PartFault::Malformed { path: "the new receipt".into(), reason })
    }

    /// Whether its files are where they were written. What is in them is looked at by [`InShards::finish`].
    fn is_kept(&self, folder: &Path) -> bool {
        let is_kept = |file: &Written| {
            std::fs::metadata(folder.join(&file.name)).is_ok_and(|found| found.is_file() && found.len() == file.bytes)
        };
        self.files.iter().all(is_kept)
    }

    fn done(&self, folder: PathBuf, before: bool) -> ShardDone {
        ShardDone { before, files: self.files.len(), edited: self.edited, added: self.added, folder }
    }
}

/// The receipts in a folder, which need not be there, in the order of their names.
fn receipts_in(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |e| Error::io("list", folder, e);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let paths = entries.map(|entry| Ok(entry.map_err(io)?.path())).collect::<Result<Vec<_>, Error>>()?;
    let is_receipt = |path: &PathBuf| path.extension().is_some_and(|extension| extension == RECEIPT_EXTENSION);
    let mut receipts: Vec<PathBuf> = paths.into_iter().filter(is_receipt).collect();
    receipts.sort();
    Ok(receipts)
}

/// The part of a plan whose tensors are in the files of a shard. What the patch declares of its result is compared by
/// [`InShards::finish`], unless it is declared of these tensors alone.
struct OfFiles<'p, 'a>(&'p Plan<'a>);

impl Rewrite for OfFiles<'_, '_> {
    fn base(&self) -> &Checkpoint {
        Rewrite::base(self.0)
    }

    fn changes(&self, tensor: &str) -> bool {
        self.0.changes(tensor)
    }

    fn parts(&self, tensor: Tensor<'_>) -> Vec<Range<u64>> {
        self.0.parts(tensor)
    }

    fn rewrite(
        &self,
        tensor: Tensor<'_>,
        part: Range<u64>,
        each: &mut EachPart<'_>,
        context: &Context<'_>,
    ) -> Result<u64, Error> {
        self.0.rewrite(tensor, part, each, context)
    }

    fn compare_declared(&self, digests: &BTreeMap<String, Digest>) -> Result<bool, Error> {
        let has_all = self.0.changed().all(|name| digests.contains_key(name));
        if has_all { self.0.compare_declared(digests) } else { Ok(false) }
    }
}
