//! The `lcepatch` command: arguments to one library call, its result to text or JSON.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
