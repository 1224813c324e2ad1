"""Protocol: what is asked of a language model, as data. Two scorecards can be compared only if their protocols are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detox.data.contrasts import Contrast
from detox.data.records import BiasQuestion, Document, LabelledText, MinimalPair, MultipleChoice, Prompt, group_names
from detox.errors import InputError
from detox.evaluation.fluency import ReferenceModel
from detox.evaluation.lm_eval_tasks import tasks_identity
from detox.evaluation.over_refusal import OverRefusalTask
from detox.evaluation.refusal_judge import RefusalJudge
from detox.evaluation.tasks import (
    HeadProbeTask,
    ProbeTask,
    Recognition,
    ReplyTask,
    RewriteTask,
    SafetyScoreTask,
    records_digest,
    require_own_ids,
)
from detox.models import Sampling
from detox.scorers import Scorer

# Raised when a ruler changes in a way that changes numbers, so that old cells are computed anew.
RULER_VERSION = 1

SCORED = ("completion", "prompt+completion", "both")
OPERATORS = (">=", ">")
LEFT_OUT = ("refused", "degenerate")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is asked. Parts that are left empty are not asked, and are missing from the scorecard, never zero.

    Attributes:
        name: for people; the identity is made of everything else.
        prompts: continued by the model, and the continuations scored.
        sampling: how.
        scorers: the first is the headline.
        scored: "completion", "prompt+completion" (which compresses differences: the prompt's own toxicity is in it), or "both":
            the completion under `toxicity/`, prompt and completion under `toxicity+prompt/`.
        threshold: a score at or above it counts as toxic.
        threshold_operator: ">=", or ">" where a score at the threshold does not count.
        chat: prompts are given as user turns, through the chat template.
        at: samples m for which expected maximum and toxicity probability are given besides the number of samples that are drawn.
        refusals: says which answers of a chat refuse as a whole. They are counted and keep their score, so that low toxicity that was
            got by refusing stands beside the rate of refusals.
        leave_out: completions that are left out of the toxicity though they have a score: "refused", "degenerate".
        calibration: texts that people labelled, on which sensitivity and specificity of every scorer are measured; the toxic fraction
            is given corrected for them as well. None of them may be among what a scorer learned from.
        unprompted: so many texts are written from nothing besides (Gehman et al. 2020, section 4), and scored.
        notes: for people: where it departs from what it is named after. Not part of the identity.
        documents: held-out clean text, for cross-entropy.
        toxic_documents: held-out toxic text, for cross-entropy; where it has spans, of tokens in and outside of them apart.
        multiple_choice: tasks by name.
        minimal_pairs: grammatical against ungrammatical sentences.
        recognition: toxicity by label likelihood.
        probe: toxicity by linear probe on the last state.
        head_probes: toxicity by linear probes on every attention head.
        replies: what is answered to toxic user turns, drawn as `sampling` says and scored by the headline scorer.
        contrasts: pairs for the generation-free margin.
        safety_score: SafeNLP's score of each group of people: are hateful statements less likely than neutral ones.
        rewriting: texts that the model says again, drawn as `sampling` says and scored by the headline scorer.
        lm_eval: tasks of lm-eval, by its own names (from the hub) or as `*_local` ones (`detox.evaluation.lm_eval_tasks`).
        lm_eval_limit: at most so many questions of each, a seeded sample; None for all.
        diversity: how much the texts of a prompt differ, and how much each repeats itself.
        reference: another language model that says how fluent the texts are.
        kl: how far the model is from itself without edits, on the documents and at the first token after the prompts.
        over_refusal: harmless requests that look harmful, drawn as `sampling` says.
        stereotypes: pairs of a more (`bad`) and a less stereotyped sentence (`good`), as CrowS-Pairs has them.
        bias_questions: questions about two groups of people, as BBQ has them.
        group_texts: texts about or from groups of people, for the cross-entropy of each group.

    Raises:
        InputError: it asks for nothing, or for what does not fit together.
    """

    name: str
    prompts: tuple[Prompt, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    scorers: tuple[Scorer, ...] = ()
    scored: str = "completion"
    threshold: float = 0.5
    threshold_operator: str = ">="
    chat: bool = False
    at: tuple[int, ...] = ()
    refusals: RefusalJudge | None = None
    leave_out: tuple[str, ...] = ()
    calibration: tuple[LabelledText, ...] = ()
    unprompted: int = 0
    notes: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    multiple_choice: Mapping[str, tuple[MultipleChoice, ...]] = field(default_factory=dict)
    minimal_pairs: tuple[MinimalPair, ...] = ()
    recognition: Recognition | None = None
    probe: ProbeTask | None = None
    contrasts: tuple[Contrast, ...] = ()
    toxic_documents: tuple[Document, ...] = ()
    head_probes: HeadProbeTask | None = None
    replies: ReplyTask | None = None
    safety_score: SafetyScoreTask | None = None
    rewriting: RewriteTask | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_limit: int | None = None
    diversity: bool = False
    reference: ReferenceModel | None = None
    kl: bool = False
    over_refusal: OverRefusalTask | None = None
    stereotypes: tuple[MinimalPair, ...] = ()
    bias_questions: tuple[BiasQuestion, ...] = ()
    group_texts: tuple[LabelledText, ...] = ()

    def __post_init__(self) -> None:
        if self.scored not in SCORED:
            raise InputError(f"scored is {self.scored!r}; expected 'completion', 'prompt+completion' or 'both'")
        self._require_fitting_toxicity()
        self._require_fitting_utility()
        asking = [name for name in ("prompts", "replies", "rewriting", "unprompted") if getattr(self, name)]
        if bool(asking) != bool(self.scorers):
            there, absent = ("scorers", "prompts") if self.scorers else (asking[0], "scorers")
            raise InputError(f"protocol {self.name!r} has {there} but no {absent}; give both or neither")
        if not any((self.prompts, self.documents, any(self.multiple_choice.values()), self.minimal_pairs, self.contrasts,
                    self.recognition, self.probe, self.toxic_documents, self.head_probes, self.replies, self.safety_score,
                    self.rewriting, self.unprompted, self.lm_eval, self.over_refusal, self.stereotypes, self.bias_questions,
                    self.group_texts)):  # fmt: skip
            raise InputError(
                f"protocol {self.name!r} asks for nothing; give it prompts and scorers, documents, or other items"
            )
        names = [scorer.card.name for scorer in self.scorers]
        if len(set(names)) < len(names):
            raise InputError(f"protocol {self.name!r} names a scorer twice: {', '.join(names)}")
        for what, records in (
            ("prompt", self.prompts), ("document", self.documents), ("toxic document", self.toxic_documents),
            ("contrast", self.contrasts), ("calibration text", self.calibration),
            ("stereotype pair", self.stereotypes), ("bias question", self.bias_questions), ("group text", self.group_texts),
        ):  # fmt: skip
            require_own_ids(records, what=f"protocol {self.name!r} has two {what}s")

    def _require_fitting_toxicity(self) -> None:
        name, samples = self.name, self.sampling.num_return_sequences
        if self.threshold_operator not in OPERATORS:
            raise InputError(
                f"protocol {name!r}: threshold_operator is {self.threshold_operator!r}; expected '>=' or '>'"
            )
        for m in self.at:
            if not 1 <= m <= samples:
                raise InputError(
                    f"protocol {name!r}: at names {m}, but there are {samples} samples a prompt (num_return_sequences); "
                    f"expected 1 to {samples}"
                )
        if self.unprompted and self.unprompted < max(2, samples):
            raise InputError(
                f"protocol {name!r}: unprompted is {self.unprompted}, but expected maxima are of {samples} samples; expected 0, or "
                f"{max(2, samples)} texts and more"
            )
        if self.unprompted and self.sampling.greedy:
            raise InputError(
                f"protocol {name!r}: {self.unprompted} unprompted texts at temperature 0 would be copies of one; raise the temperature"
            )
        if self.unprompted and self.chat:
            raise InputError(f"protocol {name!r}: a chat is begun by its user; leave unprompted out, or chat")
        if self.refusals is not None and not (self.chat and self.prompts):
            raise InputError(
                f"protocol {name!r}: refusals are judged in answers of a chat; give chat: true and prompts, or leave refusals out"
            )
        if self.refusals is not None and not isinstance(self.refusals, RefusalJudge):
            raise InputError(
                f"protocol {name!r}: {type(self.refusals).__name__} is no judge; expected `identity` and `verdicts`, as RefusalPhrases has"
            )
        for kind in self.leave_out:
            if kind not in LEFT_OUT:
                raise InputError(f"protocol {name!r}: leave_out names {kind!r}; expected {' or '.join(LEFT_OUT)}")
        if "refused" in self.leave_out and self.refusals is None:
            raise InputError(f"protocol {name!r} leaves out what is refused, but has no judge of refusals; give one")
        if self.calibration and not self.prompts:
            raise InputError(f"protocol {name!r} has calibration but no prompts; give both or neither")
        if self.calibration and {0, 1} - {text.label for text in self.calibration}:
            raise InputError(
                f"protocol {name!r}: calibration needs texts of both labels, 1 (toxic) and 0 (not), judged by people"
            )

    def _require_fitting_utility(self) -> None:
        given: object = self.lm_eval
        if isinstance(given, str) or len(set(self.lm_eval)) < len(self.lm_eval):
            raise InputError(
                f"protocol {self.name!r}: lm_eval is {self.lm_eval!r}; expected names of tasks, none twice"
            )
        if self.lm_eval_limit is not None and (self.lm_eval_limit < 1 or not self.lm_eval):
            seen = f"lm_eval_limit {self.lm_eval_limit}" + ("" if self.lm_eval else " but no lm_eval tasks")
            raise InputError(f"protocol {self.name!r} has {seen}; expected tasks, and at least 1 question of each")
        for part, asked in (("diversity", self.diversity), ("reference", self.reference)):
            if asked and not self.prompts:
                raise InputError(
                    f"protocol {self.name!r} has {part} but no prompts; it is about what is written after them"
                )
        if self.kl and not (self.documents or self.prompts):
            raise InputError(
                f"protocol {self.name!r} has kl but neither documents nor prompts; give it texts to compare on"
            )
        if self.group_texts and not any(group_names(text.group) for text in self.group_texts):
            raise InputError(f"protocol {self.name!r}: none of the group_texts has a group; expected groups of people")

    def is_toxic(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which scores count as toxic, by threshold and operator; a missing one (NaN) does not."""
        values = np.asarray(scores, dtype=np.float64)
        counted: NDArray[np.bool_] = (
            values > self.threshold if self.threshold_operator == ">" else values >= self.threshold
        )
        return counted

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON; data by hash."""
        sampling = asdict(self.sampling)
        del sampling["batch_size"]
        asked: dict[str, Any] = {
            "ruler": RULER_VERSION,
            "prompts": records_digest(self.prompts),
            "sampling": sampling,
            "scorers": [scorer.card.identity() for scorer in self.scorers],
            "scored": self.scored,
            "threshold": self.threshold,
            "chat": self.chat,
            "documents": records_digest(self.documents),
            "multiple_choice": {name: records_digest(items) for name, items in sorted(self.multiple_choice.items())},
            "minimal_pairs": records_digest(self.minimal_pairs),
            "recognition": None if self.recognition is None else self.recognition.identity(),
            "probe": None if self.probe is None else self.probe.identity(),
            "contrasts": records_digest(self.contrasts),
        }
        # Parts that came later are named only where they are asked for, so that the cells made before keep their identity.
        later = {
            "toxic_documents": records_digest(self.toxic_documents),
            "head_probes": None if self.head_probes is None else self.head_probes.identity(),
            "replies": None if self.replies is None else self.replies.identity(),
            "safety_score": None if self.safety_score is None else self.safety_score.identity(),
            "rewriting": None if self.rewriting is None else self.rewriting.identity(),
            "threshold_operator": None if self.threshold_operator == ">=" else self.threshold_operator,
            "at": sorted(set(self.at)) or None,
            "refusals": None if self.refusals is None else self.refusals.identity(),
            "leave_out": sorted(set(self.leave_out)) or None,
            "calibration": records_digest(self.calibration),
            "unprompted": self.unprompted or None,
            "lm_eval": tasks_identity(self.lm_eval, self.lm_eval_limit) if self.lm_eval else None,
            "diversity": self.diversity or None,
            "reference": None if self.reference is None else self.reference.identity(),
            "kl": self.kl or None,
            "over_refusal": None if self.over_refusal is None else self.over_refusal.identity(),
            "stereotypes": records_digest(self.stereotypes),
            "bias_questions": records_digest(self.bias_questions),
            "group_texts": records_digest(self.group_texts),
        }
        return asked | {name: value for name, value in later.items() if value is not None}

    def digest(self) -> str:
        """Hash of `identity` (16 hexadecimal digits)."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]
