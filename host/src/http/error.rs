//! From what went wrong to what the client is told: status, stable code, what to do, and whether a retry is safe.
//!
//! Each error of another module has one exhaustive match here. The body is written when the request's id is known, by
//! `exchange.rs`. What only helps the operator goes into the log, not into the answer.

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::value::RawValue;

use crate::{
    access::Role,
    agents,
    backup::SpoolError,
    disk::{Frozen, NoRoom},
    events::{AppendError, ReadError, ReserveError},
    registry::{AddError, AliasError, ChangeError, RemoveAliasError, RemoveError},
    runtime::{self, CallError, ErrorKind, Fault},
    session::{
        CreateError, DeleteError, ForgetError, InputError, InterruptError, KillError, LinkError, ModelsError,
        NotAdmitted, PromptError, Refused,
    },
    vault,
};

/// When the upstream says that it is overloaded or throttles, and not for how long.
pub(super) const UPSTREAM_RETRY: Duration = Duration::from_secs(5);

/// When a session has too much to do.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// When a backup is under way already.
const BACKUP_RETRY: Duration = Duration::from_secs(10);

/// When the disk has no room.
const DISK_RETRY: Duration = Duration::from_secs(30);

/// When something is to be removed on which a turn runs. A driver stays for half a minute after it.
const IN_USE_RETRY: Duration = Duration::from_secs(30);

/// When a client has too many connections.
const CONNECTION_RETRY: Duration = Duration::from_secs(5);

/// A refusal or failure, as the client sees it.
#[derive(Debug, Clone)]
pub(super) struct Error {
    pub(super) status: StatusCode,
    /// Stable, for programs.
    pub(super) code: &'static str,
    /// What is wrong and what to do about it.
    pub(super) message: String,
    pub(super) retry: Retry,
    /// For the log alone.
    pub(super) cause: Option<String>,
    /// What a program needs to know beyond that: JSON.
    pub(super) details: Option<Box<RawValue>>,
    /// What the vendor's own API calls it, where the request was one of that API and went on to it.
    pub(super) vendors: Option<Box<VendorsError>>,
}

/// An error as the vendor's API names it, for clients that speak its dialect.
#[derive(Debug, Clone)]
pub(super) struct VendorsError {
    pub(super) kind: String,
    /// What the API says beyond kind and message.
    pub(super) details: Option<Box<RawValue>>,
}

/// Whether to send the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It would fail again, or might do twice what was asked for once.
    No,
    /// It is safe and may succeed.
    Yes,
    /// As `Yes`, but not before this time.
    After(Duration),
}

/// An error on its way out, in the extensions of a response whose body is not written yet.
#[derive(Clone)]
pub(super) struct Refusal(pub(super) Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Refusal(Arc::new(self)));
        response
    }
}

impl Error {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry: Retry::No, cause: None, details: None, vendors: None }
    }

    /// A request that cannot be understood, with the words that clients of the platform know.
    pub(super) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", format!("invalid request json: {message}"))
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized")
    }

    /// A key that is valid and not enough.
    pub(super) fn role_required(asked: Role, role: Role) -> Self {
        let (asked, role) = (asked.as_str(), role.as_str());
        let message = format!("this is for the role `{asked}`, and the key has the role `{role}`: use another key");
        Self::new(StatusCode::FORBIDDEN, "role_required", message)
    }

    pub(super) fn too_many_connections() -> Self {
        let message = "this client has too many connections open; close one, or ask the operator for more";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message)
            .with_retry(Retry::After(CONNECTION_RETRY))
    }

    pub(super) fn session_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "session_not_found", "session not found")
    }

    /// The code of [`Self::upstream_auth`].
    pub(super) const UPSTREAM_AUTH: &'static str = "upstream_auth";

    /// The upstream does not take the stored credential, for which it gives a reason.
    pub(super) fn upstream_auth(reason: &str) -> Self {
        let hint = "store a valid one with PUT /api/agent-runtimes/{id}/credentials";
        let message = format!("the upstream refuses the stored credential ({reason}); {hint}");
        Self::new(StatusCode::BAD_GATEWAY, Self::UPSTREAM_AUTH, message)
    }

    /// What cannot be done here, and will not be when it is asked for again.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message)
    }

    /// What has to wait for the end of a turn.
    pub(super) fn session_running(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "session_running", message)
    }

    pub(super) fn unsupported_runtime(runtime: &str) -> Self {
        let message = format!("invalid request json: unsupported runtime: {runtime}");
        Self::new(StatusCode::BAD_REQUEST, "unsupported_runtime", message)
    }

    pub(super) fn runtime_not_found(runtime: &str) -> Self {
        let message = format!("this host has no runtime {runtime}; GET /api/agent-runtimes lists those that it has");
        Self::new(StatusCode::NOT_FOUND, "runtime_not_found", message)
    }

    /// The disk does not take something.
    pub(super) fn of_disk(error: std::io::Error) -> Self {
        if error.kind() != std::io::ErrorKind::StorageFull {
            return Self::internal(error);
        }
        let message = "the disk of the data directory is full; nothing was stored";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message).because(error)
    }

    /// Something that must not happen; the client learns only that it did.
    pub(super) fn internal(cause: impl std::fmt::Display) -> Self {
        let message = "the host failed; its log says more under this request id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).because(cause)
    }

    /// What the framework refused by status alone.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let (code, message) = match status {
            StatusCode::NOT_FOUND => ("not_found", "not found"),
            StatusCode::METHOD_NOT_ALLOWED => {
                ("method_not_allowed", "this path does not take this method; the `allow` header names those it takes")
            }
            _ if status.is_client_error() => ("invalid_request", "the request cannot be understood"),
            _ => ("internal", "the host failed; its log says more under this request id"),
        };
        Self::new(status, code, message)
    }

    pub(super) fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The same error of a request that carries an idempotency key: sending it again does no harm.
    pub(super) fn under_a_key(self) -> Self {
        let message = "the host or its disk failed while this was stored: it may or may not have happened; send it again under the same \
                       idempotency key";
        Self { message: message.to_owned(), retry: Retry::Yes, ..self }
    }

    pub(super) fn because(self, cause: impl std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }
}

impl From<AppendError> for Error {
    fn from(error: AppendError) -> Self {
        let unavailable = |code, message| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        match error {
            AppendError::OutcomeUnknown => unavailable(
                "outcome_unknown",
                "the host or its disk failed while this was stored: it may or may not have happened; look before you send it again",
            ),
            AppendError::Frozen => Self::from(NoRoom::Frozen(Frozen::Full)),
            AppendError::Fenced => {
                let message = "the session was busy elsewhere and nothing was stored; send the request again";
                unavailable("session_busy", message).with_retry(Retry::After(BUSY_RETRY))
            }
        }
        .because(error)
    }
}

impl From<ReserveError> for Error {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::OtherWish => {
                let message = "this idempotency key was used for another request; use a new one for each request";
                Self::new(StatusCode::CONFLICT, "idempotency_key_reused", message)
            }
            ReserveError::Store(error) => error.into(),
            ReserveError::Damaged => {
                let message =
                    "what is stored for this idempotency key is damaged; see whether the request was carried out";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "record_damaged", message).because(error)
            }
        }
    }
}

impl From<ForgetError> for Error {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Read(error) => error.into(),
            ForgetError::Store(error) => error.into(),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let cause = error.to_string();
        match error {
            ReadError::Database(source) => {
                let message = "the event log cannot be read; the operator must look at the host's disk";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_unreadable", message)
                    .because(format!("{cause}: {source}"))
            }
            ReadError::Damaged { session } => {
                let message = format!("the stored record of session {session} is damaged; restore it from a backup");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "record_damaged", message).because(cause)
            }
        }
    }
}

impl From<agents::StoreError> for Error {
    fn from(error: agents::StoreError) -> Self {
        let internal = |code, message| Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message);
        match &error {
            agents::StoreError::Integrity(_) => {
                internal("record_damaged", "a stored record is damaged; restore it from a backup").because(&error)
            }
            agents::StoreError::Malformed(_) => {
                let message = "a stored record cannot be understood; a newer version of the host may have written it";
                internal("record_damaged", message).because(&error)
            }
            agents::StoreError::OutcomeUnknown(source) => {
                Self::from(AppendError::OutcomeUnknown).because(format!("{error}: {source}"))
            }
            agents::StoreError::Database(source) => {
                let message = "the store cannot be read; the operator must look at the host's disk";
                internal("store_unreadable", message).because(format!("{error}: {source}"))
            }
        }
    }
}

impl From<NoRoom> for Error {
    fn from(error: NoRoom) -> Self {
        let code = match error {
            NoRoom::Frozen(Frozen::ReadOnly) => "disk_read_only",
            NoRoom::Little { .. } | NoRoom::Frozen(Frozen::Full) => "disk_full",
        };
        Self::new(StatusCode::INSUFFICIENT_STORAGE, code, error.to_string()).with_retry(Retry::After(DISK_RETRY))
    }
}

impl From<SpoolError> for Error {
    fn from(error: SpoolError) -> Self {
        match &error {
            SpoolError::Busy => {
                let message = "another backup is under way; there is one at a time";
                Self::new(StatusCode::CONFLICT, "backup_busy", message).with_retry(Retry::After(BACKUP_RETRY))
            }
            SpoolError::Full { free_bytes } => {
                let message = format!(
                    "the disk of the data directory has no room for a backup, which needs as much as the store: {free_bytes} \
                     bytes are free"
                );
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
            }
            SpoolError::Cancelled | SpoolError::Io(_) => Self::internal(&error),
            SpoolError::Copy(_) => {
                let message = "the store cannot be copied; the operator must look at the host's disk";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_unreadable", message).because(&error)
            }
        }
    }
}

impl From<AddError> for Error {
    fn from(error: AddError) -> Self {
        let refused = |message: String| Self::new(StatusCode::UNPROCESSABLE_ENTITY, "component_refused", message);
        match error {
            AddError::Manifest(error) => Self::new(StatusCode::BAD_REQUEST, "manifest_invalid", error.to_string()),
            AddError::Artifact(error) => refused(error.to_string()),
            AddError::Module => refused(error.to_string()),
            AddError::Component(error) => refused(error.to_string()),
            AddError::NotUploaded(component) => {
                let message = format!(
                    "the component {component} is not here: send it with PUT /api/components/{component}, then add it again; \
                     what was sent is kept until the host ends, or eight others have come"
                );
                Self::new(StatusCode::NOT_FOUND, "component_missing", message)
            }
            AddError::Bundled(id) => Self::of_change(ChangeError::Bundled, id.as_str()),
            AddError::Alias(id) => Self::of_change(ChangeError::Alias, id.as_str()),
            AddError::Damaged(reason) => Self::runtime_damaged().because(reason),
            AddError::Ungranted(review) => {
                let message = "look at what this changes (`details.changes`), and send it again with `grant` as in \
                               `details.grant` if it shall happen";
                let details = serde_json::value::to_raw_value(&review).ok();
                Self { details, ..Self::new(StatusCode::CONFLICT, "grant_required", message) }
            }
            AddError::Io(error) => Self::of_disk(error),
            AddError::Store(error) => error.into(),
        }
    }
}

impl Error {
    fn runtime_damaged() -> Self {
        let message = "what is stored of this runtime is damaged: remove it with DELETE /api/agent-runtimes/{id} and add it \
                       again, or restore a backup";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "record_damaged", message)
    }

    pub(super) fn runtime_broken() -> Self {
        let message = "the runtime's component cannot be loaded; the operator sees why with GET /api/agent-runtimes/{id}, and \
                       can roll it back or add one that can";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "runtime_broken", message)
    }

    /// Why a runtime was not changed.
    pub(super) fn of_change(error: ChangeError, id: &str) -> Self {
        let conflict = |code, message: String| Self::new(StatusCode::CONFLICT, code, message);
        match error {
            ChangeError::Unknown => Self::runtime_not_found(id),
            ChangeError::Bundled => conflict(
                "runtime_bundled",
                format!("{id} is part of this program and changes with it; give yours another `id` in its manifest"),
            ),
            ChangeError::Alias => conflict(
                "runtime_is_alias",
                format!(
                    "{id} is an alias, which has no component of its own; DELETE /api/runtime-harnesses/{id} removes it"
                ),
            ),
            ChangeError::Damaged(reason) => Self::runtime_damaged().because(reason),
            ChangeError::NoVersion => {
                let message = format!("{id} has no such version; GET /api/agent-runtimes/{id} lists those that it has");
                Self::new(StatusCode::NOT_FOUND, "runtime_version_not_found", message)
            }
            ChangeError::NoEarlier => conflict(
                "no_earlier_version",
                format!(
                    "{id} has no version that was added before the current one; name one with `to`, or add another"
                ),
            ),
            ChangeError::Broken(reason) => {
                let message = format!("that version cannot be loaded any more, so nothing has changed: {reason}");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "component_refused", message)
            }
            ChangeError::Store(error) => error.into(),
        }
    }

    /// Why a runtime or a version of one was not removed.
    pub(super) fn of_removal(error: RemoveError<ReadError>, id: &str) -> Self {
        let conflict = |code, message: String| Self::new(StatusCode::CONFLICT, code, message);
        match error {
            RemoveError::Change(error) => Self::of_change(error, id),
            RemoveError::Current => conflict(
                "version_current",
                format!(
                    "new sessions of {id} get this version; roll back or add another one first, or remove the runtime"
                ),
            ),
            RemoveError::Running => Self::runtime_in_use(id),
            RemoveError::Aliased(aliases) => {
                let aliases: Vec<_> = aliases.iter().map(ToString::to_string).collect();
                let message =
                    format!("{id} runs under other names, too; remove these aliases first: {}", aliases.join(", "));
                conflict("runtime_aliased", message)
            }
            RemoveError::Needed(sessions) => conflict(
                "version_in_use",
                format!("{sessions} sessions are on this version and would go on with another one; delete them first"),
            ),
            RemoveError::Unread(error) => error.into(),
        }
    }

    fn runtime_in_use(id: &str) -> Self {
        let message = format!("sessions work on {id} just now; interrupt them, or try again when their turns are over");
        Self::new(StatusCode::CONFLICT, "runtime_in_use", message).with_retry(Retry::After(IN_USE_RETRY))
    }

    pub(super) fn alias_not_found(id: &str) -> Self {
        let message = format!("harness not found: {id}; GET /api/runtime-harnesses lists those that there are");
        Self::new(StatusCode::NOT_FOUND, "alias_not_found", message)
    }

    /// What is asked of an alias, for a runtime that is none.
    pub(super) fn not_an_alias(id: &str) -> Self {
        let message = format!(
            "{id} is no alias; PUT and DELETE /api/agent-runtimes/{id}/credentials change its credential, and \
             DELETE /api/agent-runtimes/{id} removes an added runtime"
        );
        Self::new(StatusCode::BAD_REQUEST, "not_an_alias", message)
    }

    /// Why an alias was not removed.
    pub(super) fn of_alias_removal(error: RemoveAliasError<ReadError>, id: &str) -> Self {
        match error {
            RemoveAliasError::Original => Self::not_an_alias(id),
            RemoveAliasError::Running => Self::runtime_in_use(id),
            RemoveAliasError::Unread(error) => error.into(),
            RemoveAliasError::Store(error) => error.into(),
        }
    }
}

impl From<AliasError> for Error {
    fn from(error: AliasError) -> Self {
        let refused = |code, message: String| Self::new(StatusCode::BAD_REQUEST, code, message);
        match error {
            AliasError::Name => Self::invalid(format_args!("alias: {error}")),
            AliasError::Taken(id) => {
                refused("alias_taken", format!("alias: this host has a runtime {id} already; choose another name"))
            }
            AliasError::Unknown(of) => {
                let known = "GET /api/agent-runtimes lists those that this host has";
                refused("unsupported_runtime", format!("api_spec: unsupported runtime: {of}; {known}"))
            }
            AliasError::OfAlias(of) => refused(
                "alias_of_alias",
                format!("api_spec: {of} is an alias itself; name the runtime that it stands for"),
            ),
            AliasError::Store(error) => error.into(),
        }
    }
}

impl From<agents::UpdateError<Self>> for Error {
    fn from(error: agents::UpdateError<Self>) -> Self {
        match error {
            agents::UpdateError::Refused(error) => error,
            agents::UpdateError::Store(error) => error.into(),
            agents::UpdateError::Archived => {
                Self::new(StatusCode::BAD_REQUEST, "agent_archived", "the agent is archived and cannot be changed")
            }
            agents::UpdateError::Stale { latest } => {
                let message = format!(
                    "Concurrent modification detected: the latest version is {latest}; retrieve the agent and try again"
                );
                Self::new(StatusCode::CONFLICT, "agent_version_stale", message)
            }
        }
    }
}

impl From<vault::StoreError> for Error {
    fn from(error: vault::StoreError) -> Self {
        let internal = |code, message| Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message);
        match &error {
            vault::StoreError::Unusable(unusable) => Self::invalid(format_args!("api_key: {unusable}")),
            vault::StoreError::Integrity(_) => {
                internal("vault_damaged", "a stored credential is damaged; restore the vault from a backup")
                    .because(&error)
            }
            vault::StoreError::OutcomeUnknown(source) => {
                Self::from(AppendError::OutcomeUnknown).because(format!("{error}: {source}"))
            }
            vault::StoreError::Database(source) => {
                let message = "the vault cannot be read; the operator must look at the host's disk";
                internal("vault_unreadable", message).because(format!("{error}: {source}"))
            }
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Declared(error) => declared(error),
            CallError::Fault(fault) => Self::from(fault),
        }
    }
}

/// What the runtime says of its upstream. No status of the upstream is passed on as it is: a client must be able to
/// tell the upstream's refusal of the host from the host's refusal of the client.
fn declared(error: runtime::Error) -> Error {
    let runtime::Error { kind, message, retry_after_ms, status } = error;
    let told = retry_after_ms.map(|ms| Duration::from_millis(ms.into()));
    let later = Retry::After(told.unwrap_or(UPSTREAM_RETRY));
    let new = |status, code, message: String| Error::new(status, code, message);
    let answer = match kind {
        ErrorKind::Auth => Error::upstream_auth(&message),
        ErrorKind::Throttled => new(StatusCode::TOO_MANY_REQUESTS, "upstream_throttled", message).with_retry(later),
        ErrorKind::Quota => new(StatusCode::PAYMENT_REQUIRED, "upstream_quota", message),
        ErrorKind::Overloaded => new(StatusCode::SERVICE_UNAVAILABLE, "upstream_overloaded", message).with_retry(later),
        ErrorKind::BadRequest => new(StatusCode::UNPROCESSABLE_ENTITY, "upstream_rejected", message),
        ErrorKind::NotFound => new(StatusCode::NOT_FOUND, "upstream_not_found", message),
        ErrorKind::Conflict => new(StatusCode::CONFLICT, "upstream_conflict", message),
        ErrorKind::Gone => new(StatusCode::GONE, "upstream_gone", message),
        ErrorKind::Unsupported => new(StatusCode::NOT_IMPLEMENTED, "unsupported", message),
        ErrorKind::Upstream => new(StatusCode::BAD_GATEWAY, "upstream_unavailable", message)
            .with_retry(told.map_or(Retry::Yes, Retry::After)),
        ErrorKind::Internal => new(StatusCode::BAD_GATEWAY, "runtime_fault", message),
    };
    match status {
        Some(status) => answer.because(format_args!("the upstream answered {status}")),
        None => answer,
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let (status, code, retry) = match &fault {
            // Nothing that a client asks of a runtime directly is lost or done twice by asking again.
            Fault::Busy => (StatusCode::SERVICE_UNAVAILABLE, "host_busy", Retry::After(Duration::from_secs(5))),
            Fault::Quarantined { retry_after } => {
                (StatusCode::SERVICE_UNAVAILABLE, "runtime_quarantined", Retry::After(*retry_after))
            }
            Fault::Wall => (StatusCode::GATEWAY_TIMEOUT, "runtime_timeout", Retry::Yes),
            Fault::Cpu => (StatusCode::GATEWAY_TIMEOUT, "runtime_timeout", Retry::No),
            Fault::Memory => (StatusCode::BAD_GATEWAY, "runtime_memory", Retry::No),
            Fault::Trap(_) | Fault::Contract(_) | Fault::HostCalls => {
                (StatusCode::BAD_GATEWAY, "runtime_fault", Retry::No)
            }
        };
        let cause = if let Fault::Trap(trace) = &fault { trace.clone() } else { fault.to_string() };
        let again = match &fault {
            Fault::Quarantined { retry_after } => {
                format!(" and was not called: send the request again in {} s", retry_after.as_secs())
            }
            Fault::Busy
            | Fault::Cpu
            | Fault::Wall
            | Fault::Memory
            | Fault::HostCalls
            | Fault::Contract(_)
            | Fault::Trap(_) => String::new(),
        };
        let message = format!("{fault}{again}; neither you nor the upstream is at fault");
        Self::new(status, code, message).with_retry(retry).because(cause)
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        let conflict = |code, message| Self::new(StatusCode::CONFLICT, code, message);
        match &error {
            LinkError::UnknownRuntime => {
                conflict("runtime_missing", "this host does not have the session's runtime; start it with that runtime")
            }
            LinkError::BrokenRuntime(cause) => Self::runtime_broken().because(cause),
            LinkError::NoCredential => no_credential("runtime"),
            LinkError::BadCredential(cause) => {
                let message = "the stored credential cannot be used; store it again with PUT /api/agent-runtimes/{id}/credentials";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "credential_unusable", message).because(cause)
            }
            LinkError::Moved => conflict(
                "base_moved",
                "the session lives at another base URL than the runtime's credential names now; store the credential with the \
                 old api_base to go on with this session, or start a new one",
            ),
        }
    }
}

/// `whose` is the vendor, as far as it is known.
pub(super) fn no_credential(whose: &str) -> Error {
    let hint = "store one with PUT /api/agent-runtimes/{id}/credentials";
    let message = format!("invalid request json: {whose} provider credentials are not configured; {hint}");
    Error::new(StatusCode::BAD_REQUEST, "no_credential", message)
}

fn session_busy() -> Error {
    let message = "the session has too much to do just now; send the request again a little later";
    Error::new(StatusCode::TOO_MANY_REQUESTS, "session_busy", message).with_retry(Retry::After(BUSY_RETRY))
}

impl From<CreateError> for Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Link(error) => error.into(),
            CreateError::Upstream(error) => error.into(),
            CreateError::NotAdmitted(why) => why.into(),
            CreateError::Store(error) => error.into(),
            CreateError::Read(error) => error.into(),
            CreateError::Provision(cause) => Self::internal(cause),
        }
    }
}

impl From<NotAdmitted> for Error {
    fn from(why: NotAdmitted) -> Self {
        let (status, code, retry) = match why {
            NotAdmitted::Full => (StatusCode::SERVICE_UNAVAILABLE, "host_busy", Retry::After(BUSY_RETRY)),
            NotAdmitted::Share => (StatusCode::TOO_MANY_REQUESTS, "owner_busy", Retry::After(BUSY_RETRY)),
            NotAdmitted::Budget(_) => (StatusCode::TOO_MANY_REQUESTS, "budget_exceeded", Retry::No),
        };
        Self::new(status, code, why.to_string()).with_retry(retry)
    }
}

impl From<PromptError> for Error {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::NotFound => Self::session_not_found(),
            PromptError::Refused(refused) => refused.into(),
            PromptError::NotAdmitted(why) => why.into(),
            PromptError::Busy => session_busy(),
            PromptError::QueueFull => Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", error.to_string())
                .with_retry(Retry::After(BUSY_RETRY)),
            PromptError::Store(error) => error.into(),
            PromptError::Read(error) => error.into(),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Terminated => Self::new(StatusCode::CONFLICT, "session_terminated", refused.to_string()),
            Refused::Archived => Self::new(StatusCode::BAD_REQUEST, "session_archived", refused.to_string()),
            Refused::Gone => Self::new(StatusCode::GONE, "upstream_gone", refused.to_string()),
            Refused::NothingToSend => Self::internal(refused),
        }
    }
}

impl From<InputError> for Error {
    fn from(error: InputError) -> Self {
        match error {
            InputError::NotFound => Self::session_not_found(),
            InputError::Refused(refused) => refused.into(),
            InputError::Invalid(message) => Self::new(StatusCode::BAD_REQUEST, "invalid_request", message),
            InputError::Running => Self::session_running("this is not possible while the session is running"),
            InputError::Link(error) => error.into(),
            InputError::Upstream(error) => error.into(),
            InputError::Unreachable(message) => {
                Self::new(StatusCode::BAD_GATEWAY, "upstream_unavailable", message).with_retry(Retry::Yes)
            }
            InputError::Unknown => {
                let message = format!("{error}; the session's events will show it");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", message)
            }
            InputError::Withdrawn => Self::new(StatusCode::CONFLICT, "turn_interrupted", error.to_string()),
            InputError::Busy => session_busy(),
            InputError::Store(error) => error.into(),
            InputError::Read(error) => error.into(),
        }
    }
}

impl From<InterruptError> for Error {
    fn from(error: InterruptError) -> Self {
        match error {
            InterruptError::NotFound => Self::session_not_found(),
            InterruptError::Busy => session_busy(),
            InterruptError::Store(error) => error.into(),
            InterruptError::Read(error) => error.into(),
        }
    }
}

impl From<KillError> for Error {
    fn from(error: KillError) -> Self {
        match error {
            KillError::NotFound => Self::session_not_found(),
            KillError::Busy => session_busy(),
            KillError::Store(error) => error.into(),
            KillError::Read(error) => error.into(),
        }
    }
}

impl From<DeleteError> for Error {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Link(error) => error.into(),
            DeleteError::Upstream(error) => error.into(),
            DeleteError::Busy => session_busy(),
            DeleteError::Store(error) => error.into(),
            DeleteError::Read(error) => error.into(),
        }
    }
}

impl From<ModelsError> for Error {
    fn from(error: ModelsError) -> Self {
        match error {
            ModelsError::Link(error) => error.into(),
            ModelsError::Upstream(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_kind(kind: ErrorKind, retry_after_ms: Option<u32>) -> Error {
        Error::from(CallError::Declared(runtime::Error {
            kind,
            message: "why".to_owned(),
            retry_after_ms,
            status: Some(499),
        }))
    }

    #[test]
    fn an_upstream_s_error_has_a_status_of_its_own_and_says_whether_to_retry() {
        let table = [
            (ErrorKind::Auth, 502, "upstream_auth", Retry::No),
            (ErrorKind::Throttled, 429, "upstream_throttled", Retry::After(UPSTREAM_RETRY)),
            (ErrorKind::Quota, 402, "upstream_quota", Retry::No),
            (ErrorKind::Overloaded, 503, "upstream_overloaded", Retry::After(UPSTREAM_RETRY)),
            (ErrorKind::BadRequest, 422, "upstream_rejected", Retry::No),
            (ErrorKind::NotFound, 404, "upstream_not_found", Retry::No),
            (ErrorKind::Conflict, 409, "upstream_conflict", Retry::No),
            (ErrorKind::Gone, 410, "upstream_gone", Retry::No),
            (ErrorKind::Unsupported, 501, "unsupported", Retry::No),
            (ErrorKind::Upstream, 502, "upstream_unavailable", Retry::Yes),
            (ErrorKind::Internal, 502, "runtime_fault", Retry::No),
        ];
        for (kind, status, code, retry) in table {
            let error = of_kind(kind, None);
            assert_eq!((error.status.as_u16(), error.code, error.retry), (status, code, retry), "{kind:?}");
            assert!(error.message.contains("why"), "{kind:?}");
        }
        let told = of_kind(ErrorKind::Throttled, Some(1500));
        assert_eq!(told.retry, Retry::After(Duration::from_millis(1500)));
    }

    #[test]
    fn a_runtime_s_fault_is_not_blamed_on_the_upstream_and_its_trace_stays_in_the_log() {
        let table = [
            (Fault::Wall, 504, "runtime_timeout"),
            (Fault::Cpu, 504, "runtime_timeout"),
            (Fault::Memory, 502, "runtime_memory"),
            (Fault::HostCalls, 502, "runtime_fault"),
            (Fault::Quarantined { retry_after: Duration::from_secs(4) }, 503, "runtime_quarantined"),
            (Fault::Contract("no"), 502, "runtime_fault"),
            (Fault::Trap("at 0x7f".to_owned()), 502, "runtime_fault"),
        ];
        for (fault, status, code) in table {
            let error = Error::from(fault);
            assert_eq!((error.status.as_u16(), error.code), (status, code));
            assert!(!error.message.contains("0x7f"));
        }
        let resting = Error::from(Fault::Quarantined { retry_after: Duration::from_secs(4) });
        assert!(resting.message.contains("not called: send the request again in 4 s"), "{}", resting.message);
        assert_eq!(resting.retry, Retry::After(Duration::from_secs(4)));
        assert_eq!(Error::from(Fault::Trap("at 0x7f".to_owned())).cause.as_deref(), Some("at 0x7f"));
    }

    #[test]
    fn an_unknown_outcome_is_not_to_be_retried_and_a_busy_session_is() {
        let unknown = Error::from(PromptError::Store(AppendError::OutcomeUnknown));
        assert_eq!((unknown.status.as_u16(), unknown.code, unknown.retry), (503, "outcome_unknown", Retry::No));
        let busy = Error::from(DeleteError::Busy);
        assert_eq!((busy.status.as_u16(), busy.code, busy.retry), (429, "session_busy", Retry::After(BUSY_RETRY)));
        let ended = Error::from(PromptError::Refused(Refused::Terminated));
        assert_eq!((ended.status.as_u16(), ended.code, ended.retry), (409, "session_terminated", Retry::No));
    }
}
