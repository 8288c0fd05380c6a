//! What lies beside agents and sessions: files, and shelves of things that are only kept and shown, which are memory
//! stores, memories and vaults.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::clock::Moment;

/// A file with all its bytes.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) mime_type: String,
    pub(crate) bytes: Bytes,
    pub(crate) created_at: Moment,
}

/// Everything that lies there, each kind by id.
#[derive(Default)]
pub(crate) struct Library {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) memory_stores: Shelf,
    pub(crate) memories: Shelf,
    pub(crate) vaults: Shelf,
}

/// Things of one kind.
pub(crate) type Shelf = BTreeMap<String, Value>;

/// A thing as it is shown: what the client said, with what the service adds.
pub(crate) fn thing(id: &str, kind: &str, said: Map<String, Value>) -> Value {
    let now = Moment::now().to_string();
    let mut thing = json!({"id": id, "type": kind, "created_at": now, "updated_at": now, "archived_at": null});
    if let Some(fields) = thing.as_object_mut() {
        fields.extend(said);
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    thing
}
