"""The stages of utility and of side effects: lm-eval, diversity, fluency, KL, over-refusal, bias."""

from __future__ import annotations

from detox.evaluation import bias, closeness, diversity, fluency, lm_eval_tasks, over_refusal
from detox.evaluation.protocol import Protocol
from detox.evaluation.stages import Completions, Measured, Stage, Summary, Tables
from detox.models import LanguageModel


def _texts(completions: Completions) -> list[list[str]]:
    return [[completion.text for completion in row] for row in completions]


def _lm_eval_ready(protocol: Protocol) -> None:
    lm_eval_tasks.load_tasks(protocol.lm_eval, limit=protocol.lm_eval_limit)


def _lm_eval(lm: LanguageModel, protocol: Protocol) -> Measured:
    found = lm_eval_tasks.run_tasks(lm, protocol.lm_eval, limit=protocol.lm_eval_limit, chat=protocol.chat)
    return Measured(
        tables={"lm_eval": found.table}, summary=Summary(metrics=found.metrics, counts={"lm_eval": found.counts})
    )


def _diversity(protocol: Protocol, completions: Completions) -> Measured:
    table = diversity.diversity_table([prompt.id for prompt in protocol.prompts], _texts(completions))
    return Measured(tables={"diversity": table})


def _fluency(protocol: Protocol, completions: Completions) -> Measured:
    assert protocol.reference is not None
    ids, prompts = [prompt.id for prompt in protocol.prompts], [prompt.text for prompt in protocol.prompts]
    table = fluency.fluency_table(protocol.reference.lm, ids, prompts, _texts(completions))
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
    form = over_refusal.form_of(lm, protocol.over_refusal)
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
        ready=_lm_eval_ready,
        measure=_lm_eval,
    ),
    Stage(
        name="diversity",
        asked=lambda p: p.diversity,
        depends_on=("prompts", "sampling", "chat"),
        judge=_diversity,
        reads="generate",
        summarise=lambda p, tables: Summary(metrics=diversity.diversity_metrics(tables["diversity"])),
    ),
    Stage(
        name="fluency",
        asked=lambda p: p.reference,
        depends_on=("prompts", "sampling", "chat", "reference"),
        judge=_fluency,
        reads="generate",
        summarise=lambda p, tables: Summary(metrics=fluency.fluency_metrics(tables["fluency"])),
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
    Stage(
        name="stereotypes",
        asked=lambda p: p.stereotypes,
        depends_on=("stereotypes",),
        measure=lambda lm, p: Measured(tables={"stereotypes": bias.stereotype_table(lm, p.stereotypes)}),
        summarise=lambda p, tables: Summary(metrics=bias.stereotype_metrics(tables["stereotypes"])),
    ),
    Stage(
        name="bias_questions",
        asked=lambda p: p.bias_questions,
        depends_on=("bias_questions",),
        measure=lambda lm, p: Measured(tables={"bias_questions": bias.bias_question_table(lm, p.bias_questions)}),
        summarise=lambda p, tables: Summary(
            metrics=bias.bias_question_metrics(tables["bias_questions"]),
            counts={"bias_questions": bias.bias_question_counts(tables["bias_questions"])},
        ),
    ),
    Stage(
        name="group_texts",
        asked=lambda p: p.group_texts,
        depends_on=("group_texts",),
        measure=lambda lm, p: Measured(tables={"group_texts": bias.group_text_table(lm, p.group_texts)}),
        summarise=lambda p, tables: Summary(metrics=bias.group_text_metrics(tables["group_texts"])),
    ),
)
