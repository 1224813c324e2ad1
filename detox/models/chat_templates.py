"""A system text written into a tokenizer's chat template, where every conversation then reads as the handle would render it."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

from jinja2.exceptions import TemplateError

from detox.errors import InputError, NotExportable
from detox.models.language_model import LanguageModel
from detox.models.tokenization import Message, render

_KEEP = "keep the handle (`with detoxifier.applied(lm)`), or put the text before each prompt where you serve the model"

# Put in front of the template. `dict(turn, content=...)` keeps what else a turn holds. Each block trims the blanks around it, but for the
# end of the last: the line break there goes, by trim_blocks, and the template begins on a line of its own, as it did.
_CHECK = """\
{%- for turn in messages[:2] -%}
{%- if turn['content'] is not string -%}
{{- raise_exception('content must be text: this template puts a system text before it') -}}
{%- endif -%}
{%- endfor -%}
"""
_AS_SYSTEM_TURN = (
    _CHECK
    + """\
{%- if messages[0]['role'] == 'system' -%}
{%- set messages = [dict(messages[0], content=TEXT ~ '\\n\\n' ~ messages[0]['content'])] + messages[1:] -%}
{%- else -%}
{%- set messages = [{'role': 'system', 'content': TEXT}] + messages -%}
{%- endif %}
"""
)
_IN_FIRST_TURN = (
    _CHECK
    + """\
{%- if messages[0]['role'] == 'system' -%}
{%- set opening = TEXT ~ '\\n\\n' ~ messages[0]['content'] ~ '\\n\\n' ~ messages[1]['content'] -%}
{%- set messages = [dict(messages[1], content=opening)] + messages[2:] -%}
{%- else -%}
{%- set messages = [dict(messages[0], content=TEXT ~ '\\n\\n' ~ messages[0]['content'])] + messages[1:] -%}
{%- endif %}
"""
)


def _turns(*contents: str, system: str | None = None) -> list[Message]:
    head = [{"role": "system", "content": system}] if system is not None else []
    roles = ("user", "assistant")
    return head + [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


# Conversations on which the two renderings are compared: with and without a system turn of the user's own.
CONVERSATIONS: tuple[list[Message], ...] = (
    _turns("Hello"),
    _turns("  two\nlines \n"),
    _turns("naïve 東京 🙂 {{ messages }} {% if %} 'quoted' \"twice\" \\n"),
    _turns("Hello", "Hi.", "And then?"),
    _turns("Hello", "Hi.", "And then?", "That.", "Why?"),
    _turns("Hello", system="Answer in one word."),
    _turns("Hello", "Hi.", "And then?", system="  You are Ada.\n\nBe brief. "),
)


def with_system(lm: LanguageModel) -> Any:
    """The handle's tokenizer, with the handle's system text written into its chat template; a copy, where there is a text.

    The template then renders each of CONVERSATIONS exactly as the handle does. Plain text has no template: what the handle puts
    before it (`lm.prefix`) is not in the checkpoint, and the certificate says so.

    Raises:
        NotExportable: text before plain prompts only, a tokenizer without a chat template, or a template that renders otherwise.
    """
    if not lm.system and not lm.prefix:
        return lm.tokenizer
    template = lm.tokenizer.chat_template
    if not lm.system or not template:
        why = (
            "the tokenizer has no chat template"
            if lm.system
            else "it is put before plain text, not before conversations"
        )
        raise NotExportable(f"the text before the prompt has no place in the checkpoint: {why}; {_KEEP}")
    if not isinstance(template, str):
        raise NotExportable(f"the tokenizer has several chat templates ({', '.join(template)}); {_KEEP}")
    failures = []
    for wrapper in (_AS_SYSTEM_TURN, _IN_FIRST_TURN):
        tokenizer = copy.deepcopy(lm.tokenizer)
        tokenizer.chat_template = f"{{%- set system_text = {_literal(lm.system)} -%}}\n" + (
            wrapper.replace("TEXT", "system_text") + template
        )
        failure = first_difference(lm, tokenizer)
        if failure is None:
            return tokenizer
        failures.append(failure)
    raise NotExportable(
        f"the chat template has no exact place for the system text: as a system turn {failures[0]}, in the first user turn "
        f"{failures[1]}; {_KEEP}"
    )


def first_difference(lm: LanguageModel, tokenizer: Any) -> str | None:
    """Where the tokenizer's own rendering of a conversation is not the handle's, in words; None where all are equal."""
    plain = replace(lm, tokenizer=tokenizer, system=None, prefix="")
    rendered = 0
    for index, conversation in enumerate(CONVERSATIONS):
        expected, got = _rendered(lm, conversation), _rendered(plain, conversation, as_given=True)
        if expected is None:
            continue  # the handle itself refuses such a conversation
        rendered += 1
        if got != expected:
            return (
                f"conversation {index} of {len(CONVERSATIONS)} is {'refused' if got is None else 'rendered otherwise'}"
            )
    return None if rendered else "the handle renders no conversation"


def _rendered(lm: LanguageModel, conversation: list[Message], *, as_given: bool = False) -> str | None:
    try:
        if as_given:  # as whoever serves the checkpoint will call it
            return str(lm.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
        return render(lm, conversation)[0]
    except (TemplateError, InputError):
        return None


def _literal(text: str) -> str:
    """`text` as a string of Jinja, which reads Python's escapes; nothing in it can end the string or the block."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return "'" + re.sub(r"['\"{}%#]", lambda match: f"\\x{ord(match[0]):02x}", escaped) + "'"
