use crate::support::*;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use std::path::Path;
use std::process::Command;

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "a comment").unwrap()
}

pub fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

/// A base, a patch `p`, and the keys of Alice, who signs, and of Mallory, who is not in the list.
fn patched() -> Dir {
    let dir = bert_dir();
    dir.run("diff target.safetensors reference.safetensors -o p --density 5%").ok();
    for (name, seed) in [("alice", 1), ("mallory", 2)] {
        dir.write(name, key(seed).to_openssh(LineEnding::LF).unwrap().as_bytes());
        dir.write(&format!("{name}.pub"), public(seed).as_bytes());
    }
    dir.write("list", format!("# who signs\nalice@example.com {}\n", public(1)).as_bytes());
    dir
}

fn signed() -> Dir {
    let dir = patched();
    dir.run("sign p --key alice").ok().prints(&["wrote p.sig", "ssh-ed25519", "SHA256:"]);
    dir
}

/// Runs with an agent at this socket, or with none.
fn run(dir: &Dir, arguments: &str, agent: Option<&Path>) -> Run {
    let mut command = dir.command();
    command.env_remove("SSH_AUTH_SOCK").args(arguments.split_whitespace());
    if let Some(socket) = agent {
        command.env("SSH_AUTH_SOCK", socket);
    }
    Run::new(arguments, command.output().unwrap())
}

/// Expects that neither command accepts `p`, for this reason and with this exit code, and that nothing is written.
#[track_caller]
fn refused(dir: &Dir, flags: &str, code: i32, texts: &[&str]) {
    dir.run(&format!("check p {flags}")).fails(code).says(texts).says(&["help"]);
    dir.run(&format!("apply target.safetensors p -o r {flags}")).fails(code).says(texts).says(&["help"]);
    assert!(!dir.exists("r"));
}

#[test]
fn a_signed_patch_is_accepted_and_its_signer_named() {
    let dir = signed();
    let by = ["p.sig: signed by alice@example.com, with ssh-ed25519 key SHA256:"];
    dir.run("check p --require-signature list").ok().prints(&by);
    dir.run("apply target.safetensors p -o r --require-signature list").ok().prints(&by);
    let check = dir.run("check p target.safetensors --require-signature list --json").ok().json();
    let apply = dir.run("apply target.safetensors p -o r --force --require-signature list --json").ok().json();
    let fingerprint = key(1).fingerprint(HashAlg::Sha256).to_string();
    for signature in [&check["signature"], &apply["signatures"][0]] {
        assert_eq!(signature["principal"], "alice@example.com");
        assert_eq!(signature["fingerprint"], fingerprint);
        assert_eq!((&signature["required"], &signature["algorithm"]), (&true.into(), &"ssh-ed25519".into()));
    }
}

#[test]
fn without_a_list_check_says_what_the_signature_is_worth() {
    let dir = patched();
    dir.run("check p").ok().prints(&["p: not signed"]);
    assert!(dir.run("check p --json").ok().json()["signature"].is_null());
    dir.run("sign p --key mallory").ok();
    let run = dir.run("check p").ok();
    run.prints(&["signed by ssh-ed25519 key SHA256:", "not verified against a list of signers"]);
    let signature = dir.run("check p --json").ok().json()["signature"].clone();
    assert_eq!((&signature["required"], &signature["principal"]), (&false.into(), &serde_json::Value::Null));
    // One that is wrong by its own key is an error, list or not.
    dir.write("p.sig", &dir.read("p.sig").to_ascii_lowercase());
    dir.run("check p").fails(11).says(&["p.sig is not an SSH signature"]);
    dir.run("diff target.safetensors reference.safetensors -o p --density 6% --force").ok();
    dir.run("sign p --key alice --force").ok();
    dir.run("diff target.safetensors reference.safetensors -o p --density 7% --force").ok();
    dir.run("check p").fails(11).says(&["p.sig is not a signature of p by the key in it"]);
}

#[test]
fn a_patch_without_the_right_signature_is_refused() {
    let dir = patched();
    let flags = "--require-signature list";
    refused(&dir, flags, 11, &["p is not signed: there is no p.sig"]);
    dir.run(&format!("check none {flags}")).fails(3).says(&["open none"]);
    dir.run("sign p --key mallory").ok();
    refused(&dir, flags, 11, &["p.sig was made with a key that is not in list: SHA256:"]);
    let bytes = dir.read("p");
    let other = key(1).sign("file", HashAlg::Sha512, &bytes).unwrap().to_pem(LineEnding::LF).unwrap();
    dir.write("p.sig", other.as_bytes());
    refused(&dir, flags, 11, &["was made for \"file\", not for \"lcepatch\""]);
    dir.write("p.sig", b"alice was here");
    refused(&dir, flags, 11, &["p.sig is not an SSH signature"]);
    dir.run("sign p --key alice --force").ok();
    dir.run(&format!("check p {flags}")).ok();
    dir.run("check p --require-signature nowhere").fails(3).says(&["open nowhere"]);
}

#[test]
fn one_changed_bit_of_the_patch_or_of_the_signature_is_refused() {
    let dir = signed();
    let patch = dir.read("p");
    for at in [40, patch.len() / 2, patch.len() - 1] {
        let mut bytes = patch.clone();
        bytes[at] ^= 1;
        dir.write("p", &bytes);
        // Not the damage is reported: nothing in the file is read before its signature is right.
        refused(&dir, "--require-signature list", 11, &["p.sig is not a signature of p by the key in it"]);
    }
    dir.write("p", b"no patch at all");
    refused(&dir, "--require-signature list", 11, &["is not a signature of p"]);
    dir.write("p", &patch);
    let text = String::from_utf8(dir.read("p.sig")).unwrap();
    let bytes = text.as_bytes();
    for line in 1..text.lines().count() - 1 {
        let mut bytes = bytes.to_vec();
        let at = text.lines().take(line).map(|line| line.len() + 1).sum::<usize>() + 3;
        bytes[at] = if bytes[at] == b'B' { b'C' } else { b'B' };
        dir.write("p.sig", &bytes);
        dir.run("apply target.safetensors p -o r --require-signature list").fails(11);
    }
    assert!(!dir.exists("r"));
}

#[test]
fn what_the_list_says_of_a_key_holds() {
    let dir = signed();
    let alice = public(1);
    let list = |line: &str| {
        dir.write("list", line.replace("KEY", &alice).as_bytes());
    };
    let flags = "--require-signature list";
    let cases = [
        ("a@b namespaces=\"file,git\" KEY", 11, "list, line 1: key SHA256:"),
        ("a@b namespaces=\"!lcepatch,*\" KEY", 11, "not for \"lcepatch\""),
        ("\n\na@b valid-before=\"20200131Z\" KEY", 11, "was valid until 2020-01-31T00:00:00Z"),
        ("a@b valid-after=\"29990101Z\" KEY", 11, "is valid from 2999-01-01T00:00:00Z on"),
        ("*@b cert-authority KEY", 11, "(cert-authority)"),
        ("a@b expires=\"x\" KEY", 5, "list, line 1: not an entry of a list of signers"),
        ("", 11, "not in list"),
    ];
    for (line, code, text) in cases {
        list(line);
        refused(&dir, flags, code, &[text]);
    }
    for line in [
        "a@b namespaces=\"git,lce*\" KEY",
        "a@b valid-after=\"20200131\",valid-before=\"29990101\" KEY a comment",
        // A line that refuses does not keep another from accepting.
        "a@b valid-before=\"20200131Z\" KEY\na@b KEY",
    ] {
        list(line);
        dir.run(&format!("check p {flags}")).ok().prints(&["signed by a@b"]);
    }
}

#[test]
fn a_signer_can_be_asked_for_by_name() {
    let dir = signed();
    dir.write("list", format!("*@example.com,!eve@example.com {}\n", public(1)).as_bytes());
    let flags = "--require-signature list --signer";
    dir.run(&format!("check p {flags} alice@example.com")).ok().prints(&["signed by alice@example.com"]);
    let is_other = "is that of *@example.com,!eve@example.com, not of";
    refused(&dir, &format!("{flags} eve@example.com"), 11, &[is_other]);
    refused(&dir, &format!("{flags} alice@example.org"), 11, &[is_other]);
    dir.run("check p --signer alice@example.com").fails(2);
}

#[test]
fn every_patch_of_an_apply_must_be_signed() {
    let dir = signed();
    dir.run("diff target.safetensors reference.safetensors -o q --density 4%").ok();
    let apply = "apply target.safetensors p:0.5 q:-1 -o r --require-signature list";
    dir.run(apply).fails(11).says(&["q is not signed"]);
    dir.run("sign q --key alice -o elsewhere").ok();
    dir.run(&format!("{apply} --signature elsewhere")).fails(2).says(&["one --signature for 2 patches"]);
    dir.run("sign q --key alice").ok();
    let run = dir.run(apply).ok().prints(&["p.sig: signed by alice", "q.sig: signed by alice"]);
    assert!(run.out.find("signed by") < run.out.find("wrote r"));
}

#[test]
fn the_signature_may_lie_elsewhere() {
    let dir = patched();
    dir.run("sign p --key alice -o s").ok();
    dir.run("check p").ok().prints(&["p: not signed"]);
    dir.run("check p --signature s").ok().prints(&["s: signed by ssh-ed25519 key"]);
    dir.run("check p --signature nowhere").fails(3);
    dir.run("apply target.safetensors p -o r --signature s").fails(2).says(&["--require-signature"]);
    dir.run("apply target.safetensors p -o result --signature s --require-signature list").ok();
    refused(&dir, "--require-signature list --signature nowhere", 11, &["there is no nowhere"]);
}

#[test]
fn signing_is_exact_and_replaces_nothing_unasked() {
    let dir = signed();
    let first = dir.read("p.sig");
    dir.run("sign p --key alice").fails(2).says(&["p.sig exists already", "--force"]);
    dir.run("sign p --key alice --force --json").ok();
    assert_eq!(dir.read("p.sig"), first);
    dir.run("sign p --key mallory --force").ok();
    assert_ne!(dir.read("p.sig"), first);
    let mut damaged = dir.read("p");
    *damaged.last_mut().unwrap() ^= 1;
    dir.write("d", &damaged);
    dir.run("sign d --key alice").fails(4).says(&["R18"]);
    dir.run("sign target.safetensors --key alice").fails(4);
    assert!(!dir.exists("d.sig") && !dir.exists("target.safetensors.sig"));
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_a_way_out() {
    let dir = patched();
    run(&dir, "sign p --key alice.pub", None).fails(8).says(&["asked of ssh-agent, and there is none", "ssh-add"]);
    let nowhere = dir.path("nowhere");
    run(&dir, "sign p --key alice.pub", Some(&nowhere)).fails(8).says(&["connect to ssh-agent at", "SSH_AUTH_SOCK"]);
    let keys = [
        ("pem", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", 5, "ssh-keygen -p -f pem"),
        ("empty", "", 5, "empty: this is an empty file, not an SSH key"),
        ("words", "these are words", 5, "words is not an SSH key"),
        ("half", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n", 5, "half is not an SSH key"),
    ];
    for (name, text, code, says) in keys {
        dir.write(name, text.as_bytes());
        dir.run(&format!("sign p --key {name}")).fails(code).says(&[says]);
    }
    dir.run("sign p --key nowhere").fails(3);
    assert!(!dir.exists("p.sig"));
}

/// Against OpenSSH itself, in both directions.
mod openssh {
    use super::*;
    use std::path::PathBuf;
    use std::process::{Child, Stdio};

    const KINDS: [(&str, &str); 5] = [
        ("ed25519", "-t ed25519"),
        ("ecdsa256", "-t ecdsa -b 256"),
        ("ecdsa384", "-t ecdsa -b 384"),
        ("ecdsa521", "-t ecdsa -b 521"),
        ("rsa", "-t rsa -b 3072"),
    ];

    /// Ends the test as ignored where OpenSSH is not installed.
    fn needs_openssh() {
        for program in ["ssh-keygen", "ssh-agent"] {
            // Neither knows the flag: it says so, and ends.
            if Command::new(program).arg("-?").stdin(Stdio::null()).output().is_err() {
                missing(format!("needs OpenSSH: there is no {program}"));
            }
        }
        // It makes nothing for a user without a name, as containers have them.
        let dir = Dir::new();
        let tried = keygen(&dir, "-q -t ed25519 -N none-at-all -f key");
        if tried.code != Some(0) {
            missing(format!("needs OpenSSH; ssh-keygen: {}", tried.err.lines().next().unwrap_or_default()));
        }
    }

    /// Runs a program of OpenSSH in the directory, with a file as its input.
    fn ssh(dir: &Dir, program: &str, arguments: &[&str], input: Option<&str>, agent: Option<&Path>) -> Run {
        let mut command = Command::new(program);
        command.current_dir(dir.path("")).args(arguments).env_remove("SSH_AUTH_SOCK");
        command.stdin(input.map_or(Stdio::null(), |name| std::fs::File::open(dir.path(name)).unwrap().into()));
        if let Some(socket) = agent {
            command.env("SSH_AUTH_SOCK", socket);
        }
        Run::new(program, command.output().unwrap())
    }

    fn keygen(dir: &Dir, arguments: &str) -> Run {
        ssh(dir, "ssh-keygen", &arguments.split_whitespace().collect::<Vec<_>>(), None, None)
    }

    fn verifies(dir: &Dir, who: &str) -> bool {
        let arguments = format!("-Y verify -f list -I {who} -n lcepatch -s p.sig");
        let words: Vec<&str> = arguments.split_whitespace().collect();
        ssh(dir, "ssh-keygen", &words, Some("p"), None).code == Some(0)
    }

    /// A new key, under a passphrase if there is one; the list has it.
    fn new_key(dir: &Dir, name: &str, kind: &str, passphrase: &str) {
        let kind: Vec<&str> = kind.split_whitespace().collect();
        let arguments = [&["-q", "-f", name, "-N", passphrase][..], &kind].concat();
        ssh(dir, "ssh-keygen", &arguments, None, None).ok();
        let key = String::from_utf8(dir.read(&format!("{name}.pub"))).unwrap();
        dir.write("list", format!("{name}@example.com {key}").as_bytes());
    }

    /// An agent that ends with the test.
    struct Agent {
        child: Child,
        socket: PathBuf,
    }

    impl Agent {
        fn start(dir: &Dir) -> Self {
            let socket = dir.path("agent");
            let mut command = Command::new("ssh-agent");
            let child = command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
            let agent = Self { child, socket };
            for _ in 0..500 {
                if agent.socket.exists() {
                    return agent;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            panic!("ssh-agent does not start");
        }
    }

    impl Drop for Agent {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn each_accepts_what_the_other_signed() {
        needs_openssh();
        let dir = patched();
        for (name, kind) in KINDS {
            new_key(&dir, name, kind, "");
            let who = format!("{name}@example.com");
            dir.run(&format!("sign p --key {name} --force")).ok();
            assert!(verifies(&dir, &who), "{name}");
            dir.run(&format!("check p --require-signature list --signer {who}")).ok();
            let ours = dir.read("p.sig");
            std::fs::remove_file(dir.path("p.sig")).unwrap();
            keygen(&dir, &format!("-Y sign -f {name} -n lcepatch p")).ok();
            dir.run(&format!("check p --require-signature list --signer {who}")).ok();
            // Signatures by these keys hold no random number.
            if !name.starts_with("ecdsa") {
                assert_eq!(dir.read("p.sig"), ours, "{name}");
            }
            std::fs::remove_file(dir.path("p.sig")).unwrap();
            keygen(&dir, &format!("-Y sign -f {name} -n lcepatch -O hashalg=sha256 p")).ok();
            dir.run(&format!("check p --require-signature list --signer {who}")).ok();
            std::fs::remove_file(dir.path("p.sig")).unwrap();
            keygen(&dir, &format!("-Y sign -f {name} -n git p")).ok();
            dir.run("check p --require-signature list").fails(11).says(&["was made for \"git\""]);
        }
    }

    #[test]
    fn an_agent_signs_for_its_keys() {
        needs_openssh();
        let dir = patched();
        let agent = Agent::start(&dir);
        let add = |name: &str| ssh(&dir, "ssh-add", &["-q", name], None, Some(&agent.socket)).ok();
        for (name, kind) in KINDS {
            new_key(&dir, name, kind, "");
            let sign = format!("sign p --key {name}.pub --force");
            run(&dir, &sign, Some(&agent.socket)).fails(8).says(&["ssh-agent does not have the private half"]);
            add(name);
            std::fs::remove_file(dir.path(name)).unwrap();
            run(&dir, &sign, Some(&agent.socket)).ok();
            assert!(verifies(&dir, &format!("{name}@example.com")), "{name}");
            dir.run("check p --require-signature list").ok();
        }
        // What the agent does not want to sign is not signed.
        new_key(&dir, "short", "-t ed25519", "");
        add("short");
        ssh(&dir, "ssh-add", &["-q", "-d", "short.pub"], None, Some(&agent.socket)).ok();
        run(&dir, "sign p --key short.pub --force", Some(&agent.socket)).fails(8);
    }

    #[test]
    fn a_key_under_a_passphrase_is_the_agents() {
        needs_openssh();
        let dir = patched();
        new_key(&dir, "locked", "-t ed25519", "a passphrase");
        let without = ["locked is under a passphrase, and ssh-agent does not have it", "`ssh-add locked`"];
        run(&dir, "sign p --key locked", None).fails(8).says(&without);
        let agent = Agent::start(&dir);
        run(&dir, "sign p --key locked", Some(&agent.socket)).fails(8).says(&without);
        // ssh-add asks for a passphrase on a terminal, or this program.
        let ask = dir.write("ask", b"#!/bin/sh\necho a passphrase\n");
        let mut add = Command::new("ssh-add");
        add.current_dir(dir.path("")).args(["-q", "locked"]).env("SSH_AUTH_SOCK", &agent.socket);
        add.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force").stdin(Stdio::null());
        #[cfg(unix)]
        std::fs::set_permissions(&ask, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Run::new("ssh-add", add.output().unwrap()).ok();
        run(&dir, "sign p --key locked", Some(&agent.socket)).ok();
        assert!(verifies(&dir, "locked@example.com"));
    }

    #[test]
    fn certificates_are_refused() {
        needs_openssh();
        let dir = patched();
        for name in ["authority", "user"] {
            new_key(&dir, name, "-t ed25519", "");
        }
        keygen(&dir, "-q -s authority -I id -n user@example.com user.pub").ok();
        let authority = String::from_utf8(dir.read("authority.pub")).unwrap();
        dir.write("list", format!("*@example.com cert-authority {authority}").as_bytes());
        run(&dir, "sign p --key user-cert.pub", None).fails(6).says(&["which cannot sign here"]);
        let agent = Agent::start(&dir);
        ssh(&dir, "ssh-add", &["-q", "user"], None, Some(&agent.socket)).ok();
        let words = ["-Y", "sign", "-f", "user-cert.pub", "-n", "lcepatch", "p"];
        ssh(&dir, "ssh-keygen", &words, None, Some(&agent.socket)).ok();
        assert!(verifies(&dir, "user@example.com"));
        dir.run("check p --require-signature list").fails(11).says(&["was made with a certificate"]);
        dir.run("check p").fails(11).says(&["was made with a certificate"]);
    }

    #[test]
    fn lists_are_read_alike() {
        needs_openssh();
        let dir = patched();
        new_key(&dir, "key", "-t ed25519", "");
        new_key(&dir, "other", "-t ecdsa", "");
        dir.run("sign p --key key").ok();
        let text = |name: &str| String::from_utf8(dir.read(name)).unwrap().trim().to_owned();
        let (key, other) = (text("key.pub"), text("other.pub"));
        let lines = [
            "a@b KEY",
            "a@b OTHER",
            "a@c KEY",
            "a@c KEY\na@b KEY",
            "a@b OTHER\na@b KEY",
            "x,a@b,y KEY",
            "*@b KEY",
            "*@b,!a@* KEY",
            "!a@b KEY",
            "A@b KEY",
            "?@b KEY",
            "* KEY",
            "# a@b KEY",
            "  a@b\t  KEY",
            "\"a@b\" KEY",
            "a@b",
            "a@b namespaces=\"lcepatch\" KEY",
            "a@b NameSpaces=\"file,lce*\" KEY",
            "a@b namespaces=\"file\" KEY",
            "a@b namespaces=\"!lcepatch,*\" KEY",
            "a@b namespaces=lcepatch KEY",
            "a@b namespaces=\"lcepatch\",namespaces=\"x\" KEY",
            "a@b cert-authority KEY",
            "a@b verify-required KEY",
            "a@b valid-after=\"20200101\" KEY",
            "a@b valid-after=\"29990101\" KEY",
            "a@b valid-before=\"20200101\" KEY",
            "a@b valid-before=\"29990101\" KEY",
            "a@b valid-before=\"299901011530Z\",namespaces=\"*\" KEY",
            "a@b valid-before=\"29990101153059\" KEY",
            "a@b valid-before=\"2999\" KEY",
            "a@b valid-after=\"20210101\",valid-before=\"20200101\" KEY",
        ];
        for line in lines {
            dir.write("list", format!("{}\n", line.replace("KEY", &key).replace("OTHER", &other)).as_bytes());
            let ours = dir.run("check p --require-signature list --signer a@b").code == Some(0);
            assert_eq!(ours, verifies(&dir, "a@b"), "{line}");
        }
    }

    #[test]
    fn times_are_local_unless_they_say_otherwise() {
        needs_openssh();
        let dir = patched();
        new_key(&dir, "key", "-t ed25519", "");
        dir.run("sign p --key key").ok();
        let key = String::from_utf8(dir.read("key.pub")).unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let an_hour_ago = humantime::format_rfc3339_seconds(std::time::SystemTime::now() - hour).to_string();
        let digits: String = an_hour_ago.chars().filter(char::is_ascii_digit).collect();
        // Five hours behind, as the rules of POSIX write it: what was an hour ago in UTC is in four hours there.
        for (zone, end, expected) in
            [("UTC0", "", false), ("EST5", "", true), ("EST5", "Z", false), ("UZT-5", "", false)]
        {
            dir.write("list", format!("a@b valid-before=\"{digits}{end}\" {key}").as_bytes());
            let mut ours = dir.command();
            ours.args(["check", "p", "--require-signature", "list"]).env("TZ", zone);
            let mut theirs = Command::new("ssh-keygen");
            theirs.current_dir(dir.path("")).env("TZ", zone).stdin(std::fs::File::open(dir.path("p")).unwrap());
            theirs.args(["-Y", "verify", "-f", "list", "-I", "a@b", "-n", "lcepatch", "-s", "p.sig"]);
            for command in [&mut ours, &mut theirs] {
                assert_eq!(command.output().unwrap().status.success(), expected, "{zone} {end} {command:?}");
            }
        }
    }
}
