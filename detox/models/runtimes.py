"""Which program serves a bias at the attention output projection, and which would lose it: a table, read from their code.

The data is runtimes.json, with the version that was read and the place in its code. A family that is not in it is not verified.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

UNVERIFIED = "not verified"
_OTHERS = ("vllm", "llama.cpp")
_NAMES = {"vllm": "vLLM", "llama.cpp": "llama.cpp"}


@cache
def table() -> dict[str, Any]:
    """The whole table: `runtimes` (version read), `states` (what the words mean), `families`."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("runtimes.json").read_text(encoding="utf-8"))
    return found


def row(family: str) -> dict[str, Any]:
    """What happens to a bias at the attention output projection of `family` (a model_type), by runtime.

    Returns:
        `slot` (the configuration entry that opens it, "always" or "none"), and for each runtime its state, with the place in the
        code for those other than transformers; "not verified" throughout for a family that is not in the table.
    """
    known = table()["families"].get(family)
    if known is None:
        return {"slot": UNVERIFIED, "transformers": UNVERIFIED, **{name: [UNVERIFIED, ""] for name in _OTHERS}}
    return dict(known)


def bias_warnings(family: str) -> list[str]:
    """One sentence for each runtime that loads a checkpoint of `family` and loses its folded biases, or was not verified.

    A runtime that refuses to load it says so itself.
    """
    found = []
    for name in _OTHERS:
        state, where = row(family)[name]
        version = table()["runtimes"][name].partition(";")[0].partition(", commit")[0].partition(" (")[0]
        if state == "drops":
            found.append(
                f"{version} drops these biases of {family} and says nothing ({where}): the base model would be served; use "
                "transformers, or vLLM's transformers backend (--model-impl transformers) and compare"
            )
        elif state == UNVERIFIED:
            found.append(
                f"whether {_NAMES[name]} keeps these biases of {family} was not verified; compare before you serve it"
            )
    return found


def markdown() -> str:
    """The table as docs/export.md shows it."""
    lines = ["| family | bias opened by | transformers | vLLM | llama.cpp (GGUF) |", "|---|---|---|---|---|"]
    for family, known in table()["families"].items():
        cells = [f"{state}: {where}" if where else state for state, where in (known[name] for name in _OTHERS)]
        lines.append(f"| {family} | {known['slot']} | {known['transformers']} | {cells[0]} | {cells[1]} |")
    lines += ["", *(f"- {name}: {said}." for name, said in table()["runtimes"].items())]
    return "\n".join(lines) + "\n"
