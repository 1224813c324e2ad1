"""Every stage that a protocol can ask for, in the order of the scorecard. A new one goes to the end of `STAGES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from detox.evaluation import heads, replies, rewriting, safety, understanding, utility
from detox.evaluation.protocol import Protocol
from detox.evaluation.scorecard import Table
from detox.evaluation.stages import Completions, Measured, Stage, Summary, Tables, by_task
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


def _recognition(lm: LanguageModel, protocol: Protocol) -> Measured:
    assert protocol.recognition is not None
    return Measured(tables={"recognition": understanding.recognition_table(lm, protocol.recognition)})


def _table(
    name: str, make: Callable[[LanguageModel, Protocol], Table]
) -> Callable[[LanguageModel, Protocol], Measured]:
    return lambda lm, protocol: Measured(tables={name: make(lm, protocol)})


def _metrics(name: str, of: Callable[[Table], Mapping[str, object]]) -> Callable[[Protocol, Tables], Summary]:
    return lambda protocol, tables: Summary(metrics=of(tables[name]))  # type: ignore[arg-type]


STAGES: tuple[Stage, ...] = (
    *CONTINUED,
    Stage(
        name="documents",
        asked=lambda p: p.documents,
        depends_on=("documents",),
        measure=_table("documents", lambda lm, p: utility.document_table(lm, p.documents)),
        summarise=_metrics("documents", utility.document_metrics),
    ),
    Stage(
        name="toxic_documents",
        asked=lambda p: p.toxic_documents,
        depends_on=("toxic_documents",),
        measure=_table("toxic_documents", lambda lm, p: utility.risky_document_table(lm, p.toxic_documents)),
        summarise=_metrics("toxic_documents", utility.risky_document_metrics),
    ),
    Stage(
        name="multiple_choice",
        asked=lambda p: any(p.multiple_choice.values()),
        depends_on=("multiple_choice",),
        apart=by_task,
        measure=_table("multiple_choice", lambda lm, p: utility.choice_table(lm, p.multiple_choice)),
        summarise=_metrics("multiple_choice", utility.choice_metrics),
    ),
    Stage(
        name="minimal_pairs",
        asked=lambda p: p.minimal_pairs,
        depends_on=("minimal_pairs",),
        measure=_table("minimal_pairs", lambda lm, p: utility.pair_table(lm, p.minimal_pairs)),
        summarise=_metrics("minimal_pairs", utility.pair_metrics),
    ),
    Stage(
        name="recognition",
        asked=lambda p: p.recognition,
        depends_on=("recognition",),
        measure=_recognition,
        summarise=_metrics("recognition", understanding.recognition_metrics),
    ),
    Stage(
        name="probe",
        asked=lambda p: p.probe,
        depends_on=("probe",),
        measure=_probe,
        summarise=_metrics("probe", understanding.probe_metrics),
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
        summarise=lambda p, tables: Summary(
            metrics=replies.reply_metrics(tables["replies"]),
            counts={"replies": replies.reply_counts(tables["replies"])},
        ),
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
    Stage(
        name="margins",
        asked=lambda p: p.contrasts,
        depends_on=("contrasts",),
        measure=_table("margins", lambda lm, p: utility.margin_table(lm, p.contrasts)),
        summarise=_metrics("margins", utility.margin_metrics),
    ),
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
