//! Failures on the terminal, and the exit codes of answers.

use super::terminal::Terminal;
use super::{Answer, advice};
use crate::durable::output_was_printed;
use crate::error::{Error, Reason};
use crate::report::table::{printable, printable_json};
use crate::source::Origin;
use anstyle::{AnsiColor, Style};
use clap::error::ContextValue;
use std::cell::RefCell;
use std::io::Write;
use std::path::Path;

pub const DONE: u8 = 0;
pub const NO: u8 = 1;
pub const USAGE: u8 = 2;

/// Why a command ended without an answer.
#[derive(Debug)]
pub enum Failure {
    /// An error of the library.
    Library(Error),
    /// Arguments that cannot be combined.
    Usage { message: String, help: Option<String> },
    /// The reader of standard output closed it, which is not a failure.
    ClosedPipe,
    /// Output could not be written.
    Output(std::io::Error),
    /// Output could not be written after the command had made its changes.
    OutputAfter(std::io::Error),
}

impl Failure {
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: Some(help.into()) }
    }
}

/// The outcome of printing after the command has made its changes.
pub fn after(outcome: Result<(), Failure>) -> Result<(), Failure> {
    outcome.map_err(|failure| match failure {
        Failure::Output(error) => Failure::OutputAfter(error),
        failure => failure,
    })
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Library(error.into())
    }
}

/// Writes a line to standard output, or to standard error if an output named `-` uses standard output. Control characters are escaped,
/// so that names of files and arguments cannot control the terminal.
pub fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    write(format_args!("{}", printable(&line.to_string())))
}

/// Writes a line in a style.
pub fn print_styled(style: Style, line: &str) -> Result<(), Failure> {
    write(format_args!("{style}{}{style:#}", printable(line)))
}

/// A path as text for JSON. Bytes that are not UTF-8 are replaced.
pub fn json_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The answer of a command that wrote something for another program.
#[derive(Debug, serde::Serialize)]
pub struct Written<T> {
    /// The file or directory.
    pub path: String,
    /// What is in it.
    #[serde(flatten)]
    pub content: T,
}

/// The version of the answers' keys, `docs/json.md`. It changes if a key goes or means something else, and not if one is added.
const SCHEMA: u32 = 1;

#[derive(serde::Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    /// What was fetched for this answer.
    sources: Vec<Origin>,
    #[serde(flatten)]
    answer: &'a T,
}

/// Writes a struct or map as JSON to standard output, with the version of its keys and what was fetched before them.
pub fn print_json(terminal: &Terminal, answer: &impl serde::Serialize) -> Result<(), Failure> {
    let sources = terminal.sources().origins();
    let text = serde_json::to_string_pretty(&Versioned { schema: SCHEMA, sources, answer })
        .map_err(|error| Failure::Output(error.into()))?;
    write(format_args!("{}", printable_json(&text)))
}

/// Writes a text of this program for other programs to standard output, as it is.
pub fn print_text(text: &[u8]) -> Result<(), Failure> {
    if keep(|kept| kept.push_str(&String::from_utf8_lossy(text))) {
        return Ok(());
    }
    let mut out = std::io::stdout();
    out.write_all(text).and_then(|()| out.flush()).map_err(not_written)
}

thread_local! {
    /// What this thread has printed, if it is kept.
    static KEPT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`, and returns with its outcome what it prints, which does not appear. Not for work that prints on other threads.
pub fn kept<T>(work: impl FnOnce() -> T) -> (T, String) {
    // A thread that waits within this work may begin other such work, whose text is its own.
    let outer = Outer(KEPT.replace(Some(String::new())));
    let outcome = work();
    let text = KEPT.take().unwrap_or_default();
    drop(outer);
    (outcome, text)
}

/// What was kept before, which is kept again afterwards, also after a panic.
struct Outer(Option<String>);

impl Drop for Outer {
    fn drop(&mut self) {
        KEPT.set(self.0.take());
    }
}

/// Adds to what this thread has printed, if it is kept.
fn keep(add: impl FnOnce(&mut String)) -> bool {
    KEPT.with_borrow_mut(|kept| kept.as_mut().map(add).is_some())
}

fn write(line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    if keep(|kept| kept.extend([&anstream::adapter::strip_str(&line.to_string()).to_string(), "\n"])) {
        return Ok(());
    }
    let written = match output_was_printed() {
        true => writeln!(anstream::stderr(), "{line}"),
        false => writeln!(anstream::stdout(), "{line}"),
    };
    written.map_err(not_written)
}

fn not_written(error: std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::Output(error),
    }
}

/// Reports an error in the arguments, or prints the answer to `--help` or `--version`.
pub fn usage(error: clap::Error) -> u8 {
    if !error.use_stderr() {
        return match error.print().and_then(|()| std::io::stdout().flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => from(Err(Failure::Output(error)), |_| None),
            _ => DONE,
        };
    }
    let text = usage_text(error);
    let red = AnsiColor::Red.on_default().bold();
    let mut err = anstream::stderr();
    for (at, line) in text.lines().enumerate() {
        let _ = match line.strip_prefix("error: ").filter(|_| at == 0) {
            Some(message) => writeln!(err, "{red}error{red:#}: {message}"),
            None => writeln!(err, "{line}"),
        };
    }
    USAGE
}

/// What is wrong with the arguments, in several lines.
pub fn usage_text(mut error: clap::Error) -> String {
    // The message repeats arguments. They are escaped one by one, because the message itself has several lines.
    let shown: Vec<_> = error.context().map(|(kind, value)| (kind, printable_value(value))).collect();
    for (kind, value) in shown {
        error.insert(kind, value);
    }
    let text = error.render().to_string();
    text.trim_end().lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn printable_value(value: &ContextValue) -> ContextValue {
    match value {
        ContextValue::String(text) => ContextValue::String(printable(text)),
        ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(|text| printable(text)).collect()),
        ContextValue::StyledStr(text) => ContextValue::StyledStr(printable(&text.to_string()).into()),
        ContextValue::StyledStrs(texts) => {
            ContextValue::StyledStrs(texts.iter().map(|text| printable(&text.to_string()).into()).collect())
        }
        other => other.clone(),
    }
}

/// Reports a failure and returns the exit code of the outcome. `order` gives the usage line of the command, if a path is one
/// of the arguments that may have been given in the wrong order.
pub fn from(outcome: Result<Answer, Failure>, order: impl FnOnce(&Path) -> Option<String>) -> u8 {
    match outcome {
        Ok(Answer::Yes) | Err(Failure::ClosedPipe) => DONE,
        Ok(Answer::No) => NO,
        Err(Failure::Library(error)) => {
            let order = match error.reason() {
                Reason::Unexpected { path, unexpected } if unexpected.is_swapped() => order(path),
                _ => None,
            };
            let help = order.map(|usage| format!("the order is `{usage}`")).or_else(|| advice::help(&error));
            report(&message(&error), &error.details(), help.as_deref());
            advice::exit_code(error.kind())
        }
        Err(Failure::Usage { message, help }) => {
            report(&message, &[], help.as_deref());
            USAGE
        }
        Err(Failure::Output(error)) => {
            report(&format!("write standard output: {error}"), &[], None);
            3
        }
        Err(Failure::OutputAfter(error)) => {
            report(&format!("all is done, and it cannot be said: write standard output: {error}"), &[], None);
            3
        }
    }
}

/// The messages of an error and its sources, without repetitions.
pub fn message(error: &Error) -> String {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.map(|error| error.to_string()).collect::<Vec<_>>().join(": ")
}

fn report(message: &str, details: &[String], help: Option<&str>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_within_other_work_is_its_own() {
        let (inner, outer) = kept(|| {
            print("one").unwrap();
            let inner = kept(|| print("two").unwrap()).1;
            let panicked = std::panic::catch_unwind(|| kept(|| panic!("on purpose")));
            assert!(panicked.is_err());
            print_text(b"three\n").unwrap();
            inner
        });
        assert_eq!((inner.as_str(), outer.as_str()), ("two\n", "one\nthree\n"));
    }
}
