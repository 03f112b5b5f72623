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

/// The same within a width, if there is one: of the columns that are `expendable`, by title, the first ones are left out, and then the
/// cells of the first column are cut.
pub fn lines_within(
    width: Option<usize>,
    expendable: &[&str],
    header: &[(&str, Align)],
    rows: &[Vec<String>],
) -> Vec<String> {
    let out = lines(header, rows);
    let Some(width) = width else { return out };
    let widest = out.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    if widest <= width {
        return out;
    }
    if let Some((first, others)) = expendable.split_first() {
        let kept = |at: &usize| header[*at].0 != *first;
        let columns: Vec<usize> = (0..header.len()).filter(kept).collect();
        let header: Vec<(&str, Align)> = columns.iter().map(|at| header[*at]).collect();
        let cells = |row: &Vec<String>| columns.iter().filter_map(|at| row.get(*at).cloned()).collect();
        return lines_within(Some(width), others, &header, &rows.iter().map(cells).collect::<Vec<_>>());
    }
    let first = |row: &Vec<String>| row.first().map_or(0, |cell| printable(cell).chars().count());
    let room = rows.iter().map(first).max().unwrap_or(0).saturating_sub(widest - width).max(CUT);
    let cut = |row: &Vec<String>| {
        let first = row.first().map(|cell| cut_middle(&printable(cell), room));
        first.into_iter().chain(row.iter().skip(1).cloned()).collect()
    };
    lines(header, &rows.iter().map(cut).collect::<Vec<_>>())
}

/// To how many characters identities and names are cut at least: seven at each end.
const CUT: usize = 17;

/// Text without its middle, if it has more than `width` characters.
fn cut_middle(text: &str, width: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(3);
    let (start, end) = (kept.div_ceil(2), kept / 2);
    all[..start].iter().chain(&['.'; 3]).chain(&all[all.len() - end..]).collect()
}

/// One line of text within a width, if there is one: where it is longer, digests in it are cut, and it is broken between words. The
/// lines after the first begin with `indent` blanks.
pub fn paragraph(width: Option<usize>, indent: usize, text: &str) -> Vec<String> {
    let text = printable(text);
    let Some(width) = width.filter(|width| text.chars().count() > *width) else { return vec![text] };
    let is_digest = |word: &str| word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut out = vec![String::new()];
    // Blanks belong to the word before them, so that columns stay.
    for word in text.split_inclusive(' ') {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let word = if is_digest(bare) { word.replace(bare, &cut_middle(bare, CUT)) } else { word.to_owned() };
        let last = out.last().map_or(0, |line| line.chars().count());
        let begun = last > if out.len() > 1 { indent } else { 0 };
        if begun && last + word.trim_end().chars().count() > width {
            out.push(" ".repeat(indent));
        }
        if let Some(line) = out.last_mut() {
            line.push_str(&word);
        }
    }
    out.iter().map(|line| line.trim_end().to_owned()).collect()
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
    fn tables_fit_into_a_width() {
        let header = [("name", Align::Left), ("n", Align::Right), ("#", Align::Left)];
        let row = |name: &str| vec![name.to_owned(), "10".to_owned(), "##########".to_owned()];
        let rows = [row("a"), row("encoder.layer.10.attention")];
        let within = |width| lines_within(width, &["#"], &header, &rows);
        assert_eq!(within(None), lines(&header, &rows));
        assert_eq!(within(Some(60)), lines(&header, &rows));
        assert_eq!(within(Some(30))[2], "encoder.layer.10.attention  10");
        assert_eq!(within(Some(25))[1..], ["a                      10", "encoder.l...attention  10"]);
        assert_eq!(within(Some(5))[2], "encoder...tention  10", "no narrower than names can be told apart");
    }

    #[test]
    fn paragraphs_fit_into_a_width() {
        let id = "0123456789abcdef".repeat(4);
        let text = format!("p: 3 bytes, patch id {id}, and more words");
        assert_eq!(paragraph(None, 2, &text), [text.as_str()]);
        assert_eq!(paragraph(Some(200), 2, &text), [text.as_str()]);
        assert_eq!(paragraph(Some(40), 2, &text), ["p: 3 bytes, patch id 0123456...9abcdef,", "  and more words"]);
        assert_eq!(paragraph(Some(4), 2, "a verylongword b"), ["a", "  verylongword", "  b"]);
        assert_eq!(paragraph(Some(24), 4, "  label        a\u{1b} b c d"), ["  label        a\\u{1b} b", "    c d"]);
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
