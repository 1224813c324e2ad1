from __future__ import annotations

import pytest

from detox.cli import main


def tables(text):
    """(title, rows by name) of every table that was printed."""
    found, title = [], None
    for line in text.splitlines():
        if line.startswith(("Generating", "Scoring")):
            title = line.split(":")[0]
        elif line.startswith("kind"):
            found.append((title, {}))
        elif found and line.split()[:1] and line.split()[0] in ("all", "generation", "last"):
            found[-1][1][line.split()[0]] = "".join(line.split()[1:])
    return found


def test_what_is_touched_is_printed_token_by_token(capsys):
    assert main(["explain-positions", "a b c", "d", "--continuation", "e f g"]) == 0
    assert tables(capsys.readouterr().out) == [
        ("Generating", {"all": "+++++", "generation": "..+++", "last": "..+.."}),
        ("Generating", {"all": "..+++", "generation": "..+++", "last": "..+.."}),
        ("Scoring a continuation", {"all": "+++++", "generation": "..+++", "last": "..+.."}),
        ("Scoring a continuation", {"all": "+++..", "generation": "+++..", "last": "+...."}),
    ]


def test_a_models_own_tokens(capsys, shared_models):
    assert (
        main(["explain-positions", "Once", "--model", str(shared_models / "stories260K"), "--positions", "last"]) == 0
    )
    out = capsys.readouterr().out
    assert [row["last"].count("+") for _, row in tables(out)] == [1, 1]
    assert "generation" not in out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--positions", "lst"], "unknown positions 'lst'; did you mean 'last'"),
        ([""], "has no tokens"),
        (["--model", "/nowhere/at/all"], "cannot load a tokenizer from /nowhere/at/all"),
    ],
)
def test_wrong_input_is_one_line(capsys, argv, says):
    assert main(["explain-positions", *argv]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
