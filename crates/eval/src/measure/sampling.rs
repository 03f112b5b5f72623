//! Chooses a random sample of positions.

use lcepatch_format::random::Numbers;

/// A uniform random sample of `most` of the numbers below `all`, ascending, determined by the seed. All of them if there are no more.
pub(super) fn choose(all: usize, most: usize, seed: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..all).collect();
    if most >= all {
        return places;
    }
    let mut numbers = Numbers::new(seed);
    for place in 0..most {
        let other = place + numbers.below((all - place) as u64) as usize;
        places.swap(place, other);
    }
    places.truncate(most);
    places.sort_unstable();
    places
}

/// The number of groups to measure, at least one, so that these have about `most` of all `positions`.
pub(super) fn groups_for(most: u64, positions: u64, groups: usize) -> usize {
    if most >= positions {
        return groups;
    }
    let share = most as f64 / positions as f64;
    ((share * groups as f64).round() as usize).clamp(1, groups.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_as_likely() {
        let mut counts = [0; 10];
        for seed in 0..5000 {
            let chosen = choose(10, 3, seed);
            assert!(chosen.len() == 3 && chosen.windows(2).all(|pair| pair[0] < pair[1]));
            chosen.iter().for_each(|place| counts[*place] += 1);
        }
        // 1500 expected, standard deviation 32.
        assert!(counts.iter().all(|count| (1370..1630).contains(count)), "{counts:?}");
        assert_eq!(choose(3, 9, 1), [0, 1, 2]);
        assert_eq!(choose(10, 3, 7), choose(10, 3, 7));
        assert_eq!((groups_for(9, 9, 4), groups_for(1, 1000, 4), groups_for(500, 1000, 4)), (4, 1, 2));
    }
}
