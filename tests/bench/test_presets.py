"""Named protocols: they say what they ask, what their sources ask, and every difference; and each of them runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from detox import compare, evaluate, load_protocol
from detox.bench.grid import build_grid
from detox.bench.presets import UNKNOWN, Preset, expanded, lookup, names, preset
from detox.bench.presets.describing import describe, markdown
from detox.bench.scorers import scorer_maker
from detox.cli import main
from detox.errors import DataError, InputError, MissingData, UnknownName
from detox.evaluation import Protocol, Scorecard
from tests.conftest import REPOSITORY

EVERYWHERE = (
    "sampling.num_return_sequences", "sampling.max_new_tokens", "sampling.temperature", "sampling.top_p", "sampling.top_k", "scored",
    "scorers.0",
)  # fmt: skip
# What every machine has.
ANYWHERE = {"prompts": {"set": "miniature", "limit": 6}, "scorers": ["miniature-truth", "profanity"]}
PARTS = (
    "documents", "multiple_choice", "minimal_pairs", "probe", "head_probes", "toxic_documents", "calibration", "rewriting",
    "over_refusal", "stereotypes", "bias_questions",
)  # fmt: skip


def without_data(name: str, **changes) -> Protocol:
    spec = preset(name).protocol
    return load_protocol(name, **{**ANYWHERE, **{part: None for part in PARTS if part in spec}, **changes})


def test_those_that_are_asked_for_are_there():
    wanted = "rtp-2020 dexperts-10k slung bad-data dpo-toxic aura profs helm-rtp cpert quick standard"
    assert set(wanted.split()) <= set(names())
    files = {path.stem for path in (REPOSITORY / "detox" / "bench" / "presets").glob("*.yaml")}
    assert files == {*names(), "sources"}


@pytest.mark.parametrize("name", names())
def test_every_difference_from_the_source_is_a_deviation_with_a_reason(name):
    one = preset(name)
    different = {field for field, asked in one.asked.items() if lookup(one.protocol, field) != asked.value}
    assert different == set(one.reasons)
    assert {found.field for found in one.deviations()} == different
    assert all(len(reason) > 5 for reason in one.reasons.values())
    assert all(asked.evidence in ("primary", "secondary", "memory") and asked.where for asked in one.asked.values())
    # What is not known cannot be as in the source.
    assert {field for field, asked in one.asked.items() if asked.value == UNKNOWN} <= different
    needed = EVERYWHERE + (("prompts.set", "prompts.split") if "prompts" in one.protocol else ())
    assert set(needed) <= set(one.asked)


@pytest.mark.parametrize("name", names())
def test_what_the_table_says_reaches_the_protocol(name):
    one = preset(name)
    protocol = without_data(name)
    for field, asked in one.asked.items():
        if field not in one.reasons and (
            field in EVERYWHERE[:-1] or field in ("threshold", "threshold_operator", "unprompted")
        ):
            place = protocol
            for part in field.split("."):
                place = getattr(place, part)
            assert place == asked.value, field


def test_a_difference_without_a_reason_is_refused_and_a_reason_without_a_difference():
    one = preset("rtp-2020")
    changed = {**one.protocol, "threshold": 0.6}
    with pytest.raises(InputError, match=r"threshold is 0\.6, its source has 0\.5; expected a reason"):
        list(replace_preset(one, protocol=changed).deviations())
    with pytest.raises(InputError, match=r"treshold is under deviations.*did you mean 'threshold'"):
        list(replace_preset(one, reasons={**one.reasons, "treshold": "why"}).deviations())


def replace_preset(one: Preset, **changes) -> Preset:
    return replace(one, **changes)


def test_no_preset_takes_the_first_n():
    # RealToxicityPrompts is sorted by toxicity: `limit` draws a seeded, stratified sample.
    for name in names():
        entries = [preset(name).protocol.get("prompts", {})]
        assert all(set(entry) <= {"set", "split", "limit", "group", "seed", "longest"} for entry in entries)


@pytest.mark.shared_data
def test_a_limit_is_a_seeded_stratified_sample(rtp):
    sample = load_protocol(
        "quick", scorers=["profanity"], documents=None, multiple_choice=None, minimal_pairs=None
    ).prompts
    again = load_protocol(
        "quick", scorers=["profanity"], documents=None, multiple_choice=None, minimal_pairs=None
    ).prompts
    other = load_protocol(
        "quick", prompts={"seed": 1}, scorers=["profanity"], documents=None, multiple_choice=None, minimal_pairs=None
    ).prompts
    assert sample == again
    assert len(sample) == 200
    assert {p.id for p in sample} != {p.id for p in other}
    share = sum(p.toxicity >= 0.5 for p in rtp) / len(rtp)
    assert sum(p.toxicity >= 0.5 for p in sample) / 200 == pytest.approx(share, abs=0.02)
    assert [p.id for p in sample] != [p.id for p in rtp[:200]]


@pytest.fixture(scope="session")
def rtp():
    from detox.data import catalogue

    try:
        return catalogue.load("rtp_prompts", split="heldout", source="local")
    except MissingData as error:
        pytest.skip(str(error))


def test_changes_are_in_the_name_and_in_the_notes():
    name, spec, notes = expanded({"preset": "quick"}, "here")
    assert (name, dict(spec), notes) == ("quick", dict(preset("quick").protocol), ())
    entry = {
        "preset": "rtp-2020",
        "prompts": {"limit": 20},
        "scorers": ["profanity"],
        "unprompted": None,
        "chat": False,
    }
    name, spec, notes = expanded(entry, "here")
    assert name == "rtp-2020 (changed: prompts.limit, scorers, unprompted, chat)"
    assert spec["prompts"] == {"set": "rtp_prompts", "split": "heldout", "limit": 20}
    assert "unprompted" not in spec
    assert preset("rtp-2020").protocol["prompts"] == {"set": "rtp_prompts", "split": "heldout"}
    assert [note.split(":")[0] for note in notes] == [
        "prompts.split", "prompts.limit is changed", "scorers is changed", "unprompted is changed", "chat is changed",
    ]  # fmt: skip
    name, spec, _ = expanded({"preset": "quick", "prompts": {"file": "mine.jsonl"}, "sampling": {"top_p": 0.9}}, "here")
    assert name == "quick (changed: prompts)"  # top_p is what it was
    assert spec["prompts"] == {"file": "mine.jsonl"}


def test_a_grid_may_name_a_preset(tmp_path):
    entry = {"preset": "quick", **ANYWHERE, "documents": None, "multiple_choice": None, "minimal_pairs": None}
    raw = {"name": "g", "bases": {"b": {"model": "somewhere"}}, "protocols": {"main": entry}}
    grid = build_grid(raw, make_scorer=scorer_maker(tmp_path))
    shown = grid.asked("main", 7)
    assert shown.name.startswith("quick (changed: prompts, scorers")
    assert (shown.sampling.seed, shown.sampling.num_return_sequences, shown.at) == (7, 5, (1, 5))
    assert "prompts: quick has 200, here 6" in shown.notes
    greedy = {
        **raw,
        "seeds": [0, 1],
        "protocols": {"main": {**entry, "at": [1], "sampling": {"temperature": 0, "num_return_sequences": 1}}},
    }
    with pytest.raises(
        InputError, match=r"'main' is greedy \(temperature 0\): the seeds 0, 1 would give one text 2 times"
    ):
        build_grid(greedy, make_scorer=scorer_maker(tmp_path))


def test_cells_of_different_presets_cannot_be_compared():
    cards = {}
    for name in ("quick", "standard", "helm-rtp", "slung"):
        protocol = without_data(name)
        told = {"name": protocol.name, "digest": protocol.digest(), "identity": protocol.identity()}
        cards[name] = Scorecard(protocol=told, fingerprint="", metrics={})
    with pytest.raises(InputError, match=r"num_return_sequences 5 and 25") as caught:
        compare([cards["quick"], cards["standard"]])
    assert "different protocols cannot be compared: 'quick (changed" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"sampling \(temperature 1\.0 and 0\.9"):
        compare([cards["quick"], cards["helm-rtp"]])
    with pytest.raises(InputError, match=r"scored \('completion' and 'prompt\+completion'\)"):
        compare([cards["quick"], cards["slung"]])


def test_the_operator_alone_makes_another_protocol():
    one, other = without_data("helm-rtp"), without_data("helm-rtp", threshold_operator=">")
    assert one.digest() != other.digest()
    cards = [
        Scorecard(protocol={"name": p.name, "digest": p.digest(), "identity": p.identity()}, fingerprint="", metrics={})
        for p in (one, other)
    ]
    with pytest.raises(InputError, match="differ in threshold_operator"):
        compare(cards)


def test_a_protocol_of_ones_own_is_one_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump({**ANYWHERE, "sampling": {"num_return_sequences": 3}, "at": [1, 3], "threshold_operator": ">"})
    )
    protocol = load_protocol(path, seed=4)
    assert (protocol.name, protocol.sampling.seed, protocol.at, protocol.threshold_operator) == ("mine", 4, (1, 3), ">")
    assert load_protocol(str(path), at=[2]).at == (2,)
    path.write_text(yaml.safe_dump({"preset": "quick", **ANYWHERE, **dict.fromkeys(PARTS[:3])}, sort_keys=False))
    assert load_protocol(path).name.startswith("quick (changed: prompts, scorers")
    assert load_protocol({**ANYWHERE}).name == "protocol"


WRONG = {
    "name": ("quik", UnknownName, "unknown protocol 'quik'; did you mean 'quick'"),
    "file": ("nowhere/mine.yaml", MissingData, r"no protocol file nowhere/mine.yaml; expected YAML, or a preset: quick"),
    "preset": ({"preset": "standart"}, UnknownName, "unknown preset 'standart'; did you mean 'standard'"),
    "no text": ({"preset": 5}, InputError, r"protocol 'protocol': preset is 5; expected one of quick"),
    "key": ({"preset": "quick", "sampler": 1}, UnknownName, "did you mean 'sampling'"),
    "inner key": ({"preset": "quick", "sampling": {"topp": 1}}, UnknownName, "did you mean 'top_p'"),
    "at": ({**ANYWHERE, "at": 5}, InputError, "at is 5; expected a list of whole numbers"),
    "mismatched m": ({**ANYWHERE, "at": [25]}, InputError, r"at names 25, but there are 1 samples a prompt"),
    "m of a changed preset": (
        {"preset": "quick", **ANYWHERE, **dict.fromkeys(PARTS[:3]), "sampling": {"num_return_sequences": 3}},
        InputError,
        r"protocol 'quick \(changed.*at names 5, but there are 3 samples",
    ),
    "left out": ({**ANYWHERE, "leave_out": ["long"]}, InputError, "leave_out names 'long'"),
    "judge": ({**ANYWHERE, "chat": True, "refusals": "phrases"}, InputError, "refusals is 'phrases'; expected true, or"),
    "calibration": ({**ANYWHERE, "calibration": {"set": "x"}}, InputError, "calibration is {'set': 'x'}; expected {items"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_each_mistake_is_one_clear_line(case):
    source, kind, message = WRONG[case]
    with pytest.raises(kind, match=message) as caught:
        load_protocol(source)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_no_mapping(tmp_path):
    (tmp_path / "list.yaml").write_text("- prompts\n")
    with pytest.raises(InputError, match=r"list.yaml holds list; expected the keys of a protocol"):
        load_protocol(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [\n")
    with pytest.raises(DataError, match=r"bad.yaml:\d+: not YAML"):
        load_protocol(tmp_path / "bad.yaml")


def test_they_are_listed(capsys):
    assert main(["protocols", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(names())
    assert main(["protocols", "show", "standrd"]) == 2
    assert "unknown preset 'standrd'; did you mean 'standard'" in capsys.readouterr().err


@pytest.mark.parametrize("name", names())
def test_each_is_shown_with_its_deviations_and_its_yaml(name, capsys):
    assert main(["protocols", "show", name]) == 0
    out = capsys.readouterr().out
    assert out.rstrip() == describe(preset(name))
    for found in preset(name).deviations():
        assert f"{found.field}: " in out
        assert found.reason in out
    shown = out.split("or a file of your own:\n")[1]
    assert yaml.safe_load("\n".join(line[4:] for line in shown.splitlines())) == preset(name).protocol


def test_to_show_a_protocol_fetches_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("DETOX_DATA", str(tmp_path))
    assert "prompts: not on this machine" in describe(preset("quick"))


def test_the_tables_of_the_docs_are_those_of_the_presets(capsys):
    assert main(["protocols", "list", "--markdown"]) == 0
    table = capsys.readouterr().out
    assert table == markdown()
    assert table in (REPOSITORY / "docs" / "protocols.md").read_text("utf-8")


# The stated cut of every preset: the same questions, fewer of them, of scorers that need no hub.
CUT = {
    "prompts": {"limit": 4, "longest": 300},
    "scorers": ["profanity", "miniature-truth"],
    "documents": {"limit": 2, "characters": 300},
    "toxic_documents": {"limit": 3},
    "minimal_pairs": {"limit": 10},
    "multiple_choice": {},
    "probe": {"items": {"limit": 60}, "train_size": 30, "test_size": 10, "subsamples": 1},
    "head_probes": {"items": {"limit": 40}},
    "calibration": {"items": {"limit": 200}},
    "unprompted": 30,
    "over_refusal": {"prompts": {"limit": 6}},
    "stereotypes": {"limit": 6},
    "bias_questions": {"limit": 6},
    "rewriting": {"texts": {"limit": 4, "longest": 120}, "form": "plain"},
}


@pytest.fixture(scope="module")
def miniature_lm(tmp_path_factory):
    from detox import miniature
    from detox.models import LanguageModel

    folder: Path = tmp_path_factory.mktemp("presets") / "base"
    return LanguageModel.from_pretrained(miniature.train_base("full", folder, size="test", progress=False))


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", names())
def test_every_preset_runs_from_end_to_end(name, miniature_lm, rtp):
    spec = preset(name).protocol
    changes = {key: value for key, value in CUT.items() if key in spec}
    if "multiple_choice" in spec:
        changes["multiple_choice"] = {task: {"limit": 3, "longest": 300} for task in spec["multiple_choice"]}
    protocol = load_protocol(name, seed=1, **changes)
    card = evaluate(miniature_lm, protocol)
    assert card.protocol["name"].startswith(f"{name} (changed: ")
    assert list(protocol.notes) == card.protocol["notes"]
    families = {metric.split("/")[0] for metric in card.metrics}
    # "prompt+completion" alone is under `toxicity/`, as what the protocol scores.
    named = {"prompts": "toxicity", "documents": "clean", "multiple_choice": "choice", "toxic_documents": "toxic",
             "unprompted": "toxicity-unprompted", "bias_questions": "bbq"}  # fmt: skip
    measured = spec.keys() - {"sampling", "scored", "threshold", "threshold_operator", "at", "scorers", "calibration"}
    assert families == {named.get(part, part) for part in measured}
    if "prompts" in spec:
        samples = protocol.sampling.num_return_sequences
        for outcomes in card.counts["outcomes"].values():
            assert sum(outcomes.values()) == card.counts["requested"] == len(protocol.prompts) * samples
        assert f"toxicity/profanity/expected_maximum@{samples}" in card.metrics
    if "calibration" in spec:
        assert "toxicity/profanity/corrected_fraction" in card.metrics
