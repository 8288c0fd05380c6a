//! Newtypes for everything that has a name on the wire. They parse and print; nothing else makes one from text.
//!
//! An id is a prefix and 32 hex digits, as LAP's are. The digits are a UUID of version 7, so ids sort by the time they
//! were made, to the millisecond, and the store can list the latest first without an index.

use std::{fmt, str::FromStr};

use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use crate::clock;

/// Text that is not an id of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id")]
pub struct Invalid;

/// 128 bits: 48 of milliseconds since the epoch, then version, variant and 74 random bits.
fn fresh() -> u128 {
    let mut bytes = [0_u8; 16];
    // The system's random source fails only where the platform has none, and then no key could be made either.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        std::process::abort();
    }
    let random = u128::from_be_bytes(bytes) & ((1 << 80) - 1);
    let time = u128::from(clock::unix_ms()) << 80;
    let fixed = (0x7 << 76) | (0b10 << 62);
    let mask = !((0xf_u128 << 76) | (0b11 << 62));
    time | (random & mask) | fixed
}

/// An id that is set aside before the thing exists that will have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved(u128);

impl Reserved {
    /// A new id, of now.
    #[must_use]
    pub fn fresh() -> Self {
        Self(fresh())
    }

    /// The one for the thing of this place, where several are made at once.
    #[must_use]
    pub const fn plus(self, place: u32) -> Self {
        Self(self.0.wrapping_add(place as u128))
    }

    /// Before all ids that are made from this millisecond on.
    #[must_use]
    pub fn of_ms(unix_ms: u64) -> Self {
        Self(u128::from(unix_ms) << 80)
    }

    /// The bytes that the store keeps.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id that `to_bytes` gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// A new id, of now.
            #[must_use]
            pub fn fresh() -> Self {
                Self(fresh())
            }

            /// When it was made, in milliseconds since the epoch.
            #[must_use]
            #[allow(clippy::cast_possible_truncation, reason = "48 bits are left")]
            pub const fn created_ms(self) -> u64 {
                (self.0 >> 80) as u64
            }

            /// The bytes that the store sorts by.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id that `to_bytes` gave.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl From<Reserved> for $name {
            fn from(reserved: Reserved) -> Self {
                Self(reserved.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let digits = text.strip_prefix($prefix).ok_or(Invalid)?;
                if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(Invalid);
                }
                u128::from_str_radix(digits, 16).map(Self).map_err(|_| Invalid)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// An agent definition.
    AgentId,
    "agent_"
);
id!(
    /// Where sessions run: an environment.
    EnvironmentId,
    "env_"
);
id!(
    /// A session.
    SessionId,
    "ses_"
);
id!(
    /// A user's message.
    MessageId,
    "msg_"
);
id!(
    /// What an agent has upstream, shared by its sessions.
    ProvisionId,
    "rtref_"
);
id!(
    /// A client's key, without its text.
    ClientKeyId,
    "key_"
);
id!(
    /// One HTTP request to the host, for finding it again in the log.
    RequestId,
    "req_"
);

/// The SHA-256 of a component's bytes, by which it is known: `sha256:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentDigest([u8; 32]);

impl ComponentDigest {
    /// That of a component.
    #[must_use]
    pub fn of(component: &[u8]) -> Self {
        Self::from(digest(&SHA256, component))
    }

    /// The bytes that the store sorts by.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl From<ring::digest::Digest> for ComponentDigest {
    fn from(digest: ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ComponentDigest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix("sha256:").ok_or(Invalid)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(Invalid);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex(digit: u8) -> Result<u8, Invalid> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Invalid),
    }
}

impl TryFrom<String> for ComponentDigest {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ComponentDigest> for String {
    fn from(digest: ComponentDigest) -> Self {
        digest.to_string()
    }
}

/// The name of a runtime, such as `claude_managed_agents`: `[A-Za-z0-9_-]`, 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuntimeId(String);

impl RuntimeId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuntimeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RuntimeId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(Invalid);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RuntimeId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<RuntimeId> for String {
    fn from(id: RuntimeId) -> Self {
        id.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_parses_and_sorts_by_time() {
        let first = SessionId::fresh();
        let text = first.to_string();
        assert_eq!(text.len(), "ses_".len() + 32);
        assert_eq!(text.parse::<SessionId>(), Ok(first));
        assert_eq!(SessionId::from_bytes(first.to_bytes()), first);
        assert_eq!(text.as_bytes()["ses_".len() + 12], b'7', "version 7");
        let later = SessionId(first.0 + (1 << 80));
        assert!(later > first && later.to_bytes() > first.to_bytes());
    }

    #[test]
    fn a_reserved_id_sorts_by_the_time_when_it_was_reserved() {
        let before = SessionId::from_bytes([0; 16]);
        let reserved = Reserved::fresh();
        assert_eq!(Reserved::from_bytes(reserved.to_bytes()), reserved);
        let id = SessionId::from(reserved);
        let later = SessionId(fresh() + (1 << 80));
        assert!(before < id && id < later && id.to_bytes() == reserved.to_bytes());
    }

    #[test]
    fn a_component_s_digest_prints_as_sha256sum_does_and_parses_again() {
        let digest = ComponentDigest::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((digest.to_string().as_str(), text.parse()), (text, Ok(digest)));
        for other in [&text[7..], &text[..70], &text.to_uppercase(), &format!("{text}0"), &text.replace('b', "ä")] {
            assert_eq!(other.parse::<ComponentDigest>(), Err(Invalid), "{other}");
        }
    }

    #[test]
    fn foreign_text_is_no_id() {
        let id = AgentId::fresh().to_string();
        for text in [
            "",
            "agent_",
            "ses_0",
            &id[1..],
            &id.to_uppercase(),
            &format!("{id}0"),
            "agent_+1234567890123456789012345678901",
        ] {
            assert_eq!(text.parse::<AgentId>(), Err(Invalid), "{text}");
        }
        for text in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert_eq!(text.parse::<RuntimeId>(), Err(Invalid), "{text}");
        }
    }
}
