//! Failures on the terminal, and exit codes (the table in the README).

use super::Answer;
use anstyle::{AnsiColor, Style};
use lcepatch::error::Error;
use std::io::Write;
use std::process::ExitCode;

pub const DONE: u8 = 0;
pub const NO: u8 = 1;
pub const USAGE: u8 = 2;

/// Why a command ended without an answer.
#[derive(Debug)]
pub enum Failure {
    /// The library refused.
    Library(Error),
    /// Arguments that do not go together.
    Usage { message: String, help: Option<String> },
    /// The reader of our output went away, which is no failure.
    ClosedPipe,
    /// Output could not be written.
    Output(std::io::Error),
}

impl Failure {
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: Some(help.into()) }
    }
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Library(error.into())
    }
}

/// Writes to standard output.
pub fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(anstream::stdout(), "{text}").map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Output(error),
    })
}

/// Writes a value as JSON to standard output.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
    print(text)
}

/// The exit code of an outcome, after its failure has been reported.
pub fn from(outcome: Result<Answer, Failure>) -> ExitCode {
    let code = match outcome {
        Ok(Answer::Yes) | Err(Failure::ClosedPipe) => DONE,
        Ok(Answer::No) => NO,
        Err(Failure::Library(error)) => {
            report(&error.to_string(), &error.details(), error.help().as_deref());
            error.exit_code()
        }
        Err(Failure::Usage { message, help }) => {
            report(&message, &[], help.as_deref());
            USAGE
        }
        Err(Failure::Output(error)) => {
            report(&format!("write standard output: {error}"), &[], None);
            3
        }
    };
    ExitCode::from(code)
}

fn report(message: &str, details: &[String], help: Option<&str>) {
    use lcepatch::report::table::printable;
    let (red, bold) = (AnsiColor::Red.on_default().bold(), Style::new().bold());
    let mut err = anstream::stderr();
    let _ = writeln!(err, "{red}error{red:#}: {}", printable(message));
    for detail in details {
        let _ = writeln!(err, "  {}", printable(detail));
    }
    if let Some(help) = help {
        let _ = writeln!(err, "{bold}help{bold:#}: {}", printable(help));
    }
}
