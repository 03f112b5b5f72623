//! Arguments and output that the commands which make a patch from patches share.

use super::exit::{Failure, print, print_json};
use super::terminal::Terminal;
use super::{arguments, patch_argument, show};
use crate::apply::Edit;
use crate::checkpoint::Checkpoint;
use crate::durable::{Existing, check_new_file};
use crate::edit::{Alpha, EditKind};
use crate::patch::Patch;
use crate::report::Stat;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Output {
    /// Write the new patch here
    #[arg(long, short, value_name = "PATCH")]
    output: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Print the new patch's stat table as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Base {
    /// The checkpoint that the patches are for, where they are not portable
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
}

impl Base {
    pub fn is_given(&self) -> bool {
        self.base.is_some()
    }

    pub fn open(&self, terminal: &Terminal) -> Result<Option<Checkpoint>, Failure> {
        patch_argument::optional_checkpoint(self.base.as_deref(), terminal)
    }
}

impl Output {
    /// Refuses an output that exists or is one of the `inputs`. Called before the work begins.
    pub fn check<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<(), Failure> {
        arguments::refuse_inputs([self.output.as_path()], inputs)?;
        Ok(check_new_file(&self.output, self.existing())?)
    }

    pub fn path(&self) -> &Path {
        &self.output
    }

    pub fn json(&self) -> bool {
        self.json
    }

    pub fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Keep }
    }

    /// Writes the patch and prints where it is.
    pub fn save(&self, terminal: &Terminal, patch: &Patch) -> Result<(), Failure> {
        patch.save(&self.output, self.existing())?;
        let stat = Stat::new(patch);
        if self.json {
            return print_json(terminal, &stat);
        }
        print(show::written(&self.output, &stat))
    }
}

/// Opens a patch, to be used at alpha 1.
pub fn input(name: &Path, terminal: &Terminal) -> Result<Edit, Failure> {
    let kind = EditKind::Interpolate(Alpha::ONE);
    Ok(Edit { patch: patch_argument::open(name, terminal)?, kind })
}
