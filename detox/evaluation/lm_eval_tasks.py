"""lm-eval's tasks on a live, edited model, in this process: its own tasks from the hub, or the same forms on local files.

A name that ends in `_local` is a set of the catalogue, read from the data directory: part of the questions, in lm-eval's prompt forms
(tests compare them with its task files). Such numbers are never called by the name of the whole set, nor averaged with it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from detox.data.catalogue import entry
from detox.data.hub import reading_errors
from detox.errors import InputError, MissingData, UnknownName
from detox.evaluation.lm_eval_local import LOCAL, local_task, local_tasks
from detox.evaluation.lm_eval_metrics import leaf_rows, task_metrics, utility_metrics
from detox.evaluation.scorecard import Table
from detox.models import LanguageModel
from detox.statistics import Estimate
from detox.training.isolation import preserved_random_state

_FEWSHOT_SEED = 1234  # lm-eval's own
UTILITY_METRICS = ("lm_eval/utility", f"lm_eval/utility{LOCAL}")


@dataclass(frozen=True)
class LoadedTasks:
    """Tasks that are ready to run: whatever is missing was found before any work.

    Attributes:
        tasks: lm-eval's task objects by name, groups taken apart.
        asked: what was asked for -> names in `tasks`; a tag is taken apart too.
        indices: name in `tasks` -> the questions drawn; empty for all.
        sources: name in `tasks` -> the local file or the id on the hub.
    """

    tasks: Mapping[str, Any]
    asked: Mapping[str, tuple[str, ...]]
    indices: Mapping[str, list[int]]
    sources: Mapping[str, str]


@dataclass(frozen=True)
class TaskResults:
    """What `run_tasks` found.

    Attributes:
        table: one row a (question, metric): `task` as asked for, `leaf` (the subject of a group), `id`, `metric`, `value`, `weight`
            (1, or what a sum of log-probabilities is divided by) and `chance` (NaN where there is none).
        metrics: `lm_eval/<task>/<metric>`, `lm_eval/utility` over tasks from the hub and `lm_eval/utility_local` over local ones.
        counts: version of lm-eval; questions, version, source and data (`data_of`) of every task; where there are any, "contexts cut",
            how many contexts were longer than the model's and lost their beginning, and "system turns left out", how many of a task's
            own the chat template does not write.
    """

    table: Table
    metrics: dict[str, Estimate]
    counts: dict[str, Any]


def lm_eval_version() -> str | None:
    """Version of lm-eval; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lm_eval")
    except PackageNotFoundError:
        return None


def tasks_identity(names: Sequence[str], limit: int | None) -> dict[str, Any]:
    """What is asked, as JSON: names, limit, version of lm-eval, hashes of local files.

    Not the revision of a hub's data: lm-eval's tasks do not pin it, and only loading tells, which a protocol's identity must not take.
    It stands in the record (`data_of`), and records of other data are not compared.
    """
    files = {name: entry(name.removesuffix(LOCAL)).file for name in names if name in local_tasks()}
    return {
        "tasks": list(names),
        "limit": limit,
        "version": lm_eval_version(),
        "files": {name: file.sha256[:16] for name, file in files.items() if file is not None},
    }


def data_of(task: Any) -> dict[str, str | None]:
    """Which data a loaded task asks about, as `datasets` tells it.

    Returns:
        "fingerprint", of the split that is asked: for data of the hub a hash of its id, configuration, version, revision and split, for
        a local task one of its rows. "revision", the hub's commit, where `datasets` keeps the data in a folder of that name. None for what
        cannot be had, as for rows in memory, which have no revision.
    """
    name = task.config.test_split or task.config.validation_split
    splits = getattr(task, "dataset", None)
    split = splits[name] if isinstance(splits, Mapping) and name in splits else None
    files = [Path(file["filename"]) for file in getattr(split, "cache_files", ())]
    revisions = {file.parent.name for file in files if re.fullmatch("[0-9a-f]{40}", file.parent.name)}
    return {
        "fingerprint": getattr(split, "_fingerprint", None),
        "revision": revisions.pop() if len(revisions) == 1 else None,
    }


def load_tasks(names: Sequence[str], *, limit: int | None = None, seed: int = 0) -> LoadedTasks:
    """Make tasks ready.

    Args:
        names: lm-eval's own names of tasks, groups and tags, or names of `local_tasks`.
        limit: at most so many questions a task: a seeded sample, never the first ones.
        seed: of that sample.

    Raises:
        InputError: lm-eval is not installed; a task twice; a limit below 1.
        UnknownName: no such task.
        MissingData: a file or a data set is not there; names it.
    """
    if lm_eval_version() is None:
        raise InputError(
            f"the tasks {', '.join(names)} need lm-eval, which is not installed; pip install 'detox-lm[lm-eval]', or leave lm_eval out"
        )
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise InputError(f"lm_eval tasks are {names!r}; expected a list of names, none twice")
    if limit is not None and limit < 1:
        raise InputError(f"lm_eval limit {limit}; expected at least 1, or none for every question")
    tasks: dict[str, Any] = {}
    asked: dict[str, tuple[str, ...]] = {}
    indices: dict[str, list[int]] = {}
    sources: dict[str, str] = {}
    with _quiet():
        for name in names:
            if name in local_tasks():
                tasks[name] = local_task(name, limit=limit, seed=seed)
                file = entry(name.removesuffix(LOCAL)).file
                asked[name], sources[name] = (name,), f"local file {file.name}" if file else ""
                continue
            found = _hub_tasks(name)
            again = sorted(found["tasks"].keys() & tasks.keys())
            if again:
                raise InputError(f"lm_eval tasks: {name} holds {again[0]}, which is asked for already; leave one out")
            leaves = tuple(found["tasks"])
            asked |= {name: leaves} if name in found["groups"] else {leaf: (leaf,) for leaf in leaves}
            for leaf, task in found["tasks"].items():
                tasks[leaf] = task
                sources[leaf] = f"hub {task.config.dataset_path}"
                total = len(task.eval_docs)
                if limit is not None and limit < total:
                    rng = np.random.default_rng([seed, total])
                    indices[leaf] = sorted(int(i) for i in rng.choice(total, limit, replace=False))
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return LoadedTasks(tasks, asked, indices, sources)


def run_tasks(
    lm: LanguageModel,
    tasks: Sequence[str] | LoadedTasks,
    *,
    limit: int | None = None,
    seed: int = 0,
    chat: bool = False,
    batch_size: int = 128,
) -> TaskResults:
    """Run lm-eval's tasks on a handle, with whatever edits it stands for.

    Random states are left as they were, nothing is cached, and the result does not depend on LOCAL_RANK.

    Args:
        lm: what is measured; refused if its edits are not exactly those installed.
        tasks: names, as `load_tasks` takes them, or what it gave.
        limit: see `load_tasks`.
        seed: of that sample, and of what a task shuffles.
        chat: prompts go through the chat template, with the handle's system turn.
        batch_size: texts generated at once.

    Raises:
        See `load_tasks`; StaleHandle.
    """
    lm.require_current()
    loaded = tasks if isinstance(tasks, LoadedTasks) else load_tasks(tasks, limit=limit, seed=seed)
    from lm_eval.evaluator import evaluate

    from detox.evaluation.lm_eval_adapter import LiveModel

    # Not simple_evaluate: it gives nothing back where LOCAL_RANK is not 0, and seeds every random state.
    live = LiveModel(lm, chat=chat, batch_size=batch_size)
    for task in loaded.tasks.values():
        # Every run of a task draws the same examples, not those after the last run's.
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    with _quiet(), preserved_random_state(seed=seed):  # tasks that shuffle do it alike each time
        results = evaluate(
            live,
            {"tasks": dict(loaded.tasks), "groups": {}, "group_map": {}},
            samples=dict(loaded.indices) or None,
            bootstrap_iters=0,
            apply_chat_template=chat,
        )
    table: Table = {column: [] for column in ("task", "leaf", "id", "metric", "value", "weight", "chance")}
    for name, leaves in loaded.asked.items():
        for leaf in leaves:
            for row in leaf_rows(loaded.tasks[leaf], results["samples"][leaf]):
                for column, value in {"task": name, "leaf": leaf, **row}.items():
                    table[column].append(value)
    metrics = task_metrics(table, loaded, results["results"])
    metrics |= mean_utility(table)
    described = {
        leaf: {
            "questions": len({row["doc_id"] for row in results["samples"][leaf]}),
            "version": str(task.VERSION),
            "source": loaded.sources[leaf],
            "data": data_of(task),
        }
        for leaf, task in loaded.tasks.items()
    }
    counts: dict[str, Any] = {"version": lm_eval_version(), "tasks": described}
    counts |= {name: n for name, n in (("contexts cut", live.cut), ("system turns left out", live.left_out)) if n}
    return TaskResults(table, metrics, counts)


def mean_utility(table: Table) -> dict[str, Estimate]:
    """`lm_eval/utility` over the tasks from the hub and `lm_eval/utility_local` over the local ones.

    Args:
        table: of `TaskResults`, or several of them below one another.

    Raises:
        InputError: a question stands under two tasks, a group and its subject say, and would count twice.
    """
    owners: dict[str, str] = {}
    for task, leaf in dict.fromkeys(zip(table["task"], table["leaf"], strict=True)):
        if owners.setdefault(leaf, task) != task:
            raise InputError(f"lm_eval tasks: {owners[leaf]} and {task} both hold {leaf}; leave one out")
    metrics: dict[str, Estimate] = {}
    for label, local in zip(UTILITY_METRICS, (False, True), strict=True):
        members = [name for name in dict.fromkeys(table["task"]) if (name in local_tasks()) == local]
        metrics |= utility_metrics(table, members, label)
    return metrics


def joined_counts(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`TaskResults.counts` of several runs as those of one run of all their tasks."""
    tasks = {name: one for part in parts for name, one in part["tasks"].items()}
    cut = sum(part.get("contexts cut", 0) for part in parts)
    return {"version": parts[0]["version"], "tasks": tasks} | ({"contexts cut": cut} if cut else {})


@lru_cache(maxsize=1)
def _manager() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


@lru_cache(maxsize=64)
def _hub_tasks(name: str) -> Any:
    """Loaded once a process: whether they are there is asked before any work, and every cell of a grid runs them."""
    manager = _manager()
    if name not in manager.all_tasks:
        raise UnknownName("lm_eval task", name, [*manager.all_tasks, *local_tasks()])
    try:
        return manager.load([name])
    except reading_errors(ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        near = next((one for one in local_tasks() if one == f"{name}{LOCAL}"), None)
        file = entry(name).file if near else None
        advice = f"; or put {file.name} into the data directory (DETOX_DATA) and ask for {near}" if file else ""
        raise MissingData(
            f"lm_eval task {name}: its data cannot be had from the hub ({reason}); connect, or fill the cache of `datasets` before"
            f"{advice}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval's notes about itself left out; its errors are raised all the same."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
