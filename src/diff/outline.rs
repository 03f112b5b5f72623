//! What a patch says of two checkpoints before it is known what differs: names, shapes, options, labels.

use super::{DiffOptions, Localize, Size};
use crate::checkpoint::scan::content_digest;
use crate::checkpoint::{Checkpoint, Tensor, WeightFile};
use crate::context::{Cancelled, Context};
use crate::digest::{ContentHash, Digest};
use crate::dtype::Dtype;
use crate::edit::Alpha;
use crate::format::block::encode::Portability;
use crate::format::metadata::{Localization, Metadata, Source, SourceFile};
use crate::format::tensor_table::elements;
use crate::localize::candidates::Candidates;
use crate::localize::scan::PairDigests;
use crate::localize::value::Amount;
use crate::pair::{Pair, TensorPair};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Everything that a patch needs of a pair of checkpoints besides the digests of what is in them and the selected elements.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outline {
    /// But for the selected elements, the digests of files and what coding tells.
    #[serde(with = "json")]
    pub metadata: Metadata,
    /// The pairs of tensors.
    pub tensors: Vec<Described>,
    /// What the digests of the files of target and reference are made of.
    files: [Vec<FileContent>; 2],
    pub portability: Portability,
    /// Whether all that differs in the candidates is selected, so that the result is the reference.
    pub is_whole: bool,
    /// Set when dense layers were looked for and the names are no known transformer's.
    pub unrecognized: bool,
}

/// A pair of tensors, by what it is in the target.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Described {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
}

impl Described {
    /// How many, where there may be so many.
    pub fn elements(&self) -> Option<u64> {
        elements(self.dtype, &self.shape)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct FileContent {
    /// What comes before the first tensor.
    header: Vec<u8>,
    /// Of each tensor its place among the pairs, if it is paired and the digest of the pair is its own.
    tensors: Vec<Option<usize>>,
}

impl Outline {
    /// Of the tensors `pair`, which are selected from as `options` say.
    pub fn new(pair: &Pair<'_>, candidates: Candidates, options: &DiffOptions<'_>) -> Self {
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
        Self { unrecognized: candidates.unrecognized, ..outline }
    }

    /// Of the tensors `pair`, with these `metadata`.
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
                // Of a tensor with other rows more, or less, was read than is in the reference.
                files(pair, pair.reference, |pair| (!pair.has_other_rows()).then_some(pair.reference)),
            ],
            portability,
            is_whole,
            unrecognized: false,
        }
    }

    /// How many digests [`Outline::contents`] needs of tensors that are not paired, or have other rows.
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
            for (file_index, (file, content)) in checkpoint.files.iter().zip(files).enumerate() {
                let unpaired = file.tensors.iter().zip(&content.tensors).filter(|(_, place)| place.is_none());
                for (info, _) in unpaired {
                    digests.push(Tensor { file, file_index, info }.digest(ContentHash::Blake3, context)?);
                }
            }
        }
        Ok(digests)
    }

    /// The content digests of the files of target and reference (spec §6), from those of their tensors.
    pub fn contents(&self, digests: &PairDigests, unpaired: &[Digest]) -> [Vec<Digest>; 2] {
        let mut unpaired = unpaired.iter();
        let mut of = |side: usize| {
            let of_file = |file: &FileContent| {
                let tensors = file.tensors.iter().map(|place| match (place, side) {
                    (Some(place), 0) => digests.0[*place].target,
                    (Some(place), _) => digests.0[*place].own_reference,
                    (None, _) => unpaired.next().copied().unwrap_or(Digest::UNKNOWN),
                });
                content_digest(&file.header, tensors)
            };
            self.files[side].iter().map(of_file).collect()
        };
        [of(0), of(1)]
    }

    /// Names the whole files of `pair` by SHA-256 too, as hubs list it.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn add_sha256(&mut self, pair: &Pair<'_>, context: &Context<'_>) -> Result<(), Cancelled> {
        context.begin("hashing the files", pair.target.bytes() + pair.reference.bytes());
        let Metadata { base, reference, .. } = &mut self.metadata;
        let mut files: Vec<(&WeightFile, &mut SourceFile)> = pair.target.files.iter().zip(&mut base.files).collect();
        files.extend(pair.reference.files.iter().zip(&mut reference.files));
        files.into_par_iter().try_for_each(|(file, described)| {
            described.sha256 = Some(file.sha256(context)?.to_string());
            Ok(())
        })
    }

    /// Whether its parts fit each other, as those of an outline do that was not read.
    pub fn is_consistent(&self) -> bool {
        let mut places = self.files.iter().flatten().flat_map(|file| file.tensors.iter().flatten());
        places.all(|place| *place < self.tensors.len())
    }
}

/// A checkpoint, before its contents are known.
pub(super) fn source(checkpoint: &Checkpoint, model_id: Option<String>) -> Source {
    let file = |file: &WeightFile| SourceFile { name: file.name(), bytes: file.bytes(), content: None, sha256: None };
    Source { model_id, elements: checkpoint.elements(), files: checkpoint.files.iter().map(file).collect() }
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
        tensors: file.tensors.iter().map(|tensor| places.get(tensor.name.as_str()).copied()).collect(),
    };
    checkpoint.files.iter().map(content).collect()
}

/// How weights are found; the number of selected ones is known later.
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

/// Metadata as they stand in a patch: free values have no other form.
mod json {
    use crate::format::metadata::Metadata;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(metadata: &Metadata, serializer: S) -> Result<S::Ok, S::Error> {
        metadata.write().map_err(S::Error::custom)?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metadata, D::Error> {
        Metadata::read(&Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
