//! How a request body becomes a resource, and changes one: what is left out stays, null clears, lists are replaced
//! whole, metadata is merged by key.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The body does not fit the resource; the text says where.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) String);

/// A new resource; null counts as left out.
pub(crate) fn build<T: DeserializeOwned>(mut fields: Map<String, Value>) -> Result<T, Unfit> {
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(fields)).map_err(|error| Unfit(error.to_string()))
}

/// `resource` with these changes.
pub(crate) fn apply<T: Serialize + DeserializeOwned>(resource: &T, changes: Map<String, Value>) -> Result<T, Unfit> {
    let mut fields = shown(resource);
    for (key, change) in changes {
        match (fields.get_mut(&key), change) {
            (Some(Value::Object(metadata)), Value::Object(changes)) if key == "metadata" => {
                metadata.extend(changes);
                metadata.retain(|_, value| !value.is_null());
            }
            (_, change) => drop(fields.insert(key, change)),
        }
    }
    build(fields)
}

/// The resource as its fields; nothing, if it has none.
pub(crate) fn shown(resource: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(resource) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        #[serde(default)]
        note: Option<String>,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    }

    #[test]
    fn changes_keep_clear_and_merge() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let thing: Thing = build(object(json!({"name": "a", "note": "n", "metadata": {"k": "1", "l": "2"}}))).unwrap();
        let changed = apply(&thing, object(json!({"note": null, "metadata": {"k": null, "m": "3"}}))).unwrap();
        assert_eq!(shown(&changed), object(json!({"name": "a", "note": null, "metadata": {"l": "2", "m": "3"}})));
        assert!(apply(&thing, object(json!({"name": null}))).unwrap_err().0.contains("missing field `name`"));
        assert!(apply(&thing, object(json!({"nmae": "b"}))).unwrap_err().0.contains("unknown field `nmae`"));
    }
}
