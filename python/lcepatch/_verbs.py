"""Verbs on files, places and several patches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

from lcepatch import _native
from lcepatch._arguments import each_of, number, path_of
from lcepatch._patch import (
    ApplyOptions,
    Base,
    CheckOptions,
    Fit,
    Name,
    Patch,
    SelectOptions,
    _open,
    load,
    wishes_of,
)
from lcepatch._undo import Edits, pairs_of
from lcepatch.errors import Error, NotSigned, _of


class Applied(NamedTuple):
    """What an apply has done."""

    edited: int
    """How many weights were edited."""
    tensors: int
    verified: bool
    """Whether the result was compared with the digest that the patch declares."""
    is_reference: bool
    """Whether every byte of the result's files is that of the patch's reference."""
    different_base: bool
    undo: str | None
    """The undo patch that was written."""
    left_behind: tuple[str, ...]
    """Files of the base that were not copied, since they hold its weights in another format or again."""
    unreadable: tuple[str, ...]
    """Files of the base that were not copied, since they cannot be read."""
    digests: dict[str, str]
    """BLAKE3 of the edited tensors, of what was read back."""


class Combined(NamedTuple):
    """The sum of patches."""

    patch: Patch
    selected: int
    """How many elements any patch selects."""
    overlapping: int
    """How many several patches select."""
    conflicting: int
    """How many they move in both directions."""


class Found(NamedTuple):
    """A published patch."""

    place: str
    file: str
    id: str
    fits: bool
    state: str
    """What the checkpoint is to it: ``base``, ``result``, ``reference`` or ``unknown``."""


def apply(base: Base, patches: Edits, out: Name, alpha: float | None = None, **options: Unpack[ApplyOptions]) -> Applied:
    """Writes a checkpoint with patches, as ``lcepatch apply`` does, to a new file or directory, which appears complete or not at all.

    Several patches add up. Without ``alpha``, each is applied at the alpha that it recommends, or at 1. :class:`ApplyOptions` has
    all options.
    """
    if isinstance(base, Mapping):
        raise _of(2, "usage", "apply writes files, and the base is a mapping", help="use apply_ to edit arrays in place")
    wishes = wishes_of(ApplyOptions, options)
    pairs = [(patch._native, own) for patch, own in pairs_of(patches, alpha)]
    done = json.loads(_native.apply(_native.Checkpoint.open(path_of(base)), pairs, os.fsdecode(out), wishes))
    done |= {name: tuple(done[name]) for name in ("left_behind", "unreadable")}
    return Applied(**done)


def check(patch: Patch | Name, base: Base | None = None, **options: Unpack[CheckOptions]) -> Fit:
    """Whether a patch is intact, and fits a base; :meth:`Patch.check` says how."""
    return _loaded(patch).check(base, **options)


def combine(patches: Edits, *, base: Base | None = None, ties: bool = False) -> Combined:
    """The patch that gives what patches of one base give together, each at its weight; without one, at the alpha that it recommends.

    ``ties`` leaves out the terms that are against the sign of the sum.
    """
    pairs = pairs_of(patches, None)
    opened = _open(base, [name for patch, _ in pairs for name in patch._names()])
    patch, *counts = _native.combine([(patch._native, own) for patch, own in pairs], opened, ties)
    return Combined(Patch(patch), *counts)


def invert(patch: Patch | Name, *, base: Base | None = None) -> Patch:
    """The patch from the other side."""
    return _loaded(patch).invert(base=base)


def squash(first: Patch | Name, second: Patch | Name, *, base: Base | None = None) -> Patch:
    """The patch that does what ``second`` does to the result of ``first``. ``base`` is that of the first."""
    one, two = _loaded(first), _loaded(second)
    return Patch(_native.squash(one._native, two._native, _open(base, [*one._names(), *two._names()])))


def select(patch: Patch | Name, **options: Unpack[SelectOptions]) -> Patch:
    """A part of a patch; :meth:`Patch.select` says how."""
    return _loaded(patch).select(**options)


def compare(first: Patch | Name, second: Patch | Name, *, base: Base | None = None) -> dict[str, Any]:
    """How alike two patches are, in all and by component: counts, Jaccard index and cosine."""
    one, two = _loaded(first), _loaded(second)
    opened = _open(base, [*one._names(), *two._names()])
    found: dict[str, Any] = json.loads(_native.compare(one._native, two._native, opened))
    return found


def push(
    patches: Patch | Name | Iterable[Patch | Name],
    place: Name,
    *,
    private: bool = False,
    message: str | None = None,
    dry_run: bool = False,
    replace: bool = False,
) -> dict[str, Any]:
    """Publishes patches: to a repository ``org/name`` of a hub, to ``s3://bucket/prefix``, or to a directory.

    The answer is that of ``lcepatch push --json``.
    """
    import tempfile

    each = each_of(patches)
    for patch in each:
        if isinstance(patch, Patch) and patch.name is None:
            raise _of(2, "usage", "the patch has no file, which would give it its name", help="save it, and give the path")
    words = [*_flag("--private", private), *_flag("--dry-run", dry_run), *_flag("--force", replace), "--yes"]
    words += _option("--message", message)
    with tempfile.TemporaryDirectory() as folder:
        files = [_file_of(patch, os.path.join(folder, str(at))) for at, patch in enumerate(each)]
        answer = _answer("push", words, [*files, path_of(place)])
    answer["patches"] = [patch.name if isinstance(patch, Patch) else path_of(patch) for patch in each]
    return answer


def pull(
    place: Name,
    out: Name,
    *,
    model: Name | None = None,
    to: str | None = None,
    squash: bool = False,
    replace: bool = False,
    allowed_signers: Name | None = None,
) -> dict[str, Any]:
    """Fetches published patches to the folder ``out``, or brings ``model`` to its last version, which is written to ``out``.

    ``to`` names the last patch, by file or id. The answer is that of ``lcepatch pull --json``.
    """
    words = [*_flag("--squash", squash), *_flag("--force", replace), *_option("--output", os.fsdecode(out))]
    words += [*_option("--for", model), *_option("--to", to), *_option("--require-signature", allowed_signers)]
    return _answer("pull", words, [path_of(place)])


def find(model: Name, place: Name | None = None) -> list[Found]:
    """The published patches for a checkpoint, those that fit first: in a place, or in those that a hub knows."""
    rows = _answer("find", _option("--in", place), [path_of(model)])["patches"]
    found = [Found(row["place"], row["file"], row["id"], row["fits"], row["state"]) for row in rows]
    return sorted(found, key=lambda row: not row.fits)


def verify(
    model: Name,
    patches: Patch | Name | Iterable[Patch | Name] = (),
    *,
    alpha: float | Iterable[float] | None = None,
    options: Sequence[str] = (),
    **measures: Any,
) -> dict[str, Any]:
    """Measures a model as it is and with patches, as ``lcepatch verify`` does, and returns its report.

    ``measures`` are flags of the command without their dashes, such as ``weat="6,7,8"``, ``crows_pairs="pairs.csv"``,
    ``perplexity="heldout.txt"`` or ``kl=True``; ``options`` are more words of the command line. Computing needs ONNX Runtime: the
    extra ``lcepatch[verify]``, or ``lcepatch runtime install``.
    """
    import tempfile

    from lcepatch._command import runtime_of_python

    words = list(options)
    for name, value in measures.items():
        flag = "--" + name.replace("_", "-")
        words += _flag(flag, value) if isinstance(value, bool) else _option(flag, value)
    if alpha is not None:
        is_one = isinstance(alpha, str | bytes | bytearray) or getattr(alpha, "ndim", 1) == 0 or not isinstance(alpha, Iterable)
        alphas: Iterable[Any] = [alpha] if is_one else alpha  # type: ignore[assignment]
        words.append("--alpha=" + ",".join(repr(number("alpha", one)) for one in alphas))
    with runtime_of_python(), tempfile.TemporaryDirectory() as folder:
        for at, patch in enumerate(each_of(patches)):
            words += _option("--patch", _file_of(patch, os.path.join(folder, str(at))))
        return _answer("verify", words, [path_of(model)])


def _answer(verb: str, words: list[str], names: list[str]) -> dict[str, Any]:
    """The answer of a command."""
    _, text = _native.answer([verb, "--json", *words, "--", *names])
    answer: dict[str, Any] = json.loads(text)
    return answer


def _flag(name: str, is_set: bool) -> list[str]:
    return [name] if is_set else []


def _option(name: str, value: Any) -> list[str]:
    return [] if value is None else [f"{name}={path_of(value) if isinstance(value, bytes | os.PathLike) else value}"]


def _loaded(patch: Patch | Name) -> Patch:
    return patch if isinstance(patch, Patch) else load(patch)


def _file_of(patch: Patch | Name, folder: str) -> str:
    """The name of a patch's file; if it is not there, or has become another one, that of a copy in a new folder."""
    if not isinstance(patch, Patch):
        return path_of(patch)
    place = patch._place
    if place is not None:
        try:
            if load(place).id == patch.id:
                name = patch.name or place
                return name if os.path.exists(name) and os.path.samefile(name, place) else place
        except NotSigned:
            # A copy would have no signature, and one is required.
            raise
        except Error:
            # There is no such patch any more.
            pass
    if place is not None and os.path.exists(f"{place}.sig"):
        message = f"the file {place} is not the patch that was loaded from it any more, and a signature lies beside it"
        raise _of(2, "usage", message, help="save the patch to a new file, put its signature beside that, and give its path")
    os.mkdir(folder)
    copy = os.path.join(folder, os.path.basename(place or "patch.lcepatch"))
    patch.save(copy)
    return copy
