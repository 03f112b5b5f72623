//! A repository of a hub as a place of publication: files are sent that are not there, and then appear with one commit.

use super::directory::OpenFile;
use super::{Content, NewFile, Place, PlaceFile, Published};
use crate::Fault;
use crate::address::{encoded, shown};
use crate::client::{About, Client};
use crate::http::ANSWER_BYTES_MAX;
use crate::listing::{Digest, digests_of};
use crate::name::RepoName;
use crate::repository::{DEFAULT_REVISION, Snapshot};
use crate::request::{Method, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lcepatch_files::context::Context;
use lcepatch_format::patch::ReadAt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a file a hub looks at to find out whether it is text, in bytes.
const SAMPLE_BYTES: u64 = 512;
/// How many files a hub is asked about at once.
const FILES_AT_ONCE: usize = 256;
const JSON: &str = "application/json";
const LFS_JSON: &str = "application/vnd.git-lfs+json";

/// What to do about a repository that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// That is a fault.
    Refuse,
    /// It is made when something is published.
    Create {
        /// Whether only its owner may see it.
        private: bool,
    },
}

/// One state of a repository.
#[derive(Debug)]
pub struct Repository {
    client: Client,
    id: String,
    revision: String,
    name: String,
    /// None of a repository that is not there.
    snapshot: Option<Snapshot>,
    files: Vec<PlaceFile>,
    absent: Absent,
}

impl Repository {
    /// Looks at a repository, at the branch that its name says.
    ///
    /// # Errors
    /// [`Fault`], also for the name of a file in a repository.
    pub fn open(client: &Client, name: &RepoName, absent: Absent, context: &Context) -> Result<Self, Fault> {
        if name.path.is_some() {
            let reason = "is a file in a repository, and the repository is the place".to_owned();
            return Err(Fault::Name { name: name.to_string(), reason });
        }
        let snapshot = match (client.open(name, context), absent) {
            (Ok(snapshot), _) => Some(snapshot),
            (Err(Fault::NoSuchRepository { .. }), Absent::Create { .. }) => None,
            (Err(fault), _) => return Err(fault),
        };
        let listed = snapshot.iter().flat_map(|snapshot| &snapshot.files).map(|file| PlaceFile {
            path: file.path.clone(),
            bytes: file.bytes,
            sha256: match &file.digest {
                Some(Digest::Sha256(hex)) => Some(hex.clone()),
                _ => None,
            },
        });
        Ok(Self {
            client: client.clone(),
            id: name.id.clone(),
            revision: name.revision.clone().unwrap_or_else(|| DEFAULT_REVISION.to_owned()),
            name: snapshot.as_ref().map_or_else(|| name.id.clone(), Snapshot::name),
            files: listed.collect(),
            snapshot,
            absent,
        })
    }

    /// The repository, which has to be there.
    fn snapshot(&self) -> Result<&Snapshot, Fault> {
        self.snapshot.as_ref().ok_or_else(|| Fault::NoSuchRepository {
            endpoint: self.client.settings().endpoint.clone(),
            repository: self.id.clone(),
            with_token: self.client.settings().token.is_some(),
        })
    }

    fn about(&self) -> About<'_> {
        About { repository: &self.id, revision: &self.revision, path: None }
    }

    /// Sends JSON and reads the answer.
    fn post<T: for<'a> Deserialize<'a>>(
        &self,
        address: &str,
        kind: &str,
        body: &Value,
        context: &Context,
    ) -> Result<T, Fault> {
        let request =
            Request::new(Method::POST, address).header("Accept", kind).bytes(kind, body.to_string().into_bytes());
        self.client.json(&request, self.about(), context)
    }

    /// Makes the repository. It may have been made meanwhile.
    fn create(&self, private: bool, context: &Context) -> Result<(), Fault> {
        let (organization, name) = self.id.split_once('/').unwrap_or(("", &self.id));
        let visibility = if private { "private" } else { "public" };
        let body = json!({ "type": "model", "organization": organization, "name": name, "visibility": visibility });
        let address = self.client.api("repos/create");
        let request = Request::new(Method::POST, address).bytes(JSON, body.to_string().into_bytes());
        let (answer, _) = self.client.http().send_and_read(&request, ANSWER_BYTES_MAX, context)?;
        match answer.status {
            409 => Ok(()),
            _ if answer.is_success() => Ok(()),
            _ => Err(self.client.refused(answer, self.about(), context)),
        }
    }

    /// The files whose content goes through Git LFS, by path, as the hub decides.
    fn are_large(&self, files: &[Upload], context: &Context) -> Result<BTreeMap<String, bool>, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            files: Vec<Mode>,
        }
        #[derive(Deserialize)]
        struct Mode {
            path: String,
            #[serde(rename = "uploadMode")]
            mode: String,
        }
        let address = self.client.api(&format!("models/{}/preupload/{}", self.id, encoded(&self.revision, false)));
        let mut modes = BTreeMap::new();
        for some in files.chunks(FILES_AT_ONCE) {
            let asked = some.iter().map(|file| {
                let sample = STANDARD.encode(&file.sample);
                json!({ "path": file.path, "size": file.bytes, "sample": sample })
            });
            // A new line in .gitattributes counts from this commit on.
            let mut body = json!({ "files": asked.collect::<Vec<_>>() });
            if let Some(attributes) = files.iter().find(|file| file.path == ".gitattributes") {
                body["gitAttributes"] = String::from_utf8_lossy(&attributes.read()?).into();
            }
            let answer: Answer = self.post(&address, JSON, &body, context)?;
            modes.extend(answer.files.into_iter().map(|file| (file.path, file.mode == "lfs")));
        }
        Ok(modes)
    }

    /// Sends contents to Git LFS that are not there yet.
    fn send_large(&self, files: &[&Upload], context: &Context) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Answer {
            objects: Vec<Object>,
        }
        let address = format!("{}/{}.git/info/lfs/objects/batch", self.client.settings().endpoint, self.id);
        for some in files.chunks(FILES_AT_ONCE) {
            let objects: Vec<Value> =
                some.iter().map(|file| json!({ "oid": file.sha256, "size": file.bytes })).collect();
            let body = json!({
                "operation": "upload",
                "transfers": ["basic", "multipart"],
                "hash_algo": "sha256",
                "ref": { "name": self.revision },
                "objects": objects,
            });
            let answer: Answer = self.post(&address, LFS_JSON, &body, context)?;
            for object in answer.objects {
                let file = some.iter().find(|file| file.sha256 == object.oid);
                let file = file.ok_or_else(|| {
                    not_understood(&address, format!("it names {:?}, which was not asked for", object.oid))
                })?;
                if let Some(error) = object.error {
                    return Err(Fault::Forbidden {
                        address: shown(&address),
                        status: error.code,
                        message: error.message,
                    });
                }
                self.send_object(file, object.actions.unwrap_or_default(), context)?;
            }
        }
        Ok(())
    }

    /// Does for one content what the hub says.
    fn send_object(&self, file: &Upload, actions: Actions, context: &Context) -> Result<(), Fault> {
        // Without this action the content is there.
        let Some(upload) = actions.upload else { return Ok(context.advance(file.bytes)?) };
        match upload.header.get("chunk_size") {
            Some(size) => self.send_parts(file, &upload, size, context)?,
            None => {
                let headers = upload.header.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
                let request = headers
                    .fold(file.put(&upload.href, 0, file.bytes)?, |request, (name, value)| request.header(name, value));
                self.client.ask(&request, self.about(), context)?;
            }
        }
        if let Some(verify) = actions.verify {
            let body = json!({ "oid": file.sha256, "size": file.bytes }).to_string();
            let request = Request::new(Method::POST, &verify.href).bytes(LFS_JSON, body.into_bytes());
            self.client.ask(&request, self.about(), context)?;
        }
        Ok(())
    }

    /// Sends a content in parts: the header of the action has the length of each, and an address for each under its number.
    fn send_parts(&self, file: &Upload, upload: &Action, size: &Value, context: &Context) -> Result<(), Fault> {
        let wrong = |reason: &str| not_understood(&upload.href, reason.to_owned());
        let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).filter(|size| *size > 0);
        let size = size.ok_or_else(|| wrong("the length of its parts is no number"))?;
        let numbered =
            upload.header.iter().filter_map(|(name, value)| Some((name.parse::<u64>().ok()?, value.as_str()?)));
        let addresses: BTreeMap<u64, &str> = numbered.collect();
        if addresses.len() as u64 != file.bytes.div_ceil(size) {
            return Err(wrong("it has not one address for each part"));
        }
        let mut parts = Vec::new();
        for (at, (_, address)) in addresses.into_iter().enumerate() {
            let start = at as u64 * size;
            let request = file.put(address, start, size.min(file.bytes - start))?;
            let (answer, _) = self.client.ask(&request, self.about(), context)?;
            let etag = answer.header("etag").ok_or_else(|| wrong("a part that was sent has no tag"))?;
            parts.push(json!({ "partNumber": at + 1, "etag": etag }));
        }
        let body = json!({ "oid": file.sha256, "parts": parts }).to_string();
        let request =
            Request::new(Method::POST, &upload.href).header("Accept", LFS_JSON).bytes(LFS_JSON, body.into_bytes());
        self.client.ask(&request, self.about(), context).map(drop)
    }

    /// One commit with all files, on the state that was read.
    fn commit_on(
        &self,
        parent: &str,
        files: &[(&Upload, bool)],
        message: &str,
        context: &Context,
    ) -> Result<Published, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "commitOid")]
            commit: String,
            #[serde(rename = "commitUrl")]
            url: Option<String>,
        }
        let (summary, description) = message.split_once('\n').unwrap_or((message, ""));
        let header = json!({ "summary": summary, "description": description.trim(), "parentCommit": parent });
        let mut lines = json!({ "key": "header", "value": header }).to_string() + "\n";
        for (file, is_large) in files {
            let line = if *is_large {
                let value = json!({ "path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.bytes });
                json!({ "key": "lfsFile", "value": value })
            } else {
                let value =
                    json!({ "path": file.path, "encoding": "base64", "content": STANDARD.encode(file.read()?) });
                json!({ "key": "file", "value": value })
            };
            lines += &format!("{line}\n");
        }
        let address = self.client.api(&format!("models/{}/commit/{}", self.id, encoded(&self.revision, false)));
        let request = Request::new(Method::POST, &address).bytes("application/x-ndjson", lines.into_bytes());
        let (answer, bytes) = self.client.http().send_and_read(&request, ANSWER_BYTES_MAX, context)?;
        match answer.status {
            412 => Err(Fault::Moved { place: self.name.clone() }),
            _ if answer.is_success() => {
                let done: Answer =
                    serde_json::from_slice(&bytes).map_err(|error| not_understood(&address, error.to_string()))?;
                Ok(Published { commit: Some(done.commit), url: done.url })
            }
            _ => Err(self.client.refused(answer, self.about(), context)),
        }
    }
}

impl Place for Repository {
    fn name(&self) -> &str {
        &self.name
    }

    fn commit(&self) -> Option<&str> {
        self.snapshot.as_ref().map(|snapshot| snapshot.commit.as_str())
    }

    fn files(&self) -> &[PlaceFile] {
        &self.files
    }

    fn open(&self, path: &str, context: &Context<'_>) -> Result<Box<dyn ReadAt>, Fault> {
        let snapshot = self.snapshot()?;
        snapshot.file(path)?;
        if self.client.settings().offline || snapshot.is_cached(&self.client, path) {
            let path = snapshot.fetch(&self.client, &[path], context)?.join(path);
            return Ok(Box::new(OpenFile::open(&path)?));
        }
        let [revision, path] = [&snapshot.commit, path].map(|part| Some(part.to_owned()));
        Ok(Box::new(self.client.file(&RepoName { id: self.id.clone(), revision, path }, context)?))
    }

    fn read(&self, path: &str, limit: u64, context: &Context<'_>) -> Result<Vec<u8>, Fault> {
        let snapshot = self.snapshot()?;
        let bytes = snapshot.file(path)?.bytes;
        if bytes > limit {
            return Err(Fault::TooLarge { address: format!("{}/{path}", self.name), bytes, limit });
        }
        // Through the cache, where what arrives is checked.
        let path = snapshot.fetch(&self.client, &[path], context)?.join(path);
        std::fs::read(&path).map_err(|error| Fault::io("read", &path, error))
    }

    fn fetch(&self, path: &str, context: &Context<'_>) -> Result<Option<PathBuf>, Fault> {
        Ok(Some(self.snapshot()?.fetch(&self.client, &[path], context)?.join(path)))
    }

    /// Makes the repository if it is not there. A file that is there already, byte for byte, is not sent; if this is true of all of them,
    /// there is no commit, and the commit that is returned is that of the state that was read.
    fn publish(&self, files: &[NewFile], message: &str, context: &Context<'_>) -> Result<Published, Fault> {
        let uploads = files.iter().map(|file| Upload::new(file, context)).collect::<Result<Vec<_>, _>>()?;
        let created;
        let state = match (&self.snapshot, self.absent) {
            (None, Absent::Create { private }) => {
                self.create(private, context)?;
                let revision = Some(self.revision.clone());
                let name = RepoName { id: self.id.clone(), revision, path: None };
                created = self.client.open(&name, context)?;
                &created
            }
            _ => self.snapshot()?,
        };
        let is_there = |upload: &Upload| {
            let there = state.files.iter().find(|file| file.path == upload.path).and_then(|file| file.digest.as_ref());
            there.is_some_and(|digest| digest.hex() == upload.sha256 || digest.hex() == upload.git)
        };
        let new: Vec<Upload> = uploads.into_iter().filter(|upload| !is_there(upload)).collect();
        if new.is_empty() {
            return Ok(Published { commit: Some(state.commit.clone()), url: None });
        }
        let modes = self.are_large(&new, context)?;
        let is_large = |file: &Upload| modes.get(&file.path).copied().unwrap_or(false);
        self.send_large(&new.iter().filter(|file| is_large(file)).collect::<Vec<_>>(), context)?;
        let files: Vec<(&Upload, bool)> = new.iter().map(|file| (file, is_large(file))).collect();
        self.commit_on(&state.commit, &files, message, context)
    }
}

fn not_understood(address: &str, reason: String) -> Fault {
    Fault::Answer { address: shown(address), reason }
}

/// A content of Git LFS, and what the hub says to do for it.
#[derive(Deserialize)]
struct Object {
    oid: String,
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize, Default)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// A file that may be sent.
struct Upload<'a> {
    path: String,
    content: &'a Content,
    bytes: u64,
    sha256: String,
    git: String,
    sample: Vec<u8>,
}

impl<'a> Upload<'a> {
    fn new(file: &'a NewFile, context: &Context) -> Result<Self, Fault> {
        let NewFile { path, content } = file;
        let (bytes, (digests, sample)) = match content {
            Content::Bytes(content) => {
                let bytes = content.len() as u64;
                (bytes, digests_and_sample(&mut content.as_slice(), bytes, Path::new(path), context)?)
            }
            Content::File(from) => {
                let mut file = from.open()?;
                let bytes = file.metadata().map_err(|error| Fault::io("read", &from.path, error))?.len();
                (bytes, digests_and_sample(&mut file, bytes, &from.path, context)?)
            }
        };
        let [sha256, git] = digests.map(|digest| digest.hex().to_owned());
        if let Content::File(from) = content {
            from.check(&sha256)?;
        }
        Ok(Self { path: path.clone(), content, bytes, sha256, git, sample })
    }

    /// All of a small file.
    fn read(&self) -> Result<Vec<u8>, Fault> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::File(from) => std::fs::read(&from.path).map_err(|error| Fault::io("read", &from.path, error)),
        }
    }

    /// A request that sends a part of the content, without a token: the address is signed.
    fn put(&self, address: &str, start: u64, length: u64) -> Result<Request, Fault> {
        let request = Request::new(Method::PUT, address);
        match self.content {
            Content::File(from) => Ok(request.file(Arc::new(from.open()?), start, length)),
            Content::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let part = bytes.get(start..).map(|rest| rest.get(..length).unwrap_or(rest)).unwrap_or_default();
                Ok(request.untyped(part.to_owned()))
            }
        }
    }
}

/// The digests of a content of `bytes` bytes, and its beginning.
fn digests_and_sample(
    content: &mut dyn Read,
    bytes: u64,
    name: &Path,
    context: &Context,
) -> Result<([Digest; 2], Vec<u8>), Fault> {
    let mut sample = Vec::new();
    content.take(SAMPLE_BYTES).read_to_end(&mut sample).map_err(|error| Fault::io("read", name, error))?;
    let digests = digests_of(&mut sample.as_slice().chain(content), bytes, name, context)?;
    Ok((digests, sample))
}
