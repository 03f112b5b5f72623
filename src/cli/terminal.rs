//! Progress, notes and colour on a terminal, and interruption.

use crate::context::{Context, Progress};
#[cfg(feature = "verify")]
use crate::report::plot::Characters;
use crate::report::table::{bytes, duration, printable, rate};
#[cfg(feature = "net")]
use crate::source;
use crate::source::Sources;
use crate::words::count;
use anstream::ColorChoice;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Receives what a person should know, on any thread.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// After more than this many milliseconds, the time that a command took is worth a line.
const LONG: u64 = 1000;

// Comments on the values of these would be in the help, where each flag says what they mean.

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes it the choice for everything that this process prints.
    pub fn choose(self) {
        match self {
            // On a terminal, by NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM.
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

/// In which form progress is shown on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

impl Form {
    /// Milliseconds between two reports, if it consists of lines.
    fn interval(self) -> Option<u64> {
        match self {
            Self::Json => Some(1000),
            // Ten thousand lines a day.
            Self::Plain => Some(10_000),
            Self::Auto | Self::Bar | Self::None => None,
        }
    }
}

/// What is being done.
#[derive(Default)]
struct Stage {
    name: String,
    /// 0 if it is not known.
    total: u64,
    is_bytes: bool,
    /// Milliseconds after the start of the command.
    begun: u64,
}

/// Standard error: notes, and progress.
pub struct Terminal {
    bar: ProgressBar,
    form: Form,
    started: Instant,
    stage: Mutex<Stage>,
    /// Bytes or items of the stage that are done.
    done: AtomicU64,
    /// When the next line is due, in milliseconds after the start.
    due: AtomicU64,
    is_begun: AtomicBool,
    /// Whether the stage is one whose bytes are known before: those of checkpoints and patches.
    reads_files: AtomicBool,
    /// Bytes done of all these.
    bytes: AtomicU64,
    /// Whether something other than bytes was counted, so that bytes a second would say little.
    counted: AtomicBool,
    #[cfg_attr(not(feature = "verify"), allow(dead_code))]
    threads: Option<usize>,
    sources: Sources,
    say: Say,
    /// Whether someone asked to stop.
    interrupted: Arc<AtomicBool>,
    /// Whether what is printed is kept for a program, so that there is no terminal.
    is_kept: bool,
}

impl Terminal {
    /// `form` is the one that is wanted: there is no bar where there is no terminal.
    pub fn new(form: Form, threads: Option<usize>) -> Self {
        // The first interruption cancels the work, which then removes its temporary files; the second one ends the process.
        let _ = ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        let visible = matches!(form, Form::Auto | Form::Bar) && std::io::stderr().is_terminal();
        let bar = if visible { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let own = bar.clone();
        let say: Say = Arc::new(move |text: &str| own.suspend(|| note(text)));
        Self::of(bar, form, threads, say, INTERRUPTED.clone())
    }

    /// No terminal: notes go to `say`, and the work stops soon after `interrupted` becomes true.
    pub fn kept(say: Say, interrupted: Arc<AtomicBool>) -> Self {
        Self { is_kept: true, ..Self::of(ProgressBar::hidden(), Form::None, None, say, interrupted) }
    }

    fn of(bar: ProgressBar, form: Form, threads: Option<usize>, say: Say, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            bar,
            form,
            started: Instant::now(),
            stage: Mutex::default(),
            done: AtomicU64::new(0),
            due: AtomicU64::new(LONG),
            is_begun: AtomicBool::new(false),
            reads_files: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            counted: AtomicBool::new(false),
            threads,
            sources: Sources::default(),
            say,
            interrupted,
            is_kept: false,
        }
    }

    /// The same terminal, where names lead to what is elsewhere as the options say.
    #[cfg(feature = "net")]
    pub fn with_sources(mut self, options: source::Options) -> Self {
        self.sources = Sources::new(options, self.say.clone());
        self
    }

    /// The columns of standard output, if it is a terminal; at least 60.
    pub fn width(&self) -> Option<usize> {
        if self.is_kept {
            return None;
        }
        let (terminal_size::Width(columns), _) = terminal_size::terminal_size_of(std::io::stdout())?;
        Some(usize::from(columns).max(60))
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
        Context::new(self, &self.interrupted)
    }

    /// Prints something that the user should know although the command succeeds.
    pub fn note(&self, text: &str) {
        (self.say)(text);
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

    /// Prints the progress of a long run, unless it is quiet, or for programs.
    #[cfg(feature = "verify")]
    pub fn progress(&self, text: &str) {
        if !matches!(self.form, Form::None | Form::Json) {
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

    /// The work is done, or will not be.
    pub fn done(&self) {
        self.is_begun.store(false, Ordering::Relaxed);
        self.bar.finish_and_clear();
        if self.form == Form::Json {
            self.report(self.elapsed());
        }
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Stage::default();
    }

    /// Says how long a command took, and how fast it worked on checkpoints and patches, if somebody may have waited for it.
    pub fn say_duration(&self) {
        let is_seen = self.form == Form::Plain || !self.bar.is_hidden();
        let bytes = self.bytes.load(Ordering::Relaxed);
        let bytes = if self.counted.load(Ordering::Relaxed) { 0 } else { bytes };
        if let Some(line) = duration_line(self.elapsed(), bytes).filter(|_| is_seen) {
            let _ = writeln!(anstream::stderr(), "{line}");
        }
    }

    /// Milliseconds since the command began.
    fn elapsed(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn start(&self, stage: Stage, template: &str) {
        self.is_begun.store(true, Ordering::Relaxed);
        self.reads_files.store(stage.is_bytes && stage.total > 0, Ordering::Relaxed);
        if !stage.is_bytes {
            self.counted.store(true, Ordering::Relaxed);
        }
        if !self.bar.is_hidden() {
            self.bar.reset();
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_length(stage.total);
            self.bar.set_message(printable(&stage.name));
        }
        let (now, is_new) = {
            let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = current.name != stage.name;
            self.done.store(0, Ordering::Relaxed);
            *current = stage;
            (current.begun, is_new)
        };
        // Some stages begin anew for each of many models.
        if self.form.interval().is_some() && (is_new || now >= self.due.load(Ordering::Relaxed)) {
            self.due.store(now + LONG, Ordering::Relaxed);
            self.report(now);
        }
    }

    /// Writes a line about the stage.
    fn report(&self, now: u64) {
        let line = {
            let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            if stage.name.is_empty() {
                return;
            }
            let done = self.done.load(Ordering::Relaxed);
            if self.form == Form::Json { json_line(&stage, done) } else { plain_line(&stage, done, now) }
        };
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}

/// What is said about a command that worked on so many bytes, if it took long.
fn duration_line(elapsed: u64, bytes: u64) -> Option<String> {
    let speed = if bytes > 0 { format!(", {}", rate(bytes, elapsed)) } else { String::new() };
    (elapsed > LONG).then(|| format!("in {}{speed}", duration(elapsed)))
}

fn json_line(stage: &Stage, done: u64) -> String {
    let unit = if stage.is_bytes { "bytes" } else { "items" };
    let total = (stage.total > 0).then_some(stage.total);
    serde_json::json!({ "stage": printable(&stage.name), "done": done, "total": total, "unit": unit }).to_string()
}

fn plain_line(stage: &Stage, done: u64, now: u64) -> String {
    let amount = |n| if stage.is_bytes { bytes(n) } else { count(n) };
    let mut line = format!("{}: {}", printable(&stage.name), amount(done));
    if stage.total > 0 {
        line += &format!(" of {}", amount(stage.total));
    }
    let elapsed = now - stage.begun;
    if done == 0 || elapsed == 0 {
        return line;
    }
    if stage.is_bytes {
        line += &format!(", {}", rate(done, elapsed));
    }
    if stage.total > done {
        let left = (stage.total - done) as f64 / done as f64 * elapsed as f64;
        line += &format!(", {} left", duration(left as u64));
    }
    line
}

fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "note: {}", printable(text));
}

impl Progress for Terminal {
    fn begin(&self, stage: &str, total_bytes: u64) {
        let template = match total_bytes {
            0 => "{msg} {decimal_bytes} {decimal_bytes_per_sec}",
            _ => "{msg} {bar:20} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} ({eta} left)",
        };
        let stage = Stage { name: stage.to_owned(), total: total_bytes, is_bytes: true, begun: self.elapsed() };
        self.start(stage, template);
    }

    fn count(&self, stage: &str, total: u64) {
        let stage = Stage { name: stage.to_owned(), total, is_bytes: false, begun: self.elapsed() };
        self.start(stage, "{msg} {bar:20} {percent} % ({eta} left)");
    }

    fn advance(&self, done: u64) {
        // Short work has no stage, and needs no bar.
        if self.is_begun.load(Ordering::Relaxed) {
            self.bar.inc(done);
        }
        if self.reads_files.load(Ordering::Relaxed) {
            self.bytes.fetch_add(done, Ordering::Relaxed);
        }
        let Some(interval) = self.form.interval() else { return };
        self.done.fetch_add(done, Ordering::Relaxed);
        let (now, due) = (self.elapsed(), self.due.load(Ordering::Relaxed));
        // Of all threads one reports.
        let is_due =
            now >= due && self.due.compare_exchange(due, now + interval, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due {
            self.report(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_work_has_a_line() {
        assert_eq!(duration_line(1000, 1 << 30), None);
        assert_eq!(duration_line(1300, 2_080_000_000).as_deref(), Some("in 1.3 s, 1.6 GB/s"));
        assert_eq!(duration_line(75_000, 0).as_deref(), Some("in 75 s"));
    }

    #[test]
    fn lines_say_how_much_is_done_how_fast_and_what_is_left() {
        let stage = |total, is_bytes| Stage { name: "hashing\x1b".to_owned(), total, is_bytes, begun: 1000 };
        assert_eq!(plain_line(&stage(0, true), 0, 1000), "hashing\\u{1b}: 0 bytes");
        let half = plain_line(&stage(4_000_000_000, true), 2_000_000_000, 3000);
        assert_eq!(half, "hashing\\u{1b}: 2.000 GB of 4.000 GB, 1.0 GB/s, 2.0 s left");
        assert_eq!(plain_line(&stage(8, false), 8, 3000), "hashing\\u{1b}: 8 of 8");
        let json: serde_json::Value = serde_json::from_str(&json_line(&stage(0, false), 5)).unwrap();
        assert_eq!(json, serde_json::json!({"stage": "hashing\\u{1b}", "done": 5, "total": null, "unit": "items"}));
    }
}
