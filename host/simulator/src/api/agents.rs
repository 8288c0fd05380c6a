//! `/v1/agents`

use super::{
    Answered, ApiError, Call, Forward,
    page::{Ask, Order, TimeRange, page},
};
use crate::agent::{Agent, NotUpdated, Version};

const LIMIT_DEFAULT: usize = 20;

pub(super) fn create(call: &Call<'_>) -> Result<Answered, ApiError> {
    let id = call.world.ids.mint("agent");
    let agent = Agent::create(id.clone(), call.fields()?)?;
    let answer = Answered::json(agent.latest());
    call.world.agents().insert(id, agent);
    answer
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    let agents = call.world.agents();
    let agent = agents.get(call.id).ok_or_else(|| missing(call.id))?;
    let asked = call.query.get("version").map(str::parse).transpose();
    let asked = asked.map_err(|_| ApiError::invalid("version: Input should be a valid integer"))?;
    Answered::json(version(agent, asked)?)
}

/// The version asked for, or else the latest.
pub(super) fn version(agent: &Agent, asked: Option<u32>) -> Result<&Version, ApiError> {
    let Some(number) = asked else { return Ok(agent.latest()) };
    agent.versions.get(&number).ok_or_else(|| ApiError::NotFound(format!("agent.version: {number} not found")))
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError::no_such("Agent", id)
}

pub(super) fn update(call: &Call<'_>) -> Result<Answered, ApiError> {
    let changes = call.fields()?;
    let mut agents = call.world.agents();
    let agent = agents.get_mut(call.id).ok_or_else(|| missing(call.id))?;
    if agent.latest().is_archived() {
        return Err(ApiError::invalid("Agent is archived and cannot be modified."));
    }
    let updated = agent.update(changes).map_err(|why| match why {
        NotUpdated::Stale => ApiError::Conflict,
        NotUpdated::Unfit(unfit) => unfit.into(),
    })?;
    Answered::json(updated)
}

pub(super) fn archive(call: &Call<'_>) -> Result<Answered, ApiError> {
    let mut agents = call.world.agents();
    let agent = agents.get_mut(call.id).ok_or_else(|| missing(call.id))?;
    Answered::json(agent.archive())
}

pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let ask = Ask::parse(&call.query, Order::Descending, LIMIT_DEFAULT)?;
    let range = TimeRange::parse(&call.query)?;
    let archived = call.query.is_true("include_archived");
    let agents = call.world.agents();
    let page = page(&agents, &ask, |agent| {
        let latest = agent.latest();
        (archived || !latest.is_archived()) && range.holds(Some(latest.created_at()))
    });
    let data = page.items.into_iter().map(Agent::latest).collect();
    Answered::json(&Forward { data, next_page: page.next })
}

pub(super) fn versions(call: &Call<'_>) -> Result<Answered, ApiError> {
    let ask = Ask::parse(&call.query, Order::Descending, LIMIT_DEFAULT)?;
    let agents = call.world.agents();
    let agent = agents.get(call.id).ok_or_else(|| missing(call.id))?;
    let page = page(&agent.versions, &ask, |_| true);
    Answered::json(&Forward { data: page.items, next_page: page.next })
}
