"""What callers give in place of what is expected."""

import os
from pathlib import Path

import numpy as np
import pytest

import lcepatch
from conftest import bits, copy, save

TOO_LARGE = 10**400


@pytest.fixture
def model(make):
    """Arrays, and a patch of them."""
    base, reference = make()
    return base, lcepatch.diff(base, reference)


def refused(call, *words):
    """A usage error that says these words, and has help."""
    with pytest.raises(lcepatch.UsageError) as raised:
        call()
    text = f"{raised.value} | {raised.value.help}"
    assert raised.value.help and all(word in text for word in words), text


def test_weights_of_a_mapping_are_not_dropped(model, tmp_path):
    base, patch = model
    patch.save(tmp_path / "p.lcepatch")
    mine = copy(base)
    for key in (str(tmp_path / "p.lcepatch"), patch):
        refused(lambda key=key: lcepatch.apply_({key: 0.5}, mine), "mapping", "(patch, alpha)")
        refused(lambda key=key: lcepatch.combine({key: 0.5}, base=base), "mapping", "(patch, alpha)")
        refused(lambda key=key: lcepatch.apply(tmp_path, {key: 0.5}, tmp_path / "out"), "mapping", "(patch, alpha)")
        refused(lambda key=key: lcepatch.push({key: 0.5}, tmp_path / "place"), "mapping")
        refused(lambda key=key: lcepatch.verify(tmp_path, {key: 0.5}), "mapping")
    refused(lambda: lcepatch.apply_((patch, 0.5), mine), "0.5 is no name")
    refused(lambda: lcepatch.apply_([(patch, 0.5, 1)], mine), "tuple is no name")
    assert bits(mine) == bits(base)


def test_what_has_no_arrays_with_names_is_refused(model, tmp_path):
    base, patch = model
    for arrays in (None, tmp_path, "model/", [*base.values()], [*base], iter(base.items()), base.items(), base["layer.0.weight"]):
        refused(lambda arrays=arrays: patch.apply_(arrays), type(arrays).__name__, "mapping from names to arrays", "state_dict()")


def test_names_are_chosen_by_one_glob_or_any_number_of_them(model):
    base, patch = model
    expected = copy(base)
    patch.apply_(expected, include=["layer.1.*"])
    assert bits(expected) != bits(base)
    for globs in ("layer.1.*", {"layer.1.*"}, ("layer.1.*",), (glob for glob in ["layer.1.*"])):
        mine = copy(base)
        patch.apply_(mine, include=globs)
        assert bits(mine) == bits(expected)
    others = {"exclude": iter(["layer.0.*", "layer.2.*"])}
    assert [row.name for row in patch.select(**others, base=base).tensors] == ["layer.1.weight"]
    assert [row.name for row in lcepatch.diff(base, expected, include="layer.1.*").tensors] == ["layer.1.weight"]
    for wrong in (5, None, [5], b"*"):
        refused(lambda wrong=wrong: patch.apply_(base, include=wrong), "include", "no text")
        refused(lambda wrong=wrong: patch.select(exclude=wrong), "exclude", "no text")
        refused(lambda wrong=wrong: lcepatch.diff(base, base, include=wrong), "include", "no text")
    for wrong in ("bert.", ["bert."], {"bert.": None}, 5):
        refused(lambda wrong=wrong: patch.apply_(base, prefix=wrong), "prefix", "mapping")
        refused(lambda wrong=wrong: patch.check(base, prefix=wrong), "prefix", "mapping")


def test_alphas_are_numbers(model, tmp_path):
    base, patch = model
    mine = copy(base)
    for wrong in (TOO_LARGE, -TOO_LARGE, "1", b"1", [], np.ones(2)):
        refused(lambda wrong=wrong: patch.apply_(mine, wrong), "alpha")
        refused(lambda wrong=wrong: lcepatch.combine([(patch, wrong)], base=base), "alpha")
        refused(lambda wrong=wrong: lcepatch.diff(base, base, recommended_alpha=wrong), "recommended_alpha")
    refused(lambda: lcepatch.verify(tmp_path, patch, alpha=[1, TOO_LARGE]), "alpha")
    refused(lambda: lcepatch.verify(tmp_path, patch, alpha=TOO_LARGE), "alpha")
    assert bits(mine) == bits(base)
    for alpha in (np.float32(2), np.int64(2), True + 1):
        mine = copy(base)
        with patch.apply_(mine, alpha):
            assert bits(mine) == bits({name: patch_of(patch, base, name) for name in base})


def patch_of(patch, base, name):
    """A tensor at alpha 2."""
    array = base[name].copy()
    array.reshape(-1)[patch.positions(name, base=base)] = patch.values(name, base, 2)
    return array


def test_an_object_for_a_path_is_no_name_on_a_hub(model, tmp_path, monkeypatch):
    base, patch = model
    monkeypatch.chdir(tmp_path)
    absent = Path("no/pe")
    for call in (
        lambda: lcepatch.load(absent),
        lambda: lcepatch.diff(absent, base),
        lambda: patch.check(absent),
        lambda: lcepatch.apply(absent, patch, tmp_path / "out"),
        lambda: lcepatch.apply_(absent, base),
        lambda: lcepatch.find(absent, tmp_path),
    ):
        with pytest.raises(lcepatch.FileError, match=r"no/pe|no\\pe"):
            call()
    with pytest.raises(lcepatch.Refused, match="no patches"):
        lcepatch.pull(absent, tmp_path / "out")
    # The text may be one.
    with pytest.raises(lcepatch.NetworkError):
        lcepatch.load("no/pe")
    patch.save("p.lcepatch")
    assert lcepatch.push("p.lcepatch", absent)["sent"] is True and Path("no/pe/p.lcepatch").exists()
    assert lcepatch.load(Path("p.lcepatch")).name == "p.lcepatch"


def test_paths_of_bytes_are_paths(model, tmp_path):
    base, patch = model
    base = os.fsencode(save(tmp_path / "base.safetensors", base))
    patch.save(os.fsencode(tmp_path / "p.lcepatch"))
    name = os.fsencode(tmp_path / "p.lcepatch")
    assert lcepatch.load(name).check(base)
    lcepatch.apply(base, name, os.fsencode(tmp_path / "out.safetensors"), undo=os.fsencode(tmp_path / "undo.lcepatch"))
    assert lcepatch.load(tmp_path / "undo.lcepatch").check(tmp_path / "out.safetensors")
    assert lcepatch.load(name).check(tmp_path / "out.safetensors").state == "result"
    assert lcepatch.push([name], os.fsencode(tmp_path / "place"))["sent"] is True


def test_what_is_no_patch_is_refused(model):
    _, patch = model
    refused(lambda: lcepatch.Patch("p.lcepatch"), "lcepatch.load")
    refused(lambda: patch.restrict("p.lcepatch"), "lcepatch.load")
    for wrong in (None, 5, patch):
        refused(lambda wrong=wrong: lcepatch.load(wrong), "is no name")
        refused(lambda wrong=wrong: patch.check([wrong]), "is no name")
    refused(lambda: lcepatch.squash(patch, 5), "is no name")
