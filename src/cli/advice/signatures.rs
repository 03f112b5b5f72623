//! What to do where a patch is not signed as required, or cannot be signed.

use crate::signature::{KeyFault, SignatureFault};

pub fn signature(fault: &SignatureFault) -> Option<&'static str> {
    Some(match fault {
        SignatureFault::Changed { .. } => "try again when no other program writes it",
        SignatureFault::Missing { .. } => {
            "get the .sig file from where the patch was published, or name it with --signature"
        }
        SignatureFault::Malformed { .. } => {
            "it must be as `lcepatch sign` or `ssh-keygen -Y sign` writes it; download it again"
        }
        SignatureFault::Namespace { .. } => {
            "ask whoever signed for one that was made by `lcepatch sign`, or by `ssh-keygen -Y sign -n lcepatch`"
        }
        SignatureFault::Certificate { .. } => "ask whoever signed to use the key without its certificate",
        SignatureFault::Unsupported { .. } => {
            "ask for a signature with an ed25519, ecdsa or rsa key, or one of a security key"
        }
        SignatureFault::Wrong { .. } => {
            "the patch was changed after it was signed, or the signature is of another: get both again from their source, \
             and do not use this patch"
        }
        SignatureFault::Unknown { .. } => {
            "if whoever publishes this key is to be trusted, add a line `NAME KEY` with their public key to the list"
        }
        SignatureFault::OtherSigner { .. } => "do not use this patch, or ask for another signer with --signer",
        SignatureFault::Authority { .. } => {
            "certificates are not supported: list the keys of those who sign, each in a line of its own"
        }
        SignatureFault::NotForPatches { .. } => "if it should, add lcepatch to its namespaces=",
        SignatureFault::NotYet { .. } | SignatureFault::Expired { .. } => {
            "ask for a signature with a key that is valid now; the list holds no time of signing to go by"
        }
        SignatureFault::List { .. } => {
            "a line is `NAME ssh-ed25519 AAAA…`, with options before the key as in ssh-keygen(1), ALLOWED SIGNERS"
        }
        SignatureFault::Io { .. } | SignatureFault::Patch(_) | SignatureFault::Cancelled(_) => return None,
    })
}

pub fn key(fault: &KeyFault) -> Option<String> {
    let help = match fault {
        KeyFault::File(fault) => signature(fault)?,
        KeyFault::Malformed { .. } => {
            "give a private key, or a public key that ssh-agent has, as ssh-keygen writes them"
        }
        KeyFault::OtherFormat { key } => {
            return Some(format!("`ssh-keygen -p -f {}` writes it in that format", key.display()));
        }
        KeyFault::Unsupported { .. } => {
            "use an ed25519, ecdsa or rsa key, or one of a security key by ssh-agent; no certificate"
        }
        KeyFault::Encrypted { key } => {
            return Some(format!("`ssh-add {}` asks for the passphrase; then give the same command", key.display()));
        }
        KeyFault::NoAgent { .. } => {
            "give the private key itself, or start an agent (`eval $(ssh-agent)`, `ssh-add`): SSH_AUTH_SOCK names it"
        }
        KeyFault::NotInAgent { .. } => "`ssh-add -L` lists the keys that it has, `ssh-add` gives it another",
        KeyFault::Unreachable { .. } => "SSH_AUTH_SOCK names the agent's socket; `ssh-add -l` says whether it answers",
        KeyFault::AgentRefused => {
            "confirm it, or touch the security key, when the agent asks; `ssh-add -l` says whether it is locked"
        }
        KeyFault::OldAgent => "use a newer agent, or an ed25519 key",
        KeyFault::Agent(_) | KeyFault::Protocol => "give the private key itself, or use OpenSSH's agent",
        KeyFault::Computation(_) | KeyFault::Broken { .. } => "`ssh-keygen -l -f` says whether the key is whole",
    };
    Some(help.to_owned())
}
