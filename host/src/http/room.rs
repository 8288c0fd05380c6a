//! Room for connections: how many may be open in all, and how many of them one client may have. For `serve.rs`.
//!
//! A client is an address, or a network of 64 bits with IPv6, which is what one customer is given. This machine's own
//! connections are not counted by client: behind a proxy that runs here, they are everybody's.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections get three of four files that the process may open. The rest is for upstreams and for the store.
const FILES_FOR_CONNECTIONS: (u64, u64) = (3, 4);

/// How many connections there may be, and who has them.
pub(super) struct Room {
    seats: Arc<Semaphore>,
    of_one_client_max: usize,
    /// Clients with a connection, and how many each has; no entry is 0.
    clients: Mutex<HashMap<Client, usize>>,
}

/// Whom connections are counted for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(Ipv4Addr),
    /// The first half of the address.
    V6(u64),
}

impl Client {
    /// Nobody, for an address of this machine.
    fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            own if own.is_loopback() => None,
            IpAddr::V4(address) => Some(Self::V4(address)),
            IpAddr::V6(address) => Some(Self::V6((address.to_bits() >> 64) as u64)),
        }
    }
}

/// The right to one connection.
pub(super) struct Seat {
    room: Arc<Room>,
    client: Option<Client>,
    _permit: OwnedSemaphorePermit,
}

/// The client has as many connections as one may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl Room {
    pub(super) fn new(seats: usize, of_one_client_max: usize) -> Arc<Self> {
        let seats = Arc::new(Semaphore::new(seats.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { seats, of_one_client_max, clients: Mutex::default() })
    }

    /// A seat for a connection that is still to come, once there is one.
    pub(super) async fn free(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.seats).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives the seat to who has come.
    pub(super) fn admit(self: &Arc<Self>, permit: OwnedSemaphorePermit, address: IpAddr) -> Result<Seat, Crowded> {
        let client = Client::of(address);
        if let Some(client) = client {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let count = clients.entry(client).or_default();
            // One is the least that may be set, so that no entry of 0 is left behind here.
            if *count >= self.of_one_client_max {
                return Err(Crowded);
            }
            *count += 1;
        }
        Ok(Seat { room: Arc::clone(self), client, _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut clients = self.room.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = clients.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// As many connections as are wished for, or as the files allow that this process may open. The limit that a shell or a
/// service manager sets by default, 1024, is one that a process may raise by itself.
pub(super) fn possible(wished: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = fitting(wished, files);
    if possible < wished {
        tracing::warn!(wished, possible, files, "fewer connections than wished for: raise the limit on open files");
    }
    possible
}

fn fitting(wished: usize, files: u64) -> usize {
    let (part, whole) = FILES_FOR_CONNECTIONS;
    let room = usize::try_from(files / whole * part).unwrap_or(usize::MAX);
    wished.min(room.max(1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn admit(room: &Arc<Room>, address: &str) -> Result<Seat, Crowded> {
        let permit = room.free().await;
        room.admit(permit, address.parse().unwrap())
    }

    #[tokio::test]
    async fn a_client_with_all_its_connections_gets_no_more_until_one_ends() {
        let room = Room::new(100, 2);
        let (first, _second) = (admit(&room, "192.0.2.1").await.unwrap(), admit(&room, "192.0.2.1").await.unwrap());
        assert!(admit(&room, "192.0.2.1").await.is_err());
        assert!(admit(&room, "::ffff:192.0.2.1").await.is_err(), "the same client, in the other spelling");
        let _other = admit(&room, "192.0.2.2").await.unwrap();
        drop(first);
        let _again = admit(&room, "192.0.2.1").await.unwrap();
        assert!(admit(&room, "192.0.2.1").await.is_err());
    }

    #[tokio::test]
    async fn one_network_of_version_6_is_one_client() {
        let room = Room::new(100, 1);
        let _seat = admit(&room, "2001:db8:1:2::1").await.unwrap();
        assert!(admit(&room, "2001:db8:1:2:ffff::9").await.is_err());
        assert!(admit(&room, "2001:db8:1:3::1").await.is_ok());
    }

    #[tokio::test]
    async fn this_machine_has_as_many_as_there_is_room_for() {
        let room = Room::new(9, 1);
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            let seats = (admit(&room, address).await, admit(&room, address).await);
            assert!(seats.0.is_ok() && seats.1.is_ok(), "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_seat_waits_for_one_and_a_refused_client_takes_none() {
        let room = Room::new(2, 1);
        let first = admit(&room, "192.0.2.1").await.unwrap();
        assert!(admit(&room, "192.0.2.1").await.is_err());
        let _second = admit(&room, "192.0.2.2").await.unwrap();
        let third = admit(&room, "192.0.2.3");
        tokio::pin!(third);
        assert!(timeout(Duration::from_secs(3600), &mut third).await.is_err());
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn clients_that_are_gone_leave_nothing_behind() {
        let room = Room::new(100, 1);
        for last in 0..50 {
            let seat = admit(&room, &format!("192.0.2.{last}")).await.unwrap();
            assert_eq!(room.clients.lock().unwrap().len(), 1);
            drop(seat);
        }
        assert!(room.clients.lock().unwrap().is_empty());
        assert_eq!(room.seats.available_permits(), 100);
    }

    #[test]
    fn connections_leave_files_for_the_store_and_for_upstreams() {
        assert_eq!(fitting(16_384, 1_048_576), 16_384);
        assert_eq!(fitting(16_384, 1024), 768);
        assert_eq!(fitting(16_384, 1), 1);
    }
}
