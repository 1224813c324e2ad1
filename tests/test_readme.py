"""The README's code runs as it stands there, and its numbers are those of the records."""

from __future__ import annotations

import re
import sys

import pytest

from detox.bench import compare
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_first_code_runs_and_is_twelve_lines(tmp_path, capsys):
    from detox import miniature

    code = BLOCKS[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    base = miniature.train_base("full", tmp_path / "base", size="test", progress=False)
    named = re.search(r'from_pretrained\("([^"]+)"\)', code)
    assert named is not None
    exec(compile(code.replace(named[1], str(base)), "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "tensor(" in said


@pytest.mark.slow
def test_a_saved_adapter_is_loaded_and_exported(tmp_path, monkeypatch):
    from detox import SFT, LanguageModel, miniature

    base = miniature.train_base("full", tmp_path / "base", size="test", progress=False)
    lm = LanguageModel.from_pretrained(base)
    SFT(lora_r=2).fit(lm, miniature.contrasts(20)).save_pretrained(tmp_path / "runs" / "cp")
    monkeypatch.chdir(tmp_path)
    code = next(code for code in BLOCKS if ".export(" in code)
    exec(compile(re.sub(r'from_pretrained\("[^"]+"\)', f'from_pretrained("{base}")', code), "README.md", "exec"), {})
    assert (tmp_path / "runs" / "cp-merged" / "certificate.json").is_file()


@pytest.mark.slow
def test_the_detoxifier_of_the_readme_passes_the_contract(tmp_path):
    from detox import check_detoxifier
    from detox.detoxifiers import find

    file = tmp_path / "reminder.py"
    file.write_text(next(code for code in BLOCKS if "class Reminder" in code))
    report = check_detoxifier(find(f"{file}:Reminder")())
    assert {point.outcome for point in report.points} == {"kept", "excluded"}


def test_what_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    missing = [link for link in links if "://" not in link and not (REPOSITORY / link).exists()]
    assert not missing


def test_commands_of_the_readme_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert f"\n{target}:" in makefile
    assert sys.version_info >= (3, 11)


TABLES = re.findall(r"<!-- (benchmarks/results/[\w-]+)(?: --scorer (\w+))? -->\n((?:\|.*\n)+)", README)
NUMBER = re.compile(r"[+-]?\d+\.\d+")


def test_there_are_tables_of_the_demo_and_of_real_text():
    assert [folder for folder, _, _ in TABLES] == ["benchmarks/results/demo", "benchmarks/results/real-small"]


@pytest.mark.parametrize(("folder", "scorer", "table"), TABLES, ids=[folder for folder, _, _ in TABLES])
def test_every_number_is_in_the_record(folder, scorer, table):
    comparison = compare(REPOSITORY / folder, scorer=scorer or None)
    shown = [line for line in comparison.table().splitlines()[2:] if "base (A/A)" not in line]
    lines = {(row.base, row.method_label): text for row, text in zip(comparison.rows, shown, strict=False)}
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
    assert len(rows) > 3
    for base, method, *cells in rows:
        recorded = NUMBER.findall(lines[base, method])
        for number in NUMBER.findall(" ".join(cells)):
            assert number in recorded, (base, method, number)
