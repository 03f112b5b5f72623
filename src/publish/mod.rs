//! Patches in places where others find them: a repository of a hub, a directory, objects in S3.
//!
//! Beside the patches a place has their signatures, an index of them (`patches.json`), and a model card. Whatever the index says, the
//! header of a patch decides: every patch that is listed, found or applied is opened first.

#[cfg(feature = "net")]
mod find;
#[cfg(feature = "net")]
mod index;
#[cfg(feature = "net")]
mod push;
#[cfg(feature = "net")]
mod shelf;

#[cfg(feature = "net")]
pub(crate) use find::{Found, find};
#[cfg(feature = "net")]
pub(crate) use push::{Change, NewPatch, Plan, Planned, Pushed, push};
#[cfg(feature = "net")]
pub(crate) use shelf::{Listed, Shelf};
