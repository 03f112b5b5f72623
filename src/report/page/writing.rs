//! What the models write after the prompts, beside each other.

use super::html::{Html, escaped};
use super::pool::Pool;
use crate::report::results::Row;

/// A list for each prompt: what the unedited model writes after it, and every edited one.
pub fn writing(page: &mut Html, pool: &Pool<'_>) {
    let Some(file) = pool.files.iter().find(|file| !file.prompts.is_empty()) else { return };
    page.line("<h3>What the models write</h3>");
    page.line("<p class=\"note\">Each prompt is continued with the most likely token, again and again.</p>");
    for (at, prompt) in file.prompts.iter().enumerate() {
        let open = if at == 0 { " open" } else { "" };
        page.line(format_args!("<details{open}><summary>{}</summary>\n<dl>", escaped(prompt)));
        for row in &file.rows {
            let Some(text) = row.continuations.get(at) else { continue };
            page.line(format_args!("<dt>{}</dt><dd>{}</dd>", escaped(&name(row)), escaped(text.trim())));
        }
        page.line("</dl></details>");
    }
}

fn name(row: &Row) -> String {
    let Some(localization) = &row.localization else { return row.case.clone() };
    let k = localization.k.as_ref().map_or(String::new(), |k| format!(", k {k}"));
    let seed = localization.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
    format!("{}{k}{seed}: {}", localization.strategy, row.case)
}
