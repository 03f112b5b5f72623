//! Output for people and scripts: tables, JSON, figures, HTML pages. It is made from patch headers and results; no weights are read.

pub mod kind;
#[cfg(feature = "verify")]
pub mod ask;
#[cfg(feature = "verify")]
pub mod page;
pub mod plot;
#[cfg(feature = "verify")]
pub mod results;
pub mod stat;
pub mod table;
#[cfg(feature = "verify")]
pub mod verify;

pub use kind::Kind;
pub use stat::Stat;
