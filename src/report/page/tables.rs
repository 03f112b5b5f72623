//! The tables of a page: scores, their definitions, and the digests of their sources.

use super::columns::Column;
use super::figures::size_name;
use super::html::{Html, escaped};
use super::pool::Pool;
use crate::report::results::{Results, Row};
use crate::report::verify::{decimals, number, short, signed};
use crate::words::count;
use std::collections::BTreeSet;

/// Marks a change that may be chance.
const NOISE: char = '~';

/// A summary of what was measured.
pub fn facts(page: &mut Html, pool: &Pool<'_>) {
    let rows = pool.edited().count() as u64;
    let seconds: f64 = pool.files.iter().flat_map(|file| &file.rows).map(|row| row.seconds).sum();
    let list = |of: &dyn Fn(&Results) -> Option<String>| -> String {
        pool.files
            .iter()
            .filter_map(|file| of(file))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join("; ")
    };
    let model = |file: &Results| {
        let model = &file.setting.model;
        Some(format!("{} ({}, {})", model.path, model.model_type, model.dtypes.join(" and ")))
    };
    let runtime = |file: &Results| {
        let runtime = &file.setting.runtime;
        Some(format!("ONNX Runtime {}, {}", runtime.version, runtime.provider))
    };
    let facts = [
        ("target", list(&model)),
        ("reference", list(&|file| Some(file.reference.as_ref()?.path.clone()))),
        ("edited models", format!("{}, measured in {:.0} s", count(rows), seconds)),
        ("computed by", list(&runtime)),
    ];
    page.line("<dl class=\"facts\">");
    for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        page.line(format_args!("<dt>{name}</dt><dd>{}</dd>", escaped(fact)));
    }
    page.line("</dl>");
}

/// A table for each size: every row with all main scores and their changes.
pub fn numbers(page: &mut Html, pool: &Pool<'_>) {
    let columns = Column::all(pool);
    page.line("<h3>Numbers</h3>");
    page.line(format_args!(
        "<p class=\"note\">In brackets: the change from the unedited model. {NOISE} marks one that may be chance: its 95 % interval \
         includes 0, or it is smaller than the standard error.</p>"
    ));
    let several = pool.files.len() > 1;
    let header: Vec<String> =
        [String::new()].into_iter().chain(columns.iter().map(|column| column.name.clone())).collect();
    let all: Vec<&Row> = pool.files.iter().flat_map(|file| &file.rows).collect();
    let digits: Vec<usize> =
        columns.iter().map(|column| decimals(all.iter().filter_map(|row| Some(column.of(row)?.score.value)))).collect();
    let cells = |name: String, row: &Row| -> Vec<String> {
        let cell = |(column, digits): (&Column, &usize)| {
            let Some(compared) = column.of(row) else { return "-".to_owned() };
            let value = number(compared.score.value, *digits);
            compared.change.as_ref().map_or(value.clone(), |change| {
                let mark = if change.inside_noise == Some(true) { NOISE.to_string() } else { String::new() };
                format!("{value} ({}){mark}", signed(change.difference.unwrap_or(f64::NAN), *digits))
            })
        };
        [name].into_iter().chain(columns.iter().zip(&digits).map(cell)).collect()
    };
    let in_file = |name: String, file: &Results| if several { format!("{name}, {}", file.name) } else { name };
    let unedited = |rows: &mut Vec<Vec<String>>| {
        let firsts = pool.files.iter().filter_map(|file| Some((file, file.rows.first()?)));
        rows.extend(firsts.map(|(file, row)| cells(in_file("unedited".to_owned(), file), row)));
    };
    let sizes = pool.sizes();
    if sizes.is_empty() {
        let mut rows = Vec::new();
        unedited(&mut rows);
        page.table(&header, &rows);
    }
    for (at, (size, configurations)) in sizes.iter().enumerate() {
        let mut rows = Vec::new();
        unedited(&mut rows);
        for configuration in configurations {
            for file in &pool.files {
                let alone = Pool { label: String::new(), files: vec![file] };
                let mut rows_of: Vec<&Row> = alone.rows_of(configuration).collect();
                rows_of.sort_by(|a, b| order(a).total_cmp(&order(b)));
                for row in rows_of {
                    let seed = row.localization.as_ref().and_then(|localization| localization.seed);
                    let seed = seed.map_or(String::new(), |seed| format!(", seed {seed}"));
                    rows.push(cells(in_file(format!("{}{seed}: {}", configuration.strategy, row.case), file), row));
                }
            }
        }
        let name = size_name(pool, size, configurations);
        let open = if at == 0 && rows.len() < 40 { " open" } else { "" };
        page.line(format_args!("<details{open}><summary>{}</summary>", escaped(&name)));
        page.table(&header, &rows);
        page.line("</details>");
    }
}

/// Sorts by alpha; edits without one come last.
fn order(row: &Row) -> f64 {
    row.alpha.unwrap_or(f64::INFINITY)
}

/// The definitions of the scores.
pub fn definitions(page: &mut Html, pool: &Pool<'_>) {
    page.line("<h3>What the numbers mean</h3>\n<dl>");
    for column in Column::all(pool) {
        let score = &column.score;
        let mut said = vec![score.meaning.to_string()];
        said.extend(score.neutral.map(|neutral| format!("neutral {neutral}")));
        said.push(column.better());
        let mut unedited = format!("unedited {}, n {}", short(score.value), count(score.n));
        if let Some(error) = score.error {
            unedited += &format!(", standard error {}", short(error));
        }
        if let Some((low, high)) = score.interval {
            unedited += &format!(", 95 % interval {} to {}", short(low), short(high));
        }
        if let Some(p) = score.p {
            unedited += &format!(", p {}", short(p));
        }
        said.push(unedited);
        let measure = pool.unedited().flat_map(|row| &row.measures).find(|measure| measure.measure == column.measure);
        said.extend(
            measure.into_iter().flat_map(|measure| &measure.settings).map(|(name, value)| format!("{name}: {value}")),
        );
        page.line(format_args!("<dt>{}</dt><dd>{}</dd>", escaped(&column.name), escaped(&said.join("; "))));
    }
    page.line("</dl>");
}

/// The digests of all files behind the scores.
pub fn sources(page: &mut Html, pool: &Pool<'_>) {
    let mut rows = BTreeSet::new();
    for file in &pool.files {
        rows.insert((format!("results {}", file.name), file.digest.to_string()));
        rows.extend(file.setting.model.weights.iter().map(|(name, digest)| (format!("target {name}"), digest.clone())));
        let reference = file.reference.iter().flat_map(|reference| &reference.weights);
        rows.extend(reference.map(|(name, digest)| (format!("reference {name}"), digest.clone())));
        rows.extend(file.applied.iter().map(|patch| (format!("patch {}", patch.path), patch.id.clone())));
        let data = file.rows.iter().take(1).flat_map(|row| &row.measures).flat_map(|measure| &measure.data);
        rows.extend(data.map(|(name, digest)| (format!("data {name}"), digest.clone())));
    }
    page.line(
        "<h3>Where they are from</h3>\n<details><summary>SHA-256 of results, weights, patches and data</summary>\n<dl>",
    );
    for (name, digest) in rows {
        page.line(format_args!("<dt>{}</dt><dd><code>{}</code></dd>", escaped(&name), escaped(&digest)));
    }
    page.line("</dl></details>");
    let tools: BTreeSet<&str> = pool.files.iter().map(|file| file.setting.tool.as_str()).collect();
    let tools: Vec<&str> = tools.into_iter().collect();
    page.line(format_args!("<p class=\"note\">Measured by {}.</p>", escaped(&tools.join(", "))));
}
