//! What parsing JSON may cost, found before it is parsed.
//!
//! A parsed value takes up to several hundred bytes of memory, the text of one as few as two.

/// The structure of a JSON text, without its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Structure {
    /// The marks `{`, `[`, `,` and `:` outside of strings. Each stands for a value or a key.
    pub marks: u64,
    /// How deep objects and arrays lie in each other.
    pub depth: u32,
}

impl Structure {
    /// Looks at every byte once and allocates nothing. Of a text that is no JSON, a parser does not get further than this.
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
        let of = |text: &str| {
            let Structure { marks, depth } = Structure::of(text.as_bytes());
            (marks, depth)
        };
        assert_eq!(of(r#"{"a": [1, {"b": "[{,:\\\"[,"}], "c": "\\\\"}"#), (8, 3));
        assert_eq!(of("[[[[]]]]]]]["), (5, 4));
        assert_eq!(of("7"), (0, 0));
    }
}
