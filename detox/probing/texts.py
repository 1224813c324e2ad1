"""The texts that probes are fitted and judged on: labels, what else is known of them, and what a split keeps together."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detox.data import Contrast, LabelledText, labelled_texts, normalised
from detox.data.records import group_names
from detox.data.subsets import unique_texts
from detox.errors import InputError, require_known
from detox.scorers.protocol import Scorer, score_texts

Floats = NDArray[np.float64]
SPLITS = ("texts", "groups")
FEWEST = 30  # texts with a feature, and without it, from which a direction is estimated


@dataclass(frozen=True)
class ProbeTexts:
    """Texts with a label, each once.

    Attributes:
        ids, texts: as they came.
        labels: (texts,) 1 toxic, 0 not.
        groups: (texts,) what a split and a resample keep together.
        features: name -> (texts,) bool, "toxicity" first; each true of at least 30 texts and false of as many. What directions are
            compared between.
        covariates: name -> (texts, columns): what may explain a direction instead of toxicity: "length" (log of the number of
            characters), "profanity" (a scorer's score), "topic" (an indicator a topic; absent where the texts name none).
        left_out: texts without a label, that came again, or that are judged both ways.
        omitted: features that too few texts have (or lack), with how many have them.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    features: dict[str, NDArray[np.bool_]] = field(repr=False)
    covariates: dict[str, Floats] = field(repr=False)
    left_out: int = 0
    omitted: dict[str, int] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of texts, labels, groups, features and covariates: what a measurement depends on."""
        sha = hashlib.sha256(json.dumps([self.ids, self.texts, self.groups, list(self.features)]).encode())
        for array in (self.labels, *self.features.values(), *self.covariates.values()):
            sha.update(np.round(np.asarray(array, dtype=np.float64), 9).tobytes())
        return sha.hexdigest()


def probe_texts(
    items: Sequence[LabelledText] | Sequence[Contrast],
    *,
    split: str | None = None,
    profanity: Scorer | None = None,
) -> ProbeTexts:
    """Labelled texts, or the two sides of contrasts, as texts to probe.

    Args:
        items: of labelled texts, `group` names the topic or the people ("women+asian" is about both). Of contrasts every
            continuation is a text, after its prompt.
        split: "groups" keeps texts of one group on one side of the split, "texts" only a text. None: "groups" for contrasts,
            "texts" for labelled texts, since a topic is no pair.
        profanity: gives the covariate and the feature of that name; None does without.

    Raises:
        InputError: no labelled texts, or of one class only.
        UnknownName: another split.
    """
    paired = bool(items) and isinstance(items[0], Contrast)
    split = split or ("groups" if paired else "texts")
    require_known("split", split, SPLITS)
    records = labelled_texts(items) if paired else list(items)  # type: ignore[arg-type]
    kept, left_out = unique_texts(records)  # type: ignore[arg-type]
    labels = np.array([int(one.label or 0) for one in kept], dtype=np.int64)
    if len(set(labels.tolist())) < 2:
        raise InputError(
            f"{len(kept)} texts of one class (once those judged both ways are out); expected safe and toxic ones"
        )
    together = split == "groups"
    groups = tuple(one.group if together and one.group is not None else normalised(one.text) for one in kept)
    length = np.log1p([len(one.text) for one in kept])
    features = {"toxicity": labels == 1, "length": length > np.median(length)}
    covariates = {"length": length[:, None]}
    if profanity is not None:
        scores = np.array([score.value for score in score_texts(profanity, [one.text for one in kept])])
        scores[np.isnan(scores)] = float(np.nanmean(scores)) if not np.isnan(scores).all() else 0.0
        features["profanity"] = scores >= 0.5
        covariates["profanity"] = scores[:, None]
    if not paired:
        named = [group_names(one.group) for one in kept]
        counts = Counter(name for names in named for name in names)
        topics = {name: np.array([name in names for names in named]) for name in sorted(counts)}
        features |= {f"topic: {name}": has for name, has in topics.items()}
        frequent = [has for has in topics.values() if _frequent(has)]
        if frequent:
            covariates["topic"] = np.stack(frequent, axis=1).astype(np.float64)
    omitted = {name: int(has.sum()) for name, has in features.items() if not _frequent(has) and name != "toxicity"}
    return ProbeTexts(
        ids=tuple(one.id for one in kept),
        texts=tuple(one.text for one in kept),
        labels=labels,
        groups=groups,
        features={name: has for name, has in features.items() if name not in omitted},
        covariates=covariates,
        left_out=left_out,
        omitted=omitted,
    )


def group_numbers(groups: Sequence[str] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(texts,) whole numbers from 0 without a gap, equal where the group is."""
    return np.asarray(np.unique(np.asarray(groups), return_inverse=True)[1], dtype=np.int64)


def quantile_strata(values: Floats, count: int = 4) -> NDArray[np.int64]:
    """(texts,) numbers of quantile bins, 0 to count - 1; values that are equal share a bin."""
    edges = np.quantile(values, [part / count for part in range(1, count)])
    return np.asarray(np.searchsorted(edges, values, side="left"), dtype=np.int64)


def _frequent(has: NDArray[np.bool_]) -> bool:
    fewest = min(FEWEST, math.ceil(len(has) / 4))  # a handful of texts has features, too
    return bool(fewest <= has.sum() <= len(has) - fewest)
