"""The card of a trained detoxifier: what it learned from, on what, and what it must not be used for."""

from __future__ import annotations

from typing import Any

from detox.data.fit_sources import FitSources
from detox.detoxifiers.contract import hyperparameters

LIMITS = (
    "## Limits",
    "",
    "Toxicity was not measured when this was written: measure it with `detox bench run`, by scorers that did not choose the",
    "training data. What was learned covers the kinds of toxicity and the language of the data and no others, can be undone by",
    "further training, and says nothing about truth or about harmful requests. The licence is that of the base model and of the",
    "training data, whichever asks for more.",
    "",
)


def model_card(detoxifier: Any) -> str:
    """Markdown with the metadata that the hub reads."""
    name = type(detoxifier).__name__
    fitted = getattr(detoxifier, "fitted_on_", None) or {}
    data, record = fitted.get("contrasts", {}), getattr(detoxifier, "record_", {})
    settings = "\n".join(f"| {key} | {value} |" for key, value in hyperparameters(detoxifier).items())
    base = fitted.get("name") or "a model without a name"
    curve = record.get("curve") or [{}]
    ends = ", ".join(f"{key} {value:.4g}" for key, value in curve[-1].items() if key in ("loss", "mean_token_accuracy"))
    lines = [
        "---",
        "library_name: peft" if getattr(detoxifier, "config_", None) else "library_name: transformers",
        "tags: [detoxification, detox]",
        "---",
        "",
        f"# {name} of {base}",
        "",
        f"Trained with detox to make the model's text less toxic. Base weights and edits: `{fitted.get('base')}`.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {data.get('count')} examples, SHA-256 {data.get('sha256')} |",
        *([f"| learned from | {FitSources.from_dict(fitted['sources'])} |"] if "sources" in fitted else []),
        f"| examples cut to length | {record.get('cut', 'not counted')} |",
        f"| steps | {record.get('steps')} |",
        f"| last of the curve | {ends or 'not logged'} |",
        settings,
        "",
        *LIMITS,
        "Reversing the sign of this edit makes a model more toxic.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)
