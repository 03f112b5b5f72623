//! Two checkpoints, tensor by tensor.

use crate::checkpoint::{Checkpoint, Tensor, names};
use crate::context::{Cancelled, Context};
use crate::dtype::{Dtype, Rounded};
use crate::format::metadata::{Pairing, Rows};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;

/// What to do with tensors that have no counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unpaired {
    /// Refuse, naming them.
    #[default]
    Refuse,
    /// Leave them out and record them in the patch.
    LeaveOut,
}

/// What to do with a reference of another float dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtherDtype {
    /// Refuse, naming the tensors.
    #[default]
    Refuse,
    /// Round the reference to the target's dtype, and record the tensors in the patch.
    Cast,
}

/// A prefix of one side's names and what stands for it in the other's; either may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// What the names to map begin with.
    pub from: String,
    /// What they begin with instead.
    pub to: String,
}

/// Prefixes to exchange in names: of the reference's for the target's, or of a patch's for the base's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap(Vec<Prefix>);

impl PrefixMap {
    /// A map of these; none if there are none.
    pub fn new(prefixes: Vec<Prefix>) -> Option<Self> {
        (!prefixes.is_empty()).then_some(Self(prefixes))
    }

    /// `name` with its prefix exchanged, the longest one where several fit; unchanged when none does.
    pub fn apply(&self, name: &str) -> String {
        let fits = self.0.iter().filter_map(|prefix| Some((prefix, name.strip_prefix(&prefix.from)?)));
        let longest = fits.min_by_key(|(_, rest)| rest.len());
        longest.map_or_else(|| name.to_owned(), |(prefix, rest)| format!("{}{rest}", prefix.to))
    }

    /// The prefixes, in the order in which they were given.
    pub fn prefixes(&self) -> &[Prefix] {
        &self.0
    }
}

/// What weights `X_orig` with a mask `X_mask` beside them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PruningPairs {
    /// Two tensors like any other.
    #[default]
    Tensors,
    /// The weights `X`; the masks are not paired.
    Weights,
}

/// How to pair tensors.
#[derive(Debug, Clone, Default)]
pub struct PairOptions {
    /// Missing, extra and reshaped tensors, and tensors whose kinds of dtype differ.
    pub unpaired: Unpaired,
    /// Float tensors of different float dtypes.
    pub other_dtype: OtherDtype,
    /// Prefixes that differ.
    pub prefix: Option<PrefixMap>,
    /// What pruned weights beside their masks are.
    pub pruning_pairs: PruningPairs,
}

impl PairOptions {
    /// What pairs with a tensor of this name; nothing does with a mask.
    fn key(&self, checkpoint: &Checkpoint, name: &str) -> Option<String> {
        match self.pruning_pairs {
            PruningPairs::Weights if checkpoint.is_companion_mask(name) => None,
            PruningPairs::Weights if checkpoint.companion_mask(name).is_some() => {
                Some(name.strip_suffix("_orig").unwrap_or(name).to_owned())
            }
            _ => Some(name.to_owned()),
        }
    }
}

/// Two tensors of the same name and shape. The reference has the target's dtype, or is cast to it. Of the embeddings of two
/// vocabularies one side may have more rows: where the target has more, the reference is taken to have the same ones after its own,
/// and where the reference has more, they are not looked at.
#[derive(Debug, Clone, Copy)]
pub struct TensorPair<'a> {
    /// The tensor that will be edited.
    pub target: Tensor<'a>,
    /// Its counterpart.
    pub reference: Tensor<'a>,
}

impl TensorPair<'_> {
    /// The name in the target.
    pub fn name(&self) -> &str {
        &self.target.info.name
    }

    /// The dtype in the target.
    pub fn dtype(&self) -> Dtype {
        self.target.info.dtype
    }

    /// Whether the reference is rounded to the target's dtype.
    pub fn is_cast(&self) -> bool {
        self.target.info.dtype != self.reference.info.dtype
    }

    /// Whether one side has more rows.
    pub fn has_other_rows(&self) -> bool {
        self.target.info.shape != self.reference.info.shape
    }

    /// How many elements are compared: all of the target's, or those of the rows that both have. They are the first ones.
    pub fn compared(&self) -> u64 {
        self.common(0..self.target.info.elements()).end
    }

    /// Those of `elements` that the reference has too.
    fn common(&self, elements: Range<u64>) -> Range<u64> {
        let end = self.reference.info.elements();
        elements.start.min(end)..elements.end.min(end)
    }
}

impl<'a> TensorPair<'a> {
    /// Calls `each` with the first element, the target's bytes and the reference's bytes (rounded to the target's
    /// dtype where they differ) of consecutive parts of `elements`; stops early when `each` says so.
    ///
    /// # Errors
    /// [`Cancelled`], or what `each` returns.
    pub(crate) fn windows<E: From<Cancelled>>(
        &self,
        elements: Range<u64>,
        context: &Context<'_>,
        mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rounded = Vec::new();
        for part in self.target.element_windows(elements) {
            let target = self.target.elements(part.clone());
            let reference = self.reference_elements(part.clone(), &mut rounded);
            each(part.start, target, reference)?;
            self.release(part);
            context.advance(2 * target.len() as u64)?;
        }
        Ok(())
    }

    /// The reference's `elements` in the target's dtype; they are in `made` where they are not so in the file.
    pub(crate) fn reference_elements<'b>(&self, elements: Range<u64>, made: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let common = self.common(elements.clone());
        let own = self.reference.elements(common.clone());
        if !self.is_cast() && common == elements {
            return own;
        }
        made.clear();
        match self.is_cast() {
            true => self.cast(own, made),
            false => made.extend_from_slice(own),
        }
        made.extend_from_slice(self.target.elements(common.end.max(elements.start)..elements.end));
        made
    }

    /// Tells the system that `elements` of both sides are not needed again soon.
    pub(crate) fn release(&self, elements: Range<u64>) {
        self.reference.release(self.common(elements.clone()));
        self.target.release(elements);
    }

    /// The first finite element of the reference that rounds to none of the target's dtype: its index and value.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn cast_overflow(&self, context: &Context<'_>) -> Result<Option<(u64, f64)>, Cancelled> {
        let (from, to) = (self.reference.info.dtype, self.target.info.dtype);
        let (Some(from_float), Some(to_float), true) = (from.float(), to.float(), self.is_cast()) else {
            return Ok(None);
        };
        for part in self.reference.element_windows(self.common(0..self.target.info.elements())) {
            let bytes = self.reference.elements(part.clone());
            let value = |at| from_float.value(from.width().load(bytes, at));
            let overflows =
                |at: &usize| value(*at).is_finite() && matches!(to_float.round(value(*at)), Rounded::NotFinite(_));
            if let Some(at) = (0..bytes.len() / from.width().bytes()).find(overflows) {
                return Ok(Some((part.start + at as u64, value(at))));
            }
            self.reference.release(part);
            context.advance(bytes.len() as u64)?;
        }
        Ok(None)
    }

    /// Rounds `reference`, in its own dtype, to the target's, into `out`, which is empty.
    fn cast(&self, reference: &[u8], out: &mut Vec<u8>) {
        let (from, to) = (self.reference.info.dtype, self.target.info.dtype);
        let (Some(from_float), Some(to_float)) = (from.float(), to.float()) else { return };
        let n = reference.len() / from.width().bytes();
        out.resize(n * to.width().bytes(), 0);
        for index in 0..n {
            let value = from_float.value(from.width().load(reference, index));
            let (Rounded::Finite(bits) | Rounded::NotFinite(bits)) = to_float.round(value);
            to.width().store(out, index, bits);
        }
    }
}

/// Target and reference, paired.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The checkpoint that will be edited.
    pub target: &'a Checkpoint,
    /// The checkpoint that behaves differently.
    pub reference: &'a Checkpoint,
    /// Paired tensors, ascending by the bytes of their names.
    pub tensors: Vec<TensorPair<'a>>,
    /// What was not paired simply by name.
    pub pairing: Option<Pairing>,
}

/// Tensors that do not pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names that only the target has.
    pub only_in_target: Vec<String>,
    /// Names that only the reference has.
    pub only_in_reference: Vec<String>,
    /// What differs, tensor by tensor, in words.
    pub differing: Vec<(String, String)>,
    /// Tensors whose float dtypes differ, in words.
    pub other_dtype: Vec<(String, String)>,
    /// Names that prefixes make of several of the reference's, in words.
    pub collisions: Vec<(String, String)>,
    /// How many tensors pair.
    pub paired: usize,
    /// Prefixes that pair more.
    pub suggestion: Option<Suggestion>,
    /// The one of them that holds an adapter, if the other one does not.
    pub adapter: Option<PathBuf>,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        let Self { only_in_target, only_in_reference, differing, other_dtype, collisions, .. } = self;
        [only_in_target.len(), only_in_reference.len(), differing.len(), other_dtype.len(), collisions.len()] == [0; 5]
    }
}

impl<'a> Pair<'a> {
    /// Pairs by name, after exchanging prefixes; a weight that both sides know by different names ([`names::alias`]) pairs too.
    ///
    /// # Errors
    /// [`Mismatch`] with everything that does not pair and may not be left out or cast.
    pub fn new(
        target: &'a Checkpoint,
        reference: &'a Checkpoint,
        options: &PairOptions,
    ) -> Result<Self, Box<Mismatch>> {
        let renamed = |name: &str| options.prefix.as_ref().map_or_else(|| name.to_owned(), |p| p.apply(name));
        let mut mismatch = Mismatch::default();
        let mut left: BTreeMap<String, Tensor<'a>> = BTreeMap::new();
        for tensor in reference.tensors() {
            let name = &tensor.info.name;
            let Some(key) = options.key(reference, name).map(|key| renamed(&key)) else { continue };
            match left.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(tensor)),
                Entry::Occupied(entry) => {
                    let why = format!("{} and {name} of the reference both get this name", entry.get().info.name);
                    mismatch.collisions.push((entry.key().clone(), why));
                }
            }
        }
        let mut tensors = Vec::new();
        let mut renamed = Vec::new();
        let mut other_rows = Vec::new();
        for tensor in target.tensors() {
            let name = &tensor.info.name;
            let Some(key) = options.key(target, name) else { continue };
            // Of two names for the same weight neither side has both.
            let other_name = |left: &mut BTreeMap<String, Tensor<'a>>| {
                let alias = names::alias(&key).filter(|alias| target.tensor(alias).is_none())?;
                left.remove(&alias)
            };
            match left.remove(&key).or_else(|| {
                let reference = other_name(&mut left)?;
                renamed.push((reference.info.name.clone(), name.clone()));
                Some(reference)
            }) {
                None => mismatch.only_in_target.push(name.clone()),
                Some(reference) => match compare(tensor, reference) {
                    Compared::Different(why) => mismatch.differing.push((name.clone(), why)),
                    Compared::OtherRows(dtypes) => {
                        other_rows.push((TensorPair { target: tensor, reference }, dtypes));
                    }
                    Compared::SameShape(dtypes) => {
                        tensors.push(TensorPair { target: tensor, reference });
                        mismatch.other_dtype.extend(dtypes.map(|why| (name.clone(), why)));
                    }
                },
            }
        }
        // What has one number for each row, such as a bias, goes the way of a matrix of these rows.
        let rows = |pair: &TensorPair<'_>| (pair.target.info.shape[0], pair.reference.info.shape[0]);
        let matrices: HashSet<(u64, u64)> = other_rows
            .iter()
            .filter(|(pair, _)| pair.target.info.shape.len() == 2)
            .map(|(pair, _)| rows(pair))
            .collect();
        let mut in_common = Vec::new();
        for (pair, dtypes) in other_rows {
            let name = pair.name().to_owned();
            if options.unpaired == Unpaired::LeaveOut && matrices.contains(&rows(&pair)) {
                let (base, reference) = rows(&pair);
                in_common.push(Rows { name: name.clone(), base, reference });
                mismatch.other_dtype.extend(dtypes.map(|why| (name, why)));
                tensors.push(pair);
            } else {
                mismatch.differing.push((name, other_shape(pair.target, pair.reference)));
            }
        }
        tensors.sort_by(|a, b| a.name().cmp(b.name()));
        mismatch.only_in_reference = left.into_keys().collect();
        mismatch.paired = tensors.len();
        let prefixes = options.prefix.as_ref().map_or(&[][..], PrefixMap::prefixes);
        let pairing = Pairing {
            only_in_base: mismatch.only_in_target.clone(),
            only_in_reference: mismatch.only_in_reference.clone(),
            mismatched: mismatch.differing.iter().map(|(name, _)| name.clone()).collect(),
            cast: mismatch.other_dtype.iter().map(|(name, _)| name.clone()).collect(),
            prefix: match prefixes {
                [only] => Some((only.from.clone(), only.to.clone())),
                _ => None,
            },
            prefixes: match prefixes {
                [_] => Vec::new(),
                several => several.iter().map(|prefix| (prefix.from.clone(), prefix.to.clone())).collect(),
            },
            renamed,
            rows: in_common,
        };
        let by_name = pairing.renamed.is_empty() && pairing.rows.is_empty();
        let ordinary = mismatch.is_empty() && options.prefix.is_none() && by_name;
        let adapters = [target, reference].map(|checkpoint| checkpoint.is_adapter().then_some(&checkpoint.path));
        let adapter = match adapters {
            [Some(_), Some(_)] => None,
            [one, other] => one.or(other).cloned(),
        };
        if tensors.is_empty() || !mismatch.collisions.is_empty() {
            // Leaving out is no way to go on; what does not pair says why.
            mismatch.suggestion = suggest(target, reference, options);
            mismatch.adapter = adapter;
            return Err(mismatch.into());
        }
        if options.other_dtype == OtherDtype::Cast {
            mismatch.other_dtype.clear();
        }
        if options.unpaired == Unpaired::LeaveOut {
            mismatch = Mismatch { other_dtype: mismatch.other_dtype, paired: mismatch.paired, ..Mismatch::default() };
        }
        if !mismatch.is_empty() {
            mismatch.suggestion = suggest(target, reference, options);
            mismatch.adapter = adapter;
            return Err(mismatch.into());
        }
        Ok(Self { target, reference, tensors, pairing: (!ordinary).then_some(pairing) })
    }
}

impl<'a> Pair<'a> {
    /// The targets, ascending by name.
    pub fn targets(&self) -> Vec<Tensor<'a>> {
        self.tensors.iter().map(|tensor| tensor.target).collect()
    }
}

/// Prefixes that pair more of the reference's tensors, and how many: this was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// Names of the reference that are names of the target then.
    pub paired: usize,
    /// Names of the reference.
    pub of: usize,
}

/// The most prefixes to suggest: models have few parts of their own.
const SUGGESTED_MAX: usize = 8;

/// Prefixes that pair tensors which do not pair as they are: those that are left of two names when what they end with in common is
/// taken away. Each is tried, in the order of how many names lead to it, and stays if more tensors pair with it. None if prefixes that
/// were given pair as many. Takes time in proportion to the names.
fn suggest(target: &Checkpoint, reference: &Checkpoint, options: &PairOptions) -> Option<Suggestion> {
    let keys: Vec<String> = reference.tensors().filter_map(|t| options.key(reference, &t.info.name)).collect();
    let wanted: HashSet<String> = target.tensors().filter_map(|t| options.key(target, &t.info.name)).collect();
    let there: HashSet<&String> = keys.iter().collect();
    let ends = |name: &'_ str| {
        let dots = name.match_indices('.').map(|(at, _)| at + 1);
        std::iter::once(0).chain(dots).collect::<Vec<usize>>()
    };
    // What several of the target's names end with says nothing.
    let mut by_end: HashMap<&str, Option<&str>> = HashMap::new();
    for name in wanted.iter().filter(|name| !there.contains(name)) {
        for at in ends(name) {
            by_end.entry(&name[at..]).and_modify(|only| *only = None).or_insert(Some(name));
        }
    }
    let mut votes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for name in keys.iter().filter(|name| !wanted.contains(*name)) {
        let found = ends(name).into_iter().find_map(|at| Some((at, (*by_end.get(&name[at..])?)?)));
        if let Some((at, target)) = found {
            *votes.entry((&name[..at], &target[..target.len() - (name.len() - at)])).or_default() += 1;
        }
    }
    let mut votes: Vec<_> = votes.into_iter().collect();
    votes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));

    let pairs = |prefixes: &[Prefix]| {
        let map = PrefixMap(prefixes.to_vec());
        let found: HashSet<String> = keys.iter().map(|key| map.apply(key)).filter(|key| wanted.contains(key)).collect();
        found.len()
    };
    let mut best = (Vec::new(), pairs(&[]));
    for ((from, to), _) in votes.into_iter().take(2 * SUGGESTED_MAX) {
        let mut prefixes: Vec<Prefix> = best.0.clone();
        if prefixes.len() == SUGGESTED_MAX || prefixes.iter().any(|prefix| prefix.from == from) {
            continue;
        }
        prefixes.push(Prefix { from: from.to_owned(), to: to.to_owned() });
        let paired = pairs(&prefixes);
        if paired > best.1 {
            best = (prefixes, paired);
        }
    }
    let (prefixes, paired) = best;
    let given = pairs(options.prefix.as_ref().map_or(&[][..], PrefixMap::prefixes));
    (!prefixes.is_empty() && paired > given).then_some(Suggestion { prefixes, paired, of: keys.len() })
}

enum Compared {
    /// The same shape, and why the dtypes differ where they are both of floats.
    SameShape(Option<String>),
    /// As many columns, or none, and other rows: of embeddings and of heads over a vocabulary.
    OtherRows(Option<String>),
    /// Why they cannot be paired.
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
