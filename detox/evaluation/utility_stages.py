"""The stages of utility and of side effects: lm-eval, diversity, fluency, KL, over-refusal, bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detox.data.making.prompts import form_for
from detox.evaluation import bias, closeness, diversity, fluency, lm_eval_tasks, over_refusal
from detox.evaluation.protocol import Protocol
from detox.evaluation.stages import (
    Completions,
    Measured,
    Stage,
    Summary,
    Tables,
    by_lm_eval_task,
    field_stage,
    from_table,
    joined_summaries,
    texts_of,
)
from detox.models import LanguageModel


def _lm_eval_ready(parts: Sequence[Protocol]) -> None:
    names = [name for part in parts for name in part.lm_eval]
    lm_eval_tasks.load_tasks(names, limit=parts[0].lm_eval_limit)


def _lm_eval(lm: LanguageModel, protocol: Protocol) -> Measured:
    found = lm_eval_tasks.run_tasks(lm, protocol.lm_eval, limit=protocol.lm_eval_limit, chat=protocol.chat)
    own = {name: value for name, value in found.metrics.items() if name not in lm_eval_tasks.UTILITY_METRICS}
    return Measured(tables={"lm_eval": found.table}, summary=Summary(metrics=own, counts={"lm_eval": found.counts}))


def _lm_evals(parts: Sequence[Summary]) -> Summary:
    counts = lm_eval_tasks.joined_counts([part.counts["lm_eval"] for part in parts])
    return replace(joined_summaries(parts), counts={"lm_eval": counts})


def _lm_eval_utility(protocol: Protocol, tables: Tables) -> Summary:
    return Summary(metrics=lm_eval_tasks.mean_utility(tables["lm_eval"]))


def _diversity(protocol: Protocol, completions: Completions) -> Measured:
    table = diversity.diversity_table([prompt.id for prompt in protocol.prompts], texts_of(completions))
    return Measured(tables={"diversity": table})


def _fluency(protocol: Protocol, completions: Completions) -> Measured:
    assert protocol.reference is not None
    ids, prompts = [prompt.id for prompt in protocol.prompts], [prompt.text for prompt in protocol.prompts]
    table = fluency.fluency_table(protocol.reference.lm, ids, prompts, texts_of(completions))
    return Measured(tables={"fluency": table})


def _kl(lm: LanguageModel, protocol: Protocol) -> Measured:
    tables = {}
    if protocol.documents:
        tables["kl"] = closeness.document_kl_table(lm, protocol.documents)
    if protocol.prompts:
        tables["kl_first_token"] = closeness.first_token_table(lm, protocol.prompts, chat=protocol.chat)
    return Measured(tables=tables)


def _write_over_refusal(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.over_refusal is not None
    form = form_for(lm, protocol.over_refusal.form)
    return Measured(
        completions=over_refusal.write_answers(lm, protocol.over_refusal, protocol.sampling),
        summary=Summary(counts={"over_refusal_form": form}),
    )


def _over_refusal(protocol: Protocol, completions: Completions) -> Measured:
    assert protocol.over_refusal is not None
    return Measured(tables={"over_refusal": over_refusal.refusal_table(protocol.over_refusal, completions)})


def _over_refused(protocol: Protocol, tables: Tables) -> Summary:
    assert protocol.over_refusal is not None
    table, errors = tables["over_refusal"], protocol.over_refusal.judge_errors
    metrics = over_refusal.refusal_metrics(table) | over_refusal.corrected_metrics(table, errors or {})
    return Summary(metrics=metrics, counts={"over_refusal": over_refusal.refusal_counts(table)})


UTILITY: tuple[Stage, ...] = (
    Stage(
        name="lm_eval",
        asked=lambda p: p.lm_eval,
        depends_on=("lm_eval", "chat"),
        apart=by_lm_eval_task,
        together=_lm_evals,
        ready=_lm_eval_ready,
        measure=_lm_eval,
        summarise=_lm_eval_utility,
    ),
    Stage(
        name="diversity",
        asked=lambda p: p.diversity,
        depends_on=("prompts", "sampling", "chat"),
        judge=_diversity,
        reads="generate",
        summarise=from_table("diversity", diversity.diversity_metrics),
    ),
    Stage(
        name="fluency",
        asked=lambda p: p.reference,
        depends_on=("prompts", "sampling", "chat", "reference"),
        judge=_fluency,
        reads="generate",
        summarise=from_table("fluency", fluency.fluency_metrics),
    ),
    Stage(
        name="kl",
        asked=lambda p: p.kl,
        depends_on=("documents", "prompts", "chat", "kl"),
        measure=_kl,
        summarise=lambda p, tables: Summary(
            metrics=closeness.kl_metrics(tables.get("kl"), tables.get("kl_first_token"))
        ),
    ),
    Stage(
        name="write_over_refusal",
        asked=lambda p: p.over_refusal,
        depends_on=("over_refusal", "sampling"),
        measure=_write_over_refusal,
    ),
    Stage(
        name="over_refusal",
        asked=lambda p: p.over_refusal,
        depends_on=("over_refusal", "sampling"),
        judge=_over_refusal,
        reads="write_over_refusal",
        summarise=_over_refused,
    ),
    field_stage("stereotypes", bias.stereotype_table, bias.stereotype_metrics),
    field_stage(
        "bias_questions", bias.bias_question_table, bias.bias_question_metrics, counts=bias.bias_question_counts
    ),
    field_stage("group_texts", bias.group_text_table, bias.group_text_metrics),
)
