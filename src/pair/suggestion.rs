//! Suggests prefixes with which more tensors would pair.

use super::{PairOptions, Prefix, PrefixMap};
use crate::checkpoint::Checkpoint;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Prefixes with which more of the reference's tensors pair, and their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// The number of the reference's names that are names of the target once the prefixes are replaced.
    pub paired: usize,
    /// The number of the reference's names.
    pub of: usize,
}

/// The most prefixes to suggest: few models have more parts with prefixes of their own.
const SUGGESTED_MAX: usize = 8;

/// Suggests prefixes, or `None` if the prefixes in `options` pair as many tensors.
///
/// Each candidate is tried, the one that most names vote for first, and is suggested if more tensors pair with it. Takes time in
/// proportion to the number of names.
pub(super) fn suggest(target: &Checkpoint, reference: &Checkpoint, options: &PairOptions) -> Option<Suggestion> {
    let names = Names {
        target: target.tensors().filter_map(|tensor| options.key(target, &tensor.info.name)).collect(),
        reference: reference.tensors().filter_map(|tensor| options.key(reference, &tensor.info.name)).collect(),
    };
    let mut prefixes: Vec<Prefix> = Vec::new();
    let mut paired = names.paired(&prefixes);
    for candidate in names.candidates().into_iter().take(2 * SUGGESTED_MAX) {
        if prefixes.len() == SUGGESTED_MAX || prefixes.iter().any(|prefix| prefix.from == candidate.from) {
            continue;
        }
        prefixes.push(candidate);
        let paired_with_candidate = names.paired(&prefixes);
        if paired_with_candidate > paired {
            paired = paired_with_candidate;
        } else {
            prefixes.pop();
        }
    }
    let paired_as_given = names.paired(options.prefix.as_ref().map_or(&[][..], PrefixMap::prefixes));
    let is_better = !prefixes.is_empty() && paired > paired_as_given;
    is_better.then_some(Suggestion { prefixes, paired, of: names.reference.len() })
}

/// The names by which the tensors of two checkpoints are paired.
struct Names {
    target: HashSet<String>,
    reference: Vec<String>,
}

impl Names {
    /// The number of the target's names that the reference has once `prefixes` are replaced.
    fn paired(&self, prefixes: &[Prefix]) -> usize {
        let map = PrefixMap(prefixes.to_vec());
        let names = self.reference.iter().map(|name| map.apply(name)).filter(|name| self.target.contains(name));
        names.collect::<HashSet<String>>().len()
    }

    /// Prefixes that turn an unpaired name of the reference into an unpaired name of the target: what remains of both without their
    /// longest common end. Those that apply to most names come first.
    fn candidates(&self) -> Vec<Prefix> {
        let by_end = self.unpaired_targets_by_end();
        let mut votes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for name in self.reference.iter().filter(|name| !self.target.contains(*name)) {
            let common_end = ends(name).find_map(|end| Some((end, (*by_end.get(end)?)?)));
            if let Some((end, target)) = common_end {
                let (from, to) = (&name[..name.len() - end.len()], &target[..target.len() - end.len()]);
                *votes.entry((from, to)).or_default() += 1;
            }
        }
        let mut votes: Vec<_> = votes.into_iter().collect();
        votes.sort_by_key(|(_, count)| Reverse(*count));
        votes.into_iter().map(|((from, to), _)| Prefix { from: from.to_owned(), to: to.to_owned() }).collect()
    }

    /// The target's names that the reference does not have, by each of their ends; `None` for an end that several names share.
    fn unpaired_targets_by_end(&self) -> HashMap<&str, Option<&str>> {
        let reference: HashSet<&String> = self.reference.iter().collect();
        let mut by_end: HashMap<&str, Option<&str>> = HashMap::new();
        for name in self.target.iter().filter(|name| !reference.contains(name)) {
            for end in ends(name) {
                by_end.entry(end).and_modify(|only| *only = None).or_insert(Some(name));
            }
        }
        by_end
    }
}

/// The name, and what follows each of its dots: longest first.
fn ends(name: &str) -> impl Iterator<Item = &str> {
    std::iter::once(name).chain(name.match_indices('.').map(|(dot, _)| &name[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::floats;

    fn suggested(target: &[&str], reference: &[&str], options: &PairOptions) -> Option<(Vec<(String, String)>, usize)> {
        let [target, reference] =
            [target, reference].map(|names| floats(&names.iter().map(|name| (*name, &[0.0][..])).collect::<Vec<_>>()));
        let suggestion = suggest(&target, &reference, options)?;
        Some((suggestion.prefixes.into_iter().map(|prefix| (prefix.from, prefix.to)).collect(), suggestion.paired))
    }

    fn owned(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn prefixes_of_two_parts_of_a_model_are_suggested_together() {
        let (target, reference) = (["a.w", "a.x", "b.y"], ["m.w", "m.x", "n.y"]);
        let expected = Some((vec![owned("m.", "a."), owned("n.", "b.")], 3));
        assert_eq!(suggested(&target, &reference, &PairOptions::default()), expected);
    }

    #[test]
    fn nothing_is_suggested_if_the_given_prefixes_pair_as_many_or_no_end_is_shared() {
        let prefix = PrefixMap::new(vec![Prefix { from: "m.".to_owned(), to: String::new() }]);
        let given = PairOptions { prefix, ..PairOptions::default() };
        assert_eq!(suggested(&["w"], &["m.w"], &PairOptions::default()), Some((vec![owned("m.", "")], 1)));
        assert_eq!(suggested(&["w"], &["m.w"], &given), None);
        assert_eq!(suggested(&["w"], &["x"], &PairOptions::default()), None);
    }

    #[test]
    fn an_end_that_several_names_of_the_target_share_suggests_nothing() {
        assert_eq!(suggested(&["a.w", "b.w"], &["m.w"], &PairOptions::default()), None);
    }
}
