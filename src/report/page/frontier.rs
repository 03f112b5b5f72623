//! Bias against damage: what an edit does to a score of bias, at what it costs in language modelling, beside random weights of equal
//! number.

use super::columns::Column;
use super::figures::{distinct, panel, series, size_name};
use super::html::{Html, escaped};
use super::pool::{Configuration, Pool};
use crate::measure::Better;
use crate::report::plot::axis::Scale;
use crate::report::plot::panel::Mark;
use crate::report::plot::panel_part;
use crate::report::results::Row;
use crate::report::verify::{decimals, number};

/// The means of the runs of one edit.
struct Point {
    case: String,
    alpha: f64,
    damage: f64,
    bias: f64,
}

/// The figures, and a table of each edit beside random weights that do the same damage.
pub fn frontier(page: &mut Html, pool: &Pool<'_>) {
    let columns = Column::all(pool);
    let Some(damage) = columns.iter().find(|column| column.is_of_quality && column.score.better == Better::Lower)
    else {
        return;
    };
    let biases: Vec<&Column> = columns.iter().filter(|column| !column.is_of_quality).collect();
    if biases.is_empty() || pool.edited().all(|row| row.alpha.is_none()) {
        return;
    }
    let has_random = pool.configurations().iter().any(Configuration::is_random);
    page.line("<h3>Bias against damage</h3>");
    let control = match has_random {
        true => "Grey: as many random weights. What matters is how far an edit brings the score at the same damage.",
        false => "There is no random control of equal size.",
    };
    page.line(format_args!(
        "<p class=\"note\">Each point is an edit at one alpha, the ring the unedited model; to the right is more damage. {}</p>",
        escaped(control)
    ));
    for (at, (size, configurations)) in pool.sizes().iter().enumerate() {
        let open = if at == 0 { " open" } else { "" };
        let name = escaped(&size_name(pool, size, configurations));
        page.line(format_args!("<details{open}><summary>{name}</summary>\n<div class=\"panels\">"));
        for bias in &biases {
            figure(page, pool, configurations, bias, damage);
        }
        page.line("</div>");
        if has_random {
            same_damage(page, pool, configurations, &biases, damage);
        }
        page.line("</details>");
    }
}

fn figure(page: &mut Html, pool: &Pool<'_>, configurations: &[Configuration], bias: &Column, damage: &Column) {
    let unedited = mean_point(pool.unedited(), String::new(), 0.0, bias, damage);
    let label = if damage.measure.starts_with("ppl") { "perplexity" } else { "divergence" };
    let mut panel = panel(bias, label);
    panel.unedited_x = unedited.as_ref().map(|point| point.damage);
    for configuration in configurations {
        let mut series = series(&configuration.strategy, configuration.strategy.clone());
        let mut points = points(pool, configuration, bias, damage);
        points.extend(mean_point(pool.unedited(), String::new(), 0.0, bias, damage));
        points.sort_by(|a, b| a.alpha.total_cmp(&b.alpha));
        series.curve.extend(points.iter().map(|point| (point.damage, Mark { y: point.bias, interval: None })));
        panel.series.push(series);
    }
    let damages = || panel.series.iter().flat_map(|series| &series.curve).map(|(damage, _)| *damage);
    let (low, high) = damages().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    if low > 0.0 && high > 4.0 * low {
        panel.x_scale = Scale::Logarithmic;
    }
    panel.series.sort_by_key(|series| series.name != "random");
    let title = format!("{} against {} ({})", panel.title, label, damage.name);
    page.line(format_args!("<figure>{}</figure>", panel_part(&panel, &title)));
}

/// Each edit beside random weights of equal number at the same damage.
fn same_damage(
    page: &mut Html,
    pool: &Pool<'_>,
    configurations: &[Configuration],
    biases: &[&Column],
    damage: &Column,
) {
    let mut header = vec!["at the same damage".to_owned(), damage.name.clone()];
    header.extend(biases.iter().flat_map(|bias| [bias.name.clone(), "random".to_owned()]));
    let mut rows = Vec::new();
    for configuration in configurations.iter().filter(|configuration| !configuration.is_random()) {
        let all: Vec<Vec<Point>> = biases.iter().map(|bias| points(pool, configuration, bias, damage)).collect();
        for point in all.first().into_iter().flatten() {
            let mut row = vec![format!("{}: {}", configuration.strategy, point.case)];
            row.push(number(point.damage, decimals([point.damage])));
            for (bias, points) in biases.iter().zip(&all) {
                let here = points.iter().find(|other| other.case == point.case).map(|point| point.bias);
                let digits = decimals([bias.score.value]);
                let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| number(value, digits));
                row.extend([shown(here), shown(random_at(pool, configurations, bias, damage, point))]);
            }
            rows.push(row);
        }
    }
    if !rows.is_empty() {
        page.table(&header, &rows);
        page.line(
            "<p class=\"note\">random: what random weights have at this damage, between their alphas on the same side of 0, by the \
             logarithm of the damage; - where this damage is outside of what was measured of them on that side.</p>",
        );
    }
}

/// The score of random weights at the damage of a point, on its side of alpha 0.
fn random_at(
    pool: &Pool<'_>,
    configurations: &[Configuration],
    bias: &Column,
    damage: &Column,
    point: &Point,
) -> Option<f64> {
    let random = configurations.iter().find(|configuration| configuration.is_random())?;
    let unedited = mean_point(pool.unedited(), String::new(), 0.0, bias, damage);
    let mut side = points(pool, random, bias, damage);
    side.retain(|other| other.alpha.signum() == point.alpha.signum());
    side.extend(unedited);
    side.sort_by(|a, b| a.alpha.abs().total_cmp(&b.alpha.abs()));
    // The first pair of neighbours between which the damage is.
    side.windows(2).find_map(|pair| between(point.damage, &pair[0], &pair[1]))
}

/// The bias at a damage between two points.
fn between(damage: f64, one: &Point, other: &Point) -> Option<f64> {
    let [at, from, to] = [damage, one.damage, other.damage].map(f64::ln);
    let share = if from == to { 0.0 } else { (at - from) / (to - from) };
    let is_between = at.min(from).min(to).is_finite() && (0.0..=1.0).contains(&share) && (from != to || at == from);
    is_between.then_some(one.bias + share * (other.bias - one.bias))
}

/// The edits of a configuration at each alpha.
fn points(pool: &Pool<'_>, configuration: &Configuration, bias: &Column, damage: &Column) -> Vec<Point> {
    let rows: Vec<&Row> = pool.rows_of(configuration).collect();
    let cases = distinct(rows.iter().filter_map(|row| Some((row.case.clone(), row.alpha?))));
    let point = |(case, alpha): (String, f64)| {
        let alike = rows.iter().copied().filter(|row| row.case == case);
        mean_point(alike.collect::<Vec<_>>().into_iter(), case.clone(), alpha, bias, damage)
    };
    let mut points: Vec<Point> = cases.into_iter().filter_map(point).collect();
    points.sort_by(|a, b| a.alpha.total_cmp(&b.alpha));
    points
}

fn mean_point<'r>(
    rows: impl Iterator<Item = &'r Row>,
    case: String,
    alpha: f64,
    bias: &Column,
    damage: &Column,
) -> Option<Point> {
    let rows: Vec<&Row> = rows.collect();
    let mean = |column: &Column| column.mark(rows.iter().copied()).map(|mark| mark.y);
    Some(Point { case, alpha, damage: mean(damage)?, bias: mean(bias)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damage_between_two_is_between_their_logarithms() {
        let point = |damage: f64, bias| Point { case: String::new(), alpha: 1.0, damage, bias };
        let (one, other) = (point(10.0, 4.0), point(1000.0, 0.0));
        assert_eq!(between(10.0, &one, &other), Some(4.0));
        assert!((between(100.0, &one, &other).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(between(100.0, &other, &one), between(100.0, &one, &other));
        assert_eq!((between(9.0, &one, &other), between(1001.0, &one, &other)), (None, None));
        assert_eq!(between(0.0, &point(0.0, 1.0), &other), None);
        assert_eq!((between(10.0, &one, &one), between(11.0, &one, &one)), (Some(4.0), None));
    }
}
