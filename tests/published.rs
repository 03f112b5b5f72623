//! `fixtures/smollm2`: the patch of a real model is whole, small, and what its card says.

use crate::support::*;

const PATCH: &str = "debias.lcepatch";

/// A directory with the patch and its card.
fn published() -> Dir {
    let dir = Dir::new();
    for name in [PATCH, "debias.lcepatch.svg", "README.md"] {
        dir.write(name, &std::fs::read(fixture("smollm2").join(name)).unwrap());
    }
    dir
}

#[test]
fn the_published_patch_is_intact_and_below_a_megabyte() {
    let dir = published();
    assert!(dir.read(PATCH).len() < 1_000_000);
    dir.run("check debias.lcepatch").ok();
}

#[test]
fn the_card_is_that_of_the_patch() {
    let dir = published();
    let (card, figure) = (dir.read("README.md"), dir.read("debias.lcepatch.svg"));
    dir.run("card debias.lcepatch -o README.md").ok();
    // Without the texts in the message: they are long.
    assert!(dir.read("README.md") == card, "README.md is not the card of the patch: `lcepatch card` makes it");
    assert!(dir.read("debias.lcepatch.svg") == figure, "the figure is not that of the patch");
}

#[test]
fn the_card_and_the_patch_say_the_same_alpha_and_have_results() {
    let dir = published();
    let shown = dir.run("show debias.lcepatch --json").ok().json();
    let metadata = &shown["metadata"];
    let alpha = metadata["recommended_alpha"].as_f64().unwrap();
    let card = String::from_utf8(dir.read("README.md")).unwrap();
    assert!(card.contains(&format!("| recommended alpha | {alpha} |")), "{card}");
    assert!(!metadata["results"].is_null(), "{metadata}");
}
