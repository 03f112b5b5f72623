//! A panel of a figure: a curve over its axes, and marks beside it.

use super::axis::{Axis, Scale, Tick};
use super::scene::{CHARACTER, Colour, Point, Scene, Stroke, width};

/// The size of a panel.
pub const SIZE: (u32, u32) = (368, 268);
/// Around the plot: left, top, right, bottom.
const AROUND: (u32, u32, u32, u32) = (72, 44, 16, 52);
/// The width of a slot beside the curve.
const SLOT: u32 = 44;

const CURVE: Colour = Colour([0x0b, 0x3c, 0x7d]);
const NEUTRAL: Colour = Colour([0xb3, 0x54, 0x1e]);
const GRID: Colour = Colour([0xe8, 0xe8, 0xe8]);
const FRAME: Colour = Colour([0x99, 0x99, 0x99]);

/// A score of one model.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    pub y: f64,
    pub interval: Option<(f64, f64)>,
}

impl Mark {
    /// The values that its drawing covers.
    fn values(self) -> impl Iterator<Item = f64> {
        let (low, high) = self.interval.unwrap_or((self.y, self.y));
        [self.y, low, high].into_iter()
    }
}

/// A score of all models.
pub struct Panel {
    pub title: String,
    pub subtitle: String,
    pub neutral: Option<f64>,
    pub scale: Scale,
    /// By alpha, which is 0 for the unedited model.
    pub curve: Vec<(f64, Mark)>,
    /// Edits without alpha.
    pub beside: Vec<(String, Mark)>,
    /// Models of which the score is not a finite number.
    pub lost: Vec<String>,
}

impl Panel {
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.curve.iter().map(|(_, mark)| *mark).chain(self.beside.iter().map(|(_, mark)| *mark))
    }
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

/// Draws a panel whose corner is at `left` and `top`.
pub fn draw(panel: &Panel, scene: &mut Scene, left: u32, top: u32) {
    let most = ((SIZE.0 - AROUND.2) / CHARACTER) as usize;
    scene.text(left, top + 14, &shortened(&panel.title, most), Colour::INK);
    scene.text(left, top + 32, &shortened(&panel.subtitle, most), Colour::FAINT);
    let area = Area {
        left: f64::from(left + AROUND.0),
        top: f64::from(top + AROUND.1),
        right: f64::from(left + SIZE.0 - AROUND.2),
        bottom: f64::from(top + SIZE.1 - AROUND.3),
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
        for Tick { value, label } in fitting(x, end - area.left, &panel.curve) {
            let along = x.at(value);
            scene.line(vec![(along, area.top), (along, area.bottom)], stroke(GRID, 1.0));
            scene.text_centered(along.round() as u32, foot, &label, Colour::INK);
        }
    }
    let name = match (panel.curve.is_empty(), panel.lost.is_empty()) {
        (true, true) => String::new(),
        (false, true) => "alpha".to_owned(),
        (_, false) => format!("alpha; not finite: {}", panel.lost.join(", ")),
    };
    let most = (area.right - area.left) / f64::from(CHARACTER);
    let middle = if panel.lost.is_empty() { (area.left + end) / 2.0 } else { (area.left + area.right) / 2.0 };
    scene.text_centered(middle as u32, foot + 18, &shortened(&name, most as usize), Colour::FAINT);
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

/// As many round numbers as there is room for; a lone alpha itself.
fn fitting(axis: &Axis, length: f64, curve: &[(f64, Mark)]) -> Vec<Tick> {
    if let [(alpha, _)] = curve {
        return vec![Tick { value: *alpha, label: alpha.to_string() }];
    }
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

/// A line with its middle left out, if it is longer than `most` characters.
pub fn shortened(line: &str, most: usize) -> String {
    let characters: Vec<char> = line.chars().collect();
    if characters.len() <= most {
        return line.to_owned();
    }
    let kept = most.saturating_sub(3);
    let (start, end) = (&characters[..kept / 3], &characters[characters.len() - (kept - kept / 3)..]);
    start.iter().chain(&['.'; 3]).chain(end).collect()
}
