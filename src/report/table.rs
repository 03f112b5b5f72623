//! Aligned columns and numbers as people write them.

use std::fmt::Write;

/// Which way a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of `rows` under `header`, columns aligned and two blanks apart.
pub fn lines(header: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|(title, _)| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for ((cell, width), (_, align)) in cells.zip(&widths).zip(header) {
            let gap = if out.is_empty() { "" } else { "  " };
            let _ = match align {
                Align::Left => write!(out, "{gap}{cell:<width$}"),
                Align::Right => write!(out, "{gap}{cell:>width$}"),
            };
        }
        out.trim_end().to_owned()
    };
    let mut out = vec![line(&mut header.iter().map(|(title, _)| *title))];
    out.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    out
}

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest decimal unit that leaves a number above 1.
pub fn bytes(n: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| n as f64 >= *size) {
        Some((unit, size)) => format!("{:.3} {unit}", n as f64 / size),
        None => format!("{n} bytes"),
    }
}

/// A share as a percentage with enough digits to tell small ones apart.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    if percent >= 1.0 || part == 0 { format!("{percent:.2} %") } else { format!("{percent:.4} %") }
}

/// Text from a file with everything that could disturb a terminal escaped.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1_500_000), "1.500 MB");
        assert_eq!(percent(1, 1000), "0.1000 %");
        assert_eq!(percent(5, 100), "5.00 %");
    }

    #[test]
    fn columns_line_up() {
        let header = [("name", Align::Left), ("n", Align::Right)];
        let rows = [vec!["a".to_owned(), "10".to_owned()], vec!["long name".to_owned(), "5".to_owned()]];
        assert_eq!(lines(&header, &rows), ["name        n", "a          10", "long name   5"]);
    }

    #[test]
    fn escape_sequences_are_defused() {
        assert_eq!(printable("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
    }
}
