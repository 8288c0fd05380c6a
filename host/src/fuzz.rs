//! What must hold for any bytes, for the fuzzers of `tests/fuzz` and for a test here that tries a million of them. A
//! property that does not hold is a panic.
#![allow(clippy::panic, clippy::unwrap_used, clippy::missing_panics_doc, reason = "that is how a fuzzer is told")]

use crate::{
    events::{Batch, batches_in},
    http::seq_of,
    session::logged,
    upstream::{Frame, LineParser, Method, NetworkPolicy, Request, Slot, SseParser},
};

/// The first byte says where the rest is cut into chunks; the chunks make the same events as a plain reading of the
/// standard does of the whole.
pub fn sse(data: &[u8]) {
    let Some((&seed, text)) = data.split_first() else { return };
    let (mut parser, mut frames) = (SseParser::default(), Vec::new());
    let whole = chunks(seed, text).try_for_each(|chunk| parser.push(chunk, &mut frames));
    if whole.is_ok() {
        let found: Vec<_> = frames.into_iter().map(|Frame { name, data }| (name, data)).collect();
        assert_eq!(found, events_of(text));
    }
}

/// A stream of lines is the same lines however it is cut.
pub fn lines(data: &[u8]) {
    let Some((&seed, text)) = data.split_first() else { return };
    let read = |seed| {
        let (mut parser, mut frames) = (LineParser::default(), Vec::new());
        let whole = chunks(seed, text).try_for_each(|chunk| parser.push(chunk, &mut frames));
        parser.finish(&mut frames);
        whole.map(|()| frames)
    };
    if let (Ok(cut), Ok(whole)) = (read(seed), read(0)) {
        assert_eq!(cut, whole);
    }
}

/// A guest's path and query lead to the origin of the credential and below its base, or nowhere.
pub fn path(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
    let base = crate::upstream::BaseUrl::parse("https://api.example.com/v1", &NetworkPolicy::default()).unwrap();
    let slot = Slot::new("authorization", "Bearer").unwrap();
    let (query, headers) = (query.collect(), Vec::new());
    let request = Request { method: Method::Get, path: path.to_owned(), query, headers, body: None };
    let Ok(url) = request.url(&base, &slot) else { return };
    assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("api.example.com"), None), "{url}");
    assert!(url.path().starts_with("/v1/") && url.username().is_empty() && url.fragment().is_none(), "{url}");
    // Read again, and decoded, as a proxy might.
    let decoded = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
    for path in [url.path(), &decoded] {
        assert!(path.split(['/', '\\']).all(|segment| segment != "." && segment != ".."), "{url}");
    }
    assert!(!url.as_str().contains(['\r', '\n', ' ', '\0']), "{url}");
}

/// A cursor is a number in digits, or none.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match seq_of(text) {
        Some(seq) => assert_eq!(text.trim_start_matches('0').parse::<u64>().unwrap_or(0), seq),
        None => assert!(text.is_empty() || text.len() > 19 || !text.bytes().all(|byte| byte.is_ascii_digit())),
    }
}

/// Bytes that are read as a stored batch are that batch; no row makes a reader go on for ever.
pub fn record(data: &[u8]) {
    let (journaled, framed) = batches_in(data);
    assert!(journaled <= data.len() && framed <= data.len());
    let Ok(batch) = Batch::unpack(1, data) else { return };
    assert_eq!(batch.pack(), data);
    assert_eq!(batch.events().count() as u64, batch.last());
}

/// What the log takes is an object of JSON on one line that has an id.
pub fn event(data: &[u8]) {
    let Some(line) = std::str::from_utf8(data).ok().and_then(logged) else { return };
    assert!(!line.contains(['\n', '\r']));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(value["id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
}

fn chunks(seed: u8, text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let sizes =
        [usize::from(seed % 16), usize::from(seed / 16)].map(|size| if seed == 0 { usize::MAX } else { size + 1 });
    let (mut rest, mut sizes) = (text, sizes.into_iter().cycle());
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(1).min(rest.len());
        let (chunk, after) = rest.split_at(size);
        rest = after;
        (size > 0).then_some(chunk)
    })
}

/// The events of a whole stream, as the HTML standard has them.
fn events_of(text: &[u8]) -> Vec<(String, String)> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let (mut lines, mut line, mut bytes) = (Vec::new(), Vec::new(), text.iter().copied().peekable());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' && bytes.peek() == Some(&b'\n') {
                    bytes.next();
                }
                lines.push(std::mem::take(&mut line));
            }
            other => line.push(other),
        }
    }
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            events.extend(data.take().map(|data| (lossy(&name), lossy(&data))));
            continue;
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data = Some(match data {
                    Some(before) => [&before, &b"\n"[..], value].concat(),
                    None => value.to_vec(),
                });
            }
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    use super::*;

    /// Inputs for each property.
    const INPUTS: u64 = 400_000;

    /// Made of pieces that matter, cut, doubled and with single bytes changed.
    fn input(pieces: &[&[u8]], seed: u64, hasher: &RandomState) -> Vec<u8> {
        let mut turn = 0_u64;
        let mut below = |end: usize| {
            turn += 1;
            usize::try_from(hasher.hash_one((seed, turn)) % (end.max(1) as u64)).unwrap_or(0)
        };
        let mut data = Vec::new();
        for _ in 0..=below(8) {
            data.extend_from_slice(pieces[below(pieces.len())]);
        }
        for _ in 0..below(3) {
            let at = below(data.len());
            match below(4) {
                0 => data.truncate(at),
                1 => data.extend_from_within(..at),
                2 => data.insert(at, u8::try_from(below(256)).unwrap_or(0)),
                _ => {
                    if let Some(byte) = data.get_mut(at) {
                        *byte ^= 1 << below(8);
                    }
                }
            }
        }
        data
    }

    fn holds(property: fn(&[u8]), pieces: &[&[u8]]) {
        let hasher = RandomState::new();
        for seed in 0..INPUTS {
            let data = input(pieces, seed, &hasher);
            let kept = data.clone();
            std::panic::catch_unwind(|| property(&data))
                .unwrap_or_else(|_| panic!("{:?}", kept.escape_ascii().to_string()));
        }
    }

    #[test]
    fn streams_are_read_as_the_standard_has_them() {
        let pieces: &[&[u8]] = &[
            b"data: x",
            b"data:",
            b"data",
            b"event: a.b",
            b"id: 1",
            b"\n",
            b"\r\n",
            b"\r",
            b"\n\n",
            b": hb",
            b"retry: 1",
            "\u{feff}".as_bytes(),
            "\u{1f389}".as_bytes(),
            b"\xff",
            b"\0",
            b"\x11",
            b"  ",
            b":",
        ];
        holds(sse, pieces);
        holds(lines, pieces);
    }

    #[test]
    fn paths_stay_below_their_base() {
        let pieces: &[&[u8]] = &[
            b"/",
            b"//",
            b"..",
            b".",
            b"%2e",
            b"%2E%2e",
            b"%252e",
            b"%2f",
            b"%5c",
            b"\\",
            b";",
            b"@",
            b"evil.example",
            b":80",
            b"?",
            b"a=b",
            b"&",
            b"#",
            b"%00",
            b"%",
            b"sessions",
            b" ",
            b"\r\n",
            "\u{e9}".as_bytes(),
            b"http:",
        ];
        holds(path, pieces);
    }

    #[test]
    fn cursors_are_numbers_or_refused() {
        holds(cursor, &[b"0", b"1", b"18446744073709551615", b"9", b"+", b"-", b" ", b"x", b".", "\u{665}".as_bytes()]);
    }

    #[test]
    fn stored_bytes_are_a_batch_or_refused() {
        let mut draft = crate::events::Draft::default();
        draft.push("agent.message", r#"{"type":"agent.message","text":"gr\u{fc}n"}"#);
        draft.push("a", "{}");
        let packed = Batch::of(draft, 1).pack();
        holds(record, &[&packed, &packed[..5], &packed[5..], &[0; 8], &[0xff; 4], &[1, 1, 0, 0, 0], &[0, 0, 0, 1]]);
    }

    #[test]
    fn events_are_an_object_on_a_line_or_refused() {
        let pieces: &[&[u8]] = &[
            b"{",
            b"}",
            br#""type":"a""#,
            br#""id":"""#,
            br#""id":"x""#,
            br#""id":null"#,
            b",",
            b"\n",
            b"\r",
            br#""b":{"id":1}"#,
            br#"{"type":"a","id":""}"#,
            br#"{"type":"a"}"#,
            br#""processed_at":null"#,
            b"\\u0022",
            b" ",
            b"[",
            b"]",
            b"1e999",
            br#"["a","b"]"#,
        ];
        holds(event, pieces);
    }
}
