"""Stages kept apart: what is measured again and what is not, and whose it is."""

from __future__ import annotations

import copy
import gzip
import json
import shutil

import numpy as np
import pytest

from detox.bench import compare
from detox.bench.cells import read_records
from detox.bench.stage_store import KeptStages
from detox.cli import main
from detox.data import write_jsonl
from detox.errors import InputError
from detox.evaluation import evaluate, toxicity, utility
from detox.evaluation.harness import evaluate_kept

SECOND = """
from detox.scorers import Score, ScorerCard

class Length:
    card = ScorerCard("length", "1", ("nothing",), None, "read whole")

    def score(self, texts):
        return [Score(min(1.0, len(t) / 100)) for t in texts]
"""


def run(path, output, *more) -> int:
    return main(["bench", "run", str(path), "--output_dir", str(output), *more])


@pytest.fixture
def calls(monkeypatch):
    """How often models were asked, by what: real functions, counted."""
    counted = {"generate": 0, "score": 0, "documents": 0, "margins": 0}

    def count(module, function, name_of):
        real = getattr(module, function)

        def counting(*args, **options):
            counted[name_of(*args)] += 1
            return real(*args, **options)

        monkeypatch.setattr(module, function, counting)

    count(toxicity, "generate", lambda *args: "generate")
    count(toxicity, "score_texts", lambda *args: "score")
    # Documents are read from their start, continuations after a prompt.
    count(utility, "token_logprobs", lambda lm, contexts, *rest: "margins" if any(contexts) else "documents")
    return counted


def with_scorer(raw, folder):
    (folder / "length.py").write_text(SECOND)
    changed = copy.deepcopy(raw["protocols"])
    changed["main"]["scorers"].append(f"{folder / 'length.py'}:Length")
    return changed


def metrics(output) -> dict:
    return {
        (r.names["method"], r.names["strength"], len(r.scorecard.protocol["identity"]["scorers"])): r
        for r in read_records(output)
    }


def unnumbered(receipt: dict) -> dict:
    """A receipt without the edit's serial number."""
    return {**receipt, "edit": receipt["edit"].partition("#")[0]}


def test_a_scorer_that_is_added_generates_nothing_again(grid, tmp_path, calls):
    raw, write = grid
    output = tmp_path / "results"
    assert run(write(tmp_path / "grid.yaml"), output) == 0
    assert calls == {"generate": 4, "score": 4, "documents": 4, "margins": 4}
    protocols = with_scorer(raw, tmp_path)
    assert run(write(tmp_path / "more.yaml", protocols=protocols), output) == 0
    assert calls == {"generate": 4, "score": 8, "documents": 4, "margins": 4}  # 4 more: the new scorer's own texts
    found = metrics(output)
    assert len(found) == 8
    for (method, strength, scorers), record in found.items():
        if scorers == 2:
            assert set(record.names["stages"]["measured"]) == {"score"}
            before = found[method, strength, 1].scorecard
            same = {name: value for name, value in record.scorecard.metrics.items() if "length" not in name}
            assert same == before.metrics
            assert record.scorecard.texts == before.texts
            assert record.scorecard.receipts == before.receipts
            assert "toxicity/length/mean" in record.scorecard.metrics


def test_other_documents_score_and_generate_nothing_again(grid, grid_files, tmp_path, calls):
    raw, write = grid
    output = tmp_path / "results"
    assert run(write(tmp_path / "grid.yaml"), output) == 0
    lines = (grid_files / "documents.jsonl").read_text().splitlines()[:5]
    write_jsonl(tmp_path / "few.jsonl", [json.loads(line) for line in lines])
    protocols = copy.deepcopy(raw["protocols"])
    protocols["main"]["documents"] = {"file": str(tmp_path / "few.jsonl")}
    before = dict(calls)
    assert run(write(tmp_path / "less.yaml", protocols=protocols), output) == 0
    assert calls == {**before, "documents": before["documents"] + 4}


@pytest.mark.slow
def test_kept_stages_give_the_scorecard_that_a_fresh_measurement_gives(grid, tmp_path):
    raw, write = grid
    protocols = with_scorer(raw, tmp_path)
    assert run(write(tmp_path / "grid.yaml"), tmp_path / "grown") == 0
    assert run(write(tmp_path / "more.yaml", protocols=protocols), tmp_path / "grown") == 0
    assert run(tmp_path / "more.yaml", tmp_path / "fresh") == 0
    grown, fresh = metrics(tmp_path / "grown"), metrics(tmp_path / "fresh")
    for key, record in fresh.items():
        ours, theirs = grown[key].scorecard, record.scorecard
        for part in ("metrics", "counts", "texts", "fingerprint", "protocol", "incidents"):
            assert getattr(ours, part) == getattr(theirs, part), part
        assert [unnumbered(one) for one in ours.receipts] == [unnumbered(one) for one in theirs.receipts]
        assert json.dumps(ours.tables) == json.dumps(theirs.tables)


def test_a_task_that_is_added_is_measured_alone(planted, tmp_path, monkeypatch):
    from detox.data.records import MultipleChoice
    from detox.evaluation import Protocol

    def items(name, **more):
        return tuple(
            MultipleChoice(id=f"{name}{i}", context=c.prompt, choices=(" kind1", " rude1", " topic1"), answer=0, **more)
            for i, c in enumerate(planted.heldout[:6])
        )

    tasks = {"facts": items("f"), "several": items("s", right=(0, 2))}
    asked = []
    real = utility.choice_table

    def counting(lm, given):
        asked.append(tuple(given))
        return real(lm, given)

    monkeypatch.setattr(utility, "choice_table", counting)
    for names in (("facts",), ("several", "facts"), ("facts", "several")):
        kept = KeptStages(tmp_path, {})
        grown = evaluate(planted.lm, Protocol(name="x", multiple_choice={n: tasks[n] for n in names}), kept=kept)
        kept.commit()
    assert asked == [("facts",), ("several",)]
    assert len(list((tmp_path / "stages").glob("multiple_choice--*"))) == 2
    whole = real(planted.lm, tasks)  # the ruler's own table of both, in which single answers have no mass
    found = grown.tables["multiple_choice"]
    assert list(found) == list(whole)
    for column in ("task", "id", "correct", "correct_by_byte"):
        assert found[column] == whole[column]
    for column in ("margin", "mass"):
        np.testing.assert_allclose(found[column], whole[column], atol=1e-5)
    assert grown.metrics.keys() == utility.choice_metrics(whole).keys()


def test_strengths_and_bases_share_a_folder_of_stages_and_no_stage(grid, tmp_path, planted):
    """Two strengths of one name, two bases of one method: other stages, other outputs."""
    import torch
    from safetensors.torch import load_file, save_file

    raw, write = grid
    import shutil

    model = tmp_path / "model"
    shutil.copytree(raw["bases"]["planted"]["model"], model)
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"] += torch.ones(())
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    bases = {**raw["bases"], "other": {"model": str(model)}}
    assert run(write(tmp_path / "grid.yaml", bases=bases), tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "stages").glob("generate--*"))) == 8
    texts = {
        (r.names["base"], r.names["method"], r.names["strength"]): r.scorecard for r in read_records(tmp_path / "out")
    }
    assert texts["planted", "iti", 0.3].texts != texts["planted", "iti", 3].texts
    assert texts["planted", "iti", 3].texts != texts["other", "iti", 3].texts
    assert len({card.fingerprint for card in texts.values()}) == 8


def test_a_stage_of_other_weights_or_edits_is_measured_again(planted, tmp_path):
    """The key says the same, the fingerprint does not: a fit that was made again and came out otherwise."""
    from detox import ITI
    from tests.evaluation.test_harness import protocol

    asked = protocol(planted)
    fits = [ITI(num_heads=heads).fit(planted.lm, planted.contrasts) for heads in (1, 4)]
    cards = []
    for fit in fits:
        kept = KeptStages(tmp_path, {"method": "the same"})
        with fit.applied(planted.lm, strength=3) as safe:
            cards.append(evaluate(safe, asked, kept=kept))
        kept.commit()
        assert set(kept.account()["measured"]) >= {"generate", "documents"}
    assert cards[0].fingerprint != cards[1].fingerprint
    with fits[1].applied(planted.lm, strength=3) as safe:
        assert evaluate(safe, asked).metrics == cards[1].metrics
    again = KeptStages(tmp_path, {"method": "the same"})
    card = evaluate_kept(asked, again)
    assert card is not None
    assert card.metrics == cards[1].metrics
    assert again.account()["measured"] == []


def test_a_damaged_stage_is_said_and_measured_again(planted, tmp_path):
    from tests.evaluation.test_harness import protocol

    asked, said = protocol(planted), []
    kept = KeptStages(tmp_path, {})
    card = evaluate(planted.lm, asked, kept=kept)
    kept.commit()
    [path] = (tmp_path / "stages").glob("documents--*")
    path.write_bytes(path.read_bytes()[:40])
    [other] = (tmp_path / "stages").glob("generate--*")
    wrong = json.loads(gzip.decompress(other.read_bytes()))
    wrong["key"]["part"]["prompts"] = "another"  # a file under a name that is not its own
    other.write_bytes(gzip.compress(json.dumps(wrong).encode()))
    again = KeptStages(tmp_path, {}, say=said.append)
    assert evaluate_kept(asked, again) is None
    assert evaluate(planted.lm, asked, kept=again).metrics == card.metrics
    assert {"documents", "generate"} <= set(again.account()["measured"])
    assert len(said) == 1
    assert "documents--" in said[0]
    assert "damaged" in said[0]


def test_without_texts_a_scorer_generates_again_and_that_is_said(grid, tmp_path, calls, capsys):
    raw, write = grid
    output = tmp_path / "results"
    path = write(tmp_path / "grid.yaml", detoxifiers={})
    assert run(path, output) == 0
    assert list((output / "stages").glob("generate--*"))
    assert run(write(tmp_path / "more.yaml", detoxifiers={}, protocols=with_scorer(raw, tmp_path)), output) == 0
    assert calls["generate"] == 1
    other = tmp_path / "dropped"
    assert run(path, other, "--drop_texts") == 0
    assert "for a scorer that is added later it has to be written again" in capsys.readouterr().err
    assert not list((other / "stages").glob("generate--*"))
    assert list((other / "stages").glob("score--*"))
    assert run(tmp_path / "more.yaml", other, "--drop_texts") == 0
    assert calls["generate"] == 3


def test_texts_that_are_written_again_are_scored_again(planted, tmp_path):
    """Without texts, the scores of before are those of texts that are gone; new ones need not be the same in half precision."""
    from tests.evaluation.test_harness import protocol

    asked = protocol(planted)
    card = evaluate(planted.lm, asked, kept=(kept := KeptStages(tmp_path, {}, keep_texts=False)))
    kept.commit()
    [path] = (tmp_path / "stages").glob("score--*")
    found = json.loads(gzip.decompress(path.read_bytes()))
    found["measured"]["tables"]["scores"]["value"] = [1.0] * len(card.tables["scores"]["value"])  # of other texts
    path.write_bytes(gzip.compress(json.dumps(found).encode()))
    again = KeptStages(tmp_path, {}, keep_texts=False)
    assert evaluate(planted.lm, asked, kept=again).metrics == card.metrics
    assert {"generate", "score"} <= set(again.account()["measured"])
    assert "documents" in again.account()["kept"]


def test_what_a_damaged_model_measured_is_not_kept(grid, grid_files, tmp_path):
    _, write = grid
    methods = {"damaging": {"method": f"{grid_files / 'methods.py'}:DamagingLater"}}
    assert run(write(tmp_path / "grid.yaml", detoxifiers=methods), tmp_path / "out") == 3
    [hole] = (tmp_path / "out" / "failures").glob("*.json")
    assert "weights changed" in json.loads(hole.read_text())["reason"]
    assert len(list((tmp_path / "out" / "stages").glob("generate--*"))) == 1  # the base's


def test_a_damaged_record_is_named_and_the_others_are_compared(grid, tmp_path, capsys):
    _, write = grid
    output = tmp_path / "results"
    assert run(write(tmp_path / "grid.yaml"), output) == 0
    [broken] = output.glob("cells/*prompting*/items.json.gz")
    broken.write_bytes(broken.read_bytes()[:30])
    [cut] = output.glob("cells/*iti@0.3*/cell.json")
    cut.write_text(cut.read_text()[:50])
    comparison = compare(output)
    assert [row.method_label for row in comparison.rows] == ["-", "iti @ 3"]
    assert set(comparison.holes) == {broken.parent.name, cut.parent.name}
    assert "damaged" in comparison.holes[broken.parent.name]
    assert main(["bench", "show", str(output)]) == 0
    shown = capsys.readouterr().out
    assert f"(no record: {cut.parent.name}: {cut}:" in shown
    assert run(tmp_path / "grid.yaml", output) == 0  # what is damaged is measured again
    assert "2 cells computed" in capsys.readouterr().err
    assert not compare(output).holes


def damaged_json(change):
    def damage(path):
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return damage


def damaged_items(change):
    def damage(path):
        value = json.loads(gzip.decompress(path.read_bytes()))
        change(value)
        path.write_bytes(gzip.compress(json.dumps(value).encode()))

    return damage


def flipped(path):
    raw = bytearray(path.read_bytes())
    for place in range(20, len(raw) - 8, 7):
        raw[place] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("file", "damage"),
    {
        "a list": ("scorecard.json", lambda path: path.write_text("[]")),
        "no metrics": ("scorecard.json", damaged_json(lambda card: card.pop("metrics"))),
        "no identity": ("scorecard.json", damaged_json(lambda card: card["protocol"].pop("identity"))),
        "half a metric": ("scorecard.json", damaged_json(lambda card: next(iter(card["metrics"].values())).pop("low"))),
        "no names": ("cell.json", lambda path: path.write_text("[]")),
        "no column": ("items.json.gz", damaged_items(lambda tables: tables["scores"].pop("value"))),
        "a short column": ("items.json.gz", damaged_items(lambda tables: tables["scores"]["value"].pop())),
        "flipped bits": ("items.json.gz", flipped),
        "none": ("items.json.gz", lambda path: path.unlink()),
    }.values(),
)
def test_however_a_record_is_damaged_it_is_one_line_and_measured_again(grid, tmp_path, capsys, file, damage):
    _, write = grid
    output = tmp_path / "results"
    asked = write(tmp_path / "grid.yaml", detoxifiers={"prompting": None})
    assert run(asked, output) == 0
    [cell] = output.glob("cells/*prompting*")
    damage(cell / file)
    [reason] = compare(output).holes.values()
    assert file in reason
    assert "\n" not in reason
    capsys.readouterr()
    assert run(asked, output) == 0
    assert "1 cells computed" in capsys.readouterr().err
    assert not compare(output).holes


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cells": 1, "holes": []}'])
def test_a_damaged_list_of_cells_is_one_line_and_written_anew(grid, tmp_path, capsys, text):
    _, write = grid
    output = tmp_path / "results"
    asked = write(tmp_path / "grid.yaml", detoxifiers={"prompting": None})
    assert run(asked, output) == 0
    (output / "grid.json").write_text(text)
    for command in (["bench", "show"], ["bench", "curves"], ["report"]):
        assert main([*command, str(output)]) == 2
        err = capsys.readouterr().err
        assert "grid.json:1: damaged; run the grid again" in err
        assert "Traceback" not in err
    assert run(asked, output) == 0
    assert main(["bench", "show", str(output)]) == 0


def test_results_that_cannot_be_written_are_said_before_any_work(grid, tmp_path, calls):
    _, write = grid
    path = write(tmp_path / "grid.yaml")
    (tmp_path / "file").write_text("in the way")
    assert run(path, tmp_path / "file" / "results") == 2
    assert calls["generate"] == 0


def test_bases_of_one_name_are_told_apart_by_the_list_of_cells_alone(grid, grid_files, tmp_path):
    """Killed runs write no list: then a method is held against no other base of the same name."""
    _, write = grid
    output = tmp_path / "results"
    methods = {"prompting": None}
    assert run(write(tmp_path / "grid.yaml", detoxifiers=methods), output) == 0
    wider = {"planted": {"model": str(grid_files / "model"), "dtype": "float64"}}
    assert run(write(tmp_path / "wider.yaml", detoxifiers=methods, bases=wider), output) == 0
    assert len(compare(output).rows) == 2
    (output / "grid.json").unlink()
    with pytest.raises(InputError, match="several grids under one name"):
        compare(output)


def test_texts_of_earlier_runs_are_dropped_where_they_are_read_and_said_where_not(grid, tmp_path, capsys):
    _, write = grid
    output = tmp_path / "results"
    methods = {"prompting": None}
    asked = write(tmp_path / "grid.yaml", detoxifiers=methods)
    assert run(asked, output) == 0
    assert run(asked, output, "--drop_texts") == 0
    assert "4 files with texts that earlier runs kept are still there" in capsys.readouterr().err
    for cell in output.glob("cells/*"):
        shutil.rmtree(cell)
    assert run(asked, output, "--drop_texts") == 0  # from the stages, which are read for the last time
    assert "still there" not in capsys.readouterr().err
    assert not [*output.glob("cells/*/texts.json.gz"), *output.glob("stages/generate--*")]


@pytest.mark.parametrize("source", [["x"], [1], {"a": None}])
def test_only_scorecards_are_compared(source):
    with pytest.raises(InputError, match="expected a Scorecard"):
        compare(source)


def test_no_worker_is_refused(grid, tmp_path, capsys):
    _, write = grid
    assert run(write(tmp_path / "grid.yaml"), tmp_path / "out", "--workers", "0") == 2
    assert "workers is 0; expected at least 1" in capsys.readouterr().err
