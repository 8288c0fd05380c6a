//! Which tables there are: a name each, and the form of its rows on the disk.

/// A table: its name, and what its keys and values are.
///
/// Whoever reads and writes sees bytes, in the order of the bytes. The form says how the database keeps them, and is a part
/// of what is stored: a table that was made with one form is not read with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    name: &'static str,
    form: Form,
}

/// The forms of rows, by their keys. Only [`Form::Set16`] and [`Form::Set40`] have no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    Text,
    Pair,
    Number32,
    Number64,
    Fixed16,
    Fixed24,
    Fixed32,
    Set16,
    Set40,
}

impl Table {
    const fn of(name: &'static str, form: Form) -> Self {
        Self { name, form }
    }

    /// Keys of any bytes.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self::of(name, Form::Bytes)
    }

    /// Keys of text.
    #[must_use]
    pub const fn of_text(name: &'static str) -> Self {
        Self::of(name, Form::Text)
    }

    /// Keys of two texts, with a zero between them, which neither has.
    #[must_use]
    pub const fn of_pairs(name: &'static str) -> Self {
        Self::of(name, Form::Pair)
    }

    /// Keys of a number of 32 bits, its highest byte first.
    #[must_use]
    pub const fn of_u32(name: &'static str) -> Self {
        Self::of(name, Form::Number32)
    }

    /// Keys of a number of 64 bits, its highest byte first.
    #[must_use]
    pub const fn of_u64(name: &'static str) -> Self {
        Self::of(name, Form::Number64)
    }

    /// Keys of 16 bytes.
    #[must_use]
    pub const fn of_16(name: &'static str) -> Self {
        Self::of(name, Form::Fixed16)
    }

    /// Keys of 24 bytes.
    #[must_use]
    pub const fn of_24(name: &'static str) -> Self {
        Self::of(name, Form::Fixed24)
    }

    /// Keys of 32 bytes.
    #[must_use]
    pub const fn of_32(name: &'static str) -> Self {
        Self::of(name, Form::Fixed32)
    }

    /// Keys of 16 bytes without values.
    #[must_use]
    pub const fn set_of_16(name: &'static str) -> Self {
        Self::of(name, Form::Set16)
    }

    /// Keys of 40 bytes without values.
    #[must_use]
    pub const fn set_of_40(name: &'static str) -> Self {
        Self::of(name, Form::Set40)
    }

    /// Its name, which no other table of the same store has.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) const fn form(self) -> Form {
        self.form
    }
}
