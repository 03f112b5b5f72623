//! Puts a card into a README that people also write in: only what stands between marks is written anew.

use super::Card;

/// Marks in the front matter, where they are comments.
const FRONT: [&str; 2] =
    ["# lcepatch: begin (written by lcepatch; keys of your own go before or after)", "# lcepatch: end"];
/// Marks in the text.
const BODY: [&str; 2] =
    ["<!-- lcepatch: begin (written by lcepatch; text of your own goes before or after) -->", "<!-- lcepatch: end -->"];
/// The line that begins and ends front matter.
const FENCE: &str = "---";

/// The text with the card in it. Of the front matter, keys that stand outside of the marks stay, and are not written a second time.
pub(crate) fn renewed(existing: &str, card: &Card) -> String {
    let lines: Vec<&str> = existing.trim_start_matches('\u{feff}').lines().collect();
    let (front, body) = split(&lines);
    let around = Around::of(front, FRONT);
    let own: Vec<&str> = around.before.iter().chain(around.after).filter_map(|line| key(line)).collect();
    let written = card.front.iter().filter(|(key, _)| !own.contains(key));
    let written: String = written.map(|(_, lines)| lines.as_str()).collect();
    let front = around.with(FRONT, written.trim_end());
    let around = Around::of(body, BODY);
    let blank = around.is_new && around.before.last().is_some_and(|line| !line.trim().is_empty());
    let start = if blank { "\n" } else { "" };
    let body = around.with([&format!("{start}{}", BODY[0]), BODY[1]], card.body.trim_end());
    format!("{FENCE}\n{front}{FENCE}\n{}{body}", if lines.is_empty() { "\n" } else { "" })
}

/// The lines of the front matter, and those after it. A README need not have any.
fn split<'a, 'l>(lines: &'l [&'a str]) -> (&'l [&'a str], &'l [&'a str]) {
    let end = || lines.iter().skip(1).position(|line| line.trim_end() == FENCE).map(|at| at + 1);
    match lines.first().filter(|line| line.trim_end() == FENCE).and_then(|_| end()) {
        Some(end) => (&lines[1..end], &lines[end + 1..]),
        None => (&[], lines),
    }
}

/// The key of YAML that a line begins with.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    let is_plain = !key.starts_with([' ', '#', '-']) && !key.trim().is_empty();
    is_plain.then(|| key.trim().trim_matches(['"', '\'']))
}

/// The lines before and after what is between marks.
struct Around<'a, 'l> {
    before: &'l [&'a str],
    after: &'l [&'a str],
    /// There are no marks yet.
    is_new: bool,
}

impl<'a, 'l> Around<'a, 'l> {
    fn of(lines: &'l [&'a str], marks: [&str; 2]) -> Self {
        // A mark without its other half is text like any other.
        let is = |line: &&str, mark: &str| line.trim_end() == mark;
        for end in lines.iter().enumerate().filter(|(_, line)| is(line, marks[1])).map(|(at, _)| at) {
            if let Some(begin) = lines[..end].iter().rposition(|line| is(line, marks[0])) {
                return Self { before: &lines[..begin], after: &lines[end + 1..], is_new: false };
            }
        }
        Self { before: lines, after: &[], is_new: true }
    }

    fn with(&self, marks: [&str; 2], between: &str) -> String {
        let lines = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        format!("{}{}\n{between}\n{}\n{}", lines(self.before), marks[0], marks[1], lines(self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(license: &str, body: &str) -> Card {
        let front = vec![("license", format!("license: {license}\n")), ("tags", "tags:\n- lcepatch\n".to_owned())];
        Card { front, body: body.to_owned() }
    }

    #[test]
    fn a_new_card_is_renewed_to_itself_and_changes_only_between_its_marks() {
        let first = renewed("", &card("mit", "One."));
        assert!(
            first.starts_with("---\n# lcepatch: begin") && first.ends_with("One.\n<!-- lcepatch: end -->\n"),
            "{first}"
        );
        assert_eq!(renewed(&first, &card("mit", "One.")), first);
        let second = renewed(&first, &card("mit", "Two."));
        assert_eq!(second, first.replace("One.", "Two."));
    }

    #[test]
    fn what_people_write_stays() {
        let by_hand = "---\nlicense: apache-2.0\nlanguage: de\n---\n# Mine\n\nText.";
        let first = renewed(by_hand, &card("mit", "One."));
        assert!(first.starts_with("---\nlicense: apache-2.0\nlanguage: de\n# lcepatch: begin"), "{first}");
        assert!(!first.contains("license: mit") && first.contains("- lcepatch"), "{first}");
        assert!(first.contains("---\n# Mine\n\nText.\n\n<!-- lcepatch: begin"), "{first}");
        let with_end = first.clone() + "\nThe end.\n";
        let second = renewed(&with_end, &card("mit", "Two."));
        assert_eq!(second, with_end.replace("One.", "Two."));
        let plain = renewed("# Only text\n", &card("mit", "One."));
        assert!(plain.contains("license: mit") && plain.contains("---\n# Only text\n\n<!--"), "{plain}");
    }

    #[test]
    fn half_a_mark_is_text() {
        for half in [BODY[0], BODY[1]] {
            let text = format!("---\n---\n{half}\nMine.\n");
            let first = renewed(&text, &card("mit", "One."));
            assert!(first.contains(&format!("{half}\nMine.\n\n<!-- lcepatch: begin")), "{first}");
            assert_eq!(renewed(&first, &card("mit", "Two.")), first.replace("One.", "Two."));
        }
    }
}
