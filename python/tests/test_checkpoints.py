"""Checkpoints that are kept as patches, and restored. No training runs here: see test_torch.py."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import lcepatch
from conftest import save
from lcepatch._checkpoints import keep_as_patch, restore

NOTE = "lcepatch-checkpoint.json"


class Killed(BaseException):
    """The process ended here: nothing catches it."""


def write(folder: Path, step: int, shards: int = 3) -> dict[str, bytes]:
    """A checkpoint with what a training saves beside the weights. Returns the bytes of its weight files and of all in folders."""
    rng = np.random.default_rng(step)
    folder.mkdir(parents=True)
    index = {}
    for shard in range(1, shards + 1):
        name = "model.safetensors" if shards == 1 else f"model-{shard:05}-of-{shards:05}.safetensors"
        # The last shard is the same in all checkpoints.
        values = rng.standard_normal(64) if shard < shards or shards == 1 else np.ones(64)
        save(folder / name, {f"layer.{shard}.weight": values.astype("f4")})
        index[f"layer.{shard}.weight"] = name
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"state " * 1000)
    (folder / "1_Dense").mkdir()
    save(folder / "1_Dense" / "model.safetensors", {"linear.weight": rng.standard_normal(8).astype("f4")})
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a checkpoint by their paths in it, but for what lcepatch adds."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (NOTE, "model.lcepatch")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def training(run: Path, steps: int, anchors: int, shards: int = 3) -> dict[int, dict[str, bytes]]:
    """Saves checkpoints, and keeps them as patches. Returns what each was."""
    whole = {}
    for step in range(1, steps + 1):
        folder = run / f"checkpoint-{step}"
        whole[step] = write(folder, step, shards)
        keep_as_patch(folder, anchors)
    return whole


def restored(run: Path, step: int, out: Path) -> dict[str, bytes]:
    restore(run / f"checkpoint-{step}", out)
    return contents(out)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("anchors", [1, 3, 100])
def test_every_checkpoint_comes_back_byte_for_byte_with_its_folders(tmp_path, anchors, shards):
    whole = training(tmp_path / "run", 6, anchors, shards)
    for step, expected in whole.items():
        has_weights = (step - 1) % anchors == 0 or step == 6
        names = [name for name in contents(tmp_path / "run" / f"checkpoint-{step}") if name.startswith("model")]
        assert bool(names) == has_weights, names
        assert restored(tmp_path / "run", step, tmp_path / f"out-{step}") == expected


def test_other_weights_beside_the_checkpoint_stay_where_they_are(tmp_path):
    """As the value heads of reinforcement learning, which are no part of the model's checkpoint."""
    whole = {}
    for step in (1, 2, 3):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        write(folder, step, shards=1)
        save(folder / "value_head.safetensors", {"v": np.full(4, step, "f4")})
        whole[step] = contents(folder)
        keep_as_patch(folder, 100)
    assert (tmp_path / "run" / "checkpoint-2" / "value_head.safetensors").exists()
    assert not (tmp_path / "run" / "checkpoint-2" / "model.safetensors").exists()
    assert restored(tmp_path / "run", 2, tmp_path / "out") == whole[2]


# What changes a folder, one call after the other.
CHANGES = [(os, "replace"), (os, "unlink"), (Path, "unlink"), (Path, "write_text"), (lcepatch.Patch, "save")]


def killed_at(monkeypatch, number: int) -> list[str]:
    """From here on, the process ends at this change of the folder, counted from 1. Returns the changes so far, which grow."""
    changes: list[str] = []
    for owner, name in CHANGES:

        def change(*args, _call=getattr(owner, name), _name=name, **more):
            changes.append(_name)
            if len(changes) == number:
                raise Killed
            return _call(*args, **more)

        monkeypatch.setattr(owner, name, change)
    return changes


def test_a_kill_at_any_moment_leaves_every_checkpoint_whole(tmp_path, monkeypatch):
    moments = 0
    for number in range(1, 100):
        run = tmp_path / str(number)
        whole = training(run, 3, 100)
        whole[4] = write(run / "checkpoint-4", 4)
        with monkeypatch.context() as patched:
            killed_at(patched, number)
            try:
                keep_as_patch(run / "checkpoint-4", 100)
            except Killed:
                moments += 1
            else:
                break
        for step, expected in whole.items():
            assert restored(run, step, run / f"out-{step}") == expected, (number, step)
        # A torn checkpoint is not taken for a model.
        three = contents(run / "checkpoint-3")
        if not whole[3].keys() <= three.keys():
            assert "model.safetensors.index.json" not in three
        # The training goes on, and what was left over goes away.
        whole[5] = write(run / "checkpoint-5", 5)
        keep_as_patch(run / "checkpoint-5", 100)
        whole[6] = write(run / "checkpoint-6", 6)
        keep_as_patch(run / "checkpoint-6", 100)
        for step, expected in whole.items():
            assert restored(run, step, run / f"again-{step}") == expected, (number, step)
        weights = {name for name in whole[3] if name.startswith("model")}
        assert contents(run / "checkpoint-3").keys() & weights in (set(), weights)
    # A patch, notes, an index and three shards.
    assert moments >= 6, moments


def test_what_is_beside_the_weights_is_copied_once(tmp_path, monkeypatch):
    """And not again for every patch on the way: the state of an optimizer has twice the size of the weights."""
    training(tmp_path / "run", 6, 100)
    carried = []
    apply = lcepatch._checkpoints.apply

    def counting(base, patch, out, *args, **more):
        done = apply(base, patch, out, *args, **more)
        carried.append(sorted(contents(Path(out)).keys() & {"optimizer.pt", "config.json"}))
        return done

    monkeypatch.setattr(lcepatch._checkpoints, "apply", counting)
    restore(tmp_path / "run" / "checkpoint-5", tmp_path / "out")
    assert carried == [[]] * 4
    assert (tmp_path / "out" / "optimizer.pt").exists()


def note_of(run: Path, step: int) -> dict:
    return json.loads((run / f"checkpoint-{step}" / NOTE).read_text())


def change_note(run: Path, step: int, **changes) -> None:
    (run / f"checkpoint-{step}" / NOTE).write_text(json.dumps(note_of(run, step) | changes))


def test_notes_that_lead_in_a_circle_are_refused(tmp_path):
    run = tmp_path / "run"
    training(run, 5, 100)
    change_note(run, 2, base="checkpoint-4")
    with pytest.raises(lcepatch.Refused, match="circle") as raised:
        restore(run / "checkpoint-4", tmp_path / "out")
    assert raised.value.help and "checkpoint-2" in str(raised.value) and "checkpoint-4" in str(raised.value)
    change_note(run, 3, base="checkpoint-3")
    with pytest.raises(lcepatch.Refused, match="circle"):
        restore(run / "checkpoint-3", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", '"note"', "{}", '{"schema": 2}', '{"schema": 1, "number": "x"}'])
def test_notes_that_make_no_sense_are_named(tmp_path, text):
    training(tmp_path / "run", 4, 100)
    (tmp_path / "run" / "checkpoint-2" / NOTE).write_text(text)
    with pytest.raises(lcepatch.InvalidCheckpoint, match=NOTE) as raised:
        restore(tmp_path / "run" / "checkpoint-3", tmp_path / "out")
    assert "checkpoint-2" in str(raised.value) and raised.value.help


def test_notes_name_checkpoints_beside_them_alone(tmp_path):
    run = tmp_path / "run"
    training(run, 4, 100)
    for base in ("../run/checkpoint-1", "/etc", "..", "", "checkpoint-1\0", "checkpoint-\ud800"):
        change_note(run, 2, base=base)
        with pytest.raises(lcepatch.InvalidCheckpoint, match=NOTE):
            restore(run / "checkpoint-2", tmp_path / "out")
    for file in ("../../model.safetensors", "model\0.safetensors", "model\ud800.safetensors"):
        change_note(run, 2, base="checkpoint-1", files=[file])
        with pytest.raises(lcepatch.InvalidCheckpoint, match=NOTE):
            restore(run / "checkpoint-2", tmp_path / "out")
    for name in ("\0", "\ud800"):
        with pytest.raises(lcepatch.UsageError, match="can be no path"):
            restore(f"{run}/checkpoint-1{name}", tmp_path / "out")
        with pytest.raises(lcepatch.UsageError, match="can be no path"):
            restore(run / "checkpoint-1", f"{tmp_path}/out{name}")


@pytest.mark.parametrize("shard", [1, 3])
def test_weights_that_their_patch_does_not_lead_to_are_kept(tmp_path, shard):
    run = tmp_path / "run"
    training(run, 2, 100)
    # The patch changes the first shard, and not the last one.
    name = f"model-0000{shard}-of-00003.safetensors"
    expected = save(run / "checkpoint-2" / name, {f"layer.{shard}.weight": np.zeros(64, "f4")}).read_bytes()
    write(run / "checkpoint-3", 3)
    with pytest.raises(lcepatch.Refused, match="does not lead to the weights"):
        keep_as_patch(run / "checkpoint-3", 100)
    assert (run / "checkpoint-2" / name).read_bytes() == expected


def test_a_checkpoint_may_be_named_from_within_and_restored_elsewhere_alone(tmp_path, monkeypatch):
    run = tmp_path / "run"
    whole = training(run, 3, 100)
    monkeypatch.chdir(run / "checkpoint-2")
    with pytest.raises(lcepatch.Error, match="inside of the checkpoint"):
        restore(".", "inner")
    restore(".", tmp_path / "out")
    assert contents(tmp_path / "out") == whole[2]


def test_weights_are_kept_if_what_their_patch_is_against_is_gone(tmp_path):
    """They could not be restored."""
    run = tmp_path / "run"
    whole = training(run, 2, 100)
    for path in (run / "checkpoint-1").glob("model*"):
        path.unlink()
    write(run / "checkpoint-3", 3)
    with pytest.raises(lcepatch.Refused, match="checkpoint-1.*neither weights nor a patch"):
        keep_as_patch(run / "checkpoint-3", 100)
    assert restored(run, 2, tmp_path / "out") == whole[2]


def test_part_of_the_weights_stays_if_the_patch_leads_nowhere(tmp_path):
    run = tmp_path / "run"
    training(run, 3, 100)
    (run / "checkpoint-3" / "model-00001-of-00003.safetensors").unlink()
    (run / "checkpoint-2" / "model.lcepatch").unlink()
    write(run / "checkpoint-4", 4)
    keep_as_patch(run / "checkpoint-4", 100)
    assert (run / "checkpoint-3" / "model-00002-of-00003.safetensors").exists()
    assert note_of(run, 4)["base"] == "checkpoint-1"


def test_a_checkpoint_that_is_saved_again_has_its_new_weights(tmp_path):
    """As when a training goes on from an earlier checkpoint."""
    run = tmp_path / "run"
    whole = training(run, 4, 100)
    old = run / "checkpoint-3"
    for name, data in write(tmp_path / "new", 33).items():
        (old / name).write_bytes(data)
    whole[3] = contents(old)
    assert restored(run, 3, tmp_path / "before") == whole[3]
    keep_as_patch(old, 100)
    assert restored(run, 3, tmp_path / "after") == whole[3]
