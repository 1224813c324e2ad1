"""Every metric of a cell against its base: paired where both kept the items, and with an interval then."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detox.data.records import group_names
from detox.evaluation import Scorecard
from detox.evaluation.toxicity import prompt_means, score_matrix
from detox.statistics import (
    Estimate,
    Floats,
    any_above,
    bootstrap_weights,
    expected_maximum,
    independent_difference,
    weighted_sums,
)
from detox.statistics.intervals import difference_ends, effective_units, stretched
from detox.statistics.roc import area_difference_ends

_LOWER_IS_BETTER = (
    r"toxicity(\+prompt)?/|unprompted|rewriting/toxicity|clean/(cross_entropy|perplexity|bits_per_byte)|kl\b|kl/|repetition|degenerate|"
    r"fluency/|self.?bleu|over.?refusal|group_text/.*(cross_entropy|bits_per_byte)$"
)
_HIGHER_IS_BETTER = (
    r".*/(accuracy(_by_byte)?|acc(_norm)?|auc)$|margin/|rewriting/(similarity|answered)|safenlp/|dist(inct)?-?\d"
)

_EXCESS = re.compile(r"^group_text/(.*)/excess$")
_UNBOUNDED = ("margin/nats_per_token",)  # all other means are of shares and scores


@dataclass(frozen=True)
class Change:
    """A metric of a cell minus that of its base.

    Attributes:
        estimate: its interval is NaN where the items were not kept, or cannot be paired.
        paired: whether it was taken item by item.
    """

    estimate: Estimate
    paired: bool


def direction(metric: str) -> int:
    """1 where more of a metric is better, -1 where less is, 0 where that is not known."""
    if re.match(_LOWER_IS_BETTER, metric):
        return -1
    return 1 if re.match(_HIGHER_IS_BETTER, metric) else 0


class Items:
    """Item-level values of one scorecard: what differences are taken of. Read once, however often they are asked for.

    Attributes:
        names: ids of the units, by metric.
        means: (units,) values whose mean a metric is.
        ratios: (units,) numerators and denominators of a metric that is a ratio of sums.
        areas: (units,) labels and scores of a ROC-AUC.
        prompts: ids, in the order of the scores.
        scores: (prompts, samples) by scorer, NaN where missing.
    """

    def __init__(self, card: Scorecard) -> None:
        self.prompts: list[str] = []
        self.scores: dict[str, Floats] = {}
        self.names: dict[str, list[Any]] = {}
        self.means: dict[str, Floats] = {}
        self.ratios: dict[str, tuple[Floats, Floats]] = {}
        self.areas: dict[str, tuple[Floats, Floats]] = {}
        self._scores(card)
        for table, family in (("documents", "clean"), ("toxic_documents", "toxic")):
            self._documents(card.tables.get(table), family)
        self._tasks(card)
        self._groups(card.tables.get("group_texts"))

    def _scores(self, card: Scorecard) -> None:
        asked = card.protocol.get("identity", {})
        beyond = np.greater if asked.get("threshold_operator") == ">" else np.greater_equal
        for table, family in (("scores", "toxicity"), ("scores_with_prompt", "toxicity+prompt")):
            scores = card.tables.get(table)
            if not scores:
                continue
            prompts = list(dict.fromkeys(scores["prompt"]))
            for scorer in dict.fromkeys(scores["scorer"]):
                matrix = score_matrix(scores, scorer, prompts)
                if table == "scores":
                    self.prompts, self.scores[scorer] = prompts, matrix
                toxic = np.where(np.isnan(matrix), np.nan, beyond(matrix, asked.get("threshold", 0.5)).astype(float))
                self._add(f"{family}/{scorer}/mean", prompts, prompt_means(matrix))
                self._add(f"{family}/{scorer}/fraction", prompts, prompt_means(toxic))
                k = matrix.shape[1]
                for m in (m for m in {*asked.get("at", ()), k} if m <= k):
                    # Of all k samples it is the plain maximum; a prompt that lacks one has none, as in the metric.
                    highest = matrix.max(1) if m == k else expected_maximum(matrix, m)
                    self._add(f"{family}/{scorer}/expected_maximum@{m}", prompts, highest)
                    above = toxic.max(1) if m == k else any_above(toxic, 0.5, m)
                    self._add(f"{family}/{scorer}/probability@{m}", prompts, above)

    def _documents(self, table: Mapping[str, list[Any]] | None, family: str) -> None:
        if table:
            nats, tokens = (np.array(table[key], dtype=np.float64) for key in ("nats", "tokens"))
            self.names[f"{family}/cross_entropy"] = table["id"]
            self.ratios[f"{family}/cross_entropy"] = nats, tokens
            if "bytes" in table:
                self.names[f"{family}/bits_per_byte"] = table["id"]
                self.ratios[f"{family}/bits_per_byte"] = nats, np.array(table["bytes"], dtype=np.float64) * math.log(2)

    def _groups(self, table: Mapping[str, list[Any]] | None) -> None:
        if not table:
            return
        members = [set(group_names(group)) for group in table["group"]]
        for group in sorted(set().union(*members)):
            # The same texts with and without the method: what the method costs a group, and the others.
            for side, inside in ((group, True), (f"not {group}", False)):
                rows = [i for i, own in enumerate(members) if (group in own) == inside]
                if rows:
                    mine = {key: [table[key][i] for i in rows] for key in ("id", "nats", "tokens", "bytes")}
                    self._documents(mine, f"group_text/{side}")

    def _tasks(self, card: Scorecard) -> None:
        if choices := card.tables.get("multiple_choice"):
            tasks = np.array(choices["task"])
            for task in dict.fromkeys(choices["task"]):
                mine = np.flatnonzero(tasks == task)
                for column, metric in (("correct", "accuracy"), ("correct_by_byte", "accuracy_by_byte")):
                    if column in choices:
                        values = np.array(choices[column], dtype=np.float64)[mine]
                        self._add(f"choice/{task}/{metric}", [choices["id"][i] for i in mine], values)
        if pairs := card.tables.get("minimal_pairs"):
            self._add("minimal_pairs/accuracy", pairs["id"], np.array(pairs["correct"], dtype=np.float64))
        if margins := card.tables.get("margins"):
            with np.errstate(invalid="ignore"):
                gaps = np.array(margins["safe"], dtype=np.float64) - np.array(margins["toxic"], dtype=np.float64)
            self._add("margin/nats_per_token", margins["id"], gaps)
        if recognition := card.tables.get("recognition"):
            self.names["recognition/auc"] = recognition["id"]
            labels, scores = (np.array(recognition[key], dtype=np.float64) for key in ("label", "margin"))
            self.areas["recognition/auc"] = labels, scores

    def _add(self, metric: str, names: Sequence[Any], values: Floats) -> None:
        self.names[metric], self.means[metric] = list(names), values


def changes(
    pairs: Sequence[tuple[Scorecard, Scorecard]], items: Callable[[Scorecard], Items]
) -> list[dict[str, Change]]:
    """Every metric that both sides of a pair have, first minus second; the units of all pairs are resampled together.

    Args:
        pairs: of a cell and its base.
        items: of a scorecard.

    Returns:
        One dictionary a pair, in the order of the scorecard's metrics.
    """
    found: list[dict[str, Change]] = []
    columns: list[tuple[Floats, float | None]] = []
    ratios: list[tuple[Floats, Floats, Floats, Floats]] = []
    waiting: list[tuple[int, str, int, bool]] = []
    excesses: list[tuple[int, str, int]] = []
    for number, (card, base) in enumerate(pairs):
        mine, theirs = items(card), items(base)
        found.append({})
        for metric in (name for name in card.metrics if name in base.metrics):
            a, b = card.metrics[metric], base.metrics[metric]
            same = metric in mine.names and mine.names[metric] == theirs.names.get(metric)
            plain = Estimate(a.value - b.value, math.nan, math.nan, min(a.n, b.n), max(a.missing, b.missing))
            found[number][metric] = Change(plain, False)
            if same and metric in mine.means and agrees(mine.means[metric], a) and agrees(theirs.means[metric], b):
                waiting.append((number, metric, len(columns), False))
                with np.errstate(invalid="ignore"):
                    difference = mine.means[metric] - theirs.means[metric]
                columns.append((difference, None if metric in _UNBOUNDED else 1.0))
            elif same and metric in mine.ratios:
                waiting.append((number, metric, len(ratios), True))
                ratios.append((*mine.ratios[metric], *theirs.ratios[metric]))
            elif same and metric in mine.areas:
                found[number][metric] = Change(area_change(*mine.areas[metric], theirs.areas[metric][1]), True)
        for metric in (name for name in found[number] if _EXCESS.match(name)):
            # The change of a difference between groups: of the group's change and of the others', each paired by text.
            group = _EXCESS.sub(r"\1", metric)
            sides = [f"group_text/{side}/bits_per_byte" for side in (group, f"not {group}")]
            if all(side in mine.ratios and mine.names[side] == theirs.names.get(side) for side in sides):
                for side in sides:
                    ratios.append((*mine.ratios[side], *theirs.ratios[side]))
                excesses.append((number, metric, len(ratios) - 2))
    means, quotients = mean_differences(columns), ratio_differences(ratios)
    for number, metric, place in excesses:
        found[number][metric] = Change(independent_difference(quotients[place], quotients[place + 1]), True)
    for number, metric, place, is_ratio in waiting:
        found[number][metric] = Change((quotients if is_ratio else means)[place], True)
    return found


def agrees(values: Floats, metric: Estimate) -> bool:
    """Whether a metric is the mean of these items, to the digits of a record: then differences of items are differences of it."""
    known = values[~np.isnan(values)]
    if not len(known) or math.isnan(metric.value):
        return False
    mean = float(known.mean())
    return mean == metric.value or abs(mean - metric.value) <= 1e-4 * max(1.0, abs(metric.value))


def mean_differences(columns: Sequence[tuple[Floats, float | None]]) -> list[Estimate]:
    """`difference_estimate` of many columns at once: those that know the same units share one pass over the resamples.

    Args:
        columns: (units,) paired differences, NaN where missing; and the largest absolute difference that can be.
    """
    together: dict[tuple[int, bytes, float | None], list[int]] = {}
    for i, (values, reach) in enumerate(columns):
        gaps = np.isnan(values)
        together.setdefault((int(gaps.sum()), gaps.tobytes(), reach), []).append(i)
    result: list[Estimate | None] = [None] * len(columns)
    # Sorted by how many are missing, so that each stream of resamples is drawn once.
    for (missing, _, reach), places in sorted(together.items(), key=lambda group: group[0][0]):
        table = np.stack([columns[i][0] for i in places], axis=1)
        known = table[~np.isnan(table[:, 0])]
        n = len(known)
        ends = difference_ends(known, reach=reach) if n > 1 else (np.full(len(places), np.nan),) * 2
        for j, place in enumerate(places):
            value = float(known[:, j].mean()) if n else math.nan
            result[place] = Estimate(value, float(ends[0][j]), float(ends[1][j]), n, missing)
    return [estimate for estimate in result if estimate is not None]


def ratio_differences(columns: Sequence[tuple[Floats, Floats, Floats, Floats]]) -> list[Estimate]:
    """`paired_ratio_difference` of many pairs at once: sum over sum minus sum over sum, units resampled together."""
    result: list[Estimate | None] = [None] * len(columns)
    for n in dict.fromkeys(len(column[0]) for column in columns):
        places = [i for i, column in enumerate(columns) if len(column[0]) == n]
        a, p, b, q = (np.stack([columns[i][part] for i in places], axis=1) for part in range(4))
        with np.errstate(invalid="ignore", divide="ignore"):
            values = a.sum(0) / p.sum(0) - b.sum(0) / q.sum(0)
            drawn = [weighted_sums(w, a) / (w @ p) - weighted_sums(w, b) / (w @ q) for w in bootstrap_weights(n)]
            parts = (a - a.sum(0) / p.sum(0) * p) / p.sum(0) - (b - b.sum(0) / q.sum(0) * q) / q.sum(0)
            low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975], axis=0)
            low, high = stretched(values, (low, high), effective_units(parts))
        low, high = (np.where(np.isfinite(values), end, values) for end in (low, high))
        for j, place in enumerate(places):
            ends = (float(low[j]), float(high[j])) if n > 1 else (math.nan, math.nan)
            result[place] = Estimate(float(values[j]), *ends, n)
    return [estimate for estimate in result if estimate is not None]


def area_change(labels: Floats, treated: Floats, control: Floats) -> Estimate:
    """Difference of two ROC-AUCs over the same items, with DeLong's interval (DeLong, DeLong and Clarke-Pearson 1988, eq. 3 to 6).

    Where both are almost 1 or 0 it is that of `detox.statistics.roc.area_difference_ends`.

    Args:
        labels: (items,) 1 positive, 0 negative.
        treated: (items,) scores; an item whose score is NaN in one of both is left out.
        control: (items,) scores.
    """
    known = ~(np.isnan(treated) | np.isnan(control))
    positive = labels[known] == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return Estimate(math.nan, math.nan, math.nan, m + n, int((~known).sum()))
    placed = [_placements(scores[known][positive], scores[known][~positive]) for scores in (treated, control)]
    ups, downs = placed[0][0] - placed[1][0], placed[0][1] - placed[1][1]
    value = float(ups.mean())
    if m < 2 or n < 2:
        return Estimate(value, math.nan, math.nan, m + n, int((~known).sum()))
    variances = [up.var(ddof=1) / m + down.var(ddof=1) / n for up, down in (*placed, (ups, downs))]
    ends = area_difference_ends(
        (float(placed[0][0].mean()), variances[0]), (float(placed[1][0].mean()), variances[1]), min(m, n)
    )
    if ends is None:
        reach = 1.96 * math.sqrt(variances[2])
        ends = value - reach, value + reach
    return Estimate(value, *ends, m + n, int((~known).sum()))


def _placements(ups: Floats, downs: Floats) -> tuple[Floats, Floats]:
    """Share of negatives that each positive beats, and of positives that beat each negative; ties count half."""

    def below(ranked: Floats, values: Floats) -> Floats:
        return np.asarray(
            (np.searchsorted(ranked, values, "left") + np.searchsorted(ranked, values, "right")) / (2 * len(ranked))
        )

    return below(np.sort(downs), ups), 1 - below(np.sort(ups), downs)
