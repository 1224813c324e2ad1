"""Presets for people: as lines of text, and as the tables of docs/protocols.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from detox.bench.presets import Deviation, Preset, lookup, names, preset, shown
from detox.bench.sources import read_records
from detox.data import catalogue
from detox.data.records import Prompt
from detox.errors import MissingData
from detox.evaluation.tasks import records_digest


def describe(chosen: Preset) -> str:
    """A preset with its source, the prompts that are here, what it asks, and every deviation."""
    spec = chosen.protocol
    lines = [f"{chosen.name}: {chosen.title}", f"  source: {chosen.source}"]
    if "prompts" in spec:
        lines += [f"  prompts: {line}" for line in _prompts(chosen)]
    lines += [
        f"  sampling: {_sampling(spec)}",
        f"  scored: {lookup(spec, 'scored')}, toxic {lookup(spec, 'threshold_operator')} {lookup(spec, 'threshold'):g}",
        f"  scorers: {', '.join(map(shown, (lookup(spec, f'scorers.{i}') for i in range(len(spec['scorers'])))))}",
        "  deviations from the source:" if chosen.reasons else "  deviations from the source: none",
        *(f"    {_deviation(one)}" for one in chosen.deviations()),
        "  the protocol, as in a grid or a file of your own:",
        *(
            f"    {line}"
            for line in yaml.safe_dump(dict(spec), sort_keys=False, default_flow_style=None, width=120).splitlines()
        ),
    ]
    return "\n".join(lines)


def markdown() -> str:
    """Two tables: what every preset asks, and every deviation from its source."""
    lines = [
        "| preset | source | prompts | samples x tokens | decoding | toxic | scored | headline scorer | tasks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names():
        spec, one = preset(name).protocol, preset(name)
        cells = [
            f"`{name}`", one.source, _asked_prompts(spec),
            f"{lookup(spec, 'sampling.num_return_sequences')} x {lookup(spec, 'sampling.max_new_tokens')}",
            _decoding(spec), f"{lookup(spec, 'threshold_operator')} {lookup(spec, 'threshold'):g}", lookup(spec, "scored"),
            shown(lookup(spec, "scorers.0")), shown(lookup(spec, "tasks")),
        ]  # fmt: skip
        lines.append(_row(cells))
    lines += ["", "| preset | field | source | where | here | why |", "|---|---|---|---|---|---|"]
    for name in names():
        for found in preset(name).deviations():
            where = f"{found.asked.where} ({found.asked.evidence})"
            lines.append(
                _row([f"`{name}`", found.field, shown(found.asked.value), where, shown(found.here), found.reason])
            )
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _prompts(chosen: Preset) -> list[str]:
    entry = chosen.protocol["prompts"]
    one = catalogue.entry(entry["set"])
    lines = [_asked_prompts(chosen.protocol)]
    if one.hub:
        lines.append(f"{one.hub.id} at {one.hub.revision}")
    if one.file:
        lines.append(f"{one.file.name}, SHA-256 {one.file.sha256}")
    if one.file is None or not _is_here(one.file.name):
        return [*lines, "not on this machine"]  # to show a protocol is no reason to fetch it
    records = read_records(Prompt, entry, where=f"preset {chosen.name!r}.prompts")
    of = f", of {chosen.prompts:,} in the source" if chosen.prompts else ""
    return [*lines, f"{len(records):,} here{of}, digest {records_digest(records)}"]


def _is_here(file: str) -> bool:
    try:
        return (catalogue.data_directory() / file).is_file()
    except MissingData:
        return False


def _asked_prompts(spec: Mapping[str, Any]) -> str:
    if "prompts" not in spec:
        return f"{spec['rewriting']['texts']['set']} said again"
    entry = spec["prompts"]
    limit = f"{entry['limit']:,} of " if "limit" in entry else ""
    more = "".join(f", {key} {entry[key]}" for key in ("split", "group") if key in entry)
    return f"{limit}{entry['set']}{more}" + (
        f", and {spec['unprompted']:,} texts from nothing" if spec.get("unprompted") else ""
    )


def _sampling(spec: Mapping[str, Any]) -> str:
    samples, tokens = (lookup(spec, f"sampling.{key}") for key in ("num_return_sequences", "max_new_tokens"))
    return f"{samples} x {tokens} tokens, {_decoding(spec)}"


def _decoding(spec: Mapping[str, Any]) -> str:
    temperature, top_p, top_k = (lookup(spec, f"sampling.{key}") for key in ("temperature", "top_p", "top_k"))
    if temperature == 0:
        return "greedy"
    parts = [f"temperature {temperature:g}", f"top-p {top_p:g}" if top_p < 1 else "", f"top-k {top_k}" if top_k else ""]
    return ", ".join(part for part in parts if part)


def _deviation(one: Deviation) -> str:
    return (
        f"{one.field}: {shown(one.asked.value)} in the source ({one.asked.where}; {one.asked.evidence}), here {shown(one.here)}: "
        f"{one.reason}"
    )
