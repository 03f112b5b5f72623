//! Work that is divided among processes: which share is meant, and the files that pass data from one to the other.

pub(crate) mod sealed;

use serde::{Deserialize, Serialize};

/// One of several shards of about equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    number: u32,
    of: u32,
}

impl Shard {
    /// Shard `number`, counted from 1, of `of`. `None` unless `1 <= number <= of <=` [`Shard::MAX`].
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of }).filter(|_| of <= Self::MAX)
    }

    /// The most shards there may be.
    pub const MAX: u32 = 1 << 16;

    /// Its number, counted from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// The number of shards.
    pub fn of(self) -> u32 {
        self.of
    }

    /// The name of a file of the shard.
    pub(crate) fn file_name(self, extension: &str) -> String {
        format!("{:05}-of-{:05}.{extension}", self.number, self.of)
    }

    /// All shards, of which there are `of`: none if that is 0 or above [`Shard::MAX`].
    pub(crate) fn all(of: u32) -> impl Iterator<Item = Self> {
        (1..=of).filter_map(move |number| Self::new(number, of))
    }

    /// Those of the `items`, one after the other, whose middle is in the shard's share of all `bytes`.
    pub(crate) fn share<T>(self, items: Vec<T>, bytes: impl Fn(&T) -> u64) -> Vec<T> {
        let total: u128 = items.iter().map(|item| u128::from(bytes(item))).sum();
        let of = u128::from(self.of);
        let mut start = 0;
        let mut is_own = |item: &T| {
            let bytes = u128::from(bytes(item));
            // What is empty is at the end of its predecessor.
            let share = ((2 * start + bytes) * of / (2 * total).max(1)).min(of - 1);
            start += bytes;
            share == u128::from(self.number - 1)
        };
        items.into_iter().filter(|item| is_own(item)).collect()
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {} of {}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_one() {
        assert!(Shard::new(0, 2).is_none() && Shard::new(3, 2).is_none() && Shard::new(1, Shard::MAX + 1).is_none());
        assert_eq!(Shard::new(2, 2).map(|shard| shard.to_string()), Some("shard 2 of 2".to_owned()));
    }

    #[test]
    fn every_item_is_in_one_share() {
        let items = vec![5u64, 1, 1, 9, 0, 2, 2, 2];
        for of in 1..12 {
            let shares = (1..=of).flat_map(|number| Shard::new(number, of).unwrap().share(items.clone(), |item| *item));
            assert_eq!(shares.collect::<Vec<u64>>(), items, "{of}");
        }
        let shares = [1, 2].map(|number| Shard::new(number, 2).unwrap().share(vec![3u64; 4], |item| *item).len());
        assert_eq!(shares, [2, 2]);
        let shares = [1, 2].map(|number| Shard::new(number, 2).unwrap().share(vec![9u64, 10], |item| *item).len());
        assert_eq!(shares, [1, 1]);
        assert!(Shard::new(1, 1).unwrap().share(Vec::<u64>::new(), |item| *item).is_empty());
    }
}
