//! Opens the patches and checkpoints that arguments name.

use super::arguments;
use super::exit::Failure;
use super::terminal::Terminal;
use crate::checkpoint::Checkpoint;
#[cfg(feature = "verify")]
use crate::checkpoint::{Malformed, OpenError};
use crate::edit::Alpha;
use crate::patch::Patch;
use crate::source::Parts;
use crate::words::counted;
use std::path::{Path, PathBuf};

/// Opens a patch that is read as a whole. Errors name it as it was given.
pub fn open(name: &Path, terminal: &Terminal) -> Result<Patch, Failure> {
    Ok(terminal.sources().patch(name, Parts::All, &terminal.context())?)
}

/// Opens a checkpoint for reading, and prints a note if its index is wrong.
pub fn checkpoint(name: &Path, terminal: &Terminal) -> Result<Checkpoint, Failure> {
    let checkpoint = terminal.sources().checkpoint(name, &terminal.context())?.checkpoint()?;
    note_stale(&checkpoint, terminal);
    Ok(checkpoint)
}

/// Opens a checkpoint to edit it in place, which is possible only if it is the user's own.
pub fn own_checkpoint(name: &Path, terminal: &Terminal) -> Result<Checkpoint, Failure> {
    let checkpoint = Checkpoint::open_for_edit(terminal.sources().own(name)?)?;
    note_stale(&checkpoint, terminal);
    Ok(checkpoint)
}

/// As [`checkpoint`], if there is a name.
pub fn optional_checkpoint(name: Option<&Path>, terminal: &Terminal) -> Result<Option<Checkpoint>, Failure> {
    name.map(|name| checkpoint(name, terminal)).transpose()
}

/// Prints a note if parts of a patch's metadata count as absent: whoever wrote them meant something.
pub fn note_ignored(patch: &Patch, terminal: &Terminal) {
    let ignored = patch.ignored_metadata();
    let Some(first) = ignored.first() else { return };
    let more = match ignored.len() - 1 {
        0 => String::new(),
        more => format!(", and {}", counted(more, "other part")),
    };
    let alpha = match ignored.iter().any(|part| matches!(&part.pointer[..], "" | "/recommended_alpha")) {
        true => "; if it recommends an alpha, that is not known",
        false => "",
    };
    terminal.note(&format!("{} ignored: {first}{more}{alpha}", patch.name().display()));
}

/// Prints a note if the index of a checkpoint lists tensors in files that do not have them.
pub fn note_stale(checkpoint: &Checkpoint, terminal: &Terminal) {
    if let Some(first) = checkpoint.stale().first() {
        let more = match checkpoint.stale().len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let path = checkpoint.path().display();
        terminal
            .note(&format!("{path}: its index lists {first:?}{more} where it is not; nothing of the model is missing"));
    }
}

/// Opens a model directory.
#[cfg(feature = "verify")]
pub fn model(path: &Path, terminal: &Terminal) -> Result<Checkpoint, Failure> {
    let found = terminal.sources().checkpoint(path, &terminal.context())?;
    let opened = Checkpoint::open(&found.path);
    let other = matches!(&opened, Err(OpenError::Malformed { reason: Malformed::Unexpected(_), .. }));
    if found.path.is_file() && !other {
        let message = format!("{} is a file", path.display());
        return Err(Failure::usage(message, "give the model directory, with config.json, tokenizer and weights"));
    }
    let checkpoint = opened?.with_source(found.source());
    note_stale(&checkpoint, terminal);
    Ok(checkpoint)
}

/// Whether a checkpoint is an ONNX file.
pub fn is_onnx(checkpoint: &Path) -> bool {
    checkpoint.extension().is_some_and(|extension| extension == "onnx") && !checkpoint.is_dir()
}

/// Parses `PATCH` or `PATCH:NUMBER`. The text after the last colon is part of the name if a file has this name, or if it is not a number,
/// as in `C:\\models\\p.lcepatch` or `https://host:8080/p.lcepatch`.
pub fn with_number(text: &str) -> Result<(PathBuf, Option<Alpha>), Failure> {
    let Some((path, number)) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty() && !Path::new(text).exists())
    else {
        return Ok((text.into(), None));
    };
    // The port of an address.
    if path.split_once("://").is_some_and(|(_, host)| !host.contains('/')) {
        return Ok((text.into(), None));
    }
    match arguments::alpha(number) {
        Ok(alpha) => Ok((path.into(), Some(alpha))),
        Err(why) if number.parse::<f64>().is_ok() || Path::new(path).is_file() => {
            let message = format!("{text:?}: alpha {number:?} is {why}");
            Err(Failure::usage(message, "write PATCH:ALPHA, as in debias.lcepatch:-2"))
        }
        Err(_) => Ok((text.into(), None)),
    }
}

/// Whether an argument is `PATCH:NUMBER`.
pub fn has_number(text: &str) -> bool {
    matches!(with_number(text), Ok((_, Some(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_after_a_colon_is_an_alpha() {
        let parsed = |text| {
            let (path, alpha) = with_number(text).unwrap();
            (path.to_str().unwrap().to_owned(), alpha.map(Alpha::value))
        };
        let with = |path: &str, alpha| (path.to_owned(), Some(alpha));
        assert_eq!(parsed("p.lcepatch:-2"), with("p.lcepatch", -2.0));
        assert_eq!(parsed("C:\\models\\p.lcepatch:0.5"), with("C:\\models\\p.lcepatch", 0.5));
        assert_eq!(parsed("https://host:8080/p.lcepatch:1e-1"), with("https://host:8080/p.lcepatch", 0.1));
        for path in
            ["p", "C:\\models\\p.lcepatch", "https://host:8080/p.lcepatch", "https://host:8080", ":2", "a:b", "a:"]
        {
            assert_eq!(parsed(path), (path.to_owned(), None));
        }
        assert!(with_number("p.lcepatch:inf").is_err() && with_number("p.lcepatch:NaN").is_err());
        assert!(with_number(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml:two")).is_err());
    }
}
