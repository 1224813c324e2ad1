"""A system text in the chat template: conversations read as the handle renders them, with and without a system turn of the user's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer

from detox.detoxifiers import Prompting
from detox.errors import NotExportable
from detox.models import LanguageModel
from detox.models.chat_templates import CONVERSATIONS, with_system
from detox.models.tokenization import render
from tests.models.test_likelihood import tiny

TURNS = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
OPEN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TEMPLATES = {
    "any system turn": TURNS + OPEN,
    "a default one": "{% if messages[0]['role'] != 'system' %}{{ 'system: You are helpful.\n' }}{% endif %}" + TURNS + OPEN,
    "blanks in front": "\n  \n{{ bos_token }}" + TURNS + OPEN,
    "a block in front": "    {% set x = 1 %}\n" + TURNS + OPEN,
    "loops over the rest": (
        "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
        "{% else %}{% set s = '' %}{% endif %}{% for m in messages %}"
        "{% if loop.index0 == 0 and s %}{{ '<<SYS>>' + s + '<</SYS>>' }}{% endif %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    ),
    "refuses it": (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '<t>' + m['role'] + '\n' + m['content'] | trim + '<e>\n' }}{% endfor %}" + OPEN
    ),
    "leaves it out": "{% for m in messages if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",
}  # fmt: skip


def rendered(tokenizer, conversation):
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_conversation_reads_as_the_handle_renders_it(name):
    lm = tiny("llama")
    lm.tokenizer.chat_template = TEMPLATES[name]
    with Prompting(text="Be 'civil', {{ always }} %}.\n東京 🙂 \\n ").applied(lm) as safe:
        tokenizer = with_system(safe)
        assert lm.tokenizer.chat_template == TEMPLATES[name]  # the user's own is left alone
        for conversation in CONVERSATIONS:
            expected = render(safe, conversation)[0]
            assert rendered(tokenizer, conversation) == expected
            assert "Be 'civil', {{ always }} %}.\n東京 🙂 \\n" in expected
        # What else a turn holds stays with it.
        assert "Be 'civil'" in rendered(tokenizer, [{"role": "user", "content": "Hi", "name": "Ada"}])
        with pytest.raises(TemplateError, match="content must be text"):
            rendered(tokenizer, [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip),
    turns=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4),
    system=st.none() | st.text(st.characters(codec="utf-8"), max_size=12),
)
@settings(max_examples=30)
def test_any_text_and_any_conversation(text, turns, system):
    tokenizer = WORDS.tokenizer
    tokenizer.chat_template = TEMPLATES["any system turn"]
    conversation = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    if system is not None:
        conversation.insert(0, {"role": "system", "content": system})
    with Prompting(text=text).applied(WORDS) as safe:
        assert rendered(with_system(safe), conversation) == render(safe, conversation)[0]


WORDS = tiny("gpt2")


def test_it_survives_saving_and_loading(tmp_path):
    lm = tiny("llama")
    lm.tokenizer.chat_template = TEMPLATES["a default one"]
    with Prompting().applied(lm) as safe:
        with_system(safe).save_pretrained(tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path)
        for conversation in CONVERSATIONS:
            assert rendered(again, conversation) == render(safe, conversation)[0]


def test_where_it_has_no_place_there_is_an_error():
    lm = tiny("llama")
    with Prompting().applied(lm) as safe, pytest.raises(NotExportable, match=r"no chat template; keep the handle"):
        with_system(safe)
    lm.tokenizer.chat_template = {"default": TEMPLATES["any system turn"], "tool_use": "{{ messages }}"}
    with Prompting().applied(lm) as safe, pytest.raises(NotExportable, match="several chat templates"):
        with_system(safe)
    # A template that reads the conversation under another name than the one that can be exchanged.
    lm.tokenizer.chat_template = "{{ 'no turn of it' }}"
    with Prompting().applied(lm) as safe, pytest.raises(NotExportable, match="no exact place"):
        with_system(safe)


def test_prompting_is_exported_with_its_certificate(tmp_path):
    lm = tiny("llama")
    lm.tokenizer.chat_template = TEMPLATES["refuses it"]
    certificate = Prompting().export(lm, tmp_path / "out")
    assert certificate.bit_equal
    assert certificate.semantics == "exact"
    again = LanguageModel.from_pretrained(tmp_path / "out")
    assert again.fingerprint().split(":")[0] == lm.fingerprint().split(":")[0]
    with Prompting().applied(lm) as safe:
        for conversation in CONVERSATIONS:
            assert render(again, conversation) == render(safe, conversation)
        here = safe.logprobs([CONVERSATIONS[3]], [[5, 6, 7]])
    assert torch.equal(here[0], again.logprobs([CONVERSATIONS[3]], [[5, 6, 7]])[0])
    assert "plain text is not preceded" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(NotExportable, match="no chat template"):
        Prompting().export(tiny("llama"), tmp_path / "base")
    assert not (tmp_path / "base").exists()
