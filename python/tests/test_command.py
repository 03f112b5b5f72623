"""The command that comes with the module ends as the native one does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import DEMO, ROOT, save


def native():
    """The native command: the one that ``LCEPATCH_NATIVE`` names, or the one that cargo built last."""
    if named := os.environ.get("LCEPATCH_NATIVE"):
        return Path(named)
    built = [ROOT / "target" / profile / "lcepatch" for profile in ("release", "debug")]
    found = max((path for path in built if path.exists()), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        pytest.skip("there is no native command: cargo build, or LCEPATCH_NATIVE")
    return found


@pytest.fixture
def files(tmp_path):
    base, reference = {"w": np.full(9, 6e4, "f2")}, {"w": np.full(9, 6.1e4, "f2")}
    save(tmp_path / "a.safetensors", base)
    save(tmp_path / "b.safetensors", reference)
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (tmp_path / "damaged.lcepatch").write_bytes(b"LCEPATCH but not one")
    (tmp_path / "signers").write_text("")
    subprocess.run([native(), "diff", "a.safetensors", "b.safetensors", "-o", "p.lcepatch"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


ENDS = {
    0: "check p.lcepatch a.safetensors",
    1: "check p.lcepatch b.safetensors",
    2: "apply a.safetensors p.lcepatch",
    3: "show absent.lcepatch",
    4: "show damaged.lcepatch",
    5: "diff a.safetensors damaged.safetensors",
    6: "apply b.safetensors p.lcepatch -o c.safetensors",
    7: "apply a.safetensors p.lcepatch --alpha 9 -o c.safetensors",
    8: f"verify {DEMO / 'biased'} --perplexity {DEMO / 'heldout.txt'}",
    9: "show org/patches",
    11: "apply a.safetensors p.lcepatch -o c.safetensors --require-signature signers",
}


@pytest.mark.parametrize("code", ENDS)
def test_exit_codes_and_what_is_printed_are_those_of_the_native_command(files, code):
    # Of 10, which needs a crash between two steps, there is a test in tests/crash.rs: no command reaches it by itself.
    environment = {**os.environ, "ORT_DYLIB_PATH": str(files / "absent.so"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def end(command):
        ended = subprocess.run([*command, *ENDS[code].split()], cwd=files, env=environment, capture_output=True, text=True)
        return ended.returncode, ended.stdout, ended.stderr

    expected = end([native()])
    assert expected[0] == code, expected
    assert end([sys.executable, "-m", "lcepatch"]) == expected
    script = shutil.which("lcepatch", path=Path(sys.executable).parent)
    if script:
        assert end([script]) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("signals", [1, 2])
def test_an_interruption_ends_both_with_130(tmp_path, signals):
    """Of a diff; the first one cancels it, the second one ends the process at once."""
    for name in "ab":
        save(tmp_path / f"{name}.safetensors", {"w": np.random.default_rng(ord(name)).random(30_000_000, "f4")})
    for command in ([native()], [sys.executable, "-m", "lcepatch"]):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        words = [*command, "diff", "a.safetensors", "b.safetensors", "--all", "-o", "p.lcepatch", "--best"]
        child = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        time.sleep(0.6)
        assert child.poll() is None
        for _ in range(signals):
            child.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
        assert "Traceback" not in err and not (tmp_path / "p.lcepatch").exists()
        assert signals == 2 or "interrupted; nothing was written" in err


def test_names_of_files_need_not_be_text(tmp_path):
    name = os.fsdecode(b"p\xff.lcepatch")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "lcepatch", "show", name]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True)
    assert ended.returncode == 3 and b"Traceback" not in ended.stderr


def test_tasks_of_ray_get_credentials_and_proxies_in_either_spelling(monkeypatch):
    from lcepatch.ray import passed_on

    expected = {"AWS_PROFILE": "p", "HF_TOKEN": "t", "HTTPS_PROXY": "http://one", "https_proxy": "http://two", "no_proxy": "here"}
    for name in passed_on():
        monkeypatch.delenv(name)
    for name, value in {**expected, "HOME_OF_HF": "no", "PROXY": "no"}.items():
        monkeypatch.setenv(name, value)
    assert passed_on() == expected


def test_the_demo_runs(tmp_path):
    """Each of its commands is one of the module's. It does not measure, as there is no ONNX Runtime, and none is fetched."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ORT_DYLIB_PATH": str(tmp_path / "absent.so"), "PIP_NO_INDEX": "1"}
    words = [sys.executable, "-m", "lcepatch", "demo", "folder"]
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "biased/model.safetensors is byte for byte what it was" in ended.stdout
