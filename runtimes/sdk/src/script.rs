//! An upstream for tests: gives the answers that it was told, and keeps what it was asked.

use std::collections::VecDeque;

use crate::{Request, Response, SendError, Upstream};

/// An upstream with a script.
#[derive(Default)]
pub struct Script {
    answers: VecDeque<Result<Response, SendError>>,
    /// What was sent, in order.
    pub requests: Vec<Request>,
}

impl Script {
    /// Answers one request after another, each with a status and a body.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = (u32, &'static str)>) -> Self {
        let answer = |(status, body): (u32, &str)| Ok(Response { status, headers: Vec::new(), body: body.to_owned() });
        Self { answers: answers.into_iter().map(answer).collect(), requests: Vec::new() }
    }

    /// Adds an answer of any kind.
    #[must_use]
    pub fn then(mut self, answer: Result<Response, SendError>) -> Self {
        self.answers.push_back(answer);
        self
    }
}

impl Upstream for Script {
    fn send(&mut self, request: Request) -> Result<Response, SendError> {
        self.requests.push(request);
        self.answers.pop_front().unwrap_or_else(|| Err(SendError::Refused("the script has ended".to_owned())))
    }
}
