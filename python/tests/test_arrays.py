"""Edits of arrays of numpy in place."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import lcepatch
from conftest import DTYPES, bits, copy, raw, read, save, vectors

ALPHAS = [0.0, 1.0, 0.5, -2.0]


def applied_by_files(base, patch, alpha, folder):
    """What the command makes of the arrays."""
    file = save(folder / "base.safetensors", base)
    lcepatch.apply(file, patch, folder / f"{alpha}.safetensors", alpha)
    return bits(read(folder / f"{alpha}.safetensors"))


@pytest.mark.parametrize("wishes", [{}, {"density": 0.02}, {"count": 7}, {"portable": True}, {"precision": "bf16", "density": 0.05}])
@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_arrays_become_what_the_command_writes_and_what_they_were(make, tmp_path, wishes, share):
    base, reference = make(share=share)
    patch = lcepatch.diff(base, reference, params="all", **wishes)
    for alpha in ALPHAS:
        mine = copy(base)
        undo = patch.apply_(mine, alpha)
        assert bits(mine) == applied_by_files(base, patch, alpha, tmp_path)
        assert sum(undo.edited.values()) == (0 if alpha == 0 else patch.selected)
        undo()
        assert bits(mine) == bits(base)


def test_a_quick_check_edits_the_same(make):
    base, reference = make()
    patch = lcepatch.diff(base, reference, density=0.05, params="all")
    full, quick = copy(base), copy(base)
    patch.apply_(full, -2)
    patch.apply_(quick, -2, check="quick")
    assert bits(full) == bits(quick)


def test_bits_of_nan_zero_and_infinity_are_kept():
    def array(*patterns):
        return np.array(patterns, "u4").view("f4")

    base = {"w": array(0x7FA00001, 0x80000000, 0, 0x7F800000, 0x3F800000, 0xFFC00123)}
    reference = {"w": array(0x7FC00000, 0, 0x80000000, 0xFF800000, 0x7FA00005, 0xFFC00123)}
    mine = copy(base)
    undo = lcepatch.diff(base, reference).apply_(mine, 1)
    assert bits(mine) == bits(reference)
    undo()
    assert bits(mine) == bits(base)


def test_integers_and_booleans_at_alpha_1():
    base = {"i": np.arange(20), "b": np.zeros(9, bool), "u": np.zeros((3, 3), "u1")}
    reference = {"i": base["i"] * 3, "b": ~base["b"], "u": base["u"] + 9}
    mine = copy(base)
    undo = lcepatch.diff(base, reference).apply_(mine)
    assert bits(mine) == bits(reference)
    undo()
    assert bits(mine) == bits(base)


def test_arrays_without_elements_and_without_dimensions():
    base = {"empty": np.zeros((0, 3), "f4"), "scalar": np.array(1.5, "f4"), "w": np.ones(4, "f4")}
    reference = {**copy(base), "scalar": np.array(2.5, "f4")}
    mine = copy(base)
    lcepatch.diff(base, reference).apply_(mine)
    assert bits(mine) == bits(reference)


def test_all_arrays_are_edited_or_none():
    base = {name: np.full(100, 1.0, "f2") for name in "abcdefghi"}
    reference = {name: array + np.float16(1) for name, array in base.items()}
    base["h"][3], reference["h"][3] = 6e4, 6.5e4
    mine = copy(base)
    with pytest.raises(lcepatch.NumberError, match="h") as raised:
        lcepatch.diff(base, reference).apply_(mine, 3)
    assert (raised.value.code, raised.value.kind) == (7, "numbers.not-finite")
    assert bits(mine) == bits(base)
    with lcepatch.diff(base, reference).apply_(mine, 3, not_finite=True):
        assert np.isinf(mine["h"][3])


def test_a_patch_that_lies_about_its_result_changes_nothing():
    """The reference's digest in the patch is that of another one."""
    base = {"w": np.zeros(64, "f4")}
    honest = lcepatch.diff(base, {"w": np.ones(64, "f4")}).to_bytes()
    other = lcepatch.diff(base, {"w": np.full(64, 2, "f4")}).to_bytes()
    assert honest != other
    mine = copy(base)
    for at in range(0, len(honest), 7):
        damaged = bytearray(honest)
        damaged[at] ^= 1
        with pytest.raises(lcepatch.Error):
            lcepatch.Patch.from_bytes(bytes(damaged)).apply_(mine)
        assert bits(mine) == bits(base)


def test_what_is_not_contiguous_is_edited_too(make):
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    for alpha in (1, -2):
        plain = copy(base)
        patch.apply_(plain, alpha)
        strange = {name: np.asfortranarray(array) for name, array in base.items()}
        wide = np.zeros((500, 20), "f4")
        strange["layer.0.weight"] = wide[:, 3:17:2]
        strange["layer.0.weight"][:] = base["layer.0.weight"]
        backwards = base["layer.1.weight"][::-1].copy()[::-1]
        strange["layer.1.weight"] = backwards
        undo = patch.apply_(strange, alpha)
        assert bits(strange) == bits(plain)
        assert not wide[:, :3].any() and not wide[:, 17:].any()
        assert undo.changed() == []
        undo()
        assert bits(strange) == bits(base)


def test_what_cannot_be_edited_is_refused_by_name(make):
    base, reference = make(dtypes="f4 f4")
    patch = lcepatch.diff(base, reference)
    name = "layer.1.weight"
    shared = np.lib.stride_tricks.as_strided(base[name].copy(), (500,), (0,))
    strange = {
        "array.read-only": base[name].copy(),
        "array.overlapping": shared,
        "array.unsupported": base[name].astype(">f4"),
        "base.differs": base[name].astype("f2"),
    }
    strange["array.read-only"].flags.writeable = False
    for kind, array in [*strange.items(), ("array.unsupported", list(base[name])), ("array.unsupported", np.ma.array(base[name]))]:
        mine = {**copy(base), name: array}
        before = mine["layer.0.weight"].copy()
        with pytest.raises(lcepatch.Refused, match="layer.1.weight") as raised:
            patch.apply_(mine)
        assert raised.value.kind == kind and raised.value.help
        assert (mine["layer.0.weight"] == before).all()
    with pytest.raises(lcepatch.Refused, match="layer.1.weight") as raised:
        patch.apply_({"layer.0.weight": base["layer.0.weight"]})
    assert raised.value.kind == "base.differs"
    # What the patch does not change may be anything.
    with patch.apply_({**copy(base), "other": object()}):
        pass


@pytest.mark.parametrize("step", [1, 2])
def test_an_array_that_became_read_only_is_not_restored_nor_anything_else(step):
    base = {name: np.zeros(100, "f4")[::step] for name in "vw"}
    patch = lcepatch.diff(base, {name: np.ones(100 // step, "f4") for name in "vw"})
    undo = patch.apply_(base)
    base["w"].flags.writeable = False
    with pytest.raises(lcepatch.Refused) as raised:
        undo()
    assert raised.value.kind == "array.read-only" and "'w'" in str(raised.value)
    assert base["v"].all() and base["w"].all() and undo.active
    with pytest.raises(lcepatch.Refused):
        with undo:
            pass
    base["w"].flags.writeable = True
    undo()
    assert not base["v"].any() and not base["w"].any() and not undo.active


def test_a_read_only_copy_of_strided_memory_is_refused():
    base, reference = {"w": np.zeros((4, 4), "f4", order="F")}, {"w": np.eye(4, dtype="f4")}
    mine = {"w": base["w"].copy(order="F")}
    mine["w"].flags.writeable = False
    with pytest.raises(lcepatch.Refused) as raised:
        lcepatch.diff(base, reference).apply_(mine)
    assert raised.value.kind == "array.read-only" and not mine["w"].any()


def test_tied_weights_are_edited_once():
    one = np.arange(12, dtype="f4")
    base, reference = {"head": one, "embed": one}, {"head": one + 1, "embed": one + 1}
    patch = lcepatch.diff(copy(base), reference)
    mine = one.copy()
    undo = patch.apply_({"head": mine, "embed": mine}, -2)
    assert (mine == one - 2).all() and len(undo.edited) == 1
    undo()
    assert (mine == one).all()
    fortran = np.asfortranarray(one.reshape(3, 4))
    shaped = lcepatch.diff({"a": fortran, "b": fortran}, {"a": fortran + 1, "b": fortran + 1})
    mine = fortran.copy(order="F")
    undo = shaped.apply_({"a": mine, "b": mine})
    assert (mine == fortran + 1).all() and len(undo.edited) == 1
    undo()
    assert (mine == fortran).all()


def test_tied_weights_that_should_become_different_are_refused():
    one = np.arange(12, dtype="f4")
    patch = lcepatch.diff({"head": one, "embed": one}, {"head": one + 1, "embed": one + 2})
    mine = one.copy()
    with pytest.raises(lcepatch.Refused, match="share memory") as raised:
        patch.apply_({"head": mine, "embed": mine})
    assert raised.value.kind == "base.shared" and (mine == one).all()
    longer = np.arange(16, dtype="f4")
    halves = lcepatch.diff({"a": longer[:12], "b": longer[4:]}, {"a": longer[:12] + 1, "b": longer[4:] + 1})
    with pytest.raises(lcepatch.Refused, match="share memory"):
        halves.apply_({"a": longer[:12], "b": longer[4:]})
    assert (longer == np.arange(16)).all()


def test_leaving_the_block_restores_after_an_exception_too(make):
    base, reference = make()
    mine = copy(base)
    with pytest.raises(ZeroDivisionError), lcepatch.diff(base, reference).apply_(mine) as undo:
        assert undo.active and bits(mine) != bits(base)
        1 / 0
    assert bits(mine) == bits(base) and not undo.active
    undo()
    assert bits(mine) == bits(base)


def test_stacked_edits_are_undone_in_any_order_that_is_exact():
    base = {"w": np.zeros(10, "f4")}
    first, second = copy(base), copy(base)
    first["w"][:6] = 1
    second["w"][:6], second["w"][4:] = 1, 2
    one, two = lcepatch.diff(base, first), lcepatch.diff(first, second)
    mine = copy(base)
    undo_one, undo_two = one.apply_(mine), two.apply_(mine)
    assert bits(mine) == bits(second)
    assert undo_one.changed() == ["w"]
    with pytest.raises(lcepatch.Refused, match="something else has changed") as raised:
        undo_one()
    assert raised.value.kind == "array.changed" and bits(mine) == bits(second)
    undo_two()
    undo_one()
    assert bits(mine) == bits(base)
    with one.apply_(mine), two.apply_(mine):
        assert bits(mine) == bits(second)
    assert bits(mine) == bits(base)


def test_what_was_changed_in_the_block_is_said(make):
    base, reference = make()
    mine = copy(base)
    with pytest.warns(RuntimeWarning, match="something else has changed"), lcepatch.diff(base, reference).apply_(mine):
        mine["layer.0.weight"][:] = 7
    edited = lcepatch.diff(base, reference).positions("layer.0.weight")
    restored, rest = mine["layer.0.weight"].reshape(-1), base["layer.0.weight"].reshape(-1)
    assert (restored[edited] == rest[edited]).all() and (np.delete(restored, edited) == 7).all()


def test_several_patches_add_up_as_the_command_adds_them(make, tmp_path):
    base, first = make(1)
    _, second = make(1, share=0.3)
    patches = [(lcepatch.diff(base, first), -2.0), lcepatch.diff(base, second)]
    mine = copy(base)
    undo = lcepatch.apply_(patches, mine, 0.5)
    lcepatch.apply(save(tmp_path / "b.safetensors", base), patches, tmp_path / "r.safetensors", 0.5)
    assert bits(mine) == bits(read(tmp_path / "r.safetensors"))
    undo()
    assert bits(mine) == bits(base)


def test_alpha_is_the_recommended_one_unless_another_is_given(make):
    base, reference = make(dtypes="f8")
    patch = lcepatch.diff(base, reference, recommended_alpha=-2)
    assert patch.alpha == -2
    by_default, given = copy(base), copy(base)
    patch.apply_(by_default)
    patch.apply_(given, -2)
    assert bits(by_default) == bits(given) != bits(base)
    for alpha in (float("nan"), float("inf")):
        with pytest.raises(lcepatch.UsageError, match="finite"):
            patch.apply_(copy(base), alpha)


def test_prefixes_and_globs_choose_arrays(make):
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    mine = {f"model.{name}": array.copy() for name, array in base.items()}
    patch.apply_(mine, prefix={"layer.": "model.layer."})
    assert bits(mine) == {f"model.{name}": array for name, array in bits(reference).items()}
    part = copy(base)
    undo = patch.apply_({"layer.1.weight": part["layer.1.weight"]}, include=["layer.1.*"])
    assert list(undo.edited) == ["layer.1.weight"]
    assert (part["layer.1.weight"] == reference["layer.1.weight"]).all()


def test_another_base_only_if_it_is_wanted(make):
    base, reference = make(dtypes="f4")
    patch = lcepatch.diff(base, reference, portable=True)
    other = {name: array + 1 for name, array in base.items()}
    with pytest.raises(lcepatch.Refused):
        patch.apply_(copy(other))
    mine = copy(other)
    with patch.apply_(mine, different_base=True):
        assert bits(mine) != bits(other)
    assert bits(mine) == bits(other)


@pytest.fixture(scope="module")
def big():
    """Enough to work on for a while."""
    base = {str(at): np.zeros(1 << 22, "f4") for at in range(8)}
    reference = {name: array.copy() for name, array in base.items()}
    for array in reference.values():
        array[::40] = 1
    return base, lcepatch.diff(base, reference)


def test_other_threads_run_meanwhile(big):
    base, patch = big
    count, stop = 0, threading.Event()

    def counter():
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=counter)
    thread.start()
    before, start = count, time.perf_counter()
    undo = patch.apply_(base, -2)
    took, counted = time.perf_counter() - start, count - before
    stop.set()
    thread.join()
    undo()
    assert counted > took / 0.0005 / 20, f"{counted} in {took} s"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_leaves_everything_as_it_was(big):
    base, patch = big
    before, interrupted, start = bits(base), 0, time.perf_counter()
    patch.apply_(base, 0.5)()
    whole = time.perf_counter() - start
    assert bits(base) == before
    for share in (0.05, 0.2, 0.4, 0.6, 0.8):
        delay = share * whole
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        start = time.perf_counter()
        try:
            timer.start()
            undo = patch.apply_(base, 0.5)
            timer.cancel()
            timer.join()
            undo()
        except KeyboardInterrupt:
            interrupted += 1
            assert time.perf_counter() - start < delay + 0.5 + whole / 3
        assert bits(base) == before
    assert interrupted


def test_threads_edit_their_own_arrays(make):
    base, reference = make(n=20_000)
    patch = lcepatch.diff(base, reference)
    wrong = []

    def work():
        for _ in range(5):
            mine = copy(base)
            with patch.apply_(mine):
                if bits(mine) != bits(reference):
                    wrong.append("edited")
            if bits(mine) != bits(base):
                wrong.append("restored")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_was_forked_has_threads_of_its_own(make):
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    patch.apply_(copy(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        mine = copy(base)
        patch.apply_(mine)
        os._exit(0 if bits(mine) == bits(reference) else 1)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child does not end")


def test_files_and_arrays_without_numpy(tmp_path):
    base, reference = {"w": np.zeros(8, "f4")}, {"w": np.ones(8, "f4")}
    save(tmp_path / "a.safetensors", base)
    save(tmp_path / "b.safetensors", reference)
    code = """
import sys
sys.modules["numpy"] = sys.modules["torch"] = None
import lcepatch
patch = lcepatch.diff("a.safetensors", "b.safetensors")
assert patch.check("a.safetensors")
assert patch.apply("a.safetensors", "c.safetensors").is_reference
assert "8 weights" in patch.show() and "<svg" in patch._repr_html_()
"""
    folder = Path(lcepatch.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": str(folder)})
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_vectors_of_the_format():
    """At alpha 1 and at those that a vector lists. Some dtypes are only torch's: see test_torch.py."""
    tried = 0
    for vector in vectors():
        if any(dtype not in DTYPES for dtype, _, _ in raw(vector["base"]).values()):
            continue
        base, patch = read(vector["base"]), lcepatch.load(vector["path"])
        for case in [{"alpha": 1, "result": vector["result"]}, *vector["alphas"]]:
            mine = copy(base)
            if case["result"] is None or "error" in case:
                continue
            undo = patch.apply_(mine, case["alpha"], not_finite=True)
            assert {name: mine[name].tobytes().hex() for name in case["result"]} == case["result"], vector["path"]
            undo()
            assert bits(mine) == bits(base)
            tried += 1
    assert tried > 80


def test_random_pairs_give_what_the_command_gives(tmp_path):
    rng = np.random.default_rng(7)
    for round in range(25):
        base, reference = {}, {}
        for at in range(rng.integers(1, 4)):
            shape = tuple(rng.integers(1, 30, rng.integers(0, 4)))
            dtype = rng.choice(["f2", "f4", "f8"])
            old = rng.standard_normal(shape).astype(dtype)
            chosen = rng.random(shape) < rng.random()
            base[f"{round}.{at}"] = old
            reference[f"{round}.{at}"] = np.where(chosen, rng.standard_normal(shape).astype(dtype), old)
        patch = lcepatch.diff(base, reference, portable=bool(rng.integers(2)))
        alpha = float(rng.choice([1, 0, rng.standard_normal()]))
        mine = copy(base)
        folder = tmp_path / str(round)
        folder.mkdir()
        undo = patch.apply_(mine, alpha)
        assert bits(mine) == applied_by_files(base, patch, alpha, folder)
        undo()
        assert bits(mine) == bits(base)


def test_arrays_that_are_made_anew_at_each_look_are_refused(make, tmp_path):
    """As numpy makes those of a file: what is edited would be nobody's."""
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    np.savez(tmp_path / "x.npz", **base)
    with np.load(tmp_path / "x.npz") as file:
        with pytest.raises(lcepatch.Refused, match="layer.0.weight") as raised:
            patch.apply_(file)
        assert raised.value.kind == "array.temporary" and "dict(arrays)" in raised.value.help
        # They can be read.
        assert patch.check(file) and lcepatch.diff(file, reference).id == patch.id
        arrays = dict(file)
    patch.apply_(arrays)
    assert bits(arrays) == bits(reference)

    class Views(dict):
        """New arrays, of the same memory."""

        def __getitem__(self, name):
            return super().__getitem__(name)[:]

    views = Views(copy(base) | {"none": np.zeros(0, "f4")})
    patch.apply_(views)
    assert bits({name: views[name] for name in base}) == bits(reference)
