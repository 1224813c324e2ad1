"""The embedded default: a tiny generated forum with known truth, and the tiny base models trained on it.

Insults are mild. Every document knows its abusive characters, every measured item stands in no training document, and the
same words are civil or abusive by context.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detox.miniature.bases import base_identity, mixture, train_base
    from detox.miniature.forum import NOTICE, documents
    from detox.miniature.rewriting import paraphrases, rewrites, sayings
    from detox.miniature.scorer import TruthScorer, reply_judge
    from detox.miniature.tasks import VERDICTS, contrasts, facts, heldout_documents, minimal_pairs, prompts, verdicts
    from detox.miniature.tokenization import tokenizer, word_types
    from detox.miniature.truth import abusive_spans, is_abusive

_HOMES = {
    "NOTICE": "forum",
    "TruthScorer": "scorer",
    "VERDICTS": "tasks",
    "abusive_spans": "truth",
    "base_identity": "bases",
    "contrasts": "tasks",
    "documents": "forum",
    "facts": "tasks",
    "heldout_documents": "tasks",
    "is_abusive": "truth",
    "minimal_pairs": "tasks",
    "mixture": "bases",
    "paraphrases": "rewriting",
    "prompts": "tasks",
    "reply_judge": "scorer",
    "rewrites": "rewriting",
    "sayings": "rewriting",
    "tokenizer": "tokenization",
    "train_base": "bases",
    "verdicts": "tasks",
    "word_types": "tokenization",
}

__all__ = [
    "NOTICE",
    "VERDICTS",
    "TruthScorer",
    "abusive_spans",
    "base_identity",
    "contrasts",
    "documents",
    "facts",
    "heldout_documents",
    "is_abusive",
    "minimal_pairs",
    "mixture",
    "paraphrases",
    "prompts",
    "reply_judge",
    "rewrites",
    "sayings",
    "tokenizer",
    "train_base",
    "verdicts",
    "word_types",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"detox.miniature.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
