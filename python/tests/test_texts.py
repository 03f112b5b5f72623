"""Texts that no file can hold: half of a pair of surrogates, which Python lets be a letter, and NUL in names of files."""

import numpy as np
import pytest

import lcepatch

HALF = "a\ud800b"
BASE, REFERENCE = {"w": np.zeros(4, "f4")}, {"w": np.ones(4, "f4")}


@pytest.fixture(scope="module")
def patch():
    return lcepatch.diff(BASE, REFERENCE)


def diff(**wishes):
    return lambda _: lcepatch.diff(BASE, REFERENCE, **wishes)


CALLS = {
    **{name: diff(**{name: HALF}) for name in ("description", "license", "base_model", "reference_model", "params", "scope")},
    "meta": diff(meta={"a": HALF}),
    "key": diff(meta={HALF: 1}),
    "results": diff(results={"a": [HALF]}),
    "include": diff(include=[HALF]),
    "prefix": diff(prefix={"w": HALF}),
    "tensor": lambda _: lcepatch.diff({HALF: BASE["w"]}, {HALF: REFERENCE["w"]}),
    "load": lambda _: lcepatch.load(HALF),
    "signers": lambda _: lcepatch.load("p.lcepatch", allowed_signers=HALF),
    "signer": lambda _: lcepatch.load("p.lcepatch", allowed_signers="s", signer=HALF),
    "save": lambda patch: patch.save(HALF),
    "check": lambda patch: patch.check(HALF),
    "positions": lambda patch: patch.positions(HALF),
    "values": lambda patch: patch.values(HALF, {HALF: BASE["w"]}),
    "base": lambda patch: patch.apply(HALF, "out"),
    "apply_": lambda patch: patch.apply_(BASE, include=[HALF]),
    "check=": lambda patch: patch.apply_(BASE, check=HALF),
    "select": lambda patch: patch.select(components=[HALF]),
    "find": lambda _: lcepatch.find(HALF),
    "push": lambda patch: lcepatch.push("p.lcepatch", HALF),
    "pull": lambda _: lcepatch.pull("org/patches", HALF),
    "verify": lambda _: lcepatch.verify(HALF, weat="6"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_half_of_a_pair_of_surrogates_is_no_text(patch, call):
    with pytest.raises(lcepatch.UsageError, match=r"a\\ud800b.* is no text: .* half of a pair of surrogates at index") as raised:
        call(patch)
    assert (raised.value.kind, raised.value.code) == ("usage", 2) and raised.value.help


def test_what_is_of_another_type_is_named():
    with pytest.raises(TypeError, match="description: .*int"):
        lcepatch.diff(BASE, REFERENCE, description=3)


@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_nul_is_in_no_name_of_a_file_and_may_be_in_texts(patch, name, tmp_path):
    for call in (
        lambda: lcepatch.load(name),
        lambda: patch.save(tmp_path / name),
        lambda: patch.check(name),
        lambda: lcepatch.find(name, "org/patches"),
    ):
        with pytest.raises(lcepatch.FileError, match="NUL"):
            call()
    noted = lcepatch.diff(BASE, REFERENCE, description=name, meta={name: name})
    assert lcepatch.Patch.from_bytes(noted.to_bytes()).metadata["description"] == name
    named = lcepatch.diff({name: BASE["w"]}, {name: REFERENCE["w"]})
    mine = {name: BASE["w"].copy()}
    named.apply_(mine)
    assert mine[name].all()
