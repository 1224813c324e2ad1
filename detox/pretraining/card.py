"""What is saved with a model: `pretraining.json` for programs, `README.md` for people. Neither holds any text of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detox.pretraining.architecture import SIZES
from detox.pretraining.packing import PackedSequences
from detox.pretraining.recipe import PretrainingRecipe
from detox.pretraining.workdir import weights_digest

_KEPT = (
    "step",
    "learning_rate",
    "grad_norm",
    "loss",
    "likelihood",
    "likelihood_tokens",
    "unlikelihood",
    "unlikelihood_tokens",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a finished run was, apart from its recipe.

    Attributes:
        sequences: what was trained on.
        held_out: what was measured on.
        identity: see `detox.pretraining.workdir.run_identity`.
        arm: its name, or None where none was asked for.
        treatment: what labels meant, as plain values; None where the data came packed.
        history: the Trainer's log.
        parameters: of the model.
        machine: processes, device, sharding.
        speed: `Throughput.card()`.
        seconds: that the last session took.
        resumed_at_step: where the last session began.
    """

    sequences: PackedSequences
    held_out: Mapping[str, PackedSequences]
    identity: Mapping[str, Any]
    arm: str | None
    treatment: Mapping[str, Any] | None
    history: Sequence[Mapping[str, Any]]
    parameters: int
    machine: Mapping[str, Any]
    speed: Mapping[str, float | None]
    seconds: float
    resumed_at_step: int


def pretraining_card(recipe: PretrainingRecipe, run: Run, config: Any, folder: Path) -> dict[str, Any]:
    """The record of a run, with the hash of the weights in `folder`."""
    training = [{name: entry[name] for name in _KEPT if name in entry} for entry in run.history if "loss" in entry]
    watched = [{"step": entry["step"], **entry["held_out"]} for entry in run.history if "held_out" in entry]
    return {
        "recipe": recipe.to_dict(),
        "arm": run.arm,
        "objective": recipe.objective,
        "denominator": recipe.denominator,
        "treatment": run.treatment,
        "seed": recipe.seed,
        "identity": run.identity,
        "architecture": {
            "model_type": config.model_type,
            "vocab_size": config.vocab_size,
            **{name: getattr(config, name, None) for name in SIZES if name != "family"},
        },
        "parameters": run.parameters,
        "data": run.sequences.card(),
        "held_out": {name: data.card() for name, data in run.held_out.items()},
        "trained_tokens": recipe.tokens,
        "epochs": recipe.tokens / run.sequences.tokens.size,
        "final": training[-1] | ({"held_out": watched[-1]} if watched else {}),
        "curve": {"training": training, "held_out": watched},
        "hashes": {
            "weights": weights_digest(folder),
            "data": run.identity["data"],
            "tokenizer": run.identity["tokenizer"],
        },
        "machine": dict(run.machine),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "accelerate")},
        "seconds": round(run.seconds, 1),
        "resumed_at_step": run.resumed_at_step,
        **run.speed,
    }


def readme(card: Mapping[str, Any], name: str) -> str:
    """The same for people, in the form of a model card on the hub."""
    recipe, data, final = card["recipe"], card["data"], card["final"]
    start = recipe.get("continue_from")
    began = f"continued from {start}" if start else "from scratch"
    if recipe.get("revision"):
        began += f" at {recipe['revision']}"
    treatment = card["treatment"] or {}
    facts = {
        "arm": card["arm"],
        "objective": f"{card['objective']}, denominator {card['denominator']}"
        + (f", unlikelihood weight {recipe['unlikelihood_weight']:g}" if card["objective"] == "unlikelihood" else ""),
        "risky kinds": ", ".join(treatment["risky"]) if treatment.get("risky") else None,
        "middle band of the labels": treatment.get("middle"),
        "start": began,
        "parameters": f"{card['parameters']:,}",
        "tokens": f"{card['trained_tokens']:,} in {recipe['steps']:,} steps of {recipe['batch_size']} x "
        f"{recipe['sequence_length']}, {card['epochs']:.3g} epochs",
        "learning rate": f"{recipe['learning_rate']:g}, {recipe['schedule']}",
        "precision": recipe["precision"],
        "seed": card["seed"],
        "machine": ", ".join(f"{key} {value}" for key, value in card["machine"].items() if value is not None),
        "tokens a second": card["tokens_per_second"],
        "MFU": card["mfu"],
    }
    losses = {"training loss at the end": final.get("loss"), **_flat(final.get("held_out", {}))}
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags: [pretraining, selective-loss]",
            "---",
            "",
            f"# {name}",
            "",
            "A causal language model, a plain transformers checkpoint. It was trained to study toxicity and may write toxic "
            "text. `pretraining.json` holds all of this, and the learning curve, for programs.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in facts.items() if value is not None),
            "",
            "## Data",
            "",
            f"{data['tokens']:,} tokens in sequences of {data['sequence_length']}, of them risky {data['risky_tokens']:,}.",
            "",
            *_sources(data["sources"]),
            "## Loss, in nats per token",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value:.4f} |" for key, value in losses.items() if value is not None),
            "",
            "## Hashes (SHA-256)",
            "",
            *(f"- {key}: `{value}`" for key, value in card["hashes"].items()),
            "",
        ]
    )


def _sources(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    if not sources:
        return []
    return [
        "| source | share | tokens | risky | passes |",
        "|---|---|---|---|---|",
        *(
            f"| {source['name']} | {source['share']:.4f} | {source['tokens']:,} | {source['risky_tokens']:,} | "
            f"{source['passes']:.3g} |"
            for source in sources
        ),
        "",
    ]


def _flat(held_out: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"held-out {name}, {part}": value
        for name, parts in held_out.items()
        if isinstance(parts, Mapping)
        for part, value in parts.items()
    }
