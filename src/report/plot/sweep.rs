//! Scores against alpha (the paper's figures 4 and 6b): a panel for each main score.
//!
//! The unedited model has alpha 0. Edits without an alpha are drawn beside the curve, each in its own slot.

use super::axis::Scale;
use super::panel::{Mark, Marker, Panel, SIZE, Series, draw, shortened};
use super::scene::{CHARACTER, Colour, Scene};
use super::svg;
use super::text::{self, Characters};
use crate::report::table::printable;
use crate::report::verify::{Column, better, case};
use crate::verify::{Measurement, Report};
use crate::words::{count, counted};

const MARGIN: u32 = 16;
const HEAD: u32 = 40;
/// The most panels that are drawn, since a folder of tests may have any number of files.
const PANELS_MAX: usize = 60;

/// Panels that are drawn together, with a common footer.
pub(in crate::report) struct Sheet {
    pub panels: Vec<Panel>,
    pub footer: Vec<String>,
}

/// Draws a report, as SVG.
pub fn sweep(report: &Report) -> String {
    Sheet::of(report).svg()
}

/// Draws a report as lines of text.
pub fn sweep_lines(report: &Report, characters: Characters) -> Vec<String> {
    Sheet::of(report).lines(characters)
}

/// The panel of a score of all models.
fn panel(column: &Column<'_>, report: &Report) -> Panel {
    let score = column.score;
    let mut panel = Panel {
        title: printable(&column.name()),
        subtitle: format!("{}, n {}", better(score.better, score.neutral), count(score.n)),
        x_label: "alpha",
        x_scale: Scale::Linear,
        unedited_x: Some(0.0),
        neutral: score.neutral,
        unedited_level: None,
        y_scale: Scale::Linear,
        series: Vec::new(),
        slots: Vec::new(),
        not_finite: Vec::new(),
    };
    let mut series = Series::new("", Colour::BLUE, Marker::Disc);
    for row in &report.rows {
        let Some(mark) = mark(column, row) else { continue };
        let name = case(row.edit);
        match row.edit.map(|edit| edit.alpha()) {
            _ if !mark.y.is_finite() => panel.not_finite.push(name),
            None => series.curve.push((0.0, mark)),
            // Alpha 0 is the unedited model again.
            Some(Some(alpha)) if alpha.value() == 0.0 => {}
            Some(Some(alpha)) => series.curve.push((alpha.value(), mark)),
            Some(None) => {
                series.in_slots.push((panel.slots.len(), mark));
                panel.slots.push(name);
            }
        }
    }
    series.curve.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    panel.series.push(series);
    if column.is_of_quality() {
        panel.choose_y_scale();
    }
    panel
}

/// A model's score with its 95 % interval, or else 1.96 standard errors to both sides.
fn mark(column: &Column<'_>, row: &Measurement) -> Option<Mark> {
    let score = column.of(row)?;
    let y = score.value;
    let by_error = || score.error.map(|error| (y - 1.96 * error, y + 1.96 * error));
    let interval = score.interval.or_else(by_error).filter(|(low, high)| low.is_finite() && high.is_finite());
    Some(Mark { y, interval })
}

impl Sheet {
    fn of(report: &Report) -> Self {
        let mut columns = Column::all(report);
        columns.sort_by_key(Column::is_of_quality);
        let panels = columns.iter().map(|column| panel(column, report)).collect();
        Self { panels, footer: footer(report) }
    }

    /// As SVG.
    pub fn svg(&self) -> String {
        svg::write(&self.scene())
    }

    /// In lines of text.
    pub fn lines(&self, characters: Characters) -> Vec<String> {
        let (shown, left_out) = self.shown();
        let mut panels = shown.iter().map(|panel| text::draw(panel, characters)).collect::<Vec<_>>();
        panels.extend(left_out.map(|line| vec![line]));
        panels.join(&String::new())
    }

    /// The panels that are drawn, and a line about those that are not.
    fn shown(&self) -> (&[Panel], Option<String>) {
        let shown = &self.panels[..self.panels.len().min(PANELS_MAX)];
        let left_out = self.panels.len() - shown.len();
        (shown, (left_out > 0).then(|| format!("{left_out} more scores are not shown")))
    }

    fn scene(&self) -> Scene {
        let (panels, left_out) = self.shown();
        let across = match panels.len() as u32 {
            few @ 0..=3 => few.max(1),
            4 => 2,
            5..=9 => 3,
            _ => 4,
        };
        let row =
            |at: u32| &panels[panels.len().min((at * across) as usize)..panels.len().min(((at + 1) * across) as usize)];
        let down = (panels.len() as u32).div_ceil(across);
        let heights: Vec<u32> = (0..down).map(|at| row(at).iter().map(Panel::height).max().unwrap_or(0)).collect();
        let scene_width = (MARGIN * 2 + SIZE.0 * across).max(560);
        let footer: Vec<&String> = self.footer.iter().chain(&left_out).collect();
        let bottom = HEAD + heights.iter().sum::<u32>();
        let mut scene = Scene::new(scene_width, bottom + 18 * footer.len() as u32 + 16);
        scene.text(MARGIN, 24, "Scores against alpha", Colour::INK);
        let mut top = HEAD;
        for (at, height) in (0u32..).zip(&heights) {
            for (place, panel) in (0u32..).zip(row(at)) {
                draw(panel, &mut scene, MARGIN + SIZE.0 * place, top);
            }
            top += height;
        }
        let most = ((scene_width - 2 * MARGIN) / CHARACTER) as usize;
        for (at, line) in (0u32..).zip(footer) {
            scene.text(MARGIN, bottom + 18 * (at + 1), &shortened(line, most), Colour::FAINT);
        }
        scene
    }
}

/// The lines below the panels.
fn footer(report: &Report) -> Vec<String> {
    const PATCHES_MAX: usize = 4;
    let model = &report.model;
    let mut out = vec![format!("model {}: {}, {}", model.path.display(), model.model_type, model.dtypes.join(" and "))];
    for patch in report.patches.iter().take(PATCHES_MAX) {
        out.push(format!("patch {}: {}", patch.id.short(), patch.path.display()));
    }
    if let Some(more @ 1..) = report.patches.len().checked_sub(PATCHES_MAX) {
        out.push(format!("and {}", counted(more, "more patch")));
    }
    let columns = Column::all(report);
    let mut marks = columns.iter().flat_map(|column| report.rows.iter().filter_map(|row| mark(column, row)));
    let mut key = vec!["ring: the unedited model"];
    if marks.any(|mark| mark.interval.is_some()) {
        key.push("band and whiskers: 95 % interval");
    }
    out.push(key.join("; "));
    out.iter().map(|line| printable(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::EditKind;
    use crate::report::plot::scene::{Shape, width};
    use crate::report::verify::sample::{all, at, crows, full, perplexity, report, weat};

    /// The texts that stand on the same line and touch, or stick out of the paper.
    fn collisions(scene: &Scene) -> Vec<String> {
        let boxes: Vec<(u32, u32, u32, &str)> = scene
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Text { x, y, text, .. } => Some((*x, x + width(text), *y, text.as_str())),
                _ => None,
            })
            .collect();
        let mut found = Vec::new();
        for (at, (left, right, foot, text)) in boxes.iter().enumerate() {
            if *right > scene.width || *foot > scene.height {
                found.push((*text).to_owned());
            }
            for (other_left, other_right, other_foot, other) in &boxes[at + 1..] {
                if foot.abs_diff(*other_foot) < 12 && left < other_right && other_left < right {
                    found.push(format!("{text} and {other}"));
                }
            }
        }
        found
    }

    #[test]
    fn a_panel_for_each_main_score_bias_first() {
        let text = sweep(&full());
        let titles = [
            "weat6 d",
            "weat8 d",
            "crows.diff",
            "stereoset.intra ss",
            "stereoset.intra icat",
            "ppl.mlm",
            "kl",
            "kl top1",
        ];
        let places: Vec<usize> = titles.iter().map(|title| text.find(&format!(">{title}<")).unwrap()).collect();
        assert!(places.is_sorted());
        for label in [
            "neutral 50",
            "nearer to 50 is better, n 262",
            ">pr<",
            ">sw<",
            ">alpha<",
            "lower is better, n 12,345, logarithmic",
        ] {
            assert!(text.contains(label), "{label}");
        }
        for shape in ["<polyline", "<circle", "<polygon", "stroke-dasharray", "bert, F32", "debias.lcepatch"] {
            assert!(text.contains(shape), "{shape}");
        }
    }

    #[test]
    fn no_labels_touch() {
        let many: Vec<EditKind> = (-20..=20).map(|alpha| at(f64::from(alpha) / 10.0)).collect();
        let sizes = |alpha: f64| {
            vec![weat("weat6", alpha * 1e-7), crows(50.0), perplexity((alpha * 40.0).exp()), perplexity(1e9 + alpha)]
        };
        let far = [at(-20.25), at(-0.125), at(10.75), EditKind::Prune, EditKind::Switch];
        let mut long = report(&far, sizes);
        long.model.path = "a/long/path/".repeat(40).into();
        long.patches = vec![long.patches[0].clone(); 7];
        for report in
            [full(), report(&many, all), report(&[], all), report(&[EditKind::Prune], all), report(&far, sizes), long]
        {
            assert_eq!(collisions(&Sheet::of(&report).scene()), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_not_finite_is_named_and_not_drawn() {
        let broken = report(&[at(1.0), at(2.0)], |alpha| vec![perplexity(if alpha > 1.0 { f64::NAN } else { 9.0 })]);
        let text = sweep(&broken);
        assert!(text.contains("not finite: alpha 2") && !text.contains("NaN"));
    }

    #[test]
    fn a_report_of_nothing_and_one_of_very_much_are_pictures() {
        assert!(sweep(&report(&[], |_| Vec::new())).ends_with("</svg>\n"));
        let much = report(&[at(1.0)], |alpha| (0..500).map(|test| weat(&format!("test{test}"), alpha)).collect());
        assert!(Sheet::of(&much).scene().height < 6000);
        assert!(sweep(&much).contains("440 more scores are not shown"));
    }
}
