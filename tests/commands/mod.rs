mod algebra;
mod apply;
mod apply_shards;
#[cfg(feature = "verify")]
mod ask;
mod check;
mod dense;
mod exchange;
mod diff;
mod history;
mod in_place;
mod include;
mod json;
mod mask;
#[cfg(feature = "verify")]
mod onnx;
#[cfg(unix)]
mod permissions;
mod plan;
#[cfg(feature = "net")]
mod publish;
mod reading;
#[cfg(feature = "verify")]
mod runtime;
mod shard;
mod show;
mod shell;
mod sign;
#[cfg(feature = "verify")]
mod sweep;
mod terminal;
mod verify;
