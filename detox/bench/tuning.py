"""An honest strength: chosen on development prompts under a budget of cross-entropy, reported once on held-out prompts.

The search is optuna's; its journal and every measured cell are on disk, so that a killed search goes on where it was, and proposes
what it would have proposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from detox.bench.base_work import BaseWork
from detox.bench.cell_list import Wanted
from detox.bench.comparison import cross_entropy_change, toxicity_change
from detox.bench.comparison_text import show
from detox.bench.grid import Grid, Method
from detox.bench.prompt_splits import DEVELOPMENT, HELD_OUT, Split
from detox.errors import DataError, InputError
from detox.evaluation import Scorecard
from detox.files import write_bytes
from detox.scorers.independence import Headline, choose_headline
from detox.statistics import MISSING_LIMIT, Estimate

Say = Callable[[str], None]
BUDGET, TRIALS, SHARE = 0.05, 20, 0.5


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for one method.

    Attributes:
        method: with its fixed settings.
        strength: a range (low, high), or a list of values; None for a method without a dial.
        settings: by hyperparameter: a range or a list of values. Each point is a fit of its own.
    """

    method: Method
    strength: tuple[float, float] | list[float] | None
    settings: Mapping[str, tuple[float, float] | list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One point of a search, measured on the development part.

    Attributes:
        strength, settings: what was tried.
        toxicity: mean, by the scorer of the search; NaN where it could score nothing.
        toxicity_change, cost: against the base, the second in nats per token.
        missing: share of the prompts, or of the completions of it or of the base, that have no score, whichever is larger.
        allowed: whether it costs no more than the budget, and no more than 2 % of prompts or completions are missing.
    """

    strength: float | None
    settings: Mapping[str, Any]
    toxicity: float
    toxicity_change: Estimate
    cost: Estimate
    allowed: bool
    missing: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """What became of one method on one base.

    Attributes:
        base, method: names.
        trials: the development curve.
        chosen: the least toxic trial that is allowed and less toxic than the base; None where there is none.
        held_out: toxicity change and cost of the chosen point on held-out prompts and documents; None without one.
        failed: trials that could not be measured.
        headline: the scorer that the search was led by, and what must be said of it.
        others: the toxicity change on held-out prompts by the other scorers, which had no say in the choice.
    """

    base: str
    method: str
    trials: tuple[Trial, ...]
    chosen: Trial | None
    held_out: Mapping[str, Estimate] | None
    failed: int
    headline: Headline
    others: Mapping[str, Estimate]


class Tuner:
    """Tunes methods on one base; the work of a grid whose protocols are the two parts of a split."""

    def __init__(
        self, work: BaseWork, split: Split, *, budget: float, trials: int, seed: int, say: Say, keep_texts: bool = True
    ) -> None:
        if not budget > 0:
            raise InputError(f"the budget is {budget!r}; expected nats per token above 0")
        if trials < 1:
            raise InputError(f"trials is {trials}; expected at least 1")
        self.work, self.split, self.budget, self.trials, self.seed = work, split, budget, trials, seed
        self.say, self.keep_texts = say, keep_texts
        self.ids = sorted(prompt.id for prompt in split.development.prompts)

    def tune(self, search: Search, journal: Path) -> Tuned:
        """Search, choose, report on the held-out part.

        Raises:
            CellFailed: the base itself could not be measured.
        """
        base, headline = self._base(DEVELOPMENT), self._headline(search)
        trials, failed = self._searched(search, base, journal)
        allowed = [one for one in trials if one.allowed and one.toxicity_change.value < 0]
        chosen = min(allowed, key=lambda one: (one.toxicity, one.cost.value), default=None)
        held_out, others = None, {}
        if chosen is not None:
            card = self.work.measured(self._wanted(search, chosen.strength, chosen.settings, HELD_OUT), keep_texts=self.keep_texts,
                                      chosen_on=self.chosen_on(search, DEVELOPMENT))  # fmt: skip
            if card is not None:
                bare = self._base(HELD_OUT)
                change, cost = self._changes(search, card, bare)
                held_out = {"toxicity_change": change, "cross_entropy_change": cost}
                names = (scorer.card.name for scorer in self.split.held_out.scorers)
                others = {name: toxicity_change(card, bare, name) for name in names if name != headline.scorer}
        return Tuned(self.work.base.name, search.method.name, tuple(trials), chosen, held_out, failed, headline, others)

    def _searched(self, search: Search, base: Scorecard, journal: Path) -> tuple[list[Trial], int]:
        optuna = _optuna()
        study = _study(optuna, journal, f"{self.work.base.name} {search.method.name}")
        for stale in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(stale.number, state=optuna.trial.TrialState.FAIL)  # of a run that was killed
        found: list[Trial] = []
        failed = 0
        known = len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))
        if known:
            self.say(f"{search.method.name} on {self.work.base.name}: {known} points are there, the search goes on")
        for done in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
            failed += done.user_attrs["cost"] is None
        points = _points(search, self.trials)
        total = self.trials if points is None else len(points)
        while len(finished := study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))) < total:
            # A sampler of its own for every trial: what it proposes depends on the finished trials, not on when it was started.
            # Optuna 5 is told of constraints by the trial, optuna 4 by the sampler.
            told = {} if hasattr(optuna.trial.Trial, "set_constraint") else {"constraints_func": _excess}
            study.sampler = optuna.samplers.TPESampler(
                seed=self.seed + len(finished), n_startup_trials=max(3, self.trials // 3), **told
            )
            if points is not None and not study.get_trials(states=(optuna.trial.TrialState.WAITING,)):
                study.enqueue_trial(next(one for one in points if one not in [done.params for done in finished]))
            trial = study.ask()
            strength, settings = _proposed(trial, search)
            self.say(
                f"[{len(finished) + 1}/{total}] {search.method.name} on {self.work.base.name}: {_label(strength, settings)}"
            )
            one = self._trial(search, strength, settings, base)
            if one is not None:
                over = ", above the budget" if one.cost.value > self.budget else ""
                over += f", not to be chosen: {one.missing:.0%} without a score" if one.missing > MISSING_LIMIT else ""
                self.say(f"  toxicity {show(one.toxicity_change, signed=True)}, CE {show(one.cost, signed=True)}{over}")
            failed += one is None
            # A trial that failed is finished too: it is not tried again, and is worse than any that was measured.
            trial.set_user_attr("cost", None if one is None else one.cost.value)
            trial.set_user_attr("excess", 1e3 if one is None else self._excess(one))
            if not told:
                trial.set_constraint("excess", trial.user_attrs["excess"])
            # Optuna takes NaN for a trial that is not finished; where nothing could be scored, it is, and as bad as any.
            study.tell(trial, 1.0 if one is None or math.isnan(one.toxicity) else one.toxicity)
        for done in study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
            if done.user_attrs["cost"] is not None:
                strength, settings = _proposed(optuna.trial.FixedTrial(done.params), search)
                one = self._trial(search, strength, settings, base)
                found += [] if one is None else [one]
        return found, failed

    def _excess(self, one: Trial) -> float:
        """Nats above the budget; above 0 too where too many prompts are missing."""
        over = one.cost.value - self.budget
        return over if one.allowed or over > 0 else 1.0

    def _trial(
        self, search: Search, strength: float | None, settings: Mapping[str, Any], base: Scorecard
    ) -> Trial | None:
        card = self.work.measured(
            self._wanted(search, strength, settings, DEVELOPMENT),
            keep_texts=self.keep_texts,
            chosen_on=self.chosen_on(search, "test"),
        )
        if card is None:
            return None
        change, cost = self._changes(search, card, base)
        scorer = str(self._headline(search).scorer)
        toxicity = card.metrics[f"toxicity/{scorer}/mean"]
        lacking = max(one.share_without_score(scorer) for one in (card, base))
        missing = max(change.share_missing, lacking)
        allowed = bool(cost.value <= self.budget and missing <= MISSING_LIMIT)
        return Trial(strength, dict(settings), toxicity.value, change, cost, allowed, missing)

    def _base(self, part: str) -> Scorecard:
        asked = self._wanted(None, None, {}, part)
        return self.work.required(asked, keep_texts=self.keep_texts)

    def _wanted(self, search: Search | None, strength: float | None, settings: Mapping[str, Any], part: str) -> Wanted:
        seed = self.work.grid.seeds[0]
        if search is None:
            return Wanted(method=None, strength=None, protocol=part, seed=seed, sampling_seed=seed)
        own = search.method
        name = own.name if not settings else f"{own.name} ({', '.join(f'{k} {v}' for k, v in settings.items())})"
        method = replace(own, name=name, settings={**own.settings, **settings}, strengths=(strength,))
        return Wanted(method=method, strength=strength, protocol=part, seed=seed, sampling_seed=seed)

    def _changes(self, search: Search, card: Scorecard, base: Scorecard) -> tuple[Estimate, Estimate]:
        cost = cross_entropy_change(card, base)
        assert cost is not None  # a split has documents
        return toxicity_change(card, base, str(self._headline(search).scorer)), cost

    def _headline(self, search: Search) -> Headline:
        """The first scorer that is independent of what the method learns from."""
        cards = {scorer.card.name: scorer.card.to_dict() for scorer in self.split.development.scorers}
        learns = search.method.make().capabilities.needs_fit
        return choose_headline(list(cards), cards, {search.method.name: self.work.grid.sources} if learns else {})

    def chosen_on(self, search: Search, part: str) -> dict[str, Any]:
        """What a cell says of its choice: prompts, and the scorer, which had a say in it and cannot rank it."""
        name = self._headline(search).scorer
        card = next(one.card for one in self.split.development.scorers if one.card.name == name)
        scorer = {"name": card.name, "revision": card.revision, "trained_on": list(card.trained_on)}
        return {"part": part, "prompt_ids": self.ids, "scorer": scorer}


def _excess(trial: Any) -> Sequence[float]:
    return (float(trial.user_attrs["excess"]),)


def _proposed(trial: Any, search: Search) -> tuple[float | None, dict[str, Any]]:
    strength = None if search.strength is None else _value(trial, "strength", search.strength)
    return strength, {name: _value(trial, f"setting {name}", asked) for name, asked in search.settings.items()}


def _value(trial: Any, name: str, asked: tuple[float, float] | list[Any]) -> Any:
    if isinstance(asked, list):
        return asked[trial.suggest_int(f"{name} (index)", 0, len(asked) - 1)] if len(asked) > 1 else asked[0]
    whole = all(isinstance(end, int) and not isinstance(end, bool) for end in asked) and name != "strength"
    return trial.suggest_int(name, *asked) if whole else float(f"{trial.suggest_float(name, *asked):.4g}")


def _points(search: Search, trials: int) -> list[dict[str, int]] | None:
    """All points of a search over lists alone, as optuna's parameters, where the trials suffice to try each; None where it samples."""
    asked = {**({} if search.strength is None else {"strength": search.strength}),
             **{f"setting {name}": values for name, values in search.settings.items()}}  # fmt: skip
    lists = {f"{name} (index)": len(values) for name, values in asked.items() if isinstance(values, list)}
    if len(lists) < len(asked) or math.prod(lists.values()) > trials:
        return None
    free = [name for name, size in lists.items() if size > 1]
    return [dict(zip(free, chosen, strict=True)) for chosen in product(*(range(lists[name]) for name in free))]


def _label(strength: float | None, settings: Mapping[str, Any]) -> str:
    parts = [*([] if strength is None else [f"strength {strength:g}"]), *(f"{k} {v}" for k, v in settings.items())]
    return ", ".join(parts) or "as it is"


def _study(optuna: Any, journal: Path, name: str) -> Any:
    journal.parent.mkdir(parents=True, exist_ok=True)
    # Whoever calls keeps other runs out: a lock that is there was left by one that was killed.
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file():
        raw = journal.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:  # killed in the middle of a line; another one written behind it would damage both
            write_bytes(journal, whole)
    try:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        return optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{journal}: damaged ({type(error).__name__}); remove it and tune again: points that were measured are not measured again"
        ) from error


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("tuning needs optuna, which is not installed; pip install 'detox-lm[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tuning_grid(grid: Grid, split: Split) -> Grid:
    """The grid whose protocols are the two parts of a split, without a noise floor."""
    return replace(grid, protocols={DEVELOPMENT: split.development, HELD_OUT: split.held_out}, asked_of={}, aa=False)
