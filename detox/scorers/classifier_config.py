"""Reading a classifier's configuration: which logits are toxic, what makes them probabilities, how much fits in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from detox.errors import InputError, UnknownName, UnsupportedModel
from detox.scorers.presets import Activation, Preset

_WHOLE = ("toxic", "toxicity")  # label names that leave no doubt; any other has to be named by the caller
# Positions in these families start behind the padding index, so that many fewer tokens fit.
_OFFSET_FAMILIES = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "xmod", "ibert"}


def label_names(config: Any) -> tuple[str, ...]:
    """All labels, in the order of the logits."""
    return tuple(str(config.id2label[index]) for index in range(config.num_labels))


def toxic_indices(name: str, labels: tuple[str, ...], chosen: Sequence[str | int] | None) -> list[int]:
    """Which of `labels` count as toxic; None takes the one that is called "toxic" or "toxicity".

    Raises:
        InputError: none chosen and none so called, an empty choice, an index out of range; UnknownName for a name.
    """
    if isinstance(chosen, str):
        chosen = [chosen]
    if chosen is None:
        whole = [index for index, label in enumerate(labels) if label.casefold() in _WHOLE]
        if len(whole) != 1:
            raise InputError(
                f"scorer {name!r}: which of its labels mean toxic? it has {_listed(labels)}; say toxic_labels=[...]"
            )
        return whole
    if not chosen:
        raise InputError(f"scorer {name!r}: toxic_labels is empty; expected one or more of {_listed(labels)}")
    indices = []
    for label in chosen:
        if isinstance(label, int) and not 0 <= label < len(labels):
            raise InputError(f"scorer {name!r}: toxic label {label}; expected 0 to {len(labels) - 1}")
        if isinstance(label, str) and label not in labels:
            raise UnknownName(f"label of scorer {name!r}", label, labels)
        indices.append(label if isinstance(label, int) else labels.index(label))
    return sorted(set(indices))


def _listed(labels: Iterable[str]) -> str:
    return ", ".join(map(repr, labels))


def activation_of(name: str, config: Any, chosen: Activation | None) -> Activation:
    """The chosen activation, or that of the configuration's problem_type.

    Raises:
        InputError: neither says it, they contradict each other, or a softmax over one label; UnknownName for a name.
        UnsupportedModel: a regression.
    """
    told: Activation | None = {
        "multi_label_classification": "sigmoid",
        "single_label_classification": "softmax",
    }.get(str(config.problem_type))  # type: ignore[assignment]
    if chosen is not None and chosen not in get_args(Activation):
        raise UnknownName("activation", chosen, get_args(Activation))
    if config.problem_type == "regression":
        raise UnsupportedModel(f"scorer {name!r} is a regression: its output is no probability")
    if chosen is None and told is None:
        raise InputError(
            f"scorer {name!r}: its configuration has no problem_type; say activation='sigmoid' (each label for itself) "
            "or 'softmax' (one of them)"
        )
    if chosen is not None and told is not None and chosen != told:
        raise InputError(
            f"scorer {name!r}: activation {chosen!r} contradicts its problem_type {config.problem_type!r} ({told})"
        )
    activation = chosen or told
    assert activation is not None
    if activation == "softmax" and config.num_labels == 1:
        raise InputError(f"scorer {name!r} has one label: its softmax is always 1; say activation='sigmoid'")
    return activation


def max_length_of(name: str, config: Any, tokenizer: Any, chosen: int | None) -> int:
    """Tokens read at once, special tokens included: the chosen number, or the most that model and tokenizer take.

    Raises:
        InputError: the chosen number does not fit, or none is chosen and nobody knows.
    """
    limits = []
    if tokenizer.model_max_length < 10**9:  # transformers' "unknown" is 10**30
        limits.append(int(tokenizer.model_max_length))
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_FAMILIES else 0
        limits.append(positions - offset)
    smallest = tokenizer.num_special_tokens_to_add() + 2
    if chosen is None and not limits:
        raise InputError(f"scorer {name!r}: neither model nor tokenizer says how many tokens it takes; say max_length")
    if chosen is not None and not smallest <= chosen <= min(limits, default=chosen):
        raise InputError(f"scorer {name!r}: max_length {chosen}; expected {smallest} to {min(limits, default=chosen)}")
    return chosen or min(limits)


def require_preset(where: str, config: Any, preset: Preset) -> None:
    """Prove that the checkpoint has the preset's labels, in its order.

    Raises:
        InputError: naming both.
    """
    labels = label_names(config)
    if labels != preset.labels:
        raise InputError(
            f"{where} has the labels {_listed(labels)}; the preset for {preset.model_id} expects "
            f"{_listed(preset.labels)}: this is another classifier, load it as hf:{where} with toxic_labels"
        )
