//! Questions to a hub, and what its refusals mean.

use crate::Fault;
use crate::address::{Origin, encoded, shown};
use crate::http::{ANSWER_BYTES_MAX, Answer, Http};
use crate::listing::{RepoFile, parse_page};
use crate::notice::Notify;
use crate::request::Request;
use crate::settings::Settings;
use lcepatch_files::context::Context;
use lcepatch_format::words::nearest;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Asks a hub. Copies share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
}

/// What a question is about, for the message if it is refused.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) repository: &'a str,
    pub(crate) revision: &'a str,
    pub(crate) path: Option<&'a str>,
}

impl Client {
    /// A client that says nothing while it waits.
    pub fn new(settings: Settings) -> Self {
        Self::with_notices(settings, Arc::new(|_| {}))
    }

    /// A client that says what it waits for.
    pub fn with_notices(settings: Settings, notify: Notify) -> Self {
        Self { http: Http::new(Arc::new(settings), notify) }
    }

    /// What sends the requests.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        self.http.settings()
    }

    /// The repositories whose cards declare that they adapt `base`, as `ORG/NAME`, and are for lcepatch.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn search(&self, base: &str, context: &Context) -> Result<Vec<String>, Fault> {
        #[derive(Deserialize)]
        struct Hit {
            id: String,
        }
        let address = self.api(&format!("models?filter=base_model:adapter:{}&filter=lcepatch", encoded(base, true)));
        let about = About { repository: base, ..About::default() };
        let hits: Vec<Hit> = self.json(&Request::get(&address), about, context)?;
        Ok(hits.into_iter().map(|hit| hit.id).collect())
    }

    /// An address of the hub's interface.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/api/{path}", self.settings().endpoint)
    }

    /// Where the content of a file is.
    pub(crate) fn resolve_address(&self, repository: &str, revision: &str, path: &str) -> String {
        format!(
            "{}/{repository}/resolve/{}/{}",
            self.settings().endpoint,
            encoded(revision, false),
            encoded(path, true)
        )
    }

    /// Asks, and reads an answer that has to be a success.
    pub(crate) fn ask(&self, request: &Request, about: About, context: &Context) -> Result<(Answer, Vec<u8>), Fault> {
        let (answer, bytes) = self.http.send_and_read(request, ANSWER_BYTES_MAX, context)?;
        if answer.is_success() { Ok((answer, bytes)) } else { Err(self.refused(answer, about, context)) }
    }

    /// Asks for JSON.
    pub(crate) fn json<T: for<'a> Deserialize<'a>>(
        &self,
        request: &Request,
        about: About,
        context: &Context,
    ) -> Result<T, Fault> {
        let (answer, bytes) = self.ask(request, about, context)?;
        serde_json::from_slice(&bytes).map_err(|error| not_json(&answer, &error.to_string()))
    }

    /// What the hub refuses, and why.
    pub(crate) fn refused(&self, mut answer: Answer, about: About, context: &Context) -> Fault {
        let code = answer.first_header("x-error-code").unwrap_or_default().to_owned();
        let is_of_hub = !code.is_empty() || answer.first_header("x-repo-commit").is_some();
        let (status, address) = (answer.status, shown(&answer.address));
        let message = answer.said();
        let endpoint = self.settings().endpoint.clone();
        let repository = about.repository.to_owned();
        let with_token = self.settings().token.is_some();
        match (code.as_str(), status) {
            ("RevisionNotFound", _) => {
                let nearest = nearest(about.revision, self.revisions(about, context).iter().map(String::as_str));
                Fault::NoSuchRevision { repository, revision: about.revision.to_owned(), nearest }
            }
            ("EntryNotFound", _) => {
                let path = about.path.unwrap_or_default().to_owned();
                let files = self.first_files(about, context);
                let nearest = nearest(&path, files.iter().map(|file| file.path.as_str()));
                Fault::NoSuchFile { place: format!("{repository}@{}", about.revision), path, nearest }
            }
            ("GatedRepo", _) => Fault::Gated { page: format!("{endpoint}/{repository}"), repository, with_token },
            ("RepoNotFound", _) => Fault::NoSuchRepository { endpoint, repository, with_token },
            (_, 401) if message == "Invalid credentials in Authorization header" || (with_token && !is_of_hub) => {
                Fault::WrongToken { origin: origin(&answer.address) }
            }
            (_, 401) if !repository.is_empty() => Fault::NoSuchRepository { endpoint, repository, with_token },
            (_, 404) if !is_of_hub => {
                Fault::NotAHub { address, reason: "it answers with status 404 and says no more".into() }
            }
            _ => Fault::Forbidden { address, status, message },
        }
    }

    /// The files on the first page of a listing; none if there is no answer.
    fn first_files(&self, about: About, context: &Context) -> Vec<RepoFile> {
        let revision = encoded(about.revision, false);
        let address = self.api(&format!("models/{}/tree/{revision}?recursive=true", about.repository));
        let read = self.http.send_and_read(&Request::get(address), ANSWER_BYTES_MAX, context);
        read.ok().and_then(|(_, bytes)| parse_page(&bytes).ok()).unwrap_or_default()
    }

    /// The branches, tags and pull requests of a repository; none if it does not say.
    fn revisions(&self, about: About, context: &Context) -> BTreeSet<String> {
        #[derive(Deserialize)]
        struct Reference {
            name: Option<String>,
            #[serde(rename = "ref")]
            full: Option<String>,
        }
        let address = self.api(&format!("models/{}/refs?include_prs=true", about.repository));
        let read = self.http.send_and_read(&Request::get(address), ANSWER_BYTES_MAX, context);
        let kinds = read.ok().filter(|(answer, _)| answer.is_success()).and_then(|(_, bytes)| {
            serde_json::from_slice::<std::collections::BTreeMap<String, Option<Vec<Reference>>>>(&bytes).ok()
        });
        let all = kinds.into_iter().flatten().flat_map(|(_, references)| references.unwrap_or_default());
        all.filter_map(|reference| reference.name.or(reference.full)).collect()
    }
}

fn origin(address: &str) -> String {
    address
        .parse()
        .ok()
        .and_then(|address| Origin::of(&address))
        .map_or_else(|| shown(address), |origin| origin.to_string())
}

/// An answer that should be JSON, and is not, or not as expected.
pub(crate) fn not_json(answer: &Answer, reason: &str) -> Fault {
    let kind = answer.header("content-type").unwrap_or("no content type").to_owned();
    let address = shown(&answer.address);
    if kind.contains("json") {
        Fault::Answer { address, reason: reason.to_owned() }
    } else {
        Fault::NotAHub { address, reason: format!("it sends {kind} instead of JSON") }
    }
}
