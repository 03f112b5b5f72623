mod algebra;
mod apply;
mod check;
mod diff;
mod history;
mod in_place;
mod mask;
#[cfg(feature = "verify")]
mod onnx;
#[cfg(unix)]
mod permissions;
#[cfg(feature = "verify")]
mod runtime;
mod shard;
mod show;
#[cfg(feature = "verify")]
mod sweep;
mod verify;
