"""Detoxifiers by name: the files of this folder, modules and files of the user's; and saved ones from disk."""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from detox.detoxifiers.contract import CONFIG_NAME, FORMAT, ORIGINS, Detoxifier
from detox.errors import DataError, InputError, MissingData, UnknownName


def load(directory: str | Path, **overrides: Any) -> Detoxifier:
    """A saved detoxifier, ready to be applied.

    Args:
        directory: what `save_pretrained` wrote.
        overrides: hyperparameters to change; `allow_base_mismatch=True`, say.

    Raises:
        MissingData: no saved detoxifier there.
        DataError: the folder holds something else.
    """
    path = Path(directory) / CONFIG_NAME
    if not path.is_file():
        raise MissingData(f"no detoxifier in {directory}: expected {CONFIG_NAME}, as save_pretrained writes it")
    try:
        envelope = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error}); save the detoxifier again"
        ) from error
    if envelope.get("format") != FORMAT:
        raise DataError(f"{path}: format {envelope.get('format')!r}; this version reads format {FORMAT}")
    detoxifier = make(envelope["method"], {**envelope["hyperparameters"], **overrides})
    tensors: dict[str, Any] = {}
    if (Path(directory) / "tensors.safetensors").is_file():
        from safetensors.torch import load_file

        tensors = load_file(Path(directory) / "tensors.safetensors")
    detoxifier.restore(envelope["learned"], tensors)
    if envelope["fitted_on"] is not None:
        detoxifier.fitted_on_ = envelope["fitted_on"]  # type: ignore[attr-defined]
    return detoxifier


def names() -> list[str]:
    """Methods that come with detox: the files of this folder that define a detoxifier."""
    package = Path(__file__).parent
    return [m.name for m in pkgutil.iter_modules([str(package)]) if _defines_detoxifier(package / f"{m.name}.py")]


def _defines_detoxifier(path: Path) -> bool:
    # Read, not imported: listing the methods must not pull in trl and peft.
    return re.search(r"^class \w+\(Detoxifier\)", path.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


def find(name: str) -> type[Detoxifier]:
    """The class of a method: "iti" (a file of this folder), "package.module:Class" or "path/to/file.py:Class".

    Raises:
        UnknownName: no such method; names the nearest.
    """
    if ":" in name:
        where, _, attribute = name.rpartition(":")
        module = _module_from_file(where) if where.endswith(".py") else importlib.import_module(where)
        found = getattr(module, attribute, None)
        if not (isinstance(found, type) and issubclass(found, Detoxifier)):
            raise InputError(f"{where} has no detoxifier class {attribute!r}")
        ORIGINS[found] = name
        return found
    key = name.lower()
    if key not in names():
        raise UnknownName("detoxifier", name, names())
    module = importlib.import_module(f"{__package__}.{key}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Detoxifier) and value.__module__ == module.__name__
    )


def _module_from_file(path: str) -> Any:
    if not Path(path).is_file():
        raise MissingData(f"no file {path}; expected a Python file that defines a detoxifier")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(name: str, settings: dict[str, Any] | None = None) -> Detoxifier:
    """A detoxifier by name, with hyperparameters.

    Raises:
        UnknownName: no such method, or no such hyperparameter.
    """
    cls = find(name)
    settings = dict(settings or {})
    known = [f.name for f in fields(cls) if f.init]  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            raise UnknownName(f"setting of {name}", key, known)
    missing = [
        f.name
        for f in fields(cls)  # type: ignore[arg-type]
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in settings
    ]
    if missing:
        raise InputError(f"{name} needs the setting {missing[0]!r}")
    return cls(**settings)
