//! Writes objects, whole or in parts.

use super::{Ask, Bucket, answer};
use crate::Fault;
use crate::http::Answer;
use crate::listing::{Hasher, hex};
use crate::place::LocalFile;
use crate::request::Request;
use crate::tag;
use base64::Engine as _;
use lcepatch_files::context::Context;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use ureq::http::Method;

/// Files that are as long or longer are sent in parts, which are this long at least, in bytes.
const PART_BYTES: u64 = 64 << 20;
/// How many parts an object may have.
const PARTS_MAX: u64 = 10_000;
/// How many bytes are read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// The longest answer to what is written, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What has to be there before an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// No object.
    Nothing,
    /// An object with this tag.
    Tag(String),
}

impl Before {
    fn header(&self) -> (&'static str, String) {
        match self {
            Before::Nothing => ("if-none-match", "*".to_owned()),
            Before::Tag(tag) => ("if-match", format!("\"{tag}\"")),
        }
    }
}

/// A part of a file, and its digest.
struct Part {
    start: u64,
    bytes: u64,
    digest: [u8; 32],
}

impl Part {
    /// Reads the part that follows what `whole` has seen.
    fn new(
        file: &File,
        path: &Path,
        start: u64,
        bytes: u64,
        whole: &mut Hasher,
        context: &Context,
    ) -> Result<Self, Fault> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = start;
        while at < start + bytes {
            context.advance(0)?;
            let wanted = (start + bytes - at).min(CHUNK_BYTES as u64) as usize;
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            lcepatch_files::durable::read_at(file, chunk, at).map_err(|error| Fault::io("read", path, error))?;
            hasher.update(&*chunk);
            whole.update(chunk);
            at += wanted as u64;
        }
        Ok(Self { start, bytes, digest: hasher.finalize().into() })
    }
}

impl Bucket {
    /// Writes a small object. If something else than `before` is there, it fails with [`Fault::Moved`], on servers that compare it.
    pub(super) fn put(&self, key: &str, bytes: &[u8], before: &Before, context: &Context) -> Result<(), Fault> {
        let send = |request: Request| request.bytes("application/octet-stream", bytes.to_vec());
        self.put_once(key, &Sha256::digest(bytes).into(), before, &send, context)
    }

    /// Writes the object of a file.
    pub(super) fn put_file(
        &self,
        key: &str,
        from: &LocalFile,
        before: &Before,
        context: &Context,
    ) -> Result<(), Fault> {
        let file = Arc::new(from.open()?);
        let length = file.metadata().map_err(|error| Fault::io("open", &from.path, error))?.len();
        if length >= PART_BYTES {
            return self.put_parts(key, &file, from, length, before, context);
        }
        let mut whole = Hasher::sha256();
        let part = Part::new(&file, &from.path, 0, length, &mut whole, context)?;
        from.check(whole.finish().hex())?;
        let send =
            |request: Request| request.file(file.clone(), 0, length).header("content-type", "application/octet-stream");
        self.put_once(key, &part.digest, before, &send, context)
    }

    fn put_once(
        &self,
        key: &str,
        digest: &[u8; 32],
        before: &Before,
        send: &dyn Fn(Request) -> Request,
        context: &Context,
    ) -> Result<(), Fault> {
        let (content, checksum) = (hex(digest), base64::prelude::BASE64_STANDARD.encode(digest));
        let (name, value) = before.header();
        let headers = [("x-amz-checksum-sha256", &*checksum), (name, &*value)];
        // A server that knows no conditions is asked without.
        for headers in [&headers[..], &headers[..1]] {
            let ask = Ask { key, headers, content: Some(&content), ..Ask::default() };
            let request = send(self.request(&Method::PUT, &ask)?);
            let (answer, _) = self.http.send_and_read(&request, ANSWER_BYTES_MAX, context)?;
            if answer.status != 501 {
                return if answer.is_success() { Ok(()) } else { Err(self.refused_write(answer, key, before)) };
            }
        }
        Err(Fault::Server { address: self.name_of(key), status: 501, message: String::new() })
    }

    /// An object that was to be replaced, and is not there any more, was removed meanwhile.
    fn refused_write(&self, answer: Answer, key: &str, before: &Before) -> Fault {
        match (self.refused(answer, key), before) {
            (Fault::NoSuchFile { .. }, Before::Tag(_)) => Fault::Moved { place: self.name_of(key) },
            (fault, _) => fault,
        }
    }

    /// Writes an object in parts. What was sent is removed if not all of it arrives.
    fn put_parts(
        &self,
        key: &str,
        file: &Arc<File>,
        from: &LocalFile,
        length: u64,
        before: &Before,
        context: &Context,
    ) -> Result<(), Fault> {
        let begin = self.request(&Method::POST, &Ask { key, query: &[("uploads", "")], ..Ask::default() })?;
        let bytes = self.written(&begin, key, before, context)?.1;
        let wrong = |reason: String| Fault::Answer { address: self.name_of(key), reason };
        let upload = answer::upload(&bytes).map_err(wrong)?;
        let sent = self.send_parts(key, &upload, file, from, length, before, context);
        if sent.is_err() {
            // The failure counts, not whether this works.
            let ask = Ask { key, query: &[("uploadId", &upload)], ..Ask::default() };
            let _ =
                self.request(&Method::DELETE, &ask).and_then(|request| self.http.send(&request, &Context::silent()));
        }
        sent
    }

    #[allow(clippy::too_many_arguments)]
    fn send_parts(
        &self,
        key: &str,
        upload: &str,
        file: &Arc<File>,
        from: &LocalFile,
        length: u64,
        before: &Before,
        context: &Context,
    ) -> Result<(), Fault> {
        let part_bytes = PART_BYTES.max(length.div_ceil(PARTS_MAX));
        let mut whole = Hasher::sha256();
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, start) in (1_u64..).zip((0..length).step_by(part_bytes as usize)) {
            let part = Part::new(file, &from.path, start, part_bytes.min(length - start), &mut whole, context)?;
            let (content, number) = (hex(&part.digest), number.to_string());
            let query = [("partNumber", &*number), ("uploadId", upload)];
            let ask = Ask { key, query: &query, content: Some(&content), ..Ask::default() };
            let request = self.request(&Method::PUT, &ask)?.file(file.clone(), part.start, part.bytes);
            let (answer, _) = self.written(&request, key, before, context)?;
            let found = answer
                .header("etag")
                .map(tag::bare)
                .filter(|tag| tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
            let tag = found.ok_or_else(|| Fault::Answer {
                address: self.name_of(key),
                reason: format!("the server does not say what part {number} is called"),
            })?;
            list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{tag}\"</ETag></Part>");
            context.advance(0)?;
        }
        from.check(whole.finish().hex())?;
        list += "</CompleteMultipartUpload>";
        let content = hex(&Sha256::digest(&list));
        let (name, value) = before.header();
        let (query, headers) = ([("uploadId", upload)], [(name, &*value)]);
        let ask = Ask { key, query: &query, headers: &headers, content: Some(&content) };
        let request = self.request(&Method::POST, &ask)?.bytes("application/xml", list.into_bytes());
        let (answer, bytes) = self.written(&request, key, before, context)?;
        // The status comes first, and may turn out to be wrong.
        answer::said(&bytes).map_or(Ok(()), |said| Err(self.refused_as(&answer, said, key)))
    }

    /// Sends what has to succeed.
    fn written(
        &self,
        request: &Request,
        key: &str,
        before: &Before,
        context: &Context,
    ) -> Result<(Answer, Vec<u8>), Fault> {
        let (answer, bytes) = self.http.send_and_read(request, ANSWER_BYTES_MAX, context)?;
        if answer.is_success() { Ok((answer, bytes)) } else { Err(self.refused_write(answer, key, before)) }
    }
}
