//! Repositories of a hub, over loopback: every failure that the hub can produce, downloads that are cut and continued, parts of files,
//! publishing, and one cache with Python.

mod commands;
pub mod download;
mod parts;
mod publish;
mod python;
mod refusals;
mod shards;
