//! SSH signatures of patches, as `ssh-keygen -Y` makes and verifies them, in a file beside the patch.
//!
//! A signature covers the whole patch file, in the namespace `lcepatch`, so that a signature for another purpose is not valid for a
//! patch. The format is OpenSSH's `PROTOCOL.sshsig`. A list of allowed signers says who may sign (`ssh-keygen(1)`, ALLOWED SIGNERS).

#[cfg(unix)]
mod agent;
mod allowed_signers;
mod fault;
mod key;

pub use allowed_signers::{AllowedSigners, BadLine};
pub use fault::{KeyFault, SignatureFault};
pub use key::SigningKey;

use crate::context::Context;
use crate::digest::Digest;
use crate::format::limits::{PREAMBLE_BYTES, PREAMBLE_DIGESTED_BYTES};
use crate::input::{self, Meant};
use crate::patch::Patch;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey, SshSig};
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The namespace of signatures of patches, as in `ssh-keygen -Y sign -n`.
pub(crate) const NAMESPACE: &str = "lcepatch";
/// The largest signature file or key file that is read, in bytes: several times the size of the largest supported key.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;
/// Sizes of RSA keys that the `rsa` crate supports, in bits.
const RSA_BITS: RangeInclusive<u32> = 1024..=8192;
/// Bytes that are hashed at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Which signatures of a patch are accepted.
#[derive(Debug)]
pub struct Requirement {
    /// Who may sign.
    pub signers: AllowedSigners,
    /// The principal who must have signed; `None` accepts every allowed signer.
    pub principal: Option<String>,
    /// The time at which the key must be valid.
    pub at: SystemTime,
}

/// Who signed a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signer {
    /// The required principal, or else the principals that the list gives for the key; `None` if there was no list.
    pub principal: Option<String>,
    /// The key's kind, as in `ssh-ed25519`.
    pub algorithm: String,
    /// The key's fingerprint, as in `SHA256:…`.
    pub fingerprint: String,
    /// The signature file.
    pub signature: PathBuf,
}

/// The default path of the signature of the patch at `patch`: `.sig` is appended.
pub fn beside(patch: &Path) -> PathBuf {
    let mut path = patch.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Opens the patch at `path` if its signature meets `required`. Nothing in the file is interpreted before the signature is verified. The
/// returned patch has the header that was verified, and this header holds the digest of every block.
///
/// # Errors
/// [`SignatureFault`].
pub fn open_required(
    path: &Path,
    signature: &Path,
    required: &Requirement,
    context: &Context<'_>,
) -> Result<(Patch, Signer), SignatureFault> {
    let parsed = Signature::read(signature).map_err(|fault| match fault {
        SignatureFault::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            // A patch that does not exist is reported as such, not as unsigned.
            std::fs::metadata(path).map_or_else(
                |source| SignatureFault::io("open", path, source),
                |_| SignatureFault::Missing { patch: path.to_owned(), signature: signature.to_owned() },
            )
        }
        fault => fault,
    })?;
    // The list is consulted first, so that nothing is computed with a key that is not in it.
    let principal = required.signers.accept(&parsed, signature, required)?;
    let patch = open_verified(path, signature, &parsed, context)?;
    Ok((patch, parsed.signer(Some(principal), signature)))
}

/// Opens the patch at `path` if `signature` is a valid signature of it, by any key.
///
/// # Errors
/// [`SignatureFault`].
pub(crate) fn open_signed(
    path: &Path,
    signature: &Path,
    context: &Context<'_>,
) -> Result<(Patch, Signer), SignatureFault> {
    let parsed = Signature::read(signature)?;
    let patch = open_verified(path, signature, &parsed, context)?;
    Ok((patch, parsed.signer(None, signature)))
}

/// Opens the patch at `path` and signs its bytes.
///
/// # Errors
/// [`KeyFault`]: the patch or the key, or the agent that has it.
pub fn sign(path: &Path, key: &SigningKey, context: &Context<'_>) -> Result<(Patch, Signature), KeyFault> {
    let hashed = HashedFile::open(path, HashAlg::Sha512, context)?;
    let signature = Signature(key.sign(&hashed.digest)?);
    // Verified at once, so that an error of the machine or of the agent is not left to readers to find.
    if !signature.is_of(&hashed.digest) {
        return Err(KeyFault::Broken { key: key.path().to_owned() });
    }
    Ok((hashed.patch(path)?, signature))
}

fn open_verified(
    path: &Path,
    signature: &Path,
    parsed: &Signature,
    context: &Context<'_>,
) -> Result<Patch, SignatureFault> {
    parsed.check_kind(signature)?;
    let hashed = HashedFile::open(path, parsed.0.hash_alg(), context)?;
    if !parsed.is_of(&hashed.digest) {
        let (patch, signature) = (path.to_owned(), signature.to_owned());
        return Err(SignatureFault::Wrong { patch, signature, key: fingerprint(parsed.key()) });
    }
    hashed.patch(path)
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(SshSig);

impl Signature {
    /// Parses the text of a signature file.
    ///
    /// # Errors
    /// Why the text is not a signature.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        // OpenSSH too accepts no text before this line.
        if !text.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
            return Err("it does not begin with -----BEGIN SSH SIGNATURE-----".to_owned());
        }
        SshSig::from_pem(text).map(Self).map_err(|error| error.to_string())
    }

    /// Reads the signature file at `path`.
    ///
    /// # Errors
    /// [`SignatureFault`].
    pub fn read(path: &Path) -> Result<Self, SignatureFault> {
        let text = read_small(path, SMALL_FILE_BYTES_MAX, Meant::Signature)?;
        Self::parse(&text).map_err(|reason| SignatureFault::Malformed { signature: path.to_owned(), reason })
    }

    /// The text of a signature file.
    ///
    /// # Errors
    /// A signature that cannot be encoded.
    pub fn armored(&self) -> Result<String, KeyFault> {
        self.0.to_pem(LineEnding::LF).map_err(KeyFault::Computation)
    }

    /// Describes the key that signed.
    pub fn signer(&self, principal: Option<String>, signature: &Path) -> Signer {
        let key = self.key();
        let (algorithm, fingerprint) = (key.algorithm().as_str().to_owned(), fingerprint(key));
        Signer { principal, algorithm, fingerprint, signature: signature.to_owned() }
    }

    fn key(&self) -> &KeyData {
        self.0.public_key()
    }

    /// Checks that this is a signature for a patch, by a kind of key that can be verified here.
    fn check_kind(&self, signature: &Path) -> Result<(), SignatureFault> {
        let signature = signature.to_owned();
        if self.0.namespace() != NAMESPACE {
            return Err(SignatureFault::Namespace { signature, found: self.0.namespace().to_owned() });
        }
        if self.key().is_certificate() {
            return Err(SignatureFault::Certificate { signature });
        }
        let by_sha1 = (self.0.algorithm() == Algorithm::Rsa { hash: None }).then(|| "ssh-rsa, by SHA-1".to_owned());
        match by_sha1.or_else(|| unsupported(self.key())) {
            Some(algorithm) => Err(SignatureFault::Unsupported { signature, algorithm }),
            None => Ok(()),
        }
    }

    /// Whether this is a valid signature, by the key that it contains, of a file with this digest.
    fn is_of(&self, digest: &[u8]) -> bool {
        PublicKey::from(self.key().clone()).verify_prehash(NAMESPACE, digest, &self.0).is_ok()
    }
}

/// The name of the key's kind if this kind of key is not supported, or else `None`.
fn unsupported(key: &KeyData) -> Option<String> {
    let kind = key.algorithm().as_str().to_owned();
    match key {
        KeyData::Dsa(_) | KeyData::Other(_) | KeyData::Certificate(_) => Some(kind),
        KeyData::Rsa(key) if !RSA_BITS.contains(&key.key_size()) => Some(format!("{kind} of {} bits", key.key_size())),
        _ => None,
    }
}

fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// An open patch file that was hashed, and of which nothing was interpreted yet.
struct HashedFile {
    file: File,
    digest: Vec<u8>,
    /// The bytes at the offset of a patch's id.
    id: Option<Digest>,
}

impl HashedFile {
    fn open(path: &Path, algorithm: HashAlg, context: &Context<'_>) -> Result<Self, SignatureFault> {
        let file = input::open(path, Meant::Patch).map_err(|e| SignatureFault::io("open", path, e))?;
        let (digest, id) = match algorithm {
            HashAlg::Sha256 => hash::<sha2::Sha256>(&file, path, context)?,
            _ => hash::<sha2::Sha512>(&file, path, context)?,
        };
        Ok(Self { file, digest, id })
    }

    /// Reads the patch in the file. Its header is the one that was hashed even if the file changed since, because it has the id that was
    /// hashed; and blocks are compared with the digests in the header whenever they are read.
    fn patch(self, path: &Path) -> Result<Patch, SignatureFault> {
        let patch = Patch::from_file(path, self.file).map_err(SignatureFault::Patch)?;
        match self.id {
            Some(id) if id == patch.id() => Ok(patch),
            _ => Err(SignatureFault::Changed { patch: path.to_owned() }),
        }
    }
}

/// The digest of all bytes of the patch at `path`, and the bytes at the offset of its id.
fn hash<D: sha2::Digest>(
    file: &File,
    path: &Path,
    context: &Context<'_>,
) -> Result<(Vec<u8>, Option<Digest>), SignatureFault> {
    let failed = |source| SignatureFault::io("read", path, source);
    context.begin("hashing the patch", file.metadata().map_err(failed)?.len());
    let (mut hasher, mut id, mut piece) = (D::new(), None, Vec::new());
    while file.take(PIECE_BYTES).read_to_end(&mut piece).map_err(failed)? > 0 {
        let at = PREAMBLE_DIGESTED_BYTES..PREAMBLE_BYTES as usize;
        id = id.or_else(|| Some(Digest(piece.get(at)?.try_into().ok()?)));
        hasher.update(&piece);
        context.advance(piece.len() as u64).map_err(SignatureFault::Cancelled)?;
        piece.clear();
    }
    Ok((hasher.finalize().to_vec(), id))
}

/// Reads a file of at most `bytes_max` bytes.
fn read_small(path: &Path, bytes_max: u64, meant: Meant) -> Result<Vec<u8>, SignatureFault> {
    let mut bytes = Vec::new();
    let file = input::open(path, meant).map_err(|e| SignatureFault::io("open", path, e))?;
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    let read = read.map_err(|e| SignatureFault::io("read", path, e))?;
    if read as u64 > bytes_max {
        let long = std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes"));
        return Err(SignatureFault::io("read", path, long));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
