//! The types of keys and values that the database knows, and how each looks as bytes.
//!
//! The bytes of two keys are in the order of the keys themselves, so that a span of the one is a span of the other.

use redb::Value;

/// A type of keys or values.
pub(crate) trait Column: Value + 'static {
    /// Its bytes, which are made in `spare` where it is not bytes already.
    fn bytes<'a>(value: &'a Self::SelfType<'_>, spare: &'a mut Vec<u8>) -> &'a [u8];

    /// The value with these bytes; nothing for what [`Self::bytes`] does not make.
    fn read(bytes: &[u8]) -> Option<Self::SelfType<'_>>;
}

impl Column for u32 {
    fn bytes<'a>(value: &'a Self, spare: &'a mut Vec<u8>) -> &'a [u8] {
        made(spare, &[&value.to_be_bytes()])
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl Column for u64 {
    fn bytes<'a>(value: &'a Self, spare: &'a mut Vec<u8>) -> &'a [u8] {
        made(spare, &[&value.to_be_bytes()])
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl Column for () {
    fn bytes<'a>((): &'a Self, _: &'a mut Vec<u8>) -> &'a [u8] {
        &[]
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

impl Column for &'static [u8] {
    fn bytes<'a>(value: &'a &[u8], _: &'a mut Vec<u8>) -> &'a [u8] {
        value
    }

    fn read(bytes: &[u8]) -> Option<&[u8]> {
        Some(bytes)
    }
}

impl<const N: usize> Column for &'static [u8; N] {
    fn bytes<'a>(value: &'a &[u8; N], _: &'a mut Vec<u8>) -> &'a [u8] {
        &value[..]
    }

    fn read(bytes: &[u8]) -> Option<&[u8; N]> {
        bytes.try_into().ok()
    }
}

impl Column for &'static str {
    fn bytes<'a>(value: &'a &str, _: &'a mut Vec<u8>) -> &'a [u8] {
        value.as_bytes()
    }

    fn read(bytes: &[u8]) -> Option<&str> {
        std::str::from_utf8(bytes).ok()
    }
}

/// The first text is ended by a zero, which no name of ours has.
impl Column for (&'static str, &'static str) {
    fn bytes<'a>((first, second): &'a (&str, &str), spare: &'a mut Vec<u8>) -> &'a [u8] {
        made(spare, &[first.as_bytes(), &[0], second.as_bytes()])
    }

    fn read(bytes: &[u8]) -> Option<(&str, &str)> {
        std::str::from_utf8(bytes).ok()?.split_once('\0')
    }
}

fn made<'a>(spare: &'a mut Vec<u8>, parts: &[&[u8]]) -> &'a [u8] {
    spare.clear();
    parts.iter().for_each(|part| spare.extend_from_slice(part));
    spare
}
