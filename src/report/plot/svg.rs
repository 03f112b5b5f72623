//! A scene as SVG.

use super::scene::{Colour, Point, Scene, Shape, Stroke, width};
use crate::report::table::printable;
use std::fmt::Write;

/// A scene as an SVG file.
pub fn write(scene: &Scene) -> String {
    let (across, down) = (scene.width, scene.height);
    let start = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}" height="{down}" font-family="monospace" font-size="13">"#
    );
    drawing(&start, scene, hex)
}

/// A scene as an element of an HTML page, whose style sheet has the named colours. It fills the available width; `title` is its text for
/// screen readers.
#[cfg(feature = "verify")]
pub fn inline(scene: &Scene, title: &str) -> String {
    let (across, down) = (scene.width, scene.height);
    let title = escaped(title).replace('"', "&quot;");
    let start = format!(r#"<svg role="img" aria-label="{title}" viewBox="0 0 {across} {down}">"#);
    drawing(&start, scene, |colour| match colour.name() {
        Some(name) => format!("var(--{name})"),
        None => hex(colour),
    })
}

fn drawing(start: &str, scene: &Scene, paint: impl Fn(Colour) -> String) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{start}");
    let (across, down) = (scene.width, scene.height);
    let _ = writeln!(out, r#"<rect width="{across}" height="{down}" fill="{}"/>"#, paint(Colour::PAPER));
    for shape in &scene.shapes {
        let _ = match shape {
            Shape::Rectangle { x, y, width, height, colour } => {
                writeln!(out, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{}"/>"#, paint(*colour))
            }
            // `textLength` keeps columns aligned in any font.
            Shape::Text { x, y, text, colour } => writeln!(
                out,
                r#"<text x="{x}" y="{y}" textLength="{}" fill="{}">{}</text>"#,
                width(&printable(text)),
                paint(*colour),
                escaped(text)
            ),
            Shape::Line { points, stroke: Stroke { colour, width, dash } } => {
                let dashes = if *dash > 0.0 { format!(r#" stroke-dasharray="{dash}""#) } else { String::new() };
                writeln!(
                    out,
                    r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="{width}" stroke-linejoin="round"{dashes}/>"#,
                    list(points),
                    paint(*colour)
                )
            }
            Shape::Disc { center: (x, y), radius, colour } => {
                writeln!(out, r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" fill="{}"/>"#, paint(*colour))
            }
            Shape::Area { points, colour, opacity } => writeln!(
                out,
                r#"<polygon points="{}" fill="{}" fill-opacity="{opacity}"/>"#,
                list(points),
                paint(*colour)
            ),
        };
    }
    out.push_str("</svg>\n");
    out
}

fn list(points: &[Point]) -> String {
    let mut out = String::new();
    for (x, y) in points {
        let gap = if out.is_empty() { "" } else { " " };
        let _ = write!(out, "{gap}{x:.2},{y:.2}");
    }
    out
}

fn hex(Colour([red, green, blue]): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
