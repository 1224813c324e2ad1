"""Every stage that a protocol can ask for, in the order of the scorecard. A new one goes to the end of `STAGES`."""

from __future__ import annotations

from detox.evaluation import heads, replies, rewriting, safety, understanding, utility
from detox.evaluation.protocol import Protocol
from detox.evaluation.stages import Completions, Measured, Stage, Summary, Tables, by_task, field_stage, from_table
from detox.evaluation.toxicity_stages import CONTINUED, UNPROMPTED
from detox.evaluation.utility_stages import UTILITY
from detox.models import LanguageModel


def _probe(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.probe is not None
    splits = understanding.probe_splits(protocol.probe)
    return Measured(
        tables={"probe": understanding.probe_table(lm, protocol.probe, splits)},
        summary=Summary(counts={"probe": splits.counts}, notes=[splits.shortage] if splits.shortage else []),
    )


def _head_probes(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.head_probes is not None
    probes, counts = heads.fit(lm, protocol.head_probes)
    return Measured(
        tables={"head_probes": heads.head_table(probes), "head_probe_texts": heads.text_table(probes)},
        summary=Summary(metrics=heads.head_metrics(probes), counts={"head_probes": counts}),
    )


def _write_replies(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.replies is not None
    return Measured(completions=replies.write_replies(lm, protocol, protocol.replies))


def _replies(protocol: Protocol, completions: Completions) -> Measured:
    assert protocol.replies is not None
    return Measured(tables={"replies": replies.reply_table(protocol, protocol.replies, completions)})


def _rewrite(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.rewriting is not None
    return Measured(completions=rewriting.rewrite(lm, protocol.rewriting, protocol.sampling))


def _rewriting(protocol: Protocol, completions: Completions) -> Measured:
    assert protocol.rewriting is not None
    return Measured(tables={"rewriting": rewriting.rewrite_table(protocol, protocol.rewriting, completions)})


def _rewritten(protocol: Protocol, tables: Tables) -> Summary:
    assert protocol.rewriting is not None
    table = tables["rewriting"]
    return Summary(
        metrics=rewriting.rewrite_metrics(protocol, protocol.rewriting, table),
        counts={"rewriting": rewriting.rewrite_counts(table)},
    )


def _safety_score(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.safety_score is not None
    return Measured(tables={"safety_score": safety.statement_table(lm, protocol.safety_score)})


def _safety(protocol: Protocol, tables: Tables) -> Summary:
    assert protocol.safety_score is not None
    groups = safety.group_scores(tables["safety_score"], significance=protocol.safety_score.significance)
    return Summary(
        metrics=safety.safety_metrics(tables["safety_score"], groups),
        counts={"safety_score": safety.safety_counts(groups)},
        notes=safety.skipped_note(groups),
    )


STAGES: tuple[Stage, ...] = (
    *CONTINUED,
    field_stage("documents", utility.document_table, utility.document_metrics),
    field_stage("toxic_documents", utility.risky_document_table, utility.risky_document_metrics),
    Stage(
        name="multiple_choice",
        asked=lambda p: any(p.multiple_choice.values()),
        depends_on=("multiple_choice",),
        apart=by_task,
        measure=lambda lm, p: Measured(tables={"multiple_choice": utility.choice_table(lm, p.multiple_choice)}),
        summarise=from_table("multiple_choice", utility.choice_metrics),
    ),
    field_stage("minimal_pairs", utility.pair_table, utility.pair_metrics),
    field_stage("recognition", understanding.recognition_table, understanding.recognition_metrics),
    Stage(
        name="probe",
        asked=lambda p: p.probe,
        depends_on=("probe",),
        measure=_probe,
        summarise=from_table("probe", understanding.probe_metrics),
    ),
    Stage(name="head_probes", asked=lambda p: p.head_probes, depends_on=("head_probes",), measure=_head_probes),
    Stage(
        name="write_replies",
        asked=lambda p: p.replies,
        depends_on=("replies", "sampling"),
        measure=_write_replies,
    ),
    Stage(
        name="replies",
        asked=lambda p: p.replies,
        depends_on=("replies", "sampling", "threshold", "threshold_operator", "headline"),
        judge=_replies,
        reads="write_replies",
        summarise=from_table("replies", replies.reply_metrics, counts=replies.reply_counts),
    ),
    Stage(
        name="rewrite",
        asked=lambda p: p.rewriting,
        depends_on=("rewriting", "sampling"),
        measure=_rewrite,
    ),
    Stage(
        name="rewriting",
        asked=lambda p: p.rewriting,
        depends_on=("rewriting", "sampling", "headline"),
        judge=_rewriting,
        reads="rewrite",
        summarise=_rewritten,
    ),
    field_stage("margins", utility.margin_table, utility.margin_metrics, field="contrasts"),
    Stage(
        name="safety_score",
        asked=lambda p: p.safety_score,
        depends_on=("safety_score",),
        measure=_safety_score,
        summarise=_safety,
    ),
    *UNPROMPTED,
    *UTILITY,
)
