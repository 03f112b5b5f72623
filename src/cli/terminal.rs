//! Progress on a terminal, and interruption.

use crate::context::{Context, Progress};
#[cfg(feature = "verify")]
use crate::report::plot::Characters;
use crate::report::table::printable;
#[cfg(feature = "net")]
use crate::source;
use crate::source::Sources;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
#[cfg(feature = "net")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Standard error: notes, and a progress bar if it is a terminal.
pub struct Terminal {
    bar: ProgressBar,
    #[cfg_attr(not(feature = "verify"), allow(dead_code))]
    quiet: bool,
    #[cfg_attr(not(feature = "verify"), allow(dead_code))]
    threads: Option<usize>,
    sources: Sources,
}

impl Terminal {
    pub fn new(quiet: bool, threads: Option<usize>) -> Self {
        // The first interruption cancels the work, which then removes its temporary files; the second one ends the process.
        let _ = ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        let visible = !quiet && std::io::stderr().is_terminal();
        Self {
            bar: if visible { ProgressBar::new_spinner() } else { ProgressBar::hidden() },
            quiet,
            threads,
            sources: Sources::default(),
        }
    }

    /// The same terminal, where names lead to what is elsewhere as the options say.
    #[cfg(feature = "net")]
    pub fn with_sources(mut self, options: source::Options) -> Self {
        let bar = self.bar.clone();
        let say = move |text: &str| bar.suspend(|| note(text));
        self.sources = Sources::new(options, Arc::new(say));
        self
    }

    /// The number of threads, if it was given.
    #[cfg(feature = "verify")]
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// Where the names in arguments lead to.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    pub fn context(&self) -> Context<'_> {
        Context::new(self, &INTERRUPTED)
    }

    /// Prints something that the user should know although the command succeeds.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Asks on the terminal. Where nobody is asked, because input or output is not a terminal, the command that was typed counts.
    #[cfg(feature = "net")]
    pub fn agrees(&self, question: &str) -> bool {
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return true;
        }
        let question = printable(question);
        let _ = write!(anstream::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Prints the progress of a long run, unless it is quiet.
    #[cfg(feature = "verify")]
    pub fn progress(&self, text: &str) {
        if !self.quiet {
            let text = printable(text);
            self.bar.suspend(|| {
                let _ = writeln!(anstream::stderr(), "{text}");
            });
        }
    }

    /// The characters of text figures: Unicode if the user's locale is UTF-8.
    #[cfg(feature = "verify")]
    pub fn characters(&self) -> Characters {
        let mut locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
        let locale = locale.find(|value| !value.is_empty()).unwrap_or_default().to_ascii_uppercase();
        let unicode = locale.contains("UTF-8") || locale.contains("UTF8");
        if unicode { Characters::Unicode } else { Characters::Ascii }
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    fn start(&self, stage: &str, total: u64, template: &str) {
        self.bar.reset();
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(total);
        self.bar.set_message(printable(stage));
    }
}

fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "note: {}", printable(text));
}

impl Progress for Terminal {
    fn begin(&self, stage: &str, total_bytes: u64) {
        let template =
            if total_bytes == 0 { "{msg} {bytes} {bytes_per_sec}" } else { "{msg} {bar:30} {bytes}/{total_bytes}" };
        self.start(stage, total_bytes, template);
    }

    fn count(&self, stage: &str, total: u64) {
        self.start(stage, total, "{msg} {bar:30} {percent} % ({eta} left)");
    }

    fn advance(&self, done: u64) {
        self.bar.inc(done);
    }
}
