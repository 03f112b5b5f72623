//! Signing keys, in a file or held by ssh-agent.

use super::{KeyFault, NAMESPACE, SMALL_FILE_BYTES_MAX, read_small, unsupported};
use crate::input::Meant;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PrivateKey, PublicKey, SshSig};
use std::path::{Path, PathBuf};

/// A key that can sign.
#[derive(Debug)]
pub struct SigningKey {
    path: PathBuf,
    half: Half,
}

/// The half of the key that is in memory.
#[derive(Debug)]
enum Half {
    Private(Box<PrivateKey>),
    /// The agent at this socket, if there is one, has the private half. The key file may also contain it, encrypted with a passphrase.
    Public {
        key: KeyData,
        agent: Option<PathBuf>,
        encrypted: bool,
    },
}

impl SigningKey {
    /// Reads the key file at `path`, as `ssh-keygen` writes it: a private key, or a public key whose private half is held by the agent
    /// at the socket `agent` (`SSH_AUTH_SOCK`). The agent also signs for a private key that is encrypted with a passphrase.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn open(path: &Path, agent: Option<&Path>) -> Result<Self, KeyFault> {
        let text = read_small(path, SMALL_FILE_BYTES_MAX, Meant::Key)?;
        let malformed = |reason: String| KeyFault::Malformed { key: path.to_owned(), reason };
        let agent = agent.map(Path::to_owned);
        let text = std::str::from_utf8(&text).map_err(|_| malformed("it is not text".to_owned()))?;
        let kind = text.split_ascii_whitespace().next().unwrap_or_default();
        let half = if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
            let key = PrivateKey::from_openssh(text).map_err(|error| malformed(error.to_string()))?;
            let public = key.public_key().key_data().clone();
            let encrypted = key.is_encrypted();
            // The file of a key on a hardware security key holds only a handle for its driver.
            match encrypted || public.is_sk_ed25519() || public.is_sk_ecdsa_p256() {
                true => Half::Public { key: public, agent, encrypted },
                false => Half::Private(Box::new(key)),
            }
        } else if text.starts_with("-----BEGIN ") {
            return Err(KeyFault::OtherFormat { key: path.to_owned() });
        } else if kind.ends_with("-cert-v01@openssh.com") {
            return Err(KeyFault::Unsupported { key: path.to_owned(), algorithm: kind.to_owned() });
        } else {
            let key = PublicKey::from_openssh(text).map_err(|error| malformed(error.to_string()))?;
            Half::Public { key: key.key_data().clone(), agent, encrypted: false }
        };
        let key = Self { path: path.to_owned(), half };
        match unsupported(key.public()) {
            Some(algorithm) => Err(KeyFault::Unsupported { key: key.path, algorithm }),
            None => Ok(key),
        }
    }

    /// The path of the key file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn public(&self) -> &KeyData {
        match &self.half {
            Half::Private(key) => key.public_key().key_data(),
            Half::Public { key, .. } => key,
        }
    }

    /// Signs a file whose SHA-512 is `digest`.
    pub(super) fn sign(&self, digest: &[u8]) -> Result<SshSig, KeyFault> {
        match &self.half {
            Half::Private(key) => key.sign_prehash(NAMESPACE, HashAlg::Sha512, digest).map_err(KeyFault::Computation),
            Half::Public { key, agent, encrypted } => self.ask(key, agent.as_deref(), *encrypted, digest),
        }
    }

    #[cfg(unix)]
    fn ask(&self, key: &KeyData, agent: Option<&Path>, encrypted: bool, digest: &[u8]) -> Result<SshSig, KeyFault> {
        let Some(socket) = agent else { return Err(self.without_agent(encrypted)) };
        let mut agent = super::agent::Agent::connect(socket)?;
        if !agent.has(key)? {
            return Err(match encrypted {
                true => KeyFault::Encrypted { key: self.path.clone() },
                false => KeyFault::NotInAgent { key: self.path.clone() },
            });
        }
        let data =
            SshSig::signed_data_for_prehash(NAMESPACE, HashAlg::Sha512, digest).map_err(KeyFault::Computation)?;
        let signature = agent.sign(key, &data)?;
        SshSig::new(key.clone(), NAMESPACE, HashAlg::Sha512, signature).map_err(KeyFault::Computation)
    }

    /// Agents are reached by a socket of Unix.
    #[cfg(not(unix))]
    fn ask(&self, _: &KeyData, _: Option<&Path>, encrypted: bool, _: &[u8]) -> Result<SshSig, KeyFault> {
        Err(self.without_agent(encrypted))
    }

    fn without_agent(&self, encrypted: bool) -> KeyFault {
        match encrypted {
            true => KeyFault::Encrypted { key: self.path.clone() },
            false => KeyFault::NoAgent { key: self.path.clone() },
        }
    }
}
