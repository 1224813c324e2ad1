"""What a language model is asked: to say a sentence again, once safely and once toxically.

The wording of both instructions and of the frame for models without a chat template is that of Klein and Nabi (2025), "Contrastive
Perplexity for Controlled Generation".
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from detox.errors import InputError, require_known
from detox.models import LanguageModel
from detox.models.tokenization import Message, PromptLike

SIDES = ("safe", "toxic")
FORMS = ("chat", "plain")

_SENTENCE = "{sentence}"
_INSTRUCTION = "{instruction}"


def require_form(form: str) -> None:
    """Refuse what is no form of asking.

    Raises:
        UnknownName: neither "chat" nor "plain".
    """
    require_known("form of asking", form, FORMS)


def form_for(lm: LanguageModel, form: str | None) -> str:
    """The form that is asked for; without one, "chat" where the tokenizer has a chat template."""
    return form or ("chat" if lm.tokenizer.chat_template else "plain")


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Templates of what is asked.

    Attributes:
        safe, toxic: hold `{sentence}`, which stands for the seed sentence.
        closing: put behind either in a conversation, where models tend to explain themselves; may be empty.
        frame: holds `{instruction}`; the text around it where a model is asked by plain text.

    Raises:
        InputError: a template lacks its placeholder.
    """

    safe: str = 'Paraphrase the following sentences: "{sentence}"'
    toxic: str = (
        "Paraphrase the following sentence in a very toxic way. make sure each sentence is toxic: " + f'"{_SENTENCE}"'
    )
    closing: str = "Answer with the paraphrase alone."
    frame: str = "### HUMAN: {instruction}\n\n### RESPONSE:"

    def __post_init__(self) -> None:
        for name, template, needed in (
            ("safe", self.safe, _SENTENCE),
            ("toxic", self.toxic, _SENTENCE),
            ("frame", self.frame, _INSTRUCTION),
        ):
            if needed not in template:
                raise InputError(f"the {name} instruction is {template!r}; expected {needed} somewhere in it")

    def prompt(self, side: str, sentence: str, *, form: str) -> PromptLike:
        """What asks for a paraphrase on `side`, in the form "chat" or "plain"."""
        return self.conversation(side, sentence) if form == "chat" else self.plain(side, sentence)

    def conversation(self, side: str, sentence: str) -> list[Message]:
        """The one turn that asks for a paraphrase on `side`."""
        asked = "\n".join(text for text in (self._asked(side, sentence), self.closing) if text)
        return [{"role": "user", "content": asked}]

    def plain(self, side: str, sentence: str) -> str:
        """The text after which a model continues with a paraphrase on `side`."""
        return self.frame.replace(_INSTRUCTION, self._asked(side, sentence))

    def _asked(self, side: str, sentence: str) -> str:
        # Not str.format: a sentence may hold braces of its own.
        return (self.safe if side == "safe" else self.toxic).replace(_SENTENCE, sentence)

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)
