"""What a file of a model is, told by what it holds: suffixes are often wrong."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Literal

Kind = Literal[
    "export", "TorchScript", "torch.save", "keras", "hdf5", "safetensors", "SavedModel", "onnx",
    "pickle", "text", "package",
]  # fmt: skip

#: What to do with a file of a kind, for those who passed it where another one belongs.
WAYS_OUT: dict[Kind, str] = {
    "export": "a program of torch.export: pass its path to torch_model",
    "TorchScript": "a program of TorchScript: pass its path to torch_model",
    "torch.save": (
        "a file of torch.save. Weights go into torch_model(module or function, state_dict=path), "
        "in a shell by a function for --model module:function, also those of a whole module"
    ),
    "keras": "a file of Keras 3: pass its path to keras_model, with the suffix .keras",
    "hdf5": (
        "an HDF5 file, as Keras 2 wrote it. With tf_keras, tf_keras.models.load_model(path) reads "
        "it; for weights alone, model.load_weights(path) of the same model; then save it as .keras"
    ),
    "safetensors": (
        "weights in safetensors: pass torch_model(module or function, state_dict=path)"
    ),
    "SavedModel": (
        "a SavedModel of TensorFlow: pass keras_model(keras.Sequential([keras.layers.TFSMLayer("
        'path, call_endpoint="serving_default")])), on the backend tensorflow'
    ),
    "onnx": "a network in ONNX: pass its path to onnx_model, with the suffix .onnx",
    "pickle": "a pickle: pass load_model(path, trust_pickle=True) if you know who wrote it",
    "package": "a model package: pass its path to predict, or to packages.load_package",
    "text": "a text, as of a page that asks for a login or a pointer of Git LFS: download it anew",
}


def kind_of(file: Path | BytesIO) -> Kind | None:
    """Return what a file or folder holds; None if it is of no known kind, or not there."""
    if isinstance(file, BytesIO):
        return kind_of_start(file.getbuffer()[:512].tobytes()) or kind_in_zip(file)
    if file.is_dir():
        if (file / "model.toml").exists():
            return "package"
        return "SavedModel" if (file / "saved_model.pb").exists() else None
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        start = opened.read(512)
    if file.suffix.lower() == ".onnx" and start[:1] == b"\x08":  # a field that all of them have
        return "onnx"
    return kind_of_start(start) or kind_in_zip(file)


def kind_of_start(start: bytes) -> Kind | None:
    """Return the kind of a file that its first bytes tell."""
    if start.startswith(b"\x89HDF"):
        return "hdf5"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 30:
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch.save" if b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." in start else "pickle"
    if start[:1] in (b"<", b"v", b"{") and start.isascii():
        return "text"
    return None


def kind_in_zip(file: Path | BytesIO) -> Kind | None:
    """Return the kind of a file that is an archive."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    inner = {name.split("/", 1)[-1] for name in names}
    if "model.toml" in {name.split("/")[-1] for name in names}:
        return "package"
    if "config.json" in names and "metadata.json" in names:
        return "keras"
    if "models/model.json" in inner or "serialized_exported_program.json" in names:
        return "export"
    if "constants.pkl" in inner:
        return "TorchScript"
    return "torch.save" if "data.pkl" in inner else None


def what_it_is(file: Path) -> str:
    """Say what a file is and where it belongs, after a semicolon, if that is known."""
    kind = kind_of(file)
    return "" if kind is None else f"; it is {WAYS_OUT[kind]}"
