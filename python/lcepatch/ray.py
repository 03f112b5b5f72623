"""A diff or an apply on a Ray cluster: ``python -m lcepatch.ray diff|apply ...``.

Each shard of the work is a task that runs the command ``lcepatch``. A task whose worker dies is run again by Ray, up to three times,
and so is one that ends with an exit code that is worth another try: 3 (files) or 9 (network). The parts of a diff travel through Ray's
object store, so that the nodes need no common disk; the files of an apply are written where all nodes see them.

The result has the same bytes as that of one process.

    python -m lcepatch.ray diff s3://models/v1/ s3://models/v2/ --all --shards 64 -o update.lcepatch
    python -m lcepatch.ray apply v1/ update.lcepatch --shards 16 -o /shared/v2/
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

#: How often a shard is tried.
TRIES = 4
#: Exit codes after which the same command may succeed, by docs/several-machines.md.
AGAIN = (3, 9)
#: How names of variables begin that say with which credentials, and by which way, files elsewhere are read: the command of a
#: task, on whatever node, reads them as the command here does. Those of proxies are also spelled in small letters.
PASSED_ON = ("AWS_", "HF_", "TRANSFORMERS_OFFLINE", "LCEPATCH_", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
#: Exit code of an interrupted command.
INTERRUPTED = 130


class Failed(Exception):
    """A command ended with an exit code that is not 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def command() -> str:
    """The command ``lcepatch``: beside the interpreter, or on the path."""
    beside = Path(sys.executable).parent / "lcepatch"
    found = str(beside) if beside.is_file() else shutil.which("lcepatch")
    if found is None:
        raise Failed(8, "there is no command lcepatch beside this Python, nor on the PATH of this machine")
    return found


def run_command(arguments: Sequence[str], environment: dict[str, str], folder: str | None = None) -> tuple[int, str, str]:
    """Runs ``lcepatch``, and returns its exit code and what it printed on standard output and standard error.

    The command ends with this process, also if that is killed.
    """

    def ends_with_parent() -> None:
        if sys.platform == "linux":
            pr_set_pdeathsig = 1
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [command(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=folder,
            env={**os.environ, **environment},
            preexec_fn=ends_with_parent,
        )
        try:
            # In short steps, between which this process can be interrupted.
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        # A command that a signal ended has that signal's code, as in shells.
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return code, out.read().decode(errors="replace"), err.read().decode(errors="replace")


def passed_on() -> dict[str, str]:
    """The variables of this process that tasks get, too."""
    return {name: value for name, value in os.environ.items() if name.upper().startswith(PASSED_ON)}


def checked(arguments: Sequence[str], folder: str | None = None) -> str:
    """Runs ``lcepatch`` in this process's environment, and returns what it printed."""
    code, out, err = run_command(arguments, {}, folder)
    if code != 0:
        raise Failed(code, err.strip())
    return out


def diff_shard(
    plan: bytes, shard: int, environment: dict[str, str], threads: int, *ranks: bytes
) -> tuple[tuple[int, str], bytes]:
    """One shard of a diff: its ranks if weights are ranked and ``ranks`` are not given, and otherwise its part."""
    with tempfile.TemporaryDirectory(prefix="lcepatch-ray-") as folder:
        Path(folder, "run.lceplan").write_bytes(plan)
        arguments = ["diff", "--plan", "run.lceplan", "--shard", str(shard), "-o", "part", "--progress", "none"]
        arguments += ["--threads", str(threads)]
        for number, rank in enumerate(ranks):
            Path(folder, f"{number}.ranks").write_bytes(rank)
        if ranks:
            arguments += ["--ranks", *(f"{number}.ranks" for number in range(len(ranks)))]
        code, _, err = run_command(arguments, environment, folder)
        part = Path(folder, "part").read_bytes() if code == 0 else b""
        return (code, err.strip()), part


def apply_shard(
    arguments: list[str], shard: int, shards: int, environment: dict[str, str], threads: int, folder: str
) -> tuple[tuple[int, str], bytes]:
    """One shard of an apply, whose files are written below the output."""
    more = ["--shard", f"{shard}/{shards}", "--progress", "none", "--threads", str(threads)]
    if not Path(folder).is_dir():
        return (3, f"{folder} is not there on this node"), b""
    code, _, err = run_command(["apply", *arguments, *more], environment, folder)
    return (code, err.strip()), b""


class Cluster:
    """Tasks on Ray."""

    def __init__(self, options: argparse.Namespace) -> None:
        # Not imported above, so that help needs no Ray.
        ray: Any = importlib.import_module("ray")
        self.ray = ray
        self.options = options
        address = options.address or os.environ.get("RAY_ADDRESS")
        started: dict[str, Any] = {"address": address}
        if address is None:
            started = {"num_cpus": options.workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **started)
        # Nodes need the command, and not this module.
        if __name__ != "__main__":
            ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        # In the object store, and in no description of a task that a dashboard shows.
        self.environment = ray.put(passed_on())

    def run_all(self, what: str, shards: int, task: Callable[..., Any], of_shard: Callable[[int], tuple[Any, ...]]) -> list[Any]:
        """Runs the task of every shard, and returns references to what each gave, in the order of the shards.

        Raises Failed with the exit code of the first one that cannot succeed, and then cancels the others.
        """
        ray = self.ray
        cpus = self.options.cpus_per_task
        remote = ray.remote(num_cpus=cpus, max_retries=TRIES - 1, num_returns=2)(task)
        results: list[Any] = [None] * shards
        tries = [1] * shards
        pending: dict[Any, int] = {}

        def submit(shard: int) -> None:
            state, results[shard - 1] = remote.remote(*of_shard(shard))
            pending[state] = shard

        def say(end: str) -> None:
            if not self.options.quiet:
                done = shards - len(pending)
                print(f"{what}: {done} of {shards} shards", end=end, file=sys.stderr, flush=True)

        on_terminal = sys.stderr.isatty()
        try:
            for shard in range(1, shards + 1):
                submit(shard)
            while pending:
                done, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                for state in done:
                    shard = pending.pop(state)
                    try:
                        code, message = ray.get(state)
                    except ray.exceptions.RayError as error:
                        raise Failed(3, f"shard {shard} of {shards}: its worker failed {TRIES} times: {error}") from error
                    if code in AGAIN and tries[shard - 1] < TRIES:
                        tries[shard - 1] += 1
                        time.sleep(min(2.0 ** tries[shard - 1], 30.0) / 4)
                        submit(shard)
                    elif code != 0:
                        raise Failed(code, f"shard {shard} of {shards}: {message}")
                    elif on_terminal or len(pending) % max(1, shards // 20) == 0:
                        say("\r" if on_terminal and pending else "\n")
        except BaseException:
            for state in pending:
                ray.cancel(state, force=True)
            raise
        return results

    def close(self) -> None:
        self.ray.shutdown()


def diff(options: argparse.Namespace, rest: list[str]) -> None:
    """Plans a diff here, runs its shards on the cluster, and joins their parts here."""
    if os.path.lexists(options.output) and not options.force:
        raise Failed(2, f"{options.output} exists; --force replaces it")
    with tempfile.TemporaryDirectory(prefix="lcepatch-ray-") as folder:
        path = str(Path(folder, "run.lceplan"))
        plan = json.loads(checked(["plan", *rest, "--shards", str(options.shards), "-o", path, "--json", "--progress", "none"]))
        cluster = Cluster(options)
        try:
            planned = cluster.ray.put(Path(path).read_bytes())
            threads = options.cpus_per_task

            def of_shard(shard: int) -> tuple[Any, ...]:
                return planned, shard, cluster.environment, threads

            ranks: list[Any] = []
            if plan["ranked"]:
                ranks = cluster.run_all("ranking", options.shards, diff_shard, of_shard)
            parts = cluster.run_all(
                "diff", options.shards, diff_shard, lambda shard: (*of_shard(shard), *ranks)
            )
            paths = []
            for number, part in enumerate(parts, 1):
                paths.append(Path(folder, f"{number}.part"))
                paths[-1].write_bytes(cluster.ray.get(part))
        finally:
            cluster.close()
        force = ["--force"] if options.force else []
        joined = ["combine", *map(str, paths), "-o", options.output, *force, "--progress", "none"]
        print(checked(joined), end="")


def apply(options: argparse.Namespace, rest: list[str]) -> None:
    """Writes the files of the result on the cluster, to a disk that all nodes see, and finishes it here."""
    folder = os.getcwd()
    arguments = [*rest, "-o", os.path.abspath(options.output)]
    cluster = Cluster(options)
    try:
        shards, threads = options.shards, options.cpus_per_task
        cluster.run_all(
            "apply",
            shards,
            apply_shard,
            lambda shard: (arguments, shard, shards, cluster.environment, threads, folder),
        )
    finally:
        cluster.close()
    print(checked(["apply", *arguments, "--finish", "--progress", "none"]), end="")


def parser() -> argparse.ArgumentParser:
    """The arguments of this module; all others are those of ``lcepatch diff`` or ``lcepatch apply``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-o", "--output", required=True, help="write the result here")
    common.add_argument("--shards", type=int, required=True, metavar="N", help="how many shards there are")
    common.add_argument("--address", help="a running cluster [default: RAY_ADDRESS, or one that is started on this machine]")
    common.add_argument("--workers", type=int, metavar="N", help="workers of a cluster that is started on this machine")
    common.add_argument("--cpus-per-task", type=int, default=1, metavar="N", help="processors of a task [default: 1]")
    common.add_argument("-q", "--quiet", action="store_true", help="no progress")
    description = (__doc__ or "").split("\n\n    python", maxsplit=1)[0]
    examples = (__doc__ or "")[len(description) :].strip("\n")
    whole = argparse.ArgumentParser(
        prog="python -m lcepatch.ray",
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = whole.add_subparsers(dest="verb", required=True)
    for verb, run, help_text in [
        ("diff", diff, "make a patch; other arguments are those of `lcepatch diff`"),
        ("apply", apply, "apply patches; other arguments are those of `lcepatch apply`"),
    ]:
        sub = verbs.add_parser(verb, parents=[common], help=help_text, description=help_text, allow_abbrev=False)
        sub.set_defaults(run=run)
        if verb == "diff":
            sub.add_argument("--force", action="store_true", help="replace an existing output")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the arguments, and returns an exit code of ``lcepatch``."""
    options, rest = parser().parse_known_args(arguments)

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        if options.shards < 1 or options.cpus_per_task < 1:
            raise Failed(2, "--shards and --cpus-per-task are at least 1")
        options.run(options, rest)
    except Failed as failed:
        text = str(failed)
        print(text if "error: " in text else f"error: {text}", file=sys.stderr)
        return failed.code
    except ImportError as error:
        print(f"error: {error}\nhelp: pip install 'ray>=2.60'", file=sys.stderr)
        return 8
    except KeyboardInterrupt:
        print("error: interrupted; tasks were cancelled", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
