//! Allowed signers: a list of keys with their principals and options, as in `ssh-keygen(1)`, ALLOWED SIGNERS.

use super::{NAMESPACE, Requirement, Signature, SignatureFault, fingerprint, read_small};
use crate::input::Meant;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The largest list that is read, in bytes: some thousands of keys.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// A list of signers.
#[derive(Debug, Clone)]
pub struct AllowedSigners {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// A line of the list.
#[derive(Debug, Clone)]
struct Entry {
    /// From 1 on.
    line: usize,
    /// Patterns of the principals who own the key.
    principals: String,
    key: KeyData,
    options: Options,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    authority: bool,
    /// Patterns of the namespaces in which the key may sign.
    namespaces: Option<String>,
    valid_after: Option<SystemTime>,
    valid_before: Option<SystemTime>,
}

/// A line that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 1 on.
    pub line: usize,
    /// Why it cannot be parsed.
    pub reason: String,
}

impl AllowedSigners {
    /// Reads the list at `path`.
    ///
    /// # Errors
    /// [`SignatureFault`]. A line that cannot be parsed is an error, since it may restrict who may sign.
    pub fn read(path: &Path) -> Result<Self, SignatureFault> {
        let text = read_small(path, LIST_BYTES_MAX, Meant::Signers)?;
        Self::parse(&text, path).map_err(|bad| SignatureFault::List { signers: path.to_owned(), bad })
    }

    /// Parses the list in the file at `path`.
    ///
    /// # Errors
    /// The first line that cannot be parsed.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, BadLine> {
        let mut entries = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            entries.push(Entry::parse(line, index + 1).map_err(|reason| BadLine { line: index + 1, reason })?);
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The principal who made `parsed`, the signature in the file `signature`, if `required` allows them to sign. Does not verify the
    /// signature itself.
    ///
    /// # Errors
    /// [`SignatureFault`]. If several lines have the key, the error is that of the first one.
    pub(super) fn accept(
        &self,
        parsed: &Signature,
        signature: &Path,
        required: &Requirement,
    ) -> Result<String, SignatureFault> {
        parsed.check_kind(signature)?;
        let key = fingerprint(parsed.key());
        let mut fault = None;
        for entry in self.entries.iter().filter(|entry| entry.key == *parsed.key()) {
            let (signers, line, key) = (self.path.clone(), entry.line, key.clone());
            let options = &entry.options;
            let refused = match &required.principal {
                Some(principal) if !matches_list(principal, &entry.principals) => {
                    let (principal, listed) = (principal.clone(), entry.principals.clone());
                    SignatureFault::OtherSigner { signers, line, key, principal, listed }
                }
                _ if options.authority => SignatureFault::Authority { signers, line, key },
                _ if options.namespaces.as_ref().is_some_and(|list| !matches_list(NAMESPACE, list)) => {
                    let namespaces = options.namespaces.clone().unwrap_or_default();
                    SignatureFault::NotForPatches { signers, line, key, namespaces }
                }
                principal => match (options.valid_after, options.valid_before) {
                    (Some(after), _) if required.at < after => SignatureFault::NotYet { signers, line, key, after },
                    (_, Some(before)) if required.at > before => SignatureFault::Expired { signers, line, key, before },
                    _ => return Ok(principal.clone().unwrap_or_else(|| entry.principals.clone())),
                },
            };
            fault.get_or_insert(refused);
        }
        Err(fault.unwrap_or_else(|| SignatureFault::Unknown {
            signature: signature.to_owned(),
            signers: self.path.clone(),
            key,
        }))
    }
}

impl Entry {
    /// `principals [options] kind base64 [comment]`.
    fn parse(line: &[u8], number: usize) -> Result<Self, String> {
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let (principals, rest) = match line.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("the quotation of the principals does not end")?,
            None => line.split_once(is_blank).ok_or("there is no key")?,
        };
        if principals.is_empty() {
            return Err("there are no principals".to_owned());
        }
        if principals.split(',').all(|pattern| pattern.starts_with('!')) {
            return Err("it names nobody: every principal begins with `!`".to_owned());
        }
        let rest = rest.trim_start_matches(is_blank);
        let (options, key) = match read_key(rest) {
            Ok(key) => (Options::default(), key),
            Err(why) => {
                let (options, rest) = split_options(rest)?;
                // The text is a kind of key and no option, so the error is that of the key.
                if ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| options.starts_with(kind)) {
                    return Err(why);
                }
                (Options::parse(options)?, read_key(rest)?)
            }
        };
        Ok(Self { line: number, principals: principals.to_owned(), key, options })
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Parses the key at the start of `text`. A comment may follow it.
fn read_key(text: &str) -> Result<KeyData, String> {
    let mut words = text.split(is_blank).filter(|word| !word.is_empty());
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err("there is no key".to_owned()) };
    let key = PublicKey::from_openssh(&format!("{kind} {base64}"));
    key.map(|key| key.key_data().clone()).map_err(|error| format!("the key cannot be read: {error}"))
}

/// Splits `text` into the options at its start and the rest. Blanks within quotes belong to the options.
fn split_options(text: &str) -> Result<(&str, &str), String> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            c if is_blank(c) && !quoted => return Ok(text.split_at(at)),
            _ => {}
        }
        escaped = c == '\\';
    }
    Err(if quoted { "a quotation in the options does not end" } else { "there is no key" }.to_owned())
}

impl Options {
    /// `cert-authority,namespaces="list",valid-after="date",valid-before="date"`, each at most once.
    fn parse(mut text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        loop {
            let end = text.find(['=', ',']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let name = name.to_ascii_lowercase();
            let (value, rest) = match rest.strip_prefix('=') {
                Some(value) => {
                    let (value, rest) = unquote(value).ok_or_else(|| format!("{name}= takes a value in quotes"))?;
                    (Some(value), rest)
                }
                None => (None, rest),
            };
            let again = match (name.as_str(), value) {
                ("cert-authority", None) => std::mem::replace(&mut options.authority, true),
                ("namespaces", Some(list)) => options.namespaces.replace(list).is_some(),
                ("valid-after", Some(text)) => options.valid_after.replace(time(&text)?).is_some(),
                ("valid-before", Some(text)) => options.valid_before.replace(time(&text)?).is_some(),
                _ => return Err(format!("the option {name:?} is not known")),
            };
            if again {
                return Err(format!("the option {name} is given twice"));
            }
            match rest.strip_prefix(',') {
                Some(next) => text = next,
                None if rest.is_empty() => break,
                None => return Err(format!("{rest:?} follows the option {name}")),
            }
        }
        match (options.valid_after, options.valid_before) {
            (Some(after), Some(before)) if before <= after => Err("valid-before is not after valid-after".to_owned()),
            _ => Ok(options),
        }
    }
}

/// The quoted value at the start of `text`, in which `\"` stands for a quote, and the rest of the text.
fn unquote(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match (c, characters.peek()) {
            ('\\', Some((_, '"'))) => {
                characters.next();
                value.push('"');
            }
            ('"', _) => return Some((value, &text[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in the system's time zone, or in UTC with a `Z` at the end.
fn time(text: &str) -> Result<SystemTime, String> {
    let bad =
        || format!("{text:?} is not a date: write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z at the end for UTC");
    let upper = text.to_ascii_uppercase();
    let (digits, zone) = match upper.strip_suffix("UTC").or_else(|| upper.strip_suffix('Z')) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (upper.as_str(), TimeZone::system()),
    };
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), str::parse::<i16>);
    let part = |from: usize| number(from, from + 2).map(|number| number as i8);
    let read = || -> Option<SystemTime> {
        let (year, [month, day, hour, minute, second]) = (number(0, 4).ok()?, [4, 6, 8, 10, 12].map(part));
        let civil = DateTime::new(year, month.ok()?, day.ok()?, hour.ok()?, minute.ok()?, second.ok()?, 0).ok()?;
        // Lists write the end of the year 9999 for "no limit". West of UTC it is later than the last timestamp there is.
        let for_ever = || (civil.year() == 9999).then_some(Timestamp::MAX);
        let seconds = zone.to_timestamp(civil).ok().or_else(for_ever)?.as_second();
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
    };
    read().ok_or_else(bad)
}

/// Whether a list of patterns matches `text`: one pattern matches, and no pattern after `!` does (PATTERNS in `ssh_config(5)`).
fn matches_list(text: &str, patterns: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(text.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    matched
}

/// Whether `pattern` matches all of `text`: `*` stands for any bytes, `?` for one.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut t, mut p) = (0, 0);
    // The pattern after the last star, and the position in the text up to which that star matches so far.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (t, p) = (t + 1, p + 1),
            _ => match &mut star {
                Some((after, end)) => {
                    *end += 1;
                    (p, t) = (*after, *end);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn parse(text: &str) -> Result<Vec<Entry>, BadLine> {
        AllowedSigners::parse(text.as_bytes(), Path::new("list")).map(|signers| signers.entries)
    }

    fn bad(line: &str) -> String {
        parse(line).unwrap_err().reason
    }

    fn utc(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_counted() {
        let text = format!("# list\n\n  \t\r\na@b {KEY}\r\n # more\n\tc@d,*@e \t {KEY}  a comment # here\n");
        let entries = parse(&text).unwrap();
        let principals: Vec<_> = entries.iter().map(|entry| (entry.line, entry.principals.as_str())).collect();
        assert_eq!(principals, [(4, "a@b"), (6, "c@d,*@e")]);
        assert_eq!(entries[0].key, entries[1].key);
        assert_eq!(parse(&format!("x {KEY}\nonly-a-name\n")).unwrap_err().line, 2);
    }

    #[test]
    fn options_are_read_in_any_order_and_case() {
        let options = |text: &str| parse(&format!("a@b {text} {KEY}")).unwrap().remove(0).options;
        let all = options(
            "namespaces=\"lce*,git \\\"x\\\"\",CERT-AUTHORITY,valid-after=\"20240229\",Valid-Before=\"203001021504Z\"",
        );
        assert_eq!(all.namespaces.as_deref(), Some("lce*,git \"x\""));
        assert!(all.authority && all.valid_after.is_some());
        assert_eq!(all.valid_before, Some(utc("2030-01-02T15:04:00Z")));
        assert_eq!(options("valid-after=\"19991231235959z\"").valid_after, Some(utc("1999-12-31T23:59:59Z")));
        assert!(options("valid-before=\"99991231\"").valid_before > Some(utc("9999-12-29T00:00:00Z")));
        assert!(options("valid-before=\"99991231235959Z\"").valid_before > Some(utc("9999-12-29T00:00:00Z")));
        assert_eq!(options("valid-after=\"19991231UTC\"").valid_after, Some(utc("1999-12-31T00:00:00Z")));
        assert_eq!(parse(&format!("\"a b@c,d\" {KEY}")).unwrap()[0].principals, "a b@c,d");
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_says_what() {
        let cases = [
            ("a@b", "there is no key"),
            ("a@b ssh-ed25519", "there is no key"),
            ("a@b ssh-ed25519 AAAA", "the key cannot be read"),
            ("a@b cert-authority", "there is no key"),
            ("\"a@b ssh", "does not end"),
            ("a@b namespaces=\"x ssh", "a quotation in the options does not end"),
        ];
        for (line, expected) in cases {
            assert!(bad(line).contains(expected), "{line}: {}", bad(line));
        }
        let cases = [
            ("verify-required", "\"verify-required\" is not known"),
            ("namespaces", "\"namespaces\" is not known"),
            ("namespaces=file", "takes a value in quotes"),
            ("cert-authority=\"x\"", "is not known"),
            ("cert-authority,", "\"\" is not known"),
            ("cert-authority,cert-authority", "given twice"),
            ("namespaces=\"a\",namespaces=\"b\"", "given twice"),
            ("namespaces=\"a\"x", "follows the option"),
            ("valid-after=\"2024\"", "not a date"),
            ("valid-after=\"20240230\"", "not a date"),
            ("valid-after=\"2024010125\"", "not a date"),
            ("valid-after=\"202401012560\"", "not a date"),
            ("valid-after=\"20240101é\"", "not a date"),
            ("valid-after=\"+0240101\"", "not a date"),
            ("valid-before=\"19600101Z\"", "not a date"),
            ("valid-after=\"20240102Z\",valid-before=\"20240102Z\"", "not after"),
        ];
        for (options, expected) in cases {
            let reason = bad(&format!("a@b {options} {KEY}"));
            assert!(reason.contains(expected), "{options}: {reason}");
        }
    }

    #[test]
    fn patterns_match_as_in_ssh_config() {
        let cases = [
            ("a@b.c", "a@b.c", true),
            ("a@b.c", "A@b.c", false),
            ("a@b.c", "*@b.c", true),
            ("a@b.c", "*@b", false),
            ("a@b.c", "?@b.c", true),
            ("aa@b.c", "?@b.c", false),
            ("a@b.c", "x,*", true),
            ("a@b.c", "*,!a@b.c", false),
            ("a@b.c", "!a@b.c,*", false),
            ("a@b.c", "!x@b.c", false),
            ("a@b.c", "!x@b.c,*b*c", true),
            ("", "*", true),
            ("", "?", false),
            ("aab", "*ab", true),
            ("abcbd", "a*b?", true),
        ];
        for (text, patterns, expected) in cases {
            assert_eq!(matches_list(text, patterns), expected, "{text} {patterns}");
        }
        // The time must not grow exponentially with the number of stars.
        assert!(!matches(&[b'a'; 10_000], &[&b"*a".repeat(500)[..], b"b"].concat()));
    }

    /// Matches by the definition, recursively.
    fn plainly(text: &[u8], pattern: &[u8]) -> bool {
        match (text, pattern) {
            (_, [b'*', rest @ ..]) => (0..=text.len()).any(|skipped| plainly(&text[skipped..], rest)),
            ([_, text @ ..], [b'?', rest @ ..]) => plainly(text, rest),
            ([a, text @ ..], [b, rest @ ..]) => a == b && plainly(text, rest),
            (text, pattern) => text.is_empty() && pattern.is_empty(),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_it_is_defined_as(text in "[ab]{0,8}", pattern in "[ab*?]{0,6}") {
            prop_assert_eq!(matches(text.as_bytes(), pattern.as_bytes()), plainly(text.as_bytes(), pattern.as_bytes()));
        }

        #[test]
        fn no_list_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), options in "[a-z\"\\\\=, é0-9Z-]{0,60}") {
            let _ = AllowedSigners::parse(&bytes, Path::new("list"));
            let _ = parse(&format!("a@b {options} {KEY}"));
            let _ = parse(&format!("a@b valid-after=\"{options}\" {KEY}"));
        }
    }
}
