//! HTML, line by line.

use std::fmt::{Display, Write};

/// A part of a page.
#[derive(Default)]
pub struct Html(String);

impl Html {
    /// Adds HTML. Text in it must be [`escaped`].
    pub fn line(&mut self, html: impl Display) {
        let _ = writeln!(self.0, "{html}");
    }

    /// A table. The first column is text, the others are numbers.
    pub fn table(&mut self, header: &[String], rows: &[Vec<String>]) {
        self.line("<div class=\"wide\"><table>");
        let cells = |tag: &str, cells: &[String]| -> String {
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
        };
        self.line(format_args!("<thead><tr>{}</tr></thead>\n<tbody>", cells("th", header)));
        for row in rows {
            self.line(format_args!("<tr>{}</tr>", cells("td", row)));
        }
        self.line("</tbody></table></div>");
    }

    pub fn text(self) -> String {
        self.0
    }
}

/// Text as HTML that shows it.
pub fn escaped(text: &str) -> String {
    let text = crate::report::table::printable(text);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
