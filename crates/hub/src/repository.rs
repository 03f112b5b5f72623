//! A repository at a commit: what a revision is, and which files it has.

// Reads untrusted bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::Fault;
use crate::address::{Origin, encoded, join, shown};
use crate::cache::{RepoCache, is_commit};
use crate::client::{About, Client, not_json};
use crate::http::Answer;
use crate::listing::{RepoFile, parse_page};
use crate::name::RepoName;
use crate::request::Request;
use lcepatch_files::context::Context;
use lcepatch_format::words::nearest;
use serde::Deserialize;

/// How many files a repository may have.
const FILES_MAX: usize = 100_000;

/// How many pages a listing of them may have.
const PAGES_MAX: usize = 1000;

/// The branch that is meant if none is named.
pub const DEFAULT_REVISION: &str = "main";

/// A repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `ORG/NAME`.
    pub id: String,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it is.
    pub commit: String,
    /// Its files. Offline, where no listing was kept, those that are in the cache.
    pub files: Vec<RepoFile>,
}

impl Snapshot {
    /// How messages, answers and logs name it: `ORG/NAME@COMMIT`, which leads to the same again.
    pub fn name(&self) -> String {
        format!("{}@{}", self.id, self.commit)
    }

    /// A file.
    ///
    /// # Errors
    /// [`Fault::NoSuchFile`], with names like it.
    pub fn file(&self, path: &str) -> Result<&RepoFile, Fault> {
        self.files.iter().find(|file| file.path == path).ok_or_else(|| Fault::NoSuchFile {
            place: self.name(),
            path: path.to_owned(),
            nearest: nearest(path, self.files.iter().map(|file| file.path.as_str())),
        })
    }
}

impl Client {
    /// Finds out what commit a revision is, and lists its files. A path in the name is not looked at.
    ///
    /// Offline, the commit is the one that the cache remembers.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(&self, name: &RepoName, context: &Context) -> Result<Snapshot, Fault> {
        name.check()?;
        let revision = name.revision.clone().unwrap_or_else(|| DEFAULT_REVISION.to_owned());
        let cache = RepoCache::new(&self.settings().cache, &name.id);
        let id = name.id.clone();
        if self.settings().offline {
            let commit = cache.commit_of(&revision).filter(|commit| cache.snapshot(commit).is_dir());
            let commit = commit.ok_or_else(|| Fault::Offline {
                what: format!("{id}@{revision}"),
                cache: self.settings().cache.clone(),
            })?;
            let files = cache.listing(&commit).unwrap_or_else(|| cache.cached_files(&commit));
            return Ok(Snapshot { id, revision, commit, files });
        }
        // What a commit has does not change.
        if is_commit(&revision)
            && let Some(files) = cache.listing(&revision)
        {
            return Ok(Snapshot { id, commit: revision.clone(), revision, files });
        }
        let about = About { repository: &id, revision: &revision, path: None };
        let (commit, files) = match self.list(about, context)? {
            (Some(commit), files) => (commit, files),
            // A hub that does not say with the listing which commit it is of: asked for the commit, and then for its files.
            (None, _) => {
                let commit = self.commit(about, context)?;
                let (_, files) = self.list(About { revision: &commit, ..about }, context)?;
                (commit, files)
            }
        };
        Ok(Snapshot { id, revision, commit, files })
    }

    /// The commit that a revision is.
    fn commit(&self, about: About, context: &Context) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
        }
        let address = self.api(&format!("models/{}/revision/{}", about.repository, encoded(about.revision, false)));
        let info: Info = self.json(&Request::get(&address), about, context)?;
        if is_commit(&info.sha) {
            return Ok(info.sha);
        }
        Err(Fault::Answer { address: shown(&address), reason: format!("{:?} is not the name of a commit", info.sha) })
    }

    /// All files of a revision, and its commit where the answers say so.
    fn list(&self, about: About, context: &Context) -> Result<(Option<String>, Vec<RepoFile>), Fault> {
        let revision = encoded(about.revision, false);
        let mut address = self.api(&format!("models/{}/tree/{revision}?recursive=true", about.repository));
        let (mut files, mut commit) = (Vec::new(), None);
        for page in 0.. {
            context.advance(0)?;
            let (answer, bytes) = self.ask(&Request::get(&address), about, context)?;
            let of_page = commit_of(&answer);
            if page > 0 && of_page != commit {
                let [before, after] = [commit, of_page].map(|commit| commit.unwrap_or_default());
                return Err(Fault::Changed { address: shown(&address), before, after });
            }
            commit = of_page;
            let before = files.len();
            files.extend(parse_page(&bytes).map_err(|reason| not_json(&answer, &reason))?);
            if files.len() > FILES_MAX || page > PAGES_MAX {
                let reason = format!("it lists more than {FILES_MAX} files");
                return Err(Fault::Answer { address: shown(&address), reason });
            }
            let Some(next) = next_page(&answer) else { break };
            let origin = |address: &str| address.parse().ok().and_then(|address| Origin::of(&address));
            if files.len() == before && page > 0 || origin(&next) != origin(&answer.address) {
                let reason = format!("its listing goes on at {}, without an end or elsewhere", shown(&next));
                return Err(Fault::Answer { address: shown(&answer.address), reason });
            }
            address = next;
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((commit, files))
    }
}

/// The commit that an answer is of.
pub(crate) fn commit_of(answer: &Answer) -> Option<String> {
    answer.first_header("x-repo-commit").filter(|commit| is_commit(commit)).map(str::to_owned)
}

/// The address of the next page of a listing: `Link: <ADDRESS>; rel="next"`.
fn next_page(answer: &Answer) -> Option<String> {
    let links = answer.header("link")?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let location = next.split_once('<')?.1.split_once('>')?.0;
    Some(join(&answer.address.parse().ok()?, location)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, http, serve};

    #[test]
    fn a_listing_that_does_not_end_or_goes_on_elsewhere_is_refused() {
        let (other, _) = serve(Vec::new());
        for next in ["/again".to_owned(), format!("{other}/again")] {
            let page =
                answer("200 OK", &format!("Content-Type: application/json\r\nLink: <{next}>; rel=\"next\"\r\n"), "[]");
            let (hub, _) = serve(vec![page.clone(), page]);
            let client = Client::new(http(&hub).settings().clone());
            let name = RepoName { id: "a/b".into(), revision: None, path: None };
            let fault = client.open(&name, &Context::silent()).unwrap_err();
            assert!(fault.to_string().contains("without an end or elsewhere"), "{fault}");
        }
    }
}
