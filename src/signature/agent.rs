//! Two requests to ssh-agent: list the keys, and sign (draft-ietf-sshm-ssh-agent, sections 4.5 and 4.6).

use super::KeyFault;
use ssh_key::encoding::{Decode, Encode, Reader};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// The flag that asks for an RSA signature with SHA-512. Without it the agent uses SHA-1.
const RSA_SHA2_512: u32 = 4;
/// The largest message in bytes, as in OpenSSH.
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

/// A connection to an agent.
pub(super) struct Agent<S> {
    stream: S,
}

impl Agent<UnixStream> {
    pub(super) fn connect(socket: &Path) -> Result<Self, KeyFault> {
        let unreachable = |source| KeyFault::Unreachable { socket: socket.to_owned(), source };
        Ok(Self { stream: UnixStream::connect(socket).map_err(unreachable)? })
    }
}

impl<S: Read + Write> Agent<S> {
    /// Whether the agent has the private half of `key`.
    pub(super) fn has(&mut self, key: &KeyData) -> Result<bool, KeyFault> {
        let answer = self.request(REQUEST_IDENTITIES, &[])?;
        let Some((&IDENTITIES_ANSWER, mut rest)) = answer.split_first() else { return Err(KeyFault::Protocol) };
        let encoded_key = key.encode_vec()?;
        for _ in 0..u32::decode(&mut rest)? {
            let (blob, _comment) = (Vec::<u8>::decode(&mut rest)?, Vec::<u8>::decode(&mut rest)?);
            if blob == encoded_key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Signs `data` with `key`.
    pub(super) fn sign(&mut self, key: &KeyData, data: &[u8]) -> Result<Signature, KeyFault> {
        let mut request = Vec::new();
        key.encode_prefixed(&mut request)?;
        data.encode(&mut request)?;
        let flags = if key.is_rsa() { RSA_SHA2_512 } else { 0 };
        flags.encode(&mut request)?;
        let answer = self.request(SIGN_REQUEST, &request)?;
        match answer.split_first() {
            Some((&SIGN_RESPONSE, mut rest)) => {
                let signature = rest.read_prefixed(Signature::decode).map_err(|_| KeyFault::Protocol)?;
                match signature.algorithm() {
                    Algorithm::Rsa { hash: None } => Err(KeyFault::OldAgent),
                    _ => Ok(signature),
                }
            }
            Some((&FAILURE, _)) => Err(KeyFault::AgentRefused),
            _ => Err(KeyFault::Protocol),
        }
    }

    /// Sends a request of type `kind`; returns the response, which has at least one byte.
    fn request(&mut self, kind: u8, content: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let mut exchange = || {
            let length = u32::try_from(content.len() + 1).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
            self.stream.write_all(&[&length.to_be_bytes()[..], &[kind], content].concat())?;
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length);
            if length == 0 || length > MESSAGE_BYTES_MAX {
                return Ok(None);
            }
            let mut answer = vec![0; length as usize];
            self.stream.read_exact(&mut answer)?;
            Ok(Some(answer))
        };
        exchange().map_err(KeyFault::Agent)?.ok_or(KeyFault::Protocol)
    }
}

impl From<ssh_key::encoding::Error> for KeyFault {
    fn from(_: ssh_key::encoding::Error) -> Self {
        KeyFault::Protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ssh_key::private::Ed25519Keypair;

    /// An agent with prepared answers.
    struct Script {
        answers: std::io::Cursor<Vec<u8>>,
        asked: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.answers.read(out)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.asked.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn agent(answer: &[u8]) -> Agent<Script> {
        let answers = [&(answer.len() as u32).to_be_bytes()[..], answer].concat();
        Agent { stream: Script { answers: std::io::Cursor::new(answers), asked: Vec::new() } }
    }

    fn key() -> KeyData {
        KeyData::Ed25519(Ed25519Keypair::from_seed(&[7; 32]).public)
    }

    #[test]
    fn a_key_is_found_by_its_bytes() {
        let blob = key().encode_vec().unwrap();
        let entry = [&(blob.len() as u32).to_be_bytes()[..], &blob, &[0, 0, 0, 1, b'x']].concat();
        let answer = [&[IDENTITIES_ANSWER, 0, 0, 0, 1], &entry[..]].concat();
        assert!(agent(&answer).has(&key()).unwrap());
        let other = KeyData::Ed25519(Ed25519Keypair::from_seed(&[8; 32]).public);
        assert!(!agent(&answer).has(&other).unwrap());
        assert!(matches!(agent(&answer[..20]).has(&key()), Err(KeyFault::Protocol)));
    }

    #[test]
    fn a_refusal_differs_from_a_malformed_response() {
        assert!(matches!(agent(&[FAILURE]).sign(&key(), b"x"), Err(KeyFault::AgentRefused)));
        assert!(matches!(agent(&[99]).sign(&key(), b"x"), Err(KeyFault::Protocol)));
        assert!(matches!(agent(&[]).sign(&key(), b"x"), Err(KeyFault::Protocol)));
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 12u8..15) {
            let answer = [&[kind], &bytes[..]].concat();
            let _ = agent(&answer).has(&key());
            let _ = agent(&answer).sign(&key(), b"x");
        }
    }
}
