"""A detoxifier's export: what it does to a model, as a plain checkpoint with a card, a certificate and itself beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from detox.detoxifiers.card import LIMITS
from detox.detoxifiers.contract import Certificate, Detoxifier, hyperparameters, method_name, versions
from detox.models import LanguageModel
from detox.models.export import export_checkpoint

DETOXIFIER = "detoxifier"  # folder in the checkpoint's


def export(
    detoxifier: Detoxifier,
    lm: LanguageModel,
    directory: str | Path,
    *,
    strength: float | None = None,
    approximate: bool = False,
    prompts: Sequence[str] | None = None,
) -> Certificate:
    """See `Detoxifier.export`."""
    strength = detoxifier.default_strength if strength is None else strength
    fingerprint = lm.fingerprint()
    name = str(getattr(lm.model.config, "_name_or_path", "") or "")
    record: dict[str, Any] = {
        "base": {
            "path": str(Path(name).resolve()) if name and Path(name).is_dir() else name or None,
            "revision": getattr(lm.model.config, "_commit_hash", None),
            "fingerprint": fingerprint,
        },
        "method": method_name(type(detoxifier)),
        "strength": strength,
        "detoxifier": DETOXIFIER if _is_small(detoxifier, lm) else None,
        "versions": versions(),
    }

    def beside(folder: Path) -> None:
        if record["detoxifier"] is not None:
            detoxifier.save_pretrained(folder / DETOXIFIER)

    with detoxifier.applied(lm, strength=strength) as safe:
        found = export_checkpoint(
            safe,
            directory,
            card=lambda certificate: _card(detoxifier, certificate),
            approximate=approximate,
            prompts=prompts,
            record=record,
            beside=beside,
        )
    return Certificate(**{field.name: found[field.name] for field in fields(Certificate)})


def _is_small(detoxifier: Detoxifier, lm: LanguageModel) -> bool:
    """Whether a copy of it beside the checkpoint costs little: shifts and adapters, but not a second set of weights."""
    learned = sum(tensor.nbytes for tensor in detoxifier.state()[1].values() if hasattr(tensor, "nbytes"))
    return bool(learned <= sum(parameter.nbytes for parameter in lm.model.parameters()) / 2)


def _card(detoxifier: Detoxifier, certificate: Mapping[str, Any]) -> str:
    name, base = type(detoxifier).__name__, certificate["base"]
    fitted = getattr(detoxifier, "fitted_on_", None) or {}
    data = fitted.get("contrasts")
    kept = "; ".join(
        f"{runtime}: {state if isinstance(state, str) else state[0]}"
        for runtime, state in certificate["runtimes"].items()
        if runtime != "slot"
    )
    rows = {
        "base": f"{base['path'] or 'a model without a name'}, weights and edits `{base['fingerprint']}`",
        "data": f"{data['count']} examples, SHA-256 {data['sha256']}" if data else "none",
        "strength": certificate["strength"],
        **hyperparameters(detoxifier),
        "family": " -> ".join(dict.fromkeys((certificate["family_from"], certificate["family_to"]))),
        "semantics": "; ".join([certificate["semantics"], *certificate["approximate_because"]]),
        "largest difference of logits": f"{certificate['max_logit_difference']:.3g} (largest logit "
        f"{certificate['largest_logit']:.3g}, mean effect of the edit {certificate['effect']:.3g})",
        "equal tokens in greedy text": f"{certificate['greedy_agreement']:.4f}",
        **({"its biases": kept} if certificate["biases"] else {}),
    }
    lines = [
        "---",
        "library_name: transformers",
        "tags: [detoxification, detox]",
        "---",
        "",
        f"# {base['path'] or 'A model'}, with {name} baked in",
        "",
        "A plain transformers checkpoint. `detox verify DIR` says whether it still is what was certified (certificate.json).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in rows.items()),
        "",
        *(f"- {warning}" for warning in certificate["warnings"]),
        *(["- The system text is in the chat template; plain text is not preceded by it."] if certificate["system_text"] else []),
        "",
        *LIMITS,
        *_warning(detoxifier),
    ]  # fmt: skip
    return "\n".join(lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _warning(detoxifier: Detoxifier) -> list[str]:
    if getattr(detoxifier, "control", None):
        return ["This is a control, made to be beaten by a detoxifier. It is none itself.", ""]
    return (
        ["Reversing the sign of this edit makes a model more toxic.", ""] if detoxifier.capabilities.directional else []
    )
