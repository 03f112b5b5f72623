//! Fault injection, in debug builds only: `LCEPATCH_FAULT=KIND:N:WHAT` makes the N-th call of a kind fail with an I/O error (WHAT is
//! `error`), or ends the process just before it, as a crash would (`kill`). KIND `any` counts calls of all kinds. `tests/crash.rs` tries
//! every N of every kind.

/// Kinds of calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(debug_assertions), allow(dead_code))]
pub(super) enum Call {
    Create,
    Lock,
    Read,
    Write,
    Truncate,
    Sync,
    Permissions,
    Rename,
    Unlink,
}

/// Called before each system call.
///
/// # Errors
/// If this is the call that is to fail.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) fn point(_: Call) -> std::io::Result<()> {
    Ok(())
}

/// Called before each system call.
///
/// # Errors
/// If this is the call that is to fail.
#[cfg(debug_assertions)]
pub(super) fn point(call: Call) -> std::io::Result<()> {
    planned::FAULT.as_ref().map_or(Ok(()), |fault| fault.pass(call))
}

#[cfg(debug_assertions)]
mod planned {
    use super::Call;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let text = std::env::var("LCEPATCH_FAULT").ok()?;
        let fault = Fault::parse(&text);
        assert!(fault.is_some(), "LCEPATCH_FAULT={text}: expected KIND:N:error or KIND:N:kill");
        fault
    });

    pub(super) struct Fault {
        /// `None` for calls of all kinds.
        kind: Option<Call>,
        /// Which call is to fail, counted from 1.
        number: u64,
        /// Whether to end the process instead of returning an error.
        kill: bool,
        /// Number of calls so far.
        passed: AtomicU64,
    }

    impl Fault {
        fn parse(text: &str) -> Option<Self> {
            let mut parts = text.split(':');
            let (kind, number, what) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
            let kind = match kind {
                "any" => None,
                "create" => Some(Call::Create),
                "lock" => Some(Call::Lock),
                "read" => Some(Call::Read),
                "write" => Some(Call::Write),
                "truncate" => Some(Call::Truncate),
                "sync" => Some(Call::Sync),
                "permissions" => Some(Call::Permissions),
                "rename" => Some(Call::Rename),
                "unlink" => Some(Call::Unlink),
                _ => return None,
            };
            let kill = match what {
                "kill" => true,
                "error" => false,
                _ => return None,
            };
            Some(Self { kind, number, kill, passed: AtomicU64::new(0) })
        }

        pub(super) fn pass(&self, call: Call) -> std::io::Result<()> {
            if self.kind.is_some_and(|kind| kind != call) {
                return Ok(());
            }
            if self.passed.fetch_add(1, Ordering::Relaxed) + 1 != self.number {
                return Ok(());
            }
            if self.kill {
                std::process::abort();
            }
            Err(std::io::Error::other("a fault on purpose"))
        }
    }
}
