//! What clients send and wish, read as far as most runtimes have to.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, SessionSpec};

/// The text of a user's message, which is an array of content blocks: for an upstream that takes nothing but text.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a block of another kind, and [`ErrorKind::BadRequest`] for what is no message.
pub fn text(content: &str) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Block {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        text: String,
    }
    let blocks: Vec<Block> = serde_json::from_str(content)
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the message: {error}")))?;
    match blocks.iter().find(|block| block.kind != "text") {
        Some(Block { kind, .. }) => {
            let message = format!("this runtime takes text, and no {kind}: leave it out of the message");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
        None => Ok(blocks.into_iter().map(|block| block.text).collect::<Vec<_>>().join("\n")),
    }
}

impl SessionSpec {
    /// Refuses wishes that this runtime cannot fulfil. `wishes` are of those that `environment` can have.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] names the first of them that the client has.
    pub fn refuse(&self, wishes: &[&str]) -> Result<(), Error> {
        let environment: Map<String, Value> = serde_json::from_str(&self.environment)
            .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the session's environment: {error}")))?;
        match wishes.iter().find(|wish| environment.contains_key(**wish)) {
            Some(wish) => {
                let message = format!("a session of this runtime has no {wish}: leave it out");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_text_or_is_refused() {
        assert_eq!(text(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#).unwrap(), "a\nb");
        for (content, kind) in [
            (r#"[{"type":"text","text":"a"},{"type":"image","source":{}}]"#, ErrorKind::Unsupported),
            (r#"{"type":"text"}"#, ErrorKind::BadRequest),
            ("Hi", ErrorKind::BadRequest),
        ] {
            assert_eq!(text(content).unwrap_err().kind, kind, "{content}");
        }
    }
}
