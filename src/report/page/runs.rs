//! Tests over runs: whether an edit changes a score the same way in several files of one label, such as those of several training runs,
//! and in the layers of each.

use super::columns::Column;
use super::figures::{distinct, size_name};
use super::html::{Html, escaped};
use super::pool::{Configuration, Pool};
use crate::measure::statistics::{Alternative, Test, holm, wilcoxon};
use crate::report::results::{Results, Row};
use crate::report::verify::{decimals, short, signed};

/// How the names of the groups begin that are layers.
const LAYER: &str = "layer ";

/// A change of a score by an edit, in each run or layer.
struct Tested {
    size: usize,
    edit: String,
    score: String,
    of: &'static str,
    mean: f64,
    digits: usize,
    test: Test,
}

/// A table of tests, if there are several runs or layers.
pub fn over_runs(page: &mut Html, pool: &Pool<'_>) {
    let sizes = pool.sizes();
    let mut tested = Vec::new();
    for (size, (_, configurations)) in sizes.iter().enumerate() {
        for configuration in configurations {
            let cases = distinct(pool.rows_of(configuration).map(|row| row.case.clone()));
            for case in cases {
                for column in Column::all(pool) {
                    tested.extend(tests(pool, configuration, &case, &column).map(|(of, differences, test)| {
                        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
                        let edit = format!("{}: {case}", configuration.strategy);
                        let digits = decimals([column.score.value]);
                        Tested { size, edit, score: column.name.clone(), of, mean, digits, test }
                    }));
                }
            }
        }
    }
    if tested.is_empty() {
        return;
    }
    let corrected = holm(&tested.iter().map(|tested| tested.test.p).collect::<Vec<_>>());
    page.line("<h3>Changes over runs and layers</h3>");
    page.line(format_args!("<p class=\"note\">{}</p>", escaped(&about(&tested))));
    let header = ["edit", "score", "over", "n", "mean change", "p", "p, Holm"].map(str::to_owned);
    for (at, (size, configurations)) in sizes.iter().enumerate() {
        let rows: Vec<Vec<String>> = tested
            .iter()
            .zip(&corrected)
            .filter(|(tested, _)| tested.size == at)
            .map(|(tested, corrected)| {
                vec![
                    tested.edit.clone(),
                    tested.score.clone(),
                    tested.of.to_owned(),
                    tested.test.n.to_string(),
                    signed(tested.mean, tested.digits),
                    format!("{}{}", short(tested.test.p), side(tested.test.alternative)),
                    short(*corrected),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let open = if at == 0 && rows.len() < 40 { " open" } else { "" };
            let name = escaped(&size_name(pool, size, configurations));
            page.line(format_args!("<details{open}><summary>{name}</summary>"));
            page.table(&header, &rows);
            page.line("</details>");
        }
    }
}

fn about(tested: &[Tested]) -> String {
    let mut out = format!(
        "Wilcoxon's signed-rank test of the changes from the unedited model, both ways unless a direction was stated beforehand (< or >); \
         random weights of several seeds count as one. Layers of one model are not independent of each other. Holm: p, corrected for the \
         {} tests of all tables here.",
        tested.len()
    );
    let runs = tested.iter().filter(|tested| tested.of == "runs").map(|tested| &tested.test).max_by_key(|test| test.n);
    if let Some(test) = runs.filter(|test| test.least_p() > 0.05) {
        out += &format!(" {} runs are too few: p cannot be below {}.", test.n, short(test.least_p()));
    }
    out
}

fn side(alternative: Alternative) -> &'static str {
    match alternative {
        Alternative::TwoSided => "",
        Alternative::Greater => " >",
        Alternative::Less => " <",
    }
}

/// The tests over runs, and over the layers of all runs: what they are over, the changes, and the result.
fn tests<'a>(
    pool: &'a Pool<'_>,
    configuration: &'a Configuration,
    case: &'a str,
    column: &'a Column,
) -> impl Iterator<Item = (&'static str, Vec<f64>, Test)> + use<> {
    let (mut runs, mut layers) = (Vec::new(), Vec::new());
    for file in &pool.files {
        let alone = Pool { label: String::new(), files: vec![*file] };
        let rows: Vec<&Row> = alone.rows_of(configuration).filter(|row| row.case == case).collect();
        let differences: Vec<f64> = rows.iter().filter_map(|row| column.of(row)?.change.as_ref()?.difference).collect();
        if !differences.is_empty() {
            runs.push(differences.iter().sum::<f64>() / differences.len() as f64);
        }
        layers.extend(layer_changes(file, &rows, column));
    }
    let files = || pool.files.iter();
    let stated = |file: &Results| file.expected(&column.measure);
    let alternative = match files().next().map(|file| stated(file)) {
        // Only a direction that was stated in all of them.
        Some(first) if files().all(|file| stated(file) == first) => first,
        _ => Alternative::TwoSided,
    };
    // A divergence is never below 0, so that nothing is to be tested.
    let is_tested = !column.measure.starts_with("kl");
    [("runs", runs), ("layers", layers)].into_iter().filter_map(move |(of, differences)| {
        let test = wilcoxon(&differences, alternative).filter(|_| is_tested && differences.len() > 1)?;
        Some((of, differences, test))
    })
}

/// The change of a score in each layer: the mean of some edited models, less the unedited one.
fn layer_changes(file: &Results, rows: &[&Row], column: &Column) -> Vec<f64> {
    let of = |row: &Row| -> Vec<(String, f64)> {
        let measure = row.measures.iter().find(|measure| measure.measure == column.measure);
        let layers =
            measure.into_iter().flat_map(|measure| &measure.groups).filter(|group| group.name.starts_with(LAYER));
        let value = |scores: &[crate::measure::Score]| {
            scores.iter().find(|score| score.name == column.score.name).map(|score| score.value)
        };
        layers.filter_map(|group| Some((group.name.clone(), value(&group.scores)?))).collect()
    };
    let Some(unedited) = file.rows.first() else { return Vec::new() };
    let edited: Vec<Vec<(String, f64)>> = rows.iter().map(|row| of(row)).collect();
    let change = |(layer, before): (String, f64)| {
        let after: Vec<f64> =
            edited.iter().flatten().filter(|(name, _)| *name == layer).map(|(_, value)| *value).collect();
        let mean = after.iter().sum::<f64>() / after.len() as f64;
        Some(mean - before).filter(|change| change.is_finite())
    };
    of(unedited).into_iter().filter_map(change).collect()
}
