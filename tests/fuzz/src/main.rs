//! One fuzzer for all properties of `host/src/fuzz.rs`; `LAP_FUZZ` names the one. `./run` sets it.
#![no_main]

use std::{env, process, sync::LazyLock};

use libfuzzer_sys::fuzz_target;

static PROPERTY: LazyLock<fn(&[u8])> = LazyLock::new(|| match env::var("LAP_FUZZ").as_deref() {
    Ok("sse") => lap::fuzz::sse,
    Ok("lines") => lap::fuzz::lines,
    Ok("path") => lap::fuzz::path,
    Ok("cursor") => lap::fuzz::cursor,
    Ok("record") => lap::fuzz::record,
    Ok("event") => lap::fuzz::event,
    _ => {
        eprintln!("LAP_FUZZ must be sse, lines, path, cursor, record or event");
        process::exit(2);
    }
});

fuzz_target!(|data: &[u8]| PROPERTY(data));
