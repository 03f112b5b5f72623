//! Parsers for the values of flags.

use super::exit::Failure;
use crate::checkpoint::{Checkpoint, Layout};
use crate::diff::{Shard, Size};
use crate::durable::{Existing, check_new_directory, check_new_file, real_path};
use crate::edit::Alpha;
#[cfg(feature = "verify")]
use crate::edit::EditKind;
use crate::localize::candidates::Params;
use crate::localize::value::{Amount, Density};
use crate::mask::{self, Sparsity};
use crate::pair::Prefix;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

// Comments on the values of these would be in the help, where each flag says what they mean.

/// What is ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    Global,
    Tensor,
}

impl From<Scope> for mask::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Global => Self::Global,
            Scope::Tensor => Self::Tensor,
        }
    }
}

/// Which tensors are candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Candidates {
    EncoderDense,
    Matrices,
    All,
}

impl From<Candidates> for Params {
    fn from(candidates: Candidates) -> Self {
        match candidates {
            Candidates::EncoderDense => Self::EncoderDense,
            Candidates::Matrices => Self::Matrices,
            Candidates::All => Self::All,
        }
    }
}

/// How weights are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Localization {
    Value,
    Mask,
    Random,
}

/// What is done to the selected weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EditName {
    Ip,
    Ep,
    Pr,
    Sw,
}

impl EditName {
    /// The name of an edit with this alpha.
    pub fn at(alpha: Alpha) -> Self {
        if alpha.interpolates() { Self::Ip } else { Self::Ep }
    }
}

impl std::fmt::Display for EditName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// An edit without an alpha.
#[cfg(feature = "verify")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EditWithoutAlpha {
    Pr,
    Sw,
}

#[cfg(feature = "verify")]
impl From<EditWithoutAlpha> for EditKind {
    fn from(edit: EditWithoutAlpha) -> Self {
        match edit {
            EditWithoutAlpha::Pr => Self::Prune,
            EditWithoutAlpha::Sw => Self::Switch,
        }
    }
}

/// Refuses an output that would replace an input of the command, even if existing outputs may be replaced.
pub fn refuse_inputs<'o, 'i>(
    outputs: impl IntoIterator<Item = &'o Path>,
    inputs: impl IntoIterator<Item = &'i Path>,
) -> Result<(), Failure> {
    let inputs: Vec<PathBuf> = inputs.into_iter().filter_map(real_path).collect();
    let is_input = |output: &&Path| real_path(output).is_some_and(|output| inputs.contains(&output));
    match outputs.into_iter().find(is_input) {
        Some(path) => {
            let message =
                format!("{} is read by this command, and would be replaced by what it writes", path.display());
            Err(Failure::usage(message, "choose another name"))
        }
        None => Ok(()),
    }
}

/// Refuses the output of a result that cannot be written there: a file for a base that is one file, else a directory. Called before the
/// work begins.
pub fn check_result(path: &Path, base: &Checkpoint, existing: Existing) -> Result<(), Failure> {
    let checked = match base.layout() {
        Layout::File => check_new_file(path, existing),
        Layout::Index { .. } | Layout::Directory { .. } => check_new_directory(path),
    };
    Ok(checked?)
}

/// `0.5%` or `0.005`.
pub fn density(text: &str) -> Result<Density, String> {
    match share(text)? {
        0.0 => Err(NOTHING.to_owned()),
        share => Density::new(share).ok_or_else(|| "not above 0 and at most 100%".to_owned()),
    }
}

/// Why a selection of no weights is refused.
const NOTHING: &str = "that would select nothing; ask for more than 0";

/// `30%` or `0.3`.
pub fn sparsity(text: &str) -> Result<Sparsity, String> {
    Sparsity::new(share(text)?).ok_or_else(|| "not at least 0 and below 100%".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text, 1.0),
    };
    Ok(number.parse::<f64>().map_err(|_| "not a number; write 0.5% or 0.005".to_owned())? / scale)
}

/// A count, or `from-mask`.
pub fn size(text: &str) -> Result<Size, String> {
    match text {
        "from-mask" => Ok(Size::FromMask),
        k => selected(k).map(Size::Amount),
    }
}

/// A share such as `10%`, a count, or `from-mask`.
#[cfg(feature = "verify")]
pub fn amount(text: &str) -> Result<Size, String> {
    match text {
        "from-mask" => Ok(Size::FromMask),
        amount => top(amount).map(Size::Amount),
    }
}

/// A share such as `10%`, or a count.
pub fn top(text: &str) -> Result<Amount, String> {
    match text.ends_with('%') {
        true => density(text).map(Amount::Density),
        false => selected(text),
    }
}

/// A count of weights to select, at least 1.
fn selected(text: &str) -> Result<Amount, String> {
    match count(text)? {
        0 => Err(NOTHING.to_owned()),
        k => Ok(Amount::Count(k)),
    }
}

/// `425000`, `425k`, `1.5M`.
pub fn count(text: &str) -> Result<u64, String> {
    let (number, scale) = match text.strip_suffix(['k', 'M', 'G']) {
        Some(number) => (
            number,
            if text.ends_with('k') {
                1e3
            } else if text.ends_with('M') {
                1e6
            } else {
                1e9
            },
        ),
        None => return text.replace(['_', ','], "").parse().map_err(|_| "not a whole number".to_owned()),
    };
    let value = number.parse::<f64>().map_err(|_| "not a number")? * scale;
    if value >= 0.0 && value.fract() == 0.0 && value < 2f64.powi(53) {
        Ok(value as u64)
    } else {
        Err("not a whole number".to_owned())
    }
}

/// `2/4`.
pub fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    numbers
        .and_then(|(number, of)| Shard::new(number, of))
        .ok_or_else(|| format!("write I/N, from 1/N to N/N, with N at most {}", Shard::MAX))
}

/// A number of shards.
pub fn shards(text: &str) -> Result<u32, String> {
    let shards = text.parse().ok().filter(|of| Shard::new(1, *of).is_some());
    shards.ok_or_else(|| format!("write a number from 1 to {}", Shard::MAX))
}

/// Any finite number.
pub fn alpha(text: &str) -> Result<Alpha, String> {
    let value = text.parse::<f64>().map_err(|_| "not a number".to_owned())?;
    Alpha::new(value).ok_or_else(|| "not a finite number".to_owned())
}

/// Refuses the path of a figure unless it ends in `.svg`.
pub fn is_svg(path: &Path) -> Result<(), Failure> {
    match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
        true => Ok(()),
        false => {
            let message = format!("{}: figures are SVG only", path.display());
            Err(Failure::usage(message, format!("name it {}", path.with_extension("svg").display())))
        }
    }
}

/// `FROM=TO`, either of which may be empty.
pub fn prefix_map(text: &str) -> Result<Prefix, String> {
    let (from, to) = text.split_once('=').ok_or("write FROM=TO; either may be empty, as in bert.=")?;
    Ok(Prefix { from: from.to_owned(), to: to.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_are_shares_or_percentages() {
        assert_eq!(density("0.5%").map(Density::share), Ok(0.005));
        assert_eq!(density("0.005").map(Density::share), Ok(0.005));
        assert!(density("0%").unwrap_err().contains("select nothing") && size("0").is_err() && top("0").is_err());
        assert!(density("101%").is_err() && density("NaN").is_err() && density("x").is_err());
    }

    #[test]
    fn counts_may_be_abbreviated() {
        assert_eq!(count("425_000"), Ok(425_000));
        assert_eq!(count("425k"), Ok(425_000));
        assert_eq!(count("1.5M"), Ok(1_500_000));
        assert!(count("-1").is_err() && count("1.5").is_err() && count("0.0001k").is_err());
    }
}
