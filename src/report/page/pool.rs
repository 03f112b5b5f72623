//! Groups the files that are drawn together, and the rows that share a line of a figure.

use crate::report::results::{PatchLine, Results, Row};

/// Files that are drawn together.
pub struct Pool<'a> {
    pub label: String,
    pub files: Vec<&'a Results>,
}

/// What rows on one line of a figure have in common. They differ in their seed and file only, so their mean is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// `value`, `mask` or `random`; `patch` in a report of `verify`.
    pub strategy: String,
    /// The requested number of weights. None for masks, and in a report of `verify`.
    pub k: Option<String>,
}

/// The size of masks, as in `--k`.
const FROM_MASK: &str = "from-mask";
/// The strategy of rows of a report of `verify`.
const PATCH: &str = "patch";

/// Pools files with the same label, or of the same pair of models if they have none.
pub fn pools(results: &[Results]) -> Vec<Pool<'_>> {
    let mut pools: Vec<Pool<'_>> = Vec::new();
    for file in results {
        let alike = |other: &Results| match (&file.label, &other.label) {
            (Some(label), Some(other)) => label == other,
            (None, None) => same_pair(file, other),
            _ => false,
        };
        match pools.iter_mut().find(|pool| pool.files.first().is_some_and(|first| alike(first))) {
            Some(pool) => pool.files.push(file),
            None => pools.push(Pool { label: label(file), files: vec![file] }),
        }
    }
    pools
}

/// Whether both are sweeps of the same weights.
fn same_pair(one: &Results, other: &Results) -> bool {
    let (Some(reference), Some(other_reference)) = (&one.reference, &other.reference) else { return false };
    let (target, other_target) = (&one.setting.model.weights, &other.setting.model.weights);
    !target.is_empty() && target == other_target && reference.weights == other_reference.weights
}

fn label(file: &Results) -> String {
    if let Some(label) = &file.label {
        return label.clone();
    }
    let model = path_end(&file.setting.model.path);
    match (&file.reference, &file.applied[..]) {
        (Some(reference), _) => format!("{model} towards {}", path_end(&reference.path)),
        (None, []) => model,
        (None, patches) => {
            let names: Vec<String> = patches.iter().map(|patch| path_end(&patch.path)).collect();
            format!("{model} with {}", names.join(" and "))
        }
    }
}

/// The last two components of a path, for a headline.
fn path_end(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

impl Configuration {
    fn of(row: &Row) -> Self {
        match &row.localization {
            Some(localization) => Self { strategy: localization.strategy.clone(), k: localization.k.clone() },
            None => Self { strategy: PATCH.to_owned(), k: None },
        }
    }

    /// Baselines are drawn below the others, in grey.
    pub fn is_random(&self) -> bool {
        self.strategy == "random"
    }
}

impl<'a> Pool<'a> {
    /// The unedited models.
    pub fn unedited(&self) -> impl Iterator<Item = &'a Row> {
        self.files.iter().filter_map(|file| file.rows.first())
    }

    /// The rows of edited models.
    pub fn edited(&self) -> impl Iterator<Item = &'a Row> {
        self.files.iter().flat_map(|file| file.rows.iter().skip(1)).filter(|row| row.edit.is_some())
    }

    /// The configurations of all rows, in the order of the files.
    pub fn configurations(&self) -> Vec<Configuration> {
        let mut configurations = Vec::new();
        for configuration in self.edited().map(Configuration::of) {
            if !configurations.contains(&configuration) {
                configurations.push(configuration);
            }
        }
        configurations
    }

    pub fn rows_of(&self, configuration: &Configuration) -> impl Iterator<Item = &'a Row> {
        self.edited().filter(move |row| Configuration::of(row) == *configuration)
    }

    /// Groups configurations with the same requested number of weights, each group for one figure. Masks join the size `from-mask`.
    pub fn sizes(&self) -> Vec<(String, Vec<Configuration>)> {
        let mut sizes: Vec<(String, Vec<Configuration>)> = Vec::new();
        for configuration in self.configurations() {
            let size = match (&configuration.k, configuration.strategy.as_str()) {
                (Some(k), _) => k.clone(),
                (None, PATCH) => String::new(),
                (None, _) => FROM_MASK.to_owned(),
            };
            match sizes.iter_mut().find(|(known, _)| *known == size) {
                Some((_, configurations)) => configurations.push(configuration),
                None => sizes.push((size, vec![configuration])),
            }
        }
        sizes
    }

    pub fn patches(&self) -> impl Iterator<Item = &'a PatchLine> {
        self.files.iter().flat_map(|file| &file.patches)
    }

    /// The share of the candidates that a row's patch selects, in percent.
    pub fn share(&self, row: &Row) -> Option<f64> {
        let id = row.patch.as_ref()?;
        let patch = self.patches().find(|patch| patch.stat.id == *id)?;
        (patch.candidates > 0).then(|| 100.0 * patch.stat.selected as f64 / patch.candidates as f64)
    }

    /// The smallest and the largest number of weights that the patches of some configurations select.
    pub fn selected(&self, configurations: &[Configuration]) -> Option<(u64, u64)> {
        let rows = configurations.iter().flat_map(|configuration| self.rows_of(configuration));
        let ids: Vec<&String> = rows.filter_map(|row| row.patch.as_ref()).collect();
        let selected = self.patches().filter(|patch| ids.contains(&&patch.stat.id)).map(|patch| patch.stat.selected);
        selected.fold(None, |range, n| {
            let (low, high) = range.unwrap_or((n, n));
            Some((n.min(low), n.max(high)))
        })
    }
}
