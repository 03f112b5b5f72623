"""Patches for models of torch and transformers: edits of a loaded model, and checkpoints of a training as patches.

>>> from lcepatch.transformers import apply_patch
>>> with apply_patch(model, "org/patches", alpha=-2):
...     model.generate(...)
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lcepatch._patch import Name, Prefixes, diff, load
from lcepatch._undo import Edits, Undo, _apply
from lcepatch._verbs import apply
from lcepatch.errors import Error, _of

try:
    from transformers import TrainerCallback as _Callback
except ImportError:
    _Callback = object

__all__ = ["PatchCheckpoints", "apply_patch", "restore", "tensors"]

# What torch puts into names: by compiling, by sharding, by recomputing activations.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def tensors(model: Any) -> dict[str, Any]:
    """The tensors of a model by the names that they have in files: its own, and where nothing else has it, its own without what
    wrappers add (``_orig_mod.``, ``module.``), and with and without the prefix of its base model (``bert.``)."""
    own: dict[str, Any] = model.state_dict(keep_vars=True)
    named = dict(own)

    def add(name: str, tensor: Any) -> None:
        if named.setdefault(name, tensor) is not tensor:
            clashes.add(name)

    clashes: set[str] = set()
    for name, tensor in own.items():
        parts = [part for part in name.split(".") if part not in _WRAPPERS]
        add(".".join(parts), tensor)
        while parts and parts[0] == "module":
            parts = parts[1:]
            add(".".join(parts), tensor)
    prefix = _base_model_prefix(model)
    if prefix:
        for name, tensor in list(named.items()):
            add(name[len(prefix) :] if name.startswith(prefix) else prefix + name, tensor)
    # What two tensors could be called is the name of neither.
    return {name: tensor for name, tensor in named.items() if name in own or name not in clashes}


def _base_model_prefix(model: Any) -> str:
    inner = model
    while not getattr(inner, "base_model_prefix", "") and any(hasattr(inner, name) for name in ("_orig_mod", "module")):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    prefix = getattr(inner, "base_model_prefix", "")
    return f"{prefix}." if isinstance(prefix, str) and prefix else ""


def apply_patch(
    model: Any,
    patches: Edits,
    alpha: float | None = None,
    *,
    check: str = "full",
    different_base: bool = False,
    not_finite: bool = False,
    prefix: Prefixes | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Undo:
    """Edits a loaded model in place, as :func:`lcepatch.apply_` edits arrays. In a ``with`` statement, for the block only.

    The model then has, bit for bit, the weights of the file that ``lcepatch apply`` writes. Leaving the block, also by an exception,
    restores every bit. If the model is moved to another device meanwhile, its weights there are restored.
    """

    def current() -> Mapping[str, Any]:
        return tensors(model)

    return _apply(
        patches, current(), alpha, check, different_base, not_finite, prefix, include, exclude, current=current
    )


_NOTE = "lcepatch-checkpoint.json"
_PATCH = "model.lcepatch"
_SCHEMA = 1
# The note of a checkpoint that keeps its weights and is a patch against no other.
_ANCHOR: dict[str, Any] = {"schema": _SCHEMA, "number": 0, "base": None, "patch": None}


class PatchCheckpoints(_Callback):  # type: ignore[misc] # a class of transformers, or object
    """A callback of ``transformers.Trainer`` that keeps checkpoints as patches against the one before.

    Every ``anchors``-th checkpoint keeps its weights, and so does the newest one, from which a training can be resumed. Of the others
    the weights are replaced by the exact patch from the checkpoint before, once the next one is there. :func:`restore` gives the
    weights of any of them back, byte for byte.

    >>> Trainer(model, arguments, train_dataset=data, callbacks=[PatchCheckpoints(anchors=10)])
    """

    def __init__(self, anchors: int = 10) -> None:
        if _Callback is object:
            raise _of(8, "package.missing", "transformers is not installed", help="pip install transformers")
        if anchors < 1:
            raise _of(2, "usage", f"anchors cannot be {anchors}", help="give 1 or more")
        self.anchors = anchors

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Refuses settings of the trainer that delete checkpoints which others need."""
        if args.save_total_limit is not None:
            help = "leave save_total_limit out: patches are small"
            raise _of(2, "usage", "save_total_limit deletes checkpoints that later ones are patches against", help=help)
        if args.load_best_model_at_end:
            help = "leave it out, and restore the best checkpoint with lcepatch.transformers.restore"
            raise _of(2, "usage", "load_best_model_at_end reads a checkpoint that may be a patch by then", help=help)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Makes the patch of the checkpoint that was saved, and removes the weights of the one before. If that cannot be done, both keep
        theirs, which the logger ``lcepatch`` says: a training does not end for it."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        try:
            keep_as_patch(folder, self.anchors)
        except (Error, OSError) as error:
            logging.getLogger("lcepatch").warning("%s keeps its weights: %s", folder, error)
            if folder.is_dir():
                _write_note(folder, _ANCHOR)


def keep_as_patch(folder: Name, anchors: int = 10) -> None:
    """Makes the patch of a checkpoint that was saved beside others (``checkpoint-N``), and removes the weights of the one before if it
    has a patch itself and is no anchor."""
    folder = Path(folder)
    before = _before(folder)
    note = _note(before) if before is not None else None
    if before is None or note is None:
        _write_note(folder, _ANCHOR)
        return
    patch = diff(before, folder)
    patch.save(folder / _PATCH, replace=True)
    number = int(note["number"]) + 1
    _write_note(folder, {"schema": _SCHEMA, "number": number, "base": before.name, "patch": patch.id})
    if note["patch"] is not None and int(note["number"]) % anchors != 0:
        # The patch that stays in their place must lead to them, by their digests.
        own = load(before / _PATCH)
        if own.id != note["patch"] or (own.tensors and own.check(before).state != "result"):
            raise _of(6, "checkpoint.malformed", f"{before / _PATCH} does not lead to the weights beside it", help="keep both")
        for path in _weight_files(before):
            path.unlink()


def restore(folder: Name, out: Name) -> None:
    """Writes a checkpoint with its weights to a new directory, whether it was kept with them or as a patch."""
    folder, out = Path(folder), Path(out)
    if out.exists():
        raise _of(2, "output.exists", f"{out} exists", help="name a new directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        weights = _weights_of(folder, Path(scratch))
        result = Path(scratch) / "result"
        shutil.copytree(folder, result, ignore=shutil.ignore_patterns(_NOTE, _PATCH, "*.safetensors", "*.safetensors.index.json"))
        for path in _weight_files(weights):
            shutil.copy2(path, result / path.name)
        result.rename(out)


def _weights_of(folder: Path, scratch: Path) -> Path:
    """A directory with the weights of a checkpoint: its own, or one that is made from the last that has its weights."""
    chain: list[Path] = []
    while not _weight_files(folder):
        note = _note(folder)
        if note is None or note["base"] is None:
            raise _of(6, "checkpoint.malformed", f"{folder} has neither weights nor a patch", help="restore its files")
        chain.append(folder)
        folder = folder.parent / str(note["base"])
    for number, step in enumerate(reversed(chain)):
        made = scratch / f"step-{number}"
        patch = load(step / _PATCH)
        expected = (_note(step) or {}).get("patch")
        if patch.id != expected:
            raise _of(6, "checkpoint.malformed", f"{step / _PATCH} is not the patch that was made there", help="restore it")
        apply(folder, patch, made, alpha=1, log=False)
        if folder.parent == scratch:
            shutil.rmtree(folder)
        folder = made
    return folder


def _before(folder: Path) -> Path | None:
    """The checkpoint before this one that has its weights."""
    step = _step(folder)
    others = [path for path in folder.parent.glob("checkpoint-*") if path.is_dir() and 0 <= _step(path) < step]
    with_weights = [path for path in others if _weight_files(path)]
    return max(with_weights, key=_step, default=None)


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _weight_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")])


def _note(folder: Path) -> dict[str, Any] | None:
    try:
        text = (folder / _NOTE).read_text()
    except FileNotFoundError:
        return None
    note: dict[str, Any] = json.loads(text)
    return note


def _write_note(folder: Path, note: Mapping[str, Any]) -> None:
    path = folder / f".{_NOTE}.new"
    path.write_text(json.dumps(note) + "\n")
    os.replace(path, folder / _NOTE)
