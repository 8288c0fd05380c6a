//! Takes a credential out of what an upstream sends back, in every spelling that an honest upstream could give it.
//!
//! A dishonest one knows the credential anyway and can spell it as it likes; this is for the error message, the debug
//! header and the echo endpoint.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use aho_corasick::BuildError;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::{BufMut, Bytes, BytesMut};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::words::Words;
use crate::vault::Secret;

/// What stands where a credential stood.
const REDACTED: &str = "[redacted]";

/// A shorter credential is searched only as it is: its encodings are so short that they could stand in any text.
const ENCODED_BYTES_MIN: usize = 8;
/// One shorter than this is not searched for at all.
const BYTES_MIN: usize = 4;

/// The characters that URL encoders of the common libraries leave as they are: RFC 3986, and JavaScript.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// Searches text for one credential.
///
/// Its spellings are cleared with it. Out of reach is the automaton that is made of them: its states have the spellings'
/// bytes in them, in memory of the `aho-corasick` crate, and are freed without being cleared.
pub struct Scrubber {
    /// `None` for a credential that is too short to be searched for.
    spellings: Option<Words>,
    found: AtomicU64,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber(..)")
    }
}

impl Scrubber {
    /// A searcher for this credential. Costs far more than a search: make one for each credential, not for each text.
    pub(super) fn new(secret: &Secret) -> Result<Self, BuildError> {
        let secret = secret.expose();
        let searched = secret.len() >= BYTES_MIN;
        let spellings = searched.then(|| Words::new(spellings(secret))).transpose()?;
        Ok(Self { spellings, found: AtomicU64::new(0) })
    }

    /// The text with `[redacted]` for every spelling of the credential. Text without one is handed back as it is.
    #[must_use]
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(spellings) = self.spellings.as_ref().filter(|spellings| spellings.are_in(text)) else {
            return Cow::Borrowed(text);
        };
        let mut clean = String::with_capacity(text.len());
        let (mut from, mut found) = (0, 0);
        // Every spelling is ASCII, so each match begins and ends between two characters.
        for hit in spellings.find_iter(text) {
            clean.push_str(&text[from..hit.start()]);
            clean.push_str(REDACTED);
            from = hit.end();
            found += 1;
        }
        clean.push_str(&text[from..]);
        self.count(found);
        Cow::Owned(clean)
    }

    fn count(&self, found: u64) {
        if found > 0 && self.found.fetch_add(found, Ordering::Relaxed) == 0 {
            tracing::warn!("an upstream sent its credential back; it was removed from the text");
        }
    }

    /// The same for a text of one's own, which costs nothing when there is nothing to remove.
    pub fn scrub_in_place(&self, text: &mut String) {
        if let Cow::Owned(clean) = self.scrub(text) {
            *text = clean;
        }
    }

    /// True when the text holds the credential in any spelling.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.spellings.as_ref().is_some_and(|spellings| spellings.are_in(text))
    }

    /// How many times the credential was taken out of a text.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
    }

    /// The length of the longest spelling, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.spellings.as_ref().map_or(0, Words::longest)
    }
}

/// Takes the credential out of bytes as they come. Asterisks stand for it, as many as it had characters: the length that
/// an answer has announced stays true.
pub(super) struct Scrubbing {
    scrubber: Arc<Scrubber>,
    held: Bytes,
}

impl Scrubbing {
    pub(super) const fn new(scrubber: Arc<Scrubber>) -> Self {
        Self { scrubber, held: Bytes::new() }
    }

    /// The bytes that are settled once these have come.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        self.with(|spellings, held, hide| spellings.settle(held, chunk.clone(), hide)).unwrap_or(chunk)
    }

    /// The bytes that have waited for what did not come.
    pub(super) fn finish(&mut self) -> Bytes {
        self.with(|spellings, held, hide| spellings.finish(held, hide)).unwrap_or_default()
    }

    /// Nothing for a credential that is not searched for.
    fn with(
        &mut self,
        settle: impl FnOnce(&Words, &mut Bytes, &mut dyn FnMut(&[u8], &mut BytesMut)) -> Bytes,
    ) -> Option<Bytes> {
        let spellings = self.scrubber.spellings.as_ref()?;
        let mut found = 0;
        let mut hide = |word: &[u8], clean: &mut BytesMut| {
            clean.put_bytes(b'*', word.len());
            found += 1;
        };
        let clean = settle(spellings, &mut self.held, &mut hide);
        self.scrubber.count(found);
        Some(clean)
    }
}

/// No spelling is longer than so many times the credential: a character of JSON's may become `\u003c`, and twice escaped
/// it becomes four.
const SPELLING_GROWTH: usize = 6;

/// Spellings of a credential, each once and in memory that is cleared. All are ASCII, since a credential is.
struct Spellings(Zeroizing<Vec<String>>);

impl Spellings {
    fn add(&mut self, mut spelling: Zeroizing<String>) {
        // Another one is cleared as it goes.
        if !self.0.contains(&spelling) {
            self.0.push(std::mem::take(&mut *spelling));
        }
    }
}

/// Every spelling.
fn spellings(secret: &str) -> Zeroizing<Vec<String>> {
    let bytes = secret.as_bytes();
    let mut all = Spellings(Zeroizing::default());
    all.add(Zeroizing::new(secret.to_owned()));
    if bytes.len() < ENCODED_BYTES_MIN {
        return all.0;
    }
    // Header names lose their case.
    all.add(Zeroizing::new(secret.to_ascii_lowercase()));
    all.add(Zeroizing::new(secret.to_ascii_uppercase()));
    for offset in 0..3 {
        all.add(base64_within(&BASE64_STANDARD_NO_PAD, bytes, offset));
        all.add(base64_within(&BASE64_URL_SAFE_NO_PAD, bytes, offset));
    }
    for before in ["", "%"] {
        all.add(hex(bytes, before, b"0123456789abcdef"));
        all.add(hex(bytes, before, b"0123456789ABCDEF"));
    }
    for kept in [UNRESERVED, COMPONENT, NON_ALPHANUMERIC] {
        let encoded = of_pieces(secret, utf8_percent_encode(secret, kept));
        all.add(lower_escapes(&encoded));
        all.add(replaced(&encoded, "%20", "+"));
        all.add(encoded);
    }
    let once = json_escaped(secret);
    all.add(replaced(&once, "/", "\\/"));
    all.add(json_escaped(&once));
    all.add(html_safe_json(&once));
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        all.add(escaped(secret, digits, |byte| byte == b'+' || b"<>&'`".contains(&byte)));
        all.add(escaped(secret, digits, |byte| !byte.is_ascii_alphanumeric()));
    }
    all.add(once);
    all.0
}

/// The secret with `\u00xx` for some of its characters, as JSON writers do that are careful about HTML, or about everything.
fn escaped(secret: &str, digits: &[u8; 16], wanted: impl Fn(u8) -> bool) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(6 * secret.len()));
    for byte in secret.bytes() {
        if wanted(byte) {
            all.push_str("\\u00");
            all.push(char::from(digits[usize::from(byte >> 4)]));
            all.push(char::from(digits[usize::from(byte & 15)]));
        } else {
            all.push(char::from(byte));
        }
    }
    all
}

/// The pieces in a row. The room is taken at once: a text that grows leaves a copy of itself behind, which nobody clears.
fn of_pieces<'a>(spelled: &str, pieces: impl IntoIterator<Item = &'a str>) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(SPELLING_GROWTH * spelled.len()));
    all.extend(pieces);
    all
}

fn replaced(text: &str, from: &str, to: &str) -> Zeroizing<String> {
    of_pieces(text, text.split(from).enumerate().flat_map(|(number, piece)| [if number == 0 { "" } else { to }, piece]))
}

/// What base64 makes of the secret when `offset` (mod 3) bytes stand before it: the characters that depend on it alone.
fn base64_within(engine: &impl Engine, secret: &[u8], offset: usize) -> Zeroizing<String> {
    let before = Zeroizing::new([&[0; 2][..offset], secret].concat());
    let encoded = Zeroizing::new(engine.encode(&*before));
    let start = (offset * 8).div_ceil(6);
    let end = before.len() * 8 / 6;
    Zeroizing::new(encoded[start..end].to_owned())
}

fn hex(secret: &[u8], before: &str, digits: &[u8; 16]) -> Zeroizing<String> {
    let mut all = Zeroizing::new(String::with_capacity(3 * secret.len()));
    for byte in secret {
        all.push_str(before);
        all.extend([byte >> 4, byte & 15].map(|digit| char::from(digits[usize::from(digit)])));
    }
    all
}

/// Percent-encoding with lower-case digits.
fn lower_escapes(encoded: &str) -> Zeroizing<String> {
    let mut lower = Zeroizing::new(encoded.to_owned());
    let mut from = 0;
    while let Some(escape) = lower[from..].find('%').map(|at| from + at) {
        from = lower.len().min(escape + 3);
        if let Some(digits) = lower.get_mut(escape..from) {
            digits.make_ascii_lowercase();
        }
    }
    lower
}

/// What stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> Zeroizing<String> {
    replaced(&replaced(text, "\\", "\\\\"), "\"", "\\\"")
}

/// JSON as libraries write it that guard against its use inside HTML.
fn html_safe_json(escaped: &str) -> Zeroizing<String> {
    replaced(&replaced(&replaced(escaped, "<", "\\u003c"), ">", "\\u003e"), "&", "\\u0026")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    const KEY: &str = "sk-ant/api+03_Qx\"2mWv&9Zp\\L4t=Rb8";

    fn scrubber(secret: &str) -> Scrubber {
        Scrubber::new(&Secret::new(secret.to_owned())).unwrap()
    }

    #[test]
    fn the_credential_goes_in_every_spelling() {
        let scrubber = scrubber(KEY);
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = serde_json::to_string(KEY).unwrap();
        let mut spellings = vec![
            KEY.to_owned(),
            hex.to_uppercase(),
            hex,
            json[1..json.len() - 1].to_owned(),
            json.replace('/', "\\/")[1..json.len()].to_owned(),
            serde_json::to_string(&json).unwrap(),
            utf8_percent_encode(KEY, UNRESERVED).to_string(),
            utf8_percent_encode(KEY, COMPONENT).to_string(),
            KEY.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            "sk-ant%2fapi%2b03_Qx%222mWv%269Zp%5cL4t%3dRb8".to_owned(),
        ];
        for before in ["", "u", "us", "user:", "Bearer "] {
            spellings.push(BASE64_STANDARD.encode(format!("{before}{KEY}")));
            spellings.push(BASE64_URL_SAFE.encode(format!("{before}{KEY}:x")));
        }
        for spelling in spellings {
            let text = format!("{{\"error\":\"{spelling}, ä\"}}");
            assert!(scrubber.contains(&text), "{spelling}");
            let clean = scrubber.scrub(&text).into_owned();
            assert!(clean.contains(REDACTED) && clean.ends_with(", ä\"}"), "{clean}");
            assert!(!scrubber.contains(&clean), "{clean}");
        }
    }

    #[test]
    fn every_occurrence_goes_and_the_rest_stays() {
        let scrubber = scrubber(KEY);
        let text = format!("ä{KEY}{KEY}ö{}", &KEY[..KEY.len() - 1]);
        let mut clean = text.clone();
        scrubber.scrub_in_place(&mut clean);
        assert_eq!(clean, format!("ä{REDACTED}{REDACTED}ö{}", &KEY[..KEY.len() - 1]));
        assert_eq!(scrubber.scrub(&text), clean);
        assert_eq!(scrubber.found(), 4);
    }

    #[test]
    fn text_without_the_credential_is_not_copied() {
        let scrubber = scrubber(KEY);
        assert!(matches!(scrubber.scrub("sk-ant-"), Cow::Borrowed("sk-ant-")));
        assert_eq!(scrubber.found(), 0);
    }

    #[test]
    fn a_short_credential_is_searched_as_it_is_and_a_tiny_one_not_at_all() {
        assert_eq!(scrubber("pass").scrub("a pass b"), "a [redacted] b");
        assert_eq!(scrubber("pass").scrub("70617373"), "70617373");
        assert_eq!(scrubber("key").scrub("a key b"), "a key b");
    }

    #[test]
    fn the_credential_goes_out_of_a_stream_wherever_it_is_cut() {
        let text = format!("ä{KEY}{KEY}{} {}", BASE64_STANDARD.encode(KEY), &KEY[..9]);
        let expected = |clean: &[u8]| {
            let clean = std::str::from_utf8(clean).unwrap();
            assert_eq!(clean.len(), text.len());
            assert!(clean.starts_with("ä***") && clean.ends_with(&format!("* {}", &KEY[..9])), "{clean}");
            assert!(!scrubber(KEY).contains(clean), "{clean}");
        };
        for size in 1..text.len() {
            let scrubber = Arc::new(scrubber(KEY));
            let mut scrubbing = Scrubbing::new(Arc::clone(&scrubber));
            let mut clean = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                clean.extend(scrubbing.push(Bytes::copy_from_slice(piece)));
            }
            clean.extend(scrubbing.finish());
            expected(&clean);
            assert_eq!(scrubber.found(), 3);
        }
        let mut tiny = Scrubbing::new(Arc::new(scrubber("key")));
        assert_eq!((tiny.push(Bytes::from_static(b"key")), tiny.finish()), (Bytes::from_static(b"key"), Bytes::new()));
    }

    #[test]
    fn a_scrubber_prints_nothing() {
        assert_eq!(format!("{:?}", scrubber(KEY)), "Scrubber(..)");
    }
}
