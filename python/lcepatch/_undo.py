"""Edits of arrays in place, and the way back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Unpack

from lcepatch import _native
from lcepatch._arguments import each_of, number
from lcepatch._arrays import Slot, refused, slots
from lcepatch._patch import EditOptions, Name, Patch, load, wishes_of
from lcepatch.errors import Error, _of

Edits = Patch | Name | Iterable[Patch | Name | tuple[Patch | Name, float | None]]
"""One patch, or several, each by name or loaded, and with its own alpha if it is not that of all."""


# Edits and their undos take turns, from the first look at the arrays to the last write: what one of them has checked, another one would
# change before it is written. They run on the same threads of the library anyway. A thread has its turn again within its turn.
_turn = threading.RLock()


def _begin_anew() -> None:
    """A process that was forked has none of its parent's threads, and waits for none of them."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


class _Written:
    """Elements that were written by position."""

    __slots__ = ("slot", "indices", "before", "after")

    def __init__(self, slot: Slot, indices: Any, before: Any, after: Any) -> None:
        self.slot, self.indices, self.before, self.after = slot, indices, before, after


class Undo:
    """The way back from an edit in place: call it, or leave the block of its ``with`` statement.

    Restores every bit that the edit has changed, and nothing else.
    """

    def __init__(self, current: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self._native = _native.Undo()
        self._slots: dict[str, Slot] = {}
        self._written: list[_Written] = []
        self._current = current
        # Other names of the same weights, and what was under such a name when it no longer was the same.
        self._twins: dict[str, list[str]] = {}
        self._untied: dict[str, list[Any]] = {}
        self._gone: list[str] = []
        self.edited: dict[str, int] = {}
        """How many elements were edited, by the name of the tensor. Weights that are tied are there once."""

    @property
    def active(self) -> bool:
        """Whether there is anything to restore."""
        return bool(self._native.names() or self._written)

    def __repr__(self) -> str:
        state = "to be undone" if self.active else "undone"
        return f"<Undo: {sum(self.edited.values())} elements in {len(self.edited)} tensors, {state}>"

    def __call__(self, *, force: bool = False) -> None:
        """Restores what the edit has changed. Does nothing the second time.

        Refuses, and restores nothing, if something else has changed the edited elements since; with ``force`` it restores them
        all the same.
        """
        with _turn:
            if not force:
                changed = self.changed()
                if changed:
                    raise _changed(changed)
            self._restore()

    def changed(self) -> list[str]:
        """The names of tensors of which something else has changed edited elements since."""
        with _turn:
            return self._find_changed()

    def _find_changed(self) -> list[str]:
        self._rebind()
        self._leave_freed()
        names = self._native.changed()
        for name in self._native.names():
            slot = self._slots[name]
            if slot.has_moved and name not in names and _fits(slot):
                positions, _ = self._held(slot)
                was = slot.on_device(slot.gather(slot.indices(positions, here=False), memory=True))
                if not slot.is_equal(slot.gather(slot.indices(positions)), was):
                    names.append(name)
        for written in self._written:
            slot = written.slot
            if written.after is not None and _fits(slot):
                now = slot.gather(slot.on_device(written.indices))
                if not slot.is_equal(now, slot.on_device(written.after)):
                    names.append(slot.name)
        return names

    def _rebind(self) -> None:
        """Takes the arrays that the model has now in place of those that it had."""
        if self._current is None:
            return
        current = self._current()
        for name, slot in self._slots.items():
            slot.array = current.get(name, slot.array)
            twins = [current[twin] for twin in self._twins.get(name, ()) if twin in current]
            self._untied[name] = [twin for twin in twins if twin.data_ptr() != slot.array.data_ptr()]

    def _leave_freed(self) -> None:
        """Of memory that was given back, as by sharding, the library must read nothing. What is in its place is written by position."""
        for name in self._native.names():
            slot = self._slots[name]
            if slot.is_freed:
                positions, bits = self._held(slot)
                at, before = slot.indices(positions, here=False), slot.bits(bits, here=False)
                self._written.append(_Written(slot, at, before, None))
                self._native.forget(name)

    def _held(self, slot: Slot) -> tuple[bytes, bytes]:
        held = self._native.held(slot.name)
        assert held is not None
        return held

    def _restore(self) -> None:
        """Restores everything. An interruption, or what else a signal's handler raises, is for afterwards."""
        interrupted: BaseException | None = None
        is_done = False
        while not is_done:
            try:
                with _turn:
                    if self.active:
                        self._restore_rest()
                    self._slots.clear()
                    is_done = True
            except KeyboardInterrupt as error:
                interrupted = error
            except BaseException as error:
                # What fails a second time cannot be done. Ctrl-C ends the program all the same.
                if isinstance(interrupted, Exception):
                    raise
                if interrupted is not None:
                    raise interrupted from error
                interrupted = error
        if interrupted is not None:
            raise interrupted
        gone, self._gone = self._gone, []
        if gone:
            names = ", ".join(sorted(set(gone)))
            message = f"{names}: of another dtype or shape than when they were edited, and so not restored"
            raise _of(6, "array.converted", message, help="undo the edit before the model is converted")

    def _restore_rest(self) -> None:
        """Restores what is not restored yet."""
        self._rebind()
        for slot in [*map(self._slots.__getitem__, self._native.names()), *(written.slot for written in self._written)]:
            if slot.is_read_only:
                raise refused("read-only", slot.name, "is read-only now", "set its flag `writeable`, and undo the edit again")
        self._leave_freed()
        for name in self._native.names():
            slot = self._slots[name]
            untied = [Slot(name, array) for array in self._untied.get(name, ()) if _fits(slot, array)]
            # The model was moved to another device, for example. Its old memory is nobody's.
            moved = [slot] if slot.has_moved and _fits(slot) else []
            if moved or untied:
                positions, bits = self._held(slot)
                for each in [*moved, *untied]:
                    each.scatter(each.indices(positions), each.bits(bits))
            if slot.has_moved:
                self._gone += [] if moved else [name]
                self._native.forget(name)
        direct = self._native.names()
        self._native.restore()
        for name in direct:
            self._slots[name].has_changed()
        while self._written:
            written = self._written[-1]
            slot = written.slot
            for each in [slot, *(Slot(slot.name, array) for array in self._untied.get(slot.name, ()))]:
                if _fits(slot, each.array):
                    each.scatter(each.on_device(written.indices), each.on_device(written.before))
                else:
                    self._gone.append(slot.name)
            self._written.pop()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                changed = self.changed() if self.active else []
            finally:
                self._restore()
        except Error as refusal:
            if error is None or isinstance(error, Exception):
                raise
            # Ctrl-C ends the program all the same.
            error.add_note(f"the edit was not undone: {refusal}")
            return
        if changed:
            import warnings

            warnings.warn(str(_changed(changed)) + "; what was there before the edit was restored", RuntimeWarning, 2)


def _changed(names: Sequence[str]) -> Error:
    first, more = names[0], f" and {len(names) - 1} more" if len(names) > 1 else ""
    message = f"{first}{more}: something else has changed edited elements since"
    return _of(6, "array.changed", message, help="undo later edits first; `force=True` restores the elements all the same")


def _fits(slot: Slot, array: Any = None) -> bool:
    """Whether what the array is now, or another one, can hold what it held."""
    try:
        now = Slot(slot.name, slot.array if array is None else array)
    except Error:
        return False
    return (now.dtype, now.shape) == (slot.dtype, slot.shape)


def apply_(patches: Edits, arrays: Mapping[str, Any], alpha: float | None = None, **options: Unpack[EditOptions]) -> Undo:
    """Edits named arrays, such as the state dict of a model, in place: ``base + alpha * (reference - base)`` at the selected weights.

    The bits are those that ``lcepatch apply`` writes to a file. Arrays are of numpy or torch, on any device; those of the CPU that
    are contiguous are edited where they are, and of all others the selected elements are. Either all arrays are edited or none.
    Weights that are tied are edited once. Quantized, sharded and meta tensors that a patch changes are refused by name.

    Without ``alpha`` each patch is applied at the alpha that it recommends, or at 1; several patches add up. The base is checked
    first: by the digest of every tensor that changes, or with ``check="quick"`` by the values at the selected weights.
    :class:`EditOptions` has this and all other options.

    Memory: for each edited element its bytes and 4 more, until the edit is undone; of arrays that are not contiguous or on other
    devices, twice its bytes and 8 more.
    """
    return edit(patches, arrays, alpha, options)


def pairs_of(patches: Edits, alpha: float | None) -> list[tuple[Patch, float | None]]:
    """Each patch, with its alpha if one was given."""
    pairs: list[tuple[Patch, float | None]] = []
    for item in each_of(patches):
        patch, own = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        own = alpha if own is None else own
        own = None if own is None else number("alpha", own)
        pairs.append((patch if isinstance(patch, Patch) else load(patch), own))
    if not pairs:
        raise _of(2, "usage", "no patch was given", help="give at least one")
    return pairs


def edit(
    patches: Edits,
    arrays: Mapping[str, Any],
    alpha: float | None,
    options: EditOptions,
    current: Callable[[], Mapping[str, Any]] | None = None,
) -> Undo:
    """Edits arrays in place. ``current`` gives those that are there when the edit is undone, if they may be others by then."""
    # A `ParameterDict` of torch is no `Mapping`, and yet can be used as one.
    if not all(hasattr(type(arrays), name) for name in ("keys", "__getitem__", "__contains__")):
        help = "give a mapping from names to arrays, such as `model.state_dict()`"
        raise _of(2, "usage", f"a {type(arrays).__qualname__} has no arrays with names", help=help)
    wishes = wishes_of(EditOptions, options)
    pairs = pairs_of(patches, alpha)
    names: dict[str, None] = {}
    for patch, _ in pairs:
        names.update(dict.fromkeys(patch._names(**wishes)))
    undo = Undo(current)
    try:
        with _turn:
            try:
                _edit(undo, pairs, slots(arrays, names), arrays, wishes)
            except BaseException:
                # Still in its turn: arrays that are edited in part are for no other edit to see.
                undo._restore()
                raise
        return undo
    except BaseException:
        # An interruption after the last step.
        undo._restore()
        raise


def _edit(
    undo: Undo, pairs: list[tuple[Patch, float | None]], own: list[Slot], arrays: Mapping[str, Any], wishes: dict[str, Any]
) -> None:
    """Edits the arrays ``own`` in place. Whatever ends it early, ``undo`` leads back."""
    _refuse_temporary(own, arrays if undo._current is None else undo._current())
    # Of tensors that are chosen, all of each is checked; by prefixes, they have other names than in the patch.
    others = any(wishes.get(wish) for wish in ("prefix", "include", "exclude"))
    _open_all(own, pairs, wishes.get("check") == "quick" and not others)
    base = _native.Checkpoint.lent([slot.native for slot in own])
    undo._slots = {slot.name: slot for slot in own}
    if undo._current is not None:
        undo._twins = _twins(own, arrays)
    _native.apply_(undo._native, base, [(patch._native, wanted) for patch, wanted in pairs], wishes)
    for name in undo._native.names():
        slot = undo._slots[name]
        undo.edited[name] = undo._native.selected(name)
        if slot.is_direct:
            slot.has_changed()
            continue
        positions, bits = undo._held(slot)
        indices, before = slot.indices(positions), slot.bits(bits)
        after = slot.on_device(slot.gather(slot.indices(positions, here=False), memory=True))
        undo._written.append(_Written(slot, indices, before, after))
        slot.scatter(indices, after)
        undo._native.forget(name)
        slot.close()
    for slot in own:
        slot.close()


def _refuse_temporary(own: list[Slot], again: Mapping[str, Any]) -> None:
    """Refuses arrays that are made when they are looked at, as numpy does with those in a file: nobody would see the edit."""
    for slot in own:
        if again[slot.name] is not slot.array and 0 not in slot.shape and Slot(slot.name, again[slot.name]).address != slot.address:
            why = "has other memory each time that it is looked at, and an edit would be lost"
            raise refused("temporary", slot.name, why, "give a dict that keeps the arrays: `arrays = dict(arrays)`")


def _twins(own: list[Slot], arrays: Mapping[str, Any]) -> dict[str, list[str]]:
    """All names of the same tensors of a model."""
    by_tensor: dict[int, list[str]] = {}
    for name, array in arrays.items():
        by_tensor.setdefault(id(array), []).append(name)
    return {slot.name: by_tensor[id(slot.array)] for slot in own}


def _open_all(own: list[Slot], pairs: list[tuple[Patch, float | None]], few: bool) -> None:
    """Opens the memory of arrays, that of each once. If ``few`` are enough, only the selected elements of strided tensors and those on other
    devices are fetched."""
    opened: dict[tuple[Any, ...], Slot] = {}
    for slot in own:
        twin = opened.setdefault(slot.key, slot)
        if twin is not slot and not slot.is_direct:
            slot.memory, slot.buffer = twin.memory, twin.buffer
            continue
        slot.open(_gathered(slot, pairs) if few and slot.is_torch and not slot.is_direct else None)


def _gathered(slot: Slot, pairs: list[tuple[Patch, float | None]]) -> Any:
    """The flat indices of the elements that patches need of a tensor; None if that is all of it."""
    import torch

    if slot.name.endswith(("_orig", "_mask")):
        return None
    found = []
    for patch, _ in pairs:
        if any(row.name == slot.name for row in patch.tensors):
            if patch._needs(slot.name):
                return None
            positions = patch._native.positions(slot.name, None)
            found.append(torch.frombuffer(bytearray(positions or b""), dtype=torch.int64))
    return torch.unique(torch.cat(found)).to(slot.array.device) if found else None
