//! Formats tables, numbers and text for terminals.

use crate::words::counted;
use std::fmt::Write;

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines of `rows` under `header`, columns aligned and two blanks apart, every cell [`printable`].
pub fn lines(header: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|(title, _)| title.chars().count()).collect();
    for row in &rows {
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

/// Bytes in the largest decimal unit that leaves a number above 1.
pub fn bytes(n: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| n as f64 >= *size) {
        Some((unit, size)) => format!("{:.3} {unit}", n as f64 / size),
        None => counted(n, "byte"),
    }
}

/// Bytes a second.
pub fn rate(bytes: u64, milliseconds: u64) -> String {
    let per_second = bytes as f64 * 1000.0 / milliseconds.max(1) as f64;
    let (unit, size) =
        [("GB", 1e9), ("MB", 1e6)].into_iter().find(|(_, size)| per_second >= *size).unwrap_or(("kB", 1e3));
    format!("{:.1} {unit}/s", per_second / size)
}

/// How long something took, or will take.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds.div_ceil(1000);
    match seconds {
        0..=9 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A share as a percentage, with enough digits to distinguish small ones.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    if percent >= 1.0 || part == 0 { format!("{percent:.2} %") } else { format!("{percent:.4} %") }
}

/// Text on one line. Characters that readers cannot see but terminals or browsers act on are escaped: `\n` as `\\n`, ESC as `\\u{1b}`.
/// Escaping twice is the same as once.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// JSON with the same characters escaped in its strings, which does not change its meaning. Line breaks between values are kept.
pub fn printable_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters (C0, C1, DEL), and the formatting characters of Unicode that reorder, join, hide or break text.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scaled() {
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1_500_000), "1.500 MB");
        assert_eq!(rate(1_600_000_000, 1000), "1.6 GB/s");
        assert_eq!(rate(50_000, 2000), "25.0 kB/s");
        assert_eq!([1300, 75_000, 600_000, 9_000_000].map(duration), ["1.3 s", "75 s", "10 min", "2 h 30 min"]);
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
        assert_eq!(printable("\r\t\u{7f}\u{9b}31m"), "\\r\\t\\u{7f}\\u{9b}31m");
        let twice = printable(&printable("\x1b]0;title\x07"));
        assert_eq!(twice, printable("\x1b]0;title\x07"));
    }

    #[test]
    fn what_reorders_or_hides_text_is_shown() {
        for c in ('\u{200b}'..='\u{200f}').chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_unicode()));
        }
        assert_eq!(
            printable("\u{feff}\u{2028}\u{2029}\u{61c}\u{e0041}"),
            "\\u{feff}\\u{2028}\\u{2029}\\u{61c}\\u{e0041}"
        );
        let names = "größe 重み नमस्ते e\u{301} \\ \"";
        assert_eq!(printable(names), names);
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        let value = serde_json::json!({"a\u{202e}b\n": ["\u{9b}31m", "\x1b", "\u{e0041}", "é"]});
        let shown = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(shown.contains("\\u202e") && shown.contains("\\udb40\\udc41") && shown.contains('é'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn cells_are_escaped_before_columns_are_measured() {
        let rows = [vec!["a\x1bb".to_owned(), "1".to_owned()]];
        assert_eq!(lines(&[("n", Align::Left), ("x", Align::Right)], &rows), ["n         x", "a\\u{1b}b  1"]);
    }
}
