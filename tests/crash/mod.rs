//! The real program: killed, started wrongly, looked at for secrets, backed up and restored.

mod backup;
mod campaign;
mod kill;
mod leaks;
mod resend;
mod start;
