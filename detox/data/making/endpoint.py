"""A writer behind an OpenAI-compatible address: vLLM, `transformers serve`, a provider."""

from __future__ import annotations

import os
import queue
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

from detox.data.making.completions import Garbage, NotServed, model_ids, said, seed_of, texts_of
from detox.data.making.prompts import Instructions, require_form
from detox.data.making.writers import SAMPLING, Answered, Request, Text, Unanswered, sampling_settings
from detox.errors import EndpointFailed, InputError, MissingData, UnknownName
from detox.models import Sampling

KEY_VARIABLE = "OPENAI_API_KEY"

GIVE_UP_AFTER = 5
"""Requests that in a row come to nothing before an endpoint is taken to be of no use."""

_LONGEST_WAIT = 30.0  # seconds between two attempts, unless the endpoint asks for more
_KEPT = "what was answered is kept, and the same command goes on from there"


@dataclass(frozen=True, eq=False, kw_only=True)
class EndpointWriter:
    """A model behind an address that speaks OpenAI's API, asked by several threads at once.

    An attempt that fails for a while (no connection, no answer in time, status 408, 409, 429 or 5xx, an answer that is no
    completion) is made again, with growing pauses or after the time that the endpoint names. The key is read from the environment
    variable OPENAI_API_KEY and is written nowhere.

    Attributes:
        url: base address, which most often ends in /v1.
        model: name of the model there; None where only one is served.
        sampling: how; `top_k` is not part of the API. An endpoint that gives fewer texts at once than `num_return_sequences` is
            asked for the rest.
        instructions: what is asked.
        form: "chat" for chat completions, "plain" for completions of plain text.
        concurrency: requests at once.
        timeout: seconds that an answer may take.
        retries: further attempts a request.
        pause: seconds before the second attempt; doubled before each further one.

    Raises:
        InputError: an address, a number or a sampling that cannot be meant.
        MissingData: the client library `openai` is not installed.
    """

    url: str
    model: str | None = None
    sampling: Sampling = SAMPLING
    instructions: Instructions = field(default_factory=Instructions)
    form: str = "chat"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 4
    pause: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"endpoint {self.url!r}; expected an address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise InputError(f"the endpoint's address holds a user name or password; set {KEY_VARIABLE} instead")
        require_form(self.form)
        if self.sampling.top_k is not None:
            raise InputError(f"top_k={self.sampling.top_k}: OpenAI's API knows no top_k; leave it out, or lower top_p")
        for name, value, least in (("concurrency", self.concurrency, 1), ("retries", self.retries, 0)):
            if value < least:
                raise InputError(f"{name} is {value}; expected at least {least}")
        for name, seconds in (("timeout", self.timeout), ("pause", self.pause)):
            if not seconds > 0:
                raise InputError(f"{name} is {seconds}; expected seconds above 0")
        _ = self.client

    @cached_property
    def client(self) -> Any:
        """The `openai` package's client."""
        try:
            import openai
        except ImportError as error:
            raise MissingData("openai is not installed; run: pip install 'detox-lm[endpoint]'") from error
        return openai.OpenAI(
            base_url=self.url,
            api_key=os.environ.get(KEY_VARIABLE) or "none",
            timeout=self.timeout,
            max_retries=0,  # attempts are counted here, where they can be stopped
        )

    def identity(self) -> dict[str, Any]:
        """See `Writer`. The address is not in it: a server may come back on another port."""
        return {
            "kind": "endpoint",
            "model": self.chosen_model,
            "form": self.form,
            "instructions": self.instructions.to_dict(),
            "sampling": sampling_settings(self.sampling),
        }

    def describe(self) -> dict[str, Any]:
        """See `Writer`; of a model that is known by its path there, the last part."""
        model = self.chosen_model
        return {**self.identity(), "model": model.rstrip("/").rpartition("/")[2] if model.startswith("/") else model}

    @cached_property
    def chosen_model(self) -> str:
        """The model that is asked: the one with the given name, else the only one served.

        Raises:
            EndpointFailed: the endpoint was asked for its models and does not answer.
            InputError: no model was named, and not exactly one is served.
        """
        if self.model is not None:
            return self.model
        served = self._served()
        if len(served) != 1:
            found = ", ".join(sorted(served)[:10]) or "no list of models"
            raise InputError(f"{self.url} serves {found}; name the model to ask")
        return served[0]

    def _served(self) -> list[str]:
        import openai

        try:
            # Not `models.list`, which takes for granted that a list comes back.
            asked = partial(self.client.get, "/models", cast_to=object)
            found: list[str] = self._attempts(lambda: model_ids(asked()), threading.Event())
        except NotServed:
            return []
        except (openai.OpenAIError, Garbage) as error:
            raise EndpointFailed(self._line(error)) from error
        return found

    def _not_there(self, error: NotServed) -> Exception:
        """What to say of status 404: the wrong model where the endpoint lists others, else the wrong address."""
        # Only then, for lists are not complete: some servers load any model that they are asked for, and list what they have seen.
        try:
            served = self._served()
        except EndpointFailed:
            served = []
        if served and self.chosen_model not in served:
            return UnknownName(f"model at {self.url}", self.chosen_model, served)
        return EndpointFailed(self._line(error))

    def write(self, requests: Iterable[Request]) -> Iterator[Answered | Unanswered]:
        """See `Writer`; at most `concurrency` requests are under way at once."""
        _ = self.chosen_model  # asked by this thread alone
        stop = threading.Event()
        todo: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[Answered | Unanswered | Exception | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                while (request := todo.get()) is not None and not stop.is_set():
                    done.put(self._answer(request, stop))
            finally:
                done.put(None)

        # Daemons, because a thread that waits for an answer cannot be woken: Ctrl-C should not have to wait with it.
        for _ in range(self.concurrency):
            threading.Thread(target=work, daemon=True).start()
        waiting = iter(requests)
        under_way = in_vain = 0
        try:
            while True:
                while under_way < self.concurrency and (request := next(waiting, None)) is not None:
                    todo.put(request)
                    under_way += 1
                if not under_way:
                    return
                answer = done.get()
                under_way -= 1
                if answer is None:
                    raise RuntimeError("a thread that asks the endpoint has ended; its traceback is above")
                if isinstance(answer, Exception):
                    raise answer
                yield answer
                in_vain = in_vain + 1 if isinstance(answer, Unanswered) else 0
                if in_vain >= GIVE_UP_AFTER and isinstance(answer, Unanswered):
                    raise EndpointFailed(
                        f"{self.url} answered none of {in_vain} requests in a row, the last: {answer.reason}; {_KEPT}"
                    )
        finally:
            stop.set()
            for _ in range(self.concurrency):
                todo.put(None)

    def _answer(self, request: Request, stop: threading.Event) -> Answered | Unanswered | Exception:
        import openai

        texts: list[Text] = []
        try:
            while len(texts) < self.sampling.num_return_sequences:
                texts += self._attempts(partial(self._ask, request, len(texts)), stop)
        except (openai.BadRequestError, openai.UnprocessableEntityError, Garbage) as error:
            return Unanswered(request, self._line(error))
        except NotServed as error:
            return self._not_there(error)
        except openai.OpenAIError as error:
            return EndpointFailed(f"{self._line(error)}; {_KEPT}")
        return Answered(request, tuple(texts[: self.sampling.num_return_sequences]))

    def _ask(self, request: Request, already: int) -> list[Text]:
        settings: dict[str, Any] = {
            "model": self.chosen_model,
            "max_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "n": self.sampling.num_return_sequences - already,
        }
        asked = self.instructions.plain(request.side, request.text)
        settings["seed"] = seed_of(self.sampling.seed, already, asked)
        if self.form == "plain":
            return texts_of(self.client.completions.create(prompt=asked, **settings))
        messages = self.instructions.conversation(request.side, request.text)
        return texts_of(self.client.chat.completions.create(messages=messages, **settings))

    def _attempts(self, attempt: Any, stop: threading.Event) -> Any:
        import openai

        pause = self.pause
        for left in range(self.retries, -1, -1):
            try:
                return attempt()
            except openai.NotFoundError as error:
                raise NotServed(f"status 404 ({said(error)})") from error
            except ValueError as error:  # JSON that is none, and bytes that are no text
                failure: Exception = Garbage(f"no JSON ({str(error).splitlines()[0]})")
            except (openai.APIConnectionError, openai.APIResponseValidationError, Garbage) as error:
                failure = error
            except openai.APIStatusError as error:
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    raise
                failure = error
                with suppress(ValueError):
                    pause = max(pause, min(float(error.response.headers.get("retry-after", 0)), 10 * _LONGEST_WAIT))
            # Threads that were turned away together should not come back together.
            if not left or stop.wait(pause * random.uniform(0.75, 1.25)):
                break
            pause = min(2 * pause, max(pause, _LONGEST_WAIT))
        raise failure

    def _line(self, error: Exception) -> str:
        """What was seen, what to do."""
        import openai

        times = f"{self.retries + 1} times" if self.retries else "once"
        if isinstance(error, openai.APITimeoutError):
            return f"{self.url} gave no answer within {self.timeout:g} s ({times} asked); allow more time, or ask fewer at once"
        if isinstance(error, openai.APIConnectionError):
            why = str(error.__cause__ or error).splitlines()[0]
            return f"cannot reach {self.url} ({why}; {times} tried); start the server there, or correct the address"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return (
                f"{self.url} refuses (status {error.status_code}: {said(error)}); set {KEY_VARIABLE} to a key it takes"
            )
        if isinstance(error, openai.RateLimitError):
            return f"{self.url} asks for fewer requests (status 429: {said(error)}; {times} asked); ask fewer at once"
        if isinstance(error, openai.APIStatusError):
            return f"{self.url} failed (status {error.status_code}: {said(error)})"
        if isinstance(error, NotServed):
            return f"{self.url} has no such place: {error}; expected a base address, which most often ends in /v1"
        return f"{self.url} answered {str(error) or type(error).__name__}; expected a completion as in OpenAI's API"
