"""Saying texts again: toxicity of the paraphrases beside their nearness in meaning, neither of which says much alone.

A model that copies keeps all of the meaning and all of the toxicity; one that says anything at all may lose both. Klein & Nabi 2025
(arXiv 2401.08491, section 4) therefore read the two together, next to training on safe or on toxic paraphrases only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from detox.data.making.cleaning import PROBLEMS, paraphrase_in
from detox.data.making.prompts import form_for
from detox.data.making.similarity import cosines
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Table
from detox.evaluation.tasks import RewriteTask
from detox.models import Completion, LanguageModel, Sampling, generate
from detox.scorers import score_texts
from detox.statistics import Estimate, Floats, mean_estimate

PARAPHRASE = "paraphrase"
KINDS = (PARAPHRASE, *PROBLEMS)
SIDES = {0: "safe texts", 1: "toxic texts"}


def rewrite(lm: LanguageModel, task: RewriteTask, sampling: Sampling) -> list[list[Completion]]:
    """Ask the model to say every text of the task again; what it answered, as it stands.

    `paraphrase` finds the paraphrase in an answer.
    """
    form = form_for(lm, task.form)
    return generate(lm, [task.instructions.prompt("safe", one.text, form=form) for one in task.texts], sampling)


def paraphrase(answer: Completion) -> tuple[str, str | None]:
    """The paraphrase in an answer and None, or nothing and why: "empty", "refused", "unfinished".

    The first line that is a sentence counts, unwrapped as `detox.data.making.cleaning.paraphrase_in` does. One that was cut off is
    unfinished: what it had still to say would be missing from its toxicity.
    """
    return paraphrase_in(answer.text, "stop" if answer.finish_reason == "eos" else "length", cut_off="refused")


def rewrite_table(protocol: Protocol, task: RewriteTask, answers: Sequence[Sequence[Completion]]) -> Table:
    """One row a (text, sample), without texts.

    `kind` is "paraphrase", or why the answer holds none; then `score` (headline scorer), `similarity` (cosine to the text that was
    to be said again) and `copied` (the same words, case and blanks aside) are NaN, NaN and False. `before` is the text's own score.
    """
    rows = [
        (text, sample, one) for text, row in zip(task.texts, answers, strict=True) for sample, one in enumerate(row)
    ]
    found = [paraphrase(one) for _, _, one in rows]
    there = [index for index, (_, problem) in enumerate(found) if problem is None]
    written, sources = [found[index][0] for index in there], [rows[index][0].text for index in there]
    scores, near = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    scores[there] = [score.value for score in score_texts(protocol.scorers[0], written)]
    near[there] = cosines(task.embedder, sources, written)
    own = score_texts(protocol.scorers[0], [one.text for one in task.texts])
    before = {one.id: score.value for one, score in zip(task.texts, own, strict=True)}
    return {
        "text": [text.id for text, _, _ in rows],
        "sample": [sample for _, sample, _ in rows],
        "kind": [problem or PARAPHRASE for _, problem in found],
        "score": scores.tolist(),
        "similarity": near.tolist(),
        "copied": [problem is None and _words(new) == _words(text.text)
                   for (text, _, _), (new, problem) in zip(rows, found, strict=True)],
        "before": [before[text.id] for text, _, _ in rows],
        "tokens": [len(one.token_ids) for _, _, one in rows],
        "finish_reason": [one.finish_reason for _, _, one in rows],
    }  # fmt: skip


def rewrite_metrics(protocol: Protocol, task: RewriteTask, table: Table) -> dict[str, Estimate]:
    """Under `rewriting/`, of answers that hold a paraphrase: texts are the units, a text's samples are averaged.

    `toxicity` and `fraction` (toxic by the protocol's threshold) of paraphrases; `toxicity_before` and `fraction_before` of the
    texts; `similarity`, in [-1, 1]; `copied`. `answered` is the share of answers that hold a paraphrase. Where texts have both
    labels, the first five for each side too.
    """
    answered = np.array([kind == PARAPHRASE for kind in table["kind"]])

    def toxic(values: Floats) -> Floats:
        found: Floats = np.where(np.isnan(values), np.nan, protocol.is_toxic(values))
        return found

    score, before = np.array(table["score"], dtype=np.float64), np.array(table["before"], dtype=np.float64)
    values = {
        "toxicity": text_means(table, score),
        "fraction": text_means(table, toxic(score)),
        "toxicity_before": text_means(table, before),
        "fraction_before": text_means(table, toxic(before)),
        "similarity": text_means(table, np.array(table["similarity"], dtype=np.float64)),
        "copied": text_means(table, np.where(answered, np.array(table["copied"], dtype=np.float64), np.nan)),
        "answered": text_means(table, answered.astype(np.float64)),
    }
    metrics = {f"rewriting/{name}": _estimate(name, found) for name, found in values.items()}
    labels = np.array([-1 if one.label is None else one.label for one in task.texts])
    if {0, 1} <= set(labels.tolist()):
        for label, side in SIDES.items():
            for name in list(values)[:5]:
                metrics[f"rewriting/{name}/{side}"] = _estimate(name, values[name][labels == label])
    return metrics


def text_means(table: Table, values: Floats) -> Floats:
    """(texts,) mean of (rows,) values over the samples of a text that have one, NaN where none has; in the order of the task."""
    place = {text: index for index, text in enumerate(dict.fromkeys(table["text"]))}
    rows = np.array([place[text] for text in table["text"]])
    known = ~np.isnan(values)
    count = np.bincount(rows[known], minlength=len(place))
    total = np.bincount(rows[known], weights=values[known], minlength=len(place))
    found: Floats = np.divide(total, count, out=np.full(len(place), np.nan), where=count > 0)
    return found


def rewrite_counts(table: Table) -> dict[str, int]:
    """How many answers there are of each kind; a paraphrase that could not be scored counts as "unscored" besides."""
    kinds = Counter(table["kind"])
    unscored = sum(k == PARAPHRASE and math.isnan(v) for k, v in zip(table["kind"], table["score"], strict=True))
    return {**{kind: kinds[kind] for kind in KINDS}, "unscored": unscored}


def _words(text: str) -> list[str]:
    return text.casefold().split()


def _estimate(name: str, values: Floats) -> Estimate:
    return mean_estimate(values, bounds=(-1.0, 1.0) if name == "similarity" else (0.0, 1.0))
