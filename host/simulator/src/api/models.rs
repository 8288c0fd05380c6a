//! `/v1/models`: a page of the older style, with one model in it.

use serde_json::{Value, json};

use super::{Answered, ApiError, Call};

const ID: &str = "claude-opus-5-5";

fn model() -> Value {
    json!({
        "type": "model",
        "id": ID,
        "display_name": "Claude Opus 5.5 (simulated)",
        "created_at": "2026-10-21T00:00:00Z",
        "lifecycle": "active",
        "line": "opus",
        "capabilities": null,
        "deprecated_at": null,
        "retires_at": null,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    })
}

pub(super) fn list() -> Result<Answered, ApiError> {
    Answered::json(&json!({"data": [model()], "has_more": false, "first_id": ID, "last_id": ID}))
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    if call.id == ID { Answered::json(&model()) } else { Err(ApiError::no_such("Model", call.id)) }
}
