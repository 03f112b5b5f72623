//! Survives reads of mapped pages beyond the end of a file that was truncated, which would end the process with SIGBUS.
//!
//! A signal handler replaces the rest of the mapping by zeros and sets a flag in its [`Region`]. The read goes on, and the flag is checked
//! before its result is used. Every other SIGBUS is passed to the handler that was installed before.
#![allow(unsafe_code)]

use libc::{c_int, c_void, siginfo_t};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Watches a mapping until it is dropped, which must be before the mapping is unmapped.
#[derive(Debug)]
pub(super) struct Region(&'static Entry);

/// An entry of the linked list that the handler walks. Entries are reused and never freed, so that it can walk the list at any time.
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

    /// Whether bytes were replaced by zeros because the file no longer has them.
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

/// The signal handler. It may interrupt any code, so it uses nothing but atomics, `mmap`, `sigaction` and `raise`.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes a valid structure, which has an address if a memory access caused the signal (a positive code).
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if address.is_some_and(replace) {
        return;
    }
    let before = BEFORE.get().map_or((libc::SIG_DFL, 0), |before| (before.sa_sigaction, before.sa_flags));
    match before {
        (libc::SIG_IGN, _) if address.is_none() => {}
        (libc::SIG_DFL | libc::SIG_IGN, _) => {
            // SAFETY: plain calls. The signal is blocked in its handler, so that it is delivered after this function has returned.
            unsafe {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &default, ptr::null_mut());
                libc::raise(signal);
            }
        }
        // SAFETY: `SA_SIGINFO` says that the installed handler is a function of this type.
        (handler, flags) if flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(handler);
            handler(signal, info, context);
        },
        // SAFETY: without `SA_SIGINFO`, the installed handler is a function of this type.
        (handler, _) => unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        },
    }
}

/// Replaces the pages from `address` to the end of its mapping by zeros. Returns whether `address` is in a watched mapping.
fn replace(address: usize) -> bool {
    let page = PAGE_BYTES.load(Ordering::Acquire);
    for entry in entries() {
        let (start, end) = (entry.start.load(Ordering::Acquire), entry.end.load(Ordering::Acquire));
        // Mappings consist of whole pages.
        if page > 0 && (start..end.next_multiple_of(page)).contains(&address) {
            entry.lost.store(true, Ordering::Release);
            let from = address / page * page;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            // SAFETY: the pages belong to a mapping of this process that is only read. The code that faulted holds a slice of it, so
            // that it is not unmapped meanwhile.
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
    fn bytes_that_a_file_lost_are_read_as_zeros_and_reported() {
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
