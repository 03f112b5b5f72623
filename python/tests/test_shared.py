"""Edits of arrays that share memory: either they become what the command makes of each, or nothing is changed."""

import itertools

import numpy as np
import pytest

import lcepatch
from conftest import bits, copy


def refused(patch, mine, whole, alpha=None):
    """Whether the edit is refused since arrays share memory. Then nothing may have changed in all of their memory."""
    before = whole.tobytes()
    try:
        undo = patch.apply_(mine, alpha)
    except lcepatch.Refused as error:
        assert (error.kind, whole.tobytes()) == ("base.shared", before)
        assert "share memory" in error.message and all(repr(name).replace("'", '"') in error.message for name in mine)
        assert error.help
        return True
    after = bits(mine)
    undo()
    assert whole.tobytes() == before
    patch.apply_(mine, alpha)
    assert bits(mine) == after
    return False


def test_a_transposed_tie_is_edited_if_both_change_alike_and_refused_otherwise():
    x = np.arange(16, dtype="f4").reshape(4, 4)
    new = x.copy()
    new[1, 1], new[3, 3], new[0, 3] = 6, 20, 12
    for alpha in (1, -2, 0.5):
        for order in (["a", "b"], ["b", "a"]):
            mine = x.copy()
            tied, alike = {"a": mine, "b": mine.T}, {"a": new, "b": new.T}
            patch = lcepatch.diff({name: copy(tied)[name] for name in order}, alike)
            expected = {name: array.copy(order="K") for name, array in tied.items()}
            patch.apply_(expected, alpha)
            assert not refused(patch, {name: tied[name] for name in order}, mine, alpha)
            assert bits(tied) == bits(expected)
    for different in ({"a": new, "b": x.T + 1}, {"a": new, "b": new}, {"a": x + 1, "b": x.T + 2}):
        mine = x.copy()
        tied = {"a": mine, "b": mine.T}
        assert refused(lcepatch.diff(copy(tied), different), tied, mine)


def test_an_element_that_only_one_of_two_views_changes_is_refused():
    x = np.arange(16, dtype="f4").reshape(4, 4)
    new = x.copy()
    new[1, 2] = 50
    other = x.T.copy()
    other[3, 3] = 60
    mine = x.copy()
    tied = {"a": mine, "b": mine.T}
    assert refused(lcepatch.diff(copy(tied), {"a": new, "b": other}), tied, mine)


def test_strided_views_are_refused_only_where_they_meet():
    x = np.arange(60, dtype="f4")
    mine = x.copy()
    views = {"a": mine[:40:2], "b": mine[10:50:2]}
    assert refused(lcepatch.diff(copy(views), {"a": views["a"] + 1, "b": views["b"] + 2}), views, mine)
    assert not refused(lcepatch.diff(copy(views), {"a": views["a"] + 1, "b": views["b"] + 1}), views, mine)
    assert (mine[:50:2] == x[:50:2] + 1).all() and (mine[1::2] == x[1::2]).all()
    mine = x.copy()
    views = {"a": mine[:40:2], "b": mine[10:50:2]}
    apart = {name: array.copy() for name, array in views.items()}
    apart["a"][:5], apart["b"][15:] = 7, 8
    assert not refused(lcepatch.diff(copy(views), apart), views, mine)
    assert (mine[:10:2] == 7).all() and (mine[40:50:2] == 8).all() and (mine[10:40] == x[10:40]).all()


def test_parts_of_one_array_that_do_not_meet_are_edited():
    x = np.arange(240, dtype="f4").reshape(12, 20)
    for part in (
        lambda x: {"a": x[:, ::2], "b": x[:, 1::2]},
        lambda x: {"a": x[:, :5], "b": x[:, 5:9], "c": x[:, 9:]},
        lambda x: {"a": x[::-1, ::-2], "b": x[:, ::2].T},
        lambda x: {"a": x[:6].T, "b": x[6:]},
        lambda x: {str(at): x[:, at] for at in range(20)},
    ):
        mine = x.copy()
        views = part(mine)
        new = {name: array * 3 + at for at, (name, array) in enumerate(views.items())}
        assert not refused(lcepatch.diff(copy(views), new), views, mine)
        assert bits(views) == bits(new)


def test_views_of_other_dtypes_on_the_same_bytes():
    x = np.arange(1, 9, dtype="f4")
    new = x * 2
    mine = x.copy()
    views = {"a": mine, "b": mine.view("u1")[1::4], "c": mine.view("u2")[1::2]}
    assert not refused(
        lcepatch.diff(copy(views), {"a": new, "b": new.view("u1")[1::4], "c": new.view("u2")[1::2]}), views, mine
    )
    assert (mine == new).all()
    mine = x.copy()
    views = {"a": mine, "c": mine.view("u2")[1::2]}
    assert refused(lcepatch.diff(copy(views), {"a": new, "c": new.view("u2")[1::2] + 1}), views, mine)


def view(rng, buffer):
    """Some array in a buffer, of any dtype, at any place and with any steps."""
    while True:
        dtype = np.dtype(rng.choice(["f4", "f2", "u1", "i4", "u2"]))
        shape = tuple(int(n) for n in rng.integers(1, 7, rng.integers(0, 3)))
        strides = [dtype.itemsize]
        for n in shape[::-1]:
            strides.insert(0, strides[0] * n + int(rng.choice([0, 0, 1, 2, dtype.itemsize])))
        strides = strides[1:] if rng.integers(2) else [stride * 2 for stride in strides[1:]]
        signs = rng.choice([1, 1, -1], len(shape))
        reach = sum(stride * (n - 1) for stride, n in zip(strides, shape, strict=True)) + dtype.itemsize
        if reach > buffer.nbytes:
            continue
        start = int(rng.integers(0, min(buffer.nbytes - reach, 24) + 1))
        start += sum(stride * (n - 1) for stride, n, sign in zip(strides, shape, signs, strict=True) if sign < 0)
        array = np.ndarray(shape, dtype, buffer, start, tuple(int(a * b) for a, b in zip(strides, signs, strict=True)))
        return array.T if rng.integers(2) else array


def places(array):
    """The addresses of an array's bytes, in the order of its elements."""
    at = np.zeros(array.shape, "i8")
    for axis, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        at += (np.arange(n) * stride).reshape([-1 if other == axis else 1 for other in range(array.ndim)])
    return (at.reshape(-1, 1) + array.__array_interface__["data"][0] + np.arange(array.itemsize)).reshape(-1)


def becomes_each(expected, views):
    """Whether there is a memory in which each of the views is what is expected of it."""
    found = {}
    for name, array in views.items():
        for place, byte in zip(places(array), expected[name].tobytes(), strict=True):
            if found.setdefault(place, byte) != byte:
                return False
    return True


def meet_where_they_are(views):
    """Whether contiguous arrays, which are edited in their own memory, share it without being the same."""
    own = [array for array in views.values() if array.flags.c_contiguous]

    def meet(one, other):
        same = one.itemsize == other.itemsize and np.array_equal(places(one), places(other))
        return not same and not set(places(one)).isdisjoint(places(other))

    return any(meet(one, other) for one, other in itertools.combinations(own, 2))


def test_random_views_of_one_buffer_become_what_each_would_alone_or_are_refused():
    rng = np.random.default_rng(3)
    outcomes = {True: 0, False: 0}
    for round in range(1000):
        buffer = rng.integers(0, 256, 120).astype("u1")
        views = {name: view(rng, buffer) for name in "ab"[: rng.integers(2, 3)]}
        changed = buffer.copy()
        share = rng.choice([0.02, 0.2, 1])
        changed[rng.random(120) < share] ^= 1
        base, start = copy(views), buffer.__array_interface__["data"][0]
        reference = {
            name: np.ndarray(
                array.shape, array.dtype, changed, array.__array_interface__["data"][0] - start, array.strides
            ).copy()
            for name, array in views.items()
        }
        if rng.integers(2):
            other = reference[str(rng.choice(list(views)))].reshape(-1).view("u1")
            other[rng.integers(len(other))] ^= 2
        reference["z"], base["z"] = np.ones(1, "f4"), np.zeros(1, "f4")
        patch = lcepatch.diff(base, reference)
        expected = copy(base)
        patch.apply_(expected, 1)
        names = {row.name for row in patch.tensors}
        mine = {name: array for name, array in views.items() if name in names}
        is_refused = not becomes_each(expected, mine) or meet_where_they_are(mine)
        z = np.zeros(1, "f4")
        before = buffer.tobytes()
        try:
            undo = patch.apply_({**mine, "z": z}, 1)
        except lcepatch.Refused as error:
            assert (error.kind, buffer.tobytes(), z[0]) == ("base.shared", before, 0)
            assert is_refused, (round, mine)
        else:
            assert not is_refused, (round, mine)
            assert bits(mine) == {name: expected[name].tobytes() for name in mine}
            assert undo.changed() == []
            undo()
            assert buffer.tobytes() == before
        outcomes[is_refused] += 1
    assert min(outcomes.values()) > 50, outcomes
