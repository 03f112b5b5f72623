//! The measured parts of a data set: bias types of CrowS-Pairs, domains of StereoSet.

use std::collections::BTreeSet;

/// A choice of parts by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// All parts of the data.
    All,
    /// These parts, each of which the data must have.
    Named(BTreeSet<String>),
}

impl Default for Parts {
    /// `gender`, the part that local contrastive editing was published on.
    fn default() -> Self {
        Self::listed("gender")
    }
}

impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Named(names) => f.write_str(&joined(names.iter().map(String::as_str))),
        }
    }
}

impl Parts {
    /// `all`, or names between commas.
    pub fn listed(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::Named(
                names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
            ),
        }
    }

    /// Whether a part is chosen.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// What is wrong with the choice, given the parts of the data. None if nothing is.
    pub(crate) fn problem<'a>(&self, available: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let Self::Named(names) = self else { return None };
        let available: BTreeSet<&str> = available.into_iter().collect();
        let missing: Vec<&str> = names.iter().map(String::as_str).filter(|name| !available.contains(name)).collect();
        if names.is_empty() {
            Some("no part is chosen".to_owned())
        } else if missing.is_empty() {
            None
        } else {
            Some(format!("there is no {}, only {}", joined(missing), joined(available)))
        }
    }
}

fn joined<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_names_parts_that_there_are() {
        assert!(Parts::listed("all").has("age"));
        let two = Parts::listed("religion, gender");
        assert_eq!(two.to_string(), "gender, religion");
        assert_eq!(two.problem(["gender", "religion", "race"]), None);
        assert_eq!(two.problem(["race", "gender"]).unwrap(), "there is no religion, only gender, race");
        assert!(Parts::listed("").problem(["gender"]).is_some());
        assert!(Parts::default().has("gender") && !Parts::default().has("race"));
    }
}
