//! What to do about files that are elsewhere.

use lcepatch_hub::{Fault, Refusal};

/// One thing to do.
pub fn help(fault: &Fault) -> Option<String> {
    let help = match fault {
        Fault::Name { .. } => "names are a path, org/name[@revision][/file], an https:// address, or s3://bucket/key",
        Fault::Setting { .. } => "change the setting, or unset it",
        Fault::PlainHttp { .. } => "use its https:// address; if you trust every machine on the way, --allow-http",
        Fault::NoSuchRepository { with_token: false, .. } => {
            "look at the name; if the repository is private, set HF_TOKEN or run `hf auth login`"
        }
        Fault::NoSuchRepository { .. } => {
            "look at the name; if the repository is private, the token must be of a user who may read it"
        }
        Fault::Gated { page, with_token: false, .. } => {
            return Some(format!("ask for access on {page}, then set HF_TOKEN or run `hf auth login`"));
        }
        Fault::Gated { page, .. } => return Some(format!("ask for access on {page}")),
        Fault::NoSuchRevision { .. } => "give a branch, a tag, a commit or refs/pr/N, or leave it out for main",
        Fault::NoSuchFile { .. } | Fault::NotFound { .. } => "look at the name, and at what else is there",
        Fault::WrongToken { .. } => {
            "make a new token on the hub and set HF_TOKEN, or run `hf auth login`; without any, what is public can be read"
        }
        Fault::Forbidden { .. } => "the token, or the credentials, must be of somebody who may do this",
        Fault::Store { refusal, .. } => return Some(of_store(refusal).to_owned()),
        Fault::Moved { .. } => "do it again: it is compared with what is there now",
        Fault::RateLimited { .. } => "wait; with a token (HF_TOKEN) more requests are allowed",
        Fault::Server { .. } => "try again later: the server has a fault, or too much to do",
        Fault::NoSuchHost { .. } => {
            "look at the address, and at the network; with HF_HUB_OFFLINE=1 only what is in the cache is used"
        }
        Fault::Connection { .. } => {
            "look at the address, the network and the proxy (HTTPS_PROXY), and try again: what has arrived is kept"
        }
        Fault::Tls { .. } => {
            "the system's certificates are used: install the one of your network there, and look at the clock"
        }
        Fault::RedirectLoop { .. } | Fault::NotAHub { .. } | Fault::Answer { .. } => {
            "look at the address, at HF_ENDPOINT, and at the proxy (HTTPS_PROXY)"
        }
        Fault::Changed { .. } => "do it again: it then reads the new one",
        Fault::Digest { .. } => "try again later, or over another network; nothing was kept",
        Fault::Offline { .. } => "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to download it",
        Fault::TooLarge { .. } => "look at the name: this is not such a file",
        Fault::DiskFull { .. } => "make room, or put the cache on another disk with HF_HOME; what has arrived is kept",
        Fault::Output(failed) => return super::files::output(failed),
        Fault::Io { .. } | Fault::Cancelled => return None,
    };
    Some(help.to_owned())
}

/// What to do where a store of objects refuses.
fn of_store(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchBucket => "look at the name of the bucket, and at AWS_ENDPOINT_URL",
        Refusal::Denied { is_signed: false, .. } => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; other credentials come from \
             `aws configure export-credentials --format env`"
        }
        Refusal::Denied { .. } => {
            "look at the name, and ask whoever owns the bucket for access; of what is not there the same is said to those who may not list it"
        }
        Refusal::UnknownKey => {
            "look at AWS_ACCESS_KEY_ID or AWS_PROFILE, and whether AWS_ENDPOINT_URL is of the service that gave you the key"
        }
        Refusal::Signature => "look at AWS_SECRET_ACCESS_KEY: it is not that of the access key",
        Refusal::Expired => "log in again, and set what `aws configure export-credentials --format env` prints",
        Refusal::Clock => "set the clock of this machine",
        Refusal::OtherRegion { .. } => "set AWS_REGION to the bucket's region",
        Refusal::Other { .. } => "look at what the server says, and at AWS_ENDPOINT_URL",
    }
}
