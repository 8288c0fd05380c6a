//! Server-sent events, read no further than a measurement needs.

use memchr::memmem::Finder;

/// What has come of a stream and is not used up.
pub(crate) struct Frames {
    pub(crate) text: Vec<u8>,
    end: Finder<'static>,
}

/// One event.
#[derive(Debug, PartialEq)]
pub(crate) struct Event<'a> {
    pub(crate) id: Option<u64>,
    /// Empty for a comment.
    pub(crate) kind: &'a [u8],
    pub(crate) stamp: Option<Stamp>,
}

/// What the simulator writes into the events that it repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stamp {
    /// Its place in the turn, from 0.
    pub(crate) n: u64,
    /// When it was made, in nanoseconds since the epoch.
    pub(crate) sent_ns: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self { text: Vec::new(), end: Finder::new(b"\n\n") }
    }

    /// Uses up the events that are whole.
    pub(crate) fn take(&mut self, mut each: impl FnMut(&Event<'_>)) {
        let mut rest = &self.text[..];
        while let Some(end) = self.end.find(rest) {
            each(&event(&rest[..end]));
            rest = &rest[end + 2..];
        }
        let used = self.text.len() - rest.len();
        self.text.drain(..used);
    }
}

/// Fields are expected as both sides write them: `id`, `event`, and last one line of `data`.
fn event(mut frame: &[u8]) -> Event<'_> {
    let mut event = Event { id: None, kind: b"", stamp: None };
    loop {
        if let Some(data) = frame.strip_prefix(b"data: ") {
            event.stamp = stamp(data);
            return event;
        }
        let end = memchr::memchr(b'\n', frame).unwrap_or(frame.len());
        let line = &frame[..end];
        if let Some(id) = line.strip_prefix(b"id: ") {
            event.id = last_number(id).map(|(id, _)| id);
        } else if let Some(kind) = line.strip_prefix(b"event: ") {
            event.kind = kind;
        }
        match frame.get(end + 1..) {
            Some(rest) => frame = rest,
            None => return event,
        }
    }
}

/// The stamp stands at the end: `…,"n":7,"sent_ns":"1795444370681766309"}`.
fn stamp(data: &[u8]) -> Option<Stamp> {
    let (sent_ns, rest) = last_number(data.strip_suffix(b"\"}")?)?;
    let (n, rest) = last_number(rest.strip_suffix(b",\"sent_ns\":\"")?)?;
    rest.ends_with(b",\"n\":").then_some(Stamp { n, sent_ns })
}

/// The number that a text ends with, and what stands before it.
fn last_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, digits) = text.split_at(text.len() - digits);
    let number = str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 2000\n: here are events\n\n\
        id: 41\nevent: agent.message\n\
        data: {\"id\":\"sevt_1\",\"n\":5,\"text\":\"“a”\",\"n\":0,\"sent_ns\":\"1795444370681766309\"}\n\n\
        event: session.status_idle\ndata: {\"type\":\"session.status_idle\",\"x\":\"1\"}\n\n: hb\n\nid: 4";

    fn read(frames: &mut Frames) -> Vec<(Option<u64>, Vec<u8>, Option<Stamp>)> {
        let mut events = Vec::new();
        frames.take(|event| events.push((event.id, event.kind.to_vec(), event.stamp)));
        events
    }

    #[test]
    fn events_are_found_wherever_the_reads_end() {
        let stamp = Stamp { n: 0, sent_ns: 1_795_444_370_681_766_309 };
        let expected = [
            (None, Vec::new(), None),
            (Some(41), b"agent.message".to_vec(), Some(stamp)),
            (None, b"session.status_idle".to_vec(), None),
            (None, Vec::new(), None),
        ];
        for cut in 0..=STREAM.len() {
            let mut frames = Frames::new();
            frames.text.extend_from_slice(&STREAM.as_bytes()[..cut]);
            let mut events = read(&mut frames);
            frames.text.extend_from_slice(&STREAM.as_bytes()[cut..]);
            events.extend(read(&mut frames));
            assert_eq!(events, expected, "{cut}");
            assert_eq!(frames.text, b"id: 4");
        }
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        for data in ["", "{}", "\"}", "{\"sent_ns\":\"5\"}", "{\"n\":,\"sent_ns\":\"5\"}", "{\"n\":1,\"sent_ns\":\"\"}"]
        {
            assert_eq!(stamp(data.as_bytes()), None, "{data}");
        }
    }
}
