//! Classifies the change that a patch makes, in one sentence with the numbers behind it. It uses the table of tensors and selected weights,
//! never the metadata, and on request the changes themselves ([`Spectrum`]).

use super::table::percent;
use crate::algebra::Spectrum;
use crate::checkpoint::names::{self, Component, Layer};
use crate::patch::Patch;
use crate::words::{count, counted};
use serde::Serialize;
use std::collections::BTreeMap;

/// A change of at least this share of the weights of the changed tensors is dense, as after many steps of an optimizer.
pub const DENSE_FROM: f64 = 0.5;
/// A change of less than this share is sparse, as of chosen weights, or after a few steps in 16 bits.
pub const SPARSE_BELOW: f64 = 0.05;
/// A component or a layer stands out if it has so many times its share of the changes...
pub const STANDS_OUT_FROM: f64 = 1.5;
/// ... and at least this share of all of them. Small tensors reach high ratios with a few weights.
pub const NOTABLE_FROM: f64 = 0.1;
/// Up to this share of the most that is possible, a matrix changes along few directions: 48 of 768. Random changes reach a quarter or more.
pub const LOW_RANK_TO: f64 = 1.0 / 16.0;
/// If at most this many components change, they are named.
const NAMED: usize = 2;

/// The share of the weights in the changed tensors that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// None.
    Nothing,
    /// Less than `SPARSE_BELOW`.
    Sparse,
    /// Between the two.
    Partial,
    /// `DENSE_FROM` or more.
    Dense,
}

/// A component or a layer with more than its share of the changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its name.
    pub label: String,
    /// The number of its changed weights.
    pub changed: u64,
    /// The number of its weights in tensors that change.
    pub elements: u64,
    /// Its share of the changes divided by its share of the weights.
    pub times: f64,
}

/// The kind of change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kind {
    /// The sentence.
    pub sentence: String,
    /// The share of the weights that changes.
    pub extent: Extent,
    /// Changed weights.
    pub changed: u64,
    /// Weights of the tensors that change.
    pub elements: u64,
    /// Tensors that change.
    pub tensors: usize,
    /// The components, if no others change.
    pub only_components: Vec<String>,
    /// The layer, if nothing else changes.
    pub only_layer: Option<String>,
    /// Components with more than their share, the largest part first.
    pub components: Vec<Part>,
    /// Layers with more than their share, the largest part first.
    pub layers: Vec<Part>,
    /// Those of norms, embeddings and head that do not change at all.
    pub untouched: Vec<&'static str>,
    /// The ranks of the changes of matrices, if they were measured and a matrix changes.
    pub ranks: Option<Ranks>,
}

/// The ranks of the changes of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ranks {
    /// Matrices that change.
    pub matrices: usize,
    /// The median of their stable ranks.
    pub median: f64,
    /// The median of the stable rank divided by the smaller dimension.
    pub share: f64,
    /// Whether that share is at most `LOW_RANK_TO`.
    pub low: bool,
}

impl Kind {
    /// The kind of a patch.
    pub fn of(patch: &Patch) -> Self {
        Self::new(patch.table().tensors.iter().map(|entry| (entry.name.as_str(), entry.selected, entry.elements())))
    }

    /// The kind of a change of tensors, given the name, the changed weights (at least one) and all weights of each.
    pub fn new<'a>(tensors: impl IntoIterator<Item = (&'a str, u64, u64)>) -> Self {
        let mut all = Sum::default();
        let mut components: BTreeMap<Component, Sum> = BTreeMap::new();
        let mut layers: BTreeMap<Option<Layer>, Sum> = BTreeMap::new();
        let mut n = 0;
        for (name, changed, elements) in tensors {
            let place = names::owner(name);
            let sums =
                [&mut all, components.entry(place.component).or_default(), layers.entry(place.layer).or_default()];
            for sum in sums {
                sum.changed += changed;
                sum.elements += elements;
            }
            n += 1;
        }
        let only_components = match components.len() {
            1..=NAMED => components.keys().map(|component| word(*component).to_owned()).collect(),
            _ => Vec::new(),
        };
        let only_layer = match layers.keys().collect::<Vec<_>>()[..] {
            [only @ Some(_)] => Some(names::layer_label(*only)),
            _ => None,
        };
        let mut kind = Self {
            sentence: String::new(),
            extent: all.extent(),
            changed: all.changed,
            elements: all.elements,
            tensors: n,
            only_components,
            only_layer,
            components: parts(all, components.iter().map(|(component, sum)| (word(*component).to_owned(), *sum))),
            layers: parts(
                all,
                layers
                    .iter()
                    .filter(|(layer, _)| layer.is_some())
                    .map(|(layer, sum)| (names::layer_label(*layer), *sum)),
            ),
            untouched: untouched(&components),
            ranks: None,
        };
        kind.sentence = kind.words();
        kind
    }

    /// Adds the ranks of the changes of matrices.
    pub fn with_spectrum(mut self, spectrum: &[Spectrum]) -> Self {
        let median = |of: fn(&Spectrum) -> f64| {
            let mut values: Vec<f64> = spectrum.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        let share = |of: &Spectrum| of.stable_rank / of.rows.min(of.columns) as f64;
        self.ranks = median(|of| of.stable_rank).zip(median(share)).map(|(median, share)| Ranks {
            matrices: spectrum.len(),
            median,
            share,
            low: share <= LOW_RANK_TO,
        });
        self.sentence = self.words();
        self
    }

    fn words(&self) -> String {
        let extent = match self.extent {
            Extent::Nothing => return "Changes nothing.".to_owned(),
            Extent::Sparse => "sparse",
            Extent::Partial => "partial",
            Extent::Dense => "dense",
        };
        let share = percent(self.changed, self.elements);
        let tensors = match self.tensors {
            1 => "the one tensor that changes".to_owned(),
            n => format!("the {} that change", counted(n, "tensor")),
        };
        let (changed, elements) = (count(self.changed), counted(self.elements, "weight"));
        let what = format!("A {extent} change of {changed} of the {elements} ({share}) in {tensors}");
        let layer = self.only_layer.as_ref().map(|layer| format!("layer {layer}"));
        let only = match (listed(&self.only_components), layer) {
            (Some(components), Some(layer)) => Some(format!("only in {components} of {layer}")),
            (Some(one), None) | (None, Some(one)) => Some(format!("only in {one}")),
            (None, None) => None,
        };
        // A part that changes alone cannot stand out from others.
        let components = self.components.iter().filter(|_| self.only_components.is_empty());
        let layers = self.layers.iter().filter(|_| self.only_layer.is_none());
        let components = components.map(|part| (part.label.clone(), part.times));
        let layers = layers.map(|part| (format!("layer {}", part.label), part.times));
        let standing_out: Vec<String> = components
            .chain(layers)
            .enumerate()
            .map(|(at, (label, times))| match at {
                0 => format!("{label} ({times:.1} times their share)"),
                _ => format!("{label} ({times:.1} times)"),
            })
            .collect();
        let standing_out = listed(&standing_out).map(|parts| format!("above all in {parts}"));
        let place = match (only, standing_out) {
            (None, None) => "no component or layer stands out".to_owned(),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(only), Some(standing_out)) => format!("{only}, {standing_out}"),
        };
        let untouched: Vec<String> = self.untouched.iter().map(|part| (*part).to_owned()).collect();
        let untouched = listed(&untouched).map_or_else(String::new, |parts| format!("; {parts} untouched"));
        let ranks = self.ranks.map_or_else(String::new, |Ranks { median, share, low, .. }| {
            let word = if low { "of low rank" } else { "not of low rank" };
            format!("; {word} (median stable rank {median:.1}, {:.1} % of what is possible)", 100.0 * share)
        });
        format!("{what}: {place}{untouched}{ranks}.")
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    changed: u64,
    elements: u64,
}

impl Sum {
    fn extent(self) -> Extent {
        match self.changed as f64 / self.elements.max(1) as f64 {
            _ if self.changed == 0 => Extent::Nothing,
            share if share < SPARSE_BELOW => Extent::Sparse,
            share if share < DENSE_FROM => Extent::Partial,
            _ => Extent::Dense,
        }
    }
}

/// The parts that stand out, the largest first.
fn parts(all: Sum, sums: impl Iterator<Item = (String, Sum)>) -> Vec<Part> {
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let part = |(label, sum): (String, Sum)| {
        let times = share(sum.changed, all.changed) / share(sum.elements, all.elements).max(f64::MIN_POSITIVE);
        let stands_out = times >= STANDS_OUT_FROM && share(sum.changed, all.changed) >= NOTABLE_FROM;
        stands_out.then_some(Part { label, changed: sum.changed, elements: sum.elements, times })
    };
    let mut parts: Vec<Part> = sums.filter_map(part).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.changed));
    parts
}

/// `a`, `a and b`, `a, b and c`; none of nothing.
fn listed(items: &[String]) -> Option<String> {
    match items {
        [] => None,
        [one] => Some(one.clone()),
        [rest @ .., last] => Some(format!("{} and {last}", rest.join(", "))),
    }
}

/// The components that do not change. Tied embeddings are the head, too, so the head counts as unchanged only if the embeddings are.
fn untouched(changed: &BTreeMap<Component, Sum>) -> Vec<&'static str> {
    let is = |component| !changed.contains_key(&component);
    let mut untouched = Vec::new();
    if changed.is_empty() {
        return untouched;
    }
    untouched.extend(is(Component::Norm).then_some("norms"));
    untouched.extend(is(Component::Embeddings).then_some("embeddings"));
    untouched.extend((is(Component::Head) && is(Component::Embeddings)).then_some("the head"));
    untouched
}

fn word(component: Component) -> &'static str {
    match component {
        Component::AttentionQuery => "query weights",
        Component::AttentionKey => "key weights",
        Component::AttentionValue => "value weights",
        Component::AttentionQkv => "query, key and value weights",
        Component::AttentionOutput => "attention output weights",
        Component::Intermediate => "intermediate weights",
        Component::Gate => "gate weights",
        Component::Output => "output weights",
        Component::Norm => "norms",
        Component::Bias => "biases",
        Component::Pooler => "the pooler",
        Component::Head => "the head",
        Component::Embeddings => "embeddings",
        Component::Other => "tensors of no known component",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: [&str; 6] = [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ];

    /// A BERT of four layers, and how many weights of each tensor, by name, change.
    fn kind(changes: impl Fn(&str) -> u64) -> Kind {
        let mut tensors = vec![("bert.embeddings.word_embeddings.weight".to_owned(), 30_000)];
        for layer in 0..4 {
            for module in MODULES {
                tensors.push((format!("bert.encoder.layer.{layer}.{module}.weight"), 10_000));
                tensors.push((format!("bert.encoder.layer.{layer}.{module}.bias"), 100));
            }
            tensors.push((format!("bert.encoder.layer.{layer}.output.LayerNorm.weight"), 100));
            tensors.push((format!("bert.encoder.layer.{layer}.output.LayerNorm.bias"), 100));
        }
        tensors.push(("cls.predictions.transform.dense.weight".to_owned(), 10_000));
        let changed = tensors.iter().map(|(name, elements)| (name.as_str(), changes(name), *elements));
        Kind::new(changed.filter(|(_, changed, _)| *changed > 0))
    }

    fn says(kind: &Kind, texts: &[&str]) {
        texts.iter().for_each(|text| assert!(kind.sentence.contains(text), "{text:?} is not in {:?}", kind.sentence));
    }

    #[test]
    fn a_dense_update() {
        let kind = kind(|name| {
            if name.contains("bias") {
                95
            } else if name.contains("Norm") {
                90
            } else {
                9_500
            }
        });
        says(
            &kind,
            &["A dense change of 250,020 of the 283,200 weights (88.28 %)", "no component or layer stands out"],
        );
        assert_eq!((kind.extent, kind.untouched.len()), (Extent::Dense, 0));
        assert!(!kind.sentence.contains("untouched"));
    }

    #[test]
    fn the_largest_differences_of_some_components_and_layers() {
        let kind = kind(|name| match name.ends_with("weight") && name.contains("attention.self") {
            true if name.contains("layer.0") && !name.contains("value") => 300,
            _ if name.contains("dense.weight") && name.contains("encoder") => 10,
            _ => 0,
        });
        let places =
            "above all in query weights (5.8 times their share), key weights (5.8 times) and layer 0 (2.4 times)";
        says(&kind, &["A sparse change of 720 of", places, "; norms, embeddings and the head untouched."]);
        assert_eq!(kind.untouched, ["norms", "embeddings", "the head"]);
        let labels: Vec<&str> = kind.components.iter().map(|part| part.label.as_str()).collect();
        assert_eq!(labels, ["query weights", "key weights"]);
    }

    #[test]
    fn one_component() {
        let kind = kind(|name| if name.ends_with("self.value.weight") { 2_000 } else { 0 });
        says(
            &kind,
            &[
                "A partial change of 8,000 of the 40,000 weights (20.00 %) in the 4 tensors that change: only in value weights",
            ],
        );
    }

    #[test]
    fn merged_adapters_change_all_of_few_matrices() {
        let adapted = |name: &str| name.ends_with("self.query.weight") || name.ends_with("self.value.weight");
        let kind = kind(|name| if adapted(name) { 10_000 } else { 0 });
        says(
            &kind,
            &[
                "A dense change",
                "in the 8 tensors that change: only in query weights and value weights",
                "the head untouched.",
            ],
        );
    }

    #[test]
    fn embeddings_alone_say_nothing_of_a_head_that_may_be_tied() {
        let kind = kind(|name| if name.contains("embeddings") { 30_000 } else { 0 });
        says(&kind, &["in the one tensor that changes: only in embeddings; norms untouched."]);
    }

    #[test]
    fn norms_have_their_biases() {
        let kind = kind(|name| if name.contains("LayerNorm") { 100 } else { 0 });
        says(&kind, &["in the 8 tensors that change: only in norms; embeddings and the head untouched."]);
    }

    #[test]
    fn one_layer() {
        let kind = kind(|name| if name.contains("layer.2.") && name.contains("dense") { 50 } else { 0 });
        says(&kind, &["only in layer 2"]);
        assert_eq!(kind.only_layer.as_deref(), Some("2"));
    }

    #[test]
    fn few_directions_or_many() {
        let spectrum = |stable_rank| Spectrum { tensor: "w".to_owned(), rows: 768, columns: 3072, stable_rank };
        let kind = kind(|name| if name.ends_with("self.value.weight") { 2_000 } else { 0 });
        let of =
            |ranks: &[f64]| kind.clone().with_spectrum(&ranks.iter().map(|rank| spectrum(*rank)).collect::<Vec<_>>());
        says(
            &of(&[3.0, 4.0, 500.0]),
            &["the head untouched; of low rank (median stable rank 4.0, 0.5 % of what is possible)."],
        );
        says(&of(&[3.0, 50.0, 500.0]), &["; not of low rank (median stable rank 50.0, 6.5 % of what is possible)."]);
        assert_eq!((of(&[]).ranks, of(&[]).sentence), (None, kind.sentence));
    }

    #[test]
    fn nothing() {
        assert_eq!(kind(|_| 0).sentence, "Changes nothing.");
    }
}
