//! A scene as SVG.

use super::scene::{CHARACTER, Colour, Scene, Shape};
use std::fmt::Write;

pub fn write(scene: &Scene) -> String {
    let (width, height) = (scene.width, scene.height);
    let mut out = String::new();
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="monospace" font-size="13">"#
    );
    let _ = writeln!(out, r#"<rect width="{width}" height="{height}" fill="{}"/>"#, hex(Colour::PAPER));
    for shape in &scene.shapes {
        let _ = match shape {
            Shape::Rectangle { x, y, width, height, colour } => {
                writeln!(out, r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{}"/>"#, hex(*colour))
            }
            // The length keeps columns in place whatever font is there.
            Shape::Text { x, y, text, colour } => writeln!(
                out,
                r#"<text x="{x}" y="{y}" textLength="{}" fill="{}">{}</text>"#,
                text.chars().count() as u32 * CHARACTER,
                hex(*colour),
                escaped(text)
            ),
        };
    }
    out.push_str("</svg>\n");
    out
}

fn hex(Colour([red, green, blue]): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
