//! What to do where a patch cannot be made, applied, or made of others.

use super::files::MERGE;
use crate::edit::EditKind;
use crate::error::{BaseState, Difference, NoRevert, Obstacle, PartContent, PartFault, PlanFault, Refusal, Undivided};
use crate::localize::Impossible;
use crate::localize::candidates::Params;
use crate::mask::MaskFault;
use crate::pair::{Mismatch, Prefix, Suggestion};
use crate::words::counted;

pub fn mismatch(mismatch: &Mismatch) -> String {
    if !mismatch.collisions.is_empty() {
        return "map only names that become different ones".to_owned();
    }
    if let Some(adapter) = &mismatch.adapter {
        return format!("{} holds an adapter (such as LoRA); {MERGE}", adapter.display());
    }
    if let Some(Suggestion { prefixes, paired, of }) = &mismatch.suggestion {
        let option = |prefix: &Prefix| format!("--map-prefix {}={}", prefix.from, prefix.to);
        let options = prefixes.iter().map(option).collect::<Vec<_>>().join(" ");
        let share = if paired == of { format!("all {of}") } else { format!("{paired} of {of}") };
        return format!("`{options}` pairs {share} of the reference's tensors with the target's by name");
    }
    let names_pair = mismatch.only_in_target.is_empty() && mismatch.only_in_reference.is_empty();
    if names_pair && mismatch.differing.is_empty() && !mismatch.other_dtype.is_empty() {
        return "`--cast` rounds the reference to the target's dtype".to_owned();
    }
    if mismatch.paired == 0 {
        return "no tensor is in both; are these checkpoints of the same architecture?".to_owned();
    }
    format!(
        "`--common` works on the {} that both have, and on the rows that embeddings of two vocabularies have \
         in common; the others are listed in the patch",
        counted(mismatch.paired, "tensor")
    )
}

pub fn localize(impossible: &Impossible) -> Option<&'static str> {
    Some(match impossible {
        Impossible::NotFinite { .. } => {
            "leave the tensor out with --exclude, or use --all, which compares bits and needs no ranking"
        }
        Impossible::Cast { .. } => "leave the tensor out with --exclude, or widen the target",
        Impossible::TooMany { .. } => "ask for fewer, or widen the candidates with --params",
        Impossible::NoMasks => "give --target-mask and --reference-mask, --mask-from zeros, or --sparsity",
        Impossible::SameMasks => "are these the masks of two different checkpoints?",
        Impossible::Unpruned { .. } => "give the target as it was before it was pruned",
        Impossible::NoCandidates { no_floats: true, .. } => {
            "only floats are ranked, drawn or pruned; `lcepatch diff --all` carries tensors of any dtype, bit by bit"
        }
        Impossible::NoCandidates { params: Params::All, .. } => "look at --include and --exclude",
        Impossible::NoCandidates { .. } => "`--params all` considers every tensor; --include and --exclude narrow it",
        Impossible::Mask(fault) => return mask(fault),
        Impossible::Unmatched { .. } => "`lcepatch show PATCH --tensors` lists the names; `*` stands for any text",
        Impossible::TooRegular { .. } => "make several patches, each of some of the tensors, with --include",
        Impossible::Glob { .. } | Impossible::Cancelled(_) => return None,
    })
}

pub fn mask(fault: &MaskFault) -> Option<&'static str> {
    Some(match fault {
        MaskFault::Shape { .. } | MaskFault::Value { .. } | MaskFault::Padding { .. } => {
            "a mask holds 0 and 1 for each weight, in its shape, or packed bits; `lcepatch mask` writes such files"
        }
        MaskFault::Unmatched { .. } => "is it the mask of another checkpoint?",
        MaskFault::None { .. } => "give a mask file, or say where the mask is",
        MaskFault::NotFinite { .. } => "leave the tensor out with --exclude",
        MaskFault::Before { .. } => "ask for a higher sparsity: it counts from the unpruned checkpoint",
        MaskFault::TooFew { .. } | MaskFault::Cancelled(_) => return None,
    })
}

pub fn refusal(refusal: &Refusal) -> String {
    let help = match refusal {
        Refusal::Base { state: BaseState::Result, .. } => {
            "this checkpoint is what the patch produces at alpha 1: it is already applied"
        }
        Refusal::Base { state: BaseState::Reference, .. } => {
            "this checkpoint is the patch's reference: there is nothing left to apply"
        }
        Refusal::Base { state: BaseState::Adapter, .. } => {
            return format!("this checkpoint holds an adapter (such as LoRA); {MERGE}");
        }
        Refusal::Base { differences, .. } if has(differences, &Difference::Missing) => {
            "if only a prefix of the names differs, `--map-prefix PATCH=BASE` pairs them"
        }
        Refusal::Base { differences, .. } if has(differences, &Difference::Unbound) => {
            "is it an export of the patch's base, in the same dtype, with weights that were not fused or quantized?"
        }
        Refusal::Base { differences, .. } if has(differences, &Difference::Constant) => {
            "apply to the checkpoint and export the result, or leave them out: `lcepatch select --exclude`"
        }
        Refusal::Base { portable: true, .. } => {
            "`--allow-different-base` adds the patch's deltas to this checkpoint all the same"
        }
        Refusal::Base { .. } => {
            "`lcepatch show` lists the digests of the right base; only a --portable patch serves another"
        }
        Refusal::Integer { kind: EditKind::Interpolate(_), .. } => {
            "apply with --alpha 1, or leave the tensor out of the patch with `lcepatch select --exclude`"
        }
        Refusal::Integer { .. } | Refusal::IntegerSum { other_base: true, .. } => {
            "leave the tensor out of the patch with `lcepatch select --exclude`"
        }
        Refusal::IntegerSum { .. } => "leave the tensor out of all patches but one with `lcepatch select --exclude`",
        Refusal::Together { .. } => "apply the patches one after the other, each made for the result of the one before",
        Refusal::NoMasks { .. } => {
            "mask switch takes a patch made with `diff --localize mask`, and the masks of target and reference"
        }
        Refusal::NoValuesBefore { .. } => {
            "make the patch with `diff --unpruned CHECKPOINT` (or `sweep --unpruned`), the target as it was before it was pruned"
        }
        Refusal::Mask { .. } => "give the base's own mask with --mask, the one that the patch was made with",
        Refusal::NotFinite { .. } => {
            "use an alpha nearer to 0; `lcepatch apply --allow-non-finite` writes infinities and NaN"
        }
        Refusal::DeclaredDigest { .. } => {
            "its blocks make something else than it says of its result: get it again, or ask its author; `lcepatch check PATCH BASE` tells the same"
        }
        Refusal::NoRevert { reason, .. } => no_revert(reason),
        Refusal::BesideBase { .. } => {
            "give the result another name, and another directory where weights are in files beside the ONNX file"
        }
        Refusal::Shared { .. } => {
            "export without merging equal weights, or leave them out: `lcepatch select --exclude`"
        }
        Refusal::SameFile { .. } => "use --in-place to replace the base",
        Refusal::OfBase { .. } | Refusal::SamePlace { .. } => "choose another name",
    };
    help.to_owned()
}

fn has(differences: &[(String, Difference)], wanted: &Difference) -> bool {
    differences.iter().any(|(_, difference)| difference == wanted)
}

fn no_revert(reason: &NoRevert) -> &'static str {
    match reason {
        NoRevert::File => "only model directories have a log: give the directory",
        NoRevert::NoStep => "there is nothing to take back; an undo patch of your own is applied with `lcepatch apply`",
        NoRevert::Changed => "`lcepatch status` says what they are",
        NoRevert::NoUndo => {
            "the base itself can be downloaded again; `lcepatch apply` keeps an undo patch unless it is given --no-undo"
        }
        NoRevert::UndoGone { .. } => "say where it is with --undo",
        NoRevert::OtherUndo { .. } => {
            "give the undo patch of the last step with --undo; `lcepatch log` says its id, `lcepatch show` that of a patch"
        }
        NoRevert::OtherResult => "the undo patch or the log was changed",
    }
}

pub fn obstacle(obstacle: &Obstacle) -> Option<&'static str> {
    Some(match obstacle {
        Obstacle::NeedsBase { .. } | Obstacle::Selected { .. } => {
            "give the checkpoint that the patch is for with --base"
        }
        Obstacle::Reduced { .. } => "make the patch without --delta-dtype",
        Obstacle::NoInverse { .. } => "`lcepatch diff REFERENCE TARGET` makes it from the checkpoints",
        Obstacle::Chain { .. } => "patches of one base are added up by `lcepatch combine`",
        Obstacle::Bases { .. } => "patches that follow each other are joined by `lcepatch squash`",
        Obstacle::Unpruned { .. } => "make it from pruned checkpoints; `lcepatch mask --pruned` writes them",
        Obstacle::Integer { .. } => "leave the tensor out with `lcepatch select --exclude`",
        Obstacle::NotFinite { .. } => "use weights nearer to 0",
        Obstacle::TooMany { .. } => "ask for fewer, or for a share such as --top 10%",
        Obstacle::Empty { .. } => return None,
    })
}

pub fn part(fault: &PartFault) -> String {
    let help = match fault {
        PartFault::NotAPart { .. } => "give the parts that `lcepatch diff --shard` wrote, and no patches with them",
        PartFault::Damaged { .. } | PartFault::Malformed { .. } | PartFault::Version { .. } => {
            "run its shard again, with this version"
        }
        PartFault::OtherFile { shard, .. } => return format!("run shard {shard} again with --force, then --finish"),
        PartFault::OtherRun { .. } => {
            "run all shards with the same checkpoints and options, but for --shard, --ranks and -o"
        }
        PartFault::Content { expected: PartContent::Ranks, .. } => "give the parts that were written without --ranks",
        PartFault::Content { expected: PartContent::Blocks, .. } => {
            "ranks are for `lcepatch diff --ranks`, which writes the blocks to combine"
        }
        PartFault::Missing { .. } => "give the parts of all shards; run those that failed again",
        PartFault::Twice { .. } => "give each shard once",
        PartFault::Changed { .. } => "run all shards again, without --ranks first",
        PartFault::Unsupported { what } => {
            let option = match what {
                Undivided::Localization => "--localize",
                Undivided::SizeOfMasks => "--k from-mask",
                Undivided::Cast => "--cast",
                Undivided::ReducedPrecision => "--delta-dtype",
                Undivided::Sha256 => "--sha256",
                Undivided::Masks => "the masks",
            };
            return format!("leave out {option}, or make the patch in one process, without --shard");
        }
    };
    help.to_owned()
}

pub fn plan(fault: &PlanFault) -> &'static str {
    match fault {
        PlanFault::NotAPlan { .. } => "give the file that `lcepatch plan` wrote",
        PlanFault::Damaged { .. } => "copy it again, or plan again",
        PlanFault::Version { .. } | PlanFault::Malformed { .. } => "plan again, with this version",
        PlanFault::OtherSource { .. } => {
            "plan again, and run all shards with the new plan; copies on other machines must keep their times (`cp -p`, `rsync -a`)"
        }
        PlanFault::OtherShards { .. } => "name a shard of the plan, without another number of shards, or plan again",
    }
}
