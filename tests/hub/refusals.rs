//! What a hub refuses, and what is said then.

use crate::support::hub::{Asks, Hub, TOKEN};
use lcepatch_hub::settings::Token;
use lcepatch_hub::{Client, Fault, Kind};
use serde_json::json;

const FILES: &[(&str, &[u8])] = &[("config.json", b"{}"), ("model.safetensors", b"weights")];

fn hub() -> Hub {
    Hub::start(&[("--repo", "alice/base", FILES), ("--private", "bob/secret", FILES), ("--gated", "bob/gated", FILES)])
}

/// The fault of opening a name and of reading a file in it, which has to be the same one.
#[track_caller]
fn both(client: &Client, name: &str) -> Fault {
    let fault = client.opened(name).unwrap_err();
    let of_file = client.part_of(&format!("{name}/config.json")).unwrap_err();
    assert_eq!(fault.to_string(), of_file.to_string());
    assert!(!format!("{fault} {fault:?}").contains("secret_"), "{fault:?}");
    fault
}

#[test]
fn a_repository_that_is_missing_or_private() {
    let hub = hub();
    for name in ["alice/none", "bob/secret"] {
        let fault = both(&hub.client(), name);
        assert_eq!(fault.to_string(), format!("{} has no repository {name}, or it is private", hub.endpoint));
        assert_eq!(fault.kind(), Kind::Refused);
        let without = both(&hub.client_with(|settings| settings.token = None), name);
        assert!(without.to_string().ends_with("or it is private (no token was sent)"), "{without}");
    }
}

#[test]
fn a_gated_repository_has_a_page() {
    let hub = hub();
    let fault = hub.client().part_of("bob/gated/config.json").unwrap_err();
    let page = format!("{}/bob/gated", hub.endpoint);
    assert!(matches!(&fault, Fault::Gated { page: found, with_token: true, .. } if *found == page), "{fault:?}");
    let anonymous = hub.client_with(|settings| settings.token = None);
    assert!(matches!(anonymous.part_of("bob/gated/config.json"), Err(Fault::Gated { with_token: false, .. })));
}

#[test]
fn revisions_and_files_have_names_like_them() {
    let hub = hub();
    let fault = both(&hub.client(), "alice/base@mian");
    assert_eq!(fault.to_string(), "alice/base has no revision \"mian\"; it has main");
    let snapshot = hub.client().opened("alice/base").unwrap();
    let fault = snapshot.file("modle.safetensors").unwrap_err();
    let place = format!("alice/base@{}", snapshot.commit);
    assert_eq!(fault.to_string(), format!("{place} has no file \"modle.safetensors\"; it has model.safetensors"));
    let fault = hub.client().part_of("alice/base/modle.safetensors").unwrap_err();
    assert_eq!(fault.to_string(), "alice/base@main has no file \"modle.safetensors\"; it has model.safetensors");
}

#[test]
fn a_wrong_token_is_not_a_missing_repository() {
    let hub = hub();
    let wrong = hub.client_with(|settings| settings.token = Token::new("hf_wrong_secret"));
    let fault = both(&wrong, "alice/base");
    assert_eq!(fault.to_string(), format!("{} does not accept the token (status 401)", hub.endpoint));
    assert!(!format!("{fault:?} {wrong:?}").contains("hf_wrong"));
}

#[test]
fn what_else_a_server_answers() {
    let hub = hub();
    let fails = |fault: serde_json::Value| {
        hub.fault(fault);
        hub.client().opened("alice/base").unwrap_err()
    };
    let fault = fails(json!({"path": "/tree/", "status": 403}));
    assert!(
        matches!(&fault, Fault::Forbidden { status: 403, message, .. } if message == "a fault of the test"),
        "{fault:?}"
    );
    assert_eq!(fault.kind(), Kind::Refused);
    let fault = fails(json!({"path": "/tree/", "status": 500, "times": 6}));
    assert!(matches!(fault, Fault::Server { status: 500, .. }), "{fault:?}");
    assert_eq!(hub.notices.lock().unwrap().len(), 5);
    let fault = fails(json!({"path": "/tree/", "status": 429, "headers": {"Retry-After": "301"}}));
    assert!(matches!(fault, Fault::RateLimited { wait: Some(wait), .. } if wait.as_secs() == 301), "{fault:?}");
    let fault = fails(json!({"path": "/tree/", "status": 404}));
    assert!(matches!(fault, Fault::NotAHub { .. }), "{fault:?}");
    let fault = fails(json!({"path": "/tree/", "corrupt": true}));
    assert!(matches!(fault, Fault::Answer { .. }), "{fault:?}");
}

#[test]
fn a_server_that_says_how_long_to_wait_is_waited_for() {
    let hub = hub();
    hub.fault(json!({"path": "/tree/", "status": 429, "headers": {"Retry-After": "1"}}));
    let began = std::time::Instant::now();
    hub.client().opened("alice/base").unwrap();
    assert!(began.elapsed().as_secs() >= 1);
}

#[test]
fn a_redirect_without_end_is_left() {
    let hub = hub();
    let location = "/alice/base/resolve/main/config.json";
    hub.fault(json!({"path": "/resolve/", "status": 302, "headers": {"Location": location}, "times": 6}));
    let fault = hub.client().part_of("alice/base/config.json").unwrap_err();
    assert!(matches!(fault, Fault::RedirectLoop { limit: 5, .. }), "{fault:?}");
}

#[test]
fn the_token_is_seen_by_its_hub_alone() {
    let hub = Hub::start(&[("--private", "alice/own", FILES)]);
    hub.client().fetched("alice/own", &["config.json", "model.safetensors"]).unwrap();
    hub.client().part_of("alice/own/model.safetensors").unwrap();
    let log = hub.log();
    let of_cdn: Vec<_> = log.iter().filter(|entry| entry["origin"] == "cdn").collect();
    assert_eq!(of_cdn.len(), 2);
    assert!(of_cdn.iter().all(|entry| entry["leaked_token"] == false && entry["authorized"] == false));
    assert!(log.iter().filter(|entry| entry["origin"] == "hub").all(|entry| entry["authorized"] == true));
    assert!(!format!("{:?}", hub.client()).contains(TOKEN));
    // Another endpoint, to which the token does not belong: the address is only read.
    let elsewhere = hub.client_with(|settings| settings.endpoint = "http://127.0.0.1:9".to_owned());
    hub.clear_log();
    let address = format!("{}/alice/own/resolve/main/config.json", hub.endpoint);
    assert!(elsewhere.web(&address, &lcepatch_files::context::Context::silent()).is_err());
    assert!(hub.log().iter().all(|entry| entry["authorized"] == false));
}
