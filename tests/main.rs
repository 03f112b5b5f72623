//! The integration tests, one binary.

#[macro_use]
extern crate lcepatch_test_attribute; // `#[test]`

mod harness; // runs them, and ignores with a reason what cannot run here
mod support; // scratch directories, checkpoints made by the element, runs of the command

mod agreement; // verify finds what the published code finds, item by item
mod benchmarks; // verify finds what the published definitions give, on data of our own
mod commands; // flags, edge cases and exit codes of each command
mod crash; // a fault or a death at every call that changes the disk
mod dependencies; // what the packages are built from
mod documentation; // every command line in README and docs runs
mod goldens; // published numbers
mod hostile; // small files that would cost a lot
#[cfg(feature = "net")]
mod hub; // repositories of a hub, over loopback
mod interop; // spec/decode.py gives the same bytes and breaks the same rules
mod layers; // modules use only those before them
mod lies; // metadata that lies, over fixtures/vectors
#[cfg(feature = "verify")]
mod models; // our graphs against transformers
mod mutation; // every bit flipped, every prefix: an error or the same result
mod neighbours; // what PEFT and torch make of exports, and what they write
mod properties; // diff then apply, apply then undo, on random pairs
mod published; // fixtures/smollm2: a patch of a real model, and its card
mod races; // edits in place on many threads, of several processes
mod released; // fixtures/released: what the release wrote gives the same bytes
#[cfg(feature = "net")]
mod s3; // objects of servers that speak like S3
mod sessions; // help texts and whole sessions, line by line
mod stories; // what a person does, on real files
mod surface; // the names that the library shows
mod vectors; // fixtures/vectors, by discovery

fn main() -> std::process::ExitCode {
    // A process that a test starts to end it in the middle.
    #[cfg(feature = "net")]
    if let Ok(name) = std::env::var("LCEPATCH_TEST_FETCH") {
        return hub::download::fetch_alone(&name);
    }
    harness::run().exit_code()
}
