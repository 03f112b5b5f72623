"""The blocks of ``docs/python.md`` run, and print what they say: examples of Python, and command lines."""

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lcepatch
from conftest import DEMO, ROOT

TEXT = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```(pycon|console) ?(.*?)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def examples(name, text, variables):
    """Runs a block of Python."""
    parsed = doctest.DocTestParser().get_doctest(text, variables, name, None, 0)
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(parsed, out=printed.append, clear_globs=False)
    variables.update(parsed.globs)
    assert runner.failures == 0, "".join(printed)


def commands(text, environment):
    """Runs a block of command lines. A line ``...`` stands for any lines that are printed."""
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        ended = subprocess.run(["sh", "-c", command], env=environment, text=True, **both)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}"
        lines = ["(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in expected.splitlines()]
        assert re.fullmatch("".join(lines), ended.stdout), f"{command}\n{ended.stdout}"


def run(folder, *marks, first="", **environment):
    """Runs the blocks without a mark, and those with one of these marks, in their order. The command does ``first`` before all else."""
    shutil.copytree(DEMO / "biased", folder / "model")
    shutil.copytree(DEMO / "counterfactual", folder / "other-model")
    chosen = [(kind, text) for kind, mark, text in BLOCKS if mark in ("", *marks)]
    assert len(chosen) > len(marks) + 3
    (folder / "bin").mkdir()
    (folder / "bin" / "lcepatch").write_text(f'#!/bin/sh\n{first}\nexec {sys.executable} -m lcepatch "$@"\n')
    (folder / "bin" / "lcepatch").chmod(0o755)
    # So that the command beside it is this one.
    (folder / "bin" / "python").symlink_to(sys.executable)
    paths = [str(folder / "bin"), os.environ["PATH"]]
    own = {"PATH": os.pathsep.join(paths), "PYTHONPATH": os.pathsep.join(sys.path)}
    here, variables = os.getcwd(), {}
    os.chdir(folder)
    try:
        for kind, text in chosen:
            if kind == "pycon":
                examples("docs/python.md", text, variables)
            else:
                commands(text, {**os.environ, **own, **environment})
    finally:
        os.chdir(here)


def test_the_blocks_run(tmp_path):
    run(tmp_path)


@pytest.mark.heavy
def test_the_blocks_with_models_run(tmp_path):
    pytest.importorskip("transformers")
    run(tmp_path, "heavy")


@pytest.mark.heavy
def test_the_blocks_with_adapters_run(tmp_path):
    pytest.importorskip("peft")
    run(tmp_path, "heavy", "needs-peft")


@pytest.mark.heavy
def test_the_blocks_on_ray_run_although_a_worker_is_killed(tmp_path):
    pytest.importorskip("ray", minversion="2.60")
    kill = 'case "$*" in *"--shard 2 "*) if mkdir "$KILLED" 2>/dev/null; then kill -9 $PPID; sleep 60; fi;; esac'
    run(tmp_path, "needs-ray", first=kill, KILLED=str(tmp_path / "killed"), RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    assert (tmp_path / "killed").is_dir(), "a worker was killed"


@pytest.mark.install
def test_the_command_is_installed_from_a_checkout(tmp_path):
    """Into an environment of its own, from the files that are tracked: a build of some minutes."""
    if shutil.which("uv") is None:
        pytest.skip("there is no uv (pip install uv)")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    os.chdir(tmp_path)
    try:
        for kind, mark, text in BLOCKS:
            if mark == "needs-uv":
                commands(text, {**environment, "ORT_DYLIB_PATH": str(tmp_path / "absent.so"), "PIP_NO_INDEX": "1"})
    finally:
        os.chdir(ROOT)


def test_every_class_of_errors_is_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE))
    assert rows == {kind.__name__: str(code) for code, kind in lcepatch.errors._CLASSES.items()}


def test_every_mark_is_run_by_a_test():
    assert {mark for _, mark, _ in BLOCKS} == {"", "heavy", "needs-peft", "needs-ray", "needs-uv"}
