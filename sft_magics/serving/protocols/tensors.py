"""Tensors of the Open Inference Protocol: from JSON or the binary extension to inputs, and columns back to tensors.

In binary, the tensors' bytes follow the JSON in the body, in its order: FP32 little-endian, each element of BYTES with
its length in 4 bytes before it. https://github.com/kserve/open-inference-protocol, extension_binary_data.md
"""

import itertools
import struct
from collections.abc import Iterator
from typing import Any

from sft_magics.core.tasks import IMAGE_TASKS
from sft_magics.serving.http import parsing
from sft_magics.serving.messages import Item
from sft_magics.serving.problems import HttpProblem
from sft_magics.serving.protocols.columns import Column, input_name

_LENGTH = struct.Struct("<I")


def read(given: Any, tail: bytes, task: str) -> list[Item]:
    """Read the one input tensor of a request: BYTES of shape [n] or [n, 1]; raises HttpProblem (400, 413)."""
    name = input_name(task)
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], dict):
        raise HttpProblem(400, f'"inputs" shall be a list with one tensor, named "{name}".')
    tensor = given[0]
    if tensor.get("name") != name:
        raise HttpProblem(400, f'The input is named "{name}" here, not {_brief(tensor.get("name"))}.')
    if tensor.get("datatype") != "BYTES":
        raise HttpProblem(400, f'"{name}" is of datatype BYTES, not {_brief(tensor.get("datatype"))}.')
    count = _count(tensor.get("shape"), name)
    size = _binary_size(tensor.get("parameters"), name)
    if size is None:
        if tail:
            raise HttpProblem(400, f"{len(tail):,} bytes follow the JSON that belong to no input.")
        return parsing.items(_listed(tensor.get("data"), count, name), task, name)
    if size != len(tail):
        raise HttpProblem(400, f'"{name}" shall have {size:,} bytes after the JSON, but {len(tail):,} came.')
    elements = list(itertools.islice(_elements(tail, name), count + 1))
    if len(elements) != count:
        found = "more" if len(elements) > count else f"{len(elements):,}"
        raise HttpProblem(400, f'"{name}" holds {found} elements, but its shape says {count:,}.')
    return parsing.items([decoded(e, task, f"{name}[{i}]") for i, e in enumerate(elements)], task, name)


def _count(shape: Any, name: str) -> int:
    fits = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
    if not fits or len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or shape[0] < 1:
        raise HttpProblem(400, f'"{name}" shall be of shape [n] or [n, 1] with n from 1, not {_brief(shape)}.')
    if shape[0] > parsing.MAX_INPUTS:
        raise HttpProblem(
            413, f'"{name}" holds more than the {parsing.MAX_INPUTS:,} inputs that may come in one request.'
        )
    return int(shape[0])


def _binary_size(parameters: Any, name: str) -> int | None:
    given = {} if parameters is None else parameters
    if not isinstance(given, dict):
        raise HttpProblem(400, f'"{name}".parameters shall be an object.')
    if any(key.startswith("shared_memory") for key in given):
        raise HttpProblem(400, "Shared memory is not read here; send the tensor in the request.")
    size = given.get("binary_data_size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise HttpProblem(400, f'"{name}".parameters.binary_data_size shall be a number of bytes.')
    return size


def _listed(data: Any, count: int, name: str) -> list[Any]:
    if not isinstance(data, list):
        raise HttpProblem(400, f'"{name}".data is {parsing.kind(data)}; it shall be a list.')
    flat = [inner for one in data for inner in (one if isinstance(one, list) else [one])]
    if len(flat) != count:
        raise HttpProblem(400, f'"{name}" holds {len(flat):,} elements, but its shape says {count:,}.')
    return flat


def _elements(tail: bytes, name: str) -> Iterator[bytes]:
    place = 0
    while place < len(tail):
        after = place + _LENGTH.size
        size = _LENGTH.unpack_from(tail, place)[0] if after <= len(tail) else len(tail)
        if after + size > len(tail):
            raise HttpProblem(400, f'An element of "{name}" is longer than the bytes that came.')
        yield tail[after : after + size]
        place = after + size


def decoded(element: bytes, task: str, where: str) -> str | bytes:
    """Return an element as what a model of this task is asked with; raises HttpProblem 400."""
    if task in IMAGE_TASKS:
        return element
    return as_text(element, where)


def as_text(element: bytes, where: str) -> str:
    """Return bytes that shall be a text; raises HttpProblem 400."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise HttpProblem(400, f"{where} is not text in UTF-8.") from None


def written(column: Column, count: int, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """Return a column as an output tensor and, in binary, its bytes."""
    shape = [count, column.width] if column.width else [count]
    found: dict[str, Any] = {"name": column.name, "datatype": column.datatype, "shape": shape}
    flat = [v for row in column.values for v in row] if column.width else column.values
    if not binary:
        return found | {"data": flat}, b""
    if column.datatype == "BYTES":
        texts = [value.encode() for value in flat]
        data = b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    else:
        data = struct.pack(f"<{len(flat)}f", *flat)
    return found | {"parameters": {"binary_data_size": len(data)}}, data


def _brief(value: Any) -> str:
    return repr(value)[:60]
