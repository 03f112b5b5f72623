//! Output for people and scripts: tables, JSON, figures, HTML pages. It is made from patch headers and results; no weights are read.

#[cfg(feature = "verify")]
pub(crate) mod ask;
mod kind;
#[cfg(feature = "verify")]
pub(crate) mod page;
pub(crate) mod plot;
#[cfg(feature = "verify")]
pub(crate) mod results;
mod stat;
pub(crate) mod table;
#[cfg(feature = "verify")]
pub(crate) mod verify;

pub(crate) use kind::Kind;
pub use stat::{Cell, Row, Stat, TensorRow};
