//! `lcepatch sign`.

use super::exit::{json_path, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, arguments, signature_argument};
use crate::check::intact;
use crate::durable::{Existing, check_new_file, write_file};
use crate::signature::{SigningKey, beside, sign};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "\
The signature is an SSH signature of the whole file, as `ssh-keygen -Y sign -n lcepatch` makes it; publish it beside the patch, and \
your public key where people know it to be yours. A patch that is changed later, by `verify --record` for instance, must be signed again.

Keys are ed25519, ecdsa or rsa. For a key under a passphrase, or on a security key, ssh-agent is asked (SSH_AUTH_SOCK): \
give it the key with ssh-add first, then name the private or the public key file here.

Examples:
  lcepatch sign debias.lcepatch --key ~/.ssh/id_ed25519
  lcepatch sign debias.lcepatch --key ~/.ssh/id_ed25519.pub
  lcepatch check debias.lcepatch --require-signature ~/.ssh/allowed_signers")]
pub struct Arguments {
    /// The patch
    patch: PathBuf,
    /// A private key, or a public key whose private half ssh-agent has
    #[arg(long, short, value_name = "KEY")]
    key: PathBuf,
    /// Write the signature here [default: PATCH.sig]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing signature
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    let output = arguments.output.clone().unwrap_or_else(|| beside(&arguments.patch));
    // Outputs are checked before an agent asks its user anything.
    check_new_file(&output, existing)?;
    arguments::refuse_inputs([output.as_path()], [arguments.patch.as_path(), &arguments.key])?;
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from);
    let key = SigningKey::open(&arguments.key, agent.as_deref())?;
    let context = terminal.context();
    let (patch, signature) = sign(&arguments.patch, &key, &context)?;
    // No one should vouch for a damaged file.
    intact(&patch, &context)?;
    write_file(&output, signature.armored()?.as_bytes(), existing)?;
    terminal.done();
    let signer = signature.signer(None, &output);
    if arguments.json {
        print_json(
            terminal,
            &serde_json::json!({
                "patch": json_path(&arguments.patch), "id": patch.id().to_string(), "signature": signature_argument::json(&signer),
            }),
        )?;
    } else {
        let (output, patch) = (output.display(), arguments.patch.display());
        print(format_args!("wrote {output}: {patch}, signed by {} key {}", signer.algorithm, signer.fingerprint))?;
    }
    Ok(Answer::Yes)
}
