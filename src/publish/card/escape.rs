//! Text of others in YAML, Markdown and shell commands.

use crate::report::table::printable;

/// A text in which each character is what it shows, on one line.
fn plain(text: &str) -> String {
    // Not characters, and refused by readers of YAML.
    let shows = |c: char| if matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff) { '\u{fffd}' } else { c };
    printable(text).chars().map(shows).collect()
}

/// A string in YAML: one in JSON is one.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(plain(text)).to_string()
}

/// A number in YAML 1.1, which takes `1e-7` for text.
pub fn number(value: f64) -> String {
    let shown = format!("{value:?}");
    match shown.split_once('e') {
        None => shown,
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
    }
}

/// Text in Markdown, also in a cell of a table.
pub fn text(text: &str) -> String {
    let mut out = String::new();
    let mut characters = plain(text.trim()).chars().collect::<Vec<_>>().into_iter().peekable();
    let mut first = true;
    while let Some(c) = characters.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '!' | '|' | '~' | '$' | '@' | ':' => {
                out.extend(['\\', c]);
            }
            // At the beginning it would be an item of a list, or a line.
            '-' | '+' | '=' if first => out.extend(['\\', c]),
            // In a word it would be part of an address, and after a number at the beginning an item of a list.
            '.' | ')'
                if characters.peek().is_some_and(|next| *next != ' ') || out.chars().all(|c| c.is_ascii_digit()) =>
            {
                out.extend(['\\', c]);
            }
            c => out.push(c),
        }
        first = false;
    }
    out
}

/// Text as code in Markdown, also in a cell of a table.
pub fn code(text: &str) -> String {
    // A bar ends a cell of a table, even in code.
    let text = plain(text).replace('|', "\u{a6}");
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Lines of code in Markdown.
pub fn fenced(language: &str, lines: &str) -> String {
    let fence = "`".repeat((longest_run(lines) + 1).max(3));
    format!("{fence}{language}\n{lines}{fence}\n")
}

/// The most backticks that follow each other.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// The address of a file beside the card.
pub fn link(file: &str) -> String {
    let mut out = String::new();
    for byte in plain(file).bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // What begins with a scheme or with `/` is not beside the card.
    format!("./{out}")
}

/// One word of a shell command.
pub fn shell_word(text: &str) -> String {
    let text = plain(text);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(is_safe) {
        true => text,
        false => {
            let dash = if text.starts_with('-') { "./" } else { "" };
            format!("'{dash}{}'", text.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_text() {
        assert_eq!(text("# <b>x</b> [a](http://b) `c`"), r"\# &lt;b&gt;x&lt;/b&gt; \[a\](http\://b) \`c\`");
        assert_eq!(text("- a\n---\n# b"), r"\- a\\n---\\n\# b");
        assert_eq!(text("1. see www.example.org. Then 2."), r"1\. see www\.example\.org. Then 2.");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a | b\n"), "`a \u{a6} b\\n`");
        assert_eq!(fenced("sh", "a ```\n"), "````sh\na ```\n````\n");
        assert_eq!(link("a b)(.svg"), "./a%20b%29%28.svg");
        assert_eq!(link("javascript:x"), "./javascript%3Ax");
        assert_eq!(shell_word("$(rm -rf ~)'x"), r"'$(rm -rf ~)'\''x'");
        assert_eq!(shell_word("-x"), "'./-x'");
        assert_eq!(quoted("a: \"b\"\n---\n\u{2028}\u{ffff}"), r#""a: \"b\"\\n---\\n\\u{2028}�""#);
    }

    #[test]
    fn numbers_are_numbers_in_yaml() {
        for (value, shown) in
            [(57.25, "57.25"), (-2.0, "-2.0"), (1e-7, "1.0e-7"), (1.5e300, "1.5e+300"), (1e16, "1.0e+16")]
        {
            assert_eq!(number(value), shown);
        }
    }
}
