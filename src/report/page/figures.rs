//! The figures of a page: scores against alpha (the paper's figures 4 and 6), scores against k (figure 5), and the places of the selected
//! weights (figure 3).

use super::columns::Column;
use super::html::{Html, escaped};
use super::pool::{Configuration, Pool};
use crate::report::plot::axis::Scale;
use crate::report::plot::panel::{Marker, Panel, Series};
use crate::report::plot::scene::Colour;
use crate::report::plot::sweep::Sheet;
use crate::report::plot::{darkest, panel_part, selection_part};
use crate::report::results::{PatchLine, Row};
use crate::report::table::{percent, printable};
use crate::words::{count, counted};

pub fn series(strategy: &str, name: String) -> Series {
    let (colour, marker) = match strategy {
        "random" => (Colour::GREY, Marker::Triangle),
        "mask" => (Colour::GREEN, Marker::Square),
        _ => (Colour::BLUE, Marker::Disc),
    };
    Series::new(&printable(&name), colour, marker)
}

pub fn panel(column: &Column, x_label: &'static str) -> Panel {
    Panel {
        title: printable(&column.name),
        subtitle: format!("{}, n {}", printable(&column.better()), count(column.score.n)),
        x_label,
        x_scale: Scale::Linear,
        unedited_x: None,
        neutral: column.score.neutral,
        unedited_level: None,
        y_scale: Scale::Linear,
        series: Vec::new(),
        slots: Vec::new(),
        not_finite: Vec::new(),
    }
}

fn finish(panel: &mut Panel, column: &Column) {
    // Random baselines are drawn first, below the others.
    panel.series.sort_by_key(|series| series.colour != Colour::GREY);
    if column.is_of_quality {
        panel.choose_y_scale();
    }
}

fn figure(page: &mut Html, panel: &mut Panel, column: &Column) {
    finish(panel, column);
    let title = format!("{} against {}", panel.title, panel.x_label);
    page.line(format_args!("<figure>{}</figure>", panel_part(panel, &title)));
}

/// The distinct values of a list, in its order.
pub fn distinct<T: PartialEq>(list: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut out = Vec::new();
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

/// The name of a size, with the number of weights.
pub fn size_name(pool: &Pool<'_>, size: &str, configurations: &[Configuration]) -> String {
    let selected = pool.selected(configurations).map(|(low, high)| match low == high {
        true => counted(low, "weight"),
        false => format!("{} to {}", count(low), counted(high, "weight")),
    });
    let k = match size {
        "" => Some("every edit".to_owned()),
        "from-mask" => Some("k from-mask, as many as the masks give".to_owned()),
        size => Some(format!("k {size}")),
    };
    [k, selected].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Every score against alpha, a figure for each size.
pub fn against_alpha(page: &mut Html, pool: &Pool<'_>) {
    let columns = Column::all(pool);
    if pool.edited().next().is_none() {
        return;
    }
    page.line("<h3>Scores against alpha</h3>");
    page.line(format_args!("<p class=\"note\">{}</p>", escaped(&key(pool))));
    for (at, (size, configurations)) in pool.sizes().iter().enumerate() {
        let open = if at == 0 { " open" } else { "" };
        let name = escaped(&size_name(pool, size, configurations));
        page.line(format_args!("<details{open}><summary>{name}</summary>\n<div class=\"panels\">"));
        for column in &columns {
            figure(page, &mut alpha_panel(pool, column, configurations), column);
        }
        page.line("</div></details>");
    }
}

/// The same figures without a page.
pub fn sheet(pools: &[Pool<'_>]) -> Sheet {
    let sizes = pools.iter().map(|pool| pool.sizes().len()).sum::<usize>();
    let mut sheet = Sheet { panels: Vec::new(), footer: Vec::new() };
    for pool in pools {
        for (size, configurations) in pool.sizes() {
            let name = [&pool.label, &size_name(pool, &size, &configurations)].map(|name| printable(name)).join(": ");
            for column in Column::all(pool) {
                let mut panel = alpha_panel(pool, &column, &configurations);
                finish(&mut panel, &column);
                if sizes > 1 {
                    panel.title = format!("{}, {name}", panel.title);
                }
                sheet.panels.push(panel);
            }
            sheet.footer.push(name);
        }
    }
    sheet.footer.push("ring: the unedited model".to_owned());
    sheet
}

fn key(pool: &Pool<'_>) -> String {
    let several = |configuration: &Configuration| {
        let rows: Vec<&Row> = pool.rows_of(configuration).collect();
        rows.iter().any(|row| rows.iter().filter(|other| other.case == row.case).count() > 1)
    };
    let configurations = pool.configurations();
    let mut key = vec![
        "Alpha 0, the ring, is the unedited model; alpha 1 gives the reference's values at the selected weights. Bands and whiskers:",
    ];
    key.extend(
        configurations
            .iter()
            .any(several)
            .then_some("of lines that are means of several runs or seeds, the range of these;"),
    );
    key.push("of a single run, the 95 % interval of the change from the unedited model, where the measure has one.");
    if configurations.iter().any(Configuration::is_random) {
        key.push("Grey: as many weights drawn at random, which is what an edit does that knows nothing.");
    }
    key.join(" ")
}

fn alpha_panel(pool: &Pool<'_>, column: &Column, configurations: &[Configuration]) -> Panel {
    let mut panel = Panel { unedited_x: Some(0.0), ..panel(column, "alpha") };
    for configuration in configurations {
        let mut series = series(&configuration.strategy, configuration.strategy.clone());
        let rows: Vec<&Row> = pool.rows_of(configuration).collect();
        for case in distinct(rows.iter().map(|row| &row.case)) {
            let alike: Vec<&Row> = rows.iter().filter(|row| row.case == *case).copied().collect();
            let alpha = alike.first().and_then(|row| row.alpha);
            match (column.mark(alike.iter().copied()), alpha) {
                (None, _) => panel.not_finite.push(format!("{} {case}", configuration.strategy)),
                (Some(mark), Some(alpha)) => series.curve.push((alpha, mark)),
                (Some(mark), None) => {
                    let slot = panel.slots.iter().position(|slot| slot == case).unwrap_or(panel.slots.len());
                    if slot == panel.slots.len() {
                        panel.slots.push(case.clone());
                    }
                    series.in_slots.push((slot, mark));
                }
            }
        }
        if let Some(mut unedited) = column.mark(pool.unedited()) {
            // Bands begin at the unedited model.
            let banded = series.curve.iter().any(|(_, mark)| mark.interval.is_some());
            unedited.interval = unedited.interval.or(banded.then_some((unedited.y, unedited.y)));
            series.curve.push((0.0, unedited));
        }
        series.curve.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        panel.series.push(series);
    }
    panel
}

/// Every score against the number of weights, a figure for each edit that was made with several.
pub fn against_k(page: &mut Html, pool: &Pool<'_>) {
    let columns = Column::all(pool);
    let shares = |case: &str| {
        let of = |strategy: &str| {
            let rows = pool.edited().filter(|row| row.case == case);
            let rows = rows
                .filter(|row| row.localization.as_ref().is_some_and(|localization| localization.strategy == strategy));
            distinct(rows.filter_map(|row| row.localization.as_ref()?.k.clone())).len()
        };
        of("value").max(of("random"))
    };
    let mut cases: Vec<&Row> = Vec::new();
    for row in pool.edited() {
        if cases.iter().all(|known| known.case != row.case) && shares(&row.case) > 1 {
            cases.push(row);
        }
    }
    cases.sort_by(|a, b| a.alpha.unwrap_or(f64::MAX).total_cmp(&b.alpha.unwrap_or(f64::MAX)));
    if cases.is_empty() {
        return;
    }
    page.line("<h3>Scores against the number of weights</h3>");
    page.line("<p class=\"note\">The dashed line in grey is the unedited model. Masks decide themselves how many weights they give.</p>");
    let strongest = cases.iter().map(|row| row.alpha.unwrap_or(0.0).abs()).fold(0.0, f64::max);
    let first = cases.iter().position(|row| row.alpha.unwrap_or(0.0).abs() == strongest);
    for (at, row) in cases.iter().enumerate() {
        let open = if first == Some(at) { " open" } else { "" };
        page.line(format_args!("<details{open}><summary>{}</summary>\n<div class=\"panels\">", escaped(&row.case)));
        for column in &columns {
            figure(page, &mut k_panel(pool, column, &row.case), column);
        }
        page.line("</div></details>");
    }
}

fn k_panel(pool: &Pool<'_>, column: &Column, case: &str) -> Panel {
    let mut panel = panel(column, "% of the candidates");
    for strategy in distinct(pool.configurations().into_iter().map(|configuration| configuration.strategy)) {
        let mut series = series(&strategy, strategy.clone());
        for configuration in pool.configurations().iter().filter(|configuration| configuration.strategy == strategy) {
            let rows: Vec<&Row> = pool.rows_of(configuration).filter(|row| row.case == case).collect();
            let shares: Vec<f64> = rows.iter().filter_map(|row| pool.share(row)).collect();
            if shares.is_empty() {
                continue;
            }
            let share = shares.iter().sum::<f64>() / shares.len() as f64;
            match column.mark(rows) {
                Some(mark) => series.curve.push((share, mark)),
                None => panel.not_finite.push(strategy.clone()),
            }
        }
        series.curve.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        panel.series.push(series);
    }
    let shares = panel.series.iter().flat_map(|series| &series.curve).map(|(share, _)| *share);
    let (low, high) =
        shares.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), share| (low.min(share), high.max(share)));
    // A logarithmic axis over a small range has too few round numbers.
    if high > 4.0 * low {
        panel.x_scale = Scale::Logarithmic;
    }
    panel.unedited_level = column.mark(pool.unedited()).map(|mark| mark.y);
    panel
}

/// The places of the selected weights, for each strategy and size. For random weights, one seed is shown.
pub fn places(page: &mut Html, pool: &Pool<'_>) {
    let mut shown: Vec<&PatchLine> = Vec::new();
    for patch in pool.patches() {
        let is_alike = |other: &&PatchLine| {
            (&other.localization.strategy, &other.localization.k)
                == (&patch.localization.strategy, &patch.localization.k)
        };
        if !shown.iter().any(is_alike) {
            shown.push(patch);
        }
    }
    if shown.is_empty() {
        return;
    }
    page.line("<h3>Where the selected weights are</h3>");
    page.line("<p class=\"note\">Percent of each component's weights in each layer; patches of about the same size have the same colours.</p>\n<div class=\"places-list\">");
    for PatchLine { localization, candidates, stat } in shown.iter().copied() {
        // Patches of about the same size share a colour scale, so that they can be compared.
        let alike = |patch: &&&PatchLine| patch.stat.selected.abs_diff(stat.selected) <= stat.selected / 10;
        let most = shown.iter().filter(alike).map(|patch| darkest(&patch.stat)).fold(0.0, f64::max);
        let k = localization.k.as_ref().map_or(String::new(), |k| format!(", k {k}"));
        let seed = localization.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        let share = percent(stat.selected, *candidates);
        let name = format!(
            "{}{k}{seed}: {}, {share} of the candidates",
            localization.strategy,
            counted(stat.selected, "weight")
        );
        let svg = selection_part(stat, most, &format!("Selected weights by layer and component: {name}"));
        let caption = format!("<figcaption>{}</figcaption>", escaped(&name));
        page.line(format_args!("<figure class=\"places\">{caption}\n{svg}</figure>"));
    }
    page.line("</div>");
}
