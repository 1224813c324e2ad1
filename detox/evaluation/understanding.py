"""Understanding: does the model still recognise what it no longer writes?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detox.data.records import LabelledText, group_names
from detox.data.subsets import labelled, unique_texts
from detox.errors import InputError
from detox.evaluation.scorecard import Table
from detox.evaluation.tasks import ProbeTask, Recognition
from detox.models import LanguageModel, token_logprobs
from detox.models.states import last_states
from detox.statistics import (
    Estimate,
    auc_estimate,
    bias_aucs,
    bootstrap_weights,
    independent_pairs,
    mean_estimate,
    resampled_area,
    roc_auc,
    weighted_aucs,
)

_DRAWS = 1000  # resamples of the test texts, as in auc_estimate

Indices = NDArray[np.int64]


def recognition_table(lm: LanguageModel, task: Recognition) -> Table:
    """Log-probability of the toxic label minus that of the safe one, after each text."""
    items = labelled(task.items)
    contexts = [task.template.replace("{text}", item.text) for item in items for _ in range(2)]
    labels = [task.toxic, task.safe] * len(items)
    sums = [float(v.double().sum()) for v in token_logprobs(lm, contexts, labels)]
    groups = {"group": [item.group for item in items]} if any(item.group for item in items) else {}
    return {
        "id": [item.id for item in items],
        "label": [item.label for item in items],
        "margin": [toxic - safe for toxic, safe in zip(sums[::2], sums[1::2], strict=True)],
        **groups,
    }


def recognition_metrics(table: Table) -> dict[str, Estimate]:
    """ROC-AUC of the margin (the headline: it needs no threshold), and accuracy at margin 0.

    Where texts have groups, `recognition/<kind>_auc/<group>` of each group that has texts of both labels: see
    `detox.statistics.bias_aucs`.
    """
    margins, labels = np.array(table["margin"], dtype=float), np.array(table["label"])
    metrics = {
        "recognition/auc": auc_estimate(labels, margins),
        "recognition/accuracy": mean_estimate((margins > 0) == (labels == 1), bounds=(0.0, 1.0)),
    }
    groups = [group_names(group) for group in table.get("group", [])]
    for name in sorted({name for names in groups for name in names}):
        member = np.array([name in names for names in groups])
        if {*labels[member].tolist()} == {0, 1} and {*labels[~member].tolist()} == {0, 1}:
            for kind, area in bias_aucs(labels, margins, member).items():
                metrics[f"recognition/{kind}_auc/{name}"] = area
    return metrics


@dataclass(frozen=True)
class ProbeSplits:
    """Which texts a probe is fitted and judged on.

    Attributes:
        texts: all of them, each once; their states are read once.
        subsamples: (train, test) positions in `texts`.
        counts: what the data gave, and what was asked, for the scorecard.
    """

    texts: tuple[LabelledText, ...]
    subsamples: tuple[tuple[Indices, Indices], ...]
    counts: dict[str, Any]

    @property
    def shortage(self) -> str | None:
        """In words, where the data gave fewer texts than were asked for."""
        asked, given = ([side[f"{n} texts"] for n in ("train", "test")] for side in (self.counts["asked"], self.counts))
        if asked == given:
            return None
        return (
            f"probe: {given[0]} + {given[1]} texts a subsample where {asked[0]} + {asked[1]} were asked for; the pool holds "
            f"{self.counts['toxic']} toxic and {self.counts['safe']} safe texts"
        )


def probe_splits(task: ProbeTask) -> ProbeSplits:
    """Draw the subsamples of a pool, or take train and test as they are given.

    A subsample is balanced: train_size / 2 and test_size / 2 texts of each class, without replacement. Where the rarer class
    has fewer, both shrink in proportion. Subsample k depends on (pool, sizes, seed, k) alone.

    Raises:
        InputError: too few texts of a class.
    """
    if not task.items:
        train, test = labelled(task.train), labelled(task.test)
        for name, items in (("train", train), ("test", test)):
            if {item.label for item in items} != {0, 1}:
                raise InputError(f"probe: the {name} texts hold only one class; expected toxic and safe ones")
        sizes = {"train texts": len(train), "test texts": len(test)}
        classes = {
            "toxic": sum(i.label == 1 for i in [*train, *test]),
            "safe": sum(i.label == 0 for i in [*train, *test]),
        }
        both = (np.arange(len(train)), np.arange(len(train), len(train) + len(test)))
        return ProbeSplits((*train, *test), (both,), {**sizes, **classes, "subsamples": 1, "asked": sizes})
    pool, left_out = unique_texts(task.items)
    labels = np.array([item.label for item in pool])
    classes = {"toxic": int((labels == 1).sum()), "safe": int((labels == 0).sum())}
    rarer, wanted = min(classes.values()), (task.train_size + task.test_size) // 2
    if rarer < 2:
        raise InputError(
            f"probe: {classes['toxic']} toxic and {classes['safe']} safe texts; expected at least 2 of each, one to fit on and "
            "one to judge on"
        )
    test_half, train_half = task.test_size // 2, task.train_size // 2
    if rarer < wanted:
        test_half = min(max(1, rarer * test_half // wanted), rarer - 1)
        train_half = rarer - test_half
    drawn = []
    for subsample in range(task.subsamples):
        rng = np.random.default_rng([task.seed, subsample])
        orders = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
        train_ids = np.sort(np.concatenate([order[:train_half] for order in orders]))
        test_ids = np.sort(np.concatenate([order[train_half : train_half + test_half] for order in orders]))
        drawn.append((train_ids, test_ids))
    used = np.unique(np.concatenate([side for pair in drawn for side in pair]))
    counts = {
        "train texts": 2 * train_half,
        "test texts": 2 * test_half,
        **classes,
        "left out": left_out,
        "subsamples": task.subsamples,
        "asked": {"train texts": task.train_size, "test texts": task.test_size},
    }
    places = tuple((np.searchsorted(used, train), np.searchsorted(used, test)) for train, test in drawn)
    return ProbeSplits(tuple(pool[i] for i in used), places, counts)


def probe_table(lm: LanguageModel, task: ProbeTask, splits: ProbeSplits | None = None) -> Table:
    """A logistic-regression probe on last-layer, last-token states, fitted on train texts, its margin on test texts.

    SLUNG's protocol (arXiv 2505.03052, code ryanyxw/llm-decouple): class-balanced, 5000 iterations, at most; see `ProbeTask`.
    One row a (subsample, test text); `train_texts` is what that subsample's probe was fitted on.
    """
    splits = splits or probe_splits(task)
    states = last_states(lm, [item.text for item in splits.texts]).numpy()
    labels = np.array([item.label for item in splits.texts])
    table: Table = {"id": [], "label": [], "margin": [], "subsample": [], "train_texts": []}
    for number, (train, test) in enumerate(splits.subsamples):
        probe = _regression(task.regression).fit(states[train], labels[train])
        table["id"] += [splits.texts[i].id for i in test]
        table["label"] += [int(label) for label in labels[test]]
        table["margin"] += [float(margin) for margin in probe.decision_function(states[test])]
        table["subsample"] += [number] * len(test)
        table["train_texts"] += [len(train)] * len(test)
    return table


def _regression(kind: str) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "paper":
        return LogisticRegression(class_weight="balanced", max_iter=5000)
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000, C=0.1))


def probe_metrics(table: Table) -> dict[str, Estimate]:
    """ROC-AUC on texts that the probe did not see: the mean over subsamples.

    `probe/auc` has an interval over test texts (each drawn as often in every subsample that it is in; the probes stay as they
    are fitted). `probe/auc_se` is the standard error of the mean over subsamples, as the papers plot it, n the subsamples;
    these share a pool, so that it is too small where the pool is not much larger than a subsample.
    """
    subsamples = np.array(table.get("subsample", [0] * len(table["id"])))
    labels, margins, ids = np.array(table["label"]), np.array(table["margin"], dtype=float), np.array(table["id"])
    numbers = list(dict.fromkeys(subsamples.tolist()))
    if len(numbers) < 2:
        return {"probe/auc": auc_estimate(labels, margins)}
    rows = [np.flatnonzero(subsamples == number) for number in numbers]
    areas = np.array([roc_auc(labels[r], margins[r]) for r in rows])
    units, where = np.unique(ids, return_inverse=True)
    draws = []
    for weights in bootstrap_weights(len(units), draws=_DRAWS):
        draws.append(np.mean([weighted_aucs(labels[r] == 1, margins[r], weights[:, where[r]]) for r in rows], axis=0))
    pairs = min(independent_pairs(labels[r] == 1) for r in rows)
    spread = float(areas.std(ddof=1) / math.sqrt(len(areas)))
    return {
        "probe/auc": resampled_area(float(areas.mean()), np.concatenate(draws), pairs, len(units)),
        "probe/auc_se": Estimate(spread, math.nan, math.nan, len(areas)),
    }
