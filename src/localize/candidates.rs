//! The candidates: tensors in which weights may be selected.

use super::Impossible;
use crate::checkpoint::{Tensor, TensorInfo, names};
use crate::format::metadata;
use crate::format::tensor_table::TensorEntry;
use crate::patch::Filter;
use crate::words::nearest;
use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A named set of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Params {
    /// The weight matrices of the blocks' dense layers: query, key, value, attention output, intermediate, output
    /// (the paper's prunable weights).
    EncoderDense,
    /// Float tensors of two or more dimensions.
    Matrices,
    /// Every tensor.
    All,
}

impl Params {
    /// The name on the command line and in metadata.
    pub fn label(self) -> &'static str {
        match self {
            Params::EncoderDense => "encoder-dense",
            Params::Matrices => "matrices",
            Params::All => "all",
        }
    }
}

impl Params {
    fn contains(self, info: &TensorInfo) -> bool {
        match self {
            Params::EncoderDense => names::is_encoder_dense(&info.name, info.shape.len()),
            Params::Matrices => info.shape.len() >= 2,
            Params::All => true,
        }
    }
}

/// Which tensors are candidates.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CandidateOptions {
    /// The set of tensors. `None`: [`Params::EncoderDense`] if the names are those of a known transformer, and [`Params::Matrices`]
    /// otherwise.
    pub params: Option<Params>,
    /// Globs; a name must match one of them, if there are any.
    pub include: Vec<String>,
    /// Globs; a name must match none of them.
    pub exclude: Vec<String>,
}

/// The candidates among some tensors.
#[derive(Debug, Clone)]
pub struct Candidates {
    /// Indices of the candidates in the list of tensors, ascending.
    pub tensors: Vec<usize>,
    /// The record for the patch's metadata.
    pub description: metadata::Candidates,
    /// Whether the dense layers of a transformer were asked for, and the names are not those of a known transformer.
    pub unrecognized: bool,
}

/// Which dtypes candidates may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Only floats, which can be ranked and interpolated.
    Floats,
    /// All dtypes, for a full delta.
    Every,
}

impl Candidates {
    /// Finds the candidates among `tensors`, which ascend by name.
    ///
    /// # Errors
    /// [`Impossible::Glob`], [`Impossible::NoCandidates`].
    pub fn new(tensors: &[Tensor<'_>], options: &CandidateOptions, kinds: Kinds) -> Result<Self, Impossible> {
        let (include, exclude) = (globs(&options.include)?, globs(&options.exclude)?);
        let family = names::recognize(tensors.iter().map(|tensor| tensor.info.name.as_str()));
        let requested = options.params.unwrap_or(Params::EncoderDense);
        let unrecognized = requested == Params::EncoderDense && family.is_none();
        let params = if unrecognized { Params::Matrices } else { requested };
        let is_candidate = |info: &TensorInfo| {
            params.contains(info)
                && (kinds == Kinds::Every || info.dtype.float().is_some())
                && (options.include.is_empty() || include.is_match(&info.name))
                && !exclude.is_match(&info.name)
        };
        let candidates: Vec<usize> = (0..tensors.len()).filter(|index| is_candidate(tensors[*index].info)).collect();
        if candidates.is_empty() {
            let no_floats = kinds == Kinds::Floats && tensors.iter().all(|tensor| tensor.info.dtype.float().is_none());
            return Err(Impossible::NoCandidates { params, no_floats });
        }
        let (mut by_component, mut by_layer) = (BTreeMap::new(), BTreeMap::new());
        for info in candidates.iter().map(|index| tensors[*index].info) {
            let (place, elements) = (names::place(&info.name), info.elements());
            *by_component.entry(place.component.label().to_owned()).or_default() += elements;
            *by_layer.entry(names::layer_label(place.layer)).or_default() += elements;
        }
        let description = metadata::Candidates {
            params: params.label().to_owned(),
            include: options.include.clone(),
            exclude: options.exclude.clone(),
            family: family.map(|family| family.label().to_owned()),
            tensors: candidates.len() as u64,
            elements: candidates.iter().map(|index| tensors[*index].info.elements()).sum(),
            by_component,
            by_layer,
        };
        Ok(Self { tensors: candidates, description, unrecognized })
    }
}

impl Filter {
    /// Whether it accepts a tensor of a patch.
    ///
    /// # Errors
    /// [`Impossible::Glob`].
    pub(crate) fn accepts(&self) -> Result<impl Fn(&TensorEntry) -> bool, Impossible> {
        let (include, exclude) = (globs(&self.include)?, globs(&self.exclude)?);
        Ok(move |entry: &TensorEntry| {
            let component = names::place(&entry.name).component.label();
            (self.include.is_empty() || include.is_match(&entry.name))
                && !exclude.is_match(&entry.name)
                && (self.components.is_empty() || self.components.iter().any(|wanted| wanted == component))
        })
    }

    /// Checks that every glob matches the name of a tensor of a patch.
    ///
    /// # Errors
    /// [`Impossible::Glob`], [`Impossible::Unmatched`].
    pub(crate) fn must_match<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Impossible> {
        for pattern in self.include.iter().chain(&self.exclude) {
            let glob = globs(std::slice::from_ref(pattern))?;
            if !names.clone().any(|name| glob.is_match(name)) {
                return Err(Impossible::Unmatched { pattern: pattern.clone(), nearest: nearest(pattern, names) });
            }
        }
        Ok(())
    }
}

/// Compiles globs; a name matches the set if it matches one of them.
///
/// # Errors
/// [`Impossible::Glob`].
pub(crate) fn globs(patterns: &[String]) -> Result<GlobSet, Impossible> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|error| invalid_glob(pattern, &error))?);
    }
    set.build().map_err(|error| invalid_glob("the globs", &error))
}

fn invalid_glob(pattern: &str, error: &globset::Error) -> Impossible {
    Impossible::Glob { pattern: pattern.to_owned(), reason: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::testing::checkpoint;

    const QUERY: &str = "bert.encoder.layer.0.attention.self.query.weight";
    const TENSORS: [(&str, Dtype, &[u64]); 4] = [
        ("bert.embeddings.position_ids", Dtype::I64, &[1, 4]),
        ("bert.embeddings.word_embeddings.weight", Dtype::F32, &[3, 2]),
        ("bert.encoder.layer.0.attention.self.query.bias", Dtype::F32, &[2]),
        (QUERY, Dtype::F32, &[2, 2]),
    ];

    /// The indices in [`TENSORS`] of the candidates.
    fn candidates(options: &CandidateOptions, kinds: Kinds) -> Result<Vec<usize>, Impossible> {
        let bits = |shape: &[u64]| vec![0; shape.iter().product::<u64>() as usize];
        let tensors = TENSORS.map(|(name, dtype, shape)| (name.to_owned(), dtype, shape.to_vec(), bits(shape)));
        let file = checkpoint(&tensors);
        Ok(Candidates::new(&file.tensors().collect::<Vec<_>>(), options, kinds)?.tensors)
    }

    fn params(params: Params) -> CandidateOptions {
        CandidateOptions { params: Some(params), ..CandidateOptions::default() }
    }

    #[test]
    fn each_set_has_its_tensors_of_the_allowed_dtypes() {
        assert_eq!(candidates(&params(Params::Matrices), Kinds::Floats), Ok(vec![1, 3]));
        assert_eq!(candidates(&params(Params::All), Kinds::Floats), Ok(vec![1, 2, 3]));
        assert_eq!(candidates(&params(Params::All), Kinds::Every), Ok(vec![0, 1, 2, 3]));
    }

    #[test]
    fn the_dense_layers_are_the_candidates_if_a_transformer_is_recognized() {
        let dense = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"];
        let names = dense.iter().chain(&["intermediate.dense", "output.dense"]);
        let matrix = |name: String| (name, Dtype::F32, vec![2, 2], vec![0; 4]);
        let mut tensors: Vec<_> = names.map(|name| matrix(format!("bert.encoder.layer.0.{name}.weight"))).collect();
        tensors.push(matrix("bert.embeddings.word_embeddings.weight".to_owned()));
        let file = checkpoint(&tensors);
        let tensors: Vec<_> = file.tensors().collect();
        let candidates = Candidates::new(&tensors, &CandidateOptions::default(), Kinds::Floats).unwrap();
        assert_eq!((candidates.tensors, candidates.unrecognized), ((1..7).collect(), false));
        assert_eq!(candidates.description.elements, 24);
    }

    #[test]
    fn a_name_must_match_an_included_glob_and_no_excluded_one() {
        let globs = |include: &[&str], exclude: &[&str]| CandidateOptions {
            params: Some(Params::All),
            include: include.iter().map(|glob| (*glob).to_owned()).collect(),
            exclude: exclude.iter().map(|glob| (*glob).to_owned()).collect(),
        };
        assert_eq!(candidates(&globs(&["*query*", "*words*"], &[]), Kinds::Floats), Ok(vec![2, 3]));
        assert_eq!(candidates(&globs(&["*query*"], &["*.bias"]), Kinds::Floats), Ok(vec![3]));
        assert_eq!(
            candidates(&globs(&[], &["*"]), Kinds::Floats),
            Err(Impossible::NoCandidates { params: Params::All, no_floats: false })
        );
        assert!(
            matches!(candidates(&globs(&["["], &[]), Kinds::Floats), Err(Impossible::Glob { pattern, .. }) if pattern == "[")
        );
    }

    #[test]
    fn matrices_are_the_candidates_if_no_transformer_is_recognized() {
        let file = checkpoint(&[("matrix".to_owned(), Dtype::F32, vec![2, 2], vec![0; 4])]);
        let tensors: Vec<_> = file.tensors().collect();
        let candidates = Candidates::new(&tensors, &CandidateOptions::default(), Kinds::Floats).unwrap();
        assert_eq!((candidates.tensors, candidates.unrecognized), (vec![0], true));
        assert_eq!(candidates.description.params, "matrices");
    }
}
