"""Patches for models of torch and transformers: edits of a loaded model, and checkpoints of a training as patches.

>>> from lcepatch.transformers import apply_patch
>>> with apply_patch(model, "org/patches", alpha=-2):
...     model.generate(...)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from lcepatch._checkpoints import keep_as_patch, restore
from lcepatch._patch import EditOptions
from lcepatch._undo import Edits, Undo, edit
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


def apply_patch(model: Any, patches: Edits, alpha: float | None = None, **options: Unpack[EditOptions]) -> Undo:
    """Edits a loaded model in place, as :func:`lcepatch.apply_` edits arrays. In a ``with`` statement, for the block only.

    The model then has, bit for bit, the weights of the file that ``lcepatch apply`` writes. Leaving the block, also by an exception,
    restores every bit. If the model is moved to another device meanwhile, its weights there are restored.
    """

    if not hasattr(model, "state_dict"):
        message = f"a {type(model).__qualname__} is no model"
        raise _of(2, "usage", message, help="give a model of torch; arrays of a dict are edited by `lcepatch.apply_(patches, arrays)`")

    def current() -> Mapping[str, Any]:
        return tensors(model)

    return edit(patches, current(), alpha, options, current)


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
        """Makes the patch of the checkpoint that was saved, and removes the weights of the one before. If that cannot be done, for
        whatever reason, both keep theirs, which the logger ``lcepatch`` says: a training does not end for it."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        try:
            keep_as_patch(folder, self.anchors)
        except Exception as error:
            # Of what is not foreseen, the log says where it came from.
            trace = not isinstance(error, Error | OSError)
            logging.getLogger("lcepatch").warning("no weights were removed for %s: %s", folder, error, exc_info=trace)
