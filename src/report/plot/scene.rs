//! The shapes of a figure.

/// A colour, red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    pub const INK: Self = Self([0x22, 0x22, 0x22]);
    pub const FAINT: Self = Self([0x66, 0x66, 0x66]);
    pub const PAPER: Self = Self([0xff, 0xff, 0xff]);
    pub const GRID: Self = Self([0xe8, 0xe8, 0xe8]);
    pub const FRAME: Self = Self([0x99, 0x99, 0x99]);
    /// Of the line of the neutral value.
    pub const NEUTRAL: Self = Self([0xb3, 0x54, 0x1e]);
    // Colours of series: a blue and a green that people with red-green colour blindness can tell apart.
    pub const BLUE: Self = Self([0x0b, 0x4f, 0x9e]);
    pub const GREEN: Self = Self([0x00, 0x9e, 0x73]);
    pub const GREY: Self = Self([0x80, 0x80, 0x80]);

    /// The name of the colour in the style sheet of a page, which has another value in dark mode.
    pub fn name(self) -> Option<&'static str> {
        let named = [
            (Self::INK, "ink"),
            (Self::FAINT, "faint"),
            (Self::PAPER, "paper"),
            (Self::GRID, "grid"),
            (Self::FRAME, "frame"),
            (Self::NEUTRAL, "neutral"),
            (Self::BLUE, "blue"),
            (Self::GREEN, "green"),
            (Self::GREY, "grey"),
        ];
        named.into_iter().find(|(colour, _)| *colour == self).map(|(_, name)| name)
    }

    /// From nearly white at 0 to a deep blue at 1.
    pub fn scale(share: f64) -> Self {
        let (low, high) = ([0xf0, 0xf3, 0xf8], [0x0b, 0x3c, 0x7d]);
        // Small shares get most of the range.
        let share = share.clamp(0.0, 1.0).sqrt();
        let mix = |at: usize| (f64::from(low[at]) + (f64::from(high[at]) - f64::from(low[at])) * share).round() as u8;
        Self([mix(0), mix(1), mix(2)])
    }

    /// The colour of text on it.
    pub fn ink(self) -> Self {
        let bright = u32::from(self.0[0]) + u32::from(self.0[1]) + u32::from(self.0[2]) > 3 * 140;
        if bright { Self([0x20, 0x20, 0x20]) } else { Self([0xfd, 0xfd, 0xfd]) }
    }
}

/// A point: x to the right, y down.
pub type Point = (f64, f64);

/// The style of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stroke {
    pub colour: Colour,
    pub width: f64,
    /// The length of dashes and of the gaps between them; 0 for none.
    pub dash: f64,
}

/// A shape. `x` and `y` of a text are the start of its baseline.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Rectangle {
        x: u32,
        y: u32,
        width: u32,
        height: u32,
        colour: Colour,
    },
    Text {
        x: u32,
        y: u32,
        text: String,
        colour: Colour,
    },
    Line {
        points: Vec<Point>,
        stroke: Stroke,
    },
    Disc {
        center: Point,
        radius: f64,
        colour: Colour,
    },
    /// A partly transparent area.
    Area {
        points: Vec<Point>,
        colour: Colour,
        opacity: f64,
    },
}

/// Width of a character.
pub const CHARACTER: u32 = 8;

/// Shapes. Later ones cover earlier ones.
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
        self.text(x.saturating_sub(width(text) / 2), y, text, colour);
    }

    /// Text that ends at `x`.
    pub fn text_before(&mut self, x: u32, y: u32, text: &str, colour: Colour) {
        self.text(x.saturating_sub(width(text)), y, text, colour);
    }

    pub fn line(&mut self, points: Vec<Point>, stroke: Stroke) {
        self.shapes.push(Shape::Line { points, stroke });
    }

    pub fn disc(&mut self, center: Point, radius: f64, colour: Colour) {
        self.shapes.push(Shape::Disc { center, radius, colour });
    }

    pub fn area(&mut self, points: Vec<Point>, colour: Colour, opacity: f64) {
        self.shapes.push(Shape::Area { points, colour, opacity });
    }
}

/// The width of a text.
pub fn width(text: &str) -> u32 {
    text.chars().count() as u32 * CHARACTER
}
