//! What a place holds: its patches, each opened, and its index.

use super::index::{self, Index, Unread};
use crate::context::Context;
use crate::error::{Error, PublishFault};
use crate::history::is_plain;
use crate::patch::Patch;
use crate::report::table::printable;
use lcepatch_hub::place::Place;
use rayon::prelude::*;
use std::path::PathBuf;

/// How the names of patches end.
pub(crate) const EXTENSION: &str = ".lcepatch";
/// How many patches a place may hold. Each is opened.
const PATCHES_MAX: usize = 4096;

/// A patch of a place.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Its file.
    pub file: String,
    /// Its header; blocks stay where they are until they are read.
    pub patch: Patch,
    /// Whether a signature is beside it.
    pub signed: bool,
}

/// The patches of a place.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// In the order of their names.
    pub patches: Vec<Listed>,
    /// The index, or why it is not used. None if there is none.
    pub index: Option<Result<Index, Unread>>,
    /// What the index says wrongly.
    pub contradictions: Vec<String>,
    /// The files that are named like patches and are none, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Whether a file of a place with this name is taken for a patch: it is in no folder, and its name shows as it is.
pub(crate) fn is_patch_name(name: &str) -> bool {
    let shows = printable(name) == name && !name.contains(['\\', '/', ':']);
    is_plain(name)
        && shows
        && name.len() > EXTENSION.len()
        && name.ends_with(EXTENSION)
        && !name.starts_with(['.', '-'])
}

/// The name of the signature of a patch.
pub(super) fn signature_name(patch: &str) -> String {
    format!("{patch}.sig")
}

impl Shelf {
    /// What is not as it should be, and no reason to stop.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.unreadable.iter().map(|(_, why)| &why[..]).chain(self.contradictions.iter().map(String::as_str))
    }

    /// Opens the patches of a place: reads the header of each, and the index.
    ///
    /// A file that is no patch, or an index that is wrong, is noted. The headers decide.
    ///
    /// # Errors
    /// Those of the place; [`PublishFault::TooMany`]; cancellation.
    pub fn read(place: &dyn Place, context: &Context<'_>) -> Result<Self, Error> {
        let has = |name: &str| place.files().iter().any(|file| file.path == name);
        let names: Vec<&str> =
            place.files().iter().map(|file| &file.path[..]).filter(|name| is_patch_name(name)).collect();
        if names.len() > PATCHES_MAX {
            let (place, patches) = (place.name().to_owned(), names.len());
            return Err(PublishFault::TooMany { place, patches, most: PATCHES_MAX }.into());
        }
        context.count("opening patches", names.len() as u64);
        let opened = names.par_iter().map(|name| {
            let source = place.open(name, context)?;
            context.advance(1)?;
            Ok((*name, Patch::from_source(&inside(place, name), source)))
        });
        let (mut patches, mut unreadable) = (Vec::new(), Vec::new());
        for (name, patch) in opened.collect::<Result<Vec<_>, Error>>()? {
            match patch.map_err(Error::from) {
                Ok(patch) => {
                    patches.push(Listed { file: name.to_owned(), patch, signed: has(&signature_name(name)) });
                }
                Err(error) if error.rule().is_some() => {
                    unreadable.push((name.to_owned(), format!("{error}; it is left out")))
                }
                Err(error) => return Err(error),
            }
        }
        let index = match has(index::FILE_NAME) {
            true => Some(Index::parse(&place.read(index::FILE_NAME, index::BYTES_MAX, context)?)),
            false => None,
        };
        let contradictions = match &index {
            Some(Ok(index)) => patches.iter().filter_map(|listed| index.contradiction(listed)).collect(),
            Some(Err(unread)) => vec![format!("{} of {} {unread}", index::FILE_NAME, place.name())],
            None => Vec::new(),
        };
        Ok(Self { patches, index, contradictions, unreadable })
    }
}

/// How messages name a file of a place.
pub(super) fn inside(place: &dyn Place, file: &str) -> PathBuf {
    PathBuf::from(place.name()).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_patches_are_plain_and_show_as_they_are() {
        for (name, is) in [
            ("p.lcepatch", true),
            ("größe v2.lcepatch", true),
            (".lcepatch", false),
            (".p.lcepatch", false),
            ("-p.lcepatch", false),
            ("p.lcepatch.sig", false),
            ("folder/p.lcepatch", false),
            ("..\\p.lcepatch", false),
            ("C:p.lcepatch", false),
            ("p\u{202e}.lcepatch", false),
            ("p\n.lcepatch", false),
        ] {
            assert_eq!(is_patch_name(name), is, "{name:?}");
        }
    }
}
