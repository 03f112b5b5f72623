//! The command line, one file a command. It knows flags and terminals, and does no arithmetic of its own.

// Comments of arguments are help texts, in which [MASK] is no link.
#![allow(rustdoc::broken_intra_doc_links)]

mod advice;
mod apply;
mod arguments;
#[cfg(feature = "verify")]
mod ask;
mod card;
mod check;
mod combine;
mod compare;
mod completions;
mod config;
mod demo;
mod diff;
mod exit;
mod export;
#[cfg(feature = "net")]
mod find;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod freed_memory;
mod git;
mod import;
mod invert;
mod log;
mod man;
mod mask;
mod new_patch;
mod pair;
mod patch_argument;
mod plan;
#[cfg(feature = "net")]
mod place_argument;
pub mod program;
#[cfg(feature = "net")]
mod pull;
#[cfg(feature = "net")]
mod push;
mod recover;
#[cfg(feature = "verify")]
mod report;
mod revert;
#[cfg(feature = "verify")]
mod runtime;
mod select;
mod selection;
mod shard_argument;
mod show;
mod sign;
mod signature_argument;
mod squash;
mod status;
#[cfg(feature = "verify")]
mod sweep;
mod terminal;
#[cfg(feature = "verify")]
mod verify;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Words: TARGET is the checkpoint that will be edited, REFERENCE the one that behaves differently. A patch leads from \
target to reference; once it exists, the target is its base. (Other diff tools call the new file the target.)

Examples:
  lcepatch diff model/ other-model/                         what differs, by component and layer
  lcepatch diff model/ other-model/ -o debias.lcepatch --density 0.5%
  lcepatch show debias.lcepatch                             what it changes, where, for which base
  lcepatch check debias.lcepatch model/                     is it intact, does it fit?
  lcepatch apply model/ debias.lcepatch --alpha -2 -o edited/
  lcepatch apply model/ debias.lcepatch --in-place --undo undo.lcepatch
  lcepatch apply model/ undo.lcepatch --in-place            and back, exactly

Checkpoints are a .safetensors file, a *.safetensors.index.json, or a model directory.
Defaults for threads, colour, progress and signers may stand in ~/.config/lcepatch/config.toml.
Exit codes: 0 done or yes, 1 no, 2 usage, 3 files, 4 invalid patch, 5 invalid checkpoint, 6 refused, 7 numbers, 8 something \
is missing, 9 network, 10 not finished, 11 not signed as required.";

/// Small, exact, verifiable patches between model checkpoints
#[derive(Parser)]
#[command(name = "lcepatch", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads to use [default: one for each processor]
    #[arg(
        long,
        global = true,
        env = "LCEPATCH_THREADS",
        hide_env_values = true,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=1024),
        help_heading = "Everywhere"
    )]
    threads: Option<u16>,
    /// When to colour text: `auto` is on a terminal only, unless NO_COLOR or CLICOLOR_FORCE says otherwise [default: auto]
    #[arg(
        long,
        global = true,
        env = "LCEPATCH_COLOR",
        hide_env_values = true,
        value_name = "WHEN",
        help_heading = "Everywhere"
    )]
    color: Option<terminal::Color>,
    /// How to show progress, on standard error: a bar (`auto`: on a terminal only), lines, JSON objects, or not at all [default: auto]
    #[arg(
        long,
        global = true,
        env = "LCEPATCH_PROGRESS",
        hide_env_values = true,
        value_name = "FORM",
        help_heading = "Everywhere"
    )]
    progress: Option<terminal::Form>,
    /// No progress, the same as --progress none
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    quiet: bool,
    /// Read from other machines over plain http, too
    #[cfg(feature = "net")]
    #[arg(long, global = true, help_heading = "Everywhere")]
    allow_http: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make the patch from TARGET towards REFERENCE, or show what differs
    Diff(Box<diff::Arguments>),
    /// Plan a diff on several machines
    Plan(Box<plan::Arguments>),
    /// Show what a patch changes, where, and for which base
    Show(show::Arguments),
    /// Apply patches to a base, at any alpha
    Apply(Box<apply::Arguments>),
    /// Check that a patch is intact, and that it fits a base
    Check(check::Arguments),
    /// Sign a patch with an SSH key
    Sign(sign::Arguments),
    /// Show which patches were applied to a model directory
    Log(log::Arguments),
    /// Say what a model directory is: a base, a base and patches, or changed since
    Status(status::Arguments),
    /// Take the last apply to a model directory back
    Revert(revert::Arguments),
    /// Put back what an interrupted edit in place has changed
    Recover(recover::Arguments),
    /// Prune by magnitude, write and compare pruning masks
    Mask(mask::Arguments),
    /// Make the patch from the other side
    Invert(invert::Arguments),
    /// Join two patches that follow each other
    Squash(squash::Arguments),
    /// Add up patches of one base
    Combine(combine::Arguments),
    /// Make a smaller patch of one: tensors, components, the largest differences
    Select(select::Arguments),
    /// Compare two patches; with -o, write what both select
    #[command(visible_alias = "intersect")]
    Compare(compare::Arguments),
    /// Write the model card of a patch
    Card(card::Arguments),
    /// Publish patches, with an index and a model card
    #[cfg(feature = "net")]
    Push(push::Arguments),
    /// Find the published patches that fit a checkpoint
    #[cfg(feature = "net")]
    Find(find::Arguments),
    /// Fetch published patches, or bring a checkpoint to their last version
    #[cfg(feature = "net")]
    Pull(Box<pull::Arguments>),
    /// Ask a model what it expects at a [MASK], or after a text, without and with patches
    #[cfg(feature = "verify")]
    Ask(Box<ask::Arguments>),
    /// Measure bias and perplexity of a model, without and with patches
    #[cfg(feature = "verify")]
    Verify(Box<verify::Arguments>),
    /// Measure many edits of one pair: strategies, sizes, seeds and alphas, into one file that can be continued
    #[cfg(feature = "verify")]
    Sweep(Box<sweep::Arguments>),
    /// Draw results of `sweep` and `verify` as one HTML page
    #[cfg(feature = "verify")]
    Report(report::Arguments),
    /// Write a patch as an adapter for PEFT or as values for vLLM, or the graph of a model as an ONNX file
    Export(export::Arguments),
    /// Make a patch of what another tool wrote, PEFT's SHiRA adapters or files of values, or safetensors of a torch file
    Import(import::Arguments),
    /// Install ONNX Runtime, which `verify` computes with, or say which one is used
    #[cfg(feature = "verify")]
    Runtime(runtime::Arguments),
    /// See the bias of a small model go: diff, ask, measure, apply and undo, each command printed
    Demo(demo::Arguments),
    /// Let git show patches and checkpoints as text
    Git(git::Arguments),
    /// Print completions of commands and flags for a shell
    Completions(completions::Arguments),
    /// Print or write manual pages
    Man(man::Arguments),
}

/// Parses the arguments of this process, runs the command, reports its error.
pub fn run() -> ExitCode {
    run_words(std::env::args_os().collect()).into()
}

/// As [`run`], with other arguments, of which the first is the name of the program. Returns the exit code.
fn run_words(words: Vec<OsString>) -> u8 {
    // What is said about the arguments themselves has its colour before they are parsed.
    if let Some(color) = color_of(words.iter().cloned()) {
        color.choose();
    }
    match parse(words) {
        Ok((arguments, matches)) => exit::from(execute(arguments), |path| order(&matches, path)),
        Err(error) => exit::usage(error),
    }
}

/// The arguments, and what was found of each.
fn parse(words: Vec<OsString>) -> Result<(Arguments, ArgMatches), clap::Error> {
    let matches = Arguments::command().try_get_matches_from(words)?;
    Ok((Arguments::from_arg_matches(&matches)?, matches))
}

/// The last value of `--color` among arguments, or else of its variable.
fn color_of(arguments: impl Iterator<Item = OsString>) -> Option<terminal::Color> {
    let words: Vec<OsString> = arguments.take_while(|word| word != "--").collect();
    let given = words.iter().enumerate().rev().find_map(|(at, word)| match word.to_str()?.strip_prefix("--color")? {
        "" => words.get(at + 1)?.to_str(),
        value => value.strip_prefix('='),
    });
    let given = given.map(str::to_owned).or_else(|| std::env::var("LCEPATCH_COLOR").ok())?;
    terminal::Color::from_str(&given, false).ok()
}

/// The usage line of the command, if `path` is one of the arguments whose order it tells, and not the value of an option.
fn order(matches: &ArgMatches, path: &Path) -> Option<String> {
    let (name, given) = matches.subcommand()?;
    let mut all = Arguments::command();
    all.build();
    let command = all.find_subcommand_mut(name)?;
    // A patch may have its alpha behind it.
    let names_path = |value: &OsStr| value.to_string_lossy().starts_with(&*path.to_string_lossy());
    let is_ordered = command
        .get_positionals()
        .filter_map(|argument| given.get_raw(argument.get_id().as_str()))
        .any(|mut values| values.any(names_path));
    let usage = command.render_usage().to_string();
    is_ordered.then(|| usage.trim_start_matches("Usage: ").to_owned())
}

/// What a command ends with: its answer, or why it failed.
type Outcome = Result<Answer, exit::Failure>;

/// Yes and done, or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// Starts the threads that all work is shared among: as many as are wanted, or as the system allows, which may be this one alone.
fn start_threads(wanted: Option<usize>) {
    let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let wanted = wanted.unwrap_or_else(available);
    // The pool cannot be built a second time with fewer, so that the threads are there before it is.
    let start = |_| {
        let (send, receive) = std::sync::mpsc::channel::<rayon::ThreadBuilder>();
        let thread = std::thread::Builder::new();
        thread.spawn(move || receive.recv().map(rayon::ThreadBuilder::run)).ok().map(|_| send)
    };
    let mut started: Vec<_> = (0..wanted).map_while(start).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(started.len().max(1));
    // Fails only where there is a pool already, which is no reason to stop.
    let _ = match started.is_empty() {
        true => pool.use_current_thread().build_global(),
        false => pool
            .spawn_handler(|work| {
                started.pop().map_or(Ok(()), |thread| thread.send(work).map_err(|_| ErrorKind::BrokenPipe.into()))
            })
            .build_global(),
    };
}

fn execute(mut arguments: Arguments) -> Outcome {
    let config = configure(&mut arguments)?;
    let threads = arguments.threads.or(config.threads).map(usize::from);
    if let Some(color) = arguments.color.or(config.color) {
        color.choose();
    }
    let form = arguments.progress.or(config.progress).unwrap_or(terminal::Form::Auto);
    let form = if arguments.quiet { terminal::Form::None } else { form };
    let terminal = terminal::Terminal::new(form, threads);
    #[cfg(feature = "net")]
    let terminal =
        terminal.with_sources(crate::source::Options { endpoint: config.endpoint, allow_http: arguments.allow_http });
    start_threads(threads);
    let outcome = run_command(arguments.command, &terminal);
    if outcome.is_ok() {
        terminal.say_duration();
    }
    outcome
}

/// Reads the configuration, and adds to the arguments what it says about them.
fn configure(arguments: &mut Arguments) -> Result<config::Config, exit::Failure> {
    // What other programs call does not depend on it.
    let config = match &arguments.command {
        Command::Completions(_) | Command::Man(_) => config::Config::default(),
        Command::Git(own) if own.is_textconv() => config::Config::default(),
        _ => config::Config::read()?,
    };
    match (&mut arguments.command, config.allowed_signers.clone()) {
        (Command::Apply(arguments), Some(list)) => arguments.signature.require_unless_given(list),
        (Command::Check(arguments), Some(list)) => arguments.signature.require_unless_given(list),
        #[cfg(feature = "net")]
        (Command::Pull(arguments), Some(list)) => arguments.signature.require_unless_given(list),
        _ => {}
    }
    Ok(config)
}

fn run_command(command: Command, terminal: &terminal::Terminal) -> Outcome {
    match command {
        Command::Diff(arguments) => diff::run(*arguments, terminal),
        Command::Plan(arguments) => plan::run(&arguments, terminal),
        Command::Show(arguments) => show::run(&arguments, terminal),
        Command::Apply(arguments) => apply::run(*arguments, terminal),
        Command::Check(arguments) => check::run(&arguments, terminal),
        Command::Sign(arguments) => sign::run(&arguments, terminal),
        Command::Log(arguments) => log::run(&arguments, terminal),
        Command::Status(arguments) => status::run(&arguments, terminal),
        Command::Revert(arguments) => revert::run(&arguments, terminal),
        Command::Recover(arguments) => recover::run(&arguments, terminal),
        Command::Mask(arguments) => mask::run(&arguments, terminal),
        Command::Invert(arguments) => invert::run(&arguments, terminal),
        Command::Squash(arguments) => squash::run(&arguments, terminal),
        Command::Combine(arguments) => combine::run(&arguments, terminal),
        Command::Select(arguments) => select::run(&arguments, terminal),
        Command::Compare(arguments) => compare::run(&arguments, terminal),
        Command::Card(arguments) => card::run(&arguments, terminal),
        #[cfg(feature = "net")]
        Command::Push(arguments) => push::run(&arguments, terminal),
        #[cfg(feature = "net")]
        Command::Find(arguments) => find::run(&arguments, terminal),
        #[cfg(feature = "net")]
        Command::Pull(arguments) => pull::run(&arguments, terminal),
        #[cfg(feature = "verify")]
        Command::Ask(arguments) => ask::run(&arguments, terminal),
        #[cfg(feature = "verify")]
        Command::Verify(arguments) => verify::run(&arguments, terminal),
        #[cfg(feature = "verify")]
        Command::Sweep(arguments) => sweep::run(&arguments, terminal),
        #[cfg(feature = "verify")]
        Command::Report(arguments) => report::run(&arguments, terminal),
        Command::Import(arguments) => import::run(&arguments, terminal),
        Command::Export(arguments) => export::run(&arguments, terminal),
        #[cfg(feature = "verify")]
        Command::Runtime(arguments) => runtime::run(&arguments, terminal),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Git(arguments) => git::run(&arguments, terminal),
        Command::Completions(arguments) => completions::run(&arguments, Arguments::command()),
        Command::Man(arguments) => man::run(&arguments, Arguments::command()),
    }
}
