//! What a database lies on: a file, a file whose writes are kept in memory, or what a test makes.

use std::{fmt, io};

use redb::StorageBackend;

/// Bytes that can be read, written and made durable. One database uses it, from several threads.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// How many bytes there are.
    ///
    /// # Errors
    /// Those of the system.
    fn len(&self) -> io::Result<u64>;

    /// True when there are none.
    ///
    /// # Errors
    /// Those of the system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads as many bytes as `into` holds. They are there.
    ///
    /// # Errors
    /// Those of the system.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Cuts off what is behind, or appends zeros.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// Those of the system.
    fn sync(&self) -> io::Result<()>;

    /// Writes bytes into what is there.
    ///
    /// # Errors
    /// Those of the system.
    fn write(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// The database is done with it.
    ///
    /// # Errors
    /// Those of the system.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk as the database wants it.
#[derive(Debug)]
pub(crate) struct Beneath<D>(pub(crate) D);

impl<D: Disk> StorageBackend for Beneath<D> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}
