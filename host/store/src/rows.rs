//! What can be asked of a table, and what can be done to it.

use std::ops::{Bound, ControlFlow};

use crate::Error;

/// A row: its key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// From which key to which.
pub type Span<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// All keys there are.
pub const ALL: Span<'static> = (Bound::Unbounded, Bound::Unbounded);

/// The keys from one to another, both of them too.
#[must_use]
pub const fn between<'a>(first: &'a [u8], last: &'a [u8]) -> Span<'a> {
    (Bound::Included(first), Bound::Included(last))
}

/// Which way rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The smallest key first.
    Forwards,
    /// The largest key first.
    Backwards,
}

/// How much is read at once: never more rows, and no more once so many bytes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Rows.
    pub rows: usize,
    /// The size of what is stored.
    pub bytes: usize,
}

impl Limit {
    /// For what is bounded otherwise.
    pub const NONE: Self = Self { rows: usize::MAX, bytes: usize::MAX };
}

/// Sees one row after the other, until it has seen enough.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The rows of a table. All calls may wait for the disk.
pub trait Rows {
    /// The value of a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Shows the rows of a span, one after the other.
    ///
    /// # Errors
    /// When one cannot be read.
    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// How many rows there are. Costs the same however many that is.
    ///
    /// # Errors
    /// When the table cannot be read.
    fn count(&self) -> Result<u64, Error>;

    /// The rows of a span, as many as the limit allows.
    ///
    /// # Errors
    /// When one cannot be read.
    fn page(&self, span: Span<'_>, direction: Direction, limit: Limit) -> Result<Vec<Row>, Error> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        if limit.rows > 0 && limit.bytes > 0 {
            self.scan(span, direction, &mut |key, value| {
                bytes += value.len();
                rows.push((key.to_vec(), value.to_vec()));
                if rows.len() >= limit.rows || bytes >= limit.bytes {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        }
        Ok(rows)
    }

    /// The keys of a span.
    ///
    /// # Errors
    /// When one cannot be read.
    fn keys(&self, span: Span<'_>) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys = Vec::new();
        self.scan(span, Direction::Forwards, &mut |key, _| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// The first row of a span.
    ///
    /// # Errors
    /// When it cannot be read.
    fn first(&self, span: Span<'_>) -> Result<Option<Row>, Error> {
        Ok(self.page(span, Direction::Forwards, Limit { rows: 1, ..Limit::NONE })?.pop())
    }

    /// The last row of a span.
    ///
    /// # Errors
    /// When it cannot be read.
    fn last(&self, span: Span<'_>) -> Result<Option<Row>, Error> {
        Ok(self.page(span, Direction::Backwards, Limit { rows: 1, ..Limit::NONE })?.pop())
    }
}

/// The rows of a table within a commit. What is done is seen by nobody else before the commit holds.
pub trait RowsMut: Rows {
    /// Puts a row, in the place of the one with the same key.
    ///
    /// # Errors
    /// When the row does not fit its table, or the disk fails.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error>;

    /// Removes a row. True when there was one.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&mut self, key: &[u8]) -> Result<bool, Error>;

    /// Removes the first rows of a span, at most so many, and says how many those were.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove_span(&mut self, span: Span<'_>, rows_max: usize) -> Result<usize, Error>;
}
