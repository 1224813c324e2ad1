"""Public toxicity classifiers that need no more than their name: labels, activation, training data, pinned commit.

The label names and their order are the checkpoints' own; a checkpoint that has others is refused when it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["sigmoid", "softmax"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What one must know to read a classifier's logits.

    Attributes:
        model_id: on the hub.
        revision: the commit whose scores are meant.
        labels: all labels, in the order of the logits.
        toxic_labels: those that mean "toxic" as a whole.
        activation: "sigmoid" where each label stands for itself, "softmax" where they share one.
        trained_on: names of the labelled data it learned from.
    """

    model_id: str
    revision: str
    labels: tuple[str, ...]
    toxic_labels: tuple[str, ...]
    activation: Activation
    trained_on: tuple[str, ...]


PRESETS = {
    # The head that Detoxify reports as "toxicity" in its models "original" and "unbiased". The others are kinds of it.
    "toxic-bert": Preset(
        model_id="unitary/toxic-bert",
        revision="4d6c22e74ba2fdd26bc4f7238f50766b045a0d94",
        labels=("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"),
        toxic_labels=("toxic",),
        activation="sigmoid",
        trained_on=("jigsaw-toxic-comments",),
    ),
    "unbiased-toxic-roberta": Preset(
        model_id="unitary/unbiased-toxic-roberta",
        revision="36295dd80b422dc49f40052021430dae76241adc",
        labels=(
            *("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit"),
            *("male", "female", "homosexual_gay_or_lesbian", "christian", "jewish", "muslim", "black", "white"),
            "psychiatric_or_mental_illness",
        ),
        toxic_labels=("toxicity",),
        activation="sigmoid",
        trained_on=("civil-comments",),
    ),
    "s-nlp-roberta": Preset(
        model_id="s-nlp/roberta_toxicity_classifier",
        revision="048c25bb1e199b98802784f96325f4840f22145d",
        labels=("neutral", "toxic"),
        toxic_labels=("toxic",),
        activation="softmax",
        trained_on=("jigsaw-toxic-comments", "civil-comments", "jigsaw-multilingual"),
    ),
    # Fine-tuned from ToxDect-RoBERTa (Zhou et al. 2021), which learned from Founta et al.'s tweets.
    "toxigen-roberta": Preset(
        model_id="tomh/toxigen_roberta",
        revision="0e65216a558feba4bb167d47e49f9a9e229de6ab",
        labels=("LABEL_0", "LABEL_1"),
        toxic_labels=("LABEL_1",),
        activation="softmax",
        trained_on=("toxigen", "founta-tweets"),
    ),
}
