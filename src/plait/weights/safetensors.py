"""safetensors checkpoints: one file, or a folder of shards with an index, beside a config.json.

Layout of a file: u64 header length (little endian), a JSON header (name -> dtype, shape,
data_offsets relative to the end of the header), the tensors one after the other without gaps.
Source: the format section of the safetensors documentation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from plait.core.errors import FormatError
from plait.core.window import Floats
from plait.quant import base as quant
from plait.weights import json_text
from plait.weights.base import Checkpoint, TensorInfo, shown
from plait.weights.mapped import MappedFile

MAX_HEADER_BYTES = 100_000_000
MAX_DIMS = 8
MAX_SHARDS = 1000
INDEX = "model.safetensors.index.json"
FORMATS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""dtype in the header -> weight format."""


class SafetensorsCheckpoint(Checkpoint):
    """path: a folder, or one .safetensors file whose folder holds config.json.

    Raises FormatError (or NotFoundError) for everything that is not exactly as the format says.
    """

    kind = "safetensors"

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self._folder = path if path.is_dir() else path.parent
        self._config = _read_config(self._folder)
        opened: list[MappedFile] = []
        try:
            tensors = _open_folder(path, opened) if path.is_dir() else _open_single(path, opened)
        except BaseException:
            for file in opened:
                file.close()
            raise
        super().__init__(opened, tensors)

    @property
    def config(self) -> Mapping[str, Any]:
        return self._config

    @property
    def tokenizer_source(self) -> Path:
        return self._folder

    def forget_tokenizer(self) -> None:
        """Nothing to do: its files are read when a tokenizer is built."""


def read_tensors(path: Path) -> dict[str, Floats]:
    """All tensors of one file, by name, as float32. Raises FormatError, NotFoundError."""
    opened: list[MappedFile] = []
    try:
        return {
            name: quant.by_name(info.format_name).dequantize(
                info.file.view(info.offset, info.nbytes), info.shape
            )
            for name, info in _open_file(path, opened).items()
        }
    finally:
        for file in opened:
            file.close()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.exists():
        raise FormatError(
            f"there is no config.json in {folder}",
            "a safetensors model is a folder with config.json, tokenizer.json and the weights",
        )
    return json_text.read(file)


def _open_single(path: Path, opened: list[MappedFile]) -> dict[str, TensorInfo]:
    if re.search(r"-\d+-of-\d+\.safetensors$", path.name):
        raise FormatError(f"{path.name} is one part of a model", "give the folder instead")
    return _open_file(path, opened)


def _open_folder(folder: Path, opened: list[MappedFile]) -> dict[str, TensorInfo]:
    if (folder / INDEX).exists():
        return _open_shards(folder, opened)
    files = sorted(folder.glob("*.safetensors"))
    if (folder / "model.safetensors") in files:
        return _open_file(folder / "model.safetensors", opened)
    if len(files) == 1:
        return _open_file(files[0], opened)
    names = ", ".join(file.name for file in files[:20]) or "none"
    raise FormatError(
        f"{folder} holds neither {INDEX} nor a single .safetensors file", f"found: {names}"
    )


def _open_shards(folder: Path, opened: list[MappedFile]) -> dict[str, TensorInfo]:
    """Exactly the tensors that the index lists, each from the shard it names."""
    weight_map = json_text.read(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{INDEX} has no weight_map")
    shards = {shard: _shard_path(folder, shard) for shard in _shard_names(weight_map)}
    stored = {shard: _open_file(path, opened) for shard, path in shards.items()}
    missing = [name for name, shard in weight_map.items() if name not in stored[shard]]
    if missing:
        name = missing[0]
        raise FormatError(f"{shown(weight_map[name])} lacks the tensor {shown(name)} of the index")
    return {name: stored[shard][name] for name, shard in weight_map.items()}


def _shard_names(weight_map: Mapping[str, Any]) -> list[str]:
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            raise FormatError(f"{INDEX} gives no file name for the tensor {shown(name)}")
    shards = sorted(set(weight_map.values()))
    if len(shards) > MAX_SHARDS:
        raise FormatError(f"{INDEX} names {len(shards)} files; at most {MAX_SHARDS} are read")
    return shards


def _shard_path(folder: Path, shard: str) -> Path:
    is_plain = shard.endswith(".safetensors") and not set(shard) & set("/\\\0")
    if not is_plain:
        raise FormatError(
            f"{INDEX} names the file {shown(shard)}",
            "only .safetensors files in the same folder are opened",
        )
    if not os.path.exists(folder / shard):  # unlike Path.exists, also for names that are too long
        raise FormatError(f"the model's part {shown(shard)} is missing in {folder}")
    return folder / shard


def _open_file(path: Path, opened: list[MappedFile]) -> dict[str, TensorInfo]:
    file = MappedFile(path)
    opened.append(file)
    length = int.from_bytes(file.data[:8].tobytes(), "little")
    if file.size < 8 or length > file.size - 8:
        _refuse(file, "is no complete safetensors file: its header ends after the file does")
    if length > MAX_HEADER_BYTES:
        _refuse(file, f"has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    header = json_text.parse(file.view(8, length).tobytes(), f"the header of {path.name}")
    if not isinstance(header.pop("__metadata__", {}), dict):
        _refuse(file, "has a __metadata__ that is no object")
    tensors = [_tensor(name, entry, file, 8 + length) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _require_no_gaps(tensors, file, 8 + length)
    return {tensor.name: tensor for tensor in tensors}


def _require_no_gaps(tensors: list[TensorInfo], file: MappedFile, start: int) -> None:
    """The tensors must tile the rest of the file: the format's own rule against hidden content."""
    starts = [*(tensor.offset for tensor in tensors), file.size]
    ends = [start, *(tensor.offset + tensor.nbytes for tensor in tensors)]
    for at, end in zip(starts, ends, strict=True):
        if at != end:
            _refuse(file, f"has an overlap or a gap between its tensors at byte {min(at, end)}")


def _tensor(name: str, entry: object, file: MappedFile, start: int) -> TensorInfo:
    label = f"has a tensor {shown(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(file, f"{label} without exactly a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in FORMATS:
        _refuse(file, f"{label} of type {shown(str(dtype))}", f"readable: {', '.join(FORMATS)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMS:
        _refuse(file, f"{label} whose shape is no list of at most {MAX_DIMS} sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(file, f"{label} whose data_offsets are no begin and end")
    size = quant.by_name(FORMATS[dtype]).nbytes(shape)
    begin, end = offsets
    if end - begin != size:
        _refuse(file, f"{label} whose shape takes {size} bytes, its data_offsets {end - begin}")
    if start + end > file.size:
        _refuse(file, f"{label} that ends after the file", "it was not copied completely")
    return TensorInfo(name, FORMATS[dtype], tuple(shape), file, start + begin, size)


def _are_sizes(found: object) -> bool:
    return isinstance(found, list) and all(type(size) is int and size >= 0 for size in found)


def _refuse(file: MappedFile, problem: str, hint: str = "") -> NoReturn:
    raise FormatError(f"{file.path.name} {problem}", hint)
