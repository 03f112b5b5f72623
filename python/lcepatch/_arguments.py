"""What callers give, in the form that the library takes; what it cannot be is refused with what it should be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from lcepatch.errors import _of


def path_of(name: Any) -> str:
    """A name as text. An object for a path, such as one of pathlib, is a path and never a name on a hub, also where no file is."""
    if not isinstance(name, str | bytes | os.PathLike):
        raise _of(2, "usage", f"{_short(name)} is no name", help="give a path, a name on a hub or an address")
    text = os.fsdecode(name)
    if isinstance(name, os.PathLike) and not os.path.lexists(text):
        return os.path.join(os.curdir, text)
    return text


def each_of(patches: Any) -> list[Any]:
    """One patch or several, as a list."""
    if isinstance(patches, str | bytes | os.PathLike) or not isinstance(patches, Iterable):
        return [patches]
    if isinstance(patches, Mapping):
        help = "give a list of patches; in place of a patch with an alpha of its own, a pair `(patch, alpha)`"
        raise _of(2, "usage", "the patches are given as a mapping", help=help)
    return list(patches)


def number(what: str, given: Any) -> float:
    """A number that may be of numpy or torch."""
    try:
        if not isinstance(given, str | bytes):
            return float(given)
        why = "is no number"
    except OverflowError:
        why = "is too large"
    except (TypeError, ValueError, RuntimeError):
        why = "is no number"
    raise _of(2, "usage", f"{what}: {_short(given)} {why}", help="give a finite number")


def texts(what: str, given: Any) -> list[str]:
    """One text or several, as a list."""
    found = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    for text in found:
        if not isinstance(text, str):
            raise _of(2, "usage", f"{what}: {_short(text)} is no text", help=f"give one text or several, such as {what}=['*']")
    return found


def prefixes(given: Any) -> list[tuple[str, str]]:
    """Pairs of prefixes."""
    found = {} if given is None else given
    if not isinstance(found, Mapping) or not all(isinstance(prefix, str) for pair in found.items() for prefix in pair):
        help = 'give a mapping from prefixes of the patch to those of the base, such as {"bert.": ""}'
        raise _of(2, "usage", f"prefix: {_short(given)} is no mapping of texts", help=help)
    return list(found.items())


def _short(given: Any) -> str:
    """How a value looks, if that is short, or else its type."""
    if isinstance(given, str | bytes | float | bool | None):
        text = repr(given)
        if len(text) <= 80:
            return text
    return f"a value of type {type(given).__qualname__}"
