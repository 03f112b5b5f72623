//! The development and the test split. Files do not name it, but the two have no term in common.

/// A part of the published data. Numbers of different splits do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// `dev.json`, of which StereoSet's own tables are.
    Dev,
    /// `test.json`, of which bias-bench's are.
    Test,
}

/// Terms about gender in the development split; the test split has thirty others.
const DEV_TERMS: [&str; 10] =
    ["gentlemen", "grandfather", "herself", "himself", "male", "mommy", "mother", "schoolboy", "schoolgirl", "sister"];

impl Split {
    /// The split of a triple, where it is known: of the domain gender.
    pub fn of(domain: &str, term: &str) -> Option<Self> {
        (domain == "gender").then(|| if DEV_TERMS.contains(&term) { Self::Dev } else { Self::Test })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}
