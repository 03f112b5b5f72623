//! What a figure is made of.

/// A colour, red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    pub const INK: Self = Self([0x22, 0x22, 0x22]);
    pub const FAINT: Self = Self([0x66, 0x66, 0x66]);
    pub const PAPER: Self = Self([0xff, 0xff, 0xff]);

    /// From nearly white at 0 to a deep blue at 1.
    pub fn scale(share: f64) -> Self {
        let (low, high) = ([0xf0, 0xf3, 0xf8], [0x0b, 0x3c, 0x7d]);
        // Small shares are the interesting ones.
        let share = share.clamp(0.0, 1.0).sqrt();
        let mix = |at: usize| (f64::from(low[at]) + (f64::from(high[at]) - f64::from(low[at])) * share).round() as u8;
        Self([mix(0), mix(1), mix(2)])
    }

    /// The colour of text on it.
    pub fn ink(self) -> Self {
        let bright = u32::from(self.0[0]) + u32::from(self.0[1]) + u32::from(self.0[2]) > 3 * 140;
        if bright { Self::INK } else { Self::PAPER }
    }
}

/// A shape. Text stands on the line `y`, from `x` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    Rectangle { x: u32, y: u32, width: u32, height: u32, colour: Colour },
    Text { x: u32, y: u32, text: String, colour: Colour },
}

/// Width of a character.
pub const CHARACTER: u32 = 8;

/// Shapes on paper, the first ones below.
#[derive(Debug)]
pub struct Scene {
    pub width: u32,
    pub height: u32,
    pub shapes: Vec<Shape>,
}

impl Scene {
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub fn rectangle(&mut self, x: u32, y: u32, width: u32, height: u32, colour: Colour) {
        self.shapes.push(Shape::Rectangle { x, y, width, height, colour });
    }

    pub fn text(&mut self, x: u32, y: u32, text: &str, colour: Colour) {
        self.shapes.push(Shape::Text { x, y, text: text.to_owned(), colour });
    }

    pub fn text_centered(&mut self, x: u32, y: u32, text: &str, colour: Colour) {
        let half = text.chars().count() as u32 * CHARACTER / 2;
        self.text(x.saturating_sub(half), y, text, colour);
    }
}
