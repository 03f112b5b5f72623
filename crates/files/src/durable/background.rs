//! Letting the disk begin before everything is written.

use super::Failed;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How long what is written may wait until the disk is asked to take it.
const PAUSE: Duration = Duration::from_millis(10);

/// Does `work`, which writes to files, while another thread calls `sync` for them again and again, so that a sync at the end has
/// little left to wait for.
///
/// # Errors
/// What `work` or `sync` returns.
pub(super) fn while_syncing<T, E: From<Failed>>(
    sync: impl Fn() -> Result<(), Failed> + Sync,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let sync = &sync;
    std::thread::scope(|scope| {
        // Dropped when the work is done, and also when it fails or panics.
        let (working, finished) = channel::<()>();
        let sync = move || {
            while finished.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                // The system reports each failure once, so none may be passed over here.
                sync()?;
            }
            Ok(())
        };
        // Where no thread can be had, the sync at the end takes longer.
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
