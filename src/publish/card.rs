//! The model card of patches: a README that hubs show, whose front matter their tools read.
//!
//! Most of what it says comes from a patch, which anybody may have made. Such text is escaped, so that it is text in YAML and in Markdown
//! whatever it holds, and never a mark, a key, a link or HTML.

mod escape;
mod readme;
mod results;

use crate::digest::Digest;
use crate::edit::AlphaSource;
use crate::error::{Error, PublishFault};
use crate::format::Metadata;
use crate::input;
use crate::patch::Patch;
use crate::report::table::{bytes, percent};
use crate::report::{Kind, Stat, plot};
use crate::words::{count, counted};
use escape::{code, fenced, link, number, quoted, shell_word, text};
use results::Measured;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;

pub(crate) use readme::renewed;

/// The name of the card in a place.
pub(crate) const FILE_NAME: &str = "README.md";
/// The largest text that is read to be changed, in bytes.
pub(crate) const TEXT_BYTES_MAX: u64 = 4 << 20;
/// The most characters that are shown of a description.
const DESCRIPTION_CHARACTERS_MAX: usize = 2000;
/// Licences that hubs know by these names, which are those of SPDX in small letters.
const LICENSES: [&str; 26] = [
    "afl-3.0",
    "agpl-3.0",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsl-1.0",
    "cc-by-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "ecl-2.0",
    "epl-2.0",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl-2.1",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "openrail",
    "osl-3.0",
    "unlicense",
    "zlib",
];

/// A patch that a card describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described<'a> {
    /// Its file, beside the card.
    pub file: &'a str,
    /// The patch.
    pub patch: &'a Patch,
}

impl Described<'_> {
    /// The name of its figure, beside the card.
    pub fn figure_name(&self) -> String {
        format!("{}.svg", self.file)
    }

    /// Its figure.
    pub fn figure(&self) -> String {
        plot::selection(&Stat::new(self.patch))
    }
}

/// A card: what its front matter and its text say.
#[derive(Debug)]
pub(crate) struct Card {
    /// Keys, each with its lines.
    front: Vec<(&'static str, String)>,
    /// Markdown.
    body: String,
}

impl Card {
    /// The card of patches that are beside it.
    pub fn new(patches: &[Described<'_>]) -> Self {
        let body = patches.iter().map(section).collect::<Vec<_>>().join("\n");
        Self { front: front(patches), body }
    }
}

/// The front matter.
fn front(patches: &[Described<'_>]) -> Vec<(&'static str, String)> {
    let mut front = Vec::new();
    let models = distinct(patches, |metadata| metadata.base.model_id.clone().filter(|id| is_model_id(id)));
    if !models.is_empty() {
        // Names of models are text in YAML without quotes.
        let lines = match &models[..] {
            [one] => format!(" {one}\n"),
            several => format!("\n{}", several.iter().map(|id| format!("- {id}\n")).collect::<String>()),
        };
        front.push(("base_model", format!("base_model:{lines}")));
        front.push(("base_model_relation", "base_model_relation: adapter\n".to_owned()));
    }
    front.push(("library_name", "library_name: lcepatch\n".to_owned()));
    // Patches under several licences have none in common.
    if let [license] = &distinct(patches, |metadata| Some(metadata.license.clone().unwrap_or_default()))[..]
        && !license.is_empty()
    {
        let known = license.to_lowercase();
        if LICENSES.contains(&known.as_str()) {
            front.push(("license", format!("license: {known}\n")));
        } else {
            front.push(("license", "license: other\n".to_owned()));
            front.push(("license_name", format!("license_name: {}\n", quoted(license))));
        }
    }
    front.push(("tags", "tags:\n- lcepatch\n- model-editing\n".to_owned()));
    let measured: String = patches.iter().map(model_index).collect();
    if !measured.is_empty() {
        front.push(("model-index", format!("model-index:\n{measured}")));
    }
    let of_patches: String = patches.iter().map(identity).collect();
    front.push(("lcepatch", format!("lcepatch:\n  schema: 1\n  patches:\n{of_patches}")));
    front
}

/// What all patches say, each once, in their order.
fn distinct(patches: &[Described<'_>], of: impl Fn(&Metadata) -> Option<String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for value in patches.iter().filter_map(|described| of(described.patch.metadata())) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Whether this is a name that a hub can have for a model. It refuses a card with another one.
fn is_model_id(id: &str) -> bool {
    let is_part = |part: &str| {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        plain && !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(['.', '-'])
    };
    id.len() <= 96 && id.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// The identity of a patch, for programs.
fn identity(described: &Described<'_>) -> String {
    let Described { file, patch } = described;
    let metadata = patch.metadata();
    let base = Digest::root(patch.table().tensors.iter().map(|entry| &entry.base_digest));
    let mut lines = format!("  - file: {}\n    id: \"{}\"\n    base: \"{base}\"\n", quoted(file), patch.id());
    if let Some(alpha) = metadata.recommended_alpha {
        let _ = writeln!(lines, "    recommended_alpha: {}", number(alpha));
    }
    if let Some(revision) = metadata.x.get("base_model_revision").and_then(|revision| revision.as_str()) {
        let _ = writeln!(lines, "    base_model_revision: {}", quoted(&shortened(revision, 100)));
    }
    lines
}

/// The measured results of a patch, as hubs have them; nothing if there are none.
fn model_index(described: &Described<'_>) -> String {
    let measured = Measured::all(described.patch.metadata());
    if measured.is_empty() {
        return String::new();
    }
    let mut out = format!("- name: {}\n  results:\n", quoted(described.file));
    for measured in measured {
        let data = quoted(measured.data());
        let _ = write!(
            out,
            "  - task:\n      type: other\n      name: model editing\n    dataset:\n      type: {data}\n      name: {data}\n    metrics:\n    - type: {}\n      name: {}\n      value: {}\n",
            quoted(&measured.key),
            quoted(&measured.title()),
            number(measured.value),
        );
        let _ = write!(out, "      args:\n        case: {}\n", quoted(&measured.case));
        if let Some(error) = measured.error {
            let _ = writeln!(out, "        error: {}", number(error));
        }
        if let Some(n) = measured.n {
            let _ = writeln!(out, "        n: {n}");
        }
    }
    out
}

/// What the card says of one patch.
fn section(described: &Described<'_>) -> String {
    let Described { file, patch } = described;
    let (metadata, stat) = (patch.metadata(), Stat::new(patch));
    let mut out = format!("## {}\n\n", code(file));
    if let Some(description) = metadata.description.as_deref().filter(|description| !description.trim().is_empty()) {
        let _ = write!(out, "> {}\n\n", text(&shortened(description, DESCRIPTION_CHARACTERS_MAX)));
    }
    let _ = write!(out, "{}\n\n", text(&Kind::of(patch).sentence));
    out.push_str(&facts(metadata, patch, &stat));
    let figure = link(&described.figure_name());
    let _ = write!(out, "\n![Share of the weights that change, by layer and component]({figure})\n");
    out.push_str(&components(&stat));
    out.push_str(&usage(file, metadata));
    out.push_str(&measured(metadata));
    out.push_str(&limits(metadata));
    out
}

fn facts(metadata: &Metadata, patch: &Patch, stat: &Stat) -> String {
    let mut out = "| | |\n| --- | --- |\n".to_owned();
    let mut fact = |label: &str, value: String| {
        let _ = writeln!(out, "| {label} | {value} |");
    };
    fact("patch id", format!("`{}`", patch.id()));
    let share = if stat.base_bytes > 0 {
        format!(", {} of the base", percent(stat.file_bytes, stat.base_bytes))
    } else {
        String::new()
    };
    fact("size", format!("{}{share}", bytes(stat.file_bytes)));
    let base = metadata.base.model_id.as_deref().map_or_else(
        || metadata.base.files.first().map_or("not named".to_owned(), |file| code(&shortened(&file.name, 200))),
        |id| code(&shortened(id, 200)),
    );
    fact("base", base);
    if let Some(reference) = &metadata.reference.model_id {
        fact("reference", code(&shortened(reference, 200)));
    }
    let alpha = patch.default_alpha();
    match alpha.1 {
        AlphaSource::Recommended => fact("recommended alpha", alpha.0.to_string()),
        _ => fact("alpha", "1, unless another one is given".to_owned()),
    }
    if let Some(reduced) = &metadata.reduced {
        let error =
            format!("rounded to {}, with an error of at most {:e}", code(&reduced.delta_dtype), reduced.max_error);
        fact("deltas", error);
    }
    if let Some(license) = &metadata.license {
        fact("licence", code(&shortened(license, 200)));
    }
    if !metadata.tool.is_empty() {
        fact("made by", code(&shortened(&metadata.tool, 100)));
    }
    out
}

fn components(stat: &Stat) -> String {
    let mut out = "\n| component | changed | of | share |\n| --- | ---: | ---: | ---: |\n".to_owned();
    for row in &stat.components {
        let (selected, elements) = (count(row.selected), count(row.elements));
        let _ = writeln!(
            out,
            "| {} | {selected} | {elements} | {} |",
            text(&row.label),
            percent(row.selected, row.elements)
        );
    }
    out
}

fn usage(file: &str, metadata: &Metadata) -> String {
    let base = metadata.base.model_id.as_deref().filter(|id| is_model_id(id)).unwrap_or("model/");
    let (file, base) = (shell_word(file), shell_word(base));
    let commands =
        format!("lcepatch show {file}\nlcepatch check {file} {base}\nlcepatch apply {base} {file} -o edited/\n");
    format!(
        "\n### Use\n\nWith lcepatch, from the folder that the patch is in. `apply` takes `--alpha` for another strength, 0 being the base and 1 the reference.\n\n{}",
        fenced("bash", &commands)
    )
}

fn measured(metadata: &Metadata) -> String {
    let measured = Measured::all(metadata);
    if measured.is_empty() {
        return String::new();
    }
    let mut out = "\n### Results\n\nAs whoever made the patch recorded them in it; `lcepatch verify` measures again.\n\n| case | score | value | error | n |\n| --- | --- | ---: | ---: | ---: |\n".to_owned();
    for measured in measured {
        let error = measured.error.map_or("".to_owned(), |error| format!("± {}", number(error)));
        let n = measured.n.map_or(String::new(), count);
        let (case, key) = (code(&measured.case), code(&measured.key));
        let _ = writeln!(out, "| {case} | {key} | {} | {error} | {n} |", number(measured.value));
    }
    out
}

fn limits(metadata: &Metadata) -> String {
    let mut limits = vec![
        "It is for one base: a checkpoint with other bytes in the tensors that change is refused.".to_owned(),
        "It is no adapter: transformers and PEFT do not load it. `lcepatch apply` makes a checkpoint that they load."
            .to_owned(),
    ];
    let measured = Measured::all(metadata);
    if measured.is_empty() {
        limits.push("No results are recorded in it: what it does beside what it is meant for is not known.".to_owned());
    } else {
        limits.push("Other alphas than those of the results were not measured.".to_owned());
    }
    if let Some(pairing) = &metadata.pairing {
        let left_out = pairing.only_in_base.len() + pairing.only_in_reference.len() + pairing.mismatched.len();
        if left_out > 0 {
            limits.push(format!(
                "{} of base and reference were left out, so it does not lead all the way.",
                counted(left_out, "tensor")
            ));
        }
    }
    format!("\n### Limits\n\n{}", limits.iter().map(|limit| format!("- {limit}\n")).collect::<String>())
}

/// The first characters of a text, and a sign that there are more.
fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The content of a new card.
pub(crate) fn new(patches: &[Described<'_>]) -> String {
    renewed("", &Card::new(patches))
}

/// The text of the card at `path`; none if there is no file.
///
/// # Errors
/// I/O; [`PublishFault::NotText`]; a file that is larger than cards are.
pub(crate) fn existing(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    match input::open_any(path) {
        Ok(file) => file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(Error::io("open", path, e)),
    };
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Error::io("read", path, std::io::ErrorKind::FileTooLarge.into()));
    }
    let not_text = |_| PublishFault::NotText { file: path.display().to_string() };
    Ok(String::from_utf8(bytes).map_err(not_text)?)
}

/// The name of a patch beside its card.
pub(crate) fn file_name(patch: &Patch) -> String {
    let name = patch.name().file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() { "patch.lcepatch".to_owned() } else { name }
}
