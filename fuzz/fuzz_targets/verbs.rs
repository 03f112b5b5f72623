//! A mutated patch, with its digests made right again, through every verb: an error or an answer, never a panic; and its metadata
//! decides nothing about bytes.
//!
//! An input is the length of a patch, the patch, and a safetensors file.
#![no_main]

use lcepatch::algebra::{Filter, Signs, combine, compare, invert, restrict, select, squash};
use lcepatch::apply::{Carried, Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions, fit};
use lcepatch::check::{intact, true_of};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::diff::Amount;
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::format::Metadata;
use lcepatch::patch::Patch;
use lcepatch::report::Stat;
use lcepatch_format::digest::Digest;
use libfuzzer_sys::fuzz_target;

const PREAMBLE: usize = 64;
/// Bytes of the tensors that a patch may change, so that an input is tried in a moment.
const BASE_BYTES_MAX: u64 = 1 << 20;

/// The patch once more, whose header digest is that of its header.
fn with_header_digest(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let sections = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    let header = [bytes.get(..32)?, bytes.get(PREAMBLE..PREAMBLE.checked_add(sections)?)?].concat();
    bytes.get_mut(32..PREAMBLE)?.copy_from_slice(&Digest::of(&header).0);
    Some(bytes)
}

/// The patch with digests of its blocks, and of the tensors of `base` if there is one, that are right; `root` also makes the selected
/// root unknown.
fn with_digests(bytes: Vec<u8>, base: Option<&Checkpoint>, root: bool) -> Option<Vec<u8>> {
    let bytes = with_header_digest(bytes)?;
    let patch = Patch::from_bytes("fuzz", bytes.clone()).ok()?;
    let small = |entry: &lcepatch::format::tensor_table::TensorEntry| entry.elements() <= BASE_BYTES_MAX / 8;
    if !patch.table().tensors.iter().all(small) {
        return None;
    }
    let context = Context::silent();
    let mut digests = Vec::new();
    for entry in &patch.table().tensors {
        let there = base.and_then(|base| base.tensor(&entry.name)).map(|tensor| tensor.digest(&context));
        digests.extend(there.and_then(Result::ok).unwrap_or(entry.base_digest).0);
    }
    let payload = bytes.get(patch.header_bytes() as usize..)?;
    for block in patch.table().tensors.iter().flat_map(|entry| &entry.blocks) {
        let own = payload.get(block.offset as usize..(block.offset + block.bytes) as usize)?;
        digests.extend(Digest::of(own).0);
    }
    let (mut bytes, mut at) = (bytes, PREAMBLE);
    loop {
        let head: [u8; 12] = bytes.get(at..at + 12)?.try_into().ok()?;
        let (kind, stored) = (u16::from_le_bytes([head[0], head[1]]), u32::from_le_bytes(head[4..8].try_into().ok()?));
        at += 12;
        if kind == 3 {
            let content = bytes.get_mut(at..at + stored as usize).filter(|_| head[2] == 0)?;
            if root {
                content.get_mut(..32)?.fill(0);
            }
            content.get_mut(96..)?.copy_from_slice(&digests);
            return with_header_digest(bytes);
        }
        at += stored as usize;
    }
}

/// The digest over all tensors that `edits` make of `base`; none if they are refused.
fn applied(base: &Checkpoint, edits: &[Edit], different_base: DifferentBase) -> Option<Vec<Digest>> {
    let context = Context::silent();
    let mut found = None;
    for check in [Check::Quick, Check::Full] {
        let mut options = PlanOptions::default();
        (options.check, options.different_base, options.not_finite) = (check, different_base, NotFinite::Write);
        if let Ok(plan) = Plan::check(base, edits, &options, &context) {
            let results = base.tensors().map(|tensor| plan.result_digest(tensor, &context).ok());
            found = results.collect();
        }
    }
    found
}

fn claims(metadata: &Metadata) -> Metadata {
    let masks = match &metadata.masks {
        Some(_) => None,
        None => Some(lcepatch::format::metadata::Masks { before_pruning: true, ..Default::default() }),
    };
    let reduced = match &metadata.reduced {
        Some(_) => None,
        None => Some(lcepatch::format::metadata::Reduced { delta_dtype: "int8".to_owned(), ..Default::default() }),
    };
    Metadata { portable: !metadata.portable, masks, reduced, ..metadata.clone() }
}

/// All work is done by the thread that runs inputs: handing it to others takes longer than doing it.
fn on_this_thread() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
    pool.build_global().expect("there is no pool yet");
}

fuzz_target!(init: on_this_thread(), |data: (bool, bool, bool, f64, &[u8])| {
    let (with_base, other, root, alpha, data) = data;
    let Some((length, data)) = data.split_at_checked(4) else { return };
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let Some((patch, file)) = data.split_at_checked(length) else { return };
    let Ok(mut checkpoint) = Checkpoint::from_bytes("base".as_ref(), file.to_vec()) else { return };
    if checkpoint.bytes() > BASE_BYTES_MAX {
        return;
    }
    let Some(bytes) = with_digests(patch.to_vec(), Some(&checkpoint), root) else { return };
    if other {
        let mut file = file.to_vec();
        let quarter = file.len() / 4;
        file.iter_mut().rev().take(quarter).for_each(|byte| *byte ^= 0x11);
        match Checkpoint::from_bytes("other".as_ref(), file) {
            Ok(changed) => checkpoint = changed,
            Err(_) => return,
        }
    }
    let context = Context::silent();
    let Ok(patch) = Patch::from_bytes("fuzz", bytes) else { return };
    let Ok(lying) = patch.with_metadata(&claims(patch.metadata())) else { return };
    let alpha = Alpha::new(alpha).unwrap_or(Alpha::ONE);
    let edit = |patch: &Patch, kind| Edit { patch: patch.clone(), kind };
    let at = |patch: &Patch| edit(patch, EditKind::Interpolate(alpha));

    let _ = Stat::new(&patch);
    let carried = Carried::read(&patch, &context);
    let _ = carried.map(|carried| carried.denied(patch.metadata()));
    let _ = intact(&patch, &context);
    let kinds = [EditKind::Interpolate(Alpha::ONE), EditKind::Interpolate(alpha), EditKind::Prune, EditKind::Switch];
    for different_base in [DifferentBase::Refuse, DifferentBase::Add] {
        for kind in kinds {
            let honest = applied(&checkpoint, &[edit(&patch, kind)], different_base);
            assert_eq!(honest, applied(&checkpoint, &[edit(&lying, kind)], different_base), "metadata decided");
        }
        let _ = applied(&checkpoint, &[at(&patch), at(&lying)], different_base);
    }
    let fits = fit(&checkpoint, &patch, Check::Quick, None, &context).is_ok_and(|fit| fit.differences.is_empty());
    if !other && fits {
        for check in [Check::Quick, Check::Full] {
            let _ = true_of(&patch, (&checkpoint, None), check, &context);
        }
    }
    let base = with_base.then_some(&checkpoint);
    // Of the verbs, the bytes that follow the header are compared: metadata may go along.
    let made = |patch: &Patch| {
        let (one, half) = (at(patch), Some(Amount::Count(2)));
        let results = [
            invert(&one, base, &context),
            squash(&one, &at(patch), base, &context),
            combine(&[at(patch), at(patch)], Signs::Elect, base, &context).map(|combined| combined.patch),
            select(&one, &Filter::default(), half, base, &context),
            restrict(&one, &at(patch), base, &context),
        ];
        let _ = compare(&one, &at(patch), base, &context);
        results.map(|made| made.ok().map(|made| made.table().clone()))
    };
    assert_eq!(made(&patch), made(&lying), "metadata decided");
});
