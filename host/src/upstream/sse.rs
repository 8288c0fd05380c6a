//! A parser for server-sent events, as the HTML standard has them, for bytes as they come.
//!
//! Bytes and not text: a character may be cut between two chunks, but never within a line end, so only whole events are
//! turned into text. `id` and `retry` have no use here, since what was missed is asked for, never replayed.

use memchr::memchr;

use super::lines::{BYTES_MAX, Splitter, TooLong};

/// One event of the stream, or one line, or one polled answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The event's name; empty when it has none.
    pub name: String,
    /// Its data. Several `data` lines are joined by a line feed.
    pub data: String,
}

/// A parser between two chunks.
#[derive(Debug, Default)]
pub struct SseParser {
    splitter: Splitter,
    event: Event,
}

/// The event whose blank line has not come.
#[derive(Debug, Default)]
struct Event {
    name: Vec<u8>,
    data: Vec<u8>,
    /// An event without a `data` line is none; one with an empty `data` line is.
    has_data: bool,
    /// The stream's first line is behind us: a byte order mark can stand only before that.
    begun: bool,
}

impl SseParser {
    /// Takes the next bytes and appends the events that they complete. What the stream's end leaves incomplete is no
    /// event.
    ///
    /// # Errors
    /// For an event or a line of more than 1 MiB. `frames` then holds what came before; the parser is of no more use.
    pub fn push(&mut self, chunk: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let Self { splitter, event } = self;
        splitter.push(chunk, |line| event.take(line, frames))
    }
}

impl Event {
    fn take(&mut self, line: &[u8], frames: &mut Vec<Frame>) -> Result<(), TooLong> {
        let line = if self.begun { line } else { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            self.dispatch(frames);
            return Ok(());
        }
        // A comment is a line whose field has no name.
        let (field, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.append(value),
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
                Ok(())
            }
            // Unknown fields are ignored, as the standard says, and with them `id`, `retry` and comments.
            _ => Ok(()),
        }
    }

    fn append(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.name.len() + self.data.len() + value.len() >= BYTES_MAX {
            return Err(TooLong);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
        Ok(())
    }

    fn dispatch(&mut self, frames: &mut Vec<Frame>) {
        let name = std::mem::take(&mut self.name);
        if std::mem::take(&mut self.has_data) {
            frames.push(Frame { name: text(name), data: text(std::mem::take(&mut self.data)) });
        }
    }
}

/// Text from bytes; what is not UTF-8 becomes U+FFFD.
pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::{super::lines::LineParser, *};

    fn frame(name: &str, data: &str) -> Frame {
        Frame { name: name.to_owned(), data: data.to_owned() }
    }

    fn parse(chunks: &[&[u8]]) -> Vec<Frame> {
        let (mut parser, mut frames) = (SseParser::default(), Vec::new());
        chunks.iter().for_each(|chunk| parser.push(chunk, &mut frames).unwrap());
        frames
    }

    /// The standard, word by word, on a whole stream.
    fn reference(stream: &[u8]) -> Vec<Frame> {
        let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        let mut at = 0;
        while at < stream.len() {
            match stream[at] {
                b'\r' => {
                    at += usize::from(stream.get(at + 1) == Some(&b'\n'));
                    lines.push(Vec::new());
                }
                b'\n' => lines.push(Vec::new()),
                byte => lines.last_mut().unwrap().push(byte),
            }
            at += 1;
        }
        lines.pop();
        let (mut frames, mut name, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            if line.is_empty() {
                if !data.is_empty() {
                    data.pop();
                    let name = String::from_utf8_lossy(&name).into_owned();
                    frames.push(Frame { name, data: String::from_utf8_lossy(&data).into_owned() });
                }
                name.clear();
                data.clear();
                continue;
            }
            let colon = line.iter().position(|&byte| byte == b':');
            let field = &line[..colon.unwrap_or(line.len())];
            let value = colon.map_or(&[][..], |colon| &line[colon + 1..]);
            let value = if value.first() == Some(&b' ') { &value[1..] } else { value };
            if field == b"event" {
                name = value.to_vec();
            } else if field == b"data" {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
        }
        frames
    }

    const TRICKY: &[u8] =
        "\u{feff}: hello\r\nretry: 10\rdata: {\"a\":1}\nevent:first\r\n\r\ndata\ndata:  two\ndata:ä€🔑\nid: 1\0\n\n\
        event: lost\n\nevent: b\rdata: x:y\r\r\nunknown: z\n data: no\ndata:\n\n\ndata: cut off\n"
            .as_bytes();

    #[test]
    fn the_standards_corners_are_kept() {
        let frames = parse(&[TRICKY]);
        let expected = [frame("first", "{\"a\":1}"), frame("", "\n two\nä€🔑"), frame("b", "x:y"), frame("", "")];
        assert_eq!(frames, expected);
        assert_eq!(reference(TRICKY), expected);
    }

    #[test]
    fn it_does_not_matter_where_the_stream_is_cut() {
        let whole = parse(&[TRICKY]);
        for first in 0..=TRICKY.len() {
            assert_eq!(parse(&[&TRICKY[..first], &TRICKY[first..]]), whole, "{first}");
            for second in first..=TRICKY.len() {
                let chunks = [&TRICKY[..first], &TRICKY[first..second], &TRICKY[second..]];
                assert_eq!(parse(&chunks), whole, "{first} {second}");
            }
        }
        let bytes: Vec<&[u8]> = TRICKY.chunks(1).collect();
        assert_eq!(parse(&bytes), whole);
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % end
        }
    }

    #[test]
    fn generated_streams_parse_as_the_reference_does() {
        let pieces: [&[u8]; 24] = [
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\r\n\r\n",
            b"data",
            b"data:",
            b"data: ",
            b"event",
            b"event: ",
            b"id: ",
            b":",
            b": ",
            b" ",
            b"retry: 1",
            b"a",
            b"{\"x\":\"y\"}",
            "ä".as_bytes(),
            "🔑".as_bytes(),
            b"\xff",
            b"\xf0\x9f",
            b"\0",
            b"\xef\xbb\xbf",
            b"datadata: ",
        ];
        for seed in 1..=20_000 {
            let mut random = Xorshift(0x9e37_79b9_7f4a_7c15 ^ seed);
            let stream: Vec<u8> =
                (0..random.below(40)).flat_map(|_| pieces[random.below(pieces.len())]).copied().collect();
            let (mut chunks, mut rest) = (Vec::new(), &stream[..]);
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(random.below(8).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            assert_eq!(parse(&chunks), reference(&stream), "seed {seed}: {:?}", String::from_utf8_lossy(&stream));
        }
    }

    #[test]
    fn an_event_ends_at_one_mebibyte() {
        let (mut parser, mut frames) = (SseParser::default(), Vec::new());
        let fits = [b"data:", &vec![b'x'; BYTES_MAX - 5][..], b"\n\n"].concat();
        parser.push(&fits, &mut frames).unwrap();
        assert_eq!(frames[0].data.len(), BYTES_MAX - 5);
        let line = vec![b'x'; BYTES_MAX + 1];
        assert_eq!(parser.push(&line, &mut frames), Err(TooLong));
        assert_eq!(SseParser::default().push(&[&line[..], b"\n"].concat(), &mut frames), Err(TooLong));
        let mut parser = SseParser::default();
        let part = [b"data: ", &vec![b'x'; 1000][..], b"\n"].concat();
        let taken = (0..).take_while(|_| parser.push(&part, &mut frames).is_ok()).count();
        assert_eq!(taken, BYTES_MAX / 1001, "many lines of one event");
        assert_eq!(frames.len(), 1);
    }

    #[test]
    fn comments_and_empty_fields_keep_nothing() {
        let mut parser = SseParser::default();
        let mut frames = Vec::new();
        for _ in 0..10_000 {
            parser.push(b": comment\nid: 1\nretry: 2\nfoo: bar\n\n", &mut frames).unwrap();
        }
        assert_eq!(frames, []);
        assert_eq!((parser.event.name.capacity(), parser.event.data.capacity()), (0, 0));
    }

    #[test]
    fn a_feed_of_lines_gives_each_that_is_not_empty() {
        let stream = "{\"a\":1}\n\r\n{\"ä\":2}\r\n  \nlast".as_bytes();
        for cut in 0..=stream.len() {
            let (mut parser, mut frames) = (LineParser::default(), Vec::new());
            parser.push(&stream[..cut], &mut frames).unwrap();
            parser.push(&stream[cut..], &mut frames).unwrap();
            assert_eq!(frames.len(), 3);
            parser.finish(&mut frames);
            assert_eq!(frames, [frame("", "{\"a\":1}"), frame("", "{\"ä\":2}"), frame("", "  "), frame("", "last")]);
        }
    }
}
