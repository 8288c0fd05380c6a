//! The real program: killed, started wrongly, looked at for secrets, backed up and restored.

mod backup;
mod kill;
mod leaks;
mod start;
