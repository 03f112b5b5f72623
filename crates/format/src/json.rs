//! Measures the structure of untrusted JSON before it is parsed.
//!
//! A parsed value can take several hundred bytes of memory, while its text may have only two bytes.

/// The structure of a JSON text, without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Structure {
    /// Number of `{`, `[`, `,` and `:` outside of strings. Each introduces a value or a key.
    pub marks: u64,
    /// Nesting depth of objects and arrays.
    pub depth: u32,
}

impl Structure {
    /// Scans a text in one pass, without allocating memory. If the text is not valid JSON, the counts are upper bounds of what a parser
    /// reads before it fails.
    pub fn of(text: &[u8]) -> Self {
        let (mut found, mut depth, mut in_string, mut escaped) = (Self::default(), 0u32, false, false);
        for byte in text {
            if in_string {
                in_string = escaped || *byte != b'"';
                escaped = !escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => {
                    found.marks += 1;
                    depth = depth.saturating_add(1);
                    found.depth = found.depth.max(depth);
                }
                b',' | b':' => found.marks += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_strings_do_not_count() {
        let measured = |text: &str| {
            let Structure { marks, depth } = Structure::of(text.as_bytes());
            (marks, depth)
        };
        assert_eq!(measured(r#"{"a": [1, {"b": "[{,:\\\"[,"}], "c": "\\\\"}"#), (8, 3));
        assert_eq!(measured("[[[[]]]]]]]["), (5, 4));
        assert_eq!(measured("7"), (0, 0));
    }
}
