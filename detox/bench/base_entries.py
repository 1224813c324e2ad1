"""What a grid's `bases` entries mean: one base each, or one for every combination of the values under `for`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import product
from typing import Any

from detox.bench.bases import Base, RealCorpus
from detox.bench.protocols import require_keys, require_types
from detox.bench.sources import read_records
from detox.data.contrasts import Contrast
from detox.errors import InputError, require_known

_KEYS = ("model", "revision", "dtype", "attention_output", "pretrain", "instruct", "for", "factors")
_KINDS = ("model", "pretrain", "instruct")


def read_bases(entries: Mapping[str, Any]) -> tuple[Base, ...]:
    """The bases that the `bases` of a grid mean, in order.

    An entry with `for: {arm: [full, masked], seed: [0, 1]}` stands for one base a combination: "{arm}" and "{seed}" in its name
    and anywhere in it are replaced, and the values are the base's factors, by which curves are drawn over bases. `factors:` adds
    others.

    Raises:
        InputError: an entry that means nothing, or a name that comes out twice.
        UnknownName: a key that is not known, or a base to be instructed that the grid does not have.
    """
    bases: dict[str, Base] = {}
    read: dict[str, Any] = {}  # dialogues, once for all bases that learn the same
    for pattern, entry in entries.items():
        require_keys(entry, _KEYS, f"base {pattern!r}")
        for values in _combinations(pattern, entry.get("for", {})):
            name = str(_filled(pattern, values))
            if name in bases:
                raise InputError(f"the grid has two bases {name!r}; expected every value of `for` in the name")
            spec = _filled({key: value for key, value in entry.items() if key != "for"}, values)
            factors = spec.pop("factors", {})
            if not isinstance(factors, Mapping):
                raise InputError(f"base {name!r}: factors is {factors!r}; expected {{NAME: VALUE, ...}}")
            bases[name] = _base(name, spec, {**values, **factors}, bases, read)
    return tuple(bases.values())


def _combinations(pattern: str, values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, Mapping) or not all(isinstance(v, list) and v for v in values.values()):
        raise InputError(f"base {pattern!r}: for is {values!r}; expected {{NAME: [VALUE, ...], ...}}")
    unused = [name for name in values if f"{{{name}}}" not in pattern]
    if unused:
        raise InputError(f"base {pattern!r}: its name lacks {{{unused[0]}}}, so that its bases would share one name")
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """`value` with every "{name}" replaced; a text that is one such name alone becomes the value itself, whatever its type."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    whole = re.fullmatch(r"\{(\w+)\}", value)
    if whole and whole[1] in values:
        return values[whole[1]]
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), value)


def _base(
    name: str, spec: Mapping[str, Any], factors: Mapping[str, Any], others: Mapping[str, Base], read: dict[str, Any]
) -> Base:
    kinds = [kind for kind in _KINDS if kind in spec]
    if len(kinds) != 1:
        raise InputError(
            f"base {name!r} must have either a model (hub id or path), a pretrain recipe or an instruct recipe"
        )
    if "attention_output" in spec and not (kinds == ["model"] and isinstance(spec["attention_output"], str)):
        raise InputError(
            f"base {name!r}: attention_output is {spec['attention_output']!r}; expected a path such as "
            "'model.layers.{}.self_attn.o_proj', beside model"
        )
    if "model" in spec:
        revision = None if spec.get("revision") is None else str(spec["revision"])
        return Base(
            name=name,
            model=str(spec["model"]),
            revision=revision,
            dtype=spec.get("dtype"),
            attention_output=spec.get("attention_output"),
            factors=factors,
        )
    if "instruct" in spec:
        return Base(
            name=name,
            dtype=spec.get("dtype"),
            corpus=_instructed(name, spec["instruct"], others, read),
            factors=factors,
        )
    recipe = spec["pretrain"]
    if isinstance(recipe, Mapping) and recipe.get("data") == "miniature":
        from detox.bench.miniature import MiniatureCorpus

        require_types(MiniatureCorpus, recipe, f"pretrain of {name!r}")
        return Base(name=name, dtype=spec.get("dtype"), corpus=MiniatureCorpus.from_dict(recipe), factors=factors)
    require_keys(recipe, [*RealCorpus.__dataclass_fields__, "data"], f"pretrain of {name!r}")
    require_types(RealCorpus, recipe, f"pretrain of {name!r}")
    return Base(name=name, dtype=spec.get("dtype"), corpus=RealCorpus.from_dict(recipe), factors=factors)


def _instructed(name: str, spec: Any, others: Mapping[str, Base], read: dict[str, Any]) -> Any:
    from detox.bench.instructed import Instructed

    where = f"instruct of {name!r}"
    require_keys(spec, ("base", "dialogues", "recipe"), where, needed=("base", "dialogues"))
    require_known(f"base that {name!r} instructs (it must stand before it)", spec["base"], others)
    key = json.dumps(spec["dialogues"], sort_keys=True)
    if key not in read:
        read[key] = read_records(Contrast, spec["dialogues"], where=f"{where}.dialogues")
    return Instructed.from_dict(others[spec["base"]], read[key], spec.get("recipe", {}), where=where)
