//! Publishing to a repository.

use crate::support::hub::{Asks, Hub, local, noise, repo};
use lcepatch_files::context::{Context, Progress};
use lcepatch_hub::place::repository::{Absent, Repository};
use lcepatch_hub::place::{Content, NewFile, Place, Published};
use lcepatch_hub::{Client, Fault};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const PRIVATE: Absent = Absent::Create { private: true };

fn place(client: &Client, name: &str, absent: Absent) -> Result<Repository, Fault> {
    Repository::open(client, &repo(name), absent, &Context::silent())
}

fn text(path: &str, text: &str) -> NewFile {
    NewFile { path: path.to_owned(), content: Content::Bytes(text.as_bytes().to_vec()) }
}

fn publish(hub: &Hub, name: &str, files: &[NewFile]) -> Result<Published, Fault> {
    place(&hub.client(), name, PRIVATE)?.publish(files, "Patches\n\nTwo of them.", &Context::silent())
}

#[test]
fn a_repository_is_made_and_filled_with_one_commit_and_the_second_time_nothing_is_sent() {
    let hub = Hub::with(&[], &["--part", "1000000"]);
    let patch = noise(2_500_000, 3);
    let path = hub.dir.write("p.lcepatch", &patch);
    let small = hub.dir.write("small.lcepatch", &noise(1000, 4));
    let files = [
        text(".gitattributes", "*.lcepatch filter=lfs diff=lcepatch merge=lfs -text\n"),
        text("README.md", "# Patches"),
        NewFile { path: "p.lcepatch".into(), content: Content::File(local(path)) },
        NewFile { path: "sub dir/small.lcepatch".into(), content: Content::File(local(small)) },
    ];
    let absent = place(&hub.client(), "alice/patches", PRIVATE).unwrap();
    assert!(absent.files().is_empty() && absent.commit().is_none());
    assert!(matches!(absent.open("x", &Context::silent()), Err(Fault::NoSuchRepository { .. })));
    assert!(matches!(place(&hub.client(), "alice/patches", Absent::Refuse), Err(Fault::NoSuchRepository { .. })));
    let done = absent.publish(&files, "Patches", &Context::silent()).unwrap();
    assert!(done.url.unwrap().contains("/alice/patches/commit/"));
    let there = place(&hub.client(), "alice/patches", Absent::Refuse).unwrap();
    assert_eq!(there.commit(), done.commit.as_deref());
    let paths: Vec<&str> = there.files().iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [".gitattributes", "README.md", "p.lcepatch", "sub dir/small.lcepatch"]);
    assert!(there.files()[2].sha256.is_some(), "in Git LFS");
    assert_eq!(there.read("README.md", 100, &Context::silent()).unwrap(), b"# Patches");
    assert!(matches!(
        there.read("p.lcepatch", 100, &Context::silent()),
        Err(Fault::TooLarge { bytes: 2_500_000, limit: 100, .. })
    ));
    assert_eq!(
        there.open("p.lcepatch", &Context::silent()).unwrap().read_at(2_000_000, 10).unwrap(),
        patch[2_000_000..2_000_010]
    );
    assert_eq!(there.read("p.lcepatch", 1 << 22, &Context::silent()).unwrap(), patch);
    let (requests, _) = hub.requests();
    assert_eq!(requests.iter().filter(|request| request.contains("PUT /part/")).count(), 3, "{requests:?}");
    assert!(requests.iter().any(|request| request.ends_with("/lfs/objects/verify")), "{requests:?}");
    // The same again.
    hub.clear_log();
    let same = there.publish(&files, "Patches", &Context::silent()).unwrap();
    assert_eq!(same.commit.as_deref(), there.commit());
    assert!(hub.log().is_empty());
    // One of them is new: the other ones are not sent.
    let changed = publish(&hub, "alice/patches", &[files[2].clone(), text("README.md", "# More")]).unwrap();
    assert_ne!(changed.commit.as_deref(), there.commit());
    assert!(!hub.requests().0.iter().any(|request| request.contains(" PUT ")), "{:?}", hub.requests().0);
    assert!(hub.log().iter().all(|entry| entry["leaked_token"] == false));
    // Others do not see it.
    let anonymous = hub.client_with(|settings| settings.token = None);
    assert!(matches!(anonymous.opened("alice/patches"), Err(Fault::NoSuchRepository { .. })));
}

#[test]
fn who_was_overtaken_looks_again() {
    let hub = Hub::start(&[("--repo", "alice/patches", &[])]);
    let both = [1, 2].map(|_| place(&hub.client(), "alice/patches", PRIVATE).unwrap());
    both[0].publish(&[text("a", "1")], "first", &Context::silent()).unwrap();
    let fault = both[1].publish(&[text("b", "2")], "second", &Context::silent()).unwrap_err();
    assert!(matches!(&fault, Fault::Moved { place } if place.starts_with("alice/patches@")), "{fault:?}");
    publish(&hub, "alice/patches", &[text("b", "2")]).unwrap();
    assert_eq!(hub.client().opened("alice/patches").unwrap().files.len(), 3, "a, b and .gitattributes");
}

#[test]
fn what_others_own_and_what_fails_is_said() {
    let hub = Hub::start(&[("--repo", "bob/patches", &[]), ("--repo", "alice/patches", &[])]);
    let fault = publish(&hub, "bob/patches", &[text("a", "1")]).unwrap_err();
    assert!(
        matches!(&fault, Fault::Forbidden { status: 403, message, .. } if message.contains("write access")),
        "{fault:?}"
    );
    assert!(matches!(publish(&hub, "bob/new", &[text("a", "1")]), Err(Fault::Forbidden { status: 403, .. })));
    let anonymous = hub.client_with(|settings| settings.token = None);
    let fault = place(&anonymous, "alice/new", PRIVATE)
        .unwrap()
        .publish(&[text("a", "1")], "m", &Context::silent())
        .unwrap_err();
    assert!(fault.to_string().contains("no token was sent"), "{fault}");
    assert!(matches!(place(&hub.client(), "alice/patches/a", PRIVATE), Err(Fault::Name { .. })));
    hub.fault(json!({"path": "/preupload/", "status": 503, "times": 2}));
    hub.fault(json!({"path": "/commit/", "status": 503}));
    publish(&hub, "alice/patches", &[text("a", "1")]).unwrap();
}

#[test]
fn repositories_are_found_by_the_base_that_their_cards_declare() {
    let card = "---\nbase_model: alice/base\nbase_model_relation: adapter\ntags:\n- lcepatch\n---\n";
    let other = card.replace("alice/base", "alice/other");
    let hub = Hub::start(&[
        ("--repo", "bob/fits", &[("README.md", card.as_bytes())]),
        ("--repo", "bob/other", &[("README.md", other.as_bytes())]),
    ]);
    let found = hub.client().search("alice/base", &Context::silent()).unwrap();
    assert_eq!(found, ["bob/fits"]);
}

#[test]
fn offline_what_was_read_is_there() {
    let hub = Hub::start(&[("--repo", "alice/patches", &[("a.json", b"{}"), ("b.json", b"{}")])]);
    place(&hub.client(), "alice/patches", Absent::Refuse).unwrap().read("a.json", 10, &Context::silent()).unwrap();
    let offline = hub.client_with(|settings| settings.offline = true);
    hub.clear_log();
    let place = place(&offline, "alice/patches", Absent::Refuse).unwrap();
    assert_eq!(place.read("a.json", 10, &Context::silent()).unwrap(), b"{}");
    assert_eq!(place.open("a.json", &Context::silent()).unwrap().read_at(1, 1).unwrap(), b"}");
    // Same content, and yet never asked for.
    assert!(matches!(place.read("b.json", 10, &Context::silent()), Err(Fault::Offline { .. })));
    assert!(hub.log().is_empty());
}

/// Counts bytes, and asks to stop at a number of them.
struct StopAt {
    done: AtomicU64,
    at: u64,
    stop: AtomicBool,
}

impl Progress for StopAt {
    fn begin(&self, _: &str, _: u64) {}
    fn count(&self, _: &str, _: u64) {}
    fn advance(&self, bytes: u64) {
        let done = bytes + self.done.fetch_add(bytes, Ordering::Relaxed);
        self.stop.fetch_or(done >= self.at, Ordering::Relaxed);
    }
}

/// What is sent counts as progress, each byte once; and whoever asks to stop is obeyed before the commit.
#[test]
fn sending_shows_progress_and_can_be_stopped() {
    let hub = Hub::with(&[], &[]);
    let path = hub.dir.write("p.lcepatch", &noise(3_000_000, 4));
    let files = [NewFile { path: "p.lcepatch".into(), content: Content::File(local(path)) }];
    let publish = |at| {
        let progress = StopAt { done: 0.into(), at, stop: false.into() };
        let context = Context::new(&progress, &progress.stop);
        let place = place(&hub.client(), "alice/sent", PRIVATE).unwrap();
        (place.publish(&files, "Patch", &context), progress.done.load(Ordering::Relaxed))
    };
    assert!(matches!(publish(1_000_000).0, Err(Fault::Cancelled)));
    let there = place(&hub.client(), "alice/sent", PRIVATE).unwrap();
    assert!(there.files().iter().all(|file| file.path != "p.lcepatch"));
    let (published, bytes) = publish(u64::MAX);
    published.unwrap();
    assert_eq!(bytes, 3_000_000);
}
