"""Who writes the paraphrases: a model in this process, also the one that is to be detoxified itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from detox.data.making.prompts import Instructions, form_for, require_form
from detox.errors import InputError
from detox.models import LanguageModel, Sampling, generate
from detox.models.tokenization import PromptLike

SAMPLING = Sampling(max_new_tokens=100, temperature=1.0, top_p=0.95, num_return_sequences=8, batch_size=32)
"""Eight paraphrases a side. Nothing is kept of a text that is cut off, so it is given room."""


class Request(NamedTuple):
    """One seed, one side."""

    seed: str
    text: str
    side: str


class Text(NamedTuple):
    """One answer, as the model wrote it, and why it ended: "stop", "length" or "content_filter"."""

    text: str
    finish_reason: str


class Answered(NamedTuple):
    """A request and all of its answers."""

    request: Request
    texts: tuple[Text, ...]


class Unanswered(NamedTuple):
    """A request that this writer cannot answer, though it may others."""

    request: Request
    reason: str


class Writer(Protocol):
    """Anything that writes paraphrases."""

    sampling: Sampling

    def identity(self) -> dict[str, Any]:
        """What decides the answers, as JSON: work that was begun with another is not gone on with."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the record: who wrote, without what is private."""
        ...

    def write(self, requests: Iterable[Request]) -> Iterator[Answered | Unanswered]:
        """Answer every request, in any order, as soon as it is known.

        Raises:
            EndpointFailed: no further request would be answered.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelWriter:
    """A language model in this process; the one to be detoxified can paraphrase for itself (the white box of Klein and Nabi).

    Attributes:
        lm: the handle; within `with detoxifier.applied(lm) as handle` it is the handle that writes.
        sampling: how; `num_return_sequences` paraphrases a request. A text depends on the seed, the prompt and its number alone,
            so what was killed and goes on is what would have been.
        instructions: what is asked.
        form: "chat" through the model's chat template, "plain" as text to be continued; None takes chat where there is a template.
        name: of the model, for the record.
        revision: of the model, for the record.
    """

    lm: LanguageModel
    sampling: Sampling = SAMPLING
    instructions: Instructions = field(default_factory=Instructions)
    form: str | None = None
    name: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.form is None:
            object.__setattr__(self, "form", form_for(self.lm, None))
        require_form(str(self.form))

    def identity(self) -> dict[str, Any]:
        """See `Writer`."""
        return {
            "kind": "model",
            "fingerprint": self.lm.fingerprint(),
            "form": self.form,
            "instructions": self.instructions.to_dict(),
            "sampling": sampling_settings(self.sampling),
        }

    def describe(self) -> dict[str, Any]:
        """See `Writer`."""
        return {**self.identity(), "name": self.name, "revision": self.revision, "edits": list(self.lm.edits)}

    def write(self, requests: Iterable[Request]) -> Iterator[Answered | Unanswered]:
        """See `Writer`."""
        size = max(1, self.sampling.batch_size // self.sampling.num_return_sequences)
        # Each call fills one batch, so that a kill loses no more than that.
        sampling = replace(self.sampling, batch_size=size * self.sampling.num_return_sequences)
        batch: list[Request] = []
        for request in requests:
            batch.append(request)
            if len(batch) == size:
                yield from self._write(batch, sampling)
                batch = []
        if batch:
            yield from self._write(batch, sampling)

    def _write(self, batch: list[Request], sampling: Sampling) -> Iterator[Answered | Unanswered]:
        try:
            completions = generate(self.lm, [self._prompt(request) for request in batch], sampling)
        except InputError as error:
            # Most likely one sentence that is too long for the model; the others need not suffer for it.
            if len(batch) == 1:
                yield Unanswered(batch[0], str(error))
                return
            for request in batch:
                yield from self._write([request], sampling)
            return
        for request, found in zip(batch, completions, strict=True):
            yield Answered(
                request, tuple(Text(one.text, "stop" if one.finish_reason == "eos" else "length") for one in found)
            )

    def _prompt(self, request: Request) -> PromptLike:
        return self.instructions.prompt(request.side, request.text, form=str(self.form))


def sampling_settings(sampling: Sampling) -> dict[str, Any]:
    """What of a sampling decides the texts, as JSON."""
    return {
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "num_return_sequences": sampling.num_return_sequences,
        "seed": sampling.seed,
    }
