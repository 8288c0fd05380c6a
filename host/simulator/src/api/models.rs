//! `/v1/models`: a page of the older style, with one model in it.

use serde_json::json;

use super::{Answered, ApiError};

pub(super) fn list() -> Result<Answered, ApiError> {
    let id = "claude-opus-5-5";
    Answered::json(&json!({
        "data": [{
            "type": "model",
            "id": id,
            "display_name": "Claude Opus 5.5 (simulated)",
            "created_at": "2026-10-21T00:00:00Z",
            "lifecycle": "active",
            "line": "opus",
            "capabilities": null,
            "deprecated_at": null,
            "retires_at": null,
            "max_input_tokens": 200_000,
            "max_tokens": 64_000,
        }],
        "has_more": false,
        "first_id": id,
        "last_id": id,
    }))
}
