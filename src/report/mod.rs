//! What people look at: tables, JSON, figures. Made from headers; no weights are read.

pub mod plot;
pub mod stat;
pub mod table;
#[cfg(feature = "verify")]
pub mod verify;

pub use stat::Stat;
