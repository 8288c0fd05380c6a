//! What clients note on their objects: pairs of text, which mean nothing here but one.

use std::collections::BTreeMap;

use super::super::error::Error;

/// The notes of an object.
pub(in super::super) type Metadata = BTreeMap<String, String>;

/// A change of notes; null deletes one.
pub(in super::super) type Patch = BTreeMap<String, Option<String>>;

const PAIRS_MAX: usize = 16;
const KEY_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 512;

/// # Errors
/// When there are too many or too long ones.
pub(in super::super) fn check(metadata: &Metadata) -> Result<(), Error> {
    if metadata.len() > PAIRS_MAX {
        return Err(Error::invalid(format_args!("metadata: at most {PAIRS_MAX} pairs")));
    }
    for (key, value) in metadata {
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX || value.chars().count() > VALUE_CHARS_MAX {
            let message = format_args!(
                "metadata: a key has 1 to {KEY_CHARS_MAX} characters and a value at most {VALUE_CHARS_MAX}"
            );
            return Err(Error::invalid(message));
        }
    }
    Ok(())
}

/// The notes after a change.
///
/// # Errors
/// As [`check`].
pub(in super::super) fn patched(metadata: &Metadata, patch: Patch) -> Result<Metadata, Error> {
    let mut patched = metadata.clone();
    for (key, value) in patch {
        match value {
            Some(value) => drop(patched.insert(key, value)),
            None => drop(patched.remove(&key)),
        }
    }
    check(&patched)?;
    Ok(patched)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn pairs(count: usize) -> Metadata {
        (0..count).map(|number| (number.to_string(), String::new())).collect()
    }

    #[test]
    fn notes_are_bounded() {
        assert!(check(&pairs(PAIRS_MAX)).is_ok() && check(&pairs(PAIRS_MAX + 1)).is_err());
        let pair = |key: usize, value: usize| Metadata::from([("k".repeat(key), "ä".repeat(value))]);
        assert!(check(&pair(64, 512)).is_ok());
        assert!(check(&pair(65, 0)).is_err() && check(&pair(0, 0)).is_err() && check(&pair(1, 513)).is_err());
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let patch = [("0".to_owned(), None), ("1".to_owned(), Some("x".to_owned())), ("9".to_owned(), None)];
        let expected = Metadata::from([("1".to_owned(), "x".to_owned()), ("2".to_owned(), String::new())]);
        assert_eq!(patched(&pairs(3), patch.into()).unwrap(), expected);
    }
}
