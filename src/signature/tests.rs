use super::*;
use proptest::prelude::*;
use sha2::Digest as _;
use ssh_key::encoding::{Decode, Encode};
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::{Ed25519PublicKey, RsaPublicKey, SkEd25519};
use ssh_key::{Mpint, PrivateKey};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/signatures").join(name)
}

fn required(signers: AllowedSigners) -> Requirement {
    Requirement { signers, principal: None, at: SystemTime::now() }
}

#[test]
fn what_openssh_signed_is_accepted_of_every_kind_of_key() {
    let signers = AllowedSigners::read(&fixture("allowed_signers")).unwrap();
    for name in ["ed25519", "ecdsa256", "ecdsa384", "ecdsa521", "rsa2048"] {
        let (patch, signature) = (fixture("signed.lcepatch"), fixture(&format!("{name}.sig")));
        let opened = open_required(&patch, &signature, &required(signers.clone()), &Context::silent());
        let (patch, signer) = opened.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(signer.principal, Some(format!("{name}@example.com")));
        let text = Signature::read(&signature).unwrap().armored().unwrap();
        assert_eq!(text.into_bytes(), std::fs::read(&signature).unwrap(), "{name}");
        assert_eq!(patch.id(), Patch::open(fixture("signed.lcepatch")).unwrap().id());
    }
}

fn by_device(key: &impl ssh_key::SigningKey, message: &[u8]) -> ssh_key::Signature {
    key.sign(message)
}

#[test]
fn a_signature_by_a_security_key_is_verified() {
    // As PROTOCOL.u2f says: the device signs digests of the application and the message, its flags and its counter.
    let pair = Ed25519Keypair::from_seed(&[7; 32]);
    let key = KeyData::SkEd25519(SkEd25519::new(Ed25519PublicKey(pair.public.0), "ssh:"));
    let digest = sha2::Sha512::digest(b"patch");
    let data = SshSig::signed_data_for_prehash(NAMESPACE, HashAlg::Sha512, &digest).unwrap();
    let flags_and_counter = [1, 0, 0, 0, 9];
    let sha256 = |bytes: &[u8]| sha2::Sha256::digest(bytes).to_vec();
    let message = [sha256(b"ssh:"), flags_and_counter.to_vec(), sha256(&data)].concat();
    let made = by_device(&PrivateKey::from(pair), &message);
    let bytes = [made.as_bytes(), &flags_and_counter].concat();
    let made = ssh_key::Signature::new(Algorithm::SkEd25519, bytes).unwrap();
    let signature = Signature(SshSig::new(key, NAMESPACE, HashAlg::Sha512, made).unwrap());
    let read = Signature::parse(signature.armored().unwrap().as_bytes()).unwrap();
    assert!(read.is_of(&digest) && !read.is_of(&sha2::Sha512::digest(b"other")));
}

#[test]
fn a_key_that_is_not_computed_with_is_named_as_such() {
    let rsa = |bytes: usize| {
        let [e, n] = [vec![1, 0, 1], vec![0x7f; bytes]].map(|bytes| Mpint::from_positive_bytes(&bytes));
        KeyData::Rsa(RsaPublicKey::new(e, n).unwrap())
    };
    let kind = |key: KeyData, hash| {
        let made = ssh_key::Signature::new(Algorithm::Rsa { hash }, vec![1; 256]).unwrap();
        let signature = Signature(SshSig::new(key, NAMESPACE, HashAlg::Sha512, made).unwrap());
        signature.check_kind(Path::new("p.sig")).map_err(|fault| fault.to_string())
    };
    assert_eq!(kind(rsa(256), Some(HashAlg::Sha512)), Ok(()));
    assert!(kind(rsa(2048), Some(HashAlg::Sha512)).unwrap_err().contains("ssh-rsa of 16384 bits"));
    assert!(kind(rsa(64), Some(HashAlg::Sha512)).unwrap_err().contains("ssh-rsa of 512 bits"));
    assert!(kind(rsa(256), None).unwrap_err().contains("by SHA-1"));
}

#[test]
fn a_patch_that_changes_after_it_was_hashed_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    std::fs::copy(fixture("signed.lcepatch"), &path).unwrap();
    let hashed = HashedFile::open(&path, HashAlg::Sha512, &Context::silent()).unwrap();
    let other =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors/v1/accept_base_values_of_integers.lcepatch");
    // In the file that is open, not in its place.
    std::fs::write(&path, std::fs::read(other).unwrap()).unwrap();
    assert!(matches!(hashed.patch(&path), Err(SignatureFault::Changed { .. })));
}

#[test]
fn files_that_are_too_long_or_no_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.sig");
    std::fs::write(&path, vec![b'-'; 1 << 20]).unwrap();
    let why = |path: &Path| std::error::Error::source(&Signature::read(path).unwrap_err()).unwrap().to_string();
    assert!(why(&path).contains("more than 65536 bytes"));
    assert!(why(folder.path()).contains("this is a directory, not a signature"));
}

proptest! {
    #[test]
    fn no_text_of_a_signature_panics(
        name in prop::sample::select(vec!["ed25519", "ecdsa256", "ecdsa521", "rsa2048"]),
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), noise in ".{0,100}",
    ) {
        // Of what the text holds, so that a change does not end at the text.
        let text = std::fs::read(fixture(&format!("{name}.sig"))).unwrap();
        let mut bytes = Signature::parse(&text).unwrap().0.encode_vec().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let cut = cut.index(bytes.len() * 4);
        bytes.truncate(cut.max(1));
        if let Ok(signature) = SshSig::decode(&mut &bytes[..]).map(Signature) {
            let _ = signature.check_kind(Path::new("p.sig"));
            prop_assert!(!signature.is_of(&[0; 64]));
            let armored = signature.armored().unwrap();
            prop_assert_eq!(Signature::parse(armored.as_bytes()), Ok(signature));
        }
        let _ = Signature::parse(noise.as_bytes());
        let _ = Signature::parse(format!("-----BEGIN SSH SIGNATURE-----\n{noise}\n-----END SSH SIGNATURE-----\n").as_bytes());
    }
}
