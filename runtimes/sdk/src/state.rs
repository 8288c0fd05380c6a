//! A runtime's state as a value of its own: JSON on the border, a struct within.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind};

/// Reads the state that the host handed back.
///
/// # Errors
/// [`ErrorKind::Internal`] when another version of this runtime wrote it, and this one does not understand it.
pub fn read_state<T: DeserializeOwned>(state: &str) -> Result<T, Error> {
    serde_json::from_str(state).map_err(|error| Error::new(ErrorKind::Internal, format!("the state: {error}")))
}

/// Writes a state for the host to keep; at most 64 KiB.
///
/// # Errors
/// [`ErrorKind::Internal`] for a value that JSON cannot express, such as a map with keys that are no strings.
pub fn write_state<T: Serialize>(state: &T) -> Result<String, Error> {
    serde_json::to_string(state).map_err(|error| Error::new(ErrorKind::Internal, format!("the state: {error}")))
}
