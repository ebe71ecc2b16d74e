//! Keeps panics of a run from being printed, and keeps what they said.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on what panics on a thread in a run is kept, and shown if the run fails. Panics that are meant to be
/// (`resume_unwind`) do not come here.
pub(crate) fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let running = LAST.with_borrow_mut(|last| last.as_mut().map(|last| *last = info.to_string()));
            if running.is_none() {
                usual(info);
            }
        }));
    });
}

/// Runs something, and says what panicked in it last.
pub(crate) fn with_kept<R>(run: impl FnOnce() -> R) -> (R, Option<String>) {
    keep_panics();
    LAST.set(Some(String::new()));
    let result = run();
    (result, LAST.take().filter(|last| !last.is_empty()))
}
