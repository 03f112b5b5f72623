//! Limits the memory of decoded blocks, so that a small file cannot take memory in proportion to the number of threads.
//!
//! A block of constant runs takes a hundred bytes in a file and a hundred megabytes decoded, on each thread that decodes one. Memory
//! beyond a multiple of a block's bytes in the file therefore comes from a budget that all threads share, and a thread waits until
//! enough of it is free. Blocks of real deltas take a bit or more for each element in the file, and never wait.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;

/// Bytes of memory that any block may take outside the shared budget.
const FREE_BYTES: u64 = 1 << 20;
/// Bytes of memory that a block may take outside the shared budget for each of its bytes in the file. Blocks in which nine of ten
/// deltas are 1 or -1 take about as much.
const FREE_BYTES_PER_BYTE: u64 = 64;
/// The shared budget, in bytes. A block that takes more than all of it waits until no other block takes any.
const SHARED_BYTES: u64 = 64 << 20;

static FIRST: OnceLock<Shared> = OnceLock::new();

/// What the threads of one process share. A process that was forked has none of its parent's threads: what these hold nobody gives back
/// there, and what they do for others nobody does.
struct Shared {
    process: u32,
    taken: Mutex<u64>,
    given_back: Condvar,
    /// The thread that allocates shared memory, or `None` if the system has no thread left.
    worker: OnceLock<Option<Sender<Work>>>,
    /// That of a process that was forked from this one. It is there in that process alone.
    forked: OnceLock<Box<Shared>>,
}

impl Shared {
    fn new(process: u32) -> Self {
        let (worker, forked) = (OnceLock::new(), OnceLock::new());
        Self { process, taken: Mutex::new(0), given_back: Condvar::new(), worker, forked }
    }

    /// That of this process.
    fn here() -> &'static Self {
        let process = std::process::id();
        let mut shared = FIRST.get_or_init(|| Self::new(process));
        while shared.process != process {
            shared = shared.forked.get_or_init(|| Box::new(Self::new(process)));
        }
        shared
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // The number is valid even if a thread panicked while it held the lock.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self) -> Option<&Sender<Work>> {
        let start = || {
            let (send, receive) = channel::<Work>();
            let run = move || receive.iter().for_each(|work| work());
            Builder::new().name("decoding".to_owned()).spawn(run).ok().map(|_| send)
        };
        self.worker.get_or_init(start).as_ref()
    }
}

thread_local! {
    /// The number of reservations of shared memory that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Memory that is reserved for a decoded block, until this is dropped.
///
/// A thread that holds shared memory never waits for more, because other threads may wait for the memory that it holds. For the same
/// reason it must not wait for other threads to decode: no parallel iterator runs while a block is held.
#[derive(Debug)]
pub(crate) struct Reservation {
    shared: u64,
    /// Makes the type `!Send`: a reservation counts for the thread that made it.
    thread: PhantomData<*const ()>,
}

impl Reservation {
    /// Reserves memory for a block of `encoded` bytes that takes `memory` bytes decoded. Waits until enough is free.
    pub fn new(encoded: u64, memory: u64) -> Self {
        let shared = memory.saturating_sub(FREE_BYTES + FREE_BYTES_PER_BYTE.saturating_mul(encoded));
        if shared > 0 {
            let here = Shared::here();
            let mut taken = here.lock();
            while *taken > 0 && *taken + shared > SHARED_BYTES && HELD.get() == 0 {
                taken = here.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
            }
            *taken += shared;
            HELD.set(HELD.get() + 1);
        }
        Self { shared, thread: PhantomData }
    }

    /// Whether some of it comes from the shared budget.
    pub fn is_shared(&self) -> bool {
        self.shared > 0
    }

    /// Runs `work`, which allocates the reserved memory, on one thread that does this for all others. Allocators keep freed memory for
    /// the thread that freed it, and would otherwise keep the memory of a block for each thread that ever decoded one.
    pub fn allocate<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = channel();
        let work: Work = Box::new(move || _ = send.send(catch_unwind(AssertUnwindSafe(work))));
        match Shared::here().worker() {
            // The receiver lives as long as the process.
            Some(worker) => worker.send(work).unwrap_or_else(|SendError(work)| work()),
            None => work(),
        }
        match receive.recv() {
            Ok(result) => result.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(disconnected) => unreachable!("the work always sends its result, even if it panics: {disconnected}"),
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.shared > 0 {
            HELD.set(HELD.get() - 1);
            let here = Shared::here();
            *here.lock() -= self.shared;
            here.given_back.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn threads_share_a_budget_and_never_wait_while_they_hold_some_of_it() {
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let hold = |memory: u64| {
            let held = Reservation::new(0, FREE_BYTES + memory);
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
        let first = Reservation::new(0, 2 * SHARED_BYTES);
        let second = Reservation::new(0, 2 * SHARED_BYTES);
        assert_eq!(Reservation::new(1000, FREE_BYTES + 64_000).shared, 0);
        let elsewhere = first.allocate(|| std::thread::current().id());
        let again = second.allocate(|| std::thread::current().id());
        assert!(elsewhere == again && again != std::thread::current().id());
        assert_eq!(catch_unwind(|| second.allocate(|| panic!("here"))).unwrap_err().downcast_ref(), Some(&"here"));
        assert_eq!(second.allocate(|| 7), 7);
        drop((first, second));
    }
}
