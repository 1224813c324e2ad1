"""Methods by name, and saved ones from disk: whose code is run, and what a damaged folder says."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from detox.detoxifiers import ITI, Prompting, find, load, make
from detox.detoxifiers.contract import ORIGINS
from detox.errors import DataError, InputError, MissingData

METHOD = """
from __future__ import annotations

from dataclasses import dataclass

from detox.detoxifiers.prompting import Prompting


@dataclass(kw_only=True)
class Reminder(Prompting):
    times: int = 1
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_method.py"
    path.write_text(METHOD)
    return path


def forget(origin: str) -> None:
    """As a new process: the classes of this file are not known."""
    for cls in [cls for cls, name in ORIGINS.items() if name == origin]:
        del ORIGINS[cls]
        sys.modules.pop(cls.__module__, None)


def test_a_dataclass_of_a_file_with_postponed_annotations(file):
    cls = find(f"{file}:Reminder")
    assert cls(times=2).times == 2
    assert sys.modules[cls.__module__].Reminder is cls
    file.write_text(METHOD.replace("times: int = 1", "times: int = 3"))
    assert find(f"{file}:Reminder")().times == 3


def test_a_saved_folder_does_not_choose_what_code_is_run(file, tmp_path):
    name = f"{file}:Reminder"
    make(name, {"times": 2}).save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").times == 2  # found by this process before
    forget(name)
    ran = tmp_path / "ran"
    file.write_text(
        f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n{METHOD}".replace(
            "from __future__ import annotations", ""
        )
    )
    with pytest.raises(InputError, match="trust_code=True") as error:
        load(tmp_path / "saved")
    assert "\n" not in str(error.value)
    assert not ran.exists()
    assert load(tmp_path / "saved", trust_code=True, times=5).times == 5
    assert ran.exists()


def test_neither_does_one_that_names_a_module(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    envelope = {"format": 1, "method": "never_imported:Reminder", "hyperparameters": {}, "learned": {}}
    (tmp_path / "detoxifier.json").write_text(json.dumps({**envelope, "fitted_on": None}))
    with pytest.raises(InputError, match="trust_code=True"):
        load(tmp_path)
    assert "never_imported" not in sys.modules
    import never_imported

    try:
        assert isinstance(load(tmp_path), never_imported.Reminder)  # imported by ourselves, so known
    finally:
        forget("never_imported:Reminder")
        sys.modules.pop("never_imported", None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent_package.methods:Mine", "", "No module named 'absent_package'"),
        ("not a module:Mine", "", "no module's name"),
        (":Mine", "", "no module's name"),
        ("json:Mine", "", "no detoxifier class 'Mine'"),
        ("FILE:Mine", "class Mine(:\n", "SyntaxError"),
        ("FILE:Mine", "import absent_package\n", "No module named 'absent_package'"),
        ("FILE:Mine", "from detox import NoSuchThing\n", "NoSuchThing"),
    ],
)
def test_what_cannot_be_imported_is_one_clear_line(name, text, message, file):
    file.write_text(text)
    before = set(sys.modules)
    with pytest.raises(InputError, match=message) as error:
        find(name.replace("FILE", str(file)))
    assert "\n" not in str(error.value)
    assert not [one for one in set(sys.modules) - before if one.startswith("detoxifier_")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda envelope: [envelope],
        lambda envelope: {key: value for key, value in envelope.items() if key != "learned"},
        lambda envelope: {key: value for key, value in envelope.items() if key != "fitted_on"},
        lambda envelope: {**envelope, "method": None},
        lambda envelope: {**envelope, "hyperparameters": ["num_heads"]},
        lambda envelope: {**envelope, "format": 99},
    ],
)
def test_a_damaged_envelope_is_one_clear_line(damage, tmp_path):
    Prompting().save_pretrained(tmp_path)
    path = tmp_path / "detoxifier.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(DataError, match=r"detoxifier\.json:1: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_tensors_that_are_missing_or_damaged_are_one_clear_line(planted, tmp_path):
    ITI(num_heads=2).fit(planted.lm, planted.contrasts).save_pretrained(tmp_path)
    (tmp_path / "tensors.safetensors").write_bytes(b"\xff" * 8)
    with pytest.raises(DataError, match=r"tensors\.safetensors: damaged"):
        load(tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "tensors.safetensors")
    with pytest.raises(DataError, match="lacks 'shifts'"):
        load(tmp_path)
    (tmp_path / "tensors.safetensors").unlink()
    with pytest.raises(DataError, match=r"tensors\.safetensors is missing"):
        load(tmp_path)
    with pytest.raises(MissingData, match="no detoxifier in"):
        load(tmp_path / "absent")
