//! `lcepatch show`.

use super::exit::{Failure, print, print_json, print_styled};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, mask, patch_argument};
use crate::algebra::{Spectrum, spectrum};
use crate::apply::{Carried, Edit};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::names::{self, Component};
use crate::durable::{Existing, check_new_file, write_file};
use crate::edit::{Alpha, EditKind};
use crate::error::list::first_ten;
use crate::error::{Error, Reason};
use crate::format::Metadata;
use crate::format::metadata::{Ignored, Source, SourceFile};
use crate::patch::Patch;
use crate::report::Row;
use crate::report::table::{Align, bytes, lines_within, paragraph, percent};
use crate::report::{Kind, Stat, plot, table};
use crate::source::{Parts, patch_from_stdin};
use crate::words::{count, counted};
use anstyle::Style;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Args)]
#[command(after_help = "\
Reads the header, and which streams each block has; of a patch on a hub or the web, only the header is fetched. Without --spectrum nothing is decoded, and no base is needed. Errors, costs and masks \
are shown as the patch's metadata states them; where its blocks contradict the metadata, that is shown too, and so is what of the \
metadata is not what the format says, and counts as absent.

Examples:
  lcepatch show debias.lcepatch
  lcepatch show org/patches
  lcepatch show debias.lcepatch --json | jq .stat.components
  lcepatch show debias.lcepatch --spectrum --base model/
  lcepatch show debias.lcepatch --plot selection.svg")]
pub struct Arguments {
    /// The patch, or - for standard input
    patch: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// On a terminal, list every layer, where more than twelve would be shortened
    #[arg(long)]
    all_layers: bool,
    /// Print metadata and tables as JSON
    #[arg(long)]
    json: bool,
    /// Also measure along how many directions the matrices change: the median of their stable ranks. Decodes the
    /// whole patch, which takes about a second for every ten million weights
    #[arg(long)]
    spectrum: bool,
    /// With --spectrum, the checkpoint that the patch is for, where it is not portable
    #[arg(long, value_name = "CHECKPOINT", requires = "spectrum")]
    base: Option<PathBuf>,
    /// Draw the share of each component's weights that is selected, by layer, to an .svg file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Replace an existing plot
    #[arg(long)]
    force: bool,
    /// Whether the text is compared with that of another version, so that it has every tensor, and not the file's name.
    #[arg(skip)]
    for_diff: bool,
}

impl Arguments {
    /// For a comparison of versions of a patch.
    pub fn for_diff(patch: &Path) -> Self {
        Self {
            patch: patch.to_owned(),
            tensors: true,
            all_layers: true,
            json: false,
            spectrum: false,
            base: None,
            plot: None,
            force: false,
            for_diff: true,
        }
    }
}

#[derive(serde::Serialize)]
struct Shown<'a> {
    /// What the blocks carry. None if a block is damaged, or the patch is elsewhere and only its header was fetched.
    carried: Option<Carried>,
    metadata: &'a Metadata,
    /// What of the metadata counts as absent.
    ignored_metadata: &'a [Ignored],
    stat: &'a Stat,
    kind: &'a Kind,
    /// None if it was not asked for.
    spectrum: Option<&'a [Spectrum]>,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if let Some(path) = arguments.plot.as_deref() {
        arguments::refuse_inputs([path], [arguments.patch.as_path()])?;
        arguments::is_svg(path)?;
        check_new_file(path, existing)?;
    }
    let patch = match arguments.patch.as_os_str() == "-" {
        true => patch_from_stdin()?,
        false => terminal.sources().patch(&arguments.patch, Parts::Some, &terminal.context())?,
    };
    let carried = carried(&patch, terminal)?;
    terminal.done();
    let (stat, mut kind) = (Stat::new(&patch), Kind::of(&patch));
    let mut spectrum = None;
    if arguments.spectrum {
        let base = patch_argument::optional_checkpoint(arguments.base.as_deref(), terminal)?;
        let measured = measure_spectrum(&patch, base.as_ref(), terminal)?;
        kind = kind.with_spectrum(&measured);
        spectrum = Some(measured);
    }
    if let Some(path) = &arguments.plot {
        write_file(path, plot::selection(&stat).as_bytes(), existing)?;
    }
    if arguments.json {
        let (carried, metadata, spectrum) = (carried.and_then(Result::ok), patch.metadata(), spectrum.as_deref());
        let ignored_metadata = patch.ignored_metadata();
        print_json(terminal, &Shown { carried, metadata, ignored_metadata, stat: &stat, kind: &kind, spectrum })?;
        return Ok(Answer::Yes);
    }
    let layout = Layout { width: terminal.width().filter(|_| !arguments.for_diff), all_layers: arguments.all_layers };
    let name = if arguments.for_diff { None } else { Some(arguments.patch.as_path()) };
    print_patch(&patch, name, (&stat, &kind), &carried, &layout)?;
    if let Some(spectrum) = &spectrum {
        print("")?;
        print_ranks(spectrum)?;
    }
    if arguments.tensors {
        print("")?;
        print_tensors(&stat, &layout)?;
    }
    Ok(Answer::Yes)
}

/// What the blocks of a patch carry, or which of them is damaged: a header that is intact is shown all the same. None of a patch that is
/// elsewhere, of which only the header is fetched.
pub fn carried(patch: &Patch, terminal: &Terminal) -> Result<Option<Result<Carried, Error>>, Failure> {
    if patch.is_remote() {
        return Ok(None);
    }
    match Carried::read(patch, &terminal.context()) {
        Err(error) if !matches!(error.reason(), Reason::Patch { .. }) => Err(error.into()),
        carried => Ok(Some(carried)),
    }
}

/// Prints what a patch changes, and what is said about it, under a name.
pub fn print_patch(
    patch: &Patch,
    name: Option<&Path>,
    (stat, kind): (&Stat, &Kind),
    carried: &Option<Result<Carried, Error>>,
    layout: &Layout,
) -> Result<(), Failure> {
    let print_paragraph = |indent, text: String| paragraph(layout.width, indent, &text).into_iter().try_for_each(print);
    print_paragraph(0, kind.sentence.clone())?;
    print("")?;
    let name = name.map_or(String::new(), |name| format!("{}: ", name.display()));
    print_paragraph(2, format!("{name}{}, patch id {}", bytes(stat.file_bytes), stat.id))?;
    for (label, text) in facts(patch.metadata(), stat, carried).into_iter().chain(ignored(patch)) {
        print_paragraph(15, format!("  {label:<12} {text}"))?;
    }
    if let Some(masks) = patch.metadata().masks.as_ref().filter(|masks| !masks.by_component.is_empty()) {
        print("")?;
        mask::print_overlap(masks)?;
    }
    if !stat.tensors.is_empty() {
        print("")?;
        print_tables(stat, layout)?;
    }
    Ok(())
}

/// What is said about the patch as a whole: labels, and what is said under them.
fn facts(metadata: &Metadata, stat: &Stat, carried: &Option<Result<Carried, Error>>) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(metadata.description.clone().map(|text| ("description", text)));
    facts.extend(metadata.license.clone().map(|text| ("licence", text)));
    facts.extend(source(&metadata.base).map(|text| ("base", text)));
    facts.extend(source(&metadata.reference).map(|text| ("reference", text)));
    facts.push(("method", method(metadata)));
    let share = percent(stat.selected, stat.base_elements);
    let (selected, tensors) = (counted(stat.selected, "weight"), counted(stat.tensors.len(), "tensor"));
    facts.push(("selected", format!("{selected} in {tensors}, {share} of the base's")));
    let payload = stat.file_bytes - stat.header_bytes;
    let bits = if stat.selected > 0 { payload as f64 * 8.0 / stat.selected as f64 } else { 0.0 };
    let of_base = percent(stat.file_bytes, stat.base_bytes);
    let header = bytes(stat.header_bytes);
    facts.push(("size", format!("{of_base} of the base's; header {header}, {bits:.1} bits a weight")));
    match carried {
        Some(Ok(carried)) => facts.extend(block_facts(metadata, carried)),
        Some(Err(error)) => facts.push(("damaged", error.to_string())),
        None => facts.push(("blocks", "not fetched; `lcepatch check` fetches them, and verifies each".to_owned())),
    }
    facts.extend(
        metadata
            .recommended_alpha
            .map(|alpha| ("alpha", format!("{alpha} is recommended, and what `apply` uses unless another is given"))),
    );
    if let Some(masks) = &metadata.masks {
        let overlap = &masks.overlap;
        let [base, reference] = [overlap.base_only, overlap.reference_only].map(count);
        let jaccard = overlap.jaccard();
        facts.push((
            "masks",
            format!("{base} kept in the base only, {reference} in the reference only, Jaccard {jaccard:.4}"),
        ));
    }
    if let Some(derived) = &metadata.derived {
        facts.push(("derived", format!("{} of {}", derived.verb, derived.patches.join(", "))));
    }
    if let Some(pairing) = &metadata.pairing {
        let left_out = pairing.only_in_base.len() + pairing.only_in_reference.len() + pairing.mismatched.len();
        let (cast, rows) = (pairing.cast, pairing.rows.len());
        let rows = if rows > 0 { format!(", {rows} by the rows that both have") } else { String::new() };
        let left_out = counted(left_out, "tensor");
        facts.push(("pairing", format!("{left_out} left out, {cast} cast{rows}; `--json` lists them")));
    }
    facts.extend(metadata.results.iter().map(|(key, value)| ("result", format!("{key}: {value}"))));
    facts.extend(metadata.x.iter().map(|(key, value)| ("x", format!("{key}: {value}"))));
    facts.push(("made by", metadata.tool.clone()));
    facts
}

/// The parts of the metadata that are not what the format says.
fn ignored(patch: &Patch) -> Vec<(&'static str, String)> {
    let (first, more) = first_ten(patch.ignored_metadata().iter().map(Ignored::to_string));
    let more = (more > 0).then(|| format!("and {} of the metadata more", counted(more, "part")));
    first.into_iter().chain(more).map(|part| ("ignored", part)).collect()
}

/// What the blocks carry. Figures that only the metadata has are added where the blocks bear the metadata out, and claims that the blocks
/// contradict are listed.
fn block_facts(metadata: &Metadata, carried: &Carried) -> Vec<(&'static str, String)> {
    let Carried { blocks, bf16, int8, masks, before_pruning, .. } = carried;
    let mut facts = Vec::new();
    let exact = blocks - bf16 - int8;
    let kinds = [("exact", exact), ("bf16", *bf16), ("int8", *int8)];
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, of_kind)| *of_kind > 0).collect();
    let deltas = match (&kinds[..], &metadata.reduced) {
        _ if carried.is_exact() => "exact: alpha 1 gives the reference's bits at the selected positions".to_owned(),
        ([(kind, _)], Some(reduced)) if *kind == reduced.delta_dtype => format!(
            "{kind}, error at most {:.3e}, {:.3} % of the deltas' root mean square",
            reduced.max_error,
            reduced.relative_error * 100.0
        ),
        ([(kind, _)], _) => format!("{kind}, with an error that the patch does not say"),
        _ => kinds
            .iter()
            .map(|(kind, n)| format!("{kind} in {n} of {}", counted(*blocks, "block")))
            .collect::<Vec<_>>()
            .join(", "),
    };
    facts.push(("deltas", deltas));
    let portable = match (carried.is_portable(), metadata.portability_bytes.map(bytes)) {
        (true, Some(cost)) if metadata.portable => format!("yes, which costs {cost}"),
        (true, _) => "yes".to_owned(),
        (false, Some(cost)) if !metadata.portable => format!("no; it would cost about {cost} more"),
        (false, _) => "no".to_owned(),
    };
    facts.push(("portable", portable));
    if *masks > 0 {
        let switch = match masks == blocks {
            true if before_pruning == blocks => "can be switched (`apply --edit sw`)".to_owned(),
            true => {
                let unknown = blocks - before_pruning;
                format!(
                    "can be switched where nothing is restored: what the base held before it was pruned is not known in \
                     {unknown} of {}",
                    counted(*blocks, "block")
                )
            }
            false => format!("cannot be switched: only {masks} of {} carry masks", counted(*blocks, "block")),
        };
        facts.push(("masks", switch));
    }
    facts.extend(carried.denied(metadata).into_iter().map(|denied| ("wrong", denied)));
    facts
}

/// The files of a checkpoint, by the metadata.
fn source(source: &Source) -> Option<String> {
    let files = match &source.files[..] {
        [] => return None,
        [file] => format!("{}, {}, {}", file.name, bytes(file.bytes), identity(file)),
        files => {
            let all = files.iter().fold(0u64, |all, file| all.saturating_add(file.bytes));
            format!("{} files, {}", files.len(), bytes(all))
        }
    };
    Some(source.model_id.as_ref().map_or(files.clone(), |id| format!("{id}: {files}")))
}

/// A digest of a file: SHA-256, which hubs list, if the patch has it, or else that of the content.
fn identity(file: &SourceFile) -> String {
    match (&file.sha256, &file.content) {
        (Some(sha256), _) => format!("sha256 {sha256}"),
        (None, Some(content)) => format!("content {content}"),
        (None, None) => "no digest".to_owned(),
    }
}

/// How the weights were selected.
fn method(metadata: &Metadata) -> String {
    let (localization, candidates) = (&metadata.localization, &metadata.candidates);
    let among = format!("{} ({})", counted(candidates.elements, "candidate"), candidates.params);
    let family = candidates.family.as_ref().map_or(String::new(), |family| format!(", {family}"));
    match localization.method.as_str() {
        "value" => {
            let scope = localization.scope.as_deref().unwrap_or("global");
            format!("the largest differences of {among}{family}, {scope} ranking")
        }
        "mask" => format!("what exactly one of two pruning masks keeps, of {among}{family}"),
        "random" => {
            let seed = localization.seed.unwrap_or_default();
            format!("drawn at random, seed {seed}, from {among}{family}")
        }
        "full" => format!("every difference among {among}"),
        "undo" => "takes back an apply".to_owned(),
        other => other.to_owned(),
    }
}

/// How much room tables have. Where there is no terminal, programs may read them, and they are what they always are.
pub struct Layout {
    /// The columns of the terminal, if there is one.
    pub width: Option<usize>,
    pub all_layers: bool,
}

/// On a terminal, as many layers are listed unless all are wanted.
const LAYERS: usize = 12;

/// Prints the selected weights by component and by layer.
pub fn print_tables(stat: &Stat, layout: &Layout) -> Result<(), Failure> {
    print_section("component", &stat.components, layout)?;
    if stat.layers.len() <= 1 {
        return Ok(());
    }
    print("")?;
    let is_folded = layout.width.is_some() && !layout.all_layers && stat.layers.len() > LAYERS;
    if !is_folded {
        return print_section("layer", &stat.layers, layout);
    }
    let (first, last) = (LAYERS / 2, stat.layers.len() - (LAYERS - LAYERS / 2 - 1));
    let folded = &stat.layers[first..last];
    let rows = [&stat.layers[..first], &[together(folded)], &stat.layers[last..]].concat();
    print_section("layer", &rows, layout)?;
    print(format_args!("{} are one row; --all-layers lists them", counted(folded.len(), "layer")))
}

/// Layers that follow each other, as one row.
fn together(rows: &[Row]) -> Row {
    let mut all = rows[0].clone();
    all.label = format!("{} to {}", all.label, rows[rows.len() - 1].label);
    all.selected = rows.iter().map(|row| row.selected).sum();
    all.elements = rows.iter().map(|row| row.elements).sum();
    let sum: Option<f64> = rows.iter().map(|row| Some(row.mean_delta? * row.selected as f64)).sum();
    all.mean_delta = sum.filter(|_| all.selected > 0).map(|sum| sum / all.selected as f64);
    all.max_delta = rows.iter().filter_map(|row| row.max_delta).reduce(f64::max);
    all
}

/// Measures along how many directions the matrices of a patch change. Patches that are not portable need their base.
pub fn measure_spectrum(
    patch: &Patch,
    base: Option<&Checkpoint>,
    terminal: &Terminal,
) -> Result<Vec<Spectrum>, Failure> {
    let edit = Edit { patch: patch.clone(), kind: EditKind::Interpolate(Alpha::ONE) };
    let measured = spectrum(&edit, base, &terminal.context())?;
    terminal.done();
    Ok(measured)
}

/// Prints the stable ranks by component.
pub fn print_ranks(spectrum: &[Spectrum]) -> Result<(), Failure> {
    let mut by_component: BTreeMap<Component, Vec<&Spectrum>> = BTreeMap::new();
    for one in spectrum {
        by_component.entry(names::place(&one.tensor).component).or_default().push(one);
    }
    let right = |title| (title, Align::Right);
    let header =
        [("component", Align::Left), right("matrices"), right("stable rank"), right("to"), right("of at most")];
    let cells = |(component, all): (&Component, &Vec<&Spectrum>)| {
        let ranks = || all.iter().map(|one| one.stable_rank);
        let most = all.iter().map(|one| one.rows.min(one.columns)).max().unwrap_or_default();
        vec![
            component.label().to_owned(),
            all.len().to_string(),
            format!("{:.1}", ranks().fold(f64::INFINITY, f64::min)),
            format!("{:.1}", ranks().fold(0.0, f64::max)),
            count(most),
        ]
    };
    print_table(&header, &by_component.iter().map(cells).collect::<Vec<_>>())
}

/// A line about a patch that was written.
pub fn written(path: &Path, stat: &Stat) -> String {
    let (size, share) = (bytes(stat.file_bytes), percent(stat.file_bytes, stat.base_bytes));
    format!("wrote {}: {size}, {share} of the base's, patch id {}", path.display(), stat.id)
}

/// Prints the selected weights by component or by layer, `title` says which.
fn print_section(title: &str, rows: &[Row], layout: &Layout) -> Result<(), Failure> {
    const BAR: f64 = 20.0;
    let share = |row: &Row| if row.elements == 0 { 0.0 } else { row.selected as f64 / row.elements as f64 };
    let largest = rows.iter().map(share).fold(0.0, f64::max);
    let header = [
        (title, Align::Left),
        ("selected", Align::Right),
        ("of", Align::Right),
        ("share", Align::Right),
        ("", Align::Left),
        ("mean |delta|", Align::Right),
        ("max |delta|", Align::Right),
    ];
    let cells = |row: &Row| {
        let bar = "#".repeat((share(row) / largest.max(f64::MIN_POSITIVE) * BAR).round() as usize);
        vec![
            row.label.clone(),
            count(row.selected),
            count(row.elements),
            percent(row.selected, row.elements),
            bar,
            delta(row.mean_delta),
            delta(row.max_delta),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    // Bars of one length say nothing.
    let says_nothing = rows.iter().all(|row| row[4] == rows[0][4]);
    let expendable = ["", "mean |delta|", "of"];
    match layout.width {
        Some(_) if says_nothing => {
            let header = [&header[..4], &header[5..]].concat();
            let rows: Vec<_> = rows.iter().map(|row| [&row[..4], &row[5..]].concat()).collect();
            print_table_within(layout.width, &expendable, &header, &rows)
        }
        width => print_table_within(width, &expendable, &header, &rows),
    }
}

/// Prints the selected weights by tensor.
fn print_tensors(stat: &Stat, layout: &Layout) -> Result<(), Failure> {
    let header = [
        ("tensor", Align::Left),
        ("dtype", Align::Left),
        ("shape", Align::Left),
        ("selected", Align::Right),
        ("share", Align::Right),
        ("bytes", Align::Right),
        ("mean |delta|", Align::Right),
        ("max |delta|", Align::Right),
        ("base digest", Align::Left),
    ];
    let rows = stat.tensors.iter().map(|tensor| {
        vec![
            tensor.name.clone(),
            tensor.dtype.clone(),
            format!("{:?}", tensor.shape),
            count(tensor.selected),
            percent(tensor.selected, tensor.elements),
            count(tensor.bytes),
            delta(tensor.mean_delta),
            delta(tensor.max_delta),
            tensor.base_digest[..12].to_owned(),
        ]
    });
    let expendable = ["base digest", "mean |delta|", "bytes", "max |delta|", "dtype"];
    print_table_within(layout.width, &expendable, &header, &rows.collect::<Vec<_>>())
}

fn print_table(header: &[(&str, table::Align)], rows: &[Vec<String>]) -> Result<(), Failure> {
    print_table_within(None, &[], header, rows)
}

fn print_table_within(
    width: Option<usize>,
    expendable: &[&str],
    header: &[(&str, table::Align)],
    rows: &[Vec<String>],
) -> Result<(), Failure> {
    let bold = Style::new().bold();
    for (at, line) in lines_within(width, expendable, header, rows).into_iter().enumerate() {
        if at == 0 { print_styled(bold, &line)? } else { print(line)? }
    }
    Ok(())
}

fn delta(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.2e}"))
}
