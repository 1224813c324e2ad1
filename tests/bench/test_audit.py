"""What is asked of every fit before its numbers count."""

from __future__ import annotations

import json

import pytest

from detox import ITI, Prompting, Sampling
from detox.bench.audit import audit, audit_texts
from detox.bench.cells import read_records
from detox.cli import main
from detox.errors import InputError
from detox.models.architectures import context_length
from tests.evaluation.test_harness import protocol


def run(path, output) -> int:
    return main(["bench", "run", str(path), "--output_dir", str(output)])


def test_every_record_holds_its_audit_and_a_fit_is_audited_once(grid, tmp_path, monkeypatch):
    from detox.bench import base_work

    asked = []

    def counting(lm, detoxifier, *, strength, texts):
        asked.append((detoxifier, strength))
        return audit(lm, detoxifier, strength=strength, texts=texts)

    monkeypatch.setattr(base_work, "audit", counting)
    _, write = grid
    assert run(write(tmp_path / "grid.yaml"), tmp_path / "out") == 0
    assert [strength for _, strength in asked] == [None, 3, None]  # the base, ITI at its largest strength, prompting
    audits = {record.names["method"]: record.names["audit"] for record in read_records(tmp_path / "out")}
    assert audits["iti"]["identity_at_zero"] is audits["iti"]["weights_restored"] is True
    assert 0 <= audits["iti"]["padding"]["difference"] <= audits["iti"]["padding"]["bound"]
    assert "identity_at_zero" not in audits[None]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("Offset", "at strength 0 the log-probabilities are not the base's"),
        ("Lopsided", "a padded batch differ from single runs"),
        ("Keeping", "weights changed while the method was applied"),
    ],
)
def test_a_method_that_fails_its_audit_has_holes_with_the_reason_and_no_numbers(
    grid, grid_files, tmp_path, capsys, method, reason
):
    _, write = grid
    methods = {"bad": {"method": f"{grid_files / 'methods.py'}:{method}", "strengths": [0.5, 1], "controls": False}}
    assert run(write(tmp_path / "grid.yaml", detoxifiers=methods), tmp_path / "out") == 3
    assert "Traceback" not in capsys.readouterr().err
    notes = [json.loads(path.read_text())["reason"] for path in (tmp_path / "out" / "failures").glob("*.json")]
    assert len(notes) == 2
    assert all(reason in note for note in notes)
    assert [record.names["method"] for record in read_records(tmp_path / "out")] == [None]


def test_texts_are_of_different_lengths_and_the_protocols_own(planted):
    asked = protocol(planted)
    texts = audit_texts(asked)
    assert len(texts) == 4
    own = {one.text.strip() for one in (*asked.prompts, *asked.documents)}
    assert set(texts) <= own


def test_a_sound_method_passes_at_a_large_strength(planted):
    iti = ITI(num_heads=4).fit(planted.lm, planted.contrasts)
    found = audit(planted.lm, iti, strength=20.0, texts=audit_texts(protocol(planted)))
    assert found["padding"]["difference"] < found["padding"]["bound"]


def test_a_text_that_leaves_no_room_behind_a_prefix_is_shortened_and_not_a_hole(planted):
    limit = context_length(planted.lm.model)
    prefix = Prompting(text="word " * (limit // 8))
    longest = "a " * limit
    with prefix.applied(planted.lm) as handle, pytest.raises(InputError, match="context holds"):
        handle.generate([longest], Sampling(max_new_tokens=3))
    found = audit(planted.lm, prefix, strength=None, texts=["One.", "Two of them.", longest[: limit // 2], longest])
    assert found["padding"]["difference"] < found["padding"]["bound"]
