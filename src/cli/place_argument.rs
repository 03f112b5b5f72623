//! Opens the place of publication that an argument names.

use super::exit::Failure;
use crate::error::Error;
use lcepatch_hub::place::Place;
use lcepatch_hub::place::directory::Directory;

/// Opens a place of patches.
pub fn open(text: &str) -> Result<Box<dyn Place>, Error> {
    Ok(Box::new(Directory::open(text)?))
}

/// Opens a place that must have something in it.
pub fn open_existing(text: &str) -> Result<Box<dyn Place>, Failure> {
    let place = open(text)?;
    if place.files().is_empty() {
        return Err(crate::error::PublishFault::Empty { place: place.name().to_owned() }.into());
    }
    Ok(place)
}
