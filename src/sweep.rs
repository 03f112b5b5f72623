//! A grid of localizations and edits of one pair of checkpoints, all measured against one unedited model.
//!
//! ```text
//! Grid --cells--> for each localization: diff --Patch--> for each edit: Bench --Row--> Journal
//! ```
//!
//! No patch and no checkpoint is written. A journal keeps what was measured, and knows what need not be measured again.

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::diff::{DiffOptions, Diffed, Localize, Size, diff};
use crate::edit::EditKind;
use crate::error::Error;
use crate::localize::random::Among;
use crate::mask::Scope;
use crate::patch::Patch;
use crate::verify::{Bench, Case, Row};

/// How weights are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The largest differences (paper eq 2).
    Value,
    /// What exactly one pruning mask keeps (paper eq 1).
    Mask,
    /// Drawn, as a baseline.
    Random,
}

impl Strategy {
    /// The name on the command line and in results.
    pub fn label(self) -> &'static str {
        match self {
            Strategy::Value => "value",
            Strategy::Mask => "mask",
            Strategy::Random => "random",
        }
    }
}

/// One way to find weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Localization {
    /// How.
    pub strategy: Strategy,
    /// How many. Of masks they are as many as there are.
    pub size: Option<Size>,
    /// What random numbers begin with.
    pub seed: Option<u64>,
    /// What may be drawn.
    pub among: Option<Among>,
}

impl Localization {
    fn localize(self, scope: Scope) -> Localize {
        match (self.strategy, self.size) {
            (Strategy::Value, Some(amount)) => Localize::Value { amount, scope },
            (Strategy::Random, Some(amount)) => {
                let (seed, among) = (self.seed.unwrap_or(0), self.among.unwrap_or(Among::Either));
                Localize::Random { amount, seed, among }
            }
            _ => Localize::Mask,
        }
    }
}

impl std::fmt::Display for Localization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.strategy.label())?;
        self.size.map_or(Ok(()), |size| write!(f, ", k {size}"))?;
        self.seed.map_or(Ok(()), |seed| write!(f, ", seed {seed}"))?;
        match self.among {
            Some(Among::Target) => f.write_str(", among what the target keeps"),
            _ => Ok(()),
        }
    }
}

/// What to measure: every strategy with every size and, of random ones, with every seed; each with every edit.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The strategies.
    pub strategies: Vec<Strategy>,
    /// How many weights.
    pub sizes: Vec<Size>,
    /// Of random localizations.
    pub seeds: Vec<u64>,
    /// The edits.
    pub edits: Vec<EditKind>,
    /// Rank all candidates together, or each tensor for itself.
    pub scope: Scope,
}

impl Grid {
    /// Every localization, with the edits that make sense of it. Where there are no masks, or where the weights are those that both
    /// masks keep, there is none to switch; and what is pruned at random is drawn from what the target keeps.
    pub fn cells(&self, masked: bool) -> Vec<(Localization, Vec<EditKind>)> {
        let edits = |makes_sense: &dyn Fn(EditKind) -> bool| -> Vec<EditKind> {
            self.edits.iter().copied().filter(|edit| makes_sense(*edit)).collect()
        };
        let mut cells = Vec::new();
        for strategy in self.strategies.iter().copied() {
            let plain = Localization { strategy, size: None, seed: None, among: None };
            match strategy {
                Strategy::Mask => cells.push((plain, self.edits.clone())),
                Strategy::Value => {
                    let edits = edits(&|edit| edit != EditKind::Switch);
                    cells.extend(self.sizes.iter().map(|size| {
                        let size = Some(*size);
                        (Localization { size, ..plain }, edits.clone())
                    }));
                }
                Strategy::Random => {
                    for size in &self.sizes {
                        for seed in &self.seeds {
                            let drawn = Localization { size: Some(*size), seed: Some(*seed), ..plain };
                            let of = |among| Localization { among: Some(among), ..drawn };
                            if masked {
                                cells.push((of(Among::Either), edits(&|edit| edit != EditKind::Prune)));
                                cells.push((of(Among::Target), edits(&|edit| edit == EditKind::Prune)));
                            } else {
                                cells.push((drawn, edits(&|edit| edit != EditKind::Switch)));
                            }
                        }
                    }
                }
            }
        }
        cells.retain(|(_, edits)| !edits.is_empty());
        cells
    }
}

/// Who keeps what a sweep measures.
pub trait Journal {
    /// A patch was made. Returns those of its `edits` that are still to be measured.
    ///
    /// # Errors
    /// Ends the sweep.
    fn patch(
        &mut self,
        localization: &Localization,
        diffed: &Diffed,
        edits: Vec<EditKind>,
    ) -> Result<Vec<EditKind>, Error>;

    /// An edit was measured.
    ///
    /// # Errors
    /// Ends the sweep.
    fn row(&mut self, localization: &Localization, patch: &Patch, row: &Row) -> Result<(), Error>;
}

/// Measures a grid of the pair of `target`, whose unedited model `bench` has measured, and `reference`. `options` say everything about
/// patches but how the weights are found.
///
/// # Errors
/// As [`diff`] and [`Bench::row`]; what the journal refuses.
pub fn sweep(
    grid: &Grid,
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    bench: &Bench<'_>,
    journal: &mut dyn Journal,
    context: &Context<'_>,
) -> Result<(), Error> {
    for (localization, edits) in grid.cells(options.masks.is_some()) {
        let options = DiffOptions { localize: localization.localize(grid.scope), ..options.clone() };
        let diffed = diff(target, reference, &options, context)?;
        let left = journal.patch(&localization, &diffed, edits)?;
        let patches = [diffed.patch.named(localization.to_string())];
        // An edit that cannot be made is worth knowing before the others are measured.
        left.iter().try_for_each(|kind| bench.check(&patches, Case { kind: *kind }, context))?;
        for kind in left {
            let row = bench.row(&patches, Case { kind }, context)?;
            journal.row(&localization, &patches[0], &row)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Alpha;

    #[test]
    fn each_localization_gets_the_edits_that_make_sense_of_it() {
        let grid = Grid {
            strategies: vec![Strategy::Value, Strategy::Mask, Strategy::Random],
            sizes: vec![Size::FromMask],
            seeds: vec![0, 1],
            edits: vec![EditKind::Interpolate(Alpha::ONE), EditKind::Prune, EditKind::Switch],
            scope: Scope::Global,
        };
        let told = |masked| -> Vec<String> {
            let edits = |edits: &[EditKind]| edits.iter().map(|edit| edit.label()).collect::<Vec<_>>().join(" ");
            grid.cells(masked).iter().map(|(localization, kinds)| format!("{localization}: {}", edits(kinds))).collect()
        };
        let masked = [
            "value, k from-mask: ip pr",
            "mask: ip pr sw",
            "random, k from-mask, seed 0: ip sw",
            "random, k from-mask, seed 0, among what the target keeps: pr",
            "random, k from-mask, seed 1: ip sw",
            "random, k from-mask, seed 1, among what the target keeps: pr",
        ];
        assert_eq!(told(true), masked);
        assert_eq!(told(false)[2..], ["random, k from-mask, seed 0: ip pr", "random, k from-mask, seed 1: ip pr"]);
    }
}
