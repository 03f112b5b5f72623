"""Checkpoints of a training run that are kept as patches, each against the one before.

A checkpoint that lcepatch has looked at has a note beside its weights: which checkpoint its patch is against, and which files the
patch stands for. Patch and note are on the disk before the first of these files is removed. As long as all of them are there, the
checkpoint is what they hold; and as soon as one is gone, it is what the patch leads to. So whatever ends the process in
between, nothing is lost, and what is left over is removed with the next checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from lcepatch import _native
from lcepatch._patch import Name, diff, load
from lcepatch._verbs import apply
from lcepatch.errors import Error, InvalidCheckpoint, _of

NOTE = "lcepatch-checkpoint.json"
NEW_NOTE = f".{NOTE}.new"
PATCH = "model.lcepatch"
SCHEMA = 1


class Note(NamedTuple):
    """What is known of a checkpoint. One without a patch is its weights."""

    number: int = 0
    """How many patches lead to it from the first checkpoint."""
    base: str | None = None
    """The name of the checkpoint that its patch is against."""
    patch: str | None = None
    """The id of its patch."""
    files: tuple[str, ...] = ()
    """The files that its patch stands for, the first one first to go."""
    sha256: tuple[str, ...] = ()
    """Their digests when the patch was made."""


def keep_as_patch(folder: Name, anchors: int = 10) -> None:
    """Makes the patch of a checkpoint that was saved beside others (``checkpoint-N``), and removes the weights of the one before if it
    has a patch itself and is no anchor."""
    folder = _absolute(folder)
    # Its weights are what counts, whatever a training has left here before, and also if one of the next steps fails.
    _write_note(folder, Note())
    _remove_left_over(folder.parent)
    before = _before(folder)
    note = None if before is None else _note(before)
    if before is None or note is None:
        return
    patch = diff(before, folder)
    patch.save(folder / PATCH, replace=True)
    files = _files(folder)
    names, digests = tuple(path.name for path in files), tuple(map(_sha256, files))
    _write_note(folder, Note(note.number + 1, before.name, patch.id, names, digests))
    if note.patch is not None and note.number % anchors != 0:
        _check_way_back(before, note)
        _remove(before, note)


def restore(folder: Name, out: Name) -> None:
    """Writes a checkpoint with its weights to a new directory, whether it was kept with them or as a patch."""
    folder, out = _absolute(folder), _absolute(out)
    if os.path.lexists(out):
        raise _of(2, "output.exists", f"{out} exists", help="name a new directory")
    if folder in out.parents:
        raise _of(2, "usage", f"{out} is inside of the checkpoint", help="name a directory elsewhere")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lcepatch-", dir=out.parent) as scratch:
        note = _note(folder)
        weights = _files(folder) if _has_weights(folder, note) else _made(folder, note, Path(scratch))
        others = {NOTE, NEW_NOTE, PATCH, *(note.files if note is not None else ()), *(path.name for path in weights)}

        def not_copied(place: str, names: list[str]) -> set[str]:
            return others.intersection(names) if Path(place) == folder else set()

        result = Path(scratch) / "result"
        shutil.copytree(folder, result, ignore=not_copied)
        for path in weights:
            shutil.copy2(path, result / path.name)
        for place, _, names in os.walk(result):
            for name in names:
                _sync(os.path.join(place, name))
            _sync(place)
        result.rename(out)
    _sync(out.parent)


def _made(folder: Path, note: Note | None, scratch: Path) -> list[Path]:
    """The files of the weights of a checkpoint that has a patch in their place, made from the last one that has its weights."""
    start, steps = _way(folder, note)
    # Of the first, the weights alone: what lies beside them would be copied at every step.
    at = scratch / "start"
    at.mkdir()
    for path in _files(start):
        _link(path, at / path.name)
    for number, (step, expected) in enumerate(steps):
        patch = load(step / PATCH)
        if patch.id != expected:
            raise _exchanged(step)
        made = scratch / f"step-{number}"
        apply(at, patch, made, alpha=1, log=False)
        shutil.rmtree(at)
        at = made
    return _files(at)


def _way(folder: Path, note: Note | None) -> tuple[Path, list[tuple[Path, str]]]:
    """How the patch of a checkpoint leads to it: the last checkpoint that has its weights, and those from there on with the ids of
    their patches."""
    steps: list[tuple[Path, str]] = []
    while True:
        if note is None or note.base is None or note.patch is None:
            help = "restore its files, or those of a later checkpoint that has its weights"
            raise _of(6, "chain.broken", f"{folder} has neither weights nor a patch", help=help)
        if folder in [step for step, _ in steps]:
            names = " -> ".join(step.name for step, _ in reversed([*steps, (folder, "")]))
            help = f"no weights are at the beginning: correct the base in one of the files {NOTE}"
            raise _of(6, "chain.ambiguous", f"the patches of {folder.parent} lead in a circle: {names}", help=help)
        steps.append((folder, note.patch))
        folder = folder.parent / note.base
        note = _note(folder)
        if _has_weights(folder, note):
            return folder, steps[::-1]


def _check_way(folder: Path, note: Note) -> None:
    """Refuses if the patches that lead to a checkpoint are not those that were made."""
    for step, expected in _way(folder, note)[1]:
        if load(step / PATCH).id != expected:
            raise _exchanged(step)


def _check_way_back(folder: Path, note: Note) -> None:
    """Refuses if the patch of a checkpoint does not lead to the weights beside it: to those that it was made of, all of them."""
    _check_way(folder, note)
    patch = load(folder / PATCH)
    # By the digests of all tensors that it changes. If it changes none, the weights are those of its base.
    is_result = patch.check(folder).state == ("result" if patch.tensors else "base")
    if not is_result or tuple(_sha256(folder / name) for name in note.files) != note.sha256:
        message = f"{folder / PATCH} does not lead to the weights beside it"
        raise _of(6, "chain.broken", message, help="keep both, and find out what has changed the weights")


def _exchanged(step: Path) -> Error:
    return _of(6, "chain.broken", f"{step / PATCH} is not the patch that was made there", help="restore the file")


def _remove(folder: Path, note: Note) -> None:
    """Removes the files that a patch stands for."""
    for name in note.files:
        (folder / name).unlink(missing_ok=True)
        # An index goes first, for good: without it, nothing takes the shards that are left for a model.
        _sync(folder)


def _remove_left_over(run: Path) -> None:
    """Removes what is left of weights, where a process was ended while it removed them."""
    for folder in _checkpoints(run):
        note = _note(folder)
        if note is None or note.patch is None or _has_weights(folder, note):
            continue
        if any((folder / name).exists() for name in note.files):
            # Where the patch leads nowhere, part of the weights is better than nothing.
            with contextlib.suppress(Error, OSError):
                _check_way(folder, note)
                _remove(folder, note)


def _has_weights(folder: Path, note: Note | None) -> bool:
    """Whether a checkpoint is the weights that are there, and not what its patch leads to."""
    if note is not None and note.patch is not None:
        return all((folder / name).is_file() for name in note.files)
    try:
        return folder.is_dir() and bool(_files(folder))
    except InvalidCheckpoint:
        return False


def _files(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights, an index before its shards."""
    return [Path(path) for path in _native.Checkpoint.open(folder).files()]


def _before(folder: Path) -> Path | None:
    """The checkpoint before this one that has its weights."""
    earlier = [other for other in _checkpoints(folder.parent) if _step(other) < _step(folder)]
    with_weights = [other for other in earlier if _has_weights(other, _note(other))]
    return max(with_weights, key=_step, default=None)


def _checkpoints(run: Path) -> list[Path]:
    return [path for path in sorted(run.glob("checkpoint-*")) if path.is_dir() and _step(path) >= 0]


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _note(folder: Path) -> Note | None:
    path = folder / NOTE
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found = json.loads(text)
        schema = found["schema"]
        note = Note(found["number"], found["base"], found["patch"], tuple(found["files"]), tuple(found["sha256"]))
        names = [*note.files, *([] if note.base is None else [note.base])]
        plain = all(isinstance(name, str) and _is_plain(name) for name in names)
        is_known = schema == SCHEMA and isinstance(note.number, int) and isinstance(note.patch, str | None) and plain
        is_known &= (note.patch is not None) == bool(note.files) and len(note.files) == len(note.sha256)
    except (ValueError, TypeError, KeyError, RecursionError):
        is_known = False
    if not is_known:
        expected = f"expected: the note of lcepatch, with schema {SCHEMA} and names of files and of a checkpoint beside it"
        help = "remove it: the checkpoint is then the weights that are there"
        raise _of(5, "checkpoint.malformed", f"{path} is no note of a checkpoint", [expected], help)
    return note


def _absolute(name: Name) -> Path:
    path = os.path.abspath(name)
    if not _can_be(path):
        raise _of(2, "usage", f"{path!r} can be no path", help="name a directory")
    return Path(path)


def _can_be(path: str) -> bool:
    """Whether a file or directory can have this path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _is_plain(name: str) -> bool:
    """Whether it is the name of a file or directory, and no path."""
    return name not in ("", ".", "..") and _can_be(name) and Path(name).name == name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_note(folder: Path, note: Note) -> None:
    """Replaces the note, on the disk, too."""
    path = folder / NEW_NOTE
    path.write_text(json.dumps({"schema": SCHEMA, **note._asdict()}) + "\n")
    _sync(path)
    os.replace(path, folder / NOTE)
    _sync(folder)


def _link(path: Path, to: Path) -> None:
    """Gives a file another name, or copies it where that cannot be."""
    try:
        os.link(path.resolve(), to)
    except OSError:
        shutil.copy2(path, to)


def _sync(path: Name) -> None:
    """Waits until a file, or what a folder lists, is on the disk; of folders, on systems where they can be opened."""
    if os.name == "nt" and os.path.isdir(path):
        return
    opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
