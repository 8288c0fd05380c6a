//! Requests built, and answers read, without ceremony.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Header, Method, Request, Response};

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::Get, path)
    }

    /// A `POST` of a value as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a value that JSON cannot express, such as a map with keys that are no strings.
    pub fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_string(body).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
        let request = Self { body: Some(body), ..Self::new(Method::Post, path) };
        Ok(request.header("content-type", "application/json"))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Adds a query parameter, unencoded.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Response {
    /// The first header of that name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    /// This answer, when its status says success.
    ///
    /// # Errors
    /// What the status means otherwise, as [`Error::of_response`] has it.
    pub fn success(self) -> Result<Self, Error> {
        if (200..300).contains(&self.status) { Ok(self) } else { Err(Error::of_response(&self)) }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Upstream`] when it is something else.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        serde_json::from_str(&self.body).map_err(|error| Error::not_understood(self, error))
    }

    /// This answer, when it is one that has nothing to say: a 204. What takes the place of such an answer on its way, a
    /// proxy's page of HTML, says that something was done which was not.
    ///
    /// # Errors
    /// [`ErrorKind::Upstream`] for any other status.
    pub fn no_content(&self) -> Result<(), Error> {
        if self.status == 204 { Ok(()) } else { Err(Error::not_understood(self, "it should be a 204")) }
    }
}

/// An id that the upstream gave to `what`, which is going to be a segment of paths and must not lead elsewhere.
///
/// # Errors
/// [`ErrorKind::Upstream`] when it could.
pub fn path_segment(id: String, what: &str) -> Result<String, Error> {
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Ok(id);
    }
    Err(Error::new(ErrorKind::Upstream, format!("the upstream's id of the {what} cannot be part of a path")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_none_is_the_upstreams_fault_whatever_its_status_says() {
        #[derive(Debug, Deserialize)]
        struct Created {
            #[serde(rename = "id")]
            _id: String,
        }
        let response = |status, body: &str| Response { status, headers: Vec::new(), body: body.to_owned() };
        for body in ["<html>", "", r#"{"id":"a"#, "{}", r#"{"id":7}"#, "null"] {
            let error = response(200, body).json::<Created>().unwrap_err();
            assert_eq!((error.kind, error.status), (ErrorKind::Upstream, Some(200)), "{body}");
            assert!(error.message.starts_with("the upstream's answer cannot be understood: "), "{}", error.message);
            assert_eq!(response(200, body).no_content().unwrap_err().kind, ErrorKind::Upstream);
        }
        assert_eq!(response(204, "").no_content(), Ok(()));
    }

    #[test]
    fn an_id_does_not_lead_elsewhere() {
        assert_eq!(path_segment("conv_1-a".to_owned(), "session").unwrap(), "conv_1-a");
        for id in ["", "..", "a/b", "a?b", "a b", "ä"] {
            let error = path_segment(id.to_owned(), "session").unwrap_err();
            assert_eq!(error.kind, ErrorKind::Upstream, "{id}");
            assert!(error.message.contains("id of the session"), "{}", error.message);
        }
    }
}
