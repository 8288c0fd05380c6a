//! What `lap key` takes.

use super::ServeArgs;
use crate::access::Role;

/// What `key` takes.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with clients' keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a key; stdout gets its text, which is shown once, and nothing else
    Mint(MintArgs),
    /// Show all keys, the last made first; their texts are not kept
    List(ListKeysArgs),
    /// End a key at once, with the streams that are open with it
    Revoke(RevokeArgs),
}

/// What `key mint` takes.
#[derive(Debug, clap::Args)]
pub struct MintArgs {
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// What it may do: look (reader), work (member), or everything with everybody's (admin)
    #[arg(long, value_name = "ROLE", default_value = Role::Member.as_str(), value_parser = role)]
    pub role: Role,
    /// Whose things it sees, as an agent's `owner_id` says it [default: local-user; an admin's sees everybody's]
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// For how many days it is valid [default: until it is revoked]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub days: Option<u32>,
    /// Answer what the host answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

fn role(text: &str) -> Result<Role, &'static str> {
    let known = [Role::Reader, Role::Member, Role::Admin];
    known.into_iter().find(|role| role.as_str() == text).ok_or("a role is reader, member or admin")
}

/// What `key list` takes.
#[derive(Debug, clap::Args)]
pub struct ListKeysArgs {
    /// Answer what the host answers, as JSON
    #[arg(long)]
    pub json: bool,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}

/// What `key revoke` takes.
#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The key's id, as `key list` shows it
    #[arg(value_name = "KEY")]
    pub id: String,
    /// As for `serve`: where the host listens, and where the master key is.
    #[command(flatten)]
    pub host: ServeArgs,
}
