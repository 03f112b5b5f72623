//! Results as one HTML page: figures first, tables below. It needs no script, no other file and no network, and has a light and a dark
//! mode.

mod columns;
mod figures;
mod frontier;
mod html;
mod pool;
mod runs;
mod tables;
mod writing;

use super::plot::Characters;
use super::results::Results;
use html::{Html, escaped};
use pool::{Pool, pools};

const STYLE: &str = include_str!("style.css");

/// Draws results. Files of one label, or of the same pair of models, are drawn together.
pub fn page(results: &[Results], title: &str) -> String {
    let pools = pools(results);
    let mut page = Html::default();
    page.line(format_args!("<h1>{}</h1>", escaped(title)));
    if pools.len() > 1 {
        page.line("<nav><ul>");
        for (at, pool) in pools.iter().enumerate() {
            page.line(format_args!("<li><a href=\"#s{at}\">{}</a></li>", escaped(&pool.label)));
        }
        page.line("</ul></nav>");
    }
    for (at, pool) in pools.iter().enumerate() {
        page.line(format_args!("<section id=\"s{at}\">\n<h2>{}</h2>", escaped(&pool.label)));
        section(&mut page, pool);
        page.line("</section>");
    }
    page.line(format_args!("<footer>Drawn by lcepatch {}.</footer>", env!("CARGO_PKG_VERSION")));
    let head = format!(
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>",
        escaped(title)
    );
    let body = page.text();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{head}\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// Draws the scores against alpha as one SVG picture.
pub fn svg(results: &[Results]) -> String {
    figures::sheet(&pools(results)).svg()
}

/// Draws the scores against alpha as lines of text.
pub fn lines(results: &[Results], characters: Characters) -> Vec<String> {
    figures::sheet(&pools(results)).lines(characters)
}

fn section(page: &mut Html, pool: &Pool<'_>) {
    tables::facts(page, pool);
    figures::against_alpha(page, pool);
    frontier::frontier(page, pool);
    figures::against_k(page, pool);
    figures::places(page, pool);
    writing::writing(page, pool);
    tables::numbers(page, pool);
    runs::over_runs(page, pool);
    tables::definitions(page, pool);
    tables::sources(page, pool);
}

#[cfg(test)]
mod tests;
