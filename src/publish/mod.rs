//! Patches in places where others find them: a repository of a hub, a directory, objects in S3.
//!
//! Beside the patches a place has their signatures, an index of them (`patches.json`), and a model card. Whatever the index says, the
//! header of a patch decides: every patch that is listed, found or applied is opened first.

pub(crate) mod card;
#[cfg(feature = "net")]
mod chain;
#[cfg(feature = "net")]
mod find;
#[cfg(feature = "net")]
mod index;
#[cfg(feature = "net")]
mod pull;
#[cfg(feature = "net")]
mod push;
#[cfg(feature = "net")]
mod shelf;

#[cfg(feature = "net")]
pub(crate) use chain::{Way, chosen, leads_to_reference, way};
#[cfg(feature = "net")]
pub(crate) use find::{Found, find};
#[cfg(feature = "net")]
pub(crate) use pull::{apply_in_order, copy, scratch, squashed};
#[cfg(feature = "net")]
pub(crate) use push::{Change, NewPatch, Plan, Planned, Pushed, push};
#[cfg(feature = "net")]
pub(crate) use shelf::{Listed, Shelf};
