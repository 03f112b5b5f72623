//! The command for a program that contains it, such as the Python module: as a whole, or one answer at a time.

use super::config::Config;
use super::exit::{self, Failure};
use super::signature_argument::Required;
use super::terminal::Terminal;
use super::{Answer, Command, advice, configure, parse, patch_argument, run_command, run_words, show};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind};
use crate::patch::Patch;
use crate::report::{Kind, Stat, plot};
use crate::source::Parts;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// How this program is called, if not by the name of its file.
static ITSELF: OnceLock<Vec<OsString>> = OnceLock::new();

/// The program to call, and the arguments that come before all others.
///
/// # Errors
/// The system does not know the program's file.
pub(super) fn itself() -> std::io::Result<Vec<OsString>> {
    match ITSELF.get() {
        Some(itself) => Ok(itself.clone()),
        None => Ok(vec![std::env::current_exe()?.into()]),
    }
}

/// Runs the command in this process, as `lcepatch` with the arguments `words` would run, and returns its exit code. `itself` is how the
/// command calls itself. For programs that do nothing else: it handles signals, and prints.
pub fn main(words: Vec<OsString>, itself: Vec<OsString>) -> u8 {
    let _ = ITSELF.set(itself);
    let code = run_words([OsString::from("lcepatch")].into_iter().chain(words).collect());
    // The program's own end does not write what is left of a line.
    let _ = std::io::stdout().flush();
    code
}

/// What a command has answered.
#[derive(Debug)]
pub struct Answered {
    /// Whether the answer is yes, or all is done.
    pub yes: bool,
    /// What it prints.
    pub text: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// An error of the library.
    Library(Error),
    /// Arguments that are not understood, or do not go together.
    Usage {
        /// What is wrong with them.
        message: String,
        /// What to do.
        help: Option<String>,
    },
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Library(error) => Self::Library(error),
            Failure::Usage { message, help } => Self::Usage { message, help },
            // Nothing is written to standard output.
            Failure::ClosedPipe => Self::Usage { message: "standard output is closed".to_owned(), help: None },
            Failure::Output(error) | Failure::OutputAfter(error) => {
                Self::Library(Error::io("write", Path::new("standard output"), error))
            }
        }
    }
}

impl<E: Into<Error>> From<E> for Unanswered {
    fn from(error: E) -> Self {
        Self::Library(error.into())
    }
}

/// A program in which commands are run and names are looked up. Nothing is printed, and no signal is handled.
pub struct Program {
    /// Receives what a person should know, on any thread.
    say: Arc<dyn Fn(&str) + Send + Sync>,
    interrupted: Arc<AtomicBool>,
}

impl Program {
    /// `say` receives what a person should know, on any thread. Work ends soon after `interrupted` becomes true.
    pub fn new(say: Arc<dyn Fn(&str) + Send + Sync>, interrupted: Arc<AtomicBool>) -> Self {
        Self { say, interrupted }
    }

    /// Runs the command with the arguments `words`, and returns what it prints. All commands that print from one thread can be run.
    ///
    /// # Errors
    /// The command's failure.
    pub fn answer(&self, words: Vec<OsString>) -> Result<Answered, Unanswered> {
        let words = [OsString::from("lcepatch")].into_iter().chain(words).collect();
        let (mut arguments, _) =
            parse(words).map_err(|error| Unanswered::Usage { message: exit::usage_text(error), help: None })?;
        let config = configure(&mut arguments)?;
        #[cfg(feature = "net")]
        let allow_http = arguments.allow_http;
        #[cfg(not(feature = "net"))]
        let allow_http = false;
        let terminal = self.terminal(config.endpoint, allow_http);
        let command: Command = arguments.command;
        let (outcome, text) = exit::kept(|| run_command(command, &terminal));
        Ok(Answered { yes: outcome? == Answer::Yes, text })
    }

    /// Opens a patch by any name that the command knows. Of one that is elsewhere, only the header is fetched for now, unless a signature
    /// by a key in a list of signers is required: the list that is given, or else that of the configuration.
    ///
    /// # Errors
    /// As [`Patch::open`]; what is elsewhere and cannot be read; signatures.
    pub fn patch(&self, name: &Path, signers: Option<PathBuf>, signer: Option<String>) -> Result<Patch, Unanswered> {
        let config = Config::read()?;
        let terminal = self.terminal(config.endpoint, false);
        let required = Required::by(signers.or(config.allowed_signers), signer);
        let (patch, _) = required.for_patches(1)?.open_parts(name, Parts::Some, &terminal)?;
        patch_argument::note_ignored(&patch, &terminal);
        Ok(patch)
    }

    /// Opens a checkpoint by any name that the command knows.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; what is elsewhere and cannot be read.
    pub fn checkpoint(&self, name: &Path) -> Result<Checkpoint, Unanswered> {
        let terminal = self.terminal(Config::read()?.endpoint, false);
        Ok(terminal.sources().checkpoint(name, &terminal.context())?.checkpoint()?)
    }

    /// What `lcepatch show` prints about a patch.
    ///
    /// # Errors
    /// I/O.
    pub fn show(&self, patch: &Patch) -> Result<String, Unanswered> {
        let terminal = self.terminal(None, false);
        let carried = show::carried(patch, &terminal)?;
        let (stat, kind) = (Stat::new(patch), Kind::of(patch));
        let layout = show::Layout { width: None, all_layers: true };
        let (printed, text) =
            exit::kept(|| show::print_patch(patch, Some(patch.name()), (&stat, &kind), &carried, &layout));
        printed?;
        Ok(text)
    }

    #[cfg_attr(not(feature = "net"), allow(unused_variables))]
    fn terminal(&self, endpoint: Option<String>, allow_http: bool) -> Terminal {
        let terminal = Terminal::kept(self.say.clone(), self.interrupted.clone());
        #[cfg(feature = "net")]
        let terminal = terminal.with_sources(crate::source::Options { endpoint, allow_http });
        terminal
    }
}

/// The figure of a patch, as SVG.
pub fn figure(patch: &Patch) -> String {
    plot::selection(&Stat::new(patch))
}

/// In one sentence, what a patch changes.
pub fn sentence(patch: &Patch) -> String {
    Kind::of(patch).sentence
}

/// The messages of an error and of its sources.
pub fn message(error: &Error) -> String {
    exit::message(error)
}

/// One thing to do about an error.
pub fn help(error: &Error) -> Option<String> {
    advice::help(error)
}

/// The exit code of a kind of failure.
pub fn exit_code(kind: ErrorKind) -> u8 {
    advice::exit_code(kind)
}

/// The exit code of arguments that are not understood.
pub const USAGE: u8 = exit::USAGE;
