//! Objects in S3, or in what speaks like it: read in parts or fetched, listed, and written.

mod answer;
mod credentials;
mod download;
mod place;
mod sign;
mod upload;

pub use answer::Object;
pub use credentials::{Access, Keys};
pub use place::Prefix;

use crate::address::encoded;
use crate::client::Client;
use crate::fault::Fault;
use crate::http::{ANSWER_BYTES_MAX, Answer, Http};
use crate::listing::{RepoFile, checkpoint_files, hex};
use crate::remote::{Ranged, RemoteFile};
use crate::request::Request;
use crate::tag;
use answer::{Page, Said};
use lcepatch_files::context::Context;
use sha2::{Digest as _, Sha256};
use sign::{ToSign, authorization, query, timestamp};
use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;
use ureq::http::{Method, Uri};

/// How many objects a list may have.
const OBJECTS_MAX: usize = 100_000;
/// How many pages a list may have, usually of 1000 objects or folders.
const PAGES_MAX: usize = 1000;
/// The longest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;
/// How much of what a server says stands in a message, in characters.
const SAID_MAX: usize = 300;

/// A bucket of S3, or of what speaks like it.
#[derive(Debug, Clone)]
pub struct Bucket {
    http: Http,
    access: Arc<Access>,
    name: String,
}

/// What is asked of a bucket, beside its method.
#[derive(Debug, Default)]
struct Ask<'a> {
    /// Of the bucket itself if it is empty.
    key: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'static str, &'a str)],
    /// SHA-256 of what is sent along, in hexadecimal digits.
    content: Option<&'a str>,
}

impl Bucket {
    /// A bucket, for whoever the environment says.
    ///
    /// # Errors
    /// [`Fault::Name`] for an impossible name; as [`Access::from_environment`].
    pub fn open(client: &Client, name: &str) -> Result<Self, Fault> {
        Self::with_access(client, name, Access::from_environment()?)
    }

    /// A bucket, for whoever `access` says.
    ///
    /// # Errors
    /// [`Fault::Name`] for an impossible name.
    pub fn with_access(client: &Client, name: &str, access: Access) -> Result<Self, Fault> {
        // It becomes part of the name of a host, or of a path.
        let is_name = (3..=255).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !name.contains("..")
            && !name.starts_with(['.', '-'])
            && !name.ends_with(['.', '-']);
        if !is_name {
            let reason = "names no bucket: their names have letters, digits, - and .".to_owned();
            return Err(Fault::Name { name: format!("s3://{name}"), reason });
        }
        Ok(Self { http: client.http().clone(), access: Arc::new(access), name: name.to_owned() })
    }

    /// How messages name an object of the bucket, or the bucket itself.
    pub fn name_of(&self, key: &str) -> String {
        if key.is_empty() { format!("s3://{}", self.name) } else { format!("s3://{}/{key}", self.name) }
    }

    /// Opens an object, of which parts are read.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn file(&self, key: &str, context: &Context) -> Result<RemoteFile, Fault> {
        RemoteFile::open(&self.http, Box::new(InBucket { bucket: self.clone(), key: key.to_owned() }), context)
    }

    /// The objects whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn list(&self, prefix: &str, context: &Context) -> Result<Vec<Object>, Fault> {
        self.list_some(prefix, &[], context)
    }

    /// The object of this key, if there is one.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn find(&self, key: &str, context: &Context) -> Result<Option<Object>, Fault> {
        // Of keys that begin with another one, that one is the first.
        let page = self.page(&[("list-type", "2"), ("prefix", key), ("max-keys", "1")], context)?;
        Ok(page.objects.into_iter().next().filter(|object| object.key == key))
    }

    /// The objects in a folder, which is a prefix that ends with `/` or is empty. Those in folders in it are left out.
    fn list_folder(&self, folder: &str, context: &Context) -> Result<Vec<Object>, Fault> {
        let mut objects = self.list_some(folder, &[("delimiter", "/")], context)?;
        // What consoles make that show folders.
        objects.retain(|object| object.key != folder);
        Ok(objects)
    }

    fn list_some(&self, prefix: &str, more: &[(&str, &str)], context: &Context) -> Result<Vec<Object>, Fault> {
        let wrong = |reason: String| Fault::Answer { address: self.name_of(prefix), reason };
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            context.advance(0)?;
            let token = next.as_deref().map(|token| ("continuation-token", token));
            let parts = [&[("list-type", "2"), ("prefix", prefix)], more, token.as_slice()].concat();
            let page = self.page(&parts, context)?;
            if page.objects.iter().any(|object| !object.key.starts_with(prefix)) {
                return Err(wrong("its list has objects that were not asked for".to_owned()));
            }
            objects.extend(page.objects);
            if objects.len() > OBJECTS_MAX {
                return Err(wrong(format!("it has more than {OBJECTS_MAX} objects")));
            }
            next = page.next;
            if next.is_none() {
                objects.sort();
                return Ok(objects);
            }
        }
        Err(wrong(format!("its list has more than {PAGES_MAX} pages")))
    }

    fn page(&self, parts: &[(&str, &str)], context: &Context) -> Result<Page, Fault> {
        let request = self.request(&Method::GET, &Ask { query: parts, ..Ask::default() })?;
        let (answer, bytes) = self.http.send_and_read(&request, ANSWER_BYTES_MAX, context)?;
        if !answer.is_success() {
            return Err(self.refused(answer, ""));
        }
        answer::page(&bytes).map_err(|reason| Fault::Answer { address: self.name_of(""), reason })
    }

    /// The objects that make the checkpoint at a key or below a prefix, and the prefix that they have in common, with the slash at its
    /// end. Of an index of shards, what is beside it.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn checkpoint(&self, key: &str, index_suffix: &str, context: &Context) -> Result<(String, Vec<Object>), Fault> {
        let object = if key.is_empty() || key.ends_with('/') { None } else { self.find(key, context)? };
        let folder = match &object {
            Some(object) if !key.ends_with(index_suffix) => {
                return Ok((folder_of(key).to_owned(), vec![object.clone()]));
            }
            Some(_) => folder_of(key).to_owned(),
            None if key.is_empty() || key.ends_with('/') => key.to_owned(),
            None => format!("{key}/"),
        };
        let objects = self.list(&folder, context)?;
        let inner = |object: &Object| object.key.get(folder.len()..).unwrap_or_default().to_owned();
        let files: Vec<RepoFile> =
            objects.iter().map(|object| RepoFile::of_path(inner(object), object.bytes)).collect();
        let wanted: Vec<&str> = checkpoint_files(&files, "").into_iter().map(|file| file.path.as_str()).collect();
        if !wanted.iter().any(|path| path.ends_with(".safetensors")) {
            let (place, path) = match key.ends_with('/') || key.is_empty() {
                true => (self.name_of(key), "*.safetensors".to_owned()),
                false => (self.name_of(""), key.to_owned()),
            };
            let nearest = lcepatch_format::words::nearest(&path, files.iter().map(|file| file.path.as_str()));
            return Err(Fault::NoSuchFile { place, path, nearest });
        }
        let wanted: std::collections::BTreeSet<&str> = wanted.into_iter().collect();
        Ok((folder.clone(), objects.into_iter().filter(|object| wanted.contains(&*inner(object))).collect()))
    }

    /// The patch at a key, or the only one below a prefix, and its signature if there is one beside it.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn patch(&self, key: &str, patch_suffix: &str, context: &Context) -> Result<Vec<Object>, Fault> {
        let is_folder = key.is_empty() || key.ends_with('/');
        let object = if is_folder { None } else { self.find(key, context)? };
        let object = match object {
            Some(object) => object,
            None => {
                let folder = if is_folder { key.to_owned() } else { format!("{key}/") };
                let mut patches = self.list(&folder, context)?;
                patches.retain(|object| object.key.ends_with(patch_suffix));
                let missing = || match is_folder {
                    true => (self.name_of(key), format!("*{patch_suffix}")),
                    false => (self.name_of(""), key.to_owned()),
                };
                match (patches.pop(), &patches[..]) {
                    (Some(only), []) => only,
                    (None, _) => {
                        let (place, path) = missing();
                        return Err(Fault::NoSuchFile { place, path, nearest: Vec::new() });
                    }
                    (Some(last), others) => {
                        let names = others.iter().chain([&last]).take(10).map(|object| object.key.as_str());
                        let shown = names.collect::<Vec<_>>().join(", ");
                        let reason = format!("has {} patches, and one is meant: {shown}", others.len() + 1);
                        return Err(Fault::Name { name: self.name_of(key), reason });
                    }
                }
            }
        };
        let signature = self.find(&format!("{}.sig", object.key), context)?;
        Ok([Some(object), signature].into_iter().flatten().collect())
    }

    /// A request, signed if there are keys. Headers that are added later are not signed, which S3 allows for all whose names do not begin
    /// with `x-amz-`.
    fn request(&self, method: &Method, ask: &Ask) -> Result<Request, Fault> {
        let (host, path) = self.address(ask.key)?;
        let (scheme, authority) = host.split_once("://").unwrap_or(("https", &host));
        let query = query(ask.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::new(method.clone(), format!("{scheme}://{authority}{path}{mark}{query}")).stays();
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let Some(keys) = &self.access.keys else { return Ok(request) };
        let time = timestamp(SystemTime::now());
        let nothing = hex(&Sha256::digest(b""));
        let content = ask.content.unwrap_or(&nothing);
        let mut own = vec![("x-amz-content-sha256", content), ("x-amz-date", &time)];
        own.extend(keys.session.as_ref().map(|session| ("x-amz-security-token", session.text())));
        let signed = [&[("host", authority)], ask.headers, &own[..]].concat();
        let to_sign = ToSign { method: method.as_str(), path: &path, query: &query, headers: &signed, content };
        let authorization = authorization(&to_sign, keys, &self.access.region, &time);
        let request = own.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        Ok(request.header("authorization", authorization))
    }

    /// Where an object is: the address of the host, and the path there. AWS's own service has a host for each bucket; others are asked
    /// by path, as are buckets with dots, which no certificate covers.
    fn address(&self, key: &str) -> Result<(String, String), Fault> {
        let key = encoded(key, true);
        let bucket = &self.name;
        let Some(endpoint) = &self.access.endpoint else {
            let region = &self.access.region;
            let end = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            return Ok(match bucket.contains('.') {
                true => (format!("https://s3.{region}.{end}"), format!("/{bucket}/{key}")),
                false => (format!("https://{bucket}.s3.{region}.{end}"), format!("/{key}")),
            });
        };
        let address: Option<Uri> = endpoint.parse().ok();
        let parts =
            address.as_ref().and_then(|address| Some((address.scheme_str()?, address.authority()?, address.path())));
        let (scheme, authority, path) =
            parts.filter(|(_, authority, _)| !authority.as_str().contains('@')).ok_or_else(|| {
                let expected = "an address, such as https://s3.example.org";
                Fault::Setting { variable: "AWS_ENDPOINT_URL", value: crate::address::shown(endpoint), expected }
            })?;
        let slash = if key.is_empty() { "" } else { "/" };
        Ok((format!("{scheme}://{authority}"), format!("{}/{bucket}{slash}{key}", path.trim_end_matches('/'))))
    }

    /// What an answer that is no success means.
    fn refused(&self, mut answer: Answer, key: &str) -> Fault {
        let mut bytes = Vec::new();
        let read = answer.reader().take(REFUSAL_BYTES_MAX).read_to_end(&mut bytes);
        let said = read.ok().and_then(|_| answer::said(&bytes)).unwrap_or_default();
        self.refused_as(&answer, said, key)
    }

    fn refused_as(&self, answer: &Answer, mut said: Said, key: &str) -> Fault {
        for text in [&mut said.code, &mut said.message] {
            *text = text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
        }
        match (said.code.as_str(), answer.status) {
            ("NoSuchKey", _) | ("", 404) if !key.is_empty() => {
                Fault::NoSuchFile { place: self.name_of(""), path: key.to_owned(), nearest: Vec::new() }
            }
            // Conditions of what is written, and of what is read.
            ("PreconditionFailed" | "ConditionalRequestConflict", _) | ("", 412) => {
                Fault::Moved { place: self.name_of(key) }
            }
            _ => {
                let region = answer.header("x-amz-bucket-region").map(str::to_owned);
                let refusal = answer::refusal(answer.status, said, region, self.access.keys.is_some());
                Fault::Store { name: self.name_of(key), refusal }
            }
        }
    }
}

/// The prefix of a key up to its last slash, with it.
fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| key.get(..=folder.len()).unwrap_or_default())
}

/// An object that is read in parts.
#[derive(Debug)]
struct InBucket {
    bucket: Bucket,
    key: String,
}

impl Ranged for InBucket {
    fn request(&self) -> Result<Request, Fault> {
        self.bucket.request(&Method::GET, &Ask { key: &self.key, ..Ask::default() })
    }

    fn refused(&self, answer: Answer) -> Fault {
        self.bucket.refused(answer, &self.key)
    }

    fn reuses_redirect(&self) -> bool {
        // Each request has a signature of its own.
        false
    }
}

/// Whether the tag of an answer is another one than that of a list.
fn is_other(answer: &Answer, object: &Object) -> bool {
    answer.header("etag").is_some_and(|tag| !object.tag.is_empty() && tag::bare(tag) != object.tag)
}
