use super::*;
use std::sync::atomic::AtomicBool;

#[derive(Debug)]
enum Stopped {
    Failed(Failed),
    Cancelled,
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl From<Cancelled> for Stopped {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Two files, and what shall become of them.
struct Files {
    folder: tempfile::TempDir,
    before: [Vec<u8>; 2],
    after: [Vec<u8>; 2],
}

const NAMES: [&str; 2] = ["one", "two"];

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Longer than a segment of bytes, and of an odd length.
        let before: [Vec<u8>; 2] =
            [150_001, 4096].map(|n| (0..n).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect());
        let mut after = before.clone();
        for at in [0, 1, 7, 64, 65_535, 65_536, 131_071, 150_000] {
            after[0][at] ^= 0x55;
        }
        for at in [16, 23, 4080, 4095] {
            after[1][at] ^= 0xff;
        }
        let files = Self { folder, before, after };
        files.write(&files.before);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, content: &[Vec<u8>; 2]) {
        NAMES.iter().zip(content).for_each(|(name, bytes)| std::fs::write(self.path(name), bytes).unwrap());
    }

    fn read(&self) -> [Vec<u8>; 2] {
        NAMES.map(|name| std::fs::read(self.path(name)).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn begin(&self) -> NewJournal {
        let targets = NAMES.iter().map(|name| Editable::open(&self.path(name)).unwrap()).collect();
        let journal = NewJournal::create(targets).unwrap();
        let bytes = |at: usize| u64::from(self.after[0][at]);
        // One of them changes nothing.
        let changes = [0, 1, 7, 8, 64, 65_535, 65_536, 131_071, 150_000].map(|at| (at as u32, bytes(at)));
        journal.note(0, 0, 1, &self.before[0], &changes).unwrap();
        let words = self.after[1][16..].as_chunks().0;
        let changes = [0, 508, 509].map(|at| (at as u32, u64::from_le_bytes(words[at])));
        journal.note(1, 16, 8, &self.before[1][16..], &changes).unwrap();
        journal
    }

    fn find(&self) -> Result<Option<Journal>, Failed> {
        Journal::find(&self.path("one"))
    }

    /// As `lcepatch recover` does it.
    fn recover(&self) -> Result<u64, Stopped> {
        let journal = self.find()?.expect("there is a journal");
        journal.check::<Stopped>(&Context::silent())?;
        journal.put_back(&Context::silent())
    }
}

#[test]
fn edits_are_made_and_taken_back() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    assert_eq!(files.read(), files.before);
    journal.edit::<Stopped>(&Context::silent()).unwrap();
    assert_eq!(files.read(), files.after);
    assert_eq!(journal.put_back::<Stopped>(&Context::silent()).unwrap(), 11);
    assert_eq!(files.read(), files.before);
    assert_eq!(files.names(), NAMES);

    let journal = files.begin().commit().unwrap();
    journal.edit::<Stopped>(&Context::silent()).unwrap();
    journal.finish().unwrap();
    assert_eq!(files.read(), files.after);
    assert_eq!(files.names(), NAMES);
}

#[test]
fn one_that_is_not_committed_leaves_nothing() {
    let files = Files::new();
    drop(files.begin());
    assert_eq!(files.names(), NAMES);
    assert!(files.find().unwrap().is_none());
}

#[test]
fn whatever_was_written_before_a_crash_is_put_back() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    let bytes = files.before[0].len();
    // Any prefix of either file, and single bytes of a unit.
    for [first, second] in [[0, 0], [8, 0], [65_536, 4096], [bytes, 20], [bytes, 4096], [0, 17]] {
        let mut torn = files.before.clone();
        torn[0][..first].copy_from_slice(&files.after[0][..first]);
        torn[1][..second].copy_from_slice(&files.after[1][..second]);
        files.write(&torn);
        let saved = std::fs::read(files.path(FILE_NAME)).unwrap();
        assert_eq!(files.recover().unwrap(), 11);
        assert_eq!(files.read(), files.before);
        assert_eq!(files.names(), NAMES);
        std::fs::write(files.path(FILE_NAME), saved).unwrap();
    }
}

#[test]
fn a_journal_that_is_cut_or_changed_is_not_believed() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    let whole = std::fs::read(files.path(FILE_NAME)).unwrap();
    files.write(&files.after);
    for end in 0..whole.len() {
        std::fs::write(files.path(FILE_NAME), &whole[..end]).unwrap();
        assert!(matches!(files.find(), Err(Failed::Damaged { .. })), "{end}");
        assert!(matches!(refuse_unfinished(&files.path("one")), Err(Failed::Interrupted { .. })), "{end}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(files.path(FILE_NAME), &bytes).unwrap();
        assert!(matches!(files.find(), Err(Failed::Damaged { .. })), "{at}");
    }
    assert_eq!(files.read(), files.after);
}

#[test]
fn invalid_content_under_a_right_digest_changes_nothing() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    let whole = std::fs::read(files.path(FILE_NAME)).unwrap();
    for at in 0..whole.len() - 32 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let end = bytes.len() - 32;
            let digest = Digest::sha256(&bytes[..end]);
            bytes[end..].copy_from_slice(&digest.0);
            std::fs::write(files.path(FILE_NAME), &bytes).unwrap();
            let Ok(Some(journal)) = files.find() else { continue };
            if journal.check::<Stopped>(&Context::silent()).is_ok() {
                // Then every old byte is there already, or a new one that is taken for it.
                journal.put_back::<Stopped>(&Context::silent()).unwrap();
                files.write(&files.before);
            }
        }
    }
    assert_eq!(files.read(), files.before);
}

#[test]
fn names_lead_nowhere_else() {
    for name in ["../one", "a/b", "/etc/passwd", ".", "..", "", "one/", FILE_NAME] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(0u64.to_le_bytes());
        let digest = Digest::sha256(&bytes);
        bytes.extend(digest.0);
        std::fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
        assert!(matches!(Journal::find(&folder.path().join("one")), Err(Failed::Damaged { .. })), "{name:?}");
    }
}

#[test]
fn other_files_are_left_alone() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    let mut other = files.before.clone();
    other[1][16] ^= 0x0f;
    files.write(&other);
    assert!(matches!(files.recover(), Err(Stopped::Failed(Failed::OtherFile { .. }))));
    assert_eq!(files.read(), other);
    other[1].push(0);
    files.write(&other);
    assert!(matches!(files.find(), Err(Failed::OtherFile { .. })));
    std::fs::remove_file(files.path("two")).unwrap();
    assert!(matches!(files.find(), Err(Failed::OtherFile { .. })));
}

#[test]
fn a_file_that_changed_under_the_edit_is_not_edited() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    let mut other = files.before.clone();
    other[1][4095] ^= 1;
    files.write(&other);
    assert!(matches!(journal.edit(&Context::silent()), Err(Stopped::Failed(Failed::OtherFile { .. }))));
}

#[test]
fn one_process_edits_at_a_time_and_no_one_reads_meanwhile() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    assert!(matches!(files.find(), Err(Failed::InUse { .. })));
    assert!(matches!(refuse_unfinished(&files.path("two")), Err(Failed::InUse { .. })));
    std::fs::write(files.path("three"), "").unwrap();
    refuse_unfinished(&files.path("three")).unwrap();
    let create = || NewJournal::create(vec![Editable::open(&files.path("three")).unwrap()]);
    assert!(matches!(create(), Err(Failed::InUse { .. })));
    drop(journal);
    assert!(matches!(refuse_unfinished(&files.path("two")), Err(Failed::Interrupted { .. })));
    assert!(matches!(create(), Err(Failed::Interrupted { .. })));
    files.recover().unwrap();
    refuse_unfinished(&files.path("two")).unwrap();
    create().unwrap();
}

#[test]
fn of_two_that_begin_one_comes_first() {
    let files = Files::new();
    let (first, second) = (files.begin(), files.begin());
    let journal = first.commit().unwrap();
    assert!(matches!(second.commit(), Err(Failed::InUse { .. })));
    journal.edit::<Stopped>(&Context::silent()).unwrap();
    journal.finish().unwrap();
    assert_eq!(files.names(), NAMES);
}

#[test]
fn an_interruption_stops_the_edit_and_not_what_takes_it_back() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    let cancelled = AtomicBool::new(true);
    let context = Context::new(&crate::context::Silent, &cancelled);
    assert!(matches!(journal.edit(&context), Err(Stopped::Cancelled)));
    journal.put_back::<Stopped>(&Context::silent()).unwrap();
    assert_eq!(files.read(), files.before);
}

#[cfg(unix)]
#[test]
fn links_and_files_of_several_names_are_not_edited() {
    let files = Files::new();
    std::os::unix::fs::symlink(files.path("one"), files.path("link")).unwrap();
    assert!(Editable::open(&files.path("link")).is_none());
    std::fs::hard_link(files.path("one"), files.path("other")).unwrap();
    assert!(Editable::open(&files.path("one")).is_none());
    assert!(Editable::open(&files.path("two")).is_some());
}
