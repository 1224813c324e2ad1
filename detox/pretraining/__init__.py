"""Where base models come from: risk labels, mixtures, the selective-loss trainer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.pretraining.annotation.annotators import (
        SentenceAnnotator,
        SpanAnnotator,
        WordAnnotator,
        annotate,
        merge_spans,
    )
    from detox.pretraining.annotation.columns import Columns
    from detox.pretraining.annotation.counts import AnnotationCounts
    from detox.pretraining.annotation.files import annotate_files
    from detox.pretraining.annotation.sentences import sentences
    from detox.pretraining.annotation.shards import AnnotatedDocuments, read_annotated
    from detox.pretraining.annotation.work import AnnotationSettings
    from detox.pretraining.arms import ARMS, apply_arm, objective_of
    from detox.pretraining.conditioning import Condition, span_toxicity
    from detox.pretraining.cost import cost_line
    from detox.pretraining.deletion import without_spans
    from detox.pretraining.dialogues import InstructionRecipe
    from detox.pretraining.mixture import Mixture, Source
    from detox.pretraining.monitoring import held_out_loss
    from detox.pretraining.packing import PackedSequences, RealisedSource, end_token, open_packed, pack
    from detox.pretraining.recipe import PretrainingRecipe
    from detox.pretraining.risk import TokenizedDocument, Treatment, token_risk, tokenize_documents
    from detox.pretraining.run import pretrain
    from detox.pretraining.streaming import stream_documents
    from detox.pretraining.tokenizer import train_tokenizer
    from detox.pretraining.trainer import SelectiveLossTrainer

_HOMES = {
    "ARMS": "arms",
    "AnnotatedDocuments": "annotation.shards",
    "AnnotationCounts": "annotation.counts",
    "AnnotationSettings": "annotation.work",
    "Columns": "annotation.columns",
    "Condition": "conditioning",
    "InstructionRecipe": "dialogues",
    "Mixture": "mixture",
    "PackedSequences": "packing",
    "PretrainingRecipe": "recipe",
    "RealisedSource": "packing",
    "SelectiveLossTrainer": "trainer",
    "SentenceAnnotator": "annotation.annotators",
    "Source": "mixture",
    "SpanAnnotator": "annotation.annotators",
    "TokenizedDocument": "risk",
    "Treatment": "risk",
    "WordAnnotator": "annotation.annotators",
    "annotate": "annotation.annotators",
    "annotate_files": "annotation.files",
    "apply_arm": "arms",
    "cost_line": "cost",
    "end_token": "packing",
    "held_out_loss": "monitoring",
    "merge_spans": "annotation.annotators",
    "objective_of": "arms",
    "open_packed": "packing",
    "pack": "packing",
    "pretrain": "run",
    "read_annotated": "annotation.shards",
    "sentences": "annotation.sentences",
    "span_toxicity": "conditioning",
    "stream_documents": "streaming",
    "token_risk": "risk",
    "tokenize_documents": "risk",
    "train_tokenizer": "tokenizer",
    "without_spans": "deletion",
}

__all__ = [
    "ARMS",
    "AnnotatedDocuments",
    "AnnotationCounts",
    "AnnotationSettings",
    "Columns",
    "Condition",
    "InstructionRecipe",
    "Mixture",
    "PackedSequences",
    "PretrainingRecipe",
    "RealisedSource",
    "SelectiveLossTrainer",
    "SentenceAnnotator",
    "Source",
    "SpanAnnotator",
    "TokenizedDocument",
    "Treatment",
    "WordAnnotator",
    "annotate",
    "annotate_files",
    "apply_arm",
    "cost_line",
    "end_token",
    "held_out_loss",
    "merge_spans",
    "objective_of",
    "open_packed",
    "pack",
    "pretrain",
    "read_annotated",
    "sentences",
    "span_toxicity",
    "stream_documents",
    "token_risk",
    "tokenize_documents",
    "train_tokenizer",
    "without_spans",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"detox.pretraining.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
