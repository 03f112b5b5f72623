use super::super::Existing;
use super::*;
use crate::context::{Cancelled, Context};
use lcepatch_format::digest::Digest;
use lcepatch_format::dtype::Width;
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

/// Two files with their content before and after an edit.
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

    fn begin(&self) -> NewEditJournal {
        let targets = NAMES.iter().map(|name| Editable::open(&self.path(name)).unwrap()).collect();
        let mut journal = NewEditJournal::create(targets).unwrap();
        let bytes = |at: usize| u64::from(self.after[0][at]);
        // One of them changes nothing.
        let changes = [0, 1, 7, 8, 64, 65_535, 65_536, 131_071, 150_000].map(|at| (at as u32, bytes(at)));
        let mut segments = Segments::default();
        segments.add(0, 0, Width::W1, &self.before[0], &changes);
        journal.append(&segments).unwrap();
        let words = self.after[1][16..].as_chunks().0;
        let changes = [0, 508, 509].map(|at| (at as u32, u64::from_le_bytes(words[at])));
        let mut segments = Segments::default();
        segments.add(1, 16, Width::W8, &self.before[1][16..], &changes);
        journal.append(&segments).unwrap();
        journal
    }

    fn find(&self) -> Result<Option<EditJournal>, Failed> {
        Ok(Unfinished::find(self.folder.path(), false)?.map(|found| match found {
            Unfinished::Edit(journal) => journal,
            Unfinished::Commit(commit) => panic!("{commit:?}"),
        }))
    }

    /// Recovers as `lcepatch recover` does.
    fn recover(&self) -> Result<u64, Stopped> {
        let journal = self.find()?.expect("there is a journal");
        journal.check::<Stopped>(&Context::silent())?;
        journal.put_back(&Context::silent())
    }
}

#[test]
fn edits_are_made_and_undone() {
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
    Commit::new(files.folder.path()).run(Some(&journal)).unwrap();
    assert_eq!(files.read(), files.after);
    assert_eq!(files.names(), NAMES);
}

#[test]
fn segments_that_do_not_ascend_are_refused() {
    let files = Files::new();
    let mut journal = files.begin();
    let mut segments = Segments::default();
    segments.add(1, 4000, Width::W1, &[0; 8], &[(0, 1)]);
    assert!(matches!(journal.append(&segments), Err(Failed::Damaged { .. })));
    let mut segments = Segments::default();
    segments.add(0, 150_000, Width::W1, &[0; 8], &[(0, 1)]);
    assert!(matches!(journal.append(&segments), Err(Failed::Damaged { .. })));
}

#[test]
fn a_journal_that_is_not_committed_leaves_nothing_behind() {
    let files = Files::new();
    drop(files.begin());
    assert_eq!(files.names(), NAMES);
    assert!(files.find().unwrap().is_none());
}

/// A commit with new content for both files, and a third file.
fn new_files(files: &Files) -> Commit {
    let mut commit = Commit::new(files.folder.path());
    NAMES.iter().zip(&files.after).for_each(|(name, bytes)| commit.write(name, bytes).unwrap());
    commit.write("three", b"3").unwrap();
    commit.remove(undo_name("gone"));
    commit
}

#[test]
fn new_files_are_put_in_place_together() {
    let files = Files::new();
    std::fs::write(files.path(&undo_name("gone")), b"x").unwrap();
    drop(new_files(&files));
    assert_eq!(
        (files.read(), files.names()),
        (files.before.clone(), ["lcepatch-undo-gone.lcepatch", "one", "two"].map(str::to_owned).into())
    );
    new_files(&files).run(None).unwrap();
    assert_eq!((files.read(), files.names()), (files.after.clone(), ["one", "three", "two"].map(str::to_owned).into()));
}

/// Leaves the files as a process does that is killed after `renamed` renames.
fn killed_in_a_commit(files: &Files, renamed: usize) {
    let mut renames = Vec::new();
    for (number, (name, bytes)) in NAMES.iter().zip(&files.after).enumerate() {
        let temporary = format!(".lcepatch-0-{number}.tmp");
        std::fs::write(files.path(&temporary), bytes).unwrap();
        let inode = super::inode(&files.path(&temporary).metadata().unwrap());
        renames.push(serde_json::json!({ "from": temporary, "to": name, "inode": inode }));
        if number < renamed {
            std::fs::rename(files.path(&temporary), files.path(name)).unwrap();
        }
    }
    let steps = serde_json::json!({ "rename": renames, "remove": [undo_name("gone")], "edited": [] }).to_string();
    std::fs::write(files.path(FILE_NAME), [commit::MAGIC, steps.as_bytes()].concat()).unwrap();
}

#[test]
fn an_interrupted_commit_is_finished() {
    for renamed in 0..=2 {
        let files = Files::new();
        killed_in_a_commit(&files, renamed);
        assert!(matches!(refuse_unfinished(&files.path("two")), Err(Failed::Interrupted { .. })));
        let Some(Unfinished::Commit(unfinished)) = Unfinished::find(files.folder.path(), false).unwrap() else {
            panic!("there is a commit");
        };
        unfinished.finish().unwrap();
        assert_eq!(files.read(), files.after);
        assert_eq!(files.names(), NAMES);
    }
}

#[test]
fn a_commit_of_other_files_is_refused() {
    let files = Files::new();
    killed_in_a_commit(&files, 0);
    let content = files.after[1].clone();
    std::fs::write(files.path("copy"), &content).unwrap();
    std::fs::rename(files.path("copy"), files.path(".lcepatch-0-1.tmp")).unwrap();
    assert!(matches!(Unfinished::find(files.folder.path(), false), Err(Failed::OtherFile { .. })));
    assert!(matches!(Unfinished::find(files.folder.path(), true), Ok(Some(Unfinished::Commit(_)))));
    // In a copy that lacks some of the new files, old and new ones cannot be distinguished.
    std::fs::remove_file(files.path(".lcepatch-0-0.tmp")).unwrap();
    assert!(matches!(Unfinished::find(files.folder.path(), false), Err(Failed::OtherFile { .. })));
    assert!(matches!(Unfinished::find(files.folder.path(), true), Err(Failed::Damaged { .. })));
    for (from, to) in [("../x", "two"), (".lcepatch-0-1.tmp", "../two"), ("two", "one"), (".lcepatch-0-1.tmp", "a/b")] {
        let steps =
            serde_json::json!({ "rename": [{ "from": from, "to": to, "inode": 0 }], "remove": [], "edited": [] })
                .to_string();
        std::fs::write(files.path(FILE_NAME), [commit::MAGIC, steps.as_bytes()].concat()).unwrap();
        assert!(matches!(Unfinished::find(files.folder.path(), true), Err(Failed::Damaged { .. })), "{from} {to}");
    }
}

#[cfg(unix)]
#[test]
fn a_journal_has_the_strictest_permissions_of_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let mode = |name: &str| files.path(name).metadata().unwrap().permissions().mode() & 0o777;
    for (name, mode) in NAMES.iter().zip([0o664, 0o640]) {
        std::fs::set_permissions(files.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let journal = files.begin();
    let temporary = files.names().into_iter().find(|name| super::super::is_temporary(name)).unwrap();
    assert_eq!(mode(&temporary) & 0o037, 0);
    drop(journal.commit().unwrap());
    assert_eq!(mode(FILE_NAME), 0o640);
}

#[test]
fn all_changes_before_a_crash_are_undone() {
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
fn a_truncated_or_changed_journal_is_refused() {
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
fn invalid_content_with_a_valid_digest_changes_nothing() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    let whole = std::fs::read(files.path(FILE_NAME)).unwrap();
    for at in 0..whole.len() - 32 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let end = bytes.len() - 32;
            let digest = Digest::of(&bytes[..end]);
            bytes[end..].copy_from_slice(&digest.0);
            std::fs::write(files.path(FILE_NAME), &bytes).unwrap();
            let Ok(Some(journal)) = files.find() else { continue };
            if journal.check::<Stopped>(&Context::silent()).is_ok() {
                // Then each byte is an old one, or one that the damaged journal takes for an old one.
                journal.put_back::<Stopped>(&Context::silent()).unwrap();
                files.write(&files.before);
            }
        }
    }
    assert_eq!(files.read(), files.before);
}

#[test]
fn names_that_lead_to_other_folders_are_refused() {
    for name in ["../one", "a/b", "/etc/passwd", ".", "..", "", "one/", FILE_NAME] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = edit::MAGIC.to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend([0; 16]);
        let digest = Digest::of(&bytes);
        bytes.extend(digest.0);
        std::fs::write(folder.path().join(FILE_NAME), bytes).unwrap();
        assert!(matches!(Unfinished::find(folder.path(), false), Err(Failed::Damaged { .. })), "{name:?}");
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
    assert!(matches!(files.find(), Err(Failed::Gone { .. })));
}

#[test]
fn files_that_got_more_hard_links_are_restored() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    files.write(&files.after);
    std::fs::hard_link(files.path("one"), files.path("backup")).unwrap();
    files.recover().unwrap();
    assert_eq!(files.read(), files.before);
}

#[test]
fn a_file_that_another_program_changed_is_not_edited() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    let mut other = files.before.clone();
    other[1][4095] ^= 1;
    files.write(&other);
    assert!(matches!(journal.edit(&Context::silent()), Err(Stopped::Failed(Failed::OtherFile { .. }))));
    // Bytes that the edit did not write are not restored either.
    assert!(matches!(journal.put_back(&Context::silent()), Err(Stopped::Failed(Failed::OtherFile { .. }))));
    assert_eq!(files.read(), other);
}

#[test]
fn a_renamed_file_is_recognized() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    std::fs::hard_link(files.path("one"), files.path("linked")).unwrap();
    std::fs::rename(files.path("two"), files.path("renamed")).unwrap();
    for name in ["linked", "renamed"] {
        assert!(matches!(refuse_unfinished(&files.path(name)), Err(Failed::Interrupted { .. })), "{name}");
    }
}

#[test]
fn temporary_files_of_a_journal_are_not_abandoned() {
    let files = Files::new();
    let dead = format!("{}dead.tmp", *super::super::temporary::PREFIX);
    std::fs::write(files.path(&dead), b"x").unwrap();
    assert_eq!(super::super::abandoned(files.folder.path()), [files.path(&dead)]);
    drop(files.begin().commit().unwrap());
    assert_eq!(super::super::abandoned(files.folder.path()), Vec::<PathBuf>::new());
    files.recover().unwrap();
    super::super::write_file(&files.path("three"), b"3", Existing::Keep).unwrap();
    assert_eq!(files.names(), ["one", "three", "two"]);
}

#[test]
fn files_that_another_process_is_changing_are_left_alone() {
    let files = Files::new();
    let journal = files.begin().commit().unwrap();
    let locked = std::fs::File::open(files.path("two")).unwrap();
    locked.lock().unwrap();
    assert!(matches!(files.find(), Err(Failed::InUse { .. })));
    drop(locked);
    std::fs::write(files.path("three"), "").unwrap();
    refuse_unfinished(&files.path("three")).unwrap();
    let create = || NewEditJournal::create(vec![Editable::open(&files.path("three")).unwrap()]);
    drop(journal);
    assert!(matches!(refuse_unfinished(&files.path("two")), Err(Failed::Interrupted { .. })));
    assert!(matches!(create(), Err(Failed::Interrupted { .. })));
    files.recover().unwrap();
    refuse_unfinished(&files.path("two")).unwrap();
    create().unwrap();
}

#[test]
fn a_second_journal_in_the_same_folder_is_refused() {
    let files = Files::new();
    let (first, second) = (files.begin(), files.begin());
    let journal = first.commit().unwrap();
    assert!(matches!(second.commit(), Err(Failed::Interrupted { .. })));
    journal.edit::<Stopped>(&Context::silent()).unwrap();
    Commit::new(files.folder.path()).run(Some(&journal)).unwrap();
    assert_eq!(files.names(), NAMES);
}

#[test]
fn a_copied_journal_is_accepted_only_with_the_copied_option() {
    let files = Files::new();
    drop(files.begin().commit().unwrap());
    files.write(&files.after);
    for name in NAMES {
        std::fs::copy(files.path(name), files.path("copy")).unwrap();
        std::fs::rename(files.path("copy"), files.path(name)).unwrap();
    }
    assert!(matches!(files.find(), Err(Failed::OtherFile { .. })));
    let Some(Unfinished::Edit(journal)) = Unfinished::find(files.folder.path(), true).unwrap() else {
        panic!("there is an edit");
    };
    journal.put_back::<Stopped>(&Context::silent()).unwrap();
    assert_eq!(files.read(), files.before);
}

#[test]
fn cancellation_stops_the_edit_and_leaves_the_undo_possible() {
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
fn links_and_files_with_several_hard_links_are_not_edited() {
    let files = Files::new();
    std::os::unix::fs::symlink(files.path("one"), files.path("link")).unwrap();
    assert!(Editable::open(&files.path("link")).is_none());
    std::fs::hard_link(files.path("one"), files.path("other")).unwrap();
    assert!(Editable::open(&files.path("one")).is_none());
    assert!(Editable::open(&files.path("two")).is_some());
}
