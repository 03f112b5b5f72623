"""Patches that are valid and lie about a digest, in arrays of all kinds."""

import struct

import numpy as np
import pytest

import lcepatch
from conftest import bits, copy

DIGESTS, SELECTED, REFERENCE, RESULT, FIRST_TENSOR = 3, 0, 1, 2, 3


def blake3(data: bytes) -> bytes:
    """As the digest of a tensor that lcepatch tells."""
    array = np.frombuffer(data, "u1")
    return bytes.fromhex(lcepatch.diff({"x": array}, {"x": array ^ 1}).tensors[0].base_digest)


def forged(patch, which, digest=bytes(range(32))):
    """A patch of which one digest is another one, and whose header fits."""
    data = bytearray(patch.to_bytes())
    (length,) = struct.unpack_from("<I", data, 12)
    at = 64
    while True:
        kind, _, _, stored, _ = struct.unpack_from("<HBBII", data, at)
        at += 12
        if kind == DIGESTS:
            break
        at += stored
    data[at + 32 * which : at + 32 * (which + 1)] = digest
    data[32:64] = blake3(bytes(data[:32] + data[64 : 64 + length]))
    return lcepatch.Patch.from_bytes(bytes(data))


def strided(arrays):
    return {name: np.asfortranarray(array) if array.ndim > 1 else array[::-1].copy()[::-1] for name, array in arrays.items()}


@pytest.mark.parametrize("share", [0.01, 1.0])
@pytest.mark.parametrize("form", [copy, strided])
def test_a_digest_that_is_forged_changes_nothing(make, form, share):
    base, reference = make(n=3000, share=share, dtypes="f4 f2 f8")
    patch = lcepatch.diff(base, reference)
    tried = [
        (RESULT, {"alpha": 1}, lcepatch.Refused),
        (FIRST_TENSOR, {"alpha": 1}, lcepatch.Refused),
        (FIRST_TENSOR, {"alpha": -2}, lcepatch.Refused),
        (SELECTED, {"alpha": 1, "check": "quick"}, lcepatch.InvalidPatch),
        (SELECTED, {"alpha": -2, "check": "quick"}, lcepatch.InvalidPatch),
    ]
    for which, options, expected in tried:
        mine = form(base)
        with pytest.raises(expected) as raised:
            forged(patch, which).apply_(mine, **options)
        assert bits(mine) == bits(base), (which, options)
        assert raised.value.message
    # The same digest again is no lie, and what is not checked is not known.
    mine = form(base)
    forged(patch, RESULT).apply_(mine, 1, check="quick")()
    forged(patch, REFERENCE).apply_(mine, 1)()
    assert bits(mine) == bits(base)


def test_a_base_that_is_another_one_is_refused_in_the_same_words_by_both_checks(make):
    base, reference = make(dtypes="f4 f4")
    for share in (0.01, 1.0):
        base, reference = make(dtypes="f4 f4", share=share)
        patch = lcepatch.diff(base, reference)
        mine = copy(base)
        element = patch.positions("layer.0.weight", base=base)[0]
        mine["layer.0.weight"].reshape(-1)[element] += 1
        before, said = bits(mine), set()
        for check in ("full", "quick"):
            for alpha in (1, -2):
                with pytest.raises(lcepatch.Refused, match="1 of 2 tensors") as raised:
                    patch.apply_(mine, alpha, check=check)
                said.add((raised.value.kind, str(raised.value)))
                assert bits(mine) == before
        assert len(said) == 1
