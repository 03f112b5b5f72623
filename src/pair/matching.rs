//! Finds the counterpart of each tensor.

use super::{Mismatch, Pair, PairOptions, Prefix, PrefixMap, TensorPair, Unpaired, suggestion};
use crate::checkpoint::{Checkpoint, Tensor, names};
use crate::format::metadata::{Pairing, Rows};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

impl<'a> Pair<'a> {
    /// Pairs tensors by name, after prefixes are replaced. A weight that both sides know by different names ([`names::alias`]) pairs
    /// too.
    ///
    /// # Errors
    /// [`Mismatch`], with everything that does not pair and that `options` do not allow.
    pub fn new(
        target: &'a Checkpoint,
        reference: &'a Checkpoint,
        options: &PairOptions,
    ) -> Result<Self, Box<Mismatch>> {
        let mut matching = Matching::new(target, reference, options);
        for tensor in target.tensors() {
            matching.pair(tensor);
        }
        matching.decide_other_rows();
        matching.finish()
    }
}

/// The tensors that are paired so far.
struct Matching<'a, 'o> {
    target: &'a Checkpoint,
    reference: &'a Checkpoint,
    options: &'o PairOptions,
    /// The reference's tensors without a counterpart, by the name that the counterpart would have.
    unpaired: BTreeMap<String, Tensor<'a>>,
    tensors: Vec<TensorPair<'a>>,
    /// Pairs that differ in their number of rows, and how their dtypes differ if they do.
    other_rows: Vec<(TensorPair<'a>, Option<String>)>,
    /// Names of the reference and the target for the same weight.
    renamed: Vec<(String, String)>,
    /// Pairs of which only the rows that both sides have are compared.
    common_rows: Vec<Rows>,
    mismatch: Mismatch,
}

impl<'a, 'o> Matching<'a, 'o> {
    /// No tensor is paired yet. Prefixes of the reference's names are replaced.
    fn new(target: &'a Checkpoint, reference: &'a Checkpoint, options: &'o PairOptions) -> Self {
        let mut mismatch = Mismatch::default();
        let mut unpaired: BTreeMap<String, Tensor<'a>> = BTreeMap::new();
        for tensor in reference.tensors() {
            let name = &tensor.info.name;
            let Some(key) = options.key(reference, name) else { continue };
            let key = match &options.prefix {
                Some(prefixes) => prefixes.apply(&key),
                None => key,
            };
            match unpaired.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(tensor)),
                Entry::Occupied(entry) => {
                    let why = format!("{} and {name} of the reference both get this name", entry.get().info.name);
                    mismatch.collisions.push((entry.key().clone(), why));
                }
            }
        }
        let (tensors, other_rows, renamed, common_rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { target, reference, options, unpaired, tensors, other_rows, renamed, common_rows, mismatch }
    }

    /// Pairs a tensor of the target, or records why it does not pair.
    fn pair(&mut self, tensor: Tensor<'a>) {
        let name = &tensor.info.name;
        let Some(key) = self.options.key(self.target, name) else { return };
        let Some(reference) = self.take_counterpart(name, &key) else {
            self.mismatch.only_in_target.push(name.clone());
            return;
        };
        let pair = TensorPair { target: tensor, reference };
        match compare(tensor, reference) {
            Compared::Different(why) => self.mismatch.differing.push((name.clone(), why)),
            Compared::OtherRows(dtypes) => self.other_rows.push((pair, dtypes)),
            Compared::SameShape(dtypes) => {
                self.tensors.push(pair);
                self.mismatch.other_dtype.extend(dtypes.map(|why| (name.clone(), why)));
            }
        }
    }

    /// Takes the tensor of the reference that pairs with the target's tensor `name`: the one named `key`, or else the one with the
    /// other name of the same weight.
    fn take_counterpart(&mut self, name: &str, key: &str) -> Option<Tensor<'a>> {
        if let Some(tensor) = self.unpaired.remove(key) {
            return Some(tensor);
        }
        // If the target has tensors of both names, they are two weights.
        let alias = names::alias(key).filter(|alias| self.target.tensor(alias).is_none())?;
        let tensor = self.unpaired.remove(&alias)?;
        self.renamed.push((tensor.info.name.clone(), name.to_owned()));
        Some(tensor)
    }

    /// Decides which of the tensors that differ in their number of rows are compared row by row: if the options allow it, the matrices,
    /// and the vectors with as many elements as such a matrix has rows, such as the bias of a head over the vocabulary.
    fn decide_other_rows(&mut self) {
        let is_matrix = |pair: &TensorPair<'_>| pair.target.info.shape.len() == 2;
        let matrices: HashSet<(u64, u64)> =
            self.other_rows.iter().map(|(pair, _)| pair).filter(|pair| is_matrix(pair)).map(rows).collect();
        for (pair, dtypes) in std::mem::take(&mut self.other_rows) {
            let name = pair.name().to_owned();
            if self.options.unpaired == Unpaired::LeaveOut && matrices.contains(&rows(&pair)) {
                let (base, reference) = rows(&pair);
                self.common_rows.push(Rows { name: name.clone(), base, reference });
                self.mismatch.other_dtype.extend(dtypes.map(|why| (name, why)));
                self.tensors.push(pair);
            } else {
                self.mismatch.differing.push((name, other_shape(pair.target, pair.reference)));
            }
        }
    }

    /// The pair, unless a mismatch remains that the options do not allow.
    fn finish(mut self) -> Result<Pair<'a>, Box<Mismatch>> {
        self.tensors.sort_by(|a, b| a.name().cmp(b.name()));
        self.mismatch.only_in_reference = std::mem::take(&mut self.unpaired).into_keys().collect();
        self.mismatch.paired = self.tensors.len();
        let pairing = self.pairing();
        // Neither is helped by leaving tensors out, and what does not pair explains it.
        let cannot_pair = self.tensors.is_empty() || !self.mismatch.collisions.is_empty();
        if !cannot_pair {
            self.mismatch.allow(self.options);
        }
        if cannot_pair || !self.mismatch.is_empty() {
            self.mismatch.suggestion = suggestion::suggest(self.target, self.reference, self.options);
            self.mismatch.adapter = only_adapter(self.target, self.reference);
            return Err(self.mismatch.into());
        }
        Ok(Pair { target: self.target, reference: self.reference, tensors: self.tensors, pairing })
    }

    /// What the patch records about the pairing, or `None` if all tensors pair by equal names.
    fn pairing(&self) -> Option<Pairing> {
        let by_name = self.options.prefix.is_none() && self.renamed.is_empty() && self.common_rows.is_empty();
        if by_name && self.mismatch.is_empty() {
            return None;
        }
        let names = |tensors: &[(String, String)]| tensors.iter().map(|(name, _)| name.clone()).collect();
        let prefixes = self.options.prefix.as_ref().map_or(&[][..], PrefixMap::prefixes);
        let from_to = |prefix: &Prefix| (prefix.from.clone(), prefix.to.clone());
        // A single prefix has a key of its own in the metadata.
        let (prefix, prefixes) = match prefixes {
            [only] => (Some(from_to(only)), Vec::new()),
            several => (None, several.iter().map(from_to).collect()),
        };
        Some(Pairing {
            only_in_base: self.mismatch.only_in_target.clone(),
            only_in_reference: self.mismatch.only_in_reference.clone(),
            mismatched: names(&self.mismatch.differing),
            cast: self.mismatch.other_dtype.len() as u64,
            prefix,
            prefixes,
            renamed: self.renamed.clone(),
            rows: self.common_rows.clone(),
        })
    }
}

/// The number of rows of the target and of the reference.
fn rows(pair: &TensorPair<'_>) -> (u64, u64) {
    (pair.target.info.shape[0], pair.reference.info.shape[0])
}

/// The path of the checkpoint that is an adapter, if exactly one is.
fn only_adapter(target: &Checkpoint, reference: &Checkpoint) -> Option<PathBuf> {
    match (target.is_adapter(), reference.is_adapter()) {
        (true, false) => Some(target.path().to_owned()),
        (false, true) => Some(reference.path().to_owned()),
        _ => None,
    }
}

/// How two tensors of the same name differ.
enum Compared {
    /// The shapes are equal. If the float dtypes differ: how.
    SameShape(Option<String>),
    /// Only the numbers of rows differ, and the tensor has a row for each token of a vocabulary. If the float dtypes differ: how.
    OtherRows(Option<String>),
    /// The tensors cannot be paired, for this reason.
    Different(String),
}

fn compare(target: Tensor<'_>, reference: Tensor<'_>) -> Compared {
    let (t, r) = (target.info, reference.info);
    let dtypes = match t.dtype == r.dtype {
        true => None,
        false => Some(format!("{} in the target, {} in the reference", t.dtype, r.dtype)),
    };
    let both_floats = t.dtype.float().is_some() && r.dtype.float().is_some();
    if t.shape == r.shape {
        return match dtypes {
            Some(why) if !both_floats => Compared::Different(why),
            dtypes => Compared::SameShape(dtypes),
        };
    }
    let same_columns = match (&t.shape[..], &r.shape[..]) {
        ([_], [_]) => true,
        ([_, t], [_, r]) => t == r,
        _ => false,
    };
    match same_columns && (dtypes.is_none() || both_floats) && names::is_of_vocabulary(&t.name) {
        true => Compared::OtherRows(dtypes),
        false => Compared::Different(other_shape(target, reference)),
    }
}

fn other_shape(target: Tensor<'_>, reference: Tensor<'_>) -> String {
    format!("shape {:?} in the target, {:?} in the reference", target.info.shape, reference.info.shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::pair::OtherDtype;
    use crate::testing::{checkpoint, floats};

    const WORDS: &str = "bert.embeddings.word_embeddings.weight";

    fn leave_out() -> PairOptions {
        PairOptions { unpaired: Unpaired::LeaveOut, ..PairOptions::default() }
    }

    fn prefixes(prefixes: &[(&str, &str)]) -> PairOptions {
        let prefix = |(from, to): &(&str, &str)| Prefix { from: (*from).to_owned(), to: (*to).to_owned() };
        PairOptions { prefix: PrefixMap::new(prefixes.iter().map(prefix).collect()), ..PairOptions::default() }
    }

    fn embeddings(rows: u64) -> Checkpoint {
        checkpoint(&[(WORDS.to_owned(), Dtype::F32, vec![rows, 2], vec![0; 2 * rows as usize])])
    }

    #[test]
    fn tensors_of_equal_names_pair_and_nothing_is_recorded() {
        let one = floats(&[("a", &[1.0]), ("b", &[2.0])]);
        let pair = Pair::new(&one, &one, &PairOptions::default()).unwrap();
        assert_eq!(pair.tensors.iter().map(TensorPair::name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(pair.pairing.is_none());
    }

    #[test]
    fn tensors_of_one_side_are_refused_or_left_out_and_recorded() {
        let (target, reference) = (floats(&[("a", &[1.0]), ("t", &[1.0])]), floats(&[("a", &[1.0]), ("r", &[1.0])]));
        let mismatch = Pair::new(&target, &reference, &PairOptions::default()).unwrap_err();
        assert_eq!(
            (&mismatch.only_in_target[..], &mismatch.only_in_reference[..]),
            (&["t".into()][..], &["r".into()][..])
        );
        let pairing = Pair::new(&target, &reference, &leave_out()).unwrap().pairing.unwrap();
        assert_eq!((pairing.only_in_base, pairing.only_in_reference), (vec!["t".to_owned()], vec!["r".to_owned()]));
    }

    #[test]
    fn two_tensors_that_get_one_name_are_refused_even_if_tensors_may_be_left_out() {
        let (target, reference) = (floats(&[("a", &[1.0])]), floats(&[("a", &[1.0]), ("m.a", &[1.0])]));
        let options = PairOptions { unpaired: Unpaired::LeaveOut, ..prefixes(&[("m.", "")]) };
        let mismatch = Pair::new(&target, &reference, &options).unwrap_err();
        assert_eq!(mismatch.collisions, [("a".to_owned(), "a and m.a of the reference both get this name".to_owned())]);
    }

    #[test]
    fn one_prefix_and_several_have_different_keys_in_the_metadata() {
        let (target, reference) =
            (floats(&[("a", &[1.0]), ("b", &[1.0])]), floats(&[("m.a", &[1.0]), ("m.b", &[1.0])]));
        let one = Pair::new(&target, &reference, &prefixes(&[("m.", "")])).unwrap().pairing.unwrap();
        assert_eq!((one.prefix, one.prefixes), (Some(("m.".to_owned(), String::new())), Vec::new()));
        let two = Pair::new(&target, &reference, &prefixes(&[("m.", ""), ("n.", "")])).unwrap().pairing.unwrap();
        assert_eq!((two.prefix, two.prefixes.len()), (None, 2));
    }

    #[test]
    fn common_rows_of_two_vocabularies_pair_if_tensors_may_be_left_out() {
        let (target, reference) = (embeddings(3), embeddings(5));
        assert_eq!(Pair::new(&target, &reference, &PairOptions::default()).unwrap_err().differing[0].0, WORDS);
        let pair = Pair::new(&target, &reference, &leave_out()).unwrap();
        assert_eq!(pair.pairing.unwrap().rows, [Rows { name: WORDS.to_owned(), base: 3, reference: 5 }]);
        assert_eq!(pair.tensors[0].compared(), 6);
    }

    #[test]
    fn another_float_dtype_is_cast_if_allowed_and_another_kind_of_dtype_never_is() {
        let of_dtype = |dtype| checkpoint(&[crate::testing::vector("w", dtype, &[0, 0])]);
        let cast = PairOptions { other_dtype: OtherDtype::Cast, ..PairOptions::default() };
        let (target, half, integers) = (of_dtype(Dtype::F32), of_dtype(Dtype::Bf16), of_dtype(Dtype::I32));
        assert_eq!(Pair::new(&target, &half, &PairOptions::default()).unwrap_err().other_dtype.len(), 1);
        assert_eq!(Pair::new(&target, &half, &cast).unwrap().pairing.unwrap().cast, 1);
        assert_eq!(Pair::new(&target, &integers, &cast).unwrap_err().differing.len(), 1);
    }
}
