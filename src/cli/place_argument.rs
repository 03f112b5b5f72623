//! Opens the place of patches that an argument names.

use super::exit::Failure;
use super::terminal::Terminal;
use crate::error::PublishFault;
use lcepatch_hub::place::Place;
use lcepatch_hub::place::repository::Absent;
use std::path::Path;

/// Opens a place that must have something in it.
pub fn open_existing(name: &Path, terminal: &Terminal) -> Result<Box<dyn Place>, Failure> {
    let place = terminal.sources().place(name, Absent::Refuse, &terminal.context())?;
    if place.files().is_empty() {
        return Err(PublishFault::Empty { place: place.name().to_owned() }.into());
    }
    Ok(place)
}
