//! Requests that may come twice and shall be carried out once: the `Idempotency-Key` of a POST.
//!
//! For the guard of the routes, which hands every request of a principal through [`answer`], and for the handlers, which
//! take an [`Attempt`]. The id of what a request makes is durable before the request is carried out; carrying it out
//! again finds what has that id or makes it. What makes nothing takes a receipt, or where it changes the vault a mark: the commit
//! that carries it out, or a step of it, notes so. So nothing is lost or doubled however often the host is killed.
//!
//! Must not know what a request makes: the handlers look for it.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, Method, StatusCode, request::Parts};
use ring::digest::{Context, SHA256, digest};
use tokio::sync::OwnedMutexGuard;

use super::{
    App,
    error::{Error, Refusal},
    json, on_disk,
    principal::Principal,
    unharmed,
};
use crate::{
    clock,
    events::{Receipt, Reservation, ReservationKey, Reservations, Stage},
    id::Reserved,
    vault::{Mark, Marks},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// On the answer of a request that was carried out when it came before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

const KEY_BYTES_MAX: usize = 255;

/// Answers a request: the second of a key with what the first has brought about, and all others by carrying them out.
pub(super) async fn answer(app: &App, principal: Principal, request: Request, next: Next) -> Response {
    match key(&request) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => {
            let key = key.to_owned();
            once(app, principal, &key, request, next).await.unwrap_or_else(Error::into_response)
        }
        Err(error) => error.into_response(),
    }
}

/// The key of a request that has one. Only what a POST does differs from time to time.
fn key(request: &Request) -> Result<Option<&str>, Error> {
    if request.method() != Method::POST {
        return Ok(None);
    }
    let mut keys = request.headers().get_all(KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let visible = key.to_str().ok().filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
    match visible {
        Some(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) && keys.next().is_none() => Ok(Some(key)),
        _ => {
            let message = format!(
                "the header `Idempotency-Key` must be there once and have 1 to {KEY_BYTES_MAX} visible ASCII characters"
            );
            Err(Error::new(StatusCode::BAD_REQUEST, "idempotency_key_invalid", message))
        }
    }
}

/// Refuses a key where the host cannot keep what it promises: the upstream carries the request out and knows no keys.
pub(super) fn refuse(request: &Request) -> Result<(), Error> {
    if key(request)?.is_none() {
        return Ok(());
    }
    let message = "this request goes on to the upstream, which knows no idempotency keys, so the host cannot promise that it \
                   happens once; send it without the header, and look before you send it again";
    Err(Error::new(StatusCode::BAD_REQUEST, "idempotency_unsupported", message))
}

async fn once(app: &App, principal: Principal, key: &str, request: Request, next: Next) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let body = json::read(body).await?;
    let row = row(principal.name(), &parts.method, parts.uri.path(), key);
    let turn = app.underway().turn(row).await;
    // Others may have been at work on this key for long.
    if principal.has_ended() {
        return Err(Error::unauthorized());
    }
    let store = Store { reservations: app.reservations().clone(), marks: app.marks().clone() };
    // Goes on when the client leaves: the next request of this key must find it over.
    let carried = tokio::spawn(async move {
        let response = carry_out(store, row, Request::from_parts(parts, body), next).await;
        drop(turn);
        response
    });
    carried.await.map_err(|error| Error::internal(format_args!("a keyed request was not carried out: {error}")))?
}

/// What stands for a key in the store. It belongs to one principal, and to one thing that is done.
fn row(principal: &str, method: &Method, path: &str, key: &str) -> ReservationKey {
    let mut context = Context::new(&SHA256);
    for part in [principal, method.as_str(), path, key] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    bytes(&context.finish())
}

fn bytes(digest: &ring::digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

async fn carry_out(
    store: Store,
    row: ReservationKey,
    request: http::Request<bytes::Bytes>,
    next: Next,
) -> Result<Response, Error> {
    let wish = bytes(&digest(&SHA256, request.body()));
    let reserved = store.reservations.reserve(row, wish, clock::unix_ms()).await;
    let mut reservation = reserved.map_err(|error| safe(error.into()))?;
    if matches!(reservation.stage, Stage::Tried(_)) {
        let (marks, id) = (store.marks.clone(), reservation.id);
        if on_disk(move || marks.has(id)).await?? {
            reservation.stage = Stage::Done;
        }
    }
    let mut request = request.map(Body::from);
    let key = Arc::new(Key { store: store.clone(), reservation: reservation.clone() });
    request.extensions_mut().insert(Attempt { id: reservation.id, stage: reservation.stage, key: Some(key) });
    let mut response = unharmed(next.run(request)).await;
    if response.status().is_success() && reservation.stage != Stage::Done {
        store.reservations.fulfil(&reservation).await.map_err(|error| safe(error.into()))?;
    }
    if let Some(Refusal(error)) = response.extensions_mut().get_mut() {
        *error = Arc::new(safe((**error).clone()));
    }
    Ok(response)
}

/// What is said of a keyed request whose outcome is unknown: unlike others it may be sent again.
fn safe(error: Error) -> Error {
    if error.code == "outcome_unknown" { error.under_a_key() } else { error }
}

/// One of the times that a request is carried out. Handlers of what must not happen twice take it; a request without a
/// key has one try.
#[derive(Clone)]
pub(super) struct Attempt {
    id: Reserved,
    stage: Stage,
    /// Nothing when the request has none.
    key: Option<Arc<Key>>,
}

/// What a key stands for, and where that is kept.
struct Key {
    store: Store,
    reservation: Reservation,
}

/// Where keys are kept, and what was carried out: for what changes the log in the one, for what changes the vault in the other.
#[derive(Clone)]
struct Store {
    reservations: Reservations,
    marks: Marks,
}

impl Attempt {
    /// The id of what the request makes.
    pub(super) fn id<T: From<Reserved>>(&self) -> T {
        self.id.into()
    }

    /// True when the request may come again under its key.
    pub(super) const fn is_keyed(&self) -> bool {
        self.key.is_some()
    }

    /// True when the request was carried out before.
    pub(super) fn is_replay(&self) -> bool {
        self.stage == Stage::Done
    }

    /// True when the request was tried before, and it is not known whether it was carried out.
    pub(super) fn is_retry(&self) -> bool {
        matches!(self.stage, Stage::Tried(_))
    }

    /// True when this step of the request, from 0, was carried out before.
    pub(super) fn has_done(&self, step: u8) -> bool {
        matches!(self.stage, Stage::Tried(steps) if step < steps)
    }

    /// What a commit of the vault notes that carries the request out; nothing without a key.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.key.as_ref().map(|key| key.store.marks.of(key.reservation.id))
    }

    /// What a commit of the log notes that carries the request out; nothing without a key.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.note(Stage::Done)
    }

    /// The same for one of its steps, from 0: those before it have been carried out.
    pub(super) fn receipt_of(&self, step: u8) -> Option<Receipt> {
        self.note(Stage::Tried(step.saturating_add(1)))
    }

    fn note(&self, stage: Stage) -> Option<Receipt> {
        self.key.as_ref().map(|key| key.store.reservations.receipt(&key.reservation, stage))
    }

    /// What an earlier attempt has made, as `look`, which may block, finds it by its id; nothing when it must be made now.
    ///
    /// # Errors
    /// When it was made and is gone: it must not come back.
    pub(super) async fn made<I: From<Reserved>, T: Send + 'static, E: Send + 'static>(
        &self,
        look: impl FnOnce(I) -> Result<Option<T>, E> + Send + 'static,
    ) -> Result<Option<T>, Error>
    where
        Error: From<E>,
    {
        if self.stage == Stage::New {
            return Ok(None);
        }
        let id = self.id;
        let made = on_disk(move || look(id.into())).await??;
        if made.is_none() && self.is_replay() {
            let message = "what this idempotency key has made was deleted since; use a new key to make another one";
            return Err(Error::new(StatusCode::GONE, "idempotency_gone", message));
        }
        Ok(made)
    }
}

/// Marks the answer to a request that was carried out before.
pub(super) fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

impl<S: Sync> FromRequestParts<S> for Attempt {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let keyed = parts.extensions.get().cloned();
        Ok(keyed.unwrap_or_else(|| Self { id: Reserved::fresh(), stage: Stage::New, key: None }))
    }
}

/// The keyed requests that are being carried out in this process: one of each key at a time.
#[derive(Default)]
pub(super) struct Underway {
    keys: Mutex<HashMap<ReservationKey, Weak<Lock>>>,
}

/// Held across the whole request, so it is not the standard library's.
type Lock = tokio::sync::Mutex<()>;

/// The right to carry out the request of one key, or the wait for it. The next one gets it when this is dropped.
struct Turn {
    underway: Arc<Underway>,
    row: ReservationKey,
    lock: Option<Arc<Lock>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Underway {
    fn keys(&self) -> MutexGuard<'_, HashMap<ReservationKey, Weak<Lock>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other request of this key is being carried out.
    async fn turn(self: &Arc<Self>, row: ReservationKey) -> Turn {
        let lock = {
            let mut keys = self.keys();
            let place = keys.entry(row).or_default();
            place.upgrade().unwrap_or_else(|| {
                let lock = Arc::default();
                *place = Arc::downgrade(&lock);
                lock
            })
        };
        let mut turn = Turn { underway: Arc::clone(self), row, lock: Some(Arc::clone(&lock)), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.underway.keys();
        (self.guard, self.lock) = (None, None);
        // Others may wait for their turn.
        if keys.get(&self.row).is_some_and(|lock| lock.strong_count() == 0) {
            keys.remove(&self.row);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use futures_util::FutureExt;

    use super::{super::error::Retry, *};

    fn request(method: Method, keys: &[&[u8]]) -> Request {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        for key in keys {
            request.headers_mut().append(KEY, HeaderValue::from_bytes(key).unwrap());
        }
        request
    }

    #[test]
    fn a_key_has_1_to_255_visible_characters() {
        let longest = "k".repeat(KEY_BYTES_MAX);
        for name in ["k", "!~", &longest] {
            assert_eq!(key(&request(Method::POST, &[name.as_bytes()])).unwrap(), Some(name));
        }
        let too_long = "k".repeat(KEY_BYTES_MAX + 1);
        let bad: [&[&[u8]]; 7] =
            [&[b""], &[b"a b"], &[b"a\tb"], &["ä".as_bytes()], &[b"\xff"], &[too_long.as_bytes()], &[b"a", b"a"]];
        for keys in bad {
            let error = key(&request(Method::POST, keys)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "idempotency_key_invalid"), "{keys:?}");
        }
        assert_eq!(key(&request(Method::POST, &[])).unwrap(), None);
        assert_eq!(
            key(&request(Method::DELETE, &[b"a b"])).unwrap(),
            None,
            "what is the same however often needs no key"
        );
    }

    #[test]
    fn a_key_belongs_to_a_principal_a_method_and_a_path() {
        let mine = row("ann", &Method::POST, "/session", "k");
        assert_eq!(mine, row("ann", &Method::POST, "/session", "k"));
        for other in [
            row("bob", &Method::POST, "/session", "k"),
            row("ann", &Method::PUT, "/session", "k"),
            row("ann", &Method::POST, "/api/agents", "k"),
            row("ann", &Method::POST, "/session", "l"),
            row("ann", &Method::POST, "/sessio", "nk"),
        ] {
            assert_ne!(mine, other);
        }
    }

    #[tokio::test]
    async fn turns_of_a_key_come_one_after_the_other_and_leave_nothing_behind() {
        let underway = Arc::new(Underway::default());
        let first = underway.turn([1; 32]).await;
        let other = underway.turn([2; 32]).await;
        let mut second = Box::pin(underway.turn([1; 32]));
        let mut left = Box::pin(underway.turn([1; 32]));
        assert!((&mut second).now_or_never().is_none() && (&mut left).now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert!((&mut left).now_or_never().is_none());
        drop((second, other));
        assert_eq!(underway.keys().len(), 1, "one waits still");
        drop(left);
        assert!(underway.keys().is_empty());
    }

    #[test]
    fn only_an_unknown_outcome_becomes_safe_to_retry_under_a_key() {
        let unknown = safe(crate::events::AppendError::OutcomeUnknown.into());
        assert_eq!((unknown.code, unknown.retry), ("outcome_unknown", Retry::Yes));
        assert_eq!(safe(Error::invalid("x")).retry, Retry::No);
    }
}
