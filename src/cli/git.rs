//! `lcepatch git`: patches and checkpoints as text in `git diff`, `git show` and `git log -p`.

use super::exit::{Failure, message, print};
use super::terminal::Terminal;
use super::{Answer, Outcome, show};
use crate::checkpoint::Checkpoint;
use crate::durable::{Existing, write_file};
use crate::error::Error;
use crate::report::table::{Align, lines};
use crate::words::counted;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Args)]
#[command(after_help = "\
After `install`, `git diff` shows of a *.lcepatch what `lcepatch show` says, and of a *.safetensors the names, dtypes, shapes and digests \
of its tensors, instead of \"Binary files differ\". It sets diff.lcepatch.textconv in git's configuration, which each clone needs for \
itself, and adds two lines to the .gitattributes of the repository, which may be committed; with --global, to those of the user.

Examples:
  lcepatch git install
  lcepatch git install --global                             for all repositories of this user
  lcepatch git uninstall")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Let git show patches and checkpoints as text
    Install(Where),
    /// Take back what `install` did
    Uninstall(Where),
    /// Print a patch or a checkpoint as text, without its name: what git runs
    Textconv {
        /// The file
        file: PathBuf,
    },
}

#[derive(Args)]
struct Where {
    /// For all repositories of this user, not only this one
    #[arg(long)]
    global: bool,
}

impl Arguments {
    /// Whether git runs it.
    pub fn is_textconv(&self) -> bool {
        matches!(self.action, Action::Textconv { .. })
    }
}

const KEY: &str = "diff.lcepatch.textconv";
const TEXTCONV: &str = "lcepatch git textconv";
const ATTRIBUTES: [&str; 2] = ["*.lcepatch diff=lcepatch", "*.safetensors diff=lcepatch"];

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    match &arguments.action {
        Action::Install(place) => install(place.global)?,
        Action::Uninstall(place) => uninstall(place.global)?,
        Action::Textconv { file } => textconv(file, terminal)?,
    }
    Ok(Answer::Yes)
}

fn install(global: bool) -> Result<(), Failure> {
    let (path, text) = attributes(global)?;
    git(&["config", scope(global), KEY, TEXTCONV])?;
    print(format_args!("set {KEY} to `{TEXTCONV}`"))?;
    let missing: Vec<&str> = ATTRIBUTES.into_iter().filter(|line| !text.lines().any(|there| there == *line)).collect();
    let name = path.display();
    if missing.is_empty() {
        return print(format_args!("{name} has its lines already"));
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    write_attributes(&path, &format!("{text}{gap}{}\n", missing.join("\n")))?;
    print(format_args!("added {} to {name}", counted(missing.len(), "line")))
}

fn uninstall(global: bool) -> Result<(), Failure> {
    let (path, text) = attributes(global)?;
    if git(&["config", scope(global), "--get", KEY]).is_ok() {
        git(&["config", scope(global), "--unset-all", KEY])?;
        print(format_args!("removed {KEY}"))?;
    }
    let is_ours = |line: &&str| ATTRIBUTES.contains(&line.trim_end());
    let ours = text.lines().filter(is_ours).count();
    if ours > 0 {
        let rest: String = text.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
        write_attributes(&path, &rest)?;
        print(format_args!("removed {} from {}", counted(ours, "line"), path.display()))?;
    }
    Ok(())
}

fn scope(global: bool) -> &'static str {
    if global { "--global" } else { "--local" }
}

/// The file of attributes, and its text.
fn attributes(global: bool) -> Result<(PathBuf, String), Failure> {
    let path = if global {
        let named = git(&["config", "--global", "--type=path", "--get", "core.attributesFile"]).ok();
        let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let usual = || {
            Some(
                folder("XDG_CONFIG_HOME")
                    .or_else(|| Some(std::env::home_dir()?.join(".config")))?
                    .join("git/attributes"),
            )
        };
        let nowhere = || Failure::usage("there is no home directory", "set core.attributesFile in git's configuration");
        named.map(PathBuf::from).or_else(usual).ok_or_else(nowhere)?
    } else {
        let root = git(&["rev-parse", "--show-toplevel"])
            .map_err(|_| Failure::usage("this is not in a git repository", "go to one, or use --global"))?;
        Path::new(&root).join(".gitattributes")
    };
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((path, String::new())),
        text => Ok((path.clone(), text.map_err(|error| Error::io("read", &path, error))?)),
    }
}

fn write_attributes(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error))?;
    }
    Ok(write_file(path, text.as_bytes(), Existing::Replace)?)
}

/// What git prints, without the last line break.
fn git(arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new("git").args(arguments).output();
    let output = output.map_err(|error| Failure::usage(format!("git cannot be run: {error}"), "install git"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(Failure::usage(format!("git {}: {said}", arguments.join(" ")), "see git-config(1)"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches(['\n', '\r']).to_owned())
}

/// Prints a file for a comparison: without its name, which is git's own for old versions. A file that cannot be read has a text too, since
/// git would not go on with the other files.
fn textconv(file: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let mut start = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| Error::io("read", file, error))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(opened, 1024), &mut start)
        .map_err(|error| Error::io("read", file, error))?;
    if start.starts_with(b"version https://git-lfs") {
        print("Git LFS pointer; the file is not here (`git lfs pull` fetches it)")?;
        return String::from_utf8_lossy(&start).lines().skip(1).try_for_each(print);
    }
    let is_patch = start.starts_with(&crate::format::limits::MAGIC);
    let shown = if is_patch {
        show::run(&show::Arguments::for_diff(file), terminal).map(drop)
    } else {
        tensors(file, terminal)
    };
    match shown {
        Err(Failure::Library(error)) => {
            let text = message(&error).replace(&*file.to_string_lossy(), "this file");
            print(format_args!("cannot be shown: {text}"))
        }
        shown => shown,
    }
}

/// Prints the tensors of a checkpoint.
fn tensors(file: &Path, terminal: &Terminal) -> Result<(), Failure> {
    let (checkpoint, context) = (Checkpoint::open(file)?, terminal.context());
    context.begin("hashing", checkpoint.bytes());
    let mut rows = Vec::new();
    for tensor in checkpoint.tensors() {
        let info = tensor.info;
        let digest = tensor.digest(&context)?.to_string();
        rows.push(vec![info.name.clone(), info.dtype.name().to_owned(), format!("{:?}", info.shape), digest]);
    }
    terminal.done();
    let header = ["tensor", "dtype", "shape", "BLAKE3"].map(|title| (title, Align::Left));
    lines(&header, &rows).into_iter().try_for_each(print)
}
