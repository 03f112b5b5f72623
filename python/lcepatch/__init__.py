"""Small, exact, verifiable patches between model checkpoints.

>>> import lcepatch
>>> patch = lcepatch.load("org/patches")             # a path, a name on a hub, an address: only the header is read
>>> patch.apply("model/", "edited/", alpha=-2)       # files
>>> with patch.apply_(model.state_dict(), alpha=-2): # a loaded model, in place, with an exact way back
...     model.generate(...)

The same names, defaults and errors as the command ``lcepatch``, which is installed with the module.
"""

from lcepatch._native import __version__
from lcepatch._patch import (
    ApplyOptions,
    CheckOptions,
    EditOptions,
    Fit,
    Patch,
    SelectOptions,
    TensorStat,
    diff,
    load,
)
from lcepatch._undo import Undo, apply_
from lcepatch._verbs import (
    Applied,
    Combined,
    Found,
    apply,
    check,
    combine,
    compare,
    find,
    invert,
    pull,
    push,
    select,
    squash,
    verify,
)
from lcepatch.errors import (
    Error,
    FileError,
    InvalidCheckpoint,
    InvalidPatch,
    Missing,
    NetworkError,
    NotSigned,
    NumberError,
    Refused,
    Unfinished,
    UsageError,
)

__all__ = [
    "Applied",
    "ApplyOptions",
    "CheckOptions",
    "Combined",
    "EditOptions",
    "Error",
    "FileError",
    "Fit",
    "Found",
    "InvalidCheckpoint",
    "InvalidPatch",
    "Missing",
    "NetworkError",
    "NotSigned",
    "NumberError",
    "Patch",
    "Refused",
    "SelectOptions",
    "TensorStat",
    "Undo",
    "Unfinished",
    "UsageError",
    "__version__",
    "apply",
    "apply_",
    "check",
    "combine",
    "compare",
    "diff",
    "find",
    "invert",
    "load",
    "pull",
    "push",
    "select",
    "squash",
    "verify",
]
