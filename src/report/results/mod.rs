//! Results in files: what `lcepatch sweep` appends to ([`ResultsFile`]), what `lcepatch report` reads ([`read()`]).
//!
//! A file of a sweep has one JSON object a line, each with the keys of `verify --json` where they are about the same:
//!
//! ```json
//! {"sweep":1, "tool":"lcepatch 0.1.0", "label":null, "model":{...}, "reference":{...}, "runtime":{...}, "work":{...}, "measures":[...]}
//! {"case":"unedited", "measures":[...], ...}
//! {"localization":{"strategy":"value","k":"10%","seed":null,"among":null}, "candidates":84934656, "stat":{"id":"51aa...", ...}}
//! {"localization":{...}, "patch":"51aa...", "case":"alpha 0.5", "edit":"ip", "alpha":0.5, "edited":8493466, "measures":[...], ...}
//! ```
//!
//! The first line says what all others have in common, and decides whether a sweep may go on in the file.

mod read;
mod write;

pub use read::{Change, Head, Localization, Measure, PatchLine, Results, Row, Score, read};
pub use write::{ResultsFile, Source, head};
