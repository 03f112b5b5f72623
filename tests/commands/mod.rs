mod algebra;
mod apply;
mod check;
mod diff;
mod history;
mod mask;
mod show;
