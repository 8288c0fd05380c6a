//! Secrets: searched for in everything that a host leaves behind, at the highest log level.

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use lap_simulator::{
    Endpoint, Faults, Script,
    fault::{Answer, ErrorAnswer, RequestFault},
};
use serde_json::json;

use crate::harness::{
    MASTER_KEY, RUNTIME, UPSTREAM_KEY,
    program::{Program, files},
    simulator,
};

/// A text as it may hide: as it is, in hex, percent-encoded, and in base64 wherever it may begin.
fn disguises(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut all = vec![secret.to_owned(), hex.clone(), hex.to_uppercase(), percent];
    for shift in 0..3 {
        let shifted = [&b"..."[..shift], secret.as_bytes()].concat();
        for encoded in [BASE64_STANDARD.encode(&shifted), BASE64_URL_SAFE_NO_PAD.encode(&shifted)] {
            // What is beside the secret decides on the first and last characters.
            let inner = encoded.trim_end_matches('=');
            all.push(inner[if shift == 0 { 0 } else { 4 }..inner.len() - 2].to_owned());
        }
    }
    all
}

fn clean(place: &str, bytes: &[u8], secret: &str) {
    for disguise in disguises(secret) {
        let found = bytes.windows(disguise.len()).any(|window| window == disguise.as_bytes());
        assert!(!found, "{place} has {disguise}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_file_log_or_answer() {
    let simulator = simulator(Script::default());
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key-of-the-api");
    std::fs::write(&key, MASTER_KEY).unwrap();
    let more = ["--master-key-file", key.to_str().unwrap(), "--log-level", "trace"];
    let program = Program::serve(directory.path(), &more, MASTER_KEY).await;
    let client = &program.client;
    let mut answers = vec![client.connect(&simulator.base_url()).await.to_string()];
    let agent = client.agent(&json!({})).await;
    let id = client.session(&agent, Some("Hello")).await;
    answers.extend(client.turn(&id).await.into_iter().map(|event| event.json.to_string()));
    let echo = ErrorAnswer { status: 401, echo_credential: true, ..ErrorAnswer::default() };
    let fault = |endpoint| RequestFault {
        endpoint: Some(endpoint),
        times: 1,
        answer: Answer::Error(echo.clone()),
        ..RequestFault::default()
    };
    let requests = vec![fault(Endpoint::SessionsCreate), fault(Endpoint::EventsSend), fault(Endpoint::ModelsList)];
    simulator.set_faults(Faults { requests, ..Faults::default() });
    answers.push(client.post("/session", &json!({"runtime": RUNTIME, "agent_id": agent})).await.text);
    answers.push(client.get(&format!("/v1/models?runtime={RUNTIME}")).await.text);
    client.prompt(&id, "again").await;
    answers.extend(client.turn(&id).await.into_iter().map(|event| event.json.to_string()));
    answers.push(client.get("/api/agent-runtimes").await.text);
    answers.push(client.get(&format!("/session?key={MASTER_KEY}")).await.text);
    assert!(answers.iter().any(|answer| answer.contains("[redacted]")), "the echo did not come to pass");
    assert!(simulator.recorder().requests().iter().all(|sent| sent.credential.as_ref().unwrap().key() == UPSTREAM_KEY));

    for file in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("/proc/{}/{file}", program.pid())).unwrap();
        clean(file, &bytes, MASTER_KEY);
    }
    let (_, output) = program.terminate().await;
    assert!(output.contains("TRACE"), "the log is not at its highest level");
    for secret in [UPSTREAM_KEY, MASTER_KEY] {
        clean("the log", output.as_bytes(), secret);
        answers.iter().for_each(|answer| clean("an answer", answer.as_bytes(), secret));
        for (path, bytes) in files(&directory.path().join("data")) {
            clean(path.to_str().unwrap(), &bytes, secret);
        }
    }
}
