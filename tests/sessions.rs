//! Sessions whose every line is kept in `tests/golden`, so that a change of what people read is seen in review.
//!
//! `TRYCMD=overwrite cargo test --test main sessions` writes them anew.

use std::path::Path;

#[test]
fn sessions_print_what_they_printed() {
    let cases = trycmd::TestCases::new();
    cases.register_bin("lcepatch", Path::new(env!("CARGO_BIN_EXE_lcepatch")));
    // Help is wrapped to the terminal that there is.
    cases.env("COLUMNS", "100").env("NO_COLOR", "1").env("LCEPATCH_CONFIG", "").case("tests/golden/*.md");
}
