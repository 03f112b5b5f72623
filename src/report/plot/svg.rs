//! A scene as SVG.

use super::scene::{Colour, Point, Scene, Shape, Stroke, width};
use std::fmt::Write;

pub fn write(scene: &Scene) -> String {
    let (across, down) = (scene.width, scene.height);
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}" height="{down}" font-family="monospace" font-size="13">"#
    );
    let _ = writeln!(out, r#"<rect width="{across}" height="{down}" fill="{}"/>"#, hex(Colour::PAPER));
    for shape in &scene.shapes {
        let _ = match shape {
            Shape::Rectangle { x, y, width, height, colour } => {
                writeln!(out, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{}"/>"#, hex(*colour))
            }
            // The length keeps columns in place whatever font is there.
            Shape::Text { x, y, text, colour } => writeln!(
                out,
                r#"<text x="{x}" y="{y}" textLength="{}" fill="{}">{}</text>"#,
                width(text),
                hex(*colour),
                escaped(text)
            ),
            Shape::Line { points, stroke: Stroke { colour, width, dash } } => {
                let dashes = if *dash > 0.0 { format!(r#" stroke-dasharray="{dash}""#) } else { String::new() };
                writeln!(
                    out,
                    r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="{width}" stroke-linejoin="round"{dashes}/>"#,
                    list(points),
                    hex(*colour)
                )
            }
            Shape::Disc { center: (x, y), radius, colour } => {
                writeln!(out, r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" fill="{}"/>"#, hex(*colour))
            }
            Shape::Area { points, colour, opacity } => writeln!(
                out,
                r#"<polygon points="{}" fill="{}" fill-opacity="{opacity}"/>"#,
                list(points),
                hex(*colour)
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
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
