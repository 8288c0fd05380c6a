//! How many a page shall have, as clients of the platform's API say it.

use std::num::{IntErrorKind, ParseIntError};

use serde::{Deserialize, Deserializer, de::Error};

/// The `limit` of a query: any whole number. One beyond its bounds counts as the nearest one within them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted(Option<usize>);

impl Wanted {
    /// At least one and at most so many, which is also what it is when nothing is said.
    pub(super) fn within(self, most: usize) -> usize {
        self.0.unwrap_or(most).clamp(1, most)
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = match text.parse::<i64>() {
            Ok(number) => Ok(usize::try_from(number).unwrap_or(0)),
            Err(error) => beyond(&error).ok_or_else(|| D::Error::custom("must be a whole number")),
        };
        number.map(|number| Self(Some(number)))
    }
}

/// What stands for a number that is too large in either direction.
fn beyond(error: &ParseIntError) -> Option<usize> {
    match error.kind() {
        IntErrorKind::PosOverflow => Some(usize::MAX),
        IntErrorKind::NegOverflow => Some(0),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde::de::{IntoDeserializer, value::Error};

    use super::*;

    #[test]
    fn any_whole_number_counts_as_the_nearest_within_the_bounds() {
        let within = |text: &str| {
            let text: serde::de::value::StrDeserializer<'_, Error> = text.into_deserializer();
            Wanted::deserialize(text).map(|wanted| wanted.within(1000))
        };
        for (text, expected) in [
            ("7", 7),
            ("0", 1),
            ("-1", 1),
            ("1001", 1000),
            ("-99999999999999999999999", 1),
            ("99999999999999999999999", 1000),
        ] {
            assert_eq!(within(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "1.5", "1e3", "-"] {
            assert!(within(text).unwrap_err().to_string().contains("a whole number"), "{text}");
        }
        assert_eq!(Wanted::default().within(9), 9);
    }
}
