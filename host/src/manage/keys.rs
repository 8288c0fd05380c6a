//! `lap key`: clients' keys, from a terminal or a script.

use serde::Deserialize;
use serde_json::json;

use super::{ManageError, Remote, segment, show::Table};
use crate::{
    clock,
    config::{KeyArgs, KeyCommand, ListKeysArgs, MintArgs, RevokeArgs},
    print,
};

const PATH: &str = "/api/keys";
const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// What is read of a key. Times are seconds since the epoch.
#[derive(Deserialize)]
struct Key {
    id: String,
    label: Option<String>,
    role: String,
    owner_id: Option<String>,
    created_at: u64,
    last_used_at: Option<u64>,
    expires_at: Option<u64>,
    /// In the answer that made it.
    key: Option<String>,
}

/// `lap key`.
///
/// # Errors
/// When the host does not do it.
pub async fn key(args: KeyArgs) -> Result<(), ManageError> {
    match args.command {
        KeyCommand::Mint(args) => mint(args).await,
        KeyCommand::List(args) => list(args).await,
        KeyCommand::Revoke(args) => revoke(args).await,
    }
}

async fn mint(args: MintArgs) -> Result<(), ManageError> {
    let MintArgs { label, role, owner, days, json, host } = args;
    let remote = Remote::new(host)?;
    let expires_at = days.map(|days| clock::unix_ms() / 1000 + u64::from(days) * SECONDS_OF_A_DAY);
    let wish = json!({"label": label, "role": role, "owner_id": owner, "expires_at": expires_at});
    let answer = remote.post(PATH, &wish).await?;
    if json {
        print::line(answer)?;
        return Ok(());
    }
    let minted: Key = serde_json::from_value(answer)?;
    // So that a script gets the key and a person is told the rest.
    print::note(format_args!("{} ({}); the key is shown once, and not kept:", minted.id, minted.role));
    print::line(minted.key.unwrap_or_default())?;
    Ok(())
}

async fn list(args: ListKeysArgs) -> Result<(), ManageError> {
    #[derive(Deserialize)]
    struct List {
        keys: Vec<Key>,
    }
    let answer = Remote::new(args.host)?.get(PATH).await?;
    if args.json {
        print::line(answer)?;
    } else {
        let List { keys } = serde_json::from_value(answer)?;
        print::text(table(&keys))?;
    }
    Ok(())
}

async fn revoke(args: RevokeArgs) -> Result<(), ManageError> {
    Remote::new(args.host)?.delete(&format!("{PATH}/{}", segment(&args.id))).await?;
    print::line(format_args!("{} is revoked", args.id))?;
    Ok(())
}

fn table(keys: &[Key]) -> String {
    let mut table = Table::new(&["KEY", "LABEL", "ROLE", "OWNER", "MADE", "LAST USED", "EXPIRES"]);
    let time = |seconds: u64| clock::rfc3339_of(seconds.saturating_mul(1000));
    for key in keys {
        let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
        table.row(&[
            &key.id,
            &or(&key.label, "–"),
            &key.role,
            &or(&key.owner_id, "everybody's"),
            &time(key.created_at),
            &or(&key.last_used_at.map(time), "never"),
            &or(&key.expires_at.map(time), "never"),
        ]);
    }
    table.text()
}
