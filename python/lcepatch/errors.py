"""What can go wrong: one exception for each exit code of the command, see ``docs/exit-codes.md``."""

__all__ = [
    "Error",
    "FileError",
    "InvalidCheckpoint",
    "InvalidPatch",
    "Missing",
    "NetworkError",
    "NotSigned",
    "NumberError",
    "Refused",
    "Unfinished",
    "UsageError",
]


class Error(Exception):
    """Something was not done, and nothing was changed."""

    code: int = 1
    """The exit code that the command would end with."""
    kind: str = ""
    """A stable name, such as ``base.differs``."""
    message: str = ""
    """What is wrong, in one sentence."""
    details: tuple[str, ...] = ()
    """Found, expected and where, one line each."""
    help: str | None = None
    """What to do about it, in words of the command line."""
    rule: int | None = None
    """The rule of the format that a patch breaks, if that is the reason."""

    def __str__(self) -> str:
        return "\n  ".join([self.message or super().__str__(), *self.details])


class UsageError(Error, ValueError):
    """Arguments that are not understood or do not go together, or an output that exists."""


class FileError(Error, OSError):
    """A file cannot be read, written or locked."""


class InvalidPatch(Error, ValueError):
    """A patch breaks a rule of the format, or is something else."""


class InvalidCheckpoint(Error, ValueError):
    """A checkpoint, mask, log or data file is not valid, or two checkpoints do not pair."""


class Refused(Error):
    """The patch is not for this base, or lacks what would be needed."""


class NumberError(Error, ArithmeticError):
    """A number is NaN or infinite, or would become so."""


class Missing(Error, ImportError):
    """Something that is needed is missing or does not work: ONNX Runtime, a tokenizer, a package."""


class NetworkError(Error, ConnectionError):
    """A hub or server cannot be reached, or does not give what it should."""


class Unfinished(Error):
    """The result is complete, and not all of it is in its place."""


class NotSigned(Error):
    """A patch is not signed as it must be."""


_CLASSES: dict[int, type[Error]] = {
    2: UsageError,
    3: FileError,
    4: InvalidPatch,
    5: InvalidCheckpoint,
    6: Refused,
    7: NumberError,
    8: Missing,
    9: NetworkError,
    10: Unfinished,
    11: NotSigned,
}


def _of(
    code: int,
    kind: str,
    message: str,
    details: list[str] | None = None,
    help: str | None = None,
    rule: int | None = None,
) -> Error:
    """The exception of a failure."""
    error = _CLASSES.get(code, Error)(message)
    error.code, error.kind, error.message = code, kind, message
    error.details, error.help, error.rule = tuple(details or ()), help, rule
    if help is not None:
        error.add_note(f"help: {help}")
    return error
