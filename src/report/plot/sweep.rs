//! Scores against alpha (the paper's figures 4 and 6b): a panel for each main score of a report.
//!
//! The unedited model is alpha 0. Edits without a strength stand beside the curve, each in a slot of its own.

use super::axis::{Axis, Scale, Tick};
use super::scene::{CHARACTER, Colour, Point, Scene, Stroke, width};
use super::{Picture, png, svg};
use crate::report::table::{count, printable};
use crate::report::verify::{Column, better, case};
use crate::verify::{Report, Row};

const PANEL: (u32, u32) = (368, 268);
const MARGIN: u32 = 16;
const HEAD: u32 = 40;
/// Around the plot of a panel: left, top, right, bottom.
const AROUND: (u32, u32, u32, u32) = (72, 44, 16, 52);
/// The width of a slot beside the curve.
const SLOT: u32 = 44;
/// Panels drawn: a folder of tests may have any number of files.
const PANELS_MAX: usize = 60;

const CURVE: Colour = Colour([0x0b, 0x3c, 0x7d]);
const NEUTRAL: Colour = Colour([0xb3, 0x54, 0x1e]);
const GRID: Colour = Colour([0xe8, 0xe8, 0xe8]);
const FRAME: Colour = Colour([0x99, 0x99, 0x99]);

/// Draws a report.
pub fn sweep(report: &Report, picture: Picture) -> Vec<u8> {
    let scene = scene(report);
    match picture {
        Picture::Svg => svg::write(&scene).into_bytes(),
        Picture::Png => png::write(&scene),
    }
}

/// A score of one model.
#[derive(Debug, Clone, Copy)]
struct Mark {
    y: f64,
    interval: Option<(f64, f64)>,
}

impl Mark {
    /// The values that its drawing covers.
    fn values(self) -> impl Iterator<Item = f64> {
        let (low, high) = self.interval.unwrap_or((self.y, self.y));
        [self.y, low, high].into_iter()
    }
}

/// A score of all models.
struct Panel {
    title: String,
    subtitle: String,
    neutral: Option<f64>,
    scale: Scale,
    /// By alpha, which is 0 for the unedited model.
    curve: Vec<(f64, Mark)>,
    /// Edits without alpha.
    beside: Vec<(String, Mark)>,
    /// Models of which the score is not a finite number.
    lost: Vec<String>,
}

impl Panel {
    fn new(column: &Column<'_>, report: &Report) -> Self {
        let score = column.score;
        let mut panel = Self {
            title: printable(&column.name()),
            subtitle: format!("{}, n {}", better(score), count(score.n)),
            neutral: score.neutral,
            scale: Scale::Linear,
            curve: Vec::new(),
            beside: Vec::new(),
            lost: Vec::new(),
        };
        for row in &report.rows {
            let Some(mark) = mark(column, row) else { continue };
            let name = case(row.edit);
            match row.edit.map(|edit| edit.alpha()) {
                _ if !mark.y.is_finite() => panel.lost.push(name),
                None => panel.curve.push((0.0, mark)),
                // That is the unedited model again.
                Some(Some(alpha)) if alpha.value() == 0.0 => {}
                Some(Some(alpha)) => panel.curve.push((alpha.value(), mark)),
                Some(None) => panel.beside.push((name, mark)),
            }
        }
        panel.curve.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let values: Vec<f64> = panel.marks().map(|mark| mark.y).collect();
        let (low, high) =
            values.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), y| (low.min(*y), high.max(*y)));
        if column.is_of_quality() && score.neutral.is_none() && low > 0.0 && high > 10.0 * low {
            panel.scale = Scale::Logarithmic;
            panel.subtitle.push_str(", logarithmic");
        }
        panel
    }

    fn marks(&self) -> impl Iterator<Item = Mark> {
        self.curve.iter().map(|(_, mark)| *mark).chain(self.beside.iter().map(|(_, mark)| *mark))
    }
}

/// A row's score with its 95 % interval; without one, 1.96 standard errors to both sides.
fn mark(column: &Column<'_>, row: &Row) -> Option<Mark> {
    let score = column.of(row)?;
    let y = score.value;
    let by_error = || score.error.map(|error| (y - 1.96 * error, y + 1.96 * error));
    let interval = score.interval.or_else(by_error).filter(|(low, high)| low.is_finite() && high.is_finite());
    Some(Mark { y, interval })
}

fn scene(report: &Report) -> Scene {
    let mut columns = Column::all(report);
    columns.sort_by_key(Column::is_of_quality);
    let shown = &columns[..columns.len().min(PANELS_MAX)];
    let panels: Vec<Panel> = shown.iter().map(|column| Panel::new(column, report)).collect();
    let across = match panels.len() as u32 {
        few @ 0..=3 => few.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    };
    let down = (panels.len() as u32).div_ceil(across);
    let scene_width = (MARGIN * 2 + PANEL.0 * across).max(560);
    let footer = footer(report, &panels, columns.len() - shown.len());
    let top = HEAD + PANEL.1 * down;
    let mut scene = Scene::new(scene_width, top + 18 * footer.len() as u32 + 16);
    scene.text(MARGIN, 24, "Scores against alpha", Colour::INK);
    for (at, panel) in (0u32..).zip(&panels) {
        draw(panel, &mut scene, MARGIN + PANEL.0 * (at % across), HEAD + PANEL.1 * (at / across));
    }
    let most = ((scene_width - 2 * MARGIN) / CHARACTER) as usize;
    for (at, line) in (0u32..).zip(&footer) {
        scene.text(MARGIN, top + 18 * (at + 1), &shortened(line, most), Colour::FAINT);
    }
    scene
}

/// What all panels are about.
fn footer(report: &Report, panels: &[Panel], left_out: usize) -> Vec<String> {
    const PATCHES_MAX: usize = 4;
    let model = &report.model;
    let mut out = vec![format!("model {}: {}, {}", model.path.display(), model.model_type, model.dtypes.join(" and "))];
    for patch in report.patches.iter().take(PATCHES_MAX) {
        out.push(format!("patch {}: {}", patch.id.short(), patch.path.display()));
    }
    if let Some(more @ 1..) = report.patches.len().checked_sub(PATCHES_MAX) {
        out.push(format!("and {more} more patches"));
    }
    let mut key = vec!["ring: the unedited model"];
    if panels.iter().flat_map(Panel::marks).any(|mark| mark.interval.is_some()) {
        key.push("band and whiskers: 95 % interval");
    }
    out.push(key.join("; "));
    if left_out > 0 {
        out.push(format!("{left_out} more scores are not shown"));
    }
    out.iter().map(|line| printable(line)).collect()
}

/// A line with its middle left out, if it is longer than `most` characters.
fn shortened(line: &str, most: usize) -> String {
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= most {
        return line.to_owned();
    }
    let kept = most.saturating_sub(3);
    let (start, end) = (&characters[..kept / 3], &characters[characters.len() - (kept - kept / 3)..]);
    start.iter().chain(&['.'; 3]).chain(end).collect()
}

fn stroke(colour: Colour, width: f64) -> Stroke {
    Stroke { colour, width, dash: 0.0 }
}

/// The plot of a panel on paper.
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

fn draw(panel: &Panel, scene: &mut Scene, left: u32, top: u32) {
    let most = ((PANEL.0 - AROUND.2) / CHARACTER) as usize;
    scene.text(left, top + 14, &shortened(&panel.title, most), Colour::INK);
    scene.text(left, top + 32, &shortened(&panel.subtitle, most), Colour::FAINT);
    let area = Area {
        left: f64::from(left + AROUND.0),
        top: f64::from(top + AROUND.1),
        right: f64::from(left + PANEL.0 - AROUND.2),
        bottom: f64::from(top + PANEL.1 - AROUND.3),
    };
    let beside = f64::from(SLOT) * panel.beside.len() as f64;
    let end = if panel.curve.is_empty() { area.left } else { area.right - beside };
    let x = Axis::new(panel.curve.iter().map(|(alpha, _)| *alpha), Scale::Linear, (area.left, end));
    let values = panel.marks().flat_map(Mark::values).chain(panel.neutral);
    let y = Axis::new(values, panel.scale, (area.bottom, area.top));

    frame(scene, &area, &x, &y, end, panel);
    let curve: Vec<(Point, Option<(f64, f64)>)> =
        panel.curve.iter().map(|(alpha, mark)| place(x.at(*alpha), *mark, &y)).collect();
    let slot = |at: usize| end + f64::from(SLOT) * (at as f64 + 0.5);
    let beside: Vec<_> = panel.beside.iter().enumerate().map(|(at, (_, mark))| place(slot(at), *mark, &y)).collect();
    let band: Vec<(f64, f64, f64)> =
        curve.iter().filter_map(|(point, interval)| interval.map(|(low, high)| (point.0, low, high))).collect();
    let banded = band.len() > 1;
    if banded {
        let above = band.iter().map(|(x, _, high)| (*x, *high));
        let below = band.iter().rev().map(|(x, low, _)| (*x, *low));
        scene.area(above.chain(below).collect(), CURVE, 0.15);
    }
    if let Some(neutral) = panel.neutral {
        let level = y.at(neutral);
        scene.line(vec![(area.left, level), (area.right, level)], Stroke { colour: NEUTRAL, width: 1.25, dash: 5.0 });
    }
    scene.line(curve.iter().map(|(point, _)| *point).collect(), stroke(CURVE, 2.0));
    let alone = if banded { &[][..] } else { &curve[..] };
    for ((x, _), interval) in alone.iter().chain(&beside) {
        let Some((low, high)) = interval else { continue };
        scene.line(vec![(*x, *low), (*x, *high)], stroke(CURVE, 1.25));
        for end in [low, high] {
            scene.line(vec![(x - 4.0, *end), (x + 4.0, *end)], stroke(CURVE, 1.25));
        }
    }
    // Many marks on a line hide it.
    let radius = if curve.len() > 16 { 2.0 } else { 3.5 };
    for ((alpha, _), (point, _)) in panel.curve.iter().zip(&curve) {
        if *alpha == 0.0 {
            scene.disc(*point, 5.0, CURVE);
            scene.disc(*point, 3.25, Colour::PAPER);
        } else {
            scene.disc(*point, radius, CURVE);
        }
    }
    for (point, _) in &beside {
        scene.disc(*point, 3.5, CURVE);
    }
    let points: Vec<Point> = curve.iter().chain(&beside).map(|(point, _)| *point).collect();
    if let Some(neutral) = panel.neutral {
        label(scene, &area, &format!("neutral {neutral}"), y.at(neutral), &points);
    }
    if !panel.lost.is_empty() {
        let text = shortened(
            &format!("not finite: {}", panel.lost.join(", ")),
            ((area.right - area.left) / f64::from(CHARACTER)) as usize - 1,
        );
        scene.text(area.left as u32 + 6, area.top as u32 + 16, &text, NEUTRAL);
    }
}

/// A mark's place and the ends of its interval on paper.
fn place(x: f64, mark: Mark, y: &Axis) -> (Point, Option<(f64, f64)>) {
    ((x, y.at(mark.y)), mark.interval.map(|(low, high)| (y.at(low), y.at(high))))
}

/// The axes with their numbers, and the slots beside them.
fn frame(scene: &mut Scene, area: &Area, x: &Axis, y: &Axis, end: f64, panel: &Panel) {
    for Tick { value, label } in y.ticks(6) {
        let level = y.at(value);
        scene.line(vec![(area.left, level), (area.right, level)], stroke(GRID, 1.0));
        scene.text_before(area.left as u32 - 7, level.round() as u32 + 5, &label, Colour::INK);
    }
    let foot = area.bottom as u32 + 18;
    if !panel.curve.is_empty() {
        for Tick { value, label } in fitting(x, end - area.left) {
            let along = x.at(value);
            scene.line(vec![(along, area.top), (along, area.bottom)], stroke(GRID, 1.0));
            scene.text_centered(along.round() as u32, foot, &label, Colour::INK);
        }
        scene.text_centered(((area.left + end) / 2.0) as u32, foot + 18, "alpha", Colour::FAINT);
    }
    for (at, (name, _)) in panel.beside.iter().enumerate() {
        let along = end + f64::from(SLOT) * (at as f64 + 0.5);
        scene.line(vec![(along, area.top), (along, area.bottom)], stroke(GRID, 1.0));
        scene.text_centered(along.round() as u32, foot, name, Colour::INK);
    }
    if !panel.beside.is_empty() && !panel.curve.is_empty() {
        scene.line(vec![(end, area.top), (end, area.bottom)], stroke(FRAME, 1.0));
    }
    let corners = [
        (area.left, area.top),
        (area.right, area.top),
        (area.right, area.bottom),
        (area.left, area.bottom),
        (area.left, area.top),
    ];
    scene.line(corners.to_vec(), stroke(FRAME, 1.0));
}

/// As many round numbers as there is room for.
fn fitting(axis: &Axis, length: f64) -> Vec<Tick> {
    let fits = |ticks: &Vec<Tick>| {
        let gaps = ticks.windows(2).map(|pair| {
            let labels = f64::from(width(&pair[0].label) + width(&pair[1].label)) / 2.0;
            axis.at(pair[1].value) - axis.at(pair[0].value) - labels
        });
        gaps.fold(length, f64::min) >= 2.0 * f64::from(CHARACTER)
    };
    (2..=9).rev().map(|most| axis.ticks(most)).find(fits).unwrap_or_default()
}

/// Writes the label of a level line at that end of it, above or below, which is farthest from all marks.
fn label(scene: &mut Scene, area: &Area, text: &str, level: f64, points: &[Point]) {
    const HEIGHT: f64 = 14.0;
    let length = f64::from(width(text));
    let mut best = (f64::NEG_INFINITY, 0.0, 0.0);
    for left in [area.right - length - 6.0, area.left + 6.0] {
        for foot in [level - 5.0, level + HEIGHT + 1.0] {
            if foot - HEIGHT < area.top || foot + 2.0 > area.bottom {
                continue;
            }
            let free = clearance((left, foot - HEIGHT), (left + length, foot + 2.0), points);
            if free > best.0 + 1.0 {
                best = (free, left, foot);
            }
        }
    }
    if best.0 > f64::NEG_INFINITY {
        scene.text(best.1 as u32, best.2 as u32, text, NEUTRAL);
    }
}

/// How far a box is from the lines between points.
fn clearance(low: Point, high: Point, points: &[Point]) -> f64 {
    const STEPS: u32 = 16;
    let between = points.windows(2).flat_map(|pair| {
        let (from, to) = (pair[0], pair[1]);
        (0..=STEPS).map(move |step| {
            let share = f64::from(step) / f64::from(STEPS);
            (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
        })
    });
    let distance = |(x, y): Point| {
        let across = (low.0 - x).max(x - high.0).max(0.0);
        let down = (low.1 - y).max(y - high.1).max(0.0);
        across.hypot(down)
    };
    between.chain(points.iter().copied()).map(distance).fold(1e9, f64::min)
}
