"""Detoxifiers by name: the files of this folder, modules and files of the user's; and saved ones from disk."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
import sys
from contextlib import ExitStack
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from detox.detoxifiers.contract import CONFIG_NAME, FORMAT, ORIGINS, Detoxifier
from detox.errors import DataError, InputError, MissingData, UnknownName, require_known

_FORMS = "package.module:Class or path/to/file.py:Class"
# What an envelope must hold, and of which type.
_ENVELOPE = {"method": str, "hyperparameters": dict, "learned": dict, "fitted_on": dict | None}


def load(directory: str | Path, *, trust_code: bool = False, **overrides: Any) -> Detoxifier:
    """A saved detoxifier, ready to be applied.

    Args:
        directory: what `save_pretrained` wrote.
        trust_code: run the Python file or module that the folder names where its class is not of detox and not known in this
            process yet. Whoever wrote the folder chose it, so do that for folders of your own only.
        overrides: hyperparameters to change; `allow_base_mismatch=True`, say.

    Raises:
        MissingData: no saved detoxifier there.
        DataError: the folder holds something else, or is damaged.
        InputError: its method is code that is not known in this process, and `trust_code` is False.
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
    if not isinstance(envelope, dict):
        raise DataError(f"{path}:1: {type(envelope).__name__}; expected a JSON object, save the detoxifier again")
    if envelope.get("format") != FORMAT:
        raise DataError(f"{path}:1: format {envelope.get('format')!r}; this version reads format {FORMAT}")
    if "/" in str(envelope.get("tensors", "")) or "\\" in str(envelope.get("tensors", "")):
        raise DataError(f"{path}:1: 'tensors' is {envelope['tensors']!r}; expected the name of a file in this folder")
    for key, kind in _ENVELOPE.items():
        if key not in envelope or not isinstance(envelope[key], kind):
            raise DataError(f"{path}:1: {key!r} is missing or of another type; save the detoxifier again")
    method = envelope["method"]
    cls = _known(method)
    if cls is None and ":" in method and not trust_code:
        raise InputError(
            f"{path} asks to run {method!r}, which is not known in this process; if you trust it, import it first or pass "
            "trust_code=True"
        )
    detoxifier = _made(cls or find(method), method, {**envelope["hyperparameters"], **overrides})
    file = envelope.get("tensors")
    try:
        detoxifier.restore(
            envelope["learned"], _tensors(path.parent / str(file or "tensors.safetensors"), expected=file is not None)
        )
    except KeyError as error:
        raise DataError(f"{path}:1: what {method} learned lacks {error}; save the detoxifier again") from error
    if envelope["fitted_on"] is not None:
        detoxifier.fitted_on_ = envelope["fitted_on"]  # type: ignore[attr-defined]
    return detoxifier


def _tensors(file: Path, *, expected: bool) -> dict[str, Any]:
    if not file.is_file():
        if expected:
            raise DataError(
                f"{file} is missing, without which nothing of what was learned is there; save the detoxifier again"
            )
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise DataError(f"{file}: damaged ({error}); save the detoxifier again") from error


def _known(method: str) -> type[Detoxifier] | None:
    """The class of "package.module:Class" or "file.py:Class" if this process has it already; nothing is imported or run."""
    for cls, origin in reversed(ORIGINS.items()):  # the last one first: a file may have been read again
        if origin == method and issubclass(cls, Detoxifier):
            return cls
    where, _, attribute = method.rpartition(":")
    found = vars(sys.modules[where]).get(attribute) if where in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, Detoxifier) else None


def names() -> list[str]:
    """Methods that come with detox: the files of this folder that define a detoxifier."""
    package = Path(__file__).parent
    return [m.name for m in pkgutil.iter_modules([str(package)]) if _defines_detoxifier(package / f"{m.name}.py")]


def _defines_detoxifier(path: Path) -> bool:
    # Read, not imported: listing the methods must not pull in trl and peft.
    return re.search(r"^class \w+\(Detoxifier\)", path.read_text(encoding="utf-8"), flags=re.MULTILINE) is not None


def find(name: str) -> type[Detoxifier]:
    """The class of a method: "iti" (a file of this folder), "package.module:Class" or "path/to/file.py:Class".

    A file is run anew each time, so that a change of it is seen.

    Raises:
        UnknownName: no such method; names the nearest.
        MissingData: no such file.
        InputError: the module or file cannot be imported, or has no such class.
    """
    if ":" in name:
        where, _, attribute = name.rpartition(":")
        try:
            module = _module_from_file(where) if where.endswith(".py") else _module(where)
        except (ImportError, SyntaxError) as error:
            first = str(error).partition("\n")[0]
            raise InputError(f"cannot import {where!r}: {type(error).__name__}: {first}; expected {_FORMS}") from error
        found = getattr(module, attribute, None)
        if not (isinstance(found, type) and issubclass(found, Detoxifier)):
            raise InputError(f"{where} has no detoxifier class {attribute!r}; expected {_FORMS}")
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


def _module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError(f"{name!r} is no module's name")
    return importlib.import_module(name)


def _module_from_file(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise MissingData(f"no file {path}; expected a Python file that defines a detoxifier")
    # A name that no package has. Dataclasses look their module up while the file runs.
    name = f"detoxifier_{hashlib.sha256(str(Path(path).resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with ExitStack() as if_it_fails:
        if_it_fails.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        if_it_fails.pop_all()
    return module


def make(name: str, settings: dict[str, Any] | None = None) -> Detoxifier:
    """A detoxifier by name, with hyperparameters.

    Raises:
        UnknownName: no such method, or no such hyperparameter.
    """
    return _made(find(name), name, dict(settings or {}))


def _made(cls: type[Detoxifier], name: str, settings: dict[str, Any]) -> Detoxifier:
    known = [f.name for f in fields(cls) if f.init]  # type: ignore[arg-type]
    for key in settings:
        require_known(f"setting of {name}", key, known)
    missing = [
        f.name
        for f in fields(cls)  # type: ignore[arg-type]
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in settings
    ]
    if missing:
        raise InputError(f"{name} needs the setting {missing[0]!r}")
    return cls(**settings)
