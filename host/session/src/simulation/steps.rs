//! Everything at every step of a plain turn.
