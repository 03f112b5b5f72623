//! What is asked of servers.

use crate::Fault;
use lcepatch_files::context::Context;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use ureq::http::Method;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) address: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// Whether redirects are answers, instead of being followed.
    pub(crate) stays: bool,
}

/// What is sent along.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    None,
    Bytes(Arc<Vec<u8>>),
    File(FilePart),
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, address: impl Into<String>) -> Self {
        Self { method, address: address.into(), headers: Vec::new(), body: Body::None, stays: false }
    }

    /// A request for what is at an address.
    pub fn get(address: impl Into<String>) -> Self {
        Self::new(Method::GET, address)
    }

    /// With a header. A token that is set here goes to the address itself, and to no address that it redirects to.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Without following redirects: a signature is for one host.
    #[must_use]
    pub(crate) fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    /// Where it goes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// With these bytes, which are of a content type.
    #[must_use]
    pub fn bytes(self, kind: &str, bytes: Vec<u8>) -> Self {
        self.header("Content-Type", kind).untyped(bytes)
    }

    /// With these bytes, of which no content type is said: an address that is signed may be signed for none.
    #[must_use]
    pub fn untyped(mut self, bytes: Vec<u8>) -> Self {
        self.body = Body::Bytes(Arc::new(bytes));
        self
    }

    /// With a part of a file, which is `length` bytes from `start` on.
    #[must_use]
    pub fn file(mut self, file: Arc<std::fs::File>, start: u64, length: u64) -> Self {
        self.body = Body::File(FilePart { file, start, length, reported: Arc::default() });
        self
    }
}

/// A part of a file, which is sent. Several parts of one file can be sent at once.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    file: Arc<std::fs::File>,
    start: u64,
    pub(crate) length: u64,
    /// How many of its bytes were reported as progress: each is once, however often it is sent.
    reported: Arc<AtomicU64>,
}

impl FilePart {
    /// Reads it, which counts as progress.
    pub(crate) fn reader<'a>(&'a self, context: &'a Context) -> impl Read + 'a {
        PartReader { part: self, at: 0, context }
    }
}

struct PartReader<'a> {
    part: &'a FilePart,
    /// How many of its bytes were read.
    at: u64,
    context: &'a Context<'a>,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let FilePart { file, start, length, reported } = self.part;
        let wanted = buffer.len().min(usize::try_from(length - self.at).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&**file, buffer, start + self.at)?;
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&**file, buffer, start + self.at)?;
        self.at += read as u64;
        let before = reported.fetch_max(self.at, Ordering::Relaxed);
        self.context.advance(self.at.saturating_sub(before)).map_err(Fault::from)?;
        Ok(read)
    }
}
