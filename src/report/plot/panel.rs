//! A panel of a figure: curves over shared axes, and slots beside them for models without a value on the x axis.

use super::axis::{Axis, Scale, Tick};
use super::scene::{CHARACTER, Colour, Point, Scene, Stroke, width};

/// The size of a panel without a legend.
pub const SIZE: (u32, u32) = (368, 268);
/// Margins of the plot: left, top, right, bottom.
const AROUND: (u32, u32, u32, u32) = (72, 44, 16, 52);
/// The width of a slot beside the curves.
const SLOT: u32 = 44;
/// The height of a line of the legend.
const LINE: u32 = 18;

/// A score of one model, or the mean over several.
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

/// The shape of a series' markers. Series differ in shape and in colour, for readers who cannot tell the colours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    Disc,
    Square,
    Triangle,
}

/// The scores of models that share a line.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    pub colour: Colour,
    pub marker: Marker,
    /// Pairs of x and score, in the order in which they are joined: by ascending x, if there are intervals.
    pub curve: Vec<(f64, Mark)>,
    /// Pairs of the index of a slot and a score.
    pub in_slots: Vec<(usize, Mark)>,
}

impl Series {
    pub fn new(name: &str, colour: Colour, marker: Marker) -> Self {
        Self { name: name.to_owned(), colour, marker, curve: Vec::new(), in_slots: Vec::new() }
    }

    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.curve.iter().map(|(_, mark)| *mark).chain(self.in_slots.iter().map(|(_, mark)| *mark))
    }
}

/// A score of all models.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub subtitle: String,
    /// The label of the x axis.
    pub x_label: &'static str,
    pub x_scale: Scale,
    /// The x of the unedited model, which is marked with a ring.
    pub unedited_x: Option<f64>,
    pub neutral: Option<f64>,
    /// The score of the unedited model, drawn as a level line where it has no x.
    pub unedited_level: Option<f64>,
    pub y_scale: Scale,
    /// The series. Later ones cover earlier ones.
    pub series: Vec<Series>,
    /// Names of slots beside the curves.
    pub slots: Vec<String>,
    /// Names of models whose score is not finite.
    pub not_finite: Vec<String>,
}

impl Panel {
    pub fn marks(&self) -> impl Iterator<Item = Mark> {
        self.series.iter().flat_map(Series::marks)
    }

    /// Makes the y axis logarithmic if the scores have no neutral value and differ by more than a factor of ten, as perplexities do.
    pub fn choose_y_scale(&mut self) {
        let values = self.marks().map(|mark| mark.y);
        let (low, high) = values.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), y| (low.min(y), high.max(y)));
        if self.neutral.is_none() && low > 0.0 && high > 10.0 * low {
            self.y_scale = Scale::Logarithmic;
            self.subtitle.push_str(", logarithmic");
        }
    }

    fn has_curves(&self) -> bool {
        self.series.iter().any(|series| !series.curve.is_empty())
    }

    /// The height, with the legend if there are several series.
    pub fn height(&self) -> u32 {
        SIZE.1 + LINE * self.legend().len() as u32
    }

    /// The indices of the series in each line of the legend.
    fn legend(&self) -> Vec<Vec<usize>> {
        if self.series.len() < 2 {
            return Vec::new();
        }
        let (mut lines, mut used) = (vec![Vec::new()], 0);
        // The last ones are on top, in the plot and here.
        for (at, series) in self.series.iter().enumerate().rev() {
            let needed = legend_width(series);
            if used > 0 && used + needed > SIZE.0 - AROUND.2 {
                lines.push(Vec::new());
                used = 0;
            }
            used += needed;
            if let Some(line) = lines.last_mut() {
                line.push(at);
            }
        }
        lines
    }
}

fn legend_width(series: &Series) -> u32 {
    width(&series.name) + 36
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

/// A mark's place and the ends of its interval on paper.
type Placed = (Point, Option<(f64, f64)>);

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
    let end = if panel.has_curves() { area.right - f64::from(SLOT) * panel.slots.len() as f64 } else { area.left };
    let curves = panel.series.iter().flat_map(|series| &series.curve);
    let x = Axis::new(curves.map(|(along, _)| *along), panel.x_scale, (area.left, end));
    let values = panel.marks().flat_map(Mark::values).chain(panel.neutral).chain(panel.unedited_level);
    let y = Axis::new(values, panel.y_scale, (area.bottom, area.top));

    frame(scene, &area, &x, &y, end, panel);
    let place = |along: f64, mark: &Mark| -> Placed {
        ((along, y.at(mark.y)), mark.interval.map(|(low, high)| (y.at(low), y.at(high))))
    };
    let drawn: Vec<(&Series, Vec<Placed>, Vec<Placed>)> = panel
        .series
        .iter()
        .enumerate()
        .map(|(at, series)| {
            // Marks of several series share a slot.
            let aside = 9.0 * (at as f64 - (panel.series.len() - 1) as f64 / 2.0);
            let slot = |at: usize| end + f64::from(SLOT) * (at as f64 + 0.5) + aside;
            let curve = series.curve.iter().map(|(along, mark)| place(x.at(*along), mark));
            let beside = series.in_slots.iter().map(|(at, mark)| place(slot(*at), mark));
            (series, curve.collect(), beside.collect())
        })
        .collect();
    for (series, curve, _) in &drawn {
        let band = band(curve);
        if band.len() > 1 {
            let above = band.iter().map(|(x, _, high)| (*x, *high));
            let below = band.iter().rev().map(|(x, low, _)| (*x, *low));
            scene.area(above.chain(below).collect(), series.colour, 0.15);
        }
    }
    if let Some(neutral) = panel.neutral {
        let level = y.at(neutral);
        let dashes = Stroke { colour: Colour::NEUTRAL, width: 1.25, dash: 5.0 };
        scene.line(vec![(area.left, level), (area.right, level)], dashes);
    }
    if let Some(level) = panel.unedited_level.map(|level| y.at(level)) {
        let dashes = Stroke { colour: Colour::FAINT, width: 1.25, dash: 3.0 };
        scene.line(vec![(area.left, level), (area.right, level)], dashes);
    }
    for (series, curve, beside) in &drawn {
        draw_series(scene, panel, series, curve, beside);
    }
    let points: Vec<Point> =
        drawn.iter().flat_map(|(_, curve, beside)| curve.iter().chain(beside)).map(|(point, _)| *point).collect();
    if let Some(neutral) = panel.neutral {
        label(scene, &area, &format!("neutral {neutral}"), y.at(neutral), &points);
    }
    for (at, line) in (0u32..).zip(panel.legend()) {
        let foot = top + SIZE.1 + LINE * at + 8;
        let mut left = left + 8;
        for series in line.into_iter().map(|at| &panel.series[at]) {
            let (from, level) = (f64::from(left), f64::from(foot) - 5.0);
            scene.line(vec![(from - 4.0, level), (from + 14.0, level)], stroke(series.colour, 2.0));
            mark(scene, series.marker, (from + 5.0, level), 3.5, series.colour);
            scene.text(left + 20, foot, &series.name, Colour::INK);
            left += legend_width(series);
        }
    }
}

fn band(curve: &[Placed]) -> Vec<(f64, f64, f64)> {
    curve.iter().filter_map(|(point, interval)| interval.map(|(low, high)| (point.0, low, high))).collect()
}

fn draw_series(scene: &mut Scene, panel: &Panel, series: &Series, curve: &[Placed], beside: &[Placed]) {
    scene.line(curve.iter().map(|(point, _)| *point).collect(), stroke(series.colour, 2.0));
    let alone = if band(curve).len() > 1 { &[][..] } else { curve };
    for ((x, _), interval) in alone.iter().chain(beside) {
        let Some((low, high)) = interval else { continue };
        scene.line(vec![(*x, *low), (*x, *high)], stroke(series.colour, 1.25));
        for end in [low, high] {
            scene.line(vec![(x - 4.0, *end), (x + 4.0, *end)], stroke(series.colour, 1.25));
        }
    }
    // Many markers would hide the line.
    let radius = if curve.len() > 16 { 2.0 } else { 3.5 };
    // The unedited model belongs to all series, so its ring has no series' colour.
    let unedited = if panel.series.len() > 1 { Colour::INK } else { series.colour };
    for ((along, _), (point, _)) in series.curve.iter().zip(curve) {
        if Some(*along) == panel.unedited_x {
            scene.disc(*point, 5.0, unedited);
            scene.disc(*point, 3.25, Colour::PAPER);
        } else {
            mark(scene, series.marker, *point, radius, series.colour);
        }
    }
    for (point, _) in beside {
        mark(scene, series.marker, *point, 3.5, series.colour);
    }
}

/// A mark whose area is about that of a disc.
fn mark(scene: &mut Scene, marker: Marker, (x, y): Point, radius: f64, colour: Colour) {
    let corners: &[Point] = match marker {
        Marker::Disc => return scene.disc((x, y), radius, colour),
        Marker::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        Marker::Triangle => &[(0.0, -1.35), (1.25, 0.85), (-1.25, 0.85)],
    };
    let points = corners.iter().map(|(across, down)| (x + radius * across, y + radius * down));
    scene.area(points.collect(), colour, 1.0);
}

/// The axes with their numbers, and the slots beside them.
fn frame(scene: &mut Scene, area: &Area, x: &Axis, y: &Axis, end: f64, panel: &Panel) {
    for Tick { value, label } in y.ticks(6) {
        let level = y.at(value);
        scene.line(vec![(area.left, level), (area.right, level)], stroke(Colour::GRID, 1.0));
        scene.text_before(area.left as u32 - 7, level.round() as u32 + 5, &label, Colour::INK);
    }
    let foot = area.bottom as u32 + 18;
    if panel.has_curves() {
        for Tick { value, label } in fitting(x, end - area.left, panel) {
            let along = x.at(value);
            scene.line(vec![(along, area.top), (along, area.bottom)], stroke(Colour::GRID, 1.0));
            scene.text_centered(along.round() as u32, foot, &label, Colour::INK);
        }
    }
    let name = match (panel.has_curves(), panel.not_finite.is_empty()) {
        (false, true) => String::new(),
        (true, true) => panel.x_label.to_owned(),
        (_, false) => format!("{}; not finite: {}", panel.x_label, panel.not_finite.join(", ")),
    };
    let most = (area.right - area.left) / f64::from(CHARACTER);
    let middle = if panel.not_finite.is_empty() { (area.left + end) / 2.0 } else { (area.left + area.right) / 2.0 };
    scene.text_centered(middle as u32, foot + 18, &shortened(&name, most as usize), Colour::FAINT);
    for (at, name) in panel.slots.iter().enumerate() {
        let along = end + f64::from(SLOT) * (at as f64 + 0.5);
        scene.line(vec![(along, area.top), (along, area.bottom)], stroke(Colour::GRID, 1.0));
        scene.text_centered(along.round() as u32, foot, name, Colour::INK);
    }
    if !panel.slots.is_empty() && panel.has_curves() {
        scene.line(vec![(end, area.top), (end, area.bottom)], stroke(Colour::FRAME, 1.0));
    }
    let corners = [
        (area.left, area.top),
        (area.right, area.top),
        (area.right, area.bottom),
        (area.left, area.bottom),
        (area.left, area.top),
    ];
    scene.line(corners.to_vec(), stroke(Colour::FRAME, 1.0));
}

/// As many round numbers as fit. If all values are equal, that value.
fn fitting(axis: &Axis, length: f64, panel: &Panel) -> Vec<Tick> {
    let mut along = panel.series.iter().flat_map(|series| &series.curve).map(|(along, _)| *along);
    if let Some(first) = along.next()
        && along.all(|other| other == first)
    {
        return vec![Tick { value: first, label: first.to_string() }];
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
    // A label that would cover a point is left out; the subtitle has the neutral value, too.
    if best.0 > 3.0 {
        scene.text(best.1 as u32, best.2 as u32, text, Colour::NEUTRAL);
    }
}

/// The distance of a box from the lines between points.
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
