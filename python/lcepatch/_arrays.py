"""Arrays of numpy and tensors of torch as the memory that they are. Neither library is imported before there is something of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from lcepatch.errors import Error, _of

# By the names that numpy (with ml_dtypes) and torch give them.
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "complex64": "C64",
}

Place = tuple[str, int, list[int]]
"""Where an array is: its device, the address of its first element, and the bytes from one element to the next of each dimension."""

Native = tuple[str, str, list[int], Place, Any]
"""Name, dtype in safetensors files, shape, place, and an object with the buffer of the bytes."""


def refused(kind: str, name: str, why: str, help: str) -> Error:
    """The error that an array cannot be used."""
    return _of(6, f"array.{kind}", f"{name!r} {why}", help=help)


class Slot:
    """One array. What the library reads and writes is either its own memory, or a copy whose changes are written back by position."""

    __slots__ = ("name", "array", "dtype", "shape", "width", "is_torch", "is_direct", "address", "memory", "buffer")

    def __init__(self, name: str, array: Any) -> None:
        self.name = name
        self.array = array
        self.is_torch = is_torch(array)
        if self.is_torch:
            _check_torch(name, array)
            dtype = str(array.dtype).removeprefix("torch.")
            self.width = int(array.element_size())
            strides, overlap = list(array.stride()), "one"
            is_contiguous = bool(array.is_contiguous())
            self.is_direct = is_contiguous and array.device.type == "cpu"
        elif is_numpy(array):
            _check_numpy(name, array)
            dtype = str(array.dtype.name)
            self.width = int(array.dtype.itemsize)
            strides, overlap = [abs(stride) for stride in array.strides], "itemsize"
            self.is_direct = is_contiguous = bool(array.flags.c_contiguous)
        else:
            what = f"{type(array).__module__}.{type(array).__qualname__}"
            raise refused("unsupported", name, f"is a {what}", "give arrays of numpy or tensors of torch")
        self.shape = [int(n) for n in array.shape]
        known = _DTYPES.get(dtype)
        if known is None:
            raise refused("unsupported", name, f"is of {dtype}", "files of safetensors have no such dtype")
        self.dtype = known
        if not is_contiguous and _overlaps(self.shape, strides, 1 if overlap == "one" else self.width):
            raise refused("overlapping", name, "has elements that share memory", "make it contiguous")
        if not self.is_direct and known == "C64":
            raise refused("unsupported", name, "is complex, and not contiguous or on a device", "move it to the CPU")
        self.address = self._address()
        self.memory: Any = None
        self.buffer: Any = None

    def _address(self) -> tuple[str, int]:
        if self.is_torch:
            return str(self.array.device), int(self.array.data_ptr())
        return "cpu", int(self.array.__array_interface__["data"][0])

    @property
    def key(self) -> tuple[Any, ...]:
        """What two names of the same weights have in common."""
        strides = tuple(self.array.stride()) if self.is_torch else self.array.strides
        return self.address, self.dtype, tuple(self.shape), strides

    @property
    def has_moved(self) -> bool:
        """Whether the array has other memory than it had."""
        return self.address != self._address()

    @property
    def is_read_only(self) -> bool:
        """Whether nothing may be written to the array."""
        return not self.is_torch and not self.array.flags.writeable

    @property
    def is_freed(self) -> bool:
        """Whether the memory that was opened is there no longer."""
        if not self.is_direct:
            return False
        if self.is_torch:
            return int(self.memory.data_ptr()) != self.address[1] or _is_short(self.memory)
        return self.has_moved or int(self.array.nbytes) < self.width * math.prod(self.shape)

    def open(self, gathered: Any = None) -> None:
        """Takes the memory: the array's own, or that of a copy. Of a copy, only the elements at the flat indices ``gathered`` are
        copied, if they are given."""
        if self.is_torch:
            import torch

            with torch.no_grad():
                own = self.array.detach()
                if self.is_direct:
                    self.memory = own
                elif gathered is None:
                    self.memory = own.to("cpu").contiguous()
                    if self.memory.data_ptr() == own.data_ptr():
                        self.memory = self.memory.clone()
                else:
                    self.memory = torch.zeros(self.shape, dtype=own.dtype)
                    flat = self.memory.view(_integers(self.width)).view(-1)
                    flat[gathered.to("cpu")] = self.gather(gathered).to("cpu")
            self.buffer = _buffer_of_torch(self.memory)
        else:
            import numpy

            self.memory = self.array if self.is_direct else numpy.ascontiguousarray(self.array)
            self.buffer = self.memory.reshape(-1).view(numpy.uint8)
            if self.is_read_only:
                self.buffer.flags.writeable = False

    def close(self) -> None:
        """Lets a copy go."""
        if not self.is_direct:
            self.memory = self.buffer = None

    @property
    def native(self) -> Native:
        """For the library."""
        if self.buffer is None:
            self.open()
        return self.name, self.dtype, self.shape, self._place(), self.buffer

    def _place(self) -> Place:
        device, address = self.address
        if not self.is_torch:
            return device, address, list(self.array.strides)
        steps = [int(step) * self.width for step in self.array.stride()]
        # Of other devices, addresses may mean something in one allocation only.
        if self.array.device.type not in ("cpu", "cuda"):
            device = f"{device} {self.array.untyped_storage().data_ptr()}"
        return device, address, steps

    def on_device(self, elements: Any) -> Any:
        """Elements or indices, where the array is."""
        return elements.to(self.array.device) if self.is_torch else elements

    def indices(self, positions: bytes, *, here: bool = True) -> Any:
        """Flat indices, where the array is, or on the CPU."""
        if self.is_torch:
            import torch

            indices = torch.frombuffer(bytearray(positions), dtype=torch.int64) if positions else torch.empty(0).long()
            return self.on_device(indices) if here else indices
        import numpy

        return numpy.frombuffer(positions, dtype="<i8")

    def bits(self, bits: bytes, *, here: bool = True) -> Any:
        """Elements as integers, where the array is, or on the CPU."""
        if self.is_torch:
            import torch

            integers = _integers(self.width)
            values = torch.frombuffer(bytearray(bits), dtype=integers) if bits else torch.empty(0, dtype=integers)
            return self.on_device(values) if here else values
        import numpy

        return numpy.frombuffer(bits, dtype=f"<u{self.width}")

    def _view(self, array: Any, indices: Any) -> tuple[Any, Any]:
        """The array as integers, and indices into it."""
        if self.is_torch:
            import torch

            view = array.detach().view(_integers(self.width))
            if view.is_contiguous():
                return view.view(-1), indices
            return view, torch.unravel_index(indices, tuple(self.shape))
        import numpy

        view = array.view(f"u{self.width}")
        if view.flags.c_contiguous:
            return view.reshape(-1), indices
        return view, numpy.unravel_index(indices, tuple(self.shape))

    def gather(self, indices: Any, *, memory: bool = False) -> Any:
        """The elements at flat indices, as integers; of the memory that was opened, or of the array as it is now."""
        view, at = self._view(self.memory if memory else self.array, indices)
        return view[at]

    def scatter(self, indices: Any, bits: Any) -> None:
        """Writes elements, as integers, at flat indices of the array as it is now."""
        if self.is_torch:
            import torch

            # Within an inference mode, torch would not count that a tensor has changed.
            with torch.inference_mode(False), torch.no_grad():
                view, at = self._view(self.array, indices)
                view[at] = bits
        else:
            view, at = self._view(self.array, indices)
            view[at] = bits

    def is_equal(self, one: Any, other: Any) -> bool:
        """Whether gathered elements are the same."""
        if self.is_torch:
            import torch

            return bool(torch.equal(one, other))
        import numpy

        return bool(numpy.array_equal(one, other))

    def has_changed(self) -> None:
        """Tells torch that memory was written to, so that gradients of what was computed from it are refused."""
        if self.is_torch and not self.array.is_inference():
            import torch

            torch.autograd.graph.increment_version(self.array)


def is_torch(array: Any) -> bool:
    """Whether it is a tensor of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_numpy(array: Any) -> bool:
    """Whether it is an array of numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(array, numpy.ndarray)


def slots(arrays: Mapping[str, Any], names: Iterable[str] | None = None) -> list[Slot]:
    """The arrays with these names that are there, or all."""
    wanted = arrays.keys() if names is None else [name for name in names if name in arrays]
    return [Slot(name, arrays[name]) for name in wanted]


def _is_short(tensor: Any) -> bool:
    """Whether the memory of a tensor ends before its last element, because it was resized."""
    if tensor.numel() == 0:
        return False
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return bool(tensor.untyped_storage().nbytes() < (last + 1) * tensor.element_size())


def _check_torch(name: str, tensor: Any) -> None:
    import torch

    kind = type(tensor)
    if kind not in (torch.Tensor, torch.nn.Parameter):
        what = kind.__qualname__
        if any(word in what for word in ("DTensor", "Sharded", "FlatParameter")):
            help = "gather the whole weights first, or apply the patch to the files: `lcepatch apply`"
            raise refused("sharded", name, f"is sharded (a {what})", help)
        help = "apply the patch before the model is quantized or wrapped"
        raise refused("quantized", name, f"is a {what}, which is no plain tensor, such as a quantized one", help)
    if tensor.is_meta:
        raise refused("meta", name, "is on the meta device and has no values", "load the weights first")
    if tensor.is_quantized:
        raise refused("quantized", name, "is quantized", "apply the patch before the model is quantized")
    if tensor.layout != torch.strided:
        raise refused("unsupported", name, f"has the layout {tensor.layout}", "make it dense")
    if _is_short(tensor):
        why = "has no memory at present" if tensor.untyped_storage().nbytes() == 0 else "has less memory than its shape needs"
        raise refused("freed", name, why, "gather the whole weights first")
    if tensor.is_conj() or tensor.is_neg():
        raise refused("unsupported", name, "is a view of negated or conjugated numbers", "resolve it")


def _check_numpy(name: str, array: Any) -> None:
    import numpy

    if type(array) not in (numpy.ndarray, numpy.memmap):
        what = type(array).__qualname__
        raise refused("unsupported", name, f"is a {what}, which is no plain array", "give an array")
    if not array.dtype.isnative or array.dtype.hasobject:
        raise refused("unsupported", name, f"is of {array.dtype.str}", "files of safetensors have no such dtype")


def _overlaps(shape: list[int], strides: list[int], unit: int) -> bool:
    """Whether elements of an array may share memory. Strides are multiples of ``unit``."""
    reach = unit
    for stride, n in sorted(zip(strides, shape, strict=True)):
        if n > 1:
            if stride < reach:
                return True
            reach = stride * n
    return False


def _integers(width: int) -> Any:
    import torch

    return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width]


def _buffer_of_torch(tensor: Any) -> Any:
    """The memory of a contiguous tensor of the CPU. Tensors have no buffer themselves, and those of numpy lack some dtypes."""
    import ctypes

    n = math.prod(tensor.shape) * tensor.element_size()
    if n == 0:
        return bytearray()
    buffer: Any = (ctypes.c_ubyte * n).from_address(tensor.data_ptr())
    # As long as the memory is used, it is the tensor's.
    buffer.tensor = tensor
    return memoryview(buffer)
