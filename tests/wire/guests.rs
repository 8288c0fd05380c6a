//! Sessions of components of contract 0.1 other than the one for Claude: the golden component, which was built when the
//! contract was frozen, and the bundled one for the Responses API.

use serde_json::{Value, json};

use super::{Tape, parts, script};
use crate::harness::{Client, World, responses::Responses, threads};

async fn session(tape: &mut Tape, client: &Client, runtime: &str, model: &str, prompt: &str) -> String {
    let agent = client.agent(&json!({"runtime": runtime, "model": model})).await;
    let wish = json!({"runtime": runtime, "agent_id": agent, "prompt": prompt});
    tape.post(client, "/session", &wish).await.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_of_the_golden_component() {
    let mut tape = Tape::new("a_session_of_the_golden_component");
    let (host, client, _folder) = threads::golden_host().await;
    tape.note("A turn");
    let session = session(&mut tape, &client, "sample", "model-1", "Hi").await;
    tape.turn(&client, &session, 0).await;
    tape.get(&client, &format!("/session/{session}")).await;
    tape.note("Another one");
    tape.post(&client, &format!("/session/{session}/prompt_async"), &parts("and again")).await;
    tape.turn(&client, &session, 3).await;
    tape.get(&client, &format!("/session/{session}/message")).await;
    tape.note("What it offers");
    tape.get(&client, "/v1/models?runtime=sample").await;
    tape.get(&client, "/api/agent-runtimes/sample").await;
    tape.note("Killed, and deleted");
    tape.post(&client, &format!("/session/{session}/kill"), &json!({})).await;
    tape.turn(&client, &session, 6).await;
    tape.lap(&client, http::Method::DELETE, &format!("/session/{session}"), None).await;
    host.shutdown().await;
    tape.done();
}

#[tokio::test]
async fn sessions_of_the_responses_api() {
    const RUNTIME: &str = "openai_responses";
    let world = World::empty(script()).await;
    let (mut tape, client) = (Tape::new("sessions_of_the_responses_api"), &world.client);
    client.connect_to(RUNTIME, &Responses::default().serve().await).await;
    tape.note("A turn");
    let plain = session(&mut tape, client, RUNTIME, "gpt-5", "Hello").await;
    tape.turn(client, &plain, 0).await;
    tape.get(client, &format!("/session/{plain}")).await;
    tape.note("A function that the client calls");
    let custom = session(&mut tape, client, RUNTIME, "gpt-5", "/custom").await;
    tape.turn(client, &custom, 0).await;
    let asked = client.list(&custom).await;
    let call: &Value = &asked.iter().find(|event| event["type"] == "agent.custom_tool_use").unwrap()["id"];
    let result = json!({"events": [{
        "type": "user.custom_tool_result", "custom_tool_use_id": call, "content": [{"type": "text", "text": "12 degrees"}],
    }]});
    tape.post(client, &format!("/v1/sessions/{custom}/events"), &result).await;
    tape.turn(client, &custom, asked.len().try_into().unwrap()).await;
    tape.note("A turn that fails");
    let failed = session(&mut tape, client, RUNTIME, "gpt-5", "/fail").await;
    tape.turn(client, &failed, 0).await;
    tape.get(client, &format!("/session/{failed}")).await;
    tape.note("What it offers");
    tape.get(client, &format!("/v1/models?runtime={RUNTIME}")).await;
    tape.done();
}
