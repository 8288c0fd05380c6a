//! A credential in memory: it can be stored and attached to a request, and nothing else.

use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

/// The longest credential, in bytes. Vendors' keys have about 100; a signed token may have 2,000.
const BYTES_MAX: usize = 4096;

/// A credential. Its memory is overwritten when it is dropped.
///
/// It can be neither printed nor copied nor written out:
///
/// ```compile_fail
/// fn print(secret: &lap::vault::Secret) -> String {
///     format!("{secret:?}")
/// }
/// ```
///
/// ```compile_fail
/// fn write(secret: &lap::vault::Secret) -> String {
///     serde_json::to_string(secret).unwrap()
/// }
/// ```
pub struct Secret(Zeroizing<String>);

/// Why a text cannot serve as a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSecret {
    /// Nothing is left once the spaces around it are removed.
    #[error("the credential is empty")]
    Empty,
    /// It has more bytes than a header should carry.
    #[error("the credential has more than {BYTES_MAX} bytes")]
    TooLong,
    /// It holds a control character or one outside ASCII, as a copy from a formatted page may.
    #[error("the credential holds a character that cannot stand in an HTTP header")]
    Character,
}

impl Secret {
    /// Takes over a text whose memory is the caller's only copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// True when there is nothing but spaces and line ends, as in a field that nobody has filled in.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The text itself. Only `vault` seals it, and only `upstream` attaches it to a request.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The text without the spaces and line ends around it, when it can stand in an HTTP header.
    pub(super) fn usable(&self) -> Result<&str, UnusableSecret> {
        let text = self.0.trim();
        if text.is_empty() {
            return Err(UnusableSecret::Empty);
        }
        if text.len() > BYTES_MAX {
            return Err(UnusableSecret::TooLong);
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(UnusableSecret::Character);
        }
        Ok(text)
    }
}

/// What people see of a credential: its two ends, or of a short one only that it is there.
pub(super) fn masked(text: &str) -> String {
    let text = text.trim();
    let count = text.chars().count();
    if count <= 12 {
        return "Configured".to_owned();
    }
    let first: String = text.chars().take(7).collect();
    let last: String = text.chars().skip(count - 4).collect();
    format!("{first}...{last}")
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // serde's own words for a wrong type would repeat the value, and an error is logged and sent.
        String::deserialize(from).map(Self::new).map_err(|_| de::Error::custom("a credential is a string"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_masked_credential_shows_its_two_ends_or_nothing() {
        let table = [
            ("", "Configured"),
            ("sk-12345678", "Configured"),
            ("123456789012", "Configured"),
            ("1234567890123", "1234567...0123"),
            ("  sk-ant-api03-abcdefgh\n", "sk-ant-...efgh"),
            ("äöüäöüäöüäöüä", "äöüäöüä...äöüä"),
            ("🔑🔑🔑", "Configured"),
        ];
        for (text, expected) in table {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn a_credential_is_what_a_header_can_carry() {
        let usable = |text: &str| Secret::new(text.to_owned()).usable().map(str::to_owned);
        assert_eq!(usable(" sk-ant-1 \r\n"), Ok("sk-ant-1".to_owned()));
        assert_eq!(usable(" \n"), Err(UnusableSecret::Empty));
        assert_eq!(usable(&"k".repeat(4097)), Err(UnusableSecret::TooLong));
        for text in ["a\r\nx-evil: 1", "a\0b", "a\tb", "a\u{7f}", "sk–ant", "ключ"] {
            assert_eq!(usable(text), Err(UnusableSecret::Character), "{text:?}");
        }
    }

    #[test]
    fn a_number_in_place_of_a_credential_is_refused_without_repeating_it() {
        assert_eq!(serde_json::from_str::<Secret>("\"sk-1\"").map(|s| s.expose().to_owned()).unwrap(), "sk-1");
        for json in ["8675309", "-8675309", "8675309.5"] {
            let refusal = serde_json::from_str::<Secret>(json).map(|_| ()).unwrap_err().to_string();
            assert!(!refusal.contains("8675309"), "{refusal}");
        }
    }
}
