//! `lap key`, run as an operator runs it, against a host that serves.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::harness::{
    MASTER_KEY,
    program::{Program, ended, lap},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_whole_life_from_a_shell() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
    let program = Program::serve(directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
    let address = program.client.base.strip_prefix("http://").unwrap();
    let key = async |words: &[&str]| {
        let settings = ["--listen", address, "--master-key-file", "key-of-the-api"];
        ended(&mut lap(directory.path(), &[&["key"], words, &settings].concat())).await
    };

    let minted = key(&["mint", "--label", "ci", "--role", "reader", "--owner", "ada", "--days", "7"]).await;
    assert_eq!(minted.code, Some(0), "{}", minted.stderr);
    let text = minted.stdout.strip_suffix('\n').unwrap();
    assert!(text.starts_with("sk-") && !text.contains(char::is_whitespace), "a script gets the key alone");
    assert!(minted.stderr.starts_with("key_") && !minted.stderr.contains(text), "{}", minted.stderr);
    let client = program.client.with_key(Some(text));
    let me = client.get("/api/me").await.ok();
    assert_eq!((&me["role"], &me["owner_id"]), (&json!("reader"), &json!("ada")));

    let admin = key(&["mint", "--role", "admin", "--json"]).await;
    let admin: Value = serde_json::from_str(&admin.stdout).unwrap();
    assert_eq!((&admin["role"], &admin["expires_at"]), (&json!("admin"), &Value::Null));

    let list = key(&["list"]).await;
    let rows: Vec<&str> = list.stdout.lines().collect();
    assert_eq!((list.code, rows.len(), list.stdout.contains(text)), (Some(0), 3, false), "{}", list.stdout);
    assert!(rows[1].contains("admin") && rows[1].contains("everybody's") && rows[1].ends_with("never"), "{}", rows[1]);
    assert!(rows[2].contains("ci") && rows[2].contains("ada") && rows[2].ends_with('Z'), "{}", rows[2]);
    let json: Value = serde_json::from_str(&key(&["list", "--json"]).await.stdout).unwrap();
    let days = json["keys"][1]["expires_at"].as_u64().unwrap() - json["keys"][1]["created_at"].as_u64().unwrap();
    assert!(days.abs_diff(7 * 24 * 60 * 60) <= 60, "{days} s");

    let id = json["keys"][1]["id"].as_str().unwrap();
    let revoked = key(&["revoke", id]).await;
    assert_eq!((revoked.code, revoked.stdout), (Some(0), format!("{id} is revoked\n")));
    assert_eq!(client.get("/api/me").await.status, 401);
    let again = key(&["revoke", id]).await;
    assert_eq!((again.code, again.stderr.lines().count()), (Some(1), 1), "{}", again.stderr);
    for wrong in [&["mint", "--role", "boss"][..], &["mint", "--days", "0"]] {
        assert_eq!(key(wrong).await.code, Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_lost_where_the_remark_beside_it_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("key-of-the-api"), MASTER_KEY).unwrap();
    let program = Program::serve(directory.path(), &["--master-key-file", "key-of-the-api"], MASTER_KEY).await;
    let address = program.client.base.strip_prefix("http://").unwrap();
    let mint = ["key", "mint", "--listen", address, "--master-key-file", "key-of-the-api"];
    let mut command = lap(directory.path(), &mint);
    command.stdout(Stdio::piped()).stderr(fs::File::options().write(true).open("/dev/full").unwrap());
    let minted = command.spawn().unwrap().wait_with_output().await.unwrap();
    let text = String::from_utf8(minted.stdout).unwrap();
    assert!(minted.status.success(), "{:?}", minted.status);
    assert_eq!(program.client.with_key(Some(text.trim_end())).get("/api/me").await.status, 200);
}
