//! A panel in characters, for a terminal.

use super::axis::{Axis, Tick};
use super::panel::{Marker, Panel, Series};

/// The characters of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Characters {
    /// Lines and dots of Unicode.
    Unicode,
    /// Letters and signs that every terminal has.
    Ascii,
}

/// Columns and rows of the plot, without axes and labels.
const SIZE: (usize, usize) = (61, 13);

struct Signs {
    line: char,
    level: char,
    ring: char,
    disc: char,
    square: char,
    triangle: char,
    /// The axes: along, upwards, where they meet, and their ticks.
    along: char,
    upwards: char,
    corner: char,
    tick_along: char,
    tick_upwards: char,
}

const UNICODE: Signs = Signs {
    line: '·',
    level: '╌',
    ring: '○',
    disc: '●',
    square: '■',
    triangle: '▲',
    along: '─',
    upwards: '│',
    corner: '└',
    tick_along: '┬',
    tick_upwards: '┤',
};

const ASCII: Signs = Signs {
    line: '.',
    level: '-',
    ring: '0',
    disc: 'o',
    square: '#',
    triangle: '^',
    along: '-',
    upwards: '|',
    corner: '+',
    tick_along: '+',
    tick_upwards: '+',
};

impl Signs {
    fn of(characters: Characters) -> &'static Self {
        match characters {
            Characters::Unicode => &UNICODE,
            Characters::Ascii => &ASCII,
        }
    }

    fn marker(&self, marker: Marker) -> char {
        match marker {
            Marker::Disc => self.disc,
            Marker::Square => self.square,
            Marker::Triangle => self.triangle,
        }
    }
}

/// Draws a panel. Intervals are left out, since many are smaller than a line of text.
pub fn draw(panel: &Panel, characters: Characters) -> Vec<String> {
    let signs = Signs::of(characters);
    let mut out = vec![format!("{}: {}", panel.title, panel.subtitle)];
    if panel.series.iter().any(|series| !series.curve.is_empty()) {
        out.extend(plot(panel, signs));
    }
    for series in panel.series.iter().filter(|series| !series.in_slots.is_empty()) {
        let mark = |(slot, mark): &(usize, super::panel::Mark)| {
            let name = panel.slots.get(*slot).map_or("", String::as_str);
            format!("{name} {:.*}", decimals(mark.y), mark.y)
        };
        let marks: Vec<String> = series.in_slots.iter().map(mark).collect();
        let name = if series.name.is_empty() { "beside the curve" } else { &series.name };
        out.push(format!("{name}: {}", marks.join(", ")));
    }
    if !panel.not_finite.is_empty() {
        out.push(format!("not finite: {}", panel.not_finite.join(", ")));
    }
    out
}

/// The decimals for three significant digits.
fn decimals(value: f64) -> usize {
    if value.abs() >= 1.0 { (2 - value.abs().log10().floor() as i32).max(0) as usize } else { 3 }
}

fn plot(panel: &Panel, signs: &Signs) -> Vec<String> {
    let (columns, rows) = SIZE;
    let curves = || panel.series.iter().flat_map(|series| &series.curve);
    let x = Axis::new(curves().map(|(along, _)| *along), panel.x_scale, (0.0, (columns - 1) as f64));
    let values = curves().map(|(_, mark)| mark.y).chain(panel.neutral).chain(panel.unedited_level);
    let y = Axis::new(values, panel.y_scale, ((rows - 1) as f64, 0.0));
    let mut cells = vec![vec![' '; columns]; rows];
    for level in panel.neutral.into_iter().chain(panel.unedited_level) {
        cells[y.at(level).round() as usize].fill(signs.level);
    }
    let at = |(along, value): (f64, f64)| (x.at(along).round() as usize, y.at(value).round() as usize);
    let points = |series: &Series| series.curve.iter().map(|(along, mark)| at((*along, mark.y))).collect::<Vec<_>>();
    for series in &panel.series {
        for pair in points(series).windows(2) {
            for (column, row) in between(pair[0], pair[1]) {
                cells[row][column] = signs.line;
            }
        }
    }
    for series in &panel.series {
        for (column, row) in points(series) {
            cells[row][column] = signs.marker(series.marker);
        }
    }
    let mut unedited = false;
    for (along, mark) in curves().filter(|(along, _)| Some(*along) == panel.unedited_x) {
        let (column, row) = at((*along, mark.y));
        cells[row][column] = signs.ring;
        unedited = true;
    }
    let mut out = framed(cells, &x, &y, panel.x_label, signs);
    let mut key: Vec<String> = panel
        .series
        .iter()
        .rev()
        .filter(|series| panel.series.len() > 1 && !series.curve.is_empty())
        .map(|series| format!("{} {}", signs.marker(series.marker), series.name))
        .collect();
    key.extend(unedited.then(|| format!("{} unedited", signs.ring)));
    key.extend(panel.neutral.map(|neutral| format!("{0}{0} neutral: {neutral}", signs.level)));
    out.extend((!key.is_empty()).then(|| format!("  {}", key.join("   "))));
    out
}

/// The cells on the way from one cell to another.
fn between(from: (usize, usize), to: (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
    let part = move |from: usize, to: usize, step: usize| {
        let share = step as f64 / steps as f64;
        (from as f64 + share * (to as f64 - from as f64)).round() as usize
    };
    (0..=steps).map(move |step| (part(from.0, to.0, step), part(from.1, to.1, step)))
}

/// The cells with both axes and their numbers.
fn framed(cells: Vec<Vec<char>>, x: &Axis, y: &Axis, along: &str, signs: &Signs) -> Vec<String> {
    let upwards = y.ticks(5);
    let margin = upwards.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0);
    let mut out = Vec::new();
    for (row, cells) in cells.into_iter().enumerate() {
        let tick = upwards.iter().find(|tick| y.at(tick.value).round() as usize == row);
        let (label, axis) = tick.map_or(("", signs.upwards), |Tick { label, .. }| (label.as_str(), signs.tick_upwards));
        let line: String = cells.into_iter().collect();
        out.push(format!("{label:>margin$} {axis}{line}").trim_end().to_owned());
    }
    let (columns, _) = SIZE;
    let (mut axis, mut labels) = (vec![signs.along; columns], vec![' '; columns + 8]);
    for Tick { value, label } in fitting(x) {
        let column = x.at(value).round() as usize;
        axis[column] = signs.tick_along;
        // The number is below its tick, a minus sign to the left of it.
        let digits = label.trim_start_matches('-').chars().count();
        let left = (column + 1).saturating_sub((label.chars().count() - digits) + digits.div_ceil(2));
        for (at, character) in label.chars().enumerate() {
            labels[left + at] = character;
        }
    }
    let line = |characters: Vec<char>| characters.into_iter().collect::<String>().trim_end().to_owned();
    out.push(format!("{:>margin$} {}{}", "", signs.corner, line(axis)));
    out.push(format!("{:>margin$}  {}  {along}", "", line(labels)));
    out
}

/// As many round numbers as fit.
fn fitting(x: &Axis) -> Vec<Tick> {
    let room = |ticks: &Vec<Tick>| {
        let widest = ticks.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0);
        ticks.windows(2).all(|pair| x.at(pair[1].value) - x.at(pair[0].value) >= (widest + 2) as f64)
    };
    (2..=9).rev().map(|most| x.ticks(most)).find(room).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::axis::Scale;
    use super::super::panel::Mark;
    use super::super::scene::Colour;
    use super::*;

    fn series(name: &str, marker: Marker, curve: &[(f64, f64)]) -> Series {
        let mark = |&(along, y): &(f64, f64)| (along, Mark { y, interval: Some((y - 9.0, y + 9.0)) });
        Series { curve: curve.iter().map(mark).collect(), ..Series::new(name, Colour::BLUE, marker) }
    }

    fn panel(series: Vec<Series>) -> Panel {
        Panel {
            title: "crows.diff".to_owned(),
            subtitle: "nearer to 50 is better, n 240".to_owned(),
            x_label: "alpha",
            x_scale: Scale::Linear,
            unedited_x: Some(0.0),
            neutral: Some(50.0),
            unedited_level: None,
            y_scale: Scale::Linear,
            series,
            slots: Vec::new(),
            not_finite: Vec::new(),
        }
    }

    fn two() -> Panel {
        let random = series("random", Marker::Triangle, &[(-1.0, 91.0), (0.0, 90.0), (1.0, 89.0), (2.0, 88.0)]);
        let value = series("value", Marker::Disc, &[(-1.0, 99.0), (0.0, 90.0), (1.0, 48.0), (2.0, 10.0)]);
        panel(vec![random, value])
    }

    #[test]
    fn curves_are_drawn_over_shared_axes() {
        let expected = "\
crows.diff: nearer to 50 is better, n 240
    │
100 ┤   ●········
    │   ▲·················○·················▲·················▲
 80 ┤                       ····
    │                           ···
 60 ┤                              ····
    │                                  ····
    │╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌·●··╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌
 40 ┤                                          ····
    │                                              ·····
 20 ┤                                                   ····
    │                                                       ··●
    │
    └───┬────────┬────────┬────────┬────────┬────────┬────────┬───
      -1.0     -0.5      0.0      0.5      1.0      1.5      2.0  alpha
  ● value   ▲ random   ○ unedited   ╌╌ neutral: 50";
        assert_eq!(draw(&two(), Characters::Unicode).join("\n"), expected);
    }

    #[test]
    fn every_terminal_has_the_other_characters() {
        let text = draw(&two(), Characters::Ascii).join("\n");
        assert!(text.is_ascii());
        let expected = "\
crows.diff: nearer to 50 is better, n 240
    |
100 +   o........
    |   ^.................0.................^.................^
 80 +                       ....
    |                           ...
 60 +                              ....
    |                                  ....
    |--------------------------------------.o..-------------------
 40 +                                          ....
    |                                              .....
 20 +                                                   ....
    |                                                       ..o
    |
    +---+--------+--------+--------+--------+--------+--------+---
      -1.0     -0.5      0.0      0.5      1.0      1.5      2.0  alpha
  o value   ^ random   0 unedited   -- neutral: 50";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_has_no_place_along_the_axis_stands_below() {
        let mut beside = panel(vec![series("", Marker::Disc, &[])]);
        beside.series[0].in_slots =
            vec![(0, Mark { y: 48.25, interval: None }), (1, Mark { y: 0.125, interval: None })];
        beside.slots = vec!["pr".to_owned(), "sw".to_owned()];
        beside.not_finite = vec!["alpha 9".to_owned()];
        assert_eq!(
            draw(&beside, Characters::Unicode)[1..],
            ["beside the curve: pr 48.2, sw 0.125", "not finite: alpha 9"]
        );
    }

    #[test]
    fn one_point_and_huge_numbers_are_drawn() {
        for curve in [&[(0.0, 50.0)][..], &[(-1e300, 1e308), (1e300, -1e308)], &[(0.0, 1e-300), (1e-9, 2e-300)]] {
            let lines = draw(&panel(vec![series("value", Marker::Square, curve)]), Characters::Unicode);
            assert!(lines.iter().all(|line| line.chars().count() < 90), "{lines:?}");
            assert!(lines.iter().any(|line| line.contains(['■', '○'])), "{lines:?}");
        }
    }
}
