//! Mapped pages that the file no longer has: reading one would end the process with SIGBUS.
//!
//! A handler puts zeros in the place of all that follows in the mapping, and notes it in its [`Region`]; who reads goes on, and is
//! told at the end. Every other SIGBUS goes to the handler that was there before.
#![allow(unsafe_code)]

use libc::{c_int, c_void, siginfo_t};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// A mapping that is watched, until it is dropped. It has to go before the mapping does.
#[derive(Debug)]
pub(super) struct Region(&'static Entry);

/// One place of the list that the handler walks. Entries are used again and never freed, so that it can walk at any time.
#[derive(Debug)]
struct Entry {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
    next: AtomicPtr<Entry>,
}

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

impl Region {
    /// Watches the mapping of `bytes` bytes at `start`.
    pub fn watch(start: *const u8, bytes: usize) -> Self {
        install();
        let entry = entries().find(|entry| !entry.taken.swap(true, Ordering::AcqRel)).unwrap_or_else(add);
        entry.lost.store(false, Ordering::Release);
        entry.end.store(start as usize + bytes, Ordering::Release);
        entry.start.store(start as usize, Ordering::Release);
        Self(entry)
    }

    /// Whether zeros were read in the place of what the file no longer has.
    pub fn lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: the pointer is null or that of a leaked box.
    let at = |pointer: &AtomicPtr<Entry>| unsafe { pointer.load(Ordering::Acquire).as_ref() };
    std::iter::successors(at(&FIRST), move |entry| at(&entry.next))
}

fn add() -> &'static Entry {
    let entry: &'static Entry = Box::leak(Box::new(Entry {
        taken: AtomicBool::new(true),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let _ = FIRST.fetch_update(Ordering::AcqRel, Ordering::Acquire, |first| {
        entry.next.store(first, Ordering::Release);
        Some(ptr::from_ref(entry).cast_mut())
    });
    entry
}

fn install() {
    BEFORE.get_or_init(|| {
        // SAFETY: plain calls with pointers to values that live through them; all fields of the structures are integers, for which zero
        // is a value. Only this function sets the handler, once.
        unsafe {
            PAGE_BYTES.store(libc::sysconf(libc::_SC_PAGESIZE) as usize, Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, &action, &mut before);
            before
        }
    });
}

/// Runs in the middle of anything: it only uses atomics, `mmap`, `sigaction` and `raise`.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives a valid structure, which has an address if the signal is of a memory access (a positive code).
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if address.is_some_and(replace) {
        return;
    }
    let before = BEFORE.get().map_or((libc::SIG_DFL, 0), |before| (before.sa_sigaction, before.sa_flags));
    match before {
        (libc::SIG_IGN, _) if address.is_none() => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) => {
            // SAFETY: plain calls. The signal is blocked here, so that it comes when this function has returned.
            unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
                libc::raise(signal);
            }
        }
        // SAFETY: what was installed as a handler of this kind is a function of this type.
        (handler, flags) if flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(handler);
            handler(signal, info, context);
        },
        // SAFETY: as above.
        (handler, _) => unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        },
    }
}

/// Puts zeros in the place of what follows `address` in a watched mapping; whether it is in one.
fn replace(address: usize) -> bool {
    let page = PAGE_BYTES.load(Ordering::Acquire);
    for entry in entries() {
        let (start, end) = (entry.start.load(Ordering::Acquire), entry.end.load(Ordering::Acquire));
        // The mapping is of whole pages.
        if page > 0 && (start..end.next_multiple_of(page)).contains(&address) {
            entry.lost.store(true, Ordering::Release);
            let from = address / page * page;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            // SAFETY: the pages belong to a mapping of ours, which is only ever read, and which whoever faulted here holds a slice of,
            // so that it is not unmapped meanwhile.
            let zeros = unsafe { libc::mmap(from as *mut c_void, end - from, libc::PROT_READ, flags, -1, 0) };
            return zeros != libc::MAP_FAILED;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::map::FileBytes;
    use std::fs::File;

    #[test]
    fn what_a_file_no_longer_has_is_read_as_zeros_and_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let whole = FileBytes::map(File::open(&path).unwrap()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert_eq!(whole.bytes(0..1)[0], 7);
        assert!(!whole.lost());
        assert_eq!(whole.bytes(1 << 19..1 << 20).iter().map(|byte| u64::from(*byte)).sum::<u64>(), 0);
        assert!(whole.lost());
        drop(whole);
        assert!(!FileBytes::map(File::open(&path).unwrap()).unwrap().lost());
    }
}
