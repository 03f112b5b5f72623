//! Syncing in the background while files are being written.

use super::Failed;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Time between the end of a background sync and the next one.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs `work`, which writes to files, while another thread repeatedly calls `sync` for them, so that little is left to do for a final
/// sync.
///
/// # Errors
/// What `work` or `sync` returns.
pub(super) fn while_syncing<T, E: From<Failed>>(
    sync: impl Fn() -> Result<(), Failed> + Sync,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let sync = &sync;
    std::thread::scope(|scope| {
        // The sender is dropped when the work ends, even if it fails or panics.
        let (working, finished) = channel::<()>();
        let sync = move || {
            while finished.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                // The system reports each write failure only once, so it must not be ignored here.
                sync()?;
            }
            Ok(())
        };
        // If no thread can be started, the final sync just takes longer.
        let syncing = std::thread::Builder::new().spawn_scoped(scope, sync);
        let done = work()?;
        drop(working);
        if let Ok(syncing) = syncing {
            syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Failed {
        Failed::Exists { path: "file".into() }
    }

    #[test]
    fn failures_of_either_side_are_returned_and_end_both() {
        assert!(matches!(while_syncing(|| Ok(()), || Ok::<_, Failed>(7)), Ok(7)));
        assert!(while_syncing(|| Ok(()), || Err::<(), Failed>(failed())).is_err());
        let slow = || {
            std::thread::sleep(4 * PAUSE);
            Ok::<_, Failed>(())
        };
        assert!(while_syncing(|| Err(failed()), slow).is_err());
        let panics = || while_syncing(|| Ok(()), || -> Result<(), Failed> { panic!("on purpose") });
        assert!(std::panic::catch_unwind(panics).is_err());
    }
}
