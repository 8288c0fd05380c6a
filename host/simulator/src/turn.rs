//! Plays turns: step after step, on the service's side, whether or not anyone reads.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::coop::consume_budget,
    time::{Instant, sleep_until},
};

use crate::{
    event::{Event, Permission, SessionError, Tagged},
    incoming::Reply,
    script::{Repeat, RetryStatus, Step, StopReason, Turn},
    session::{Ending, Interrupted, Prompt, Session},
    world::World,
};

/// A batch is rendered as one piece of memory: beyond this it gains nothing.
const BATCH_MAX: u64 = 1024;

/// Plays the turn that `session` just opened, and those of the prompts that queue meanwhile.
pub(crate) fn spawn(world: &Arc<World>, session: &Arc<Session>, first: Prompt) {
    let (world, session) = (Arc::clone(world), Arc::clone(session));
    tokio::spawn(async move { all(&world, &session, Some(first)).await });
}

/// Waits for the answers to `asked` questions of a turn whose script is not known any more, and ends it with them.
pub(crate) fn resume(world: &Arc<World>, session: &Arc<Session>, asked: usize) {
    let (world, session) = (Arc::clone(world), Arc::clone(session));
    tokio::spawn(async move {
        let mut player = Player::new(&session, "", 1);
        player.asked = vec![Some(String::new()); asked];
        let rest = Turn { spans: false, ..Turn::of([]) };
        let next = player.play(&rest).await;
        all(&world, &session, next).await;
    });
}

async fn all(world: &World, session: &Session, mut next: Option<Prompt>) {
    while let Some(prompt) = next {
        // The turn keeps to this script also when another is set meanwhile.
        let script = world.script();
        let player = Player::new(session, &prompt.text, world.options.batch.clamp(1, BATCH_MAX));
        next = player.play(script.turn(&prompt.text)).await;
    }
}

/// What a turn has in hand while it is played.
struct Player<'a> {
    session: &'a Session,
    prompt: &'a str,
    /// Frames made at once when flat out.
    batch: u64,
    /// The `span.model_request_start` that is open.
    span: Option<String>,
    /// The tool use that a result refers to.
    tool_use: String,
    /// What the client answered last.
    answer: String,
    /// What the asked tools say once they are allowed, in the order of asking; none for a custom tool.
    asked: Vec<Option<String>>,
}

impl<'a> Player<'a> {
    const fn new(session: &'a Session, prompt: &'a str, batch: u64) -> Self {
        Self { session, prompt, batch, span: None, tool_use: String::new(), answer: String::new(), asked: Vec::new() }
    }

    /// Returns the prompt whose turn is open now.
    async fn play(mut self, turn: &Turn) -> Option<Prompt> {
        let ending = self.steps(turn).await.unwrap_or(Ending::Idle(StopReason::EndTurn));
        self.session.finish(self.span, ending, turn.idle_burden)
    }

    async fn steps(&mut self, turn: &Turn) -> Result<Ending, Interrupted> {
        self.open_span(turn)?;
        for step in &turn.steps {
            if turn.every_ms > 0 {
                self.rest_until(Instant::now() + Duration::from_millis(turn.every_ms)).await?;
            }
            if !matches!(step, Step::CustomToolUse { .. } | Step::Ask { .. }) {
                self.settle(turn).await?;
            }
            self.session.room().await?;
            if let Some(ending) = self.step(step).await? {
                return Ok(ending);
            }
        }
        self.settle(turn).await?;
        Ok(Ending::Idle(turn.stop_reason))
    }

    fn open_span(&mut self, turn: &Turn) -> Result<(), Interrupted> {
        if turn.spans {
            self.span = Some(self.session.emit(&Event::SpanStart {})?);
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<Option<Ending>, Interrupted> {
        let session = self.session;
        match step {
            Step::Message { text } => drop(session.emit(&Event::message(&self.fill(text)))?),
            Step::Thinking => drop(session.emit(&Event::Thinking {})?),
            Step::ToolUse { name, input } => {
                self.tool_use =
                    session.emit(&Event::ToolUse { name, input, evaluated_permission: Permission::Allow })?;
            }
            Step::ToolResult { text, is_error } => {
                session.emit(&Event::tool_result(&self.tool_use, &self.fill(text), *is_error))?;
            }
            Step::CustomToolUse { name, input } => {
                session.ask(&Event::CustomToolUse { name, input })?;
                self.asked.push(None);
            }
            Step::Ask { name, input, result } => {
                session.ask(&Event::ToolUse { name, input, evaluated_permission: Permission::Ask })?;
                self.asked.push(Some(self.fill(result)));
            }
            Step::Error { kind, message, retry_status } => return self.fail(kind, message, *retry_status),
            Step::Delay { ms } => self.rest_until(Instant::now() + Duration::from_millis(*ms)).await?,
            Step::Hold => session.held().await?,
            Step::Repeat(repeat) => self.repeat(repeat).await?,
            Step::Heavy { burden } => drop(session.emit(&Event::heavy(*burden))?),
            Step::Event { event } => drop(session.emit_raw(event.clone())?),
            Step::Frame { text } => session.emit_bytes(text.clone().into())?,
            Step::Terminate => return Ok(Some(Ending::Terminated)),
        }
        Ok(None)
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{prompt}", self.prompt).replace("{answer}", &self.answer)
    }

    fn fail(&self, kind: &str, message: &str, status: RetryStatus) -> Result<Option<Ending>, Interrupted> {
        let error = SessionError { kind, message, retry_status: Tagged { kind: status } };
        self.session.emit(&Event::Error { error })?;
        Ok(match status {
            RetryStatus::Retrying => None,
            RetryStatus::Exhausted => Some(Ending::Idle(StopReason::RetriesExhausted)),
            RetryStatus::Terminal => Some(Ending::Terminated),
        })
    }

    /// Waits for the answers to all that was asked, and goes on with them.
    async fn settle(&mut self, turn: &Turn) -> Result<(), Interrupted> {
        if self.asked.is_empty() {
            return Ok(());
        }
        if self.session.answered(&mut self.span).await? {
            self.open_span(turn)?;
        }
        let asked = std::mem::take(&mut self.asked);
        for ((id, reply), result) in self.session.take_answers()?.into_iter().zip(asked) {
            match reply {
                Reply::Result(text) => self.answer = text,
                Reply::Allowed => {
                    self.session.emit(&Event::tool_result(&id, &result.unwrap_or_default(), false))?;
                }
                Reply::Denied(why) => drop(self.session.emit(&Event::tool_result(&id, &why, true))?),
            }
        }
        Ok(())
    }

    async fn repeat(&self, repeat: &Repeat) -> Result<(), Interrupted> {
        let pattern = self.session.pattern(repeat);
        let start = Instant::now();
        let batch = if repeat.every_ms == 0 { self.batch } else { 1 };
        let mut n = 0;
        while n < repeat.count {
            if repeat.every_ms > 0 {
                // From the start, not from the event before: what is late once does not stay late.
                self.rest_until(start + Duration::from_millis(repeat.every_ms.saturating_mul(n))).await?;
            }
            self.session.room().await?;
            let count = batch.min(repeat.count - n);
            self.session.emit_batch(&pattern, n, count)?;
            n += count;
            // Without a reader nothing else here ever waits.
            consume_budget().await;
        }
        Ok(())
    }

    async fn rest_until(&self, deadline: Instant) -> Result<(), Interrupted> {
        loop {
            self.session.check()?;
            tokio::select! {
                () = sleep_until(deadline) => return Ok(()),
                () = self.session.turn_woken() => {}
            }
        }
    }
}
