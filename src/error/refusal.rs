//! Why a patch is not applied.

use super::fit::{BaseState, Difference};
use crate::edit::EditKind;
use crate::error::first_ten;
use crate::input::MERGE;
use std::path::PathBuf;

/// Why a patch is not applied. Nothing was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
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
    /// The result's digest is not the one that the patch promises.
    Promise {
        /// The patch.
        patch: PathBuf,
    },
    /// The last step cannot be taken back.
    NoRevert {
        /// The model directory.
        path: PathBuf,
        /// Why.
        reason: String,
        /// One thing to do about it.
        help: &'static str,
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

impl Refusal {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Base { state: BaseState::Result, .. } => "base.already-applied",
            Refusal::Base { .. } => "base.differs",
            Refusal::Integer { .. } => "edit.integer",
            Refusal::Together { .. } => "edit.together",
            Refusal::NoMasks { .. } => "edit.no-masks",
            Refusal::NoValuesBefore { .. } => "edit.no-values-before",
            Refusal::Mask { .. } => "base.mask-differs",
            Refusal::NotFinite { .. } => "numbers.not-finite",
            Refusal::Promise { .. } => "result.differs",
            Refusal::NoRevert { .. } => "revert.impossible",
            Refusal::SameFile { .. } | Refusal::BesideBase { .. } | Refusal::OfBase { .. } => "output.is-base",
            Refusal::SamePlace { .. } => "output.same",
            Refusal::Shared { .. } => "base.shared",
        }
    }

    /// Found, expected and where.
    pub fn details(&self) -> Vec<String> {
        match self {
            Refusal::Base { differences, .. } => {
                first_ten(differences.iter().map(|(name, how)| format!("{name}: {how}")), "tensors differ")
            }
            _ => Vec::new(),
        }
    }

    /// One thing to do about it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Refusal::Base { state: BaseState::Result, .. } => {
                "this checkpoint is what the patch produces at alpha 1: it is already applied"
            }
            Refusal::Base { state: BaseState::Reference, .. } => {
                "this checkpoint is the patch's reference: there is nothing left to apply"
            }
            Refusal::Base { state: BaseState::Adapter, .. } => {
                return Some(format!("this checkpoint holds an adapter (such as LoRA); {MERGE}"));
            }
            Refusal::Base { differences, .. } if differences.iter().any(|(_, d)| *d == Difference::Missing) => {
                "if only a prefix of the names differs, `--map-prefix PATCH=BASE` pairs them"
            }
            Refusal::Base { differences, .. } if differences.iter().any(|(_, d)| *d == Difference::Unbound) => {
                "is it an export of the patch's base, in the same dtype, with weights that were not fused or quantized?"
            }
            Refusal::Base { differences, .. } if differences.iter().any(|(_, d)| *d == Difference::Constant) => {
                "apply to the checkpoint and export the result, or leave them out: `lcepatch select --exclude`"
            }
            Refusal::Base { portable: true, .. } => {
                "`--allow-different-base` adds the patch's deltas to this checkpoint all the same"
            }
            Refusal::Base { .. } => {
                "`lcepatch show` lists the digests of the right base; only a --portable patch serves another"
            }
            Refusal::Integer { .. } => "apply with --alpha 1 or 0, or make the patch without this tensor",
            Refusal::Together { .. } => {
                "apply the patches one after the other, each made for the result of the one before"
            }
            Refusal::NoMasks { .. } => {
                "mask switch takes a patch made with `diff --localize mask`, and the masks of target and reference"
            }
            Refusal::NoValuesBefore { .. } => {
                "make the patch with `diff --unpruned CHECKPOINT`, the target as it was before it was pruned"
            }
            Refusal::Mask { .. } => "give the base's own mask with --mask, the one that the patch was made with",
            Refusal::NotFinite { .. } => {
                "use an alpha nearer to 0, or write infinities and NaN with --allow-non-finite"
            }
            Refusal::Promise { .. } => "check the disk and memory of this machine, then try again",
            Refusal::NoRevert { help, .. } => help,
            Refusal::BesideBase { .. } => {
                "give the result another name, and another directory where weights are in files beside the ONNX file"
            }
            Refusal::Shared { .. } => {
                "export without merging equal weights, or leave them out: `lcepatch select --exclude`"
            }
            Refusal::OfBase { .. } | Refusal::SamePlace { .. } => "choose another name",
            Refusal::SameFile { .. } => "use --in-place to replace the base",
        };
        Some(help.to_owned())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Base { patch, differences, tensors, .. } => {
                let n = differences.len();
                write!(f, "{} does not fit this base: {n} of {tensors} tensors differ", patch.display())
            }
            Refusal::Integer { tensor, kind } => match kind.alpha() {
                Some(alpha) => {
                    write!(f, "{tensor:?} holds no floats, so a change of it cannot be scaled by alpha {alpha}")
                }
                None => write!(f, "{tensor:?} holds no floats, so it cannot be pruned"),
            },
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
                write!(f, "element {index} of {tensor:?}, {base} in the base, would become infinite or NaN")
            }
            Refusal::Promise { patch } => {
                write!(f, "{}: the result's digest is not the one that the patch promises", patch.display())
            }
            Refusal::NoRevert { path, reason, .. } => {
                write!(f, "the last step in {} cannot be taken back: {reason}", path.display())
            }
            Refusal::BesideBase { path } => write!(f, "{} holds the base itself", path.display()),
            Refusal::Shared { initializer, tensors: [first, last] } => {
                write!(f, "{initializer:?} is {first:?} and {last:?}, which are equal and are not edited alike")
            }
            Refusal::OfBase { path } => write!(f, "{} is a file of the base", path.display()),
            Refusal::SamePlace { path } => write!(f, "{} is where another output goes", path.display()),
            Refusal::SameFile { path } => write!(f, "{} is the base itself", path.display()),
        }
    }
}

impl std::error::Error for Refusal {}
