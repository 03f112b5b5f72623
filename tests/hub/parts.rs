//! Files that are read in parts.

use crate::support::hub::{Asks, Hub, noise, repo};
use lcepatch_files::context::Context;
use lcepatch_format::patch::ReadAt;
use lcepatch_hub::place::repository::{Absent, Repository};
use lcepatch_hub::place::{Content, NewFile, Place};
use lcepatch_hub::{FRONT_BYTES, Fault};
use serde_json::json;

const BYTES: usize = 1_500_000;

/// A hub with one large file, and what is in it.
fn hub() -> (Hub, Vec<u8>) {
    let content = noise(BYTES, 1);
    (Hub::start(&[("--repo", "alice/p", &[("p.bin", &content), ("small.json", b"{}")])]), content)
}

#[test]
fn the_front_costs_two_requests_and_64_kib_and_no_more_is_asked_for_it() {
    let (hub, content) = hub();
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    assert_eq!(ReadAt::bytes(&file), BYTES as u64);
    assert_eq!(file.read_at(100, 60_000).unwrap(), content[100..60_100]);
    let (requests, sent) = hub.requests();
    assert_eq!((requests.len(), sent), (2, FRONT_BYTES), "{requests:?}");
    // A little more than the front: what of it is here is not asked for again, and then something behind is here as well.
    assert_eq!(file.read_at(0, 70_000).unwrap(), content[..70_000]);
    assert_eq!(file.read_at(80_000, 20_000).unwrap(), content[80_000..100_000]);
    let (requests, sent) = hub.requests();
    assert_eq!((requests.len(), sent), (3, 2 * FRONT_BYTES), "{requests:?}");
    assert_eq!(file.commit().unwrap(), hub.client().opened("alice/p").unwrap().commit);
}

#[test]
fn every_part_is_the_same_as_in_the_file() {
    let (hub, content) = hub();
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    for (offset, bytes) in
        [(0, BYTES), (65_535, 2), (65_536, 1), (BYTES - 1, 1), (BYTES, 0), (700_000, 300_000), (0, 0)]
    {
        assert_eq!(
            file.read_at(offset as u64, bytes as u64).unwrap(),
            content[offset..offset + bytes],
            "{bytes} at {offset}"
        );
    }
    // More than is kept, by several threads.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(file.read_at(100_000, 1_200_000).unwrap() == content[100_000..1_300_000]));
        }
    });
    let past = file.read_at(BYTES as u64 - 1, 2).unwrap_err();
    assert_eq!(past.kind(), std::io::ErrorKind::UnexpectedEof);
    let small = hub.client().part_of("alice/p/small.json").unwrap();
    assert_eq!(small.read_at(0, 2).unwrap(), b"{}");
}

#[test]
fn an_address_that_expired_is_asked_for_again() {
    let (hub, content) = hub();
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    hub.clear_log();
    hub.fault(json!({"path": "/object/", "status": 403}));
    assert_eq!(file.read_at(200_000, 10).unwrap(), content[200_000..200_010]);
    let (requests, _) = hub.requests();
    assert_eq!(requests.len(), 3, "the one that expired, the hub, and where it leads: {requests:?}");
    assert!(requests[1].contains(&format!("/resolve/{}/", file.commit().unwrap())), "of the same commit: {requests:?}");
}

#[test]
fn a_server_without_parts_is_noticed_by_what_it_sends() {
    let (hub, content) = hub();
    hub.fault(json!({"path": "/object/", "ignore_range": true, "times": 9}));
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    assert_eq!(file.read_at(1_000_000, 100).unwrap(), content[1_000_000..1_000_100]);
    assert_eq!(file.read_at(5, 70_000).unwrap(), content[5..70_005]);
    assert_eq!(hub.requests().0.len(), 2, "the whole file was fetched once");
    let notices = hub.notices.lock().unwrap();
    assert!(matches!(notices.as_slice(), [lcepatch_hub::notice::Notice::WholeFile { .. }]), "{notices:?}");
    drop(notices);
    // The same server, which begins to ignore ranges.
    let (hub, content) = self::hub();
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    hub.fault(json!({"path": "/object/", "ignore_range": true}));
    assert_eq!(file.read_at(1_000_000, 100).unwrap(), content[1_000_000..1_000_100]);
}

#[test]
fn a_range_that_is_cut_is_asked_for_again() {
    let (hub, content) = hub();
    hub.fault(json!({"path": "/object/", "cut_after": 1000}));
    let file = hub.client().part_of("alice/p/p.bin").unwrap();
    hub.fault(json!({"path": "/object/", "cut_after": 5}));
    assert_eq!(file.read_at(100_000, 100).unwrap(), content[100_000..100_100]);
}

#[test]
fn a_web_address_is_read_in_parts_as_well() {
    let (hub, content) = hub();
    let client = hub.client_with(|settings| settings.endpoint = "http://127.0.0.1:9".to_owned());
    let address = format!("{}/alice/p/resolve/main/p.bin?download=true", hub.endpoint);
    let file = client.web(&address, &Context::silent()).unwrap();
    assert_eq!(file.read_at(123_456, 10).unwrap(), content[123_456..123_466]);
    assert!(file.commit().is_some(), "it is a hub's after all");
    let missing = client.web(&format!("{}/nothing", hub.endpoint), &Context::silent()).unwrap_err();
    assert!(matches!(missing, Fault::NotFound { status: 404, .. }), "{missing:?}");
}

#[test]
fn a_file_that_changes_between_two_reads_is_noticed() {
    let text = |letter: &str| letter.repeat(200_000);
    let hub = Hub::start(&[("--repo", "alice/p", &[("a.txt", text("a").as_bytes())])]);
    let client = hub.client();
    let open = || Repository::open(&client, &repo("alice/p"), Absent::Refuse, &Context::silent()).unwrap();
    let publish = |text: String| {
        let new = NewFile { path: "a.txt".into(), content: Content::Bytes(text.into_bytes()) };
        open().publish(&[new], "another", &Context::silent()).unwrap();
    };
    let address = format!("{}/alice/p/resolve/main/a.txt", hub.endpoint);
    let [at_address, longer, of_commit] = [
        client.web(&address, &Context::silent()),
        client.web(&address, &Context::silent()),
        client.part_of("alice/p/a.txt"),
    ]
    .map(Result::unwrap);
    publish(text("b"));
    let fault = at_address.read(100_000, 10, &Context::silent()).unwrap_err();
    assert!(matches!(&fault, Fault::Changed { before, after, .. } if before != after), "{fault:?}");
    publish(text("bb"));
    assert!(matches!(longer.read(100_000, 10, &Context::silent()), Err(Fault::Changed { .. })));
    // In a repository it is the same commit, whatever is published.
    assert_eq!(of_commit.read_at(100_000, 10).unwrap(), b"aaaaaaaaaa");
    assert_eq!(client.part_of("alice/p/a.txt").unwrap().read_at(100_000, 3).unwrap(), b"bbb");
}

#[test]
fn offline_no_part_is_asked_for() {
    let (hub, _) = hub();
    let client = hub.client_with(|settings| settings.offline = true);
    assert!(matches!(client.part_of("alice/p/p.bin"), Err(Fault::Offline { .. })));
    assert!(hub.log().is_empty());
}
