//! Metadata lies, over all vectors that are accepted: whatever it says, every verb gives what it gives without.

use crate::support::*;
use crate::vectors;
use lcepatch::Error;
use lcepatch::algebra::{Filter, Signs, combine, compare, invert, restrict, select, squash};
use lcepatch::apply::{Carried, Check, DifferentBase, Edit, Plan, PlanOptions};
use lcepatch::check::{intact, true_of};
use lcepatch::checkpoint::Checkpoint;
use lcepatch::context::Context;
use lcepatch::diff::Amount;
use lcepatch::edit::{Alpha, EditKind};
use lcepatch::format::metadata::{Localization, Masks, Metadata, Reduced};
use lcepatch::format::tensor_table::TensorTable;
use lcepatch::patch::Patch;
use std::path::{Path, PathBuf};

/// Claims about what blocks carry, each wrong somewhere.
fn lies() -> Vec<Metadata> {
    let reduced = |name: &str| Some(Reduced { delta_dtype: name.to_owned(), ..Reduced::default() });
    let masks = |before_pruning| Some(Masks { before_pruning, ..Masks::default() });
    vec![
        Metadata::default(),
        Metadata { portable: true, ..Metadata::default() },
        Metadata { portable: true, reduced: reduced("int8"), portability_bytes: Some(u64::MAX), ..Metadata::default() },
        Metadata { reduced: reduced("bf16"), masks: masks(true), ..Metadata::default() },
        Metadata {
            masks: masks(false),
            portability_bytes: Some(0),
            localization: Localization { method: "full".to_owned(), ..Localization::default() },
            ..Metadata::default()
        },
    ]
}

/// What a verb gives: the bytes that count, or the code of what it refuses with.
type Outcome = (&'static str, Result<String, &'static str>);

fn outcome<T: std::fmt::Debug>(verb: &'static str, result: Result<T, Error>) -> Outcome {
    (verb, result.map(|made| format!("{made:?}")).map_err(|error| error.code()))
}

/// A checkpoint with the tensors of the one at `path`, and other bits in all of them.
fn other(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[header..].iter_mut().for_each(|byte| *byte ^= 1);
    bytes
}

fn edit(patch: &Patch, kind: EditKind) -> Edit {
    Edit { patch: patch.clone(), kind }
}

fn applied(
    base: &Checkpoint,
    edits: &[Edit],
    check: Check,
    different_base: DifferentBase,
) -> Result<Vec<String>, Error> {
    let context = Context::silent();
    let mut options = PlanOptions::default();
    (options.check, options.different_base) = (check, different_base);
    let plan = Plan::check(base, edits, &options, &context)?;
    base.tensors().map(|tensor| Ok(plan.result_digest(tensor, &context)?.to_string())).collect()
}

/// Everything that can be done with a patch.
fn outcomes(patch: &Patch, bases: &[Checkpoint]) -> Vec<Outcome> {
    let context = Context::silent();
    let alpha = |alpha| EditKind::Interpolate(Alpha::new(alpha).unwrap());
    let mut out = vec![outcome("check", intact(patch, &context))];
    out.push(outcome("show", Carried::read(patch, &context)));
    for base in bases {
        for kind in [alpha(1.0), alpha(0.0), alpha(-2.0), EditKind::Prune, EditKind::Switch] {
            for check in [Check::Quick, Check::Full] {
                for different_base in [DifferentBase::Refuse, DifferentBase::Add] {
                    out.push(outcome("apply", applied(base, &[edit(patch, kind)], check, different_base)));
                }
            }
        }
        let two = [edit(patch, alpha(0.5)), edit(patch, alpha(1.0))];
        out.push(outcome("apply", applied(base, &two, Check::Full, DifferentBase::Add)));
    }
    if let Some(own) = bases.first() {
        out.push(outcome("check", true_of(patch, (own, None), Check::Full, &context)));
    }
    let one = || edit(patch, alpha(1.0));
    for base in bases.iter().map(Some).chain([None]) {
        let table = |made: Result<Patch, Error>| made.map(|made| made.table().clone());
        let half =
            Some(Amount::Count(patch.table().tensors.iter().map(|entry| entry.selected).sum::<u64>().div_ceil(2)));
        let made: [(&'static str, Result<TensorTable, Error>); 7] = [
            ("invert", table(invert(&one(), base, &context))),
            // What is inverted or joined is the patch, whatever its alpha.
            ("invert", table(invert(&edit(patch, alpha(0.5)), base, &context))),
            ("squash", table(squash(&edit(patch, alpha(0.5)), &edit(patch, EditKind::Prune), base, &context))),
            ("squash", table(squash(&one(), &one(), base, &context))),
            (
                "combine",
                combine(&[one(), edit(patch, alpha(2.0))], Signs::Sum, base, &context)
                    .map(|made| made.patch.table().clone()),
            ),
            ("select", table(select(&one(), &Filter::default(), half, base, &context))),
            ("intersect", table(restrict(&one(), &one(), base, &context))),
        ];
        out.extend(made.into_iter().map(|(verb, made)| outcome(verb, made)));
        out.push(outcome("compare", compare(&one(), &one(), base, &context)));
    }
    out
}

/// The vectors that are accepted: name, patch, their base if they have one.
fn accepted() -> impl Iterator<Item = (String, PathBuf, Option<PathBuf>)> {
    // Metadata at the limit of what is read leaves no room for what a patch of patches adds to it.
    let fits = |name: &str| !name.starts_with("accept_metadata_");
    vectors::all().into_iter().filter(move |(name, _, expected)| expected["expect"] == "accept" && fits(name)).map(
        |(name, path, expected)| {
            let base = expected["base"].as_str().map(|base| path.with_file_name(base));
            (name, path, base)
        },
    )
}

#[test]
fn metadata_decides_nothing_about_bytes() {
    let dir = Dir::new();
    let mut compared = 0;
    for (name, path, base) in accepted() {
        let bases: Vec<Checkpoint> = base
            .map(|base| {
                vec![Checkpoint::open(&base).unwrap(), Checkpoint::open(dir.write(&name, &other(&base))).unwrap()]
            })
            .unwrap_or_default();
        let honest = Patch::open(&path).unwrap();
        let expected = outcomes(&honest, &bases);
        for lie in lies() {
            let lying = honest.with_metadata(&lie).unwrap();
            assert_eq!(outcomes(&lying, &bases), expected, "{name}: {lie:?}");
            compared += expected.len();
        }
    }
    assert!(compared > 20_000, "only {compared}");
}

#[test]
fn what_a_verb_makes_of_a_vector_is_intact_and_true_of_its_base() {
    let context = Context::silent();
    let mut made = 0;
    for (name, path, base) in accepted() {
        let Some(base) = base.map(|base| Checkpoint::open(&base).unwrap()) else { continue };
        let one = edit(&Patch::open(&path).unwrap(), EditKind::Interpolate(Alpha::ONE));
        for with_base in [None, Some(&base)] {
            let half = Some(Amount::Count(
                one.patch.table().tensors.iter().map(|entry| entry.selected).sum::<u64>().div_ceil(2),
            ));
            let first = one.patch.table().tensors.iter().take(1).map(|entry| globset_escaped(&entry.name)).collect();
            let mut filter = Filter::default();
            filter.include = first;
            for part in [
                select(&one, &Filter::default(), half, with_base, &context),
                select(&one, &filter, None, with_base, &context),
            ] {
                let Ok(part) = part else { continue };
                intact(&part, &context).unwrap_or_else(|error| panic!("{name}: {error}"));
                true_of(&part, (&base, None), Check::Full, &context).unwrap_or_else(|error| panic!("{name}: {error}"));
                made += 1;
            }
        }
    }
    assert!(made > 150, "only {made}");
}

/// A glob that matches a name and nothing else.
fn globset_escaped(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c.to_string() } else { format!("[{c}]") }).collect()
}

#[test]
fn show_and_check_say_what_the_blocks_deny() {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 5%").ok();
    let honest = Patch::open(dir.path("p")).unwrap();
    let lying = honest.with_metadata(&Metadata { portable: true, ..honest.metadata().clone() }).unwrap();
    lying.save(dir.path("lying"), lcepatch_files::durable::Existing::Keep).unwrap();
    dir.run("show lying").ok().prints(&["it says that it is portable", "portable     no"]);
    dir.run("check lying").ok().prints(&["intact", "it says that it is portable"]);
    assert_eq!(dir.run("check p --json").ok().json()["denied"], serde_json::json!([]));
    dir.run("apply reference.safetensors lying --allow-different-base --alpha 0.5 -o r")
        .fails(6)
        .says(&["does not fit"]);
    assert!(!dir.exists("r"));
    dir.run("combine lying:2 -o c").fails(6).says(&["does not carry its base's values"]);
}
