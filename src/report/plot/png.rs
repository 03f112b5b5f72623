//! A scene as PNG, two pixels for each unit, text in an 8 x 8 bitmap font of double height.

use super::scene::{CHARACTER, Colour, Scene, Shape};
use font8x8::UnicodeFonts;

const SCALE: u32 = 2;

struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, Colour(colour): Colour) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = 3 * (row * self.width + column) as usize;
                self.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// Draws one character in a box of 8 x 10 units with its foot on the line `y`.
    fn character(&mut self, x: u32, y: u32, character: char, colour: Colour) {
        const DOT: (u32, u32) = (SCALE, SCALE + SCALE / 2);
        let rows = font8x8::BASIC_FONTS.get(character).unwrap_or_default();
        let top = (y * SCALE).saturating_sub(7 * DOT.1);
        for (row, bits) in (0u32..).zip(rows) {
            for column in (0..CHARACTER).filter(|column| bits >> column & 1 == 1) {
                self.fill(x * SCALE + column * DOT.0, top + row * DOT.1, DOT.0, DOT.1, colour);
            }
        }
    }
}

pub fn write(scene: &Scene) -> Vec<u8> {
    let (width, height) = (scene.width * SCALE, scene.height * SCALE);
    let mut canvas = Canvas { width, height, pixels: vec![0xff; (3 * width * height) as usize] };
    for shape in &scene.shapes {
        match shape {
            Shape::Rectangle { x, y, width, height, colour } => {
                canvas.fill(x * SCALE, y * SCALE, width * SCALE, height * SCALE, *colour);
            }
            Shape::Text { x, y, text, colour } => {
                for (at, character) in (0u32..).zip(text.chars()) {
                    canvas.character(x + at * CHARACTER, *y, character, *colour);
                }
            }
        }
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&canvas.pixels));
    if let Err(error) = written {
        unreachable!("memory takes every byte, and the pixels are as many as the header says: {error}");
    }
    out
}
