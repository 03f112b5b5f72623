//! The memory of decoded blocks: what a small file takes does not grow with the number of threads.
//!
//! A block of constant runs takes a hundred bytes in a file and a hundred million in memory, as each thread would that decodes one.
//! So memory that a block's own bytes do not justify is shared: a thread waits until there is enough of it. Blocks of real deltas
//! take a bit or more for each element, and wait for nothing.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Bytes of memory that a block of any size may take.
const FREE_BYTES: u64 = 1 << 20;
/// Bytes of memory that each byte of a block justifies: nine of ten deltas that are 1 or -1 take as much.
const BYTES_A_BYTE: u64 = 64;
/// Bytes of memory that are shared by all blocks which take more than that. One that takes even more is decoded alone.
const SHARED_BYTES: u64 = 64 << 20;

static SHARED: Shared = Shared { taken: Mutex::new(0), given_back: Condvar::new() };

struct Shared {
    taken: Mutex<u64>,
    given_back: Condvar,
}

thread_local! {
    /// Reservations of shared memory that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Memory for a decoded block, until it is dropped.
///
/// A thread that holds shared memory never waits for more, since others may be waiting for what it holds. For the same reason it
/// must not wait for other threads' decoding meanwhile: no parallel iterator runs while a block is held.
#[derive(Debug)]
pub(crate) struct Reservation {
    shared: u64,
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Reservation {
    /// For a block of `coded` bytes that takes `memory` bytes decoded. Waits until there is enough.
    pub fn of(coded: u64, memory: u64) -> Self {
        let shared = memory.saturating_sub(FREE_BYTES + BYTES_A_BYTE.saturating_mul(coded));
        if shared > 0 {
            let mut taken = SHARED.lock();
            while *taken > 0 && *taken + shared > SHARED_BYTES && HELD.get() == 0 {
                taken = SHARED.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
            }
            *taken += shared;
            HELD.set(HELD.get() + 1);
        }
        Self { shared, thread: PhantomData }
    }

    /// Whether it is of the memory that all share.
    pub fn is_shared(&self) -> bool {
        self.shared > 0
    }

    /// Does `work`, which takes the memory, if that is shared, on the one thread that does so for all others: allocators keep for each
    /// thread what it has given back, and so would hold the memory of a block for every thread that has ever decoded one.
    pub fn take<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = channel();
        let work: Work = Box::new(move || _ = send.send(catch_unwind(AssertUnwindSafe(work))));
        match WORKER.as_ref() {
            // It lives as long as the process.
            Some(worker) => worker.send(work).unwrap_or_else(|SendError(work)| work()),
            None => work(),
        }
        match receive.recv() {
            Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(gone) => unreachable!("a result is sent, whatever becomes of the work: {gone}"),
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// The thread that takes shared memory; none if there is none to be had.
static WORKER: LazyLock<Option<Sender<Work>>> = LazyLock::new(|| {
    let (send, receive) = channel::<Work>();
    let spawned = Builder::new().name("decoding".to_owned()).spawn(move || receive.iter().for_each(|work| work()));
    spawned.ok().map(|_| send)
});

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.shared > 0 {
            HELD.set(HELD.get() - 1);
            *SHARED.lock() -= self.shared;
            SHARED.given_back.notify_all();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number is never half written.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn threads_share_what_bytes_do_not_justify_and_go_on_with_what_they_hold() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let hold = |memory: u64| {
            let held = Reservation::of(0, FREE_BYTES + memory);
            most.fetch_max(now.fetch_add(memory, Ordering::SeqCst) + memory, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            now.fetch_sub(memory, Ordering::SeqCst);
            drop(held);
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..4).for_each(|_| hold(SHARED_BYTES / 3)));
                scope.spawn(|| (0..4).for_each(|_| hold(2 * SHARED_BYTES)));
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 2 * SHARED_BYTES);
        let first = Reservation::of(0, 2 * SHARED_BYTES);
        let second = Reservation::of(0, 2 * SHARED_BYTES);
        assert_eq!(Reservation::of(1000, FREE_BYTES + 64_000).shared, 0);
        let elsewhere = first.take(|| std::thread::current().id());
        let again = second.take(|| std::thread::current().id());
        assert!(elsewhere == again && again != std::thread::current().id());
        assert_eq!(catch_unwind(|| second.take(|| panic!("here"))).unwrap_err().downcast_ref(), Some(&"here"));
        assert_eq!(second.take(|| 7), 7);
        drop((first, second));
    }
}
