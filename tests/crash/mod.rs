//! The real program: killed, started wrongly, looked at for secrets.

mod campaign;
mod kill;
mod leaks;
mod resend;
mod start;
