"""Wrong input: each one clear line on stderr, exit code 2, nothing half-written."""

from __future__ import annotations

import copy

import pytest

from detox.cli import main

MAIN = ("protocols", "main")


def change(raw, *where, to=None, drop=None, **values):
    changed = copy.deepcopy(raw)
    place = changed
    for key in where:
        place = place[key]
    if drop:
        del place[drop]
    place.update(values if to is None else to)
    return changed


CASES = {
    "grid key": (lambda r: {**r, "detoxifier": {}}, r"unknown grid key 'detoxifier'; did you mean 'detoxifiers'\?"),
    "detoxifier": (
        lambda r: change(r, "detoxifiers", to={"itti": {}}),
        r"unknown detoxifier 'itti'; did you mean 'iti'\?",
    ),
    "setting": (
        lambda r: change(r, "detoxifiers", "iti", "settings", numheads=2),
        r"unknown setting of iti 'numheads'; did you mean 'num_heads'\?",
    ),
    "setting's value": (
        lambda r: change(r, "detoxifiers", "iti", "settings", direction="mass-men"),
        "did you mean 'mass-mean'",
    ),
    "scorer": (lambda r: change(r, *MAIN, scorers=["profanit"]), "did you mean 'profanity'"),
    "protocol key": (lambda r: change(r, *MAIN, sampler={}), "did you mean 'sampling'"),
    "sampling key": (lambda r: change(r, *MAIN, "sampling", topp=0.9), "did you mean 'top_p'"),
    "data set": (lambda r: change(r, *MAIN, prompts={"set": "rtp_prompt"}), "did you mean 'rtp_prompts'"),
    "data key": (lambda r: change(r, *MAIN, "prompts", spilt="x"), "did you mean 'split'"),
    "no bases": (lambda r: change(r, drop="bases"), "the grid has no bases"),
    "no fit": (lambda r: change(r, drop="fit"), "iti learns from contrasts, but the grid has no fit"),
    "two kinds of base": (
        lambda r: change(r, "bases", "planted", pretrain={}),
        "either a model .* a pretrain recipe or an instruct recipe",
    ),
    "pretrain key": (
        lambda r: change(r, "bases", to={"b": {"pretrain": {"recipe": {}, "toxicshare": 1}}}),
        "did you mean 'toxic_share'",
    ),
    "recipe key": (
        lambda r: change(r, "bases", to={"b": {"pretrain": {"recipe": {"step": 1}}}}),
        "did you mean 'steps'",
    ),
    "seeds": (lambda r: {**r, "seeds": 3}, "seeds is 3; expected a list"),
    "no such file": (lambda r: change(r, *MAIN, prompts={"file": "nowhere.jsonl"}), "nowhere.jsonl"),
    "bases as a list": (lambda r: {**r, "bases": [{"model": "m"}]}, "bases is .*expected a name for each"),
    "detoxifiers as a list": (lambda r: {**r, "detoxifiers": ["iti"]}, "detoxifiers is .*expected a name for each"),
    "protocols as a list": (lambda r: {**r, "protocols": [{"chat": True}]}, "protocols is .*expected a name for each"),
    "control": (
        lambda r: change(r, "detoxifiers", "iti", controls={"names": ["randm"]}),
        r"unknown control 'randm'; did you mean 'random'\?",
    ),
    "controls of what has none": (
        lambda r: change(r, "detoxifiers", "prompting", controls={"names": ["random"]}),
        "controls of 'prompting': prompting has none; leave the key out",
    ),
    "controls": (
        lambda r: change(r, "detoxifiers", "iti", controls=3),
        "controls of 'iti' is 3; expected false for none",
    ),
    "null beside numbers": (
        lambda r: change(r, "detoxifiers", "iti", strengths=[None, 2]),
        "'iti': strengths holds null beside numbers",
    ),
    "strengths": (lambda r: change(r, "detoxifiers", "iti", strengths=["abc"]), "'iti': strengths holds 'abc'"),
    "limit": (lambda r: change(r, *MAIN, "prompts", limit="many"), "'main'.prompts: limit is 'many'"),
    "file": (lambda r: change(r, *MAIN, prompts={"file": 5}), "'main'.prompts: file is 5"),
    "miniature split": (
        lambda r: change(r, *MAIN, prompts={"set": "miniature", "limit": 1, "split": "heldout"}),
        "unknown split .*'heldout'",
    ),
    "setting's type": (
        lambda r: change(r, "detoxifiers", "iti", "settings", num_heads="4"),
        "'iti': num_heads is '4'; expected int",
    ),
    "settings": (lambda r: change(r, "detoxifiers", "iti", settings=4), "'iti': settings is 4"),
    "sampling's type": (
        lambda r: change(r, *MAIN, "sampling", temperature="hot"),
        "'main'.sampling: temperature is 'hot'; expected float",
    ),
    "threshold": (lambda r: change(r, *MAIN, threshold="high"), "'main': threshold is 'high'"),
    "template": (
        lambda r: change(r, *MAIN, recognition={"items": {"set": "miniature", "limit": 2}, "template": 5}),
        "recognition: template is 5; expected str",
    ),
    "recognition of nothing": (lambda r: change(r, *MAIN, recognition={}), "recognition has no items"),
    "probe of nothing": (lambda r: change(r, *MAIN, probe={}), "probe has no train"),
    "trained scorer": (lambda r: change(r, *MAIN, scorers=[{"trained": 5}]), "trained is 5"),
    "pretrain's type": (
        lambda r: change(r, "bases", to={"b": {"pretrain": {"recipe": {}, "toxic_share": "some"}}}),
        "pretrain of 'b': toxic_share is 'some'",
    ),
    "recipe": (lambda r: change(r, "bases", to={"b": {"pretrain": {"recipe": 5}}}), "recipe is 5"),
    "clean sets": (lambda r: change(r, "bases", to={"b": {"pretrain": {"recipe": {}, "clean": "x"}}}), "clean is 'x'"),
    "miniature size": (
        lambda r: change(r, "bases", to={"b": {"pretrain": {"data": "miniature", "arm": "clean", "size": "dem"}}}),
        "unknown size 'dem'; did you mean 'demo'",
    ),
    "nothing asked": (lambda r: change(r, "protocols", main={"chat": False}), "'main' asks for nothing"),
    "protocol's bases": (lambda r: change(r, *MAIN, bases=["planted"]), "'main': bases is .*expected factors of bases"),
    "protocol of no base": (
        lambda r: change(r, *MAIN, bases={"share": [0.1]}),
        r"'main': no base of the grid has the factors \{'share': \[0.1\]\}",
    ),
    "method of no base": (
        lambda r: change(r, "detoxifiers", "iti", bases={"share": 0.1}),
        r"'iti': no base of the grid has the factors \{'share': 0.1\}",
    ),
    "prompts without scorers": (lambda r: change(r, *MAIN, drop="scorers"), "prompts but no scorers"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_is_one_clear_line(case, grid, tmp_path, capsys):
    raw, write = grid
    make, message = CASES[case]
    path = write(tmp_path / "grid.yaml")
    import yaml

    path.write_text(yaml.safe_dump(make(raw)))
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1, err
    import re

    assert re.search(message, err), err
    assert not list((tmp_path / "out").glob("cells/*"))


def test_a_line_that_is_not_json_is_named_with_its_number(grid, tmp_path, capsys):
    raw, write = grid
    bad = tmp_path / "prompts.jsonl"
    bad.write_text('{"id": "1", "text": "topic1"}\n{"id": "2", "text": \n')
    path = write(tmp_path / "grid.yaml", protocols=change(raw, *MAIN, prompts={"file": str(bad)})["protocols"])
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "prompts.jsonl:2" in capsys.readouterr().err
    bad.write_text('{"id": "1", "texts": "topic1"}\n')
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "did you mean 'text'" in capsys.readouterr().err


def test_a_file_that_is_not_yaml_or_not_there(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "no grid file" in capsys.readouterr().err
    path.write_text("name: x\nbases: [\n")
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "grid.yaml:3: not YAML" in capsys.readouterr().err
    path.write_text("just a word\n")
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    assert "expected keys out of" in capsys.readouterr().err


def test_an_output_directory_that_cannot_be_written_is_found_before_any_work(grid, tmp_path, capsys):
    _, write = grid
    (tmp_path / "file").write_text("in the way")
    assert (
        main(["bench", "run", str(write(tmp_path / "grid.yaml")), "--output_dir", str(tmp_path / "file" / "out")]) == 2
    )
    err = capsys.readouterr().err
    assert "cannot write to" in err
    assert "min left" not in err


def test_contrasts_of_one_class_are_a_hole_with_its_reason(grid, grid_files, tmp_path, capsys, planted):
    from detox import Contrast
    from detox.data import write_contrasts

    _, write = grid
    write_contrasts(
        tmp_path / "one.jsonl", [Contrast(id=c.id, prompt=c.prompt, safe=c.safe, toxic=()) for c in planted.contrasts]
    )
    path = write(tmp_path / "grid.yaml", fit={"contrasts": {"file": str(tmp_path / "one.jsonl")}})
    assert main(["bench", "run", str(path), "--output_dir", str(tmp_path / "out")]) == 3
    err = capsys.readouterr().err
    assert "texts are safe; expected contrasts with safe and toxic continuations" in err
    assert "2 cells computed" in err


def test_names_may_be_numbers(grid):
    from detox.bench.grid import build_grid
    from detox.bench.scorers import scorer_maker

    raw, _ = grid
    named = {
        **raw,
        "bases": {2024: raw["bases"]["planted"]},
        "detoxifiers": {1: {"method": "prompting"}},
        "protocols": {3: raw["protocols"]["main"]},
    }
    read = build_grid(named, make_scorer=scorer_maker("unused"))
    assert (read.bases[0].name, read.methods[0].name, list(read.protocols)) == ("2024", "1", ["3"])
