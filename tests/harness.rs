//! Runs the tests. It takes the arguments of the standard harness and prints what that one prints, but a test can say
//! while it runs that something is missing which this machine does not have: then it is ignored, with the reason.

use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A test, as `#[test]` registers it.
pub struct Case {
    pub module: &'static str,
    pub name: &'static str,
    pub run: fn(),
}

inventory::collect!(Case);

/// What a test unwinds with that cannot run here.
struct Missing(String);

/// Ends the test that calls it: it is ignored with this reason. Where `LCEPATCH_TESTS` is `all`, as in CI, it fails.
pub fn missing(reason: impl Into<String>) -> ! {
    let reason = reason.into();
    assert!(std::env::var_os("LCEPATCH_TESTS").is_none_or(|which| which != "all"), "not ignored: {reason}");
    missing_anywhere(reason)
}

/// As [`missing`], of what is so large that CI need not have it either.
pub fn missing_anywhere(reason: impl Into<String>) -> ! {
    let reason = reason.into();
    // Past the panic hook, since nothing is wrong.
    resume_unwind(Box::new(Missing(reason)))
}

thread_local! {
    /// What the test on this thread said when it panicked; none on threads that run no test.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

impl Case {
    fn trial(&'static self) -> Trial {
        // Names begin with the binary's own.
        let module = self.module.split_once("::").map_or("", |(_, module)| module);
        Trial::ignorable_test(format!("{module}::{}", self.name), || {
            PANIC.set(Some(String::new()));
            let result = catch_unwind(AssertUnwindSafe(self.run));
            let panic = PANIC.take();
            match result {
                Ok(()) => Ok(Completion::Completed),
                Err(payload) => match payload.downcast::<Missing>() {
                    Ok(missing) => Ok(Completion::ignored_with(missing.0)),
                    Err(_) => Err(Failed::from(panic.unwrap_or_default())),
                },
            }
        })
    }
}

/// Runs all tests that the command line asks for.
pub fn run() -> Conclusion {
    let mut arguments = Arguments::from_args();
    if arguments.test_threads.is_none() {
        arguments.test_threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|number| number.parse().ok());
    }
    // A test's panic is printed once, with its name, at the end.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let trace = Backtrace::capture();
        let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
        let of_test = PANIC.with_borrow_mut(|panic| panic.as_mut().map(|panic| *panic = format!("{info}\n{trace}")));
        if of_test.is_none() {
            default(info);
        }
    }));
    let mut trials: Vec<Trial> = inventory::iter::<Case>().map(Case::trial).collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    libtest_mimic::run(&arguments, trials)
}
