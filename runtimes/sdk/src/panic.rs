//! The last words of a guest. A panic is a trap, and what traps without WASI has no voice of its own: the operator would
//! read `unreachable` and a list of functions.

/// From now on a panic is written into the operator's log, with its place in the source, before it traps. Natively the
/// standard library does that already.
pub(crate) fn tell() {
    #[cfg(target_family = "wasm")]
    {
        use std::{panic, sync::Once};

        use crate::{Level, log};

        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            panic::set_hook(Box::new(|panicked| {
                let at = panicked.location().map_or_else(String::new, |place| format!(" at {place}"));
                log(Level::Error, &format!("panicked{at}: {}", panicked.payload_as_str().unwrap_or("no message")));
            }));
        });
    }
}
