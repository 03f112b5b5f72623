//! The development and the test split. Files do not name their split, but the two have no term in common.

/// A split of the published data. Scores of different splits cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// `dev.json`, used in the tables of StereoSet's paper.
    Dev,
    /// `test.json`, used by bias-bench.
    Test,
}

/// Terms about gender in the development split; the test split has thirty others.
const DEV_TERMS: [&str; 10] =
    ["gentlemen", "grandfather", "herself", "himself", "male", "mommy", "mother", "schoolboy", "schoolgirl", "sister"];

impl Split {
    /// The split of a triple. It is known for the domain gender only.
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
