//! Why a patch is not applied.

use crate::digest::Digest;
use crate::dtype::Dtype;
use crate::edit::EditKind;
use crate::words::plural;
use std::path::PathBuf;

/// Why a patch is not applied. Nothing was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The base is another than the patch's.
    Base {
        /// The patch.
        patch: PathBuf,
        /// What differs, tensor by tensor.
        differences: Vec<(String, Difference)>,
        /// Tensors that the patch changes.
        tensors: usize,
        /// What the base is instead, as far as digests tell.
        state: BaseState,
        /// Whether the patch carries what it takes to be used on another base.
        portable: bool,
    },
    /// A number that is no float would have to be scaled or pruned.
    Integer {
        /// The tensor.
        tensor: String,
        /// The edit.
        kind: EditKind,
    },
    /// Changes of a number that is no float would have to be added to it.
    IntegerSum {
        /// The tensor.
        tensor: String,
        /// Whether it is because the base is another than the patch's. If not, several patches change the number.
        other_base: bool,
    },
    /// Edits that cannot be done together.
    Together {
        /// One of them.
        first: EditKind,
        /// Another.
        last: EditKind,
    },
    /// A mask switch with a patch that has no masks.
    NoMasks {
        /// The patch.
        patch: PathBuf,
    },
    /// A mask switch with a patch that does not know what the base held before it was pruned.
    NoValuesBefore {
        /// The patch.
        patch: PathBuf,
    },
    /// The base's mask is another than the patch's.
    Mask {
        /// The weights.
        tensor: String,
        /// Flat index.
        index: u64,
        /// Whether the base's mask keeps it.
        kept: bool,
    },
    /// The edited number is not finite.
    NotFinite {
        /// The tensor.
        tensor: String,
        /// Flat index.
        index: u64,
        /// The base's value.
        base: f64,
    },
    /// The result's digest is not the one that the patch declares.
    DeclaredDigest {
        /// The patch.
        patch: PathBuf,
    },
    /// The last step cannot be taken back.
    NoRevert {
        /// The model directory.
        path: PathBuf,
        /// Why.
        reason: NoRevert,
    },
    /// The result of an ONNX file would take the place of the file itself, or of one that its weights are in.
    BesideBase {
        /// The file.
        path: PathBuf,
    },
    /// One weight of an ONNX file is several tensors, of which the edits differ.
    Shared {
        /// The weight.
        initializer: String,
        /// Two of them.
        tensors: [String; 2],
    },
    /// Something else than the result would take the place of a file of the base.
    OfBase {
        /// The file.
        path: PathBuf,
    },
    /// Two outputs would be in one place, or one in the other.
    SamePlace {
        /// One of them.
        path: PathBuf,
    },
    /// The base would be overwritten while it is read.
    SameFile {
        /// The file.
        path: PathBuf,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Base { patch, differences, tensors, .. } => {
                let (patch, n) = (patch.display(), differences.len());
                let differ = if n == 1 { "differs" } else { "differ" };
                write!(f, "{patch} does not fit this base: {n} of {tensors} {} {differ}", plural(*tensors, "tensor"))
            }
            Refusal::Integer { tensor, kind } => match kind.alpha() {
                Some(alpha) => {
                    write!(f, "{tensor:?} holds no floats, so a change of it cannot be scaled by alpha {alpha}")
                }
                None => write!(f, "{tensor:?} holds no floats, so it cannot be pruned"),
            },
            Refusal::IntegerSum { tensor, other_base } => {
                let what = if *other_base { "a change of another base" } else { "the changes of several patches" };
                write!(f, "{tensor:?} holds no floats, so {what} cannot be added to it")
            }
            Refusal::Together { first, last } => {
                write!(f, "edits of kind {} and {} cannot be done together", first.label(), last.label())
            }
            Refusal::NoMasks { patch } => {
                write!(f, "{} carries no pruning masks, so there is none to switch to", patch.display())
            }
            Refusal::NoValuesBefore { patch } => {
                write!(f, "{} does not know what the base held before it was pruned", patch.display())
            }
            Refusal::Mask { tensor, index, kept } => {
                let [here, there] = if *kept { ["kept", "pruned"] } else { ["pruned", "kept"] };
                write!(f, "element {index} of {tensor:?} is {here} in the base's mask and {there} in the patch's")
            }
            Refusal::NotFinite { tensor, index, base } => {
                write!(
                    f,
                    "element {index} of {tensor:?}, {} in the base, would become infinite or NaN",
                    shortest(*base)
                )
            }
            Refusal::DeclaredDigest { patch } => {
                write!(f, "{}: the result's digest is not the one that the patch declares", patch.display())
            }
            Refusal::NoRevert { path, reason } => {
                write!(f, "the last step in {} cannot be taken back: {reason}", path.display())
            }
            Refusal::BesideBase { path } => write!(f, "{} holds the base itself", path.display()),
            Refusal::Shared { initializer, tensors: [first, last] } => {
                write!(
                    f,
                    "initializer {initializer:?} is both {first:?} and {last:?}, which the patch changes differently"
                )
            }
            Refusal::OfBase { path } => write!(f, "{} is a file of the base", path.display()),
            Refusal::SamePlace { path } => write!(f, "{} is where another output goes", path.display()),
            Refusal::SameFile { path } => write!(f, "{} is the base itself", path.display()),
        }
    }
}

impl std::error::Error for Refusal {}

/// A weight with as many digits as tell it from others of its dtype: few hold more than single precision.
fn shortest(weight: f64) -> String {
    let single = weight as f32;
    if f64::from(single) == weight { single.to_string() } else { weight.to_string() }
}

/// Why the last step of a model directory cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NoRevert {
    /// It is no directory, so that nothing was logged.
    #[error("it is a file")]
    File,
    /// The log has no step.
    #[error("no patch was applied here")]
    NoStep,
    /// The weights are not those that the last step left.
    #[error("the weights changed since")]
    Changed,
    /// The last step left no undo patch.
    #[error("no undo patch was written")]
    NoUndo,
    /// The undo patch is not found.
    #[error("its undo patch {file} is not here")]
    UndoGone {
        /// Its name.
        file: String,
    },
    /// A patch is not the undo patch of the last step.
    #[error("{} has patch id {found}, the log says {expected}", path.display())]
    OtherUndo {
        /// The patch.
        path: PathBuf,
        /// Its id.
        found: Digest,
        /// The id in the log.
        expected: String,
    },
    /// The undo patch or the log was changed.
    #[error("the result would not be what it was before")]
    OtherResult,
}

/// What a checkpoint is to a patch, as far as digests tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseState {
    /// Its base.
    Base,
    /// What it produces at alpha 1.
    Result,
    /// Its reference.
    Reference,
    /// An adapter, such as LoRA's, which the patch is not for.
    Adapter,
    /// None of these.
    Unknown,
}

/// How a tensor differs from the patch's base.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// It is not there.
    Missing,
    /// It has another dtype.
    Dtype {
        /// Here.
        found: Dtype,
        /// In the patch.
        expected: Dtype,
    },
    /// It has another shape.
    Shape {
        /// Here.
        found: Vec<u64>,
        /// In the patch.
        expected: Vec<u64>,
    },
    /// It has other bytes.
    Digest {
        /// Here.
        found: Digest,
        /// In the patch.
        expected: Digest,
    },
    /// No weight of an ONNX file is it or its transpose.
    Unbound,
    /// Its elements are equal, and several weights of an ONNX file may be it.
    Constant,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Missing => f.write_str("not in this checkpoint"),
            Difference::Dtype { found, expected } => write!(f, "dtype is {found}, the patch expects {expected}"),
            Difference::Shape { found, expected } => write!(f, "shape is {found:?}, the patch expects {expected:?}"),
            Difference::Digest { found, expected } => {
                write!(f, "digest is {}…, the patch expects {}…", found.short(), expected.short())
            }
            Difference::Unbound => f.write_str("no initializer of this ONNX file is equal to it or its transpose"),
            Difference::Constant => {
                f.write_str("its elements are all equal, and it cannot be told from other weights of this ONNX file")
            }
        }
    }
}
