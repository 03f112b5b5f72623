//! Figures: the share of each component's weights that is selected, by layer (the paper's figure 3), and scores against alpha.
//!
//! One scene of shapes and text, written as SVG.

#[cfg(feature = "verify")]
pub(super) mod axis;
#[cfg(feature = "verify")]
pub(super) mod panel;
// Only figures of measured scores have curves.
#[cfg_attr(not(feature = "verify"), allow(dead_code))]
pub(super) mod scene;
mod svg;
#[cfg(feature = "verify")]
pub(super) mod sweep;
#[cfg(feature = "verify")]
mod text;

#[cfg(feature = "verify")]
pub use sweep::{sweep, sweep_lines};
#[cfg(feature = "verify")]
pub use text::Characters;

use super::Stat;
use super::table::percent;
use crate::words::counted;
use scene::{Colour, Scene};

/// The size and the style of a figure of a selection.
struct Form {
    cell: (u32, u32),
    labels: u32,
    head: u32,
    /// Whether it is a file of its own, with a title.
    alone: bool,
}

const SHEET: Form = Form { cell: (104, 24), labels: 88, head: 76, alone: true };
/// In a page, small enough for a phone.
#[cfg(feature = "verify")]
const PART: Form = Form { cell: (60, 22), labels: 72, head: 28, alone: false };
const MARGIN: u32 = 16;
/// The most rows, since a patch may claim any number of layers.
const ROWS_MAX: usize = 200;

/// Draws the figure for a patch, as SVG.
pub fn selection(stat: &Stat) -> String {
    svg::write(&scene(stat, &SHEET, darkest(stat)))
}

/// The figure for a patch as an element of a page. `darkest` is the share with the darkest colour.
#[cfg(feature = "verify")]
pub(super) fn selection_part(stat: &Stat, darkest: f64, title: &str) -> String {
    svg::inline(&scene(stat, &PART, darkest), title)
}

/// The largest share of a component's weights in a layer.
pub(super) fn darkest(stat: &Stat) -> f64 {
    stat.cells.iter().map(|cell| ratio(cell.selected, cell.elements)).fold(0.0, f64::max)
}

fn ratio(selected: u64, elements: u64) -> f64 {
    selected as f64 / elements.max(1) as f64
}

/// A panel as an element of a page.
#[cfg(feature = "verify")]
pub(super) fn panel_part(panel: &panel::Panel, title: &str) -> String {
    let mut scene = Scene::new(panel::SIZE.0, panel.height());
    panel::draw(panel, &mut scene, 0, 0);
    svg::inline(&scene, title)
}

fn scene(stat: &Stat, form: &Form, darkest: f64) -> Scene {
    let cell = form.cell;
    let columns: Vec<&str> = stat.components.iter().map(|row| row.label.as_str()).collect();
    let rows: Vec<&str> = stat.layers.iter().map(|row| row.label.as_str()).collect();
    let shown = &rows[..rows.len().min(ROWS_MAX)];
    let width = MARGIN * 2 + form.labels + cell.0 * columns.len() as u32;
    let height = form.head + cell.1 * (shown.len() as u32 + 1) + 76;
    let mut scene = Scene::new(width.max(if form.alone { 560 } else { 360 }), height);
    if form.alone {
        scene.text(MARGIN, 24, "Selected weights by layer and component", Colour::INK);
        let id = stat.id.get(..12).unwrap_or(&stat.id);
        let share = percent(stat.selected, stat.base_elements);
        let line = format!("patch {id}: {}, {share} of the base's", counted(stat.selected, "weight"));
        scene.text(MARGIN, 42, &line, Colour::FAINT);
    }
    let (left, top) = (MARGIN + form.labels, form.head);
    for (column, label) in columns.iter().enumerate() {
        let label = short(label, form);
        scene.text_centered(left + cell.0 * column as u32 + cell.0 / 2, top - 8, label, Colour::INK);
    }
    for (row, layer) in shown.iter().enumerate() {
        let y = top + cell.1 * row as u32;
        let name = if *layer == "-" { "other".to_owned() } else { format!("layer {layer}") };
        scene.text(MARGIN, y + 16, &name, Colour::INK);
        for (column, component) in columns.iter().enumerate() {
            let x = left + cell.0 * column as u32;
            let place = stat.cells.iter().find(|cell| cell.layer == *layer && cell.component == *component);
            let share = place.map(|place| ratio(place.selected, place.elements));
            let colour = Colour::scale(share.map_or(0.0, |share| share / darkest.max(f64::MIN_POSITIVE)));
            scene.rectangle(x + 1, y + 1, cell.0 - 2, cell.1 - 2, colour);
            if let Some(place) = place {
                let text = share_text(place.selected, place.elements, form);
                scene.text_centered(x + cell.0 / 2, y + 16, &text, colour.ink());
            }
        }
    }
    let y = top + cell.1 * shown.len() as u32;
    scene.text(MARGIN, y + 20, "all", Colour::INK);
    for (column, component) in stat.components.iter().enumerate() {
        let text = share_text(component.selected, component.elements, form);
        scene.text_centered(left + cell.0 * column as u32 + cell.0 / 2, y + 20, &text, Colour::INK);
    }
    legend(&mut scene, left, y + cell.1 + 22, darkest);
    if rows.len() > shown.len() {
        let text = format!("not shown: {}", counted(rows.len() - shown.len(), "more layer"));
        scene.text(MARGIN, y + cell.1 + 66, &text, Colour::FAINT);
    }
    scene
}

/// A share with three digits at most, in percent.
fn share_text(selected: u64, elements: u64, form: &Form) -> String {
    let percent = ratio(selected, elements) * 100.0;
    let number = match percent {
        0.0 => "0".to_owned(),
        ..0.01 => "<0.01".to_owned(),
        ..9.995 => format!("{percent:.2}"),
        ..99.95 => format!("{percent:.1}"),
        _ => format!("{percent:.0}"),
    };
    if form.alone { format!("{number} %") } else { number }
}

fn legend(scene: &mut Scene, left: u32, y: u32, darkest: f64) {
    const STEPS: u32 = 20;
    for step in 0..STEPS {
        scene.rectangle(left + 12 * step, y, 12, 12, Colour::scale(f64::from(step) / f64::from(STEPS - 1)));
    }
    scene.text(left, y + 28, "0 %", Colour::FAINT);
    let most = percent((darkest * 1e9) as u64, 1_000_000_000);
    scene.text(left + 12 * STEPS - 48, y + 28, &most, Colour::FAINT);
}

/// Abbreviates a component for the head of a narrow column.
fn short<'a>(component: &'a str, form: &Form) -> &'a str {
    match component.strip_prefix("attention.") {
        Some("output") if form.alone => "att. out",
        Some("output") => "att.out",
        Some(part) => part,
        None if !form.alone && component == "intermediate" => "interm.",
        None => component,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Row};

    fn stat(layers: usize) -> Stat {
        let row = |label: String| Row { label, selected: 5, elements: 100, mean_delta: None, max_delta: None };
        let layer = |index: usize| index.to_string();
        Stat {
            id: "0123456789abcdef".to_owned(),
            file_bytes: 1,
            header_bytes: 1,
            base_elements: 1000,
            base_bytes: 1,
            selected: 5,
            components: vec![row("attention.output".to_owned()), row("output".to_owned())],
            layers: (0..layers).map(|index| row(layer(index))).collect(),
            cells: (0..layers)
                .map(|i| Cell { layer: layer(i), component: "output".to_owned(), selected: i as u64, elements: 100 })
                .collect(),
            tensors: Vec::new(),
        }
    }

    #[test]
    fn the_svg_has_every_label() {
        let text = selection(&stat(3));
        for label in ["att. out", "output", "layer 0", "layer 2", "2.00 %", "0123456789ab"] {
            assert!(text.contains(label), "{label}");
        }
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn a_cell_has_three_digits_at_most() {
        let share = |selected, elements| share_text(selected, elements, &SHEET);
        let shares = [(0, 9), (1, 100_000), (1, 8000), (1, 70), (1, 7), (1000, 10_001), (99_999, 100_000), (5, 5)];
        let shown = shares.map(|(selected, elements)| share(selected, elements));
        assert_eq!(shown, ["0 %", "<0.01 %", "0.01 %", "1.43 %", "14.3 %", "10.0 %", "100 %", "100 %"]);
    }

    #[test]
    fn thousands_of_layers_make_no_giant() {
        let scene = scene(&stat(5000), &SHEET, 1.0);
        assert!(scene.height < 6000);
        assert!(svg::write(&scene).contains("not shown: 4,800 more layers"));
        assert!(selection(&stat(0)).ends_with("</svg>\n"));
    }
}
