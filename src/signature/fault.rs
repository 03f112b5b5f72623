//! Why a signature is not accepted, and why a patch cannot be signed.

use super::BadLine;
use crate::context::Cancelled;
use crate::patch::Unreadable;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a signature is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// An operation of the operating system failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The signed file is not a valid patch.
    #[error(transparent)]
    Patch(Unreadable),
    /// Asked to stop.
    #[error(transparent)]
    Cancelled(Cancelled),
    /// The patch changed after its signature was verified and before it was read.
    #[error("{} changed while it was read", patch.display())]
    Changed {
        /// The patch.
        patch: PathBuf,
    },
    /// There is no signature.
    #[error("{} is not signed: there is no {}", patch.display(), signature.display())]
    Missing {
        /// The patch.
        patch: PathBuf,
        /// The path where its signature was looked for.
        signature: PathBuf,
    },
    /// The signature file cannot be parsed.
    #[error("{} is not an SSH signature: {reason}", signature.display())]
    Malformed {
        /// The signature file.
        signature: PathBuf,
        /// Why it cannot be parsed.
        reason: String,
    },
    /// The signature is for another purpose.
    #[error("{} was made for {found:?}, not for \"lcepatch\"", signature.display())]
    Namespace {
        /// The signature file.
        signature: PathBuf,
        /// Its namespace.
        found: String,
    },
    /// The signature was made by a certificate.
    #[error("{} was made with a certificate, which is not supported", signature.display())]
    Certificate {
        /// The signature file.
        signature: PathBuf,
    },
    /// The signature was made by a kind of key that cannot be verified here.
    #[error("{} was made with a key of kind {algorithm}, which is not supported", signature.display())]
    Unsupported {
        /// The signature file.
        signature: PathBuf,
        /// The kind.
        algorithm: String,
    },
    /// The signature is not valid for this patch.
    #[error("{} is not a signature of {} by the key in it, {key}", signature.display(), patch.display())]
    Wrong {
        /// The patch.
        patch: PathBuf,
        /// The signature file.
        signature: PathBuf,
        /// Fingerprint of the key.
        key: String,
    },
    /// The key is not in the list.
    #[error("{} was made with a key that is not in {}: {key}", signature.display(), signers.display())]
    Unknown {
        /// The signature file.
        signature: PathBuf,
        /// The list.
        signers: PathBuf,
        /// Fingerprint of the key.
        key: String,
    },
    /// The key is in the list, but belongs to another principal.
    #[error("{}, line {line}: key {key} is that of {listed}, not of {principal}", signers.display())]
    OtherSigner {
        /// The list.
        signers: PathBuf,
        /// The line of the list, from 1 on.
        line: usize,
        /// Fingerprint of the key.
        key: String,
        /// The required principal.
        principal: String,
        /// The principals whose key it is.
        listed: String,
    },
    /// The list has the key only as that of a certificate authority.
    #[error("{}, line {line}: key {key} may only certify other keys (cert-authority)", signers.display())]
    Authority {
        /// The list.
        signers: PathBuf,
        /// The line of the list, from 1 on.
        line: usize,
        /// Fingerprint of the key.
        key: String,
    },
    /// The key may not sign patches.
    #[error("{}, line {line}: key {key} may sign for {namespaces:?}, not for \"lcepatch\"", signers.display())]
    NotForPatches {
        /// The list.
        signers: PathBuf,
        /// The line of the list, from 1 on.
        line: usize,
        /// Fingerprint of the key.
        key: String,
        /// The namespaces that it may sign.
        namespaces: String,
    },
    /// The key may not sign yet.
    #[error("{}, line {line}: key {key} is valid from {} on", signers.display(), humantime::format_rfc3339_seconds(*after))]
    NotYet {
        /// The list.
        signers: PathBuf,
        /// The line of the list, from 1 on.
        line: usize,
        /// Fingerprint of the key.
        key: String,
        /// Its first second.
        after: SystemTime,
    },
    /// The key may not sign any more.
    #[error("{}, line {line}: key {key} was valid until {}", signers.display(), humantime::format_rfc3339_seconds(*before))]
    Expired {
        /// The list.
        signers: PathBuf,
        /// The line of the list, from 1 on.
        line: usize,
        /// Fingerprint of the key.
        key: String,
        /// Its last second.
        before: SystemTime,
    },
    /// The list cannot be parsed.
    #[error("{}, line {}: not an entry of a list of signers: {}", signers.display(), bad.line, bad.reason)]
    List {
        /// The list.
        signers: PathBuf,
        /// The first line that cannot be parsed.
        bad: BadLine,
    },
}

impl SignatureFault {
    pub(super) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}

/// Why a patch cannot be signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// A file cannot be read, or is not a valid patch.
    #[error(transparent)]
    File(#[from] SignatureFault),
    /// The key file cannot be parsed.
    #[error("{} is not an SSH key: {reason}", key.display())]
    Malformed {
        /// The key file.
        key: PathBuf,
        /// Why it cannot be parsed.
        reason: String,
    },
    /// The file holds a key in another format.
    #[error("{} is not in OpenSSH's format for private keys", key.display())]
    OtherFormat {
        /// The key file.
        key: PathBuf,
    },
    /// A kind of key that cannot sign here.
    #[error("{} is of kind {algorithm}, which cannot sign here", key.display())]
    Unsupported {
        /// The key file.
        key: PathBuf,
        /// The kind.
        algorithm: String,
    },
    /// The key is encrypted with a passphrase, and no agent holds it.
    #[error("{} is under a passphrase, and ssh-agent does not have it", key.display())]
    Encrypted {
        /// The key file.
        key: PathBuf,
    },
    /// Only an agent could sign, and there is none.
    #[error("the private half of {} is asked of ssh-agent, and there is none", key.display())]
    NoAgent {
        /// The key file.
        key: PathBuf,
    },
    /// The agent does not have the key.
    #[error("ssh-agent does not have the private half of {}", key.display())]
    NotInAgent {
        /// The key file.
        key: PathBuf,
    },
    /// The agent cannot be reached.
    #[error("connect to ssh-agent at {}", socket.display())]
    Unreachable {
        /// `SSH_AUTH_SOCK`.
        socket: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The connection to the agent failed.
    #[error("talk to ssh-agent")]
    Agent(#[source] std::io::Error),
    /// The agent's response violates the protocol.
    #[error("ssh-agent's answer is not understood")]
    Protocol,
    /// The agent refused to sign.
    #[error("ssh-agent refused to sign")]
    AgentRefused,
    /// The agent signs with SHA-1.
    #[error("ssh-agent signs with SHA-1, which proves nothing any more")]
    OldAgent,
    /// Signing failed.
    #[error("sign")]
    Computation(#[source] ssh_key::Error),
    /// The signature does not verify.
    #[error("the signature by {} does not verify, and was not kept", key.display())]
    Broken {
        /// The key file.
        key: PathBuf,
    },
}
