"""The parts of a protocol that are more than a list of records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from detox.data.making.prompts import Instructions, require_form
from detox.data.making.similarity import Embedder
from detox.data.records import LabelledText, Prompt, group_names
from detox.errors import InputError, require_known
from detox.evaluation.judges import Judge, PhraseJudge

REGRESSIONS = ("standardised", "paper")
SPLITS = ("texts", "groups")
UNGROUPED = "ungrouped"
MEANS = ("mean", "mean_all_groups", "mean_undivided")


def records_digest(records: Iterable[Any]) -> str | None:
    """Hash of the records, every field and their order (16 hexadecimal digits); None for none."""
    rows = [json.dumps(_as_json(record), sort_keys=True) for record in records]
    return hashlib.sha256("\n".join(rows).encode(errors="surrogatepass")).hexdigest()[:16] if rows else None


def require_own_ids(records: Iterable[Any], *, what: str) -> None:
    """Refuse records of which two have one id.

    Raises:
        InputError: begins with `what`, "task: two prompts", and names the id.
    """
    ids: set[str] = set()
    for record in records:
        if record.id in ids:
            raise InputError(f"{what} with id {record.id!r}; ids must be unique")
        ids.add(record.id)


def _as_json(record: Any) -> dict[str, Any]:
    row = asdict(record)
    for span in row.get("spans", ()):
        if span.get("kind") == "toxic":  # what a span was before there were kinds; its hash stays
            del span["kind"]
    if row.get("right", 0) is None:  # as was every question before there were several right answers
        del row["right"]
    return row


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Does the model still recognise toxicity: which of two labels does it find likelier after a text.

    Attributes:
        items: labelled texts.
        template: "{text}" in it is replaced by the text.
        toxic, safe: the two labels, as they would stand after the template (with their leading blank).
    """

    items: tuple[LabelledText, ...]
    template: str = "{text}"
    toxic: str = " Yes"
    safe: str = " No"

    def __post_init__(self) -> None:
        if "{text}" not in self.template:
            raise InputError(f"recognition template {self.template!r} has no {{text}} in it")

    def identity(self) -> list[Any]:
        """Everything that changes a number, as JSON."""
        return [records_digest(self.items), self.template, self.toxic, self.safe]


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Can toxicity be read off the model's last state: a linear probe, fitted on some texts and judged on others.

    Either `train` and `test` are given, or `items`: one pool, from which each subsample draws a class-balanced train and test
    set of its own (SLUNG's protocol: 8000 and 2000 texts, three times; arXiv 2505.03052, code ryanyxw/llm-decouple). Where the
    pool holds fewer, both sets shrink in the same proportion, and the scorecard's counts say to what. No text is on both
    sides of a subsample; the subsamples share the pool.

    Attributes:
        train: what the probe is fitted on.
        test: what it is judged on.
        items: the pool; texts without a label, and texts that come again, are left out.
        train_size: texts of a subsample's train set, even, half of them toxic.
        test_size: texts of its test set, even, half of them toxic.
        subsamples: how many.
        seed: of the draws.
        regression: "standardised": features divided by their spread, C = 0.1, which the solver needs to converge; "paper":
            scikit-learn's LogisticRegression(class_weight="balanced", max_iter=5000) on the states as they are.

    Raises:
        InputError: neither form, or both; a size that is not even and positive.
    """

    train: tuple[LabelledText, ...] = ()
    test: tuple[LabelledText, ...] = ()
    items: tuple[LabelledText, ...] = ()
    train_size: int = 8000
    test_size: int = 2000
    subsamples: int = 3
    seed: int = 0
    regression: str = "standardised"

    def __post_init__(self) -> None:
        if bool(self.items) == bool(self.train or self.test):
            seen = "both" if self.items else "neither"
            raise InputError(f"probe: expected either items, or train and test; it has {seen}")
        if not self.items and not (self.train and self.test):
            raise InputError(f"probe has no {'test' if self.train else 'train'}; expected train and test, or items")
        for name in ("train_size", "test_size"):
            if getattr(self, name) < 2 or getattr(self, name) % 2:
                raise InputError(
                    f"probe: {name} is {getattr(self, name)}; expected an even number, half for each class"
                )
        if self.subsamples < 1:
            raise InputError(f"probe: subsamples is {self.subsamples}; expected at least 1")
        require_known("regression of the probe", self.regression, REGRESSIONS)

    def identity(self) -> Any:
        """Everything that changes a number, as JSON; that of a train and a test set is what it always was."""
        fixed = [records_digest(self.train), records_digest(self.test)]
        if not self.items:
            return fixed if self.regression == "standardised" else [*fixed, self.regression]
        sizes = {"train_size": self.train_size, "test_size": self.test_size, "subsamples": self.subsamples}
        return {"items": records_digest(self.items), **sizes, "seed": self.seed, "regression": self.regression}


@dataclass(frozen=True, kw_only=True)
class HeadProbeTask:
    """What single attention heads know: a linear probe on every head's output at the last token (arXiv 2505.04741, section 4).

    Attributes:
        items: labelled texts; texts without a label, and texts that come again, are left out.
        heldout: share of the texts (or groups) that the probes are judged on; the paper splits 4:1.
        C: inverse regularisation of scikit-learn's LogisticRegression, on standardised features.
        seed: of the split.
        split: "texts", or "groups" to keep texts of one `group` together, which asks what is known of groups never seen.

    Raises:
        InputError: no texts, or a number out of range.
        UnknownName: another kind of split.
    """

    items: tuple[LabelledText, ...]
    heldout: float = 0.2
    C: float = 1.0
    seed: int = 0
    split: str = "texts"

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("head probes have no items; expected labelled texts")
        if not 0 < self.heldout < 1:
            raise InputError(f"head probes: heldout is {self.heldout}; expected a share in (0, 1)")
        if not self.C > 0:
            raise InputError(f"head probes: C is {self.C}; expected a positive number")
        require_known("split of head probes", self.split, SPLITS)

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON."""
        numbers = {"heldout": self.heldout, "C": self.C, "seed": self.seed}
        return {"items": records_digest(self.items), **numbers, "split": self.split}


@dataclass(frozen=True, kw_only=True)
class SafetyScoreTask:
    """SafeNLP's safety score: are hateful statements about a group less likely than neutral ones? Nothing is generated.

    Hosseini et al. 2023 (code microsoft/SafeNLP); see `detox.evaluation.safety` for the arithmetic.

    Attributes:
        items: statements with a label, a `group` (several joined by "+"; none counts as one group, "ungrouped") and a degree in
            `score` where there is one. Those without a label are left out.
        significance: a group whose Mann-Whitney test gives a larger p is skipped, as in the paper.

    Raises:
        InputError: no group has statements of both labels; a number out of range; an id that comes again.
    """

    items: tuple[LabelledText, ...]
    significance: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.significance <= 1:
            raise InputError(f"safety score: significance is {self.significance}; expected a number in (0, 1]")
        require_own_ids(self.items, what="safety score: two statements")
        labels: dict[str, set[int]] = {}
        for item in self.items:
            if item.label is not None:
                for name in group_names(item.group) or (UNGROUPED,):
                    labels.setdefault(name, set()).add(item.label)
        if not any(len(found) == 2 for found in labels.values()):
            raise InputError(
                f"safety score: none of {len(labels)} groups has both hateful and neutral statements; expected labels 1 and 0 "
                "with groups, as in the set toxigen_groups"
            )
        for name in MEANS:
            if name in labels:
                raise InputError(f"safety score: a group is called {name!r}, as a metric is; give it another name")

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON."""
        return {"items": records_digest(self.items), "significance": self.significance}


@dataclass(frozen=True, kw_only=True)
class ReplyTask:
    """What the model answers to a toxic user turn: it echoes it, ignores it, addresses it, or says nothing.

    Attributes:
        prompts: toxic user turns.
        judge: says which replies address the toxicity.
        template: "{text}" in it is replaced by the turn, and the model continues it as plain text; None puts the turn through
            the tokenizer's chat template.

    Raises:
        InputError: no prompts, or a template without {text}.
    """

    prompts: tuple[Prompt, ...]
    judge: Judge = field(default_factory=PhraseJudge)
    template: str | None = None

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError("replies have no prompts; expected toxic user turns")
        if self.template is not None and "{text}" not in self.template:
            raise InputError(f"replies: template {self.template!r} has no {{text}} in it")
        if not isinstance(self.judge, Judge):
            raise InputError(
                f"replies: {type(self.judge).__name__} is no judge; expected `identity` and `addresses`, as PhraseJudge has"
            )
        require_own_ids(self.prompts, what="replies have two prompts")

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON; the judge by its own identity."""
        return {"prompts": records_digest(self.prompts), "judge": self.judge.identity(), "template": self.template}


@dataclass(frozen=True, kw_only=True)
class RewriteTask:
    """What a model makes of texts that it is asked to say again: how toxic that is, and how near in meaning.

    Klein & Nabi 2025, arXiv 2401.08491, section 4: their held-out sentences, or, where another model wrote the texts, the
    black-box use of a detoxified model.

    Attributes:
        texts: what is to be said again; where some have label 1 and some 0, metrics are given for each as well.
        embedder: says how near two texts are (`detox.data.making.similarity.load_embedder`).
        instructions: the wording of the request, of which `safe` is used; the paper's by default.
        form: "chat" through the chat template, "plain" as text to be continued; None takes chat where there is a template.

    Raises:
        InputError: no texts, one that is empty or has several lines, an id that comes again, or no embedder.
        UnknownName: another form.
    """

    texts: tuple[LabelledText, ...]
    embedder: Embedder
    instructions: Instructions = field(default_factory=Instructions)
    form: str | None = None

    def __post_init__(self) -> None:
        if not self.texts:
            raise InputError("rewriting has no texts; expected at least one")
        if self.form is not None:
            require_form(self.form)
        for name in ("identity", "embed"):
            if not callable(getattr(self.embedder, name, None)):
                raise InputError(
                    f"rewriting: {type(self.embedder).__name__} is no embedder; expected `identity` and `embed`, as load_embedder gives"
                )
        require_own_ids(self.texts, what="rewriting: two texts")
        for one in self.texts:
            lines = len(one.text.strip().splitlines())
            if lines != 1:
                raise InputError(
                    f"rewriting: text {one.id!r} has {lines} lines; expected one, since the first line of an answer is its paraphrase"
                )

    def identity(self) -> dict[str, Any]:
        """Everything that changes a number, as JSON."""
        asked = {
            "instruction": self.instructions.safe,
            "closing": self.instructions.closing,
            "frame": self.instructions.frame,
        }
        return {"texts": records_digest(self.texts), "embedder": self.embedder.identity(), "form": self.form, **asked}
