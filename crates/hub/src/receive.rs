//! Receives a whole file: continued where an earlier call stopped, with tries again, checked against its digest.

use crate::Fault;
use crate::cache::free_space;
use crate::http::{Answer, Failure, Http, Tries};
use crate::listing::{Digest, Hasher};
use crate::remote::{Ranged, content_range};
use lcepatch_files::context::Context;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The most files that are received side by side.
const PARALLEL_MAX: usize = 8;
/// How many bytes are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Calls `work` for each item, on several threads. After the first failure no other item is begun, and those that are under way are told
/// to stop.
pub(crate) fn side_by_side<T: Sync>(
    http: &Http,
    items: &[T],
    context: &Context,
    work: impl Fn(&T, &Stop) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let stop = Stop { failed: AtomicBool::new(false), context };
    let run = || {
        while let Some(item) =
            items.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !stop.failed.load(Ordering::Relaxed))
        {
            if let Err(fault) = work(item, &stop) {
                // Of several the first, which the others may follow from; so that it is there before they stop.
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
                stop.failed.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..http.settings().parallel.clamp(1, PARALLEL_MAX).min(items.len()) {
            // If no thread can be started, this one does the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Says when to stop: another file failed, or someone asked to.
pub(crate) struct Stop<'a> {
    failed: AtomicBool,
    context: &'a Context<'a>,
}

impl Stop<'_> {
    /// For requests that are made meanwhile.
    pub(crate) fn context(&self) -> &Context<'_> {
        self.context
    }

    /// Reports progress.
    ///
    /// # Errors
    /// [`Fault::Cancelled`] if it is time to stop.
    pub(crate) fn advance(&self, bytes: u64) -> Result<(), Fault> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Fault::Cancelled);
        }
        Ok(self.context.advance(bytes)?)
    }
}

/// A file that is received.
pub(crate) struct Wanted<'a> {
    pub http: &'a Http,
    /// Makes the requests.
    pub ranged: &'a dyn Ranged,
    /// How messages name it.
    pub name: String,
    pub bytes: u64,
    /// What its content must be, if that is known.
    pub digest: Option<&'a Digest>,
    /// Refuses an answer of something else than this file.
    pub check: &'a dyn Fn(&Answer) -> Result<(), Fault>,
    pub stop: &'a Stop<'a>,
}

/// What is here of a file.
struct Partial<'a> {
    file: File,
    path: &'a Path,
    /// How many bytes are here.
    bytes: u64,
    /// Has seen these bytes, if there is a digest to compare.
    hasher: Option<Hasher>,
    /// How many bytes of progress were reported.
    reported: u64,
}

impl Wanted<'_> {
    /// Receives the file to `path`, where an earlier call may have left a part of it, and waits until it is on the disk. If its digest
    /// is a wrong one, it is received once more, from the beginning.
    ///
    /// # Errors
    /// [`Fault`]. What has arrived by then stays at `path`, unless it is damaged.
    pub(crate) fn receive(&self, path: &Path) -> Result<(), Fault> {
        let mut reported = 0;
        let mut found = None;
        for _ in 0..2 {
            let partial = self.receive_once(path, reported)?;
            let received = partial.hasher.map(Hasher::finish);
            if received.as_ref() == self.digest {
                return partial.file.sync_all().map_err(|error| Fault::io("sync", path, error));
            }
            reported = partial.reported;
            drop(partial.file);
            std::fs::remove_file(path).map_err(|error| Fault::io("remove", path, error))?;
            found = received;
        }
        let [expected, found] = [self.digest, found.as_ref()].map(|digest| digest.map_or("", Digest::hex).to_owned());
        Err(Fault::Digest { file: self.name.clone(), expected, found })
    }

    /// Receives what is not here yet, with tries again.
    fn receive_once<'a>(&self, path: &'a Path, reported: u64) -> Result<Partial<'a>, Fault> {
        let mut partial = self.open_partial(path, reported)?;
        let mut tries = Tries::default();
        while partial.bytes < self.bytes {
            let before = partial.bytes;
            if let Err(failure) = self.receive_more(&mut partial) {
                if partial.bytes > before {
                    tries.reset();
                }
                self.http.again(failure, &mut tries, self.stop.context)?;
            }
        }
        Ok(partial)
    }

    fn hasher(&self) -> Option<Hasher> {
        self.digest.map(|digest| Hasher::like(digest, self.bytes))
    }

    /// Opens what an earlier call received, and reads it.
    fn open_partial<'a>(&self, path: &'a Path, reported: u64) -> Result<Partial<'a>, Fault> {
        let failed = |error| Fault::io("write", path, error);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        let mut partial = Partial { file, path, bytes: 0, hasher: self.hasher(), reported };
        if partial.file.metadata().map_err(failed)?.len() > self.bytes {
            self.start_over(&mut partial)?;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match partial.file.read(&mut buffer).map_err(failed)? {
                0 => return Ok(partial),
                read => self.add(&mut partial, buffer.get(..read).unwrap_or_default())?,
            }
        }
    }

    fn start_over(&self, partial: &mut Partial) -> Result<(), Fault> {
        let failed = |error| Fault::io("write", partial.path, error);
        partial.file.set_len(0).and_then(|()| partial.file.seek(SeekFrom::Start(0))).map_err(failed)?;
        partial.bytes = 0;
        partial.hasher = self.hasher();
        Ok(())
    }

    /// Counts bytes that are in the file. Progress is reported once for each byte.
    fn add(&self, partial: &mut Partial, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(hasher) = &mut partial.hasher {
            hasher.update(bytes);
        }
        partial.bytes += bytes.len() as u64;
        let more = partial.bytes.saturating_sub(partial.reported);
        partial.reported += more;
        self.stop.advance(more)
    }

    /// One request for the rest of the content.
    fn receive_more(&self, partial: &mut Partial) -> Result<(), Failure> {
        let mut request = self.ranged.request()?;
        if partial.bytes > 0 {
            request = request.header("Range", format!("bytes={}-", partial.bytes));
        }
        let mut answer = self.http.try_once(&request, self.stop.context)?;
        let address = answer.address.clone();
        let wrong = |reason: String| Failure::Final(Fault::Answer { address: crate::address::shown(&address), reason });
        // The server has less than is here, so that what is here is of something else.
        if answer.status == 416 && partial.bytes > 0 {
            return Ok(self.start_over(partial)?);
        }
        if !matches!(answer.status, 200 | 206) {
            return Err(self.ranged.refused(answer).into());
        }
        (self.check)(&answer)?;
        // What it is of counts, not the status: some servers send a part with the status of the whole.
        match (answer.status, answer.header("content-range")) {
            (200, None) => match answer.length().filter(|length| *length != self.bytes) {
                Some(length) => {
                    return Err(wrong(format!("it is {length} bytes long, and the listing says {}", self.bytes)));
                }
                None => self.start_over(partial)?,
            },
            (_, said) => {
                let said = said.unwrap_or_default();
                if content_range(said) != Some((partial.bytes..self.bytes, self.bytes)) {
                    return Err(wrong(format!(
                        "it is of {said:?}, and bytes from {} of {} on were asked for",
                        partial.bytes, self.bytes
                    )));
                }
            }
        }
        let mut reader = answer.reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.http.broken(&address, &error)),
            };
            let left = self.bytes - partial.bytes;
            if read as u64 > left {
                return Err(wrong(format!("it is longer than {} bytes, which the listing says", self.bytes)));
            }
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                let short = || std::io::Error::other(format!("it ended {left} bytes early"));
                return if left == 0 { Ok(()) } else { Err(self.http.broken(&address, &short())) };
            }
            partial.file.write_all(bytes).map_err(|error| self.not_written(partial, error))?;
            self.add(partial, bytes)?;
        }
    }

    fn not_written(&self, partial: &Partial, error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                let path = partial.path.parent().unwrap_or(partial.path);
                let free = free_space(path).unwrap_or(0);
                Fault::DiskFull { path: path.to_owned(), needed: self.bytes - partial.bytes, free }
            }
            _ => Fault::io("write", partial.path, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::AtAddress;
    use crate::testing::{answer, http, serve};

    const CONTENT: &[u8] = b"0123456789";

    /// What comes of a file of ten bytes, of which `here` was received before, with these answers: the outcome, what is at its path
    /// afterwards, and the ranges that were asked for.
    fn receive(here: Option<&str>, answers: &[String]) -> (Result<(), Fault>, Option<Vec<u8>>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        if let Some(here) = here {
            std::fs::write(&path, here).unwrap();
        }
        let mut hasher = Hasher::sha256();
        hasher.update(CONTENT);
        let digest = hasher.finish();
        let (address, thread) = serve(answers.to_vec());
        let (http, context) = (http(&address), Context::silent());
        let outcome = side_by_side(&http, &[AtAddress(address)], &context, |ranged, stop| {
            let (name, digest) = ("file".to_owned(), Some(&digest));
            Wanted { http: &http, ranged, name, bytes: 10, digest, check: &|_| Ok(()), stop }.receive(&path)
        });
        let range = |request: String| request.lines().filter(|line| line.starts_with("range")).collect::<String>();
        (outcome, std::fs::read(path).ok(), thread.join().unwrap().into_iter().map(range).collect())
    }

    fn whole() -> String {
        answer("200 OK", "", "0123456789")
    }

    #[test]
    fn a_part_that_is_here_is_continued() {
        for status in ["206 Partial", "200 OK"] {
            let rest = answer(status, "Content-Range: bytes 4-9/10\r\n", "456789");
            let (outcome, content, ranges) = receive(Some("0123"), &[rest]);
            outcome.unwrap();
            assert_eq!((content.as_deref(), ranges.concat().as_str()), (Some(CONTENT), "range: bytes=4-"));
        }
    }

    #[test]
    fn a_server_without_ranges_is_received_from_the_beginning() {
        let (outcome, content, _) = receive(Some("0123"), &[whole()]);
        outcome.unwrap();
        assert_eq!(content.as_deref(), Some(CONTENT));
    }

    #[test]
    fn more_than_there_is_is_received_from_the_beginning() {
        for here in ["0123456789and more", "other"] {
            let shorter = answer("416 No", "", "");
            let answers = if here.len() > 10 { vec![whole()] } else { vec![shorter, whole()] };
            let (outcome, content, _) = receive(Some(here), &answers);
            outcome.unwrap();
            assert_eq!(content.as_deref(), Some(CONTENT));
        }
    }

    #[test]
    fn what_is_damaged_is_received_once_more() {
        let damaged = || answer("200 OK", "", "0123456780");
        let (outcome, content, _) = receive(Some("012X"), &[damaged(), whole()]);
        outcome.unwrap();
        assert_eq!(content.as_deref(), Some(CONTENT));
        let (outcome, content, _) = receive(None, &[damaged(), damaged()]);
        assert!(matches!(outcome, Err(Fault::Digest { .. })), "{outcome:?}");
        assert_eq!(content, None);
    }

    #[test]
    fn other_parts_and_lengths_are_refused() {
        for answered in [
            answer("206 Partial", "Content-Range: bytes 3-9/10\r\n", "3456789"),
            answer("206 Partial", "Content-Range: bytes 4-9/11\r\n", "456789"),
            answer("206 Partial", "", "456789"),
            answer("200 OK", "", "01234567890"),
            answer("200 OK", "", "012345678"),
        ] {
            let (outcome, _, _) = receive(Some("0123"), &[answered]);
            assert!(matches!(outcome, Err(Fault::Answer { .. })), "{outcome:?}");
        }
    }
}
