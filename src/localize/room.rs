//! Room that several threads share, for what may be kept or computed once more.

use std::sync::atomic::{AtomicU64, Ordering};

/// How much more may be kept.
#[derive(Debug)]
pub(crate) struct Room(AtomicU64);

impl Room {
    /// Room for `all`.
    pub fn new(all: u64) -> Self {
        Self(AtomicU64::new(all))
    }

    /// Whether there is any.
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Takes `n`. Once as much is not left, nothing is.
    pub fn take(&self, n: u64) -> bool {
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(n)));
        before.is_ok_and(|left| left >= n)
    }

    /// Gives back `n` that was taken.
    pub fn give_back(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_something_does_not_fit() {
        let room = Room::new(10);
        assert!(room.take(4) && room.take(6) && !room.is_left());
        room.give_back(1);
        assert!(room.is_left());
        assert!(!room.take(2) && !room.is_left() && !room.take(1) && room.take(0));
    }
}
