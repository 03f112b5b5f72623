"""What the tests share."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "fixtures" / "demo"
DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "U8": "u1", "BOOL": "?"}

Arrays = dict[str, np.ndarray]


def save(path: Path, arrays: Arrays) -> Path:
    """Writes a safetensors file, without the library that this would need."""
    header, end = {}, 0
    names = {np.dtype(code): name for name, code in DTYPES.items()}
    for name, array in arrays.items():
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values()))
    return path


def raw(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """The dtype, shape and bytes of each tensor of a safetensors file."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    places = {name: [8 + n + offset for offset in entry["data_offsets"]] for name, entry in header.items()}
    return {name: (entry["dtype"], entry["shape"], data[slice(*places[name])]) for name, entry in header.items()}


def read(path: Path) -> Arrays:
    """Reads a safetensors file."""
    each = raw(path).items()
    return {name: np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy() for name, (dtype, shape, data) in each}


def vectors() -> list[dict[str, Any]]:
    """The patches of ``fixtures/vectors`` that are valid, with what they make of their bases."""
    folder = ROOT / "fixtures" / "vectors" / "v1"
    found = [json.loads(path.read_text()) | {"path": path.with_suffix(".lcepatch")} for path in sorted(folder.glob("accept_*.json"))]
    return [vector | {"base": folder / vector["base"]} for vector in found if vector["base"]]


def bits(arrays: Arrays) -> dict[str, bytes]:
    """The bytes of each array."""
    return {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}


def copy(arrays: Arrays) -> Arrays:
    return {name: array.copy() for name, array in arrays.items()}


@pytest.fixture
def make() -> Callable[..., tuple[Arrays, Arrays]]:
    """Makes a base and a reference, of which a share of the elements differs."""

    def make(seed: int = 0, share: float = 0.1, dtypes: str = "f4 f2 f8", n: int = 500) -> tuple[Arrays, Arrays]:
        rng = np.random.default_rng(seed)
        base, reference = {}, {}
        for at, dtype in enumerate(dtypes.split()):
            shape = (n, 7) if at % 2 == 0 else (n,)
            old = rng.standard_normal(shape).astype(dtype)
            new = old.copy()
            chosen = rng.random(shape) < share
            new[chosen] += rng.standard_normal(int(chosen.sum())).astype(dtype)
            base[f"layer.{at}.weight"], reference[f"layer.{at}.weight"] = old, new
        return base, reference

    return make


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration or cache of whoever runs the tests, and no network."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(("LCEPATCH_", "HF_"))]:
        if name not in ("LCEPATCH_NATIVE", "LCEPATCH_DATA"):
            monkeypatch.delenv(name)
    for name in ("LCEPATCH_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
