//! The integration tests, one binary.

mod support; // scratch directories, checkpoints made by the element, runs of the command

mod agreement; // verify finds what the published code finds, item by item
mod commands; // flags, edge cases and exit codes of each command
mod goldens; // published numbers
mod hostile; // small files that would cost a lot
mod interop; // spec/decode.py gives the same bytes and breaks the same rules
mod layers; // modules use only those before them
#[cfg(feature = "verify")]
mod models; // our graphs against transformers
mod mutation; // every bit flipped, every prefix: an error or the same result
mod properties; // diff then apply, apply then undo, on random pairs
mod stories; // what a person does, on real files
mod vectors; // fixtures/vectors, by discovery
