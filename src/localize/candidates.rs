//! Which tensors may be selected from.

use super::Impossible;
use crate::checkpoint::{Tensor, names};
use crate::format::metadata;
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::collections::BTreeMap;

/// A named set of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What the user asks for.
#[derive(Debug, Clone, Default)]
pub struct CandidateOptions {
    /// None: [`Params::EncoderDense`] where the names are a known transformer's, else [`Params::Matrices`].
    pub params: Option<Params>,
    /// Globs, one of which a name must match.
    pub include: Vec<String>,
    /// Globs, none of which a name may match.
    pub exclude: Vec<String>,
}

/// The tensors to select from.
#[derive(Debug, Clone)]
pub struct Candidates {
    /// Places among the tensors given, ascending.
    pub tensors: Vec<usize>,
    /// For the patch.
    pub description: metadata::Candidates,
    /// Set when dense layers were looked for and the names are no known transformer's.
    pub unrecognized: bool,
}

/// Float tensors for ranking, or tensors of every dtype for a full delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Only dtypes that have an order and an alpha.
    Floats,
    /// Also integers, booleans and the rest.
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
        let wanted = options.params.unwrap_or(Params::EncoderDense);
        let unrecognized = wanted == Params::EncoderDense && family.is_none();
        let params = if unrecognized { Params::Matrices } else { wanted };
        let is_candidate = |index: &usize| {
            let info = tensors[*index].info;
            let (name, rank) = (info.name.as_str(), info.shape.len());
            let in_set = match params {
                Params::EncoderDense => names::is_encoder_dense(name, rank),
                Params::Matrices => rank >= 2,
                Params::All => true,
            };
            in_set
                && (kinds == Kinds::Every || info.dtype.float().is_some())
                && (options.include.is_empty() || include.is_match(name))
                && !exclude.is_match(name)
        };
        let found: Vec<usize> = (0..tensors.len()).filter(is_candidate).collect();
        if found.is_empty() {
            return Err(Impossible::NoCandidates { params });
        }
        let (mut by_component, mut by_layer) = (BTreeMap::new(), BTreeMap::new());
        for info in found.iter().map(|index| tensors[*index].info) {
            let (place, elements) = (names::place(&info.name), info.elements());
            *by_component.entry(place.component.label().to_owned()).or_default() += elements;
            *by_layer.entry(names::layer_label(place.layer)).or_default() += elements;
        }
        let description = metadata::Candidates {
            params: params.label().to_owned(),
            include: options.include.clone(),
            exclude: options.exclude.clone(),
            family: family.map(|family| family.label().to_owned()),
            tensors: found.len() as u64,
            elements: found.iter().map(|index| tensors[*index].info.elements()).sum(),
            by_component,
            by_layer,
        };
        Ok(Self { tensors: found, description, unrecognized })
    }
}

/// A set of globs.
pub(crate) fn globs(patterns: &[String]) -> Result<GlobSet, Impossible> {
    let bad = |pattern: &str, e: globset::Error| Impossible::Glob {
        pattern: pattern.to_owned(),
        reason: e.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(|e| bad(pattern, e))?);
    }
    set.build().map_err(|e| bad("the globs", e))
}
