//! Measures a grid of localizations and edits of one pair of checkpoints, and compares all with one unedited model.
//!
//! ```text
//! Grid --cells--> for each localization: diff --Patch--> for each edit: Baseline --Measurement--> Recorder
//! ```
//!
//! No patch and no checkpoint is written. A recorder keeps the measurements, and knows which edits need not be measured again.

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::diff::{DiffOptions, Diffed, Localize, Size, diff};
use crate::edit::EditKind;
use crate::error::Error;
use crate::localize::random::Among;
use crate::mask::Scope;
use crate::patch::Patch;
use crate::verify::{Baseline, Evaluation, Measurement, try_edit};

/// How the weights of a patch are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// The largest differences (paper eq 2).
    Value,
    /// The weights that exactly one of two pruning masks keeps (paper eq 1).
    Mask,
    /// Random weights, as a baseline.
    Random,
}

impl Strategy {
    /// Its name on the command line and in results.
    pub fn label(self) -> &'static str {
        match self {
            Strategy::Value => "value",
            Strategy::Mask => "mask",
            Strategy::Random => "random",
        }
    }
}

/// A choice of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Localization {
    /// The strategy.
    pub strategy: Strategy,
    /// The number of weights. None of masks, which decide it themselves.
    pub size: Option<Size>,
    /// The seed of random weights.
    pub seed: Option<u64>,
    /// The weights from which random ones are drawn.
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

/// The product of strategies, sizes, seeds (of random weights) and edits.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The strategies.
    pub strategies: Vec<Strategy>,
    /// The numbers of weights. The mask strategy takes none.
    pub sizes: Vec<Size>,
    /// The seeds of the random strategy.
    pub seeds: Vec<u64>,
    /// The edits.
    pub edits: Vec<EditKind>,
    /// Whether all candidates are ranked together, or those of each tensor.
    pub scope: Scope,
}

impl Grid {
    /// Every localization, with the edits that are possible for it. Without masks, and for weights that both masks keep, there is no
    /// mask to switch. Pruning takes random weights from those that the target keeps, other edits from those that either keeps.
    pub fn cells(&self, masked: bool) -> Vec<(Localization, Vec<EditKind>)> {
        let mut cells = Vec::new();
        for strategy in self.strategies.iter().copied() {
            let any = Localization { strategy, size: None, seed: None, among: None };
            match strategy {
                Strategy::Mask => cells.push((any, self.edits.clone())),
                Strategy::Value => {
                    let edits = self.edits_where(|edit| edit != EditKind::Switch);
                    cells.extend(
                        self.sizes.iter().map(|size| (Localization { size: Some(*size), ..any }, edits.clone())),
                    );
                }
                Strategy::Random => {
                    for size in &self.sizes {
                        for seed in &self.seeds {
                            let random = Localization { size: Some(*size), seed: Some(*seed), ..any };
                            cells.extend(self.random_cells(random, masked));
                        }
                    }
                }
            }
        }
        cells.retain(|(_, edits)| !edits.is_empty());
        cells
    }

    fn random_cells(&self, random: Localization, masked: bool) -> Vec<(Localization, Vec<EditKind>)> {
        if !masked {
            return vec![(random, self.edits_where(|edit| edit != EditKind::Switch))];
        }
        let among = |among| Localization { among: Some(among), ..random };
        vec![
            (among(Among::Either), self.edits_where(|edit| edit != EditKind::Prune)),
            (among(Among::Target), self.edits_where(|edit| edit == EditKind::Prune)),
        ]
    }

    fn edits_where(&self, is_possible: impl Fn(EditKind) -> bool) -> Vec<EditKind> {
        self.edits.iter().copied().filter(|edit| is_possible(*edit)).collect()
    }
}

/// Keeps the measurements of a sweep.
pub trait Recorder {
    /// Records a new patch, and returns those of its `edits` that are not measured yet.
    ///
    /// # Errors
    /// Ends the sweep.
    fn patch(
        &mut self,
        localization: &Localization,
        diffed: &Diffed,
        edits: Vec<EditKind>,
    ) -> Result<Vec<EditKind>, Error>;

    /// Records the measurement of an edit.
    ///
    /// # Errors
    /// Ends the sweep.
    fn row(&mut self, localization: &Localization, patch: &Patch, measurement: &Measurement) -> Result<(), Error>;
}

/// Checks, before anything is measured, that each edit without an alpha is possible: the first patch of the grid that is to be pruned, or
/// whose masks are to be switched, is made for that. `options` are as in [`sweep`].
///
/// # Errors
/// As [`diff`]; an edit for which the pair has not what it needs.
pub(crate) fn check(
    grid: &Grid,
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    evaluation: Evaluation<'_>,
    context: &Context<'_>,
) -> Result<(), Error> {
    let cells = grid.cells(options.masks.is_some());
    for edit in [EditKind::Prune, EditKind::Switch] {
        let Some((localization, _)) = cells.iter().find(|(_, edits)| edits.contains(&edit)) else { continue };
        let options = DiffOptions { localize: localization.localize(grid.scope), ..options.clone() };
        let patch = diff(target, reference, &options, context)?.patch.named(localization.to_string());
        try_edit(evaluation, &[patch], edit, context)?;
    }
    Ok(())
}

/// Measures a grid of edits from `target`, whose unedited model is `baseline`, towards `reference`. `options` hold all options of the
/// patches but the localization, which the grid replaces.
///
/// # Errors
/// As [`diff`] and [`Baseline::measure_edit`]; errors of the recorder.
pub fn sweep(
    grid: &Grid,
    target: &Checkpoint,
    reference: &Checkpoint,
    options: &DiffOptions<'_>,
    baseline: &Baseline<'_>,
    recorder: &mut dyn Recorder,
    context: &Context<'_>,
) -> Result<(), Error> {
    for (localization, edits) in grid.cells(options.masks.is_some()) {
        let options = DiffOptions { localize: localization.localize(grid.scope), ..options.clone() };
        let diffed = diff(target, reference, &options, context)?;
        let edits = recorder.patch(&localization, &diffed, edits)?;
        // Error messages name the patch by its localization, since it has no file.
        let patches = [diffed.patch.named(localization.to_string())];
        // Impossible edits are refused before the first one is measured.
        edits.iter().try_for_each(|edit| baseline.check(&patches, *edit, context))?;
        for edit in edits {
            let measurement = baseline.measure_edit(&patches, edit, context)?;
            recorder.row(&localization, &patches[0], &measurement)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Alpha;

    #[test]
    fn each_localization_gets_the_edits_that_are_possible_for_it() {
        let grid = Grid {
            strategies: vec![Strategy::Value, Strategy::Mask, Strategy::Random],
            sizes: vec![Size::FromMask],
            seeds: vec![0, 1],
            edits: vec![EditKind::Interpolate(Alpha::ONE), EditKind::Prune, EditKind::Switch],
            scope: Scope::Global,
        };
        let shown = |masked| -> Vec<String> {
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
        assert_eq!(shown(true), masked);
        assert_eq!(shown(false)[2..], ["random, k from-mask, seed 0: ip pr", "random, k from-mask, seed 1: ip pr"]);
    }
}
