//! Puts patches into a place, with all that goes beside them.

use super::card::{self, Card, Described};
use super::index::{self, Index, Unread};
use super::shelf::{is_patch_name, signature_name};
use super::{Listed, Shelf};
use crate::check::intact;
use crate::context::Context;
use crate::digest::Digest;
use crate::durable::Existing;
use crate::error::{Error, PublishFault};
use crate::input::{self, Meant};
use crate::patch::Patch;
use crate::signature::{beside, open_signed};
use lcepatch_hub::Fault;
use lcepatch_hub::place::{Content, LocalFile, NewFile, Place, PlaceFile, Published};
use serde::Serialize;
use sha2::Digest as _;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file that keeps an adapter, which a place of patches must not have.
const ADAPTER: &str = "adapter_config.json";
/// Tells git how to keep and to show patches.
const ATTRIBUTES: (&str, &str) = (".gitattributes", "*.lcepatch filter=lfs diff=lcepatch merge=lfs -text");
/// The largest signature, in bytes.
const SIGNATURE_BYTES_MAX: u64 = 64 << 10;
/// How often a place is read again because others published meanwhile.
const TRIES: usize = 5;

/// A patch to publish.
#[derive(Debug)]
pub(crate) struct NewPatch {
    /// Its file.
    path: PathBuf,
    /// Its name in the place.
    file: String,
    patch: Patch,
    /// SHA-256 of its file.
    sha256: Digest,
    /// The signature beside it.
    signature: Option<Vec<u8>>,
}

impl NewPatch {
    /// Opens the patch at `path` and checks all of it; a signature that is beside it must be of it.
    ///
    /// # Errors
    /// [`PublishFault::Name`]; those of a patch that is not intact, and of a signature that is not of it; cancellation.
    pub fn open(path: &Path, context: &Context<'_>) -> Result<Self, Error> {
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_patch_name(name));
        let patch = Patch::open(path)?;
        let file = name.ok_or_else(|| PublishFault::Name { path: path.to_owned() })?.to_owned();
        let sig = beside(path);
        let signature = match sig.symlink_metadata() {
            Ok(_) => {
                open_signed(path, &sig, context)?;
                let open = input::open(&sig, Meant::Signature).map_err(|e| Error::io("open", &sig, e))?;
                let mut bytes = Vec::new();
                open.take(SIGNATURE_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| Error::io("read", &sig, e))?;
                Some(bytes)
            }
            Err(_) => None,
        };
        intact(&patch, context)?;
        let sha256 = sha256(&patch, context)?;
        Ok(Self { path: path.to_owned(), file, patch, sha256, signature })
    }

    /// Its name in the place.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// SHA-256 of all bytes of a patch, by which places list their files.
fn sha256(patch: &Patch, context: &Context<'_>) -> Result<Digest, Error> {
    context.begin("hashing the patch", patch.file_bytes());
    let mut hasher = sha2::Sha256::new();
    for piece in patch.pieces() {
        let piece = piece.map_err(|e| Error::io("read", patch.name(), e))?;
        hasher.update(&piece);
        context.advance(piece.len() as u64)?;
    }
    Ok(Digest(hasher.finalize().into()))
}

/// What a file that is sent does to the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// There is no such file yet.
    New,
    /// It takes the place of another one.
    Changed,
}

/// A file that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Planned {
    /// Its path in the place.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it does to the place.
    pub change: Change,
}

/// What is sent to a place. Nothing, if the place has all of it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The files, in the order in which they are written.
    pub planned: Vec<Planned>,
    /// What is not as it should be in the place, and no reason to stop.
    pub notes: Vec<String>,
    files: Vec<NewFile>,
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// What was sent.
    pub plan: Plan,
    /// The new state of the place.
    pub published: Published,
}

impl Plan {
    /// Compares what `place` should have, once it has these patches, with what it has.
    ///
    /// # Errors
    /// [`PublishFault`]; those of the place; cancellation.
    pub fn new(
        place: &dyn Place,
        patches: &[NewPatch],
        existing: Existing,
        context: &Context<'_>,
    ) -> Result<Self, Error> {
        refuse_same_names(patches)?;
        if there(place, ADAPTER).is_some() {
            return Err(PublishFault::Adapter { place: place.name().to_owned() }.into());
        }
        let mut shelf = Shelf::read(place, context)?;
        if let Some(Err(Unread::Later(found))) = shelf.index {
            return Err(PublishFault::LaterIndex { place: place.name().to_owned(), found }.into());
        }
        let mut plan = Self::default();
        for new in patches {
            plan.add_patch(place, &mut shelf, new, existing, context)?;
        }
        // What the old index says of the patches does not matter any more.
        let is_left = |(file, _): &(String, String)| patches.iter().all(|new| new.file != *file);
        plan.notes = shelf.unreadable.iter().filter(|left| is_left(left)).map(|(_, why)| why.clone()).collect();
        if let Some(text) = with_line(&text(place, ATTRIBUTES.0, context)?.unwrap_or_default(), ATTRIBUTES.1) {
            plan.add_text(place, ATTRIBUTES.0, text.into_bytes(), context)?;
        }
        shelf.patches.sort_by(|a, b| a.file.cmp(&b.file));
        let described = shelf.patches.iter().map(|listed| Described { file: &listed.file, patch: &listed.patch });
        let described: Vec<_> = described.collect();
        for described in &described {
            plan.add_text(place, &described.figure_name(), described.figure().into_bytes(), context)?;
        }
        let readme = text(place, card::FILE_NAME, context)?.unwrap_or_default();
        let readme = card::renewed(&readme, &Card::new(&described));
        plan.add_text(place, card::FILE_NAME, readme.into_bytes(), context)?;
        plan.add_text(place, index::FILE_NAME, Index::of(&shelf.patches).to_bytes(), context)?;
        Ok(plan)
    }

    /// Whether the place has all of it already.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds a patch and its signature, unless they are there; changes the shelf to what it will be.
    fn add_patch(
        &mut self,
        place: &dyn Place,
        shelf: &mut Shelf,
        new: &NewPatch,
        existing: Existing,
        context: &Context<'_>,
    ) -> Result<(), Error> {
        let NewPatch { path, file, patch, sha256, signature } = new;
        let signature_name = signature_name(file);
        let listed = shelf.patches.iter().position(|listed| listed.file == *file);
        let found = listed.map(|at| shelf.patches[at].patch.id());
        let same_bytes = |there: &PlaceFile| {
            // Where a place lists no digests, what is there may be damaged, and it is sent again if that is asked for.
            let listed = there.sha256.as_ref().map(|sha| *sha == sha256.to_string());
            there.bytes == patch.file_bytes() && listed.unwrap_or(existing == Existing::Keep)
        };
        let is_same = found == Some(patch.id()) && there(place, file).is_some_and(same_bytes);
        let place_name = || place.name().to_owned();
        if !is_same && there(place, file).is_some() {
            if existing == Existing::Keep && found != Some(patch.id()) {
                let (place, file, given) = (place_name(), file.clone(), patch.id());
                return Err(PublishFault::OtherPatch { place, file, found, given }.into());
            }
            if signature.is_none() && there(place, &signature_name).is_some() {
                return Err(PublishFault::OldSignature { place: place_name(), file: file.clone() }.into());
            }
        }
        if !is_same {
            let from = LocalFile { path: path.clone(), sha256: sha256.to_string() };
            self.add(place, file, patch.file_bytes(), Content::File(from));
        }
        if let Some(bytes) = signature {
            self.add_text(place, &signature_name, bytes.clone(), context)?;
        }
        let signed = signature.is_some() || there(place, &signature_name).is_some();
        let new = Listed { file: file.clone(), patch: patch.clone(), signed };
        match listed {
            Some(at) => shelf.patches[at] = new,
            None => shelf.patches.push(new),
        }
        Ok(())
    }

    /// Adds a small file, unless it is there with this content.
    fn add_text(&mut self, place: &dyn Place, file: &str, bytes: Vec<u8>, context: &Context<'_>) -> Result<(), Error> {
        let length = bytes.len() as u64;
        if there(place, file).is_some_and(|there| there.bytes == length) && place.read(file, length, context)? == bytes
        {
            return Ok(());
        }
        self.add(place, file, length, Content::Bytes(bytes));
        Ok(())
    }

    fn add(&mut self, place: &dyn Place, file: &str, bytes: u64, content: Content) {
        let change = if there(place, file).is_some() { Change::Changed } else { Change::New };
        self.planned.push(Planned { file: file.to_owned(), bytes, change });
        self.files.push(NewFile { path: file.to_owned(), content });
    }
}

/// Publishes what `plan` says in `place`. If others published there meanwhile, `open` opens it again, and what they did stays.
///
/// # Errors
/// As [`Plan::new`]; those of the place.
pub(crate) fn push(
    (mut place, mut plan): (Box<dyn Place>, Plan),
    patches: &[NewPatch],
    existing: Existing,
    message: &str,
    open: impl Fn() -> Result<Box<dyn Place>, Error>,
    context: &Context<'_>,
) -> Result<Pushed, Error> {
    let mut tries_left = TRIES;
    loop {
        let patches_bytes = plan.planned.iter().filter(|file| is_patch_name(&file.file)).map(|file| file.bytes).sum();
        context.begin("publishing", patches_bytes);
        tries_left -= 1;
        match place.publish(&plan.files, message, context) {
            Ok(published) => return Ok(Pushed { plan, published }),
            Err(Fault::Moved { .. }) if tries_left > 0 => {
                place = open()?;
                plan = Plan::new(&*place, patches, existing, context)?;
                if plan.is_empty() {
                    let published = Published { commit: place.commit().map(str::to_owned), url: None };
                    return Ok(Pushed { plan, published });
                }
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

/// Refuses patches that would be one file of a place.
fn refuse_same_names(patches: &[NewPatch]) -> Result<(), PublishFault> {
    for (at, first) in patches.iter().enumerate() {
        // Some file systems take names for equal that differ in case.
        let is_same = |second: &&NewPatch| second.file.to_lowercase() == first.file.to_lowercase();
        if let Some(second) = patches[at + 1..].iter().find(is_same) {
            return Err(PublishFault::SameName { first: first.path.clone(), second: second.path.clone() });
        }
    }
    Ok(())
}

/// The file of a place with this path.
fn there<'a>(place: &'a dyn Place, path: &str) -> Option<&'a PlaceFile> {
    place.files().iter().find(|file| file.path == path)
}

/// The text of a file of a place; None if there is none.
fn text(place: &dyn Place, file: &str, context: &Context<'_>) -> Result<Option<String>, Error> {
    if there(place, file).is_none() {
        return Ok(None);
    }
    let not_text = |_| PublishFault::NotText { file: super::shelf::inside(place, file).display().to_string() };
    Ok(Some(String::from_utf8(place.read(file, card::TEXT_BYTES_MAX, context)?).map_err(not_text)?))
}

/// The text with one line more; None if it has the line.
fn with_line(text: &str, line: &str) -> Option<String> {
    if text.lines().any(|there| there.trim() == line) {
        return None;
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Some(format!("{text}{gap}{line}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_added_once() {
        assert_eq!(with_line("", "b").as_deref(), Some("b\n"));
        assert_eq!(with_line("a", "b").as_deref(), Some("a\nb\n"));
        assert_eq!(with_line("a\n", "b").as_deref(), Some("a\nb\n"));
        assert_eq!(with_line("a\r\nb\r\nc", "b"), None);
    }
}
