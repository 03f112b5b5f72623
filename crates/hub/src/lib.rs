//! Files that are elsewhere: repositories of a model hub, web addresses, S3 objects.
//!
//! They are read in parts, or fetched into the cache that Python's `huggingface_hub` keeps on the same machine; and patches are
//! published there. What is in the files is for others to know.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(test)]
mod testing;

mod refusal;
mod fault;
mod address;
mod tag;
pub mod settings;
pub mod name;
pub mod notice;
pub mod request;
pub mod http;
mod listing;
mod cache;
mod client;
mod repository;
mod remote;
mod receive;
mod download;
pub mod place;
pub mod s3;
pub mod python_index;

pub use client::Client;
pub use fault::{Fault, Kind};
pub use listing::{Digest, RepoFile, checkpoint_files};
pub use refusal::Refusal;
pub use remote::{FRONT_BYTES, Ranged, RemoteFile};
pub use repository::{DEFAULT_REVISION, Snapshot};
