"""The command ``lcepatch``, run in this process."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from lcepatch import _native

_RUNTIME = "ORT_DYLIB_PATH"


def main() -> NoReturn:
    """Runs the command with the arguments of this process, and ends the process with its exit code."""
    # The command's own handler cancels the work at the first interruption, and ends the process at the second one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with runtime_of_python():
        code = _native.main(sys.argv[1:], [sys.executable, "-m", "lcepatch"])
    sys.exit(code)


@contextmanager
def runtime_of_python() -> Iterator[None]:
    """Meanwhile, ONNX Runtime is that of the package ``onnxruntime``, if it is installed and no other is named."""
    found = None if os.environ.get(_RUNTIME) else _library()
    if found is None:
        yield
        return
    os.environ[_RUNTIME] = found
    try:
        yield
    finally:
        os.environ.pop(_RUNTIME, None)


def _library() -> str | None:
    for folder in sys.path:
        capi = os.path.join(folder, "onnxruntime", "capi")
        try:
            names = sorted(os.listdir(capi))
        except OSError:
            continue
        for name in names:
            is_library = name.startswith("libonnxruntime.") and "provider" not in name
            if (is_library and (".so" in name or name.endswith(".dylib"))) or name == "onnxruntime.dll":
                return os.path.join(capi, name)
    return None
