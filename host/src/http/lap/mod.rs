//! The dialect of the LiteLLM Agent Platform: its paths, fields, statuses and words. A file for each noun.
//!
//! Where that platform says what is not so, this one does not: a session that does not exist is not interrupted with
//! success, and a message that cannot be taken is not taken.

pub(super) mod agents;
pub(super) mod backup;
pub(super) mod capabilities;
pub(super) mod events;
pub(super) mod harnesses;
pub(super) mod health;
pub(super) mod keys;
pub(super) mod orphans;
pub(super) mod probe;
pub(super) mod runtimes;
pub(super) mod sessions;
pub(super) mod status;
pub(super) mod versions;
