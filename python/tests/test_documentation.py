"""The blocks of ``docs/python.md`` run, and print what they say."""

import doctest
import os
import re
import shutil

import pytest

import lcepatch
from conftest import DEMO, ROOT

TEXT = (ROOT / "docs" / "python.md").read_text()


def run(folder, marks):
    """Runs the blocks with one of these marks, in their order."""
    shutil.copytree(DEMO / "biased", folder / "model")
    shutil.copytree(DEMO / "counterfactual", folder / "other-model")
    blocks = re.findall(r"^```pycon ?(.*?)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    code = "".join(text for mark, text in blocks if mark in marks)
    assert code.count(">>>") > 3
    parsed = doctest.DocTestParser().get_doctest(code, {}, "docs/python.md", None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    here = os.getcwd()
    os.chdir(folder)
    try:
        printed: list[str] = []
        runner.run(parsed, out=printed.append)
    finally:
        os.chdir(here)
    assert runner.failures == 0, "".join(printed)


def test_the_blocks_run(tmp_path):
    run(tmp_path, {""})


@pytest.mark.heavy
def test_the_blocks_with_models_run(tmp_path):
    pytest.importorskip("transformers")
    run(tmp_path, {"", "heavy"})


def test_every_class_of_errors_is_in_the_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.MULTILINE))
    assert rows == {kind.__name__: str(code) for code, kind in lcepatch.errors._CLASSES.items()}
