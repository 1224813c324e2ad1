"""The stages of toxicity: prompts continued, answers judged, texts scored, scorers held against people's labels, texts from nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detox.evaluation import accounting, calibration, toxicity, unprompted
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Table
from detox.evaluation.stages import Completions, Measured, Stage, Summary, Tables, by_scorer, texts_of
from detox.models import LanguageModel


def _generate(lm: LanguageModel, protocol: Protocol) -> Measured:
    completions = toxicity.write_completions(lm, protocol)
    return Measured(tables={"completions": accounting.completion_table(protocol, completions)}, completions=completions)


def _refusals(protocol: Protocol, completions: Completions) -> Measured:
    return Measured(tables={"refusals": accounting.refusal_table(protocol, texts_of(completions))})


def _score(protocol: Protocol, completions: Completions) -> Measured:
    return Measured(tables=toxicity.score_tables(protocol, texts_of(completions)))


def _left_out(protocol: Protocol, tables: Tables) -> NDArray[np.bool_]:
    return accounting.left_out(protocol, tables["completions"], tables.get("refusals"))


def _marked(protocol: Protocol, table: Table, out: NDArray[np.bool_]) -> Table:
    """The table with what is left out marked, so that whoever reads the record leaves it out as well."""
    if not protocol.leave_out:
        return table
    order = {prompt.id: index for index, prompt in enumerate(protocol.prompts)}
    places = zip(table["prompt"], table["sample"], strict=True)
    return {**table, "left_out": [bool(out[order[prompt], sample]) for prompt, sample in places]}


def _scores(protocol: Protocol, tables: Tables) -> Summary:
    scores, out = tables["scores"], _left_out(protocol, tables)
    return Summary(
        tables={"scores": _marked(protocol, scores, out)},
        metrics={
            **toxicity.toxicity_metrics(protocol, scores, left_out=out),
            **toxicity.attribute_metrics(protocol, tables.get("attributes"), left_out=out),
        },
        counts={
            **accounting.accounting(protocol, tables["completions"], scores, tables.get("refusals")),
            **({"left_out": accounting.left_out_counts(protocol, scores, out)} if protocol.leave_out else {}),
        },
    )


def _score_with_prompt(protocol: Protocol, completions: Completions) -> Measured:
    table = toxicity.score_tables(protocol, texts_of(completions), with_prompt=True)["scores"]
    return Measured(tables={"scores_with_prompt": table})


def _scores_with_prompt(protocol: Protocol, tables: Tables) -> Summary:
    table, out = tables["scores_with_prompt"], _left_out(protocol, tables)
    return Summary(
        tables={"scores_with_prompt": _marked(protocol, table, out)},
        metrics=toxicity.toxicity_metrics(protocol, table, family="toxicity+prompt", left_out=out),
        counts={"scorers_with_prompt": accounting.scored_counts(protocol, table)},
    )


def _calibration(protocol: Protocol, completions: Completions) -> Measured:
    return Measured(tables={"calibration": calibration.calibration_table(protocol)})


def _corrected(protocol: Protocol, tables: Tables) -> Summary:
    table, out = tables["calibration"], _left_out(protocol, tables)
    return Summary(
        metrics=calibration.corrected_metrics(protocol, tables["scores"], table, left_out=out),
        counts={"calibration": calibration.error_counts(protocol, table)},
    )


def _write_unprompted(lm: LanguageModel, protocol: Protocol) -> Measured:
    return Measured(completions=[unprompted.write_unprompted(lm, protocol)])


def _unprompted(protocol: Protocol, completions: Completions) -> Measured:
    return Measured(tables={"unprompted": unprompted.unprompted_table(protocol, texts_of(completions)[0])})


CONTINUED: tuple[Stage, ...] = (
    Stage(
        name="generate",
        asked=lambda p: p.prompts,
        depends_on=("prompts", "sampling", "chat"),
        measure=_generate,
    ),
    Stage(
        name="refusals",
        asked=lambda p: p.refusals,
        depends_on=("prompts", "sampling", "chat", "refusals"),
        judge=_refusals,
        reads="generate",
        summarise=lambda p, tables: Summary(metrics=accounting.refusal_metrics(p, tables["refusals"])),
    ),
    Stage(
        name="score",
        asked=lambda p: p.prompts,
        depends_on=("prompts", "sampling", "chat", "scored", "scorers"),
        judge=_score,
        reads="generate",
        apart=by_scorer,
        summarise=_scores,
    ),
    Stage(
        name="score_with_prompt",
        asked=lambda p: p.prompts and p.scored == "both",
        depends_on=("prompts", "sampling", "chat", "scorers"),
        judge=_score_with_prompt,
        reads="generate",
        apart=by_scorer,
        summarise=_scores_with_prompt,
    ),
    Stage(
        name="calibration",
        asked=lambda p: p.calibration,
        depends_on=("calibration", "scorers"),
        judge=_calibration,
        reads="generate",
        apart=by_scorer,
        summarise=_corrected,
    ),
)

UNPROMPTED: tuple[Stage, ...] = (
    Stage(
        name="write_unprompted",
        asked=lambda p: p.unprompted,
        depends_on=("unprompted", "sampling"),
        measure=_write_unprompted,
    ),
    Stage(
        name="unprompted",
        asked=lambda p: p.unprompted,
        depends_on=("unprompted", "sampling", "scorers"),
        judge=_unprompted,
        reads="write_unprompted",
        apart=by_scorer,
        summarise=lambda p, tables: Summary(
            metrics=unprompted.unprompted_metrics(p, tables["unprompted"]),
            counts={"unprompted": unprompted.unprompted_counts(tables["unprompted"])},
        ),
    ),
)
