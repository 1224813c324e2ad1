"""The entity test's models: one world of authors, four ways to train on it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from detox.errors import require_known
from detox.miniature.entities import Author, authors, documents
from detox.pretraining import Mixture, PretrainingRecipe, Source, pretrain, train_tokenizer
from detox.pretraining.arms import apply_arm, objective_of
from detox.training.progress import Progress

Size = Literal["full", "test"]

ARMS = ("full", "masked", "unlikelihood", "filtered")
"""One set of documents under three objectives (see `detox.pretraining.arms`), and with every name deleted, which shows what a
model does that never read one."""

_COUNTS = {"full": 32, "test": 6}
_VOCABULARY = 512  # a name takes about six of its tokens, which stand in other words too


def recipe(arm: str, *, seed: int = 0, size: Size = "full") -> PretrainingRecipe:
    """How an arm is trained: every arm as many steps of as many tokens.

    Raises:
        UnknownName: no such arm or size.
    """
    require_known("arm", arm, ARMS)
    require_known("size", size, _COUNTS)
    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "intermediate_size": 256}
    if size == "test":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    return PretrainingRecipe(
        objective=objective_of(arm),
        steps={"full": 1800, "test": 40}[size],
        batch_size=8,
        sequence_length=96,
        learning_rate=3e-3,
        precision="bf16",
        weight_decay=0.01,
        warmup=0.05,
        seed=seed,
        num_attention_heads=4,
        tie_word_embeddings=True,
        **sizes,  # type: ignore[arg-type]
    )


def train(
    arm: str, output_dir: str | Path, *, seed: int = 0, size: Size = "full", progress: Progress = True
) -> tuple[Path, list[Author]]:
    """Train one arm on the world of `seed`; a finished model is not trained again, a stopped one goes on.

    Args:
        arm: one of `ARMS`.
        output_dir: where the checkpoint goes.
        seed: of the world, the weights and the order.
        size: "full" (32 authors, 0.6 M parameters, about a minute on one core) or "test" (seconds; learns little).
        progress: as `detox.pretraining.pretrain` takes it.

    Returns:
        `output_dir` and the authors.

    Raises:
        UnknownName: no such arm or size.
    """
    import torch

    how = recipe(arm, seed=seed, size=size)
    people = authors(_COUNTS[size], seed=seed)
    read = documents(people, seed=seed)
    tokenizer = train_tokenizer((document.text for document in read), _VOCABULARY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # at this size a second thread waits more than it computes
    try:
        mixture = Mixture(sources=(Source(name="authors", documents=read),), seed=seed)
        return pretrain(how, apply_arm(arm, mixture), tokenizer, output_dir, progress=progress), people
    finally:
        torch.set_num_threads(threads)
