//! Components as strangers send them: what is refused, and what a hostile one can cost.

mod bundled;
mod compile;
mod hostile;
mod neighbours;
mod room;
