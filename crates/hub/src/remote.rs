//! Files that are read in parts, over the network.

use crate::address::shown;
use crate::cache::{RepoCache, free_space};
use crate::client::{About, Client};
use crate::http::{Answer, Failure, Http, Tries};
use crate::name::RepoName;
use crate::notice::Notice;
use crate::repository::{DEFAULT_REVISION, commit_of};
use crate::request::Request;
use crate::tag;
use crate::{Fault, Kind};
use lcepatch_files::context::Context;
use lcepatch_format::patch::ReadAt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many bytes the first request asks for, and every later one at least.
pub const FRONT_BYTES: u64 = 64 << 10;

/// The longest part that is kept for later reads, in bytes.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

/// The longest file that is taken whole from a server that says neither parts nor length, in bytes.
const UNTOLD_BYTES_MAX: u64 = 64 << 20;

/// Whoever makes the requests for one file.
pub trait Ranged: std::fmt::Debug + Send + Sync {
    /// A request for the file from its beginning on, without a `Range`.
    ///
    /// # Errors
    /// [`Fault`].
    fn request(&self) -> Result<Request, Fault>;

    /// What an answer that is no success means.
    fn refused(&self, answer: Answer) -> Fault;

    /// Whether later requests go to where redirects led: then no more is asked on the way.
    fn reuses_redirect(&self) -> bool {
        true
    }
}

/// A file elsewhere, of which parts are read. It is always the same state of the file: a change between two reads is a fault.
#[derive(Debug)]
pub struct RemoteFile {
    http: Http,
    ranged: Box<dyn Ranged>,
    address: String,
    bytes: u64,
    commit: Option<String>,
    tags: Tags,
    state: Mutex<State>,
}

/// What servers call a content, to notice when it changes.
#[derive(Debug, Clone, Default)]
struct Tags {
    /// By the hub that leads to the content: its digest.
    linked: Option<String>,
    /// By the server that sends the content.
    sent: Option<String>,
}

impl Tags {
    fn of(answer: &Answer) -> Self {
        let [linked, sent] = [answer.first_header("x-linked-etag"), answer.header("etag")];
        Self { linked: linked.map(str::to_owned), sent: sent.map(str::to_owned) }
    }

    /// The tags before and after, if these are not of the same content. Servers that a hub leads to need not agree, but each has to
    /// agree with itself.
    fn differ<'a>(&'a self, after: &'a Self) -> Option<(&'a str, &'a str)> {
        let pair = match (&self.linked, &after.linked) {
            (Some(before), Some(after)) => (before, after),
            _ => (self.sent.as_ref()?, after.sent.as_ref()?),
        };
        (pair.0 != pair.1).then_some((pair.0, pair.1))
    }
}

/// What is here of the file, and how to get more.
#[derive(Debug)]
struct State {
    /// The first bytes.
    front: Vec<u8>,
    /// Where the last part began that was read, and the part.
    window: (u64, Vec<u8>),
    /// Where redirects led.
    direct: Option<String>,
    /// The whole file, from a server that sends no parts.
    whole: Option<File>,
}

/// An answer with bytes of the file.
struct Part {
    bytes: Vec<u8>,
    /// The length of the whole file.
    length: u64,
    tags: Tags,
    /// Where redirects led, if there were any.
    direct: Option<String>,
    commit: Option<String>,
    whole: Option<File>,
}

impl RemoteFile {
    /// Opens a file: asks for its first 64 KiB, and so learns its length.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(http: &Http, ranged: Box<dyn Ranged>, context: &Context) -> Result<Self, Fault> {
        let request = ranged.request()?;
        let part = fetch(http, &*ranged, &request, 0..FRONT_BYTES, &Tags::default(), context)?;
        let direct = part.direct.filter(|_| ranged.reuses_redirect());
        Ok(Self {
            http: http.clone(),
            address: shown(request.address()),
            ranged,
            bytes: part.length,
            commit: part.commit,
            tags: part.tags,
            state: Mutex::new(State { front: part.bytes, window: (0, Vec::new()), direct, whole: part.whole }),
        })
    }

    /// A file that is in the cache.
    fn cached(http: &Http, ranged: InRepository, whole: File, commit: String, name: &RepoName) -> Result<Self, Fault> {
        let bytes =
            whole.metadata().map_err(|error| Fault::io("read the copy of", name.to_string().as_ref(), error))?.len();
        Ok(Self {
            http: http.clone(),
            address: name.to_string(),
            ranged: Box::new(ranged),
            bytes,
            commit: Some(commit),
            tags: Tags::default(),
            state: Mutex::new(State { front: Vec::new(), window: (0, Vec::new()), direct: None, whole: Some(whole) }),
        })
    }

    /// How the file is named in messages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The commit that it is of, if it is in a repository.
    pub fn commit(&self) -> Option<&str> {
        self.commit.as_deref()
    }

    /// The server's tag of its content, without quotation marks: of a file in a hub, its digest.
    pub fn tag(&self) -> Option<&str> {
        self.tags.linked.as_deref().or(self.tags.sent.as_deref()).map(tag::bare)
    }

    /// Reads bytes at an offset.
    ///
    /// # Errors
    /// [`Fault`]; [`Fault::Answer`] past the end.
    pub fn read(&self, offset: u64, bytes: u64, context: &Context) -> Result<Vec<u8>, Fault> {
        let end = offset.checked_add(bytes).filter(|end| *end <= self.bytes).ok_or_else(|| Fault::Answer {
            address: self.address.clone(),
            reason: format!("it has {} bytes, and {bytes} at {offset} were asked for", self.bytes),
        })?;
        let mut out = Vec::new();
        let mut at = offset;
        while at < end {
            let mut state = self.state();
            if let Some(whole) = &mut state.whole {
                return read_whole(whole, offset, bytes)
                    .map_err(|error| Fault::io("read the copy of", self.address.as_ref(), error));
            }
            let State { front, window, .. } = &*state;
            let here = [(0, front), (window.0, &window.1)];
            let part = here.into_iter().find_map(|(start, part)| within(part, start, at..end));
            if let Some(part) = part {
                out.extend_from_slice(part);
                at += part.len() as u64;
                continue;
            }
            let until = end.max(at.saturating_add(FRONT_BYTES)).min(self.bytes);
            let is_kept = until - at <= WINDOW_BYTES_MAX;
            let direct = state.direct.clone();
            // Whoever reads something small may find it in what another one fetches; large parts are fetched side by side.
            let waiting = match is_kept {
                true => Some(state),
                false => {
                    drop(state);
                    None
                }
            };
            let part = self.fetch_more(direct, at..until, context)?;
            let mut state = waiting.unwrap_or_else(|| self.state());
            state.direct = part.direct.filter(|_| self.ranged.reuses_redirect());
            if part.whole.is_some() {
                state.whole = part.whole;
                continue;
            }
            let taken = usize::try_from(end - at).map_or(part.bytes.len(), |left| left.min(part.bytes.len()));
            out.extend_from_slice(part.bytes.get(..taken).unwrap_or_default());
            let start = at;
            at += taken as u64;
            if is_kept {
                state.window = (start, part.bytes);
            }
        }
        Ok(out)
    }

    /// Asks for a part, where redirects led before, and again from the beginning if that has expired.
    fn fetch_more(&self, direct: Option<String>, range: Range<u64>, context: &Context) -> Result<Part, Fault> {
        let from = |request: &Request| fetch(&self.http, &*self.ranged, request, range.clone(), &self.tags, context);
        let part = match direct.map(|direct| (from(&Request::get(&direct)), direct)) {
            Some((Ok(part), direct)) => Part { direct: part.direct.or(Some(direct)), ..part },
            // An address that has expired is refused.
            Some((Err(fault), _)) if fault.kind() != Kind::Refused => return Err(fault),
            _ => from(&self.ranged.request()?)?,
        };
        let changed = |before: String, after: String| Fault::Changed { address: self.address.clone(), before, after };
        if part.length != self.bytes {
            return Err(changed(format!("{} bytes", self.bytes), format!("{} bytes", part.length)));
        }
        if let (Some(before), Some(after)) = (&self.commit, &part.commit)
            && before != after
        {
            return Err(changed(before.clone(), after.clone()));
        }
        Ok(part)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in the state is valid after every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for RemoteFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.read(offset, bytes, &Context::silent())?)
    }
}

/// The bytes of `wanted` that `part` has, which begins at `start`; none if it does not have the first.
fn within(part: &[u8], start: u64, wanted: Range<u64>) -> Option<&[u8]> {
    let from = usize::try_from(wanted.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(wanted.end - start).map_or(part.len(), |to| to.min(part.len()));
    part.get(from..to).filter(|found| !found.is_empty())
}

fn read_whole(whole: &mut File, offset: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    whole.seek(SeekFrom::Start(offset))?;
    let mut out = Vec::new();
    whole.take(bytes).read_to_end(&mut out)?;
    if out.len() as u64 == bytes { Ok(out) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Asks for a part of a file whose tags were `before`, with tries again.
fn fetch(
    http: &Http,
    ranged: &dyn Ranged,
    request: &Request,
    range: Range<u64>,
    before: &Tags,
    context: &Context,
) -> Result<Part, Fault> {
    let mut request = request.clone().header("Range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
    // A hub may lead to another server, which has another tag.
    if let Some(etag) = before.sent.as_ref().filter(|etag| before.linked.is_none() && !etag.starts_with("W/")) {
        request = request.header("If-Range", etag);
    }
    let mut tries = Tries::default();
    loop {
        let failure = match http.try_once(&request, context) {
            Ok(answer) => match read_part(http, ranged, answer, &range, before, context) {
                Ok(part) => return Ok(part),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        http.again(failure, &mut tries, context)?;
    }
}

/// Reads an answer to a request for `range`.
fn read_part(
    http: &Http,
    ranged: &dyn Ranged,
    mut answer: Answer,
    range: &Range<u64>,
    before: &Tags,
    context: &Context,
) -> Result<Part, Failure> {
    let address = answer.address.clone();
    let wrong = |reason: String| Failure::Final(Fault::Answer { address: shown(&address), reason });
    let (tags, commit, is_redirected) = (Tags::of(&answer), commit_of(&answer), answer.is_redirected());
    if answer.is_success()
        && let Some((before, after)) = before.differ(&tags)
    {
        let [before, after] = [before, after].map(str::to_owned);
        return Err(Failure::Final(Fault::Changed { address: shown(&address), before, after }));
    }
    let part = |bytes, length, whole| Part {
        bytes,
        length,
        tags: tags.clone(),
        direct: is_redirected.then(|| address.clone()),
        commit: commit.clone(),
        whole,
    };
    let said = answer.header("content-range").unwrap_or_default().to_owned();
    match answer.status {
        // Some servers of S3 send a part with the status of the whole: what it is of says so.
        206 | 200 if answer.status == 206 || content_range(&said).is_some() => {
            let (found, length) =
                content_range(&said).ok_or_else(|| wrong(format!("its Content-Range is {said:?}")))?;
            if found.start != range.start || found.end != range.end.min(length) {
                return Err(wrong(format!(
                    "it is of {said:?}, and bytes {}-{} were asked for",
                    range.start,
                    range.end - 1
                )));
            }
            let wanted = found.end - found.start;
            let mut bytes = Vec::new();
            answer.reader().take(wanted + 1).read_to_end(&mut bytes).map_err(|error| http.broken(&address, &error))?;
            if bytes.len() as u64 != wanted {
                let short = std::io::Error::other(format!("{} bytes of {wanted} arrived", bytes.len()));
                return Err(http.broken(&address, &short));
            }
            Ok(part(bytes, length, None))
        }
        // All of the file instead of the part. It is not kept in memory.
        200 => {
            let length = answer.length();
            let mut front = Vec::new();
            answer.reader().take(FRONT_BYTES).read_to_end(&mut front).map_err(|error| http.broken(&address, &error))?;
            if length == Some(front.len() as u64) || (length.is_none() && (front.len() as u64) < FRONT_BYTES) {
                let length = front.len() as u64;
                let bytes = if range.start == 0 { front.clone() } else { Vec::new() };
                let whole = spool(&front, &mut std::io::empty(), context);
                return Ok(part(bytes, length, Some(whole.map_err(|error| spooled(http, &address, error))?)));
            }
            http.notify(&Notice::WholeFile { address: shown(&address) });
            let most = length.unwrap_or(UNTOLD_BYTES_MAX);
            if let Some(free) = length.and_then(|_| free_space(&std::env::temp_dir())).filter(|free| *free < most) {
                return Err(Failure::Final(Fault::DiskFull { path: std::env::temp_dir(), needed: most, free }));
            }
            let mut rest = answer.reader().take((most + 1).saturating_sub(front.len() as u64));
            let whole = spool(&front, &mut rest, context).map_err(|error| spooled(http, &address, error))?;
            let found = whole.metadata().map_or(0, |metadata| metadata.len());
            match length {
                Some(length) if found < length => {
                    return Err(http.broken(&address, &std::io::Error::other("it ended early")));
                }
                Some(length) if found > length => return Err(wrong(format!("it has more than its {length} bytes"))),
                None if found > most => {
                    return Err(wrong(format!("it does not say how long it is, and has more than {most} bytes")));
                }
                _ => {}
            }
            Ok(part(front, found, Some(whole)))
        }
        // An empty file has no part.
        416 if range.start == 0 && said.trim() == "bytes */0" => Ok(part(Vec::new(), 0, None)),
        _ => Err(Failure::Final(ranged.refused(answer))),
    }
}

/// Why the whole of a file did not become a temporary one.
enum NotSpooled {
    Cancelled,
    Read(std::io::Error),
    Write(std::io::Error),
}

fn spooled(http: &Http, address: &str, error: NotSpooled) -> Failure {
    match error {
        NotSpooled::Cancelled => Failure::Final(Fault::Cancelled),
        NotSpooled::Read(error) => http.broken(address, &error),
        NotSpooled::Write(error) => Failure::Final(Fault::io("write a copy in", &std::env::temp_dir(), error)),
    }
}

/// Writes `front` and what follows it to a temporary file without a name.
fn spool(front: &[u8], rest: &mut dyn Read, context: &Context) -> Result<File, NotSpooled> {
    let mut whole = tempfile::tempfile().map_err(NotSpooled::Write)?;
    whole.write_all(front).map_err(NotSpooled::Write)?;
    let mut buffer = vec![0; FRONT_BYTES as usize];
    loop {
        context.advance(0).map_err(|_| NotSpooled::Cancelled)?;
        let read = rest.read(&mut buffer).map_err(NotSpooled::Read)?;
        if read == 0 {
            return Ok(whole);
        }
        whole.write_all(buffer.get(..read).unwrap_or_default()).map_err(NotSpooled::Write)?;
    }
}

/// The range and the length of the whole in `bytes 0-99/1000`.
pub(crate) fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, length) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length) = (first.parse().ok()?, last.parse::<u64>().ok()?, length.parse().ok()?);
    (first <= last && last < length).then_some((first..last + 1, length))
}

/// A file of a repository.
#[derive(Debug, Clone)]
pub(crate) struct InRepository {
    client: Client,
    id: String,
    revision: String,
    path: String,
}

impl InRepository {
    pub(crate) fn new(client: &Client, id: &str, revision: &str, path: &str) -> Self {
        let [id, revision, path] = [id, revision, path].map(str::to_owned);
        Self { client: client.clone(), id, revision, path }
    }
}

impl Ranged for InRepository {
    fn request(&self) -> Result<Request, Fault> {
        Ok(Request::get(self.client.resolve_address(&self.id, &self.revision, &self.path)))
    }

    fn refused(&self, answer: Answer) -> Fault {
        let about = About { repository: &self.id, revision: &self.revision, path: Some(&self.path) };
        self.client.refused(answer, about, &Context::silent())
    }
}

/// A file at a web address.
#[derive(Debug)]
pub(crate) struct AtAddress(pub(crate) String);

impl Ranged for AtAddress {
    fn request(&self) -> Result<Request, Fault> {
        Ok(Request::get(&self.0))
    }

    fn refused(&self, mut answer: Answer) -> Fault {
        let (address, status) = (shown(&answer.address), answer.status);
        match status {
            404 | 410 => Fault::NotFound { address, status },
            _ => Fault::Forbidden { address, status, message: answer.said() },
        }
    }
}

impl Client {
    /// Where a file of a repository is in the cache, if it is there: that of the commit that is named.
    pub fn cached(&self, name: &RepoName) -> Option<PathBuf> {
        name.check().ok()?;
        let cache = RepoCache::new(&self.settings().cache, &name.id);
        let path = cache.pointer(&cache.commit_of(name.revision.as_deref()?)?, name.path.as_deref()?);
        path.is_file().then_some(path)
    }

    /// Opens a file of a repository, of which parts are read: from the cache, offline or by its commit, and else over the network.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn file(&self, name: &RepoName, context: &Context) -> Result<RemoteFile, Fault> {
        name.check()?;
        let revision = name.revision.as_deref().unwrap_or(DEFAULT_REVISION);
        let ranged = InRepository::new(self, &name.id, revision, name.path.as_deref().unwrap_or_default());
        let (cache, offline) = (RepoCache::new(&self.settings().cache, &name.id), self.settings().offline);
        let commit = cache.commit_of(&ranged.revision).filter(|commit| offline || *commit == ranged.revision);
        let here = commit.and_then(|commit| Some((File::open(cache.pointer(&commit, &ranged.path)).ok()?, commit)));
        if let Some((file, commit)) = here {
            return RemoteFile::cached(self.http(), ranged, file, commit, name);
        }
        if offline {
            return Err(Fault::Offline { what: name.to_string(), cache: self.settings().cache.clone() });
        }
        let mut file = RemoteFile::open(self.http(), Box::new(ranged.clone()), context)?;
        let Some(commit) = file.commit.clone() else {
            let reason = "it does not say which commit its answer is of".to_owned();
            return Err(Fault::NotAHub { address: file.address, reason });
        };
        // Whatever is published meanwhile.
        file.ranged = Box::new(InRepository { revision: commit, ..ranged });
        Ok(file)
    }

    /// Opens a file at a web address, of which parts are read.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn web(&self, address: &str, context: &Context) -> Result<RemoteFile, Fault> {
        RemoteFile::open(self.http(), Box::new(AtAddress(address.to_owned())), context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, http, serve};

    /// What comes of opening a file that these answers are given for, and of reading 10 bytes of it from `offset` on.
    fn read(answers: &[String], offset: u64) -> Result<Vec<u8>, Fault> {
        let (address, _) = serve(answers.to_vec());
        let ranged = Box::new(AtAddress(address.clone()));
        RemoteFile::open(&http(&address), ranged, &Context::silent())?.read(offset, 10, &Context::silent())
    }

    /// An answer with a part of a file of 100,000 times the letter x.
    fn part(said: &str, headers: &str, bytes: usize) -> String {
        answer("206 Partial", &format!("Content-Range: {said}\r\n{headers}"), &"x".repeat(bytes))
    }

    fn front(headers: &str) -> String {
        part("bytes 0-65535/100000", headers, 65536)
    }

    #[test]
    fn a_part_that_was_not_asked_for_is_a_fault() {
        let right = part("bytes 70000-99999/100000", "", 30_000);
        assert_eq!(read(&[front(""), right], 70_000).unwrap(), b"xxxxxxxxxx");
        for wrong in
            ["bytes 0-29999/100000", "bytes 70001-99999/100000", "bytes 70000-99999/*", "", "bytes 70000-99998/100000"]
        {
            let answers = [front(""), part(wrong, "", 30_000)];
            assert!(matches!(read(&answers, 70_000), Err(Fault::Answer { .. })), "{wrong}");
        }
        let longer = part("bytes 70000-100000/100001", "", 30_001);
        assert!(matches!(
            read(&[front(""), longer.clone()], 70_000),
            Err(Fault::Answer { .. } | Fault::Changed { .. })
        ));
        assert!(matches!(read(&[longer], 70_000), Err(Fault::Answer { .. })));
    }

    #[test]
    fn another_tag_is_a_change_also_in_an_answer_of_the_whole() {
        let whole = |headers: &str| answer("200 OK", headers, &"y".repeat(100_000));
        let right = part("bytes 70000-99999/100000", "ETag: \"1\"\r\n", 30_000);
        assert!(read(&[front("ETag: \"1\"\r\n"), right], 70_000).is_ok());
        for other in [part("bytes 70000-99999/100000", "ETag: \"2\"\r\n", 30_000), whole("ETag: \"2\"\r\n")] {
            let fault = read(&[front("ETag: \"1\"\r\n"), other], 70_000).unwrap_err();
            assert!(
                matches!(&fault, Fault::Changed { before, after, .. } if before == "\"1\"" && after == "\"2\""),
                "{fault:?}"
            );
        }
        assert_eq!(read(&[front("ETag: \"1\"\r\n"), whole("ETag: \"1\"\r\n")], 70_000).unwrap(), b"yyyyyyyyyy");
    }

    #[test]
    fn an_answer_of_the_whole_is_used_also_without_its_length() {
        let chunked = "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        let chunk = format!("{:x}\r\n{}\r\n", 50_000, "z".repeat(50_000));
        assert_eq!(read(&[chunked.clone() + &chunk + &chunk + "0\r\n\r\n"], 99_990).unwrap(), b"zzzzzzzzzz");
        assert_eq!(read(&[chunked.clone() + &chunk + "0\r\n\r\n"], 0).unwrap(), b"zzzzzzzzzz");
        // A body that ends early is asked for again.
        assert_eq!(read(&[chunked.clone() + &chunk, chunked + &chunk + "0\r\n\r\n"], 0).unwrap(), b"zzzzzzzzzz");
        let empty = answer("416 Not Satisfiable", "Content-Range: bytes */0\r\n", "");
        assert!(matches!(read(&[empty], 0), Err(Fault::Answer { .. })), "there are no 10 bytes");
    }

    #[test]
    fn a_body_without_an_end_is_a_fault() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "z".repeat(1 << 20));
            // Until nobody reads any more.
            while stream.write_all(chunk.as_bytes()).is_ok() {}
        });
        let ranged = Box::new(AtAddress(address.clone()));
        let fault = RemoteFile::open(&http(&address), ranged, &Context::silent()).unwrap_err();
        assert!(fault.to_string().contains("does not say how long it is"), "{fault}");
        thread.join().unwrap();
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((0..100, 1000)));
        for wrong in ["bytes 0-99/*", "bytes */1000", "0-99/1000", "bytes 5-4/1000", "bytes 0-1000/1000", ""] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_overlap_what_is_wanted() {
        assert_eq!(within(b"abcd", 10, 11..13), Some(&b"bc"[..]));
        assert_eq!(within(b"abcd", 10, 12..99), Some(&b"cd"[..]));
        for wanted in [9..11, 14..15, 20..30] {
            assert_eq!(within(b"abcd", 10, wanted), None);
        }
    }
}
