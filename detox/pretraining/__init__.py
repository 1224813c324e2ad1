"""Where base models come from: risk labels, mixtures, the selective-loss trainer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.pretraining.mixture import Mixture, Source
    from detox.pretraining.monitoring import held_out_loss
    from detox.pretraining.packing import PackedSequences, RealisedSource, end_token, pack
    from detox.pretraining.recipe import PretrainingRecipe
    from detox.pretraining.risk import TokenizedDocument, token_risk, tokenize_documents
    from detox.pretraining.run import pretrain
    from detox.pretraining.tokenizer import train_tokenizer
    from detox.pretraining.trainer import SelectiveLossTrainer

_HOMES = {
    "Mixture": "mixture",
    "PackedSequences": "packing",
    "PretrainingRecipe": "recipe",
    "RealisedSource": "packing",
    "SelectiveLossTrainer": "trainer",
    "Source": "mixture",
    "TokenizedDocument": "risk",
    "end_token": "packing",
    "held_out_loss": "monitoring",
    "pack": "packing",
    "pretrain": "run",
    "token_risk": "risk",
    "tokenize_documents": "risk",
    "train_tokenizer": "tokenizer",
}

__all__ = [
    "Mixture",
    "PackedSequences",
    "PretrainingRecipe",
    "RealisedSource",
    "SelectiveLossTrainer",
    "Source",
    "TokenizedDocument",
    "end_token",
    "held_out_loss",
    "pack",
    "pretrain",
    "token_risk",
    "tokenize_documents",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"detox.pretraining.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
