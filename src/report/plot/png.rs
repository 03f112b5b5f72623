//! A scene as PNG, two pixels for each unit, text in an 8 x 8 bitmap font of double height.

use super::raster::Canvas;
use super::scene::{CHARACTER, Colour, Scene, Shape};
use font8x8::UnicodeFonts;

const SCALE: u32 = 2;

/// Draws one character in a box of 8 x 10 units with its foot on the line `y`.
fn character(canvas: &mut Canvas, x: u32, y: u32, character: char, colour: Colour) {
    const DOT: (u32, u32) = (SCALE, SCALE + SCALE / 2);
    let rows = font8x8::BASIC_FONTS.get(character).unwrap_or_default();
    let top = (y * SCALE).saturating_sub(7 * DOT.1);
    for (row, bits) in (0u32..).zip(rows) {
        for column in (0..CHARACTER).filter(|column| bits >> column & 1 == 1) {
            canvas.fill(x * SCALE + column * DOT.0, top + row * DOT.1, DOT.0, DOT.1, colour);
        }
    }
}

pub fn write(scene: &Scene) -> Vec<u8> {
    let (width, height) = (scene.width * SCALE, scene.height * SCALE);
    let mut canvas = Canvas::new(width, height);
    let scale = f64::from(SCALE);
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle { x, y, width, height, colour } => {
                canvas.fill(x * SCALE, y * SCALE, width * SCALE, height * SCALE, *colour);
            }
            Shape::Text { x, y, text, colour } => {
                for (at, letter) in (0u32..).zip(text.chars()) {
                    character(&mut canvas, x + at * CHARACTER, *y, letter, *colour);
                }
            }
            Shape::Line { points, stroke } => canvas.line(points, scale, *stroke),
            Shape::Disc { center, radius, colour } => {
                let center = (center.0 * scale, center.1 * scale);
                canvas.capsule(center, center, radius * scale, *colour);
            }
            Shape::Area { points, colour, opacity } => canvas.area(points, scale, *colour, *opacity),
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(canvas.pixels()));
    if let Err(error) = written {
        unreachable!("memory takes every byte, and the pixels are as many as the header says: {error}");
    }
    out
}
