"""Patches, and what is done with one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Unpack

from lcepatch import _native
from lcepatch._arguments import number, path_of, prefixes, texts
from lcepatch._native import Patch as Native
from lcepatch.errors import _of

if TYPE_CHECKING:
    from lcepatch._undo import Undo
    from lcepatch._verbs import Applied

Name = str | os.PathLike[str]
"""A path, a name on a hub (``org/name``, ``hf://org/name@revision/file``), or an address (``https://``, ``s3://``)."""

Base = Name | Mapping[str, Any]
"""A checkpoint by name, or named arrays of numpy or tensors of torch."""

Words = str | Iterable[str]
"""One text, or several."""

Prefixes = Mapping[str, str]
"""Prefixes of names to exchange for others, such as ``{"bert.": ""}``."""


class CheckOptions(TypedDict, total=False):
    """How a patch is compared with a base.

    - ``quick``: compare the values of the base at the selected weights only.
    - ``prefix``: prefixes of the patch's names, and the base's in their place.
    """

    quick: bool
    prefix: Prefixes | None


class SelectOptions(TypedDict, total=False):
    """Which part of a patch is meant.

    - ``include``, ``exclude``: tensors by one glob of their names, or by several.
    - ``components``: tensors by their components, such as ``attention.query``.
    - ``count`` or ``density``: how many of the elements stay, those with the largest differences.
    - ``base``: the base, where the patch needs it.
    """

    include: Words
    exclude: Words
    components: Words
    count: int | None
    density: float | None
    base: Base | None


class EditOptions(TypedDict, total=False):
    """How patches are applied.

    - ``check``: compare the base by the digest of every tensor that changes, and the result of one patch at alpha 1 by the digest that
      the patch declares (``"full"``, the default); or the base by the values at the selected weights alone (``"quick"``).
    - ``different_base``: add portable patches to what is not their base.
    - ``not_finite``: allow infinities and NaN in the result.
    - ``prefix``: prefixes of the patches' names, and the base's in their place.
    - ``include``, ``exclude``: choose tensors by one glob of the patches' names, or by several.
    """

    check: Literal["full", "quick"]
    different_base: bool
    not_finite: bool
    prefix: Prefixes | None
    include: Words
    exclude: Words


class ApplyOptions(EditOptions, total=False):
    """How patches are applied to files: all of :class:`EditOptions`, and

    - ``undo``: a file for the patch that takes the result back.
    - ``log``: whether the log of a model directory gets an entry, and an undo patch beside it (the default).
    - ``replace``: replace an existing output.
    """

    undo: Name | None
    log: bool
    replace: bool


class TensorStat(NamedTuple):
    """A tensor that a patch changes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    selected: int
    """How many of its elements the patch selects."""
    elements: int
    base_digest: str
    """BLAKE3 of its bytes in the base."""


class Fit(NamedTuple):
    """Whether a patch fits a base: it is true if it does."""

    fits: bool
    state: str
    """What the checkpoint is to the patch: ``base``, ``result``, ``reference``, ``adapter`` or ``unknown``."""
    differences: dict[str, str]
    """How tensors differ from the base's, by name."""
    decoded: int
    """How many of the patch's blocks were decoded."""
    denied: tuple[str, ...]
    """What the patch's metadata claims although it is not so."""

    def __bool__(self) -> bool:
        return self.fits


class Patch:
    """A patch. Its header was read and verified; its blocks are read when they are needed, each verified by its digest."""

    _native: Native
    _place: str | None
    id: str
    """The patch id, in hexadecimal: it names the whole content."""
    sentence: str
    """What it changes, in one sentence."""
    alpha: float
    """The alpha that is used unless another is given: the one that its author recommends, or 1."""
    metadata: dict[str, Any]
    """What its author and the diff say about it; ``docs/json.md``, the keys ``metadata`` of ``show``."""
    stat: dict[str, Any]
    """Counts by component, layer and tensor; ``docs/json.md``, the keys ``stat`` of ``show``."""
    tensors: tuple[TensorStat, ...]
    """The tensors that it changes."""

    def __init__(self, native: Native) -> None:
        if not isinstance(native, Native):
            raise _of(2, "usage", "a patch is not made in this way", help="open it with `lcepatch.load`, or make it with `lcepatch.diff`")
        self._native = native
        # Where it is, also when the working directory is another one by then.
        name = self.name
        self._place = os.path.abspath(name) if name is not None and os.path.lexists(name) else name
        described = json.loads(native.describe())
        self.id, self.sentence, self.alpha = described["id"], described["sentence"], described["alpha"]
        self.metadata, self.stat = described["metadata"], described["stat"]
        self.tensors = tuple(
            TensorStat(row["name"], row["dtype"], tuple(row["shape"]), row["selected"], row["elements"], row["base_digest"])
            for row in self.stat["tensors"]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Patch:
        """The patch whose file has these bytes."""
        return cls(_native.Patch.of_bytes(data))

    def to_bytes(self) -> bytes:
        """The bytes of its file."""
        return self._native.to_bytes()

    def __reduce__(self) -> tuple[Any, ...]:
        return Patch.from_bytes, (self.to_bytes(),)

    @property
    def name(self) -> str | None:
        """The name that it was loaded by; None if it was made here."""
        name = self._native.name
        return None if name is None else str(name)

    @property
    def selected(self) -> int:
        """How many weights it changes."""
        return int(self.stat["selected"])

    def __repr__(self) -> str:
        return f"<Patch {self.id[:12]}: {self.selected} weights in {len(self.tensors)} tensors, alpha {self.alpha:g}>"

    def show(self) -> str:
        """What ``lcepatch show`` prints about it."""
        return self._native.show()

    def _repr_html_(self) -> str:
        from html import escape

        return f"<div>{self._native.figure()}<pre>{escape(self.show())}</pre></div>"

    def save(self, path: Name, *, replace: bool = False) -> None:
        """Writes it to a new file, which appears complete or not at all."""
        self._native.save(os.fsdecode(path), replace)

    def check(self, base: Base | None = None, **options: Unpack[CheckOptions]) -> Fit:
        """Verifies every block, and compares a base with the one that the patch is for: :class:`CheckOptions` says how.

        A patch that is damaged is an error; a base that does not fit is an answer.
        """
        wishes = wishes_of(CheckOptions, options)
        opened = _open(base, self._names(**wishes))
        found = json.loads(_native.check(self._native, opened, wishes))
        fits = found["fits"] is not False
        return Fit(fits, found["state"] or "unknown", found["differences"], found["decoded"], tuple(found["denied"]))

    def apply(self, base: Base, out: Name, alpha: float | None = None, **options: Unpack[ApplyOptions]) -> Applied:
        """Writes the base with the patch; :func:`lcepatch.apply` says how."""
        from lcepatch._verbs import apply

        return apply(base, [self], out, alpha, **options)

    def apply_(self, arrays: Mapping[str, Any], alpha: float | None = None, **options: Unpack[EditOptions]) -> Undo:
        """Edits arrays in place; :func:`lcepatch.apply_` says how."""
        from lcepatch._undo import apply_

        return apply_([self], arrays, alpha, **options)

    def positions(self, tensor: str, *, base: Base | None = None) -> Any:
        """The flat indices of the elements of a tensor that it selects, ascending, as an array of numpy (int64).

        The base is needed where positions are coded with it, and the error says so.
        """
        import numpy

        found = self._native.positions(tensor, _open(base, self._names()))
        if found is None:
            raise KeyError(tensor)
        return numpy.frombuffer(found, dtype="<i8")

    def values(
        self, tensor: str, base: Mapping[str, Any], alpha: float | None = None, *, check: Literal["full", "quick"] = "full"
    ) -> Any:
        """What the selected elements of a tensor become, in the order of :meth:`positions`: an array like the base's.

        ``base`` has the tensor, which does not change.
        """
        from lcepatch._arrays import Slot
        from lcepatch._undo import apply_

        slot = Slot(tensor, base[tensor])
        positions = self._native.positions(tensor, _native.Checkpoint.lent([slot.native]) if self._needs(tensor) else None)
        if positions is None:
            raise KeyError(tensor)
        own = base[tensor].detach().clone() if slot.is_torch else base[tensor].copy()
        apply_([self], {tensor: own}, alpha, check=check, include=[_exactly(tensor)])
        return own.reshape(-1)[Slot(tensor, own).indices(positions)]

    def _needs(self, tensor: str) -> bool:
        return not self._native.is_base_free(tensor)

    def _names(self, **wishes: Any) -> list[str]:
        """The names in the base of the tensors that it changes, and of the pruning masks beside them. Of the wishes, those that
        choose tensors and exchange prefixes count."""
        names = self._native.targets(wishes)
        return names + [name.removesuffix("_orig") + "_mask" for name in names if name.endswith("_orig")]

    def invert(self, *, base: Base | None = None) -> Patch:
        """The patch from the other side."""
        return Patch(_native.invert(self._native, _open(base, self._names())))

    def select(self, **options: Unpack[SelectOptions]) -> Patch:
        """The part of it in some tensors, and of this part the largest differences: :class:`SelectOptions` says which."""
        wishes = wishes_of(SelectOptions, options)
        return Patch(_native.select(self._native, wishes, _open(wishes.pop("base", None), self._names())))

    def restrict(self, other: Patch, *, base: Base | None = None) -> Patch:
        """The part of it at the elements that another patch selects too."""
        if not isinstance(other, Patch):
            raise _of(2, "usage", "what it is restricted to is no patch", help="open it with `lcepatch.load`")
        return Patch(_native.restrict(self._native, other._native, _open(base, self._names())))


def load(name: Name, *, allowed_signers: Name | None = None, signer: str | None = None) -> Patch:
    """Opens a patch by its path or any name that the command knows. Only the header is read.

    With ``allowed_signers`` it must be signed by a key in this list, and be that of ``signer`` if one is named. Without, the list
    in the configuration of ``lcepatch`` counts, if there is one.
    """
    signers = None if allowed_signers is None else os.fsdecode(allowed_signers)
    return Patch(_native.Patch.load(path_of(name), signers, signer))


def diff(
    target: Base,
    reference: Base,
    *,
    density: float | None = None,
    count: int | None = None,
    scope: str = "global",
    random: bool = False,
    seed: int = 0,
    params: str | None = None,
    include: Words = (),
    exclude: Words = (),
    common: bool = False,
    cast: bool = False,
    prefix: Prefixes | None = None,
    portable: bool = False,
    precision: str = "exact",
    best: bool = False,
    base_model: str | None = None,
    reference_model: str | None = None,
    license: str | None = None,
    description: str | None = None,
    recommended_alpha: float | None = None,
    results: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Patch:
    """The patch that leads from ``target`` to ``reference``: of every weight that differs, or of the largest differences.

    Both are names of checkpoints, or named arrays, which are copied. ``density`` (a share) or ``count`` says how many weights are
    selected, of all candidates together or (``scope="tensor"``) of each tensor; with ``random`` they are drawn. ``params`` names
    the candidates: ``encoder-dense``, ``matrices`` or ``all``; ``include`` and ``exclude`` are globs of names.

    ``common`` leaves out tensors that only one side has, and ``cast`` rounds a reference of another float dtype. A ``portable``
    patch serves without its base. The rest is metadata. All of it is as in ``lcepatch diff --help``.
    """
    # Each argument by its name, as the library takes them: there is no second list of them that could lack one.
    wishes = _plain(locals())
    wishes |= {name: json.dumps(dict(wishes[name] or {}), ensure_ascii=False) for name in ("results", "meta")}
    return Patch(_native.diff(_copy(target), _copy(reference), wishes))


def wishes_of(kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for the library, which are those of a kind. The defaults are the library's."""
    for name in options.keys() - kind.__annotations__.keys():
        raise TypeError(f"there is no argument {name!r}; there are {', '.join(kind.__annotations__)}")
    return _plain(options)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as the library takes them."""
    wishes = {**options}
    for name in wishes.keys() & {"include", "exclude", "components"}:
        wishes[name] = texts(name, wishes[name])
    if "prefix" in wishes:
        wishes["prefix"] = prefixes(wishes["prefix"])
    if wishes.get("undo") is not None:
        wishes["undo"] = os.fsdecode(wishes["undo"])
    if wishes.get("recommended_alpha") is not None:
        wishes["recommended_alpha"] = number("recommended_alpha", wishes["recommended_alpha"])
    return wishes


def _exactly(name: str) -> str:
    """The glob that only this name matches."""
    return "".join(f"[{letter}]" if letter in "*?[]{}\\" else letter for letter in name)


def _copy(base: Base) -> _native.Checkpoint:
    if isinstance(base, Mapping):
        from lcepatch._arrays import slots

        return _native.Checkpoint.copied([slot.native for slot in slots(base)])
    return _native.Checkpoint.open(path_of(base))


def _open(base: Base | None, names: Iterable[str]) -> _native.Checkpoint | None:
    """The checkpoint of a name, or of those arrays that a patch is about."""
    if base is None:
        return None
    if isinstance(base, Mapping):
        from lcepatch._arrays import slots

        return _native.Checkpoint.lent([slot.native for slot in slots(base, dict.fromkeys(names))])
    return _native.Checkpoint.open(path_of(base))
