//! What a signature of a patch must be, as flags, and what is said about it.

use super::exit::{Failure, json_path};
use super::terminal::Terminal;
use crate::patch::Patch;
use crate::report::table::printable;
use crate::signature::{AllowedSigners, Requirement, Signer, beside, open_required, open_signed};
use crate::source::{Found, Parts, patch_from_stdin};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

#[derive(Args)]
#[command(next_help_heading = "Signatures")]
pub struct Required {
    /// Accept a patch only with a signature by a key in this list (as in ssh-keygen(1), ALLOWED SIGNERS) [env: LCEPATCH_ALLOWED_SIGNERS]
    #[arg(long, value_name = "ALLOWED_SIGNERS")]
    require_signature: Option<PathBuf>,
    /// Of those in the list, accept this one only
    #[arg(long, value_name = "NAME")]
    signer: Option<String>,
    /// The signature [default: PATCH.sig]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

/// The list of signers is read once.
pub struct Opener<'a> {
    requirement: Option<Requirement>,
    signature: Option<&'a Path>,
}

impl Required {
    /// A signature by a key in the list of signers, if there is one; by the key of `signer`, if one is named.
    pub fn by(list: Option<PathBuf>, signer: Option<String>) -> Self {
        Self { require_signature: list, signer, signature: None }
    }

    /// Makes `list` the one that is required, unless the arguments name another.
    pub fn require_unless_given(&mut self, list: PathBuf) {
        self.require_signature.get_or_insert(list);
    }

    /// For opening as many patches.
    pub fn for_patches(&self, patches: usize) -> Result<Opener<'_>, Failure> {
        if self.signature.is_some() && patches > 1 {
            let help = "put each signature beside its patch, as PATCH.sig, and leave --signature out";
            return Err(Failure::usage(format!("one --signature for {patches} patches"), help));
        }
        if self.signer.is_some() && self.require_signature.is_none() {
            let help = "give the list of signers with --require-signature";
            return Err(Failure::usage("--signer is one of a list of signers, and there is none", help));
        }
        let read = |list: &PathBuf| -> Result<Requirement, Failure> {
            let signers = AllowedSigners::read(list)?;
            Ok(Requirement { signers, principal: self.signer.clone(), at: SystemTime::now() })
        };
        let requirement = self.require_signature.as_ref().map(read).transpose()?;
        Ok(Opener { requirement, signature: self.signature.as_deref() })
    }

    /// Opens the one patch. If no signature is required, one that is there must be of the patch all the same.
    pub fn open_any(&self, name: &Path, terminal: &Terminal) -> Result<(Patch, Option<Signer>), Failure> {
        if name.as_os_str() == "-" && self.require_signature.is_none() && self.signature.is_none() {
            return Ok((patch_from_stdin()?, None));
        }
        let found = terminal.sources().patch_file(name, &terminal.context())?;
        let signature = self.signature.clone().unwrap_or_else(|| beside(&found.path));
        // `--signer` without a list is refused with the others.
        let there = self.signer.is_none() && (self.signature.is_some() || signature.symlink_metadata().is_ok());
        if self.require_signature.is_none() && there {
            let (patch, signer) = open_signed(&found.path, &signature, &terminal.context())?;
            return Ok((found.named(patch), Some(signer)));
        }
        let opener = self.for_patches(1)?;
        opener.without_requirement()?;
        opener.open_found(&found, terminal)
    }
}

impl Opener<'_> {
    /// Opens a patch; if a signature is required, only with it.
    pub fn open(&self, name: &Path, terminal: &Terminal) -> Result<(Patch, Option<Signer>), Failure> {
        self.open_parts(name, Parts::All, terminal)
    }

    /// As [`Opener::open`], for a patch of which `parts` will be read. Where a signature is required, all of it is.
    pub fn open_parts(
        &self,
        name: &Path,
        parts: Parts,
        terminal: &Terminal,
    ) -> Result<(Patch, Option<Signer>), Failure> {
        self.without_requirement()?;
        if self.requirement.is_some() {
            return self.open_found(&terminal.sources().patch_file(name, &terminal.context())?, terminal);
        }
        Ok((terminal.sources().patch(name, parts, &terminal.context())?, None))
    }

    /// Opens a patch that was found, with the signature that is required.
    fn open_found(&self, found: &Found, terminal: &Terminal) -> Result<(Patch, Option<Signer>), Failure> {
        let Some(required) = &self.requirement else { return Ok((found.patch()?, None)) };
        let beside = beside(&found.path);
        let signature = self.signature.unwrap_or(&beside);
        let (patch, signer) = open_required(&found.path, signature, required, &terminal.context())?;
        Ok((found.named(patch), Some(signer)))
    }

    /// Refuses a signature of which nothing is required.
    fn without_requirement(&self) -> Result<(), Failure> {
        match (&self.requirement, self.signature) {
            (None, Some(_)) => Err(Failure::usage(
                "--signature alone says nothing about who may sign",
                "give the list of signers with --require-signature",
            )),
            _ => Ok(()),
        }
    }
}

/// For people.
pub fn line(signer: &Signer) -> String {
    let Signer { principal, algorithm, fingerprint, signature } = signer;
    let by = match principal {
        Some(principal) => format!("signed by {principal}, with {algorithm} key {fingerprint}"),
        None => format!("signed by {algorithm} key {fingerprint}, not verified against a list of signers"),
    };
    printable(&format!("{}: {by}", signature.display()))
}

/// For people, also where there is no signature.
pub fn about(patch: &Path, signer: Option<&Signer>) -> String {
    match signer {
        Some(signer) => line(signer),
        None => format!("{}: not signed", patch.display()),
    }
}

/// For scripts.
pub fn json(signer: &Signer) -> serde_json::Value {
    json!({
        "file": json_path(&signer.signature), "algorithm": signer.algorithm, "fingerprint": signer.fingerprint,
        "required": signer.principal.is_some(), "principal": signer.principal,
    })
}
