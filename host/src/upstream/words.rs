//! Words in bytes that come in pieces: a word that is cut between two pieces is found as well.
//!
//! For `scrub.rs`, which takes the credential out of what streams by, and for whoever has another name for something
//! than the upstream has. Bytes that may be the beginning of a word wait for what follows; all others go on at once.

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, FindIter, MatchKind};
use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

/// What is searched for. None of them is empty.
pub(super) struct Words {
    search: AhoCorasick,
    all: Zeroizing<Vec<String>>,
}

impl Words {
    pub(super) fn new(all: Zeroizing<Vec<String>>) -> Result<Self, BuildError> {
        // The compact automaton: the fast one takes megabytes for a long token, and the prefilter does the work.
        let mut builder = AhoCorasick::builder();
        builder.kind(Some(AhoCorasickKind::ContiguousNFA)).match_kind(MatchKind::LeftmostLongest);
        Ok(Self { search: builder.build(&*all)?, all })
    }

    pub(super) fn are_in(&self, text: &str) -> bool {
        self.search.is_match(text)
    }

    pub(super) fn find_iter<'a, 'h>(&'a self, text: &'h str) -> FindIter<'a, 'h> {
        self.search.find_iter(text)
    }

    /// The length of the longest one, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.search.max_pattern_len()
    }

    /// How many of the last bytes may be the beginning of a word whose rest has not come.
    fn begun(&self, bytes: &[u8]) -> usize {
        let of_word = |word: &String| {
            let word = word.as_bytes();
            let most = (word.len() - 1).min(bytes.len());
            (1..=most).rev().find(|&length| bytes.ends_with(&word[..length])).unwrap_or(0)
        };
        self.all.iter().map(of_word).max().unwrap_or(0)
    }

    /// The bytes that are settled when `chunk` comes behind those that were `held`, with `replace` called for each word
    /// to write what stands for it.
    pub(super) fn settle(
        &self,
        held: &mut Bytes,
        chunk: Bytes,
        mut replace: impl FnMut(&[u8], &mut BytesMut),
    ) -> Bytes {
        let bytes = if held.is_empty() { chunk } else { Bytes::from([&held[..], &chunk].concat()) };
        let (mut settled, mut from) = (BytesMut::new(), 0);
        let end = loop {
            let rest = &bytes[from..];
            let end = bytes.len() - self.begun(rest);
            // A word that begins where one has begun already may become a longer one.
            match self.search.find(rest).filter(|word| from + word.start() < end) {
                None => break end,
                Some(word) => {
                    settled.extend_from_slice(&rest[..word.start()]);
                    replace(&rest[word.range()], &mut settled);
                    from += word.end();
                }
            }
        };
        // A copy, for a slice would keep the whole piece in memory.
        *held = Bytes::copy_from_slice(&bytes[end..]);
        if from == 0 {
            return bytes.slice(..end);
        }
        settled.extend_from_slice(&bytes[from..end]);
        settled.freeze()
    }

    /// The bytes that were held when nothing follows.
    pub(super) fn finish(&self, held: &mut Bytes, mut replace: impl FnMut(&[u8], &mut BytesMut)) -> Bytes {
        let bytes = std::mem::take(held);
        let (mut settled, mut from) = (BytesMut::new(), 0);
        for word in self.search.find_iter(&bytes) {
            settled.extend_from_slice(&bytes[from..word.start()]);
            replace(&bytes[word.range()], &mut settled);
            from = word.end();
        }
        settled.extend_from_slice(&bytes[from..]);
        settled.freeze()
    }
}

/// Another name for one thing, wherever a stream of bytes names it.
pub struct Renaming {
    word: Words,
    name: String,
    held: Bytes,
}

impl Renaming {
    /// Puts `name` where `word` stands; nothing for a word that cannot be searched for.
    #[must_use]
    pub fn new(word: String, name: String) -> Option<Self> {
        if word.is_empty() {
            return None;
        }
        let word = Words::new(Zeroizing::new(vec![word])).ok()?;
        Some(Self { word, name, held: Bytes::new() })
    }

    /// The bytes that are settled once these have come.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let Self { word, name, held } = self;
        word.settle(held, chunk, |_, settled| settled.extend_from_slice(name.as_bytes()))
    }

    /// The bytes that have waited for what did not come.
    pub fn finish(&mut self) -> Bytes {
        let Self { word, name, held } = self;
        word.finish(held, |_, settled| settled.extend_from_slice(name.as_bytes()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// What becomes of a text that comes in pieces of these sizes, in turn.
    fn renamed(words: &[&str], text: &str, sizes: &[usize]) -> String {
        let words = Words::new(Zeroizing::new(words.iter().map(|&word| word.to_owned()).collect())).unwrap();
        let replace = |word: &[u8], settled: &mut BytesMut| settled.extend_from_slice(&vec![b'*'; word.len()]);
        let (mut held, mut all, mut from) = (Bytes::new(), Vec::new(), 0);
        for size in sizes.iter().cycle() {
            let to = (from + size).min(text.len());
            all.extend(words.settle(&mut held, Bytes::copy_from_slice(&text.as_bytes()[from..to]), replace));
            assert!(held.len() < words.longest());
            from = to;
            if from == text.len() {
                break;
            }
        }
        all.extend(words.finish(&mut held, replace));
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn a_word_is_found_wherever_it_is_cut() {
        let words = ["abc", "abcdef", "efg", "aab", "xyxyz"];
        let texts = [
            "abc",
            "abcdef",
            "abcde",
            "xxabcdefg",
            "abcdabcdef",
            "aaab",
            "ab",
            "aabcdef",
            "abcefgefabc",
            "xyxyxyz",
            "xyxy",
            "nothing",
            "abcdexyxyz",
            "defabcdefabcabcd",
        ];
        for text in texts {
            let whole = renamed(&words, text, &[text.len()]);
            for size in 1..=text.len() {
                assert_eq!(renamed(&words, text, &[size]), whole, "{text} by {size}");
                assert_eq!(renamed(&words, text, &[size, 1, 2]), whole, "{text} by {size}, 1, 2");
            }
        }
        assert_eq!(renamed(&words, "xxabcdefg abc", &[1]), "xx******g ***");
    }

    #[test]
    fn what_cannot_be_the_beginning_of_a_word_does_not_wait() {
        let mut renaming = Renaming::new("\"sesn_1\"".to_owned(), "\"ses_9\"".to_owned()).unwrap();
        assert_eq!(
            renaming.push(Bytes::from_static(b"data: {\"id\":\"sevt_1\"}\n\n")),
            "data: {\"id\":\"sevt_1\"}\n\n"
        );
        assert_eq!(renaming.push(Bytes::from_static(b"{\"session_id\":\"sesn")), "{\"session_id\":");
        assert_eq!(renaming.push(Bytes::from_static(b"_1\"}")), "\"ses_9\"}");
        assert_eq!(renaming.push(Bytes::from_static(b"\"sesn_1")), "");
        assert_eq!(renaming.push(Bytes::from_static(b"1\"\"sesn_")), "\"sesn_11\"");
        assert_eq!((renaming.finish(), renaming.finish()), (Bytes::from_static(b"\"sesn_"), Bytes::new()));
        assert!(Renaming::new(String::new(), "x".to_owned()).is_none());
    }
}
