//! `/v1/environments`

use super::{
    Answered, ApiError, Call, Deleted, Forward,
    page::{Ask, Order, page},
};
use crate::{environment::Environment, world::World};

const LIMIT_DEFAULT: usize = 20;

pub(super) fn create(call: &Call<'_>) -> Result<Answered, ApiError> {
    let id = call.world.ids.mint("env");
    let environment = Environment::create(id.clone(), call.fields()?)?;
    let answer = Answered::json(&environment);
    call.world.environments().insert(id, environment);
    answer
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    Answered::json(call.world.environments().get(call.id).ok_or_else(|| missing(call.id))?)
}

fn missing(id: &str) -> ApiError {
    ApiError::no_such("Environment", id)
}

/// Whether a new session can have this environment.
pub(super) fn check_usable(world: &World, id: &str) -> Result<(), ApiError> {
    if world.environments().get(id).ok_or_else(|| missing(id))?.is_archived() {
        return Err(ApiError::invalid("Environment is archived."));
    }
    Ok(())
}

pub(super) fn update(call: &Call<'_>) -> Result<Answered, ApiError> {
    let changes = call.fields()?;
    let mut environments = call.world.environments();
    let environment = environments.get_mut(call.id).ok_or_else(|| missing(call.id))?;
    environment.update(changes)?;
    Answered::json(environment)
}

pub(super) fn archive(call: &Call<'_>) -> Result<Answered, ApiError> {
    let mut environments = call.world.environments();
    let environment = environments.get_mut(call.id).ok_or_else(|| missing(call.id))?;
    environment.archive();
    Answered::json(environment)
}

pub(super) fn delete(call: &Call<'_>) -> Result<Answered, ApiError> {
    call.world.environments().remove(call.id).ok_or_else(|| missing(call.id))?;
    Answered::json(&Deleted { id: call.id, kind: "environment_deleted" })
}

pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let ask = Ask::parse(&call.query, Order::Descending, LIMIT_DEFAULT)?;
    let archived = call.query.is_true("include_archived");
    let environments = call.world.environments();
    let page = page(&environments, &ask, |environment: &Environment| archived || !environment.is_archived());
    Answered::json(&Forward { data: page.items, next_page: page.next })
}
