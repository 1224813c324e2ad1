"""Understanding: does the model still recognise what it no longer writes?"""

from __future__ import annotations

import numpy as np

from detox.data.records import LabelledText
from detox.errors import InputError
from detox.evaluation.protocol import ProbeTask, Recognition
from detox.evaluation.scorecard import Table
from detox.models import LanguageModel, token_logprobs
from detox.models.states import last_states
from detox.statistics import Estimate, auc_estimate, mean_estimate


def recognition_table(lm: LanguageModel, task: Recognition) -> Table:
    """Log-probability of the toxic label minus that of the safe one, after each text."""
    items = _labelled(task.items)
    contexts = [task.template.replace("{text}", item.text) for item in items for _ in range(2)]
    labels = [task.toxic, task.safe] * len(items)
    sums = [float(v.double().sum()) for v in token_logprobs(lm, contexts, labels)]
    return {
        "id": [item.id for item in items],
        "label": [item.label for item in items],
        "margin": [toxic - safe for toxic, safe in zip(sums[::2], sums[1::2], strict=True)],
    }


def recognition_metrics(table: Table) -> dict[str, Estimate]:
    """ROC-AUC of the margin (the headline: it needs no threshold), and accuracy at margin 0."""
    margins, labels = np.array(table["margin"], dtype=float), np.array(table["label"])
    return {
        "recognition/auc": auc_estimate(labels, margins),
        "recognition/accuracy": mean_estimate((margins > 0) == (labels == 1), bounds=(0.0, 1.0)),
    }


def probe_table(lm: LanguageModel, task: ProbeTask) -> Table:
    """A logistic-regression probe on last-layer, last-token states, fitted on `train`, its margin on `test`.

    SLUNG's protocol (arXiv 2505.03052, code ryanyxw/llm-decouple): class-balanced, 5000 iterations; standardised here, which the solver
    needs to converge.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = _labelled(task.train), _labelled(task.test)
    for name, items in (("train", train), ("test", test)):
        if {item.label for item in items} != {0, 1}:
            raise InputError(f"probe: the {name} texts hold only one class; expected toxic and safe ones")
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000, C=0.1))
    probe.fit(last_states(lm, [item.text for item in train]).numpy(), [item.label for item in train])
    margins = probe.decision_function(last_states(lm, [item.text for item in test]).numpy())
    return {
        "id": [item.id for item in test],
        "label": [item.label for item in test],
        "margin": [float(margin) for margin in margins],
    }


def probe_metrics(table: Table) -> dict[str, Estimate]:
    """ROC-AUC on texts that the probe did not see."""
    return {"probe/auc": auc_estimate(table["label"], table["margin"])}


def _labelled(items: tuple[LabelledText, ...]) -> list[LabelledText]:
    known = [item for item in items if item.label is not None]
    if not known:
        raise InputError("recognition and probe tasks need labelled texts; none of these has a label")
    return known
