//! What goes wrong with files that are elsewhere.

use crate::refusal::Refusal;
use lcepatch_files::context::Cancelled;
use lcepatch_files::durable::Failed;
use lcepatch_format::words::count;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a file elsewhere could not be read or written.
///
/// Messages name addresses without their query, which can hold the signature of a server, and never a token.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A name that says where something is, in a way that is not understood.
    #[error("{name:?} {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it, as the rest of a sentence that begins with it.
        reason: String,
    },
    /// A variable of the environment has a value that it cannot have.
    #[error("{variable} is {value:?}, and {expected} is expected")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An address that would be read without encryption from another machine.
    #[error("{address} is plain http to another machine, where anybody on the way can read and change what is sent")]
    PlainHttp {
        /// The address.
        address: String,
    },

    /// There is no repository of this name, or it is private.
    #[error("{endpoint} has no repository {repository}, or it is private{}", without_token(*with_token))]
    NoSuchRepository {
        /// The hub.
        endpoint: String,
        /// The repository.
        repository: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// Access to a repository has to be asked for on its page.
    #[error("access to {repository} has to be granted by its owner{}", without_token(*with_token))]
    Gated {
        /// The repository.
        repository: String,
        /// Where access is asked for.
        page: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// A repository has no such branch, tag or commit.
    #[error("{repository} has no revision {revision:?}{}", Nearest(nearest))]
    NoSuchRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The revisions with names like it.
        nearest: Vec<String>,
    },
    /// A place has no such file.
    #[error("{place} has no file {path:?}{}", Nearest(nearest))]
    NoSuchFile {
        /// The place, with its commit where there is one.
        place: String,
        /// The file.
        path: String,
        /// The files with names like it.
        nearest: Vec<String>,
    },
    /// Nothing is at a web address.
    #[error("there is nothing at {address} (status {status})")]
    NotFound {
        /// The address.
        address: String,
        /// 404 or 410.
        status: u16,
    },
    /// A server does not know the token.
    #[error("{origin} does not accept the token (status 401)")]
    WrongToken {
        /// The server.
        origin: String,
    },
    /// A server knows who asks, and refuses.
    #[error("{address} was refused (status {status}){}", Said(message))]
    Forbidden {
        /// What was asked for.
        address: String,
        /// The status of the answer.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// A store of objects refuses.
    #[error("{name}: {refusal}")]
    Store {
        /// The object, or the bucket.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// Somebody else published meanwhile.
    #[error("{place} has changed meanwhile")]
    Moved {
        /// The place.
        place: String,
    },

    /// Too many requests, after waiting as long as the server said, or longer than is waited for.
    #[error("{origin} has had too many requests from here (status 429){}", Wait(*wait))]
    RateLimited {
        /// The server.
        origin: String,
        /// How long the server says to wait.
        wait: Option<Duration>,
    },
    /// A server fails, after several tries.
    #[error("{address} failed with status {status}{}", Said(message))]
    Server {
        /// What was asked for.
        address: String,
        /// The status of the answer.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// A host has no address.
    #[error("there is no host {host}, or there is no network")]
    NoSuchHost {
        /// The host.
        host: String,
    },
    /// A connection failed, after several tries.
    #[error("the connection to {origin} failed: {reason}")]
    Connection {
        /// The server.
        origin: String,
        /// What the system says.
        reason: String,
    },
    /// No encrypted connection could be made, such as with a certificate that this machine does not trust.
    #[error("no encrypted connection to {origin}: {reason}")]
    Tls {
        /// The server.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A server sends from address to address.
    #[error("{address} leads from address to address, more than {limit} times")]
    RedirectLoop {
        /// Where it began.
        address: String,
        /// How many are followed.
        limit: u32,
    },
    /// What answers is not a hub of models.
    #[error("{address} is not answered by a model hub: {reason}")]
    NotAHub {
        /// What was asked for.
        address: String,
        /// By what this shows.
        reason: String,
    },
    /// An answer that is not understood.
    #[error("the answer to {address} is not understood: {reason}")]
    Answer {
        /// What was asked for.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file changed between two reads.
    #[error("{address} has changed while it was read: it was {before}, and is {after}")]
    Changed {
        /// The file.
        address: String,
        /// What it was: the server's tag of its content, or its length.
        before: String,
        /// What it is.
        after: String,
    },
    /// A file was received damaged, twice.
    #[error("{file} was damaged on the way, twice: its digest is {found}, and should be {expected}")]
    Digest {
        /// The file.
        file: String,
        /// What the hub declares.
        expected: String,
        /// The digest of what was received.
        found: String,
    },
    /// Offline, and what is asked for is not in the cache.
    #[error("{what} is not in the cache {}, and the network is turned off", cache.display())]
    Offline {
        /// What is missing.
        what: String,
        /// The cache.
        cache: PathBuf,
    },

    /// A file is larger than is read.
    #[error("{address} has {} bytes, and at most {} are read", count(*bytes), count(*limit))]
    TooLarge {
        /// The file.
        address: String,
        /// Its length.
        bytes: u64,
        /// The longest that is read.
        limit: u64,
    },
    /// There is not enough space for what would be downloaded.
    #[error("{} has {} bytes free, and {} are needed", path.display(), count(*free), count(*needed))]
    DiskFull {
        /// A folder on the disk.
        path: PathBuf,
        /// How many bytes are needed.
        needed: u64,
        /// How many are free.
        free: u64,
    },
    /// A file of this machine could not be read or written.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be put in its place in a directory.
    #[error(transparent)]
    Output(#[from] Failed),
    /// Someone asked to stop. What was downloaded so far is kept, and the next call continues there.
    #[error("interrupted")]
    Cancelled,
}

/// What kind of failure a [`Fault`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name or a setting is wrong.
    Usage,
    /// The server refuses, or does not have it: asking again does not help.
    Refused,
    /// The network or the server failed: asking again later may help.
    Network,
    /// A file of this machine.
    Io,
    /// Someone asked to stop.
    Interrupted,
}

impl Fault {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Name { .. } | Fault::Setting { .. } | Fault::PlainHttp { .. } => Kind::Usage,
            Fault::NoSuchRepository { .. }
            | Fault::Gated { .. }
            | Fault::NoSuchRevision { .. }
            | Fault::NoSuchFile { .. }
            | Fault::NotFound { .. }
            | Fault::WrongToken { .. }
            | Fault::Forbidden { .. }
            | Fault::Store { .. }
            | Fault::Moved { .. }
            | Fault::TooLarge { .. } => Kind::Refused,
            Fault::RateLimited { .. }
            | Fault::Server { .. }
            | Fault::NoSuchHost { .. }
            | Fault::Connection { .. }
            | Fault::Tls { .. }
            | Fault::RedirectLoop { .. }
            | Fault::NotAHub { .. }
            | Fault::Answer { .. }
            | Fault::Changed { .. }
            | Fault::Digest { .. }
            | Fault::Offline { .. } => Kind::Network,
            Fault::DiskFull { .. } | Fault::Io { .. } | Fault::Output(_) => Kind::Io,
            Fault::Cancelled => Kind::Interrupted,
        }
    }

    /// A fault of a file of this machine.
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// The fault inside of an I/O error, as readers of remote files return them.
    pub fn within(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Cancelled> for Fault {
    fn from(_: Cancelled) -> Self {
        Fault::Cancelled
    }
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        // Also where someone asked to stop: readers try again what was `Interrupted`.
        std::io::Error::other(fault)
    }
}

fn without_token(with_token: bool) -> &'static str {
    if with_token { "" } else { " (no token was sent)" }
}

/// The end of a message about a name that is not there.
struct Nearest<'a>(&'a [String]);

impl Display for Nearest<'_> {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(out, "; it has {}", names.join(", ")),
        }
    }
}

/// The end of a message, with the words of the server.
struct Said<'a>(&'a str);

impl Display for Said<'_> {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(out, ": {}", self.0) }
    }
}

/// The end of a message, with how long the server says to wait.
struct Wait(Option<Duration>);

impl Display for Wait {
    fn fmt(&self, out: &mut Formatter) -> std::fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(out, ", and says to wait {} s", wait.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_was_found_and_what_was_expected() {
        let fault = Fault::NoSuchFile { place: "a/b".into(), path: "x".into(), nearest: vec!["y".into(), "z".into()] };
        assert_eq!(fault.to_string(), "a/b has no file \"x\"; it has y, z");
        let fault = Fault::DiskFull { path: "cache".into(), needed: 25_000_000, free: 1_000 };
        assert_eq!(fault.to_string(), "cache has 1,000 bytes free, and 25,000,000 are needed");
        let fault = Fault::RateLimited { origin: "https://h".into(), wait: Some(Duration::from_secs(301)) };
        assert!(fault.to_string().ends_with("(status 429), and says to wait 301 s"));
        assert_eq!(fault.kind(), Kind::Network);
        let error = std::io::Error::from(fault);
        assert!(matches!(Fault::within(&error), Some(Fault::RateLimited { .. })));
    }
}
