//! A patch with arbitrary blocks but right digests, applied to a small base: an error, or a result of the same size.
#![no_main]

use lcepatch::apply::{Check, DifferentBase, Edit, NotFinite, Plan, PlanOptions};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::format::Metadata;
use lcepatch::format::block::encode::Portability;
use lcepatch::format::builder::{NewBlock, PatchBuilder, TensorParts};
use lcepatch::format::limits::BLOCK_LOG2;
use lcepatch::patch::Patch;
use lcepatch_format::digest::Digest;
use lcepatch_format::dtype::Dtype;
use libfuzzer_sys::fuzz_target;

const ELEMENTS: u64 = 64;

fuzz_target!(|data: (bool, u8, f64, bool, &[u8])| {
    let (narrow, selected, alpha, portable, block) = data;
    let (name, bytes) = if narrow { ("BF16", 2 * ELEMENTS) } else { ("F32", 4 * ELEMENTS) };
    let mut header = format!(r#"{{"w":{{"dtype":"{name}","shape":[{ELEMENTS}],"data_offsets":[0,{bytes}]}}}}"#);
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let weights: Vec<u8> = (0..bytes).map(|at| (at * 37 >> 2) as u8).collect();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &weights].concat();
    let base = Checkpoint::from_bytes("base".as_ref(), file).expect("a well-formed file");

    let selected = u32::from(selected) % ELEMENTS as u32 + 1;
    let mut builder = PatchBuilder::new(Portability::NeedsBase, BLOCK_LOG2);
    let place = builder.tensor(TensorParts {
        name: "w".to_owned(),
        dtype: Dtype::from_name(name).expect("a known name"),
        shape: vec![ELEMENTS],
        base_digest: Digest::of(&weights),
        counterparts: None,
    });
    let (bytes, base_values) = ([block, &[0]].concat(), Digest::UNKNOWN);
    builder.copied(place, None, vec![NewBlock { index: 0, selected, bytes, base_values }]);
    let metadata = Metadata { portable, ..Metadata::default() };
    let patch = Patch::written(&builder.choose(), &metadata, Digest::UNKNOWN, Digest::UNKNOWN).expect("a valid header");
    let Some(alpha) = Alpha::new(alpha) else { return };
    // Far alphas stand for the edits that have none.
    let kind = match alpha.value() {
        1e300.. => EditKind::Prune,
        ..-1e300 => EditKind::Switch,
        _ => EditKind::Interpolate(alpha),
    };
    let edits = [Edit { patch, kind }];
    let context = Context::silent();
    for check in [Check::Quick, Check::Full] {
        let mut options = PlanOptions::default();
        (options.check, options.different_base, options.not_finite) = (check, DifferentBase::Add, NotFinite::Write);
        if let Ok(plan) = Plan::check(&base, &edits, &options, &context) {
            let _ = plan.result_digest(base.tensor("w").expect("it is there"), &context);
        }
    }
});
