mod apply;
mod check;
mod diff;
mod show;
