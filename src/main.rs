//! The `lcepatch` command.

fn main() -> std::process::ExitCode {
    lcepatch::cli::run()
}
