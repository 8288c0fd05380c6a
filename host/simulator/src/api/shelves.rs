//! `/v1/memory_stores` with their memories, and `/v1/vaults`: things that are made, shown, listed and deleted.

use std::sync::MutexGuard;

use serde_json::Value;

use super::{
    Answered, ApiError, Call, Deleted, Forward,
    page::{Ask, Order, page},
};
use crate::library::{Library, Shelf, thing};

const LIMIT_DEFAULT: usize = 20;

/// One kind of things.
pub(super) struct Kind {
    /// Begins an id.
    prefix: &'static str,
    /// In an object, and how people call it.
    name: &'static str,
    deleted: &'static str,
    /// What a new one must have.
    required: &'static [&'static str],
    shelf: fn(&mut Library) -> &mut Shelf,
}

pub(super) const MEMORY_STORES: Kind = Kind {
    prefix: "memstore",
    name: "memory_store",
    deleted: "memory_store_deleted",
    required: &["name"],
    shelf: |library| &mut library.memory_stores,
};

pub(super) const MEMORIES: Kind = Kind {
    prefix: "mem",
    name: "memory",
    deleted: "memory_deleted",
    required: &["path", "content"],
    shelf: |library| &mut library.memories,
};

pub(super) const VAULTS: Kind = Kind {
    prefix: "vlt",
    name: "vault",
    deleted: "vault_deleted",
    required: &["display_name"],
    shelf: |library| &mut library.vaults,
};

impl Kind {
    fn missing(&self, id: &str) -> ApiError {
        ApiError::no_such(self.name, id)
    }

    pub(super) fn create(&self, call: &Call<'_>) -> Result<Answered, ApiError> {
        let said = call.fields()?;
        if let Some(missing) = self.required.iter().find(|field| !said.contains_key(**field)) {
            return Err(ApiError::invalid(format!("{missing}: Field required")));
        }
        let id = call.world.ids.mint(self.prefix);
        let thing = thing(&id, self.name, said);
        let answer = Answered::json(&thing);
        (self.shelf)(&mut call.world.library()).insert(id, thing);
        answer
    }

    pub(super) fn retrieve(&self, call: &Call<'_>, id: &str) -> Result<Answered, ApiError> {
        let mut library = call.world.library();
        Answered::json((self.shelf)(&mut library).get(id).ok_or_else(|| self.missing(id))?)
    }

    pub(super) fn delete(&self, call: &Call<'_>, id: &str) -> Result<Answered, ApiError> {
        let mut library: MutexGuard<'_, Library> = call.world.library();
        (self.shelf)(&mut library).remove(id).ok_or_else(|| self.missing(id))?;
        Answered::json(&Deleted { id, kind: self.deleted })
    }

    pub(super) fn list(&self, call: &Call<'_>) -> Result<Answered, ApiError> {
        let ask = Ask::parse(&call.query, Order::Descending, LIMIT_DEFAULT)?;
        let mut library = call.world.library();
        let page = page((self.shelf)(&mut library), &ask, |_: &Value| true);
        Answered::json(&Forward { data: page.items, next_page: page.next })
    }
}
