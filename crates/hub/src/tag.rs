//! Entity tags (RFC 9110, section 8.8.3).

/// A tag without its quotation marks, which not all servers write everywhere, and without the mark of those that need not change with
/// every byte.
pub(crate) fn bare(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/").trim_matches('"')
}

#[cfg(test)]
mod tests {
    #[test]
    fn marks_are_left_out() {
        assert_eq!(["\"e\"", "W/\"e\"", " e "].map(super::bare), ["e"; 3]);
    }
}
