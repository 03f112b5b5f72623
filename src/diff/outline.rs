//! What a patch says of two checkpoints before anyone knows what differs: names, shapes, options, labels.

use super::{DiffOptions, Localize, Size};
use crate::checkpoint::scan::content_digest;
use crate::checkpoint::{Checkpoint, Tensor, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::edit::Alpha;
use crate::format::block::blocks;
use crate::format::block::encode::Portability;
use crate::format::metadata::{Localization, Metadata, Source, SourceFile};
use crate::format::tensor_table::elements;
use crate::localize::candidates::Candidates;
use crate::localize::scan::PairDigests;
use crate::localize::value::Amount;
use crate::pair::{Pair, TensorPair};
use crate::patch::{Patch, Unwritten};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Everything in a patch that follows from the headers of two checkpoints and from the options.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outline {
    /// Complete but for the number of selected elements, the digests of files, and the figures that encoding yields.
    #[serde(with = "json")]
    pub metadata: Metadata,
    /// The pairs of tensors.
    pub tensors: Vec<Described>,
    /// The files of target and reference: what their content digests are made of.
    files: [Vec<FileContent>; 2],
    pub portability: Portability,
    /// Whether all that differs in the candidates is selected, so that the result is the reference.
    pub is_whole: bool,
    /// Set when dense layers were looked for and the names are no known transformer's.
    pub unrecognized: bool,
}

/// A pair of tensors, by its name, dtype and shape in the target.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Described {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
}

impl Described {
    /// Its number of elements; `None` if a tensor cannot have so many.
    pub fn elements(&self) -> Option<u64> {
        elements(self.dtype, &self.shape)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct FileContent {
    /// The bytes before the first tensor.
    header: Vec<u8>,
    /// The place of each tensor among the pairs. `None` if it is not paired, or if the pair has other rows, so that the pair's digest
    /// is not this tensor's.
    tensors: Vec<Option<usize>>,
}

impl Outline {
    /// Describes `pair`, from whose `candidates` the `options` select.
    ///
    /// # Errors
    /// Metadata that is larger than readers take: said now, and not only when everything is encoded.
    pub fn new(pair: &Pair<'_>, candidates: Candidates, options: &DiffOptions<'_>) -> Result<Self, Unwritten> {
        let labels = options.labels.clone();
        let metadata = Metadata {
            localization: describe(options.localize),
            candidates: candidates.description,
            base: source(pair.target, labels.base_model),
            reference: source(pair.reference, labels.reference_model),
            recommended_alpha: labels.recommended_alpha.map(Alpha::value),
            license: labels.license,
            description: labels.description,
            results: labels.results,
            x: labels.x,
            ..Metadata::default()
        };
        let is_whole = options.localize == Localize::Full;
        let outline = Self::of_pair(pair, metadata, options.portability, is_whole);
        Patch::check_metadata(&outline.metadata)?;
        Ok(Self { unrecognized: candidates.unrecognized, ..outline })
    }

    /// Describes `pair`, and completes `metadata`.
    pub fn of_pair(pair: &Pair<'_>, metadata: Metadata, portability: Portability, is_whole: bool) -> Self {
        let describe = |tensor: &TensorPair<'_>| {
            let info = tensor.target.info;
            Described { name: info.name.clone(), dtype: info.dtype, shape: info.shape.clone() }
        };
        let metadata = Metadata {
            tool: concat!("lcepatch ", env!("CARGO_PKG_VERSION")).to_owned(),
            portable: portability == Portability::Portable,
            pairing: pair.pairing.clone(),
            ..metadata
        };
        Self {
            metadata,
            tensors: pair.tensors.iter().map(describe).collect(),
            files: [
                files(pair, pair.target, |pair| Some(pair.target)),
                // With other rows, what is read and hashed is not exactly the reference's tensor.
                files(pair, pair.reference, |pair| (!pair.has_other_rows()).then_some(pair.reference)),
            ],
            portability,
            is_whole,
            unrecognized: false,
        }
    }

    /// The number of digests that [`Outline::add_contents`] needs of tensors that are not paired, or have other rows.
    pub fn unpaired(&self) -> usize {
        let tensors = self.files.iter().flatten().flat_map(|file| &file.tensors);
        tensors.filter(|place| place.is_none()).count()
    }

    /// The digests of the tensors of `pair` that are not paired, or have other rows, in the order of their files.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn hash_unpaired(&self, pair: &Pair<'_>, context: &Context<'_>) -> Result<Vec<Digest>, Cancelled> {
        let mut digests = Vec::new();
        for (checkpoint, files) in [pair.target, pair.reference].into_iter().zip(&self.files) {
            for (file_index, (file, content)) in checkpoint.files().iter().zip(files).enumerate() {
                let unpaired = file.tensors().iter().zip(&content.tensors).filter(|(_, place)| place.is_none());
                for (info, _) in unpaired {
                    digests.push(Tensor { file, file_index, info }.digest(context)?);
                }
            }
        }
        Ok(digests)
    }

    /// How many blocks each tensor has.
    pub fn blocks_per_tensor(&self) -> Vec<u64> {
        self.tensors.iter().map(|tensor| blocks(tensor.elements().unwrap_or(0)).end).collect()
    }

    /// Adds the content digests (spec §6) of the files of target and reference, from the digests of their tensors.
    pub fn add_contents(&mut self, digests: &PairDigests, unpaired: &[Digest]) {
        // `unpaired` are in the order of the files, the target's first.
        let mut unpaired = unpaired.iter();
        let [targets, references] = &self.files;
        add_contents(&mut self.metadata.base, targets, &mut unpaired, |place| digests.0[place].target);
        add_contents(&mut self.metadata.reference, references, &mut unpaired, |place| digests.0[place].own_reference);
    }

    /// Adds the SHA-256 of each whole file, by which hubs list it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn add_sha256(&mut self, pair: &Pair<'_>, context: &Context<'_>) -> Result<(), Cancelled> {
        context.begin("hashing the files", pair.target.bytes() + pair.reference.bytes());
        let Metadata { base, reference, .. } = &mut self.metadata;
        let mut files: Vec<(&WeightFile, &mut SourceFile)> = pair.target.files().iter().zip(&mut base.files).collect();
        files.extend(pair.reference.files().iter().zip(&mut reference.files));
        files.into_par_iter().try_for_each(|(file, described)| {
            described.sha256 = Some(file.sha256(context)?.to_string());
            Ok(())
        })
    }

    /// Whether every place is that of a tensor. An outline that was read from a file may be damaged or forged.
    pub fn is_consistent(&self) -> bool {
        let mut places = self.files.iter().flatten().flat_map(|file| file.tensors.iter().flatten());
        places.all(|place| *place < self.tensors.len())
    }
}

/// Adds the content digests of the `files` of one checkpoint. `paired` is the digest of a paired tensor by its place; the digests of
/// all others are the next ones of `unpaired`.
fn add_contents<'d>(
    source: &mut Source,
    files: &[FileContent],
    unpaired: &mut impl Iterator<Item = &'d Digest>,
    paired: impl Fn(usize) -> Digest,
) {
    for (described, file) in source.files.iter_mut().zip(files) {
        let tensors = file.tensors.iter().map(|place| match place {
            Some(place) => paired(*place),
            None => unpaired.next().copied().unwrap_or(Digest::UNKNOWN),
        });
        described.content = Some(content_digest(&file.header, tensors).to_string());
    }
}

/// A checkpoint, before its contents are known.
pub(crate) fn source(checkpoint: &Checkpoint, model_id: Option<String>) -> Source {
    let file = |file: &WeightFile| SourceFile { name: file.name(), bytes: file.bytes(), content: None, sha256: None };
    Source { model_id, elements: checkpoint.elements(), files: checkpoint.files().iter().map(file).collect() }
}

fn files<'a>(
    pair: &Pair<'a>,
    checkpoint: &Checkpoint,
    side: fn(&TensorPair<'a>) -> Option<Tensor<'a>>,
) -> Vec<FileContent> {
    let place = |(place, pair): (usize, &TensorPair<'a>)| Some((side(pair)?.info.name.as_str(), place));
    let places: HashMap<&str, usize> = pair.tensors.iter().enumerate().filter_map(place).collect();
    let content = |file: &WeightFile| FileContent {
        header: file.header().to_vec(),
        tensors: file.tensors().iter().map(|tensor| places.get(tensor.name.as_str()).copied()).collect(),
    };
    checkpoint.files().iter().map(content).collect()
}

/// How weights are found. The number of selected ones, `k`, becomes known later.
fn describe(how: Localize) -> Localization {
    let density = |size: Size| match size {
        Size::Amount(Amount::Density(density)) => Some(density.share()),
        _ => None,
    };
    let k = Some(0);
    match how {
        Localize::Full => Localization { method: "full".to_owned(), ..Localization::default() },
        Localize::Mask => Localization { method: "mask".to_owned(), k, ..Localization::default() },
        Localize::Value { amount, scope } => Localization {
            method: "value".to_owned(),
            scope: Some(scope.label().to_owned()),
            k,
            density: density(amount),
            ..Localization::default()
        },
        Localize::Random { amount, seed, among } => Localization {
            method: "random".to_owned(),
            k,
            density: density(amount),
            seed: Some(seed),
            among: Some(among.label().to_owned()),
            ..Localization::default()
        },
    }
}

/// Metadata in postcard: as the JSON that stands in a patch, because free values have no other form.
mod json {
    use crate::format::metadata::Metadata;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(metadata: &Metadata, serializer: S) -> Result<S::Ok, S::Error> {
        metadata.write().map_err(S::Error::custom)?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        // Written by this program, and so without anything to ignore.
        match Metadata::read(&Vec::deserialize(deserializer)?) {
            (metadata, ignored) if ignored.is_empty() => Ok(metadata),
            (_, ignored) => Err(D::Error::custom(format_args!("metadata: {}", ignored[0]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::localize::candidates::{CandidateOptions, Kinds, Params};
    use crate::mask::Scope;
    use crate::testing::floats;

    fn outline(target: &Checkpoint, reference: &Checkpoint, options: &DiffOptions<'_>) -> Outline {
        let pair = Pair::new(target, reference, &options.pair).unwrap();
        let all = CandidateOptions { params: Some(Params::All), ..CandidateOptions::default() };
        let candidates = Candidates::new(&pair.targets(), &all, Kinds::Every).unwrap();
        Outline::new(&pair, candidates, options).unwrap()
    }

    #[test]
    fn the_outline_holds_what_options_and_headers_say() {
        let (target, reference) =
            (floats(&[("a", &[1.0, 2.0]), ("b", &[3.0])]), floats(&[("a", &[1.0; 2]), ("b", &[3.0])]));
        let mut options = DiffOptions { portability: Portability::Portable, ..DiffOptions::default() };
        options.labels.license = Some("MIT".to_owned());
        let Outline { metadata, tensors, is_whole, .. } = outline(&target, &reference, &options);
        assert_eq!((metadata.localization.method.as_str(), is_whole), ("full", true));
        assert_eq!((metadata.portable, metadata.license.as_deref()), (true, Some("MIT")));
        let [base] = &metadata.base.files[..] else { panic!("{:?}", metadata.base) };
        assert_eq!((base.name.as_str(), base.bytes, &base.content), ("model.safetensors", target.bytes(), &None));
        let shapes: Vec<_> = tensors.iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect();
        assert_eq!(shapes, [("a", &[2][..]), ("b", &[1][..])]);
    }

    #[test]
    fn metadata_say_how_weights_are_found() {
        let density = Size::Amount(Amount::Density(crate::localize::value::Density::new(0.25).unwrap()));
        let value = describe(Localize::Value { amount: density, scope: Scope::Tensor });
        assert_eq!(
            (value.method.as_str(), value.density, value.scope.as_deref()),
            ("value", Some(0.25), Some("tensor"))
        );
        let among = crate::localize::random::Among::Either;
        let random = describe(Localize::Random { amount: Size::FromMask, seed: 7, among });
        assert_eq!((random.method.as_str(), random.density, random.seed), ("random", None, Some(7)));
        assert_eq!((describe(Localize::Full).k, describe(Localize::Mask).k), (None, Some(0)));
    }

    #[test]
    fn tensors_of_one_side_are_hashed_for_their_file_alone() {
        let (target, reference) = (floats(&[("a", &[1.0])]), floats(&[("a", &[2.0]), ("z", &[5.0])]));
        let options = DiffOptions {
            pair: crate::pair::PairOptions { unpaired: crate::pair::Unpaired::LeaveOut, ..Default::default() },
            ..DiffOptions::default()
        };
        let outline = outline(&target, &reference, &options);
        assert_eq!(outline.unpaired(), 1);
        let pair = Pair::new(&target, &reference, &options.pair).unwrap();
        let z = reference.tensor("z").unwrap().digest(&Context::silent()).unwrap();
        assert_eq!(outline.hash_unpaired(&pair, &Context::silent()).unwrap(), [z]);
    }

    #[test]
    fn an_outline_that_was_read_must_name_tensors_that_it_has() {
        let checkpoint = floats(&[("a", &[1.0]), ("b", &[2.0])]);
        let mut outline = outline(&checkpoint, &checkpoint, &DiffOptions::default());
        assert!(outline.is_consistent());
        outline.tensors.pop();
        assert!(!outline.is_consistent());
    }
}
