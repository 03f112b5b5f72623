//! Shapes as pixels, with smooth edges.

use super::scene::{Colour, Point, Stroke};

/// Pixels, white at first.
pub struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, pixels: vec![0xff; 3 * width as usize * height as usize] }
    }

    /// Red, green and blue of each pixel, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// A rectangle of whole pixels.
    pub fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, Colour(colour): Colour) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = 3 * (row as usize * self.width as usize + column as usize);
                self.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// Lays a colour over a pixel.
    fn blend(&mut self, column: u32, row: u32, Colour(colour): Colour, share: f64) {
        let at = 3 * (row as usize * self.width as usize + column as usize);
        if let Some(pixel) = self.pixels.get_mut(at..at + 3) {
            for (below, above) in pixel.iter_mut().zip(colour) {
                *below = (f64::from(*below) + (f64::from(above) - f64::from(*below)) * share).round() as u8;
            }
        }
    }

    /// Everything within `radius` of the stretch between two points: a line with round ends, or a disc where they are the same.
    pub fn capsule(&mut self, from: Point, to: Point, radius: f64, colour: Colour) {
        let columns = within(from.0.min(to.0) - radius, from.0.max(to.0) + radius, self.width);
        let rows = within(from.1.min(to.1) - radius, from.1.max(to.1) + radius, self.height);
        let (along_x, along_y) = (to.0 - from.0, to.1 - from.1);
        let squared = along_x * along_x + along_y * along_y;
        for row in rows {
            for column in columns.clone() {
                let (x, y) = (f64::from(column) + 0.5 - from.0, f64::from(row) + 0.5 - from.1);
                let share = if squared > 0.0 { ((x * along_x + y * along_y) / squared).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (x - share * along_x).hypot(y - share * along_y);
                // A pixel at the edge is covered in part.
                let covered = (radius + 0.5 - distance).clamp(0.0, 1.0);
                if covered > 0.0 {
                    self.blend(column, row, colour, covered);
                }
            }
        }
    }

    /// A line through `points`, in units of `scale` pixels.
    pub fn line(&mut self, points: &[Point], scale: f64, stroke: Stroke) {
        let radius = stroke.width * scale / 2.0;
        let points: Vec<Point> = points.iter().map(|(x, y)| (x * scale, y * scale)).collect();
        let pieces = points.windows(2).map(|pair| (pair[0], pair[1]));
        for (from, to) in pieces {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if stroke.dash <= 0.0 || length == 0.0 {
                self.capsule(from, to, radius, stroke.colour);
                continue;
            }
            let dash = stroke.dash * scale;
            let place = |along: f64| {
                let share = (along / length).min(1.0);
                (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
            };
            for start in (0..).map(|dashes| f64::from(dashes) * 2.0 * dash).take_while(|start| *start < length) {
                self.capsule(place(start), place(start + dash), radius, stroke.colour);
            }
        }
    }

    /// The area that `points`, in units of `scale` pixels, enclose.
    pub fn area(&mut self, points: &[Point], scale: f64, colour: Colour, opacity: f64) {
        /// Lines on which a row of pixels is looked at.
        const LINES: u32 = 4;
        let points: Vec<Point> = points.iter().map(|(x, y)| (x * scale, y * scale)).collect();
        let Some(last) = points.last().copied() else { return };
        let edges: Vec<(Point, Point)> =
            std::iter::once(last).chain(points.iter().copied()).zip(points.iter().copied()).collect();
        let (low, high) = points
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)));
        let mut covered = vec![0.0; self.width as usize];
        for row in within(low, high, self.height) {
            covered.fill(0.0);
            for line in 0..LINES {
                let y = f64::from(row) + (f64::from(line) + 0.5) / f64::from(LINES);
                let cross = |(from, to): &(Point, Point)| {
                    ((from.1 <= y) != (to.1 <= y)).then(|| from.0 + (y - from.1) / (to.1 - from.1) * (to.0 - from.0))
                };
                let mut crossings: Vec<f64> = edges.iter().filter_map(cross).collect();
                crossings.sort_by(f64::total_cmp);
                for pair in crossings.chunks_exact(2) {
                    for column in within(pair[0], pair[1], self.width) {
                        let inside = pair[1].min(f64::from(column) + 1.0) - pair[0].max(f64::from(column));
                        covered[column as usize] += inside.max(0.0) / f64::from(LINES);
                    }
                }
            }
            for (column, share) in (0..).zip(&covered).filter(|(_, share)| **share > 0.0) {
                self.blend(column, row, colour, share * opacity);
            }
        }
    }
}

/// The pixels that a stretch touches, of `size`.
fn within(low: f64, high: f64, size: u32) -> std::ops::Range<u32> {
    let pixel = |value: f64| value.clamp(0.0, f64::from(size)) as u32;
    pixel(low.floor())..pixel(high.ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Colour = Colour([0, 0, 0]);

    fn row(canvas: &Canvas, row: usize) -> Vec<u8> {
        canvas.pixels().chunks_exact(3 * canvas.width as usize).nth(row).unwrap().iter().step_by(3).copied().collect()
    }

    #[test]
    fn areas_let_through_what_is_below() {
        let mut canvas = Canvas::new(4, 3);
        canvas.area(&[(0.5, 0.0), (3.0, 0.0), (3.0, 2.0), (0.5, 2.0)], 1.0, BLACK, 0.5);
        assert_eq!(row(&canvas, 0), [191, 128, 128, 255]);
        assert_eq!(row(&canvas, 2), [255; 4]);
    }

    #[test]
    fn lines_and_dashes_cover_their_pixels() {
        let mut canvas = Canvas::new(12, 3);
        let stroke = |dash| Stroke { colour: BLACK, width: 1.0, dash };
        canvas.line(&[(0.5, 1.5), (11.5, 1.5)], 1.0, stroke(0.0));
        assert_eq!((row(&canvas, 0), row(&canvas, 1)), (vec![255; 12], vec![0; 12]));
        let mut canvas = Canvas::new(12, 3);
        canvas.line(&[(0.0, 1.5), (12.0, 1.5)], 1.0, stroke(3.0));
        // Ends are round.
        assert_eq!((row(&canvas, 1)[1], row(&canvas, 1)[4], row(&canvas, 1)[7]), (0, 255, 0));
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let mut canvas = Canvas::new(3, 3);
        canvas.capsule((-1e9, 1.5), (1e9, 1.5), 0.5, BLACK);
        canvas.capsule((f64::NAN, 0.0), (0.0, f64::INFINITY), 1.0, BLACK);
        canvas.area(&[(-1e9, -1e9), (1e9, -1e9), (1e9, 0.5)], 1.0, BLACK, 1.0);
        canvas.area(&[], 1.0, BLACK, 1.0);
        canvas.fill(2, 2, 100, 100, BLACK);
        assert_eq!((row(&canvas, 1), row(&canvas, 2)), (vec![0; 3], vec![255, 255, 0]));
    }
}
