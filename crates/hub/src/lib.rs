//! Files that are elsewhere: repositories of a model hub, web addresses, S3 objects.
//!
//! They are read in parts, or fetched into the cache that Python's `huggingface_hub` keeps on the same machine; and patches are
//! published there. What is in the files is for others to know.

pub mod place;

mod fault;

pub use fault::Fault;
