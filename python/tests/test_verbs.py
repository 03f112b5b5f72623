"""Patches, what is made of them, and where they are published."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import lcepatch
from conftest import DEMO, ROOT, bits, copy, read, save


@pytest.fixture
def pair(tmp_path, make):
    base, reference = make()
    return save(tmp_path / "a.safetensors", base), save(tmp_path / "b.safetensors", reference)


def test_a_patch_tells_what_it_is(pair, tmp_path):
    made = lcepatch.diff(*pair, density=0.02, params="all", recommended_alpha=-2, description="why", meta={"k": [1, None]})
    assert made.name is None
    made.save(tmp_path / "p.lcepatch")
    with pytest.raises(lcepatch.UsageError, match="exists"):
        made.save(tmp_path / "p.lcepatch")
    made.save(tmp_path / "p.lcepatch", replace=True)
    patch = lcepatch.load(tmp_path / "p.lcepatch")
    assert patch.name == str(tmp_path / "p.lcepatch") and patch.id == made.id and len(patch.id) == 64
    assert (patch.alpha, patch.metadata["description"], patch.metadata["x"]["k"]) == (-2, "why", [1, None])
    assert patch.selected == sum(tensor.selected for tensor in patch.tensors) == 150
    assert patch.tensors[0][:3] == ("layer.0.weight", "F32", (500, 7))
    assert repr(patch) == f"<Patch {patch.id[:12]}: 150 weights in 3 tensors, alpha -2>"
    assert lcepatch.Patch.from_bytes(patch.to_bytes()).id == patch.id
    assert pickle.loads(pickle.dumps(patch)).id == patch.id
    html = patch._repr_html_()
    assert html.count("<svg") == 1 and "&lt;" not in html.split("<pre>")[0] and "why" in html
    shown = subprocess.run([sys.executable, "-m", "lcepatch", "show", patch.name], capture_output=True, text=True, check=True)
    assert patch.show() == shown.stdout


@pytest.mark.heavy
def test_arrays_have_the_bytes_of_the_file_that_the_library_of_safetensors_writes(tmp_path):
    """So that a patch of arrays knows its reference as one of their files does."""
    safetensors = pytest.importorskip("safetensors.numpy")
    sides = []
    for side in (0, 1):
        arrays = {f"{dtype}.{at}": np.arange(5).astype(dtype) + side for dtype in ("f2", "f4", "u1", "i8", "f8") for at in (1, 0)}
        safetensors.save_file(arrays, tmp_path / f"{side}.safetensors")
        sides.append(arrays)
    of_files, of_arrays = lcepatch.diff(tmp_path / "0.safetensors", tmp_path / "1.safetensors"), lcepatch.diff(*sides)
    for side in ("base", "reference"):
        (file,), (arrays,) = of_files.metadata[side]["files"], of_arrays.metadata[side]["files"]
        assert (arrays["bytes"], arrays["content"]) == (file["bytes"], file["content"])


def test_a_diff_of_arrays_is_that_of_their_files(pair):
    arrays = [read(path) for path in pair]
    of_arrays, of_files = lcepatch.diff(*arrays), lcepatch.diff(*pair)
    assert bits({"r": of_arrays.positions("layer.0.weight")}) == bits({"r": of_files.positions("layer.0.weight")})
    assert [tensor.base_digest for tensor in of_arrays.tensors] == [tensor.base_digest for tensor in of_files.tensors]
    assert of_arrays.check(pair[0]) and not of_arrays.check(pair[1])


def test_files_are_written_as_the_command_writes_them(pair, tmp_path):
    patch = lcepatch.diff(*pair)
    done = patch.apply(pair[0], tmp_path / "c.safetensors", undo=tmp_path / "undo.lcepatch")
    assert done.is_reference and done.verified and done.edited == patch.selected
    assert (tmp_path / "c.safetensors").read_bytes() == pair[1].read_bytes()
    lcepatch.apply(tmp_path / "c.safetensors", tmp_path / "undo.lcepatch", tmp_path / "d.safetensors")
    assert (tmp_path / "d.safetensors").read_bytes() == pair[0].read_bytes()
    with pytest.raises(lcepatch.UsageError, match="exists"):
        patch.apply(pair[0], tmp_path / "c.safetensors")
    with pytest.raises(lcepatch.UsageError, match="apply_"):
        patch.apply(read(pair[0]), tmp_path / "e.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="links of POSIX")
def test_what_does_not_come_along_is_named(pair, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    pair[0].rename(model / "model.safetensors")
    (model / "model.gguf").write_bytes(b"GGUF")
    (model / "tokenizer.json").symlink_to("nowhere")
    done = lcepatch.diff(model, pair[1]).apply(model, tmp_path / "edited")
    assert (done.left_behind, done.unreadable) == (("model.gguf",), ("tokenizer.json",))


def test_a_check_answers_and_damage_is_an_error(pair):
    patch = lcepatch.diff(*pair)
    assert patch.check().fits and patch.check(pair[0]).state == "base"
    for base in (pair[1], read(pair[1])):
        fit = lcepatch.check(patch, base)
        assert not fit and fit.state == "result" and set(fit.differences) == {tensor.name for tensor in patch.tensors}
    assert patch.check({}).differences.keys() == {tensor.name for tensor in patch.tensors}
    data = bytearray(patch.to_bytes())
    data[-5] ^= 1
    with pytest.raises(lcepatch.InvalidPatch) as raised:
        lcepatch.Patch.from_bytes(bytes(data)).check()
    assert raised.value.rule == 18


def test_algebra(make):
    base, first = make(1)
    _, second = make(1, share=0.2)
    one = lcepatch.diff(base, first, portable=True)
    two = lcepatch.diff(base, second, portable=True)
    assert one.invert().invert().id == one.id
    mine = copy(first)
    one.invert().apply_(mine)
    assert bits(mine) == bits(base)
    both = lcepatch.combine([(one, 0.5), (two, -1)])
    mine, expected = copy(base), copy(base)
    both.patch.apply_(mine)
    lcepatch.apply_([(one, 0.5), (two, -1)], expected)
    assert bits(mine) == bits(expected)
    assert both.selected + both.overlapping == one.selected + two.selected
    chain = lcepatch.squash(one, lcepatch.diff(first, second, portable=True))
    mine = copy(base)
    chain.apply_(mine)
    assert bits(mine) == bits(second)
    part = lcepatch.select(one, include=["layer.1.*"])
    assert [tensor.name for tensor in part.tensors] == ["layer.1.weight"]
    assert lcepatch.select(one, count=10).selected == 10 == one.select(density=10 / one.selected).selected
    likeness = lcepatch.compare(one, two)["all"]
    assert likeness["both"] == both.overlapping == one.restrict(two).selected
    assert lcepatch.compare(one, one)["all"]["jaccard"] == 1
    needs = lcepatch.diff(base, first)
    with pytest.raises(lcepatch.Refused, match="base") as raised:
        lcepatch.combine([needs, two])
    assert raised.value.kind == "algebra.needs-base"
    lcepatch.combine([needs, two], base=base)


def test_positions_and_values(make):
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    for name, array in base.items():
        expected = np.flatnonzero(array.reshape(-1).view(f"u{array.itemsize}") != reference[name].reshape(-1).view(f"u{array.itemsize}"))
        assert (patch.positions(name, base=base) == expected).all()
        assert (patch.values(name, base, 1) == reference[name].reshape(-1)[expected]).all()
        assert (patch.values(name, base, 0) == array.reshape(-1)[expected]).all()
    with pytest.raises(KeyError):
        patch.positions("other")


@pytest.mark.parametrize("name", ["a[0]", "a*b", "a?", "{a,b}", "!a", "a\\b", "[!a]", "a]b[", "**/a", "ä"])
def test_a_name_is_no_glob(name, tmp_path):
    """Of a tensor, and of a file."""
    base, reference = {name: np.zeros(4, "f4"), "axb": np.zeros(4, "f4")}, {name: np.eye(2, dtype="f4").reshape(4), "axb": np.ones(4, "f4")}
    patch = lcepatch.diff(base, reference)
    assert (patch.values(name, base, 3) == 3).all() and len(patch.values(name, base)) == 2
    file = save(tmp_path / f"{name.replace('/', '_')}.safetensors", base)
    patch.save(file.with_suffix(".lcepatch"))
    assert lcepatch.load(file.with_suffix(".lcepatch")).check(file)
    lcepatch.apply(file, file.with_suffix(".lcepatch"), tmp_path / "out.safetensors")
    assert bits(read(tmp_path / "out.safetensors")) == bits(reference)


def test_arguments_that_do_not_exist_or_are_of_another_kind_are_refused(pair, tmp_path):
    patch = lcepatch.diff(*pair)
    arrays = read(pair[0])
    for call in (
        lambda: patch.apply_(arrays, chekc="quick"),
        lambda: patch.apply_(arrays, undo="u.lcepatch"),
        lambda: lcepatch.apply(pair[0], patch, tmp_path / "out.safetensors", include_="w"),
        lambda: lcepatch.check(patch, pair[0], fast=True),
        lambda: lcepatch.select(patch, k=3),
        lambda: lcepatch.diff(*pair, densities=0.1),
    ):
        with pytest.raises(TypeError, match="chekc|undo|include_|fast|'k'|densities"):
            call()
    with pytest.raises(lcepatch.UsageError, match="check cannot be .none."):
        patch.apply_(arrays, check="none")
    assert bits(arrays) == bits(read(pair[0])) and not (tmp_path / "out.safetensors").exists()


def test_patches_are_published_found_and_fetched(pair, tmp_path):
    patch = lcepatch.diff(*pair)
    with pytest.raises(lcepatch.UsageError, match="no file"):
        lcepatch.push(patch, tmp_path / "place/")
    patch.save(tmp_path / "p.lcepatch")
    place = str(tmp_path / "place") + "/"
    planned = lcepatch.push(tmp_path / "p.lcepatch", place, dry_run=True)
    assert planned["sent"] is False and planned["files"]
    assert lcepatch.push(lcepatch.load(tmp_path / "p.lcepatch"), place)["sent"] is True
    assert lcepatch.push(tmp_path / "p.lcepatch", place)["sent"] is False
    (found,) = lcepatch.find(pair[0], place)
    assert found.fits and found.id == patch.id and found.file == "p.lcepatch"
    assert [row.fits for row in lcepatch.find(pair[1], place)] == [False]
    pulled = lcepatch.pull(place, tmp_path / "newest.safetensors", model=pair[0])
    assert pulled["is_reference"] and (tmp_path / "newest.safetensors").read_bytes() == pair[1].read_bytes()


def test_what_is_published_is_the_patch_that_was_loaded(pair, tmp_path, monkeypatch):
    """Also if another one is in its file by now, or the file cannot be found by its name."""
    monkeypatch.chdir(tmp_path)
    lcepatch.diff(*pair).save("p.lcepatch")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], check=True)
    subprocess.run([sys.executable, "-m", "lcepatch", "sign", "p.lcepatch", "--key", "key"], check=True, capture_output=True)
    patch = lcepatch.load("p.lcepatch")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    assert lcepatch.push(patch, tmp_path / "moved")["patches"] == ["p.lcepatch"]
    assert lcepatch.load(tmp_path / "moved" / "p.lcepatch").id == patch.id
    # It is the file that was signed.
    assert (tmp_path / "moved" / "p.lcepatch.sig").exists()
    monkeypatch.chdir(tmp_path)
    lcepatch.diff(*reversed(pair)).save("p.lcepatch", replace=True)
    with pytest.raises(lcepatch.UsageError, match="a signature lies beside it"):
        lcepatch.push(patch, tmp_path / "replaced")
    (tmp_path / "p.lcepatch.sig").unlink()
    assert lcepatch.push([patch], tmp_path / "replaced")["patches"] == ["p.lcepatch"]
    assert lcepatch.load(tmp_path / "replaced" / "p.lcepatch").id == patch.id
    (tmp_path / "p.lcepatch").unlink()
    lcepatch.push(patch, tmp_path / "gone")
    assert lcepatch.load(tmp_path / "gone" / "p.lcepatch").id == patch.id


def test_signatures_can_be_required(pair, tmp_path, monkeypatch):
    lcepatch.diff(*pair).save(tmp_path / "p.lcepatch")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "signers").write_text("alice " + (tmp_path / "key.pub").read_text())
    with pytest.raises(lcepatch.NotSigned):
        lcepatch.load(tmp_path / "p.lcepatch", allowed_signers=tmp_path / "signers")
    monkeypatch.setenv("LCEPATCH_ALLOWED_SIGNERS", str(tmp_path / "signers"))
    with pytest.raises(lcepatch.NotSigned):
        lcepatch.load(tmp_path / "p.lcepatch")
    subprocess.run(
        [sys.executable, "-m", "lcepatch", "sign", tmp_path / "p.lcepatch", "--key", tmp_path / "key"], check=True, capture_output=True
    )
    lcepatch.load(tmp_path / "p.lcepatch", signer="alice")
    with pytest.raises(lcepatch.NotSigned):
        lcepatch.load(tmp_path / "p.lcepatch", signer="bob")


def test_errors_tell_whose_move_it_is(pair, tmp_path, monkeypatch):
    (tmp_path / "x.lcepatch").write_bytes(b"<html>")
    cases = [
        (lcepatch.FileError, OSError, 3, "io", lambda: lcepatch.load(tmp_path / "absent.lcepatch")),
        (lcepatch.InvalidPatch, ValueError, 4, "patch.invalid", lambda: lcepatch.load(tmp_path / "x.lcepatch")),
        (lcepatch.InvalidCheckpoint, ValueError, 5, "checkpoint.malformed", lambda: lcepatch.diff(pair[0], tmp_path / "x.lcepatch")),
        (lcepatch.NetworkError, ConnectionError, 9, "remote.offline", lambda: lcepatch.load("org/patches")),
        (lcepatch.UsageError, ValueError, 2, "usage", lambda: lcepatch.diff(*pair, density=0.1, count=3)),
        (lcepatch.UsageError, ValueError, 2, "usage", lambda: lcepatch.verify(pair[0], nonsense=3)),
    ]
    for kind, builtin, code, name, call in cases:
        with pytest.raises(kind) as raised:
            call()
        error = raised.value
        assert isinstance(error, builtin) and (error.code, error.kind) == (code, name)
        assert str(error).startswith(error.message) and error.message
        assert error.help is None or f"help: {error.help}" in error.__notes__


def test_models_are_measured_with_onnx_runtime_or_it_is_said_to_be_missing(tmp_path, monkeypatch):
    patch = lcepatch.diff(DEMO / "biased", DEMO / "counterfactual", density=0.01)
    monkeypatch.setenv("ORT_DYLIB_PATH", str(tmp_path / "absent.so"))
    with pytest.raises(lcepatch.Missing) as raised:
        lcepatch.verify(DEMO / "biased", patch, alpha=[1, -2], perplexity=DEMO / "heldout.txt")
    assert raised.value.code == 8 and raised.value.help
    monkeypatch.delenv("ORT_DYLIB_PATH")
    try:
        report = lcepatch.verify(DEMO / "biased", patch, alpha=[1, -2], perplexity=DEMO / "heldout.txt")
    except lcepatch.Missing:
        pytest.skip("there is no ONNX Runtime: pip install onnxruntime")
    assert report["schema"] == 1


def test_notes_go_to_the_logger(caplog):
    lcepatch.load(ROOT / "fixtures" / "vectors" / "v1" / "accept_metadata_alpha_true.lcepatch")
    (record,) = caplog.records
    assert record.name == "lcepatch" and "recommended_alpha, which is a boolean" in record.getMessage()
