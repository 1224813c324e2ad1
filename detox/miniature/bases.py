"""The miniature's base models: one forum, and the ways to train on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from detox.errors import UnknownName, require_known
from detox.miniature.forum import documents
from detox.miniature.tokenization import MAX_LENGTH, tokenizer
from detox.pretraining import ARMS, Mixture, PretrainingRecipe, Source, apply_arm, objective_of, pretrain
from detox.pretraining.conditioning import Condition
from detox.pretraining.mixture import Hold
from detox.training.progress import Progress

Size = Literal["demo", "test"]

TOXIC_SHARE = 0.25
"""Part of all tokens that stands in toxic threads, where nothing else is asked for; none of the clean arm's."""

CONDITIONS = {
    "inst": Condition(
        form="inst",
        share=0.5,
        toxicity="any",
        inst_toxic="note: the replies here are abusive.\n",
        inst_safe="note: the replies here are fine.\n",
    )
}
"""What documents may begin with, in the forum's own words; half of them do. It has no word for a score, so no MEDA."""

_TOTAL_STEPS = {"demo": 1600, "test": 60}
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


def mixture(
    arm: str,
    *,
    seed: int = 0,
    size: Size = "demo",
    share: float = TOXIC_SHARE,
    hold: Hold = "clean",
    condition: str | None = None,
) -> Mixture:
    """What an arm reads.

    Args:
        arm: one of `detox.pretraining.ARMS`. Full, masked and unlikelihood read the same documents.
        seed: of the documents; the clean ones are the same in every arm.
        size: see `train_base`.
        share: part of all tokens that stands in toxic threads.
        hold: "clean" adds them to the same clean documents; "total" lets them displace clean ones, so that every arm and share
            has equally many tokens.
        condition: one of `CONDITIONS`: documents begin with how toxic they are.

    Raises:
        UnknownName: no such arm, size or condition.
    """
    _require(arm, size)
    if condition is not None and condition not in CONDITIONS:
        raise UnknownName("condition of the miniature", condition, CONDITIONS)
    clean = _CLEAN_DOCUMENTS[size]
    sources = [Source(name="clean", documents=documents(clean, kind="clean", seed=seed), repeat=hold == "total")]
    if share and arm != "clean":
        toxic = documents(clean // 3, kind="toxic", seed=seed)
        sources.append(Source(name="toxic", documents=toxic, share=share, repeat=True))
    tokens = _TOTAL_STEPS[size] * recipe(arm, size=size).batch_size * _SEQUENCE_LENGTH if hold == "total" else None
    before = None if condition is None else CONDITIONS[condition]
    return apply_arm(arm, Mixture(sources=tuple(sources), hold=hold, tokens=tokens, seed=seed, condition=before))


def recipe(arm: str, *, seed: int = 0, size: Size = "demo", steps: int | None = None) -> PretrainingRecipe:
    """How an arm is trained.

    Args:
        arm: one of `detox.pretraining.ARMS`.
        seed: of weights and order.
        size: see `train_base`.
        steps: None for as many as every arm of the demo takes, so that the clean one reads its documents more than once.

    Raises:
        UnknownName: no such arm or size.
    """
    _require(arm, size)
    return PretrainingRecipe(
        objective=objective_of(arm),
        steps=_TOTAL_STEPS[size] if steps is None else steps,
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
    arm: str,
    output_dir: str | Path,
    *,
    seed: int = 0,
    size: Size = "demo",
    passes: float | None = None,
    progress: Progress = True,
    **data: Any,
) -> Path:
    """Pretrain one base model of the forum; a finished one is not trained again, a stopped one goes on.

    Args:
        arm: one of `detox.pretraining.ARMS`.
        output_dir: where the checkpoint goes.
        seed: of documents, weights and order.
        size: "demo" (0.6 M parameters, under a minute on 2 cores) or "test" (seconds; knows the words, little more).
        passes: how often the mixture is read; None for the demo's number of steps.
        progress: as `detox.pretraining.pretrain` takes it.
        **data: `share`, `hold` and `condition`, as `mixture` takes them.

    Returns:
        `output_dir`.

    Raises:
        UnknownName: no such arm or size.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # at this size a second thread waits more than it computes
    try:
        packed = mixture(arm, seed=seed, size=size, **data).pack(tokenizer(), sequence_length=_SEQUENCE_LENGTH)
        made = recipe(arm, seed=seed, size=size)
        if passes is not None:
            made = recipe(arm, seed=seed, size=size, steps=round(passes * len(packed) / made.batch_size))
        return pretrain(made, packed, tokenizer(), output_dir, progress=progress)
    finally:
        torch.set_num_threads(threads)


def base_identity(
    arm: str, *, seed: int = 0, size: Size = "demo", passes: float | None = None, **data: Any
) -> dict[str, Any]:
    """Everything that makes another base model: the recipe, the words, and a digest of the documents."""
    read = hashlib.sha256()
    for source in mixture(arm, seed=seed, size=size, **data).sources:
        read.update(json.dumps([source.name, source.share]).encode())
        for document in source.documents:
            read.update(json.dumps([document.text, [[span.start, span.end] for span in document.spans]]).encode())
    return {
        "recipe": recipe(arm, seed=seed, size=size).to_dict(),
        "documents": read.hexdigest()[:16],
        "tokenizer": hashlib.sha256(tokenizer().backend_tokenizer.to_str().encode()).hexdigest()[:16],
        **({"arm": arm} if arm == "filtered" else {}),
        **({} if passes is None else {"passes": passes}),
        **data,
    }


def _require(arm: str, size: str) -> None:
    require_known("arm", arm, ARMS)
    require_known("size", size, get_args(Size))
