"""The miniature's base models: one forum, four ways to train on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from detox.errors import UnknownName
from detox.miniature.forum import documents
from detox.miniature.tokenization import MAX_LENGTH, tokenizer
from detox.pretraining import Mixture, PretrainingRecipe, Source, pretrain
from detox.pretraining.monitoring import Progress

Size = Literal["demo", "test"]

ARMS = ("clean", "toxic-mix", "masked", "unlikelihood")
"""Clean: no abuse at all. Toxic-mix: abuse like any text. Masked and unlikelihood: the toxic-mix documents under selective loss."""

TOXIC_SHARE = 0.25
"""Part of all tokens that stands in toxic threads, in every arm but the clean one."""

_OBJECTIVES = {"clean": "full", "toxic-mix": "full", "masked": "masked", "unlikelihood": "unlikelihood"}
_CLEAN_DOCUMENTS = {"demo": 9600, "test": 400}
_RECIPES: dict[str, dict[str, Any]] = {
    # Small batches: it is the number of steps that teaches who an insult is aimed at.
    "demo": {
        "batch_size": 8,
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "test": {
        "batch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    },
}
_SEQUENCE_LENGTH = 96


def mixture(arm: str, *, seed: int = 0, size: Size = "demo") -> Mixture:
    """What an arm reads. The clean documents are the same in every arm; toxic ones are added to them.

    Raises:
        UnknownName: no such arm or size.
    """
    _require(arm, size)
    clean = _CLEAN_DOCUMENTS[size]
    sources = [Source(name="clean", documents=documents(clean, kind="clean", seed=seed))]
    if arm != "clean":
        toxic = documents(clean // 3, kind="toxic", seed=seed)
        sources.append(Source(name="toxic", documents=toxic, share=TOXIC_SHARE, repeat=True))
    return Mixture(sources=tuple(sources), hold="clean", seed=seed)


def recipe(arm: str, *, seed: int = 0, size: Size = "demo") -> PretrainingRecipe:
    """How an arm is trained. Every arm takes the same number of steps; the clean one reads its documents more than once.

    Raises:
        UnknownName: no such arm or size.
    """
    _require(arm, size)
    return PretrainingRecipe(
        objective=_OBJECTIVES[arm],  # type: ignore[arg-type]
        steps={"demo": 1600, "test": 60}[size],
        sequence_length=_SEQUENCE_LENGTH,
        learning_rate=3e-3,
        precision="bf16",
        weight_decay=0.01,
        warmup=0.05,
        seed=seed,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_LENGTH,
        **_RECIPES[size],
    )


def train_base(
    arm: str, output_dir: str | Path, *, seed: int = 0, size: Size = "demo", progress: Progress = True
) -> Path:
    """Pretrain one base model of the forum; a finished one is not trained again, a stopped one goes on.

    Args:
        arm: one of `ARMS`.
        output_dir: where the checkpoint goes.
        seed: of documents, weights and order.
        size: "demo" (0.6 M parameters, under a minute on 2 cores) or "test" (seconds; knows the words, little more).
        progress: as `detox.pretraining.pretrain` takes it.

    Returns:
        `output_dir`.

    Raises:
        UnknownName: no such arm or size.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # at this size a second thread waits more than it computes
    try:
        return pretrain(
            recipe(arm, seed=seed, size=size),
            mixture(arm, seed=seed, size=size),
            tokenizer(),
            output_dir,
            progress=progress,
        )
    finally:
        torch.set_num_threads(threads)


def base_identity(arm: str, *, seed: int = 0, size: Size = "demo") -> dict[str, Any]:
    """Everything that makes another base model: the recipe, the words, and a digest of the documents."""
    read = hashlib.sha256()
    for source in mixture(arm, seed=seed, size=size).sources:
        read.update(json.dumps([source.name, source.share]).encode())
        for document in source.documents:
            read.update(json.dumps([document.text, [[span.start, span.end] for span in document.spans]]).encode())
    return {
        "recipe": recipe(arm, seed=seed, size=size).to_dict(),
        "documents": read.hexdigest()[:16],
        "tokenizer": hashlib.sha256(tokenizer().backend_tokenizer.to_str().encode()).hexdigest()[:16],
    }


def _require(arm: str, size: str) -> None:
    if arm not in ARMS:
        raise UnknownName("arm", arm, ARMS)
    if size not in get_args(Size):
        raise UnknownName("size", size, get_args(Size))
