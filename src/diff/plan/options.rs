//! The options of a diff in the form in which a plan holds them.

use crate::diff::{
    Amount, CandidateOptions, Density, DiffOptions, Effort, Labels, Localize, Params, Portability, Size,
};
use crate::edit::Alpha;
use crate::mask::Scope;
use crate::pair::{PairOptions, Prefix, PrefixMap, PruningPairs, Unpaired};
use serde::{Deserialize, Serialize};

/// The options with which a diff can be divided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Options {
    leaves_out_unpaired: bool,
    prefixes: Vec<(String, String)>,
    pruning_pairs_are_weights: bool,
    params: Option<Params>,
    include: Vec<String>,
    exclude: Vec<String>,
    /// All that differs if there is none.
    pub largest: Option<Largest>,
    pub is_portable: bool,
    effort: Effort,
    pub labels: StoredLabels,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Largest {
    pub amount: StoredAmount,
    pub by_tensor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum StoredAmount {
    Count(u64),
    Density(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredLabels {
    base_model: Option<String>,
    reference_model: Option<String>,
    license: Option<String>,
    description: Option<String>,
    pub recommended_alpha: Option<f64>,
    /// JSON, since free values have no other form.
    results: String,
    x: String,
}

impl Options {
    pub fn of(options: &DiffOptions<'_>) -> Result<Self, String> {
        let largest = match options.localize {
            Localize::Value { amount: Size::Amount(amount), scope } => {
                let amount = match amount {
                    Amount::Count(count) => StoredAmount::Count(count),
                    Amount::Density(density) => StoredAmount::Density(density.share()),
                };
                Some(Largest { amount, by_tensor: scope == Scope::Tensor })
            }
            _ => None,
        };
        let json = |map: &serde_json::Map<_, _>| serde_json::to_string(map).map_err(|e| e.to_string());
        let prefixes = options.pair.prefix.as_ref().map_or(&[][..], PrefixMap::prefixes);
        let labels = &options.labels;
        Ok(Self {
            leaves_out_unpaired: options.pair.unpaired == Unpaired::LeaveOut,
            prefixes: prefixes.iter().map(|prefix| (prefix.from.clone(), prefix.to.clone())).collect(),
            pruning_pairs_are_weights: options.pair.pruning_pairs == PruningPairs::Weights,
            params: options.candidates.params,
            include: options.candidates.include.clone(),
            exclude: options.candidates.exclude.clone(),
            largest,
            is_portable: options.portability == Portability::Portable,
            effort: options.effort,
            labels: StoredLabels {
                base_model: labels.base_model.clone(),
                reference_model: labels.reference_model.clone(),
                license: labels.license.clone(),
                description: labels.description.clone(),
                recommended_alpha: labels.recommended_alpha.map(Alpha::value),
                results: json(&labels.results)?,
                x: json(&labels.x)?,
            },
        })
    }

    /// The options, if they are possible.
    pub fn read(&self) -> Result<DiffOptions<'static>, String> {
        let localize = match self.largest {
            None => Localize::Full,
            Some(Largest { amount, by_tensor }) => {
                let amount = match amount {
                    StoredAmount::Count(count) => Amount::Count(count),
                    StoredAmount::Density(share) => {
                        Amount::Density(Density::new(share).ok_or_else(|| format!("a density of {share}"))?)
                    }
                };
                let scope = if by_tensor { Scope::Tensor } else { Scope::Global };
                Localize::Value { amount: Size::Amount(amount), scope }
            }
        };
        let json = |text: &str| serde_json::from_str(text).map_err(|e| format!("labels: {e}"));
        let StoredLabels { base_model, reference_model, license, description, .. } = self.labels.clone();
        let alpha = |value: f64| Alpha::new(value).ok_or_else(|| format!("an alpha of {value}"));
        let prefixes = self.prefixes.iter().cloned().map(|(from, to)| Prefix { from, to }).collect();
        Ok(DiffOptions {
            pair: PairOptions {
                unpaired: if self.leaves_out_unpaired { Unpaired::LeaveOut } else { Unpaired::Refuse },
                prefix: PrefixMap::new(prefixes),
                pruning_pairs: match self.pruning_pairs_are_weights {
                    true => PruningPairs::Weights,
                    false => PruningPairs::Tensors,
                },
                ..PairOptions::default()
            },
            candidates: CandidateOptions {
                params: self.params,
                include: self.include.clone(),
                exclude: self.exclude.clone(),
            },
            localize,
            portability: if self.is_portable { Portability::Portable } else { Portability::NeedsBase },
            effort: self.effort,
            labels: Labels {
                base_model,
                reference_model,
                license,
                description,
                recommended_alpha: self.labels.recommended_alpha.map(alpha).transpose()?,
                results: json(&self.labels.results)?,
                x: json(&self.labels.x)?,
            },
            ..DiffOptions::default()
        })
    }
}
