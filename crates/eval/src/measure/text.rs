//! Plain text to measure perplexities and divergences on.

mod pieces;

pub(super) use pieces::Piece;

use super::BadData;
use super::data::DataFile;
use lcepatch_format::digest::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most lines of a small file. Each takes some hundred bytes of memory as tokens.
const LINES_FREE: usize = 1 << 16;
/// Beyond [`LINES_FREE`], one line is allowed per so many bytes of the file. Lines of text are longer.
const BYTES_A_LINE: usize = 8;

/// The texts of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub(super) texts: Vec<String>,
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) options: TextOptions,
}

/// How a file is divided into texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// What a text is.
    pub unit: Unit,
    /// Whether empty and blank lines are kept.
    pub empty_lines: LinePolicy,
    /// Whether WikiText's headings, ` = Title = `, are kept.
    pub headings: LinePolicy,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { unit: Unit::Line, empty_lines: LinePolicy::LeaveOut, headings: LinePolicy::Keep }
    }
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A line.
    Line,
    /// The whole file, its lines joined by line feeds.
    File,
}

/// Whether some lines are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinePolicy {
    /// They are read like other lines.
    Keep,
    /// They are left out, and counted.
    LeaveOut,
}

impl Text {
    /// Reads a text file in UTF-8.
    ///
    /// # Errors
    /// [`BadData`]: the file cannot be read, a line is not UTF-8, no line is left, or the lines are too short for text.
    pub fn read(path: &Path, options: TextOptions) -> Result<Self, BadData> {
        let file = DataFile::read(path)?;
        let text = std::str::from_utf8(&file.bytes).map_err(|error| {
            let before = file.bytes.iter().take(error.valid_up_to());
            let line = 1 + before.filter(|byte| **byte == b'\n').count() as u64;
            BadData::Malformed { path: path.to_owned(), line: Some(line), reason: "the text is not UTF-8".to_owned() }
        })?;
        let (found, most) = (text.lines().count(), LINES_FREE + text.len() / BYTES_A_LINE);
        if found > most {
            let reason = format!(
                "it has {found} lines in {} bytes, more than the {most} that are read from so many",
                text.len()
            );
            return Err(BadData::Malformed { path: path.to_owned(), line: None, reason });
        }
        let mut counts = BTreeMap::new();
        let mut lines = Vec::new();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            let left_out = if line.trim().is_empty() {
                (options.empty_lines == LinePolicy::LeaveOut).then_some("left out: empty lines")
            } else {
                (options.headings == LinePolicy::LeaveOut && is_heading(line)).then_some("left out: headings")
            };
            match left_out {
                Some(reason) => *counts.entry(reason.to_owned()).or_default() += 1,
                None => lines.push(line),
            }
        }
        if lines.iter().all(|line| line.trim().is_empty()) {
            let reason = "it has no line with text".to_owned();
            return Err(BadData::Empty { path: path.to_owned(), measure: "a measure on text", reason });
        }
        let texts = match options.unit {
            Unit::Line => lines.into_iter().map(str::to_owned).collect(),
            Unit::File => vec![lines.join("\n")],
        };
        Ok(Self { texts, path: file.path, digest: file.digest, counts, options })
    }

    /// The file's digest, by file name.
    pub(super) fn data(&self) -> BTreeMap<String, Digest> {
        let name = self.path.file_name().map_or_else(|| "text".to_owned(), |name| name.to_string_lossy().into_owned());
        BTreeMap::from([(name, self.digest)])
    }

    /// How the file was divided, for reports.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let lines = |lines| match lines {
            LinePolicy::Keep => "kept",
            LinePolicy::LeaveOut => "left out",
        };
        let unit = match self.options.unit {
            Unit::Line => "a line",
            Unit::File => "the file",
        };
        let settings = [
            ("a text is", unit),
            ("empty lines", lines(self.options.empty_lines)),
            ("headings", lines(self.options.headings)),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    pub(super) fn empty(&self, measure: &'static str, reason: String) -> BadData {
        BadData::Empty { path: self.path.clone(), measure, reason }
    }
}

/// Whether a line is a heading of WikiText: `=`, a blank, a title, a blank and `=`, on any level.
fn is_heading(line: &str) -> bool {
    let line = line.trim();
    line.len() > 4 && line.starts_with("= ") && line.ends_with(" =")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], options: TextOptions) -> Result<Text, BadData> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held-out.txt");
        std::fs::write(&path, bytes).unwrap();
        Text::read(&path, options)
    }

    #[test]
    fn lines_that_are_left_out_are_counted() {
        let wiki = b"\xef\xbb\xbf \n = Title = \r\n\nOne = two =\nThree\n = = Part = = \n";
        let text = read(wiki, TextOptions::default()).unwrap();
        assert_eq!(text.texts, [" = Title = ", "One = two =", "Three", " = = Part = = "]);
        assert_eq!(text.counts, BTreeMap::from([("left out: empty lines".to_owned(), 2)]));
        let text =
            read(wiki, TextOptions { headings: LinePolicy::LeaveOut, unit: Unit::File, ..TextOptions::default() })
                .unwrap();
        assert_eq!(text.texts, ["One = two =\nThree"]);
        assert_eq!(text.counts["left out: headings"], 2);
        let text = read(wiki, TextOptions { empty_lines: LinePolicy::Keep, ..TextOptions::default() }).unwrap();
        assert_eq!((text.texts.len(), text.counts.len()), (6, 0));
        assert_eq!(text.data().keys().collect::<Vec<_>>(), ["held-out.txt"]);
    }

    #[test]
    fn a_text_must_be_utf8_and_not_empty() {
        let Err(BadData::Malformed { line, .. }) = read(b"one\ntwo\xff\nthree", TextOptions::default()) else {
            panic!("it is")
        };
        assert_eq!(line, Some(2));
        assert!(matches!(read(b"", TextOptions::default()), Err(BadData::Unexpected { .. })));
        for empty in ["\n", "\n \n"] {
            for empty_lines in [LinePolicy::Keep, LinePolicy::LeaveOut] {
                let read = read(empty.as_bytes(), TextOptions { empty_lines, ..TextOptions::default() });
                assert!(matches!(read, Err(BadData::Empty { .. })));
            }
        }
    }
}
