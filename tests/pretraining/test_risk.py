import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast

from detox.data.records import Document, Span, middle_kind
from detox.errors import DataError, InputError, UnknownName
from detox.pretraining import Treatment, token_risk, tokenize_documents, train_tokenizer

LETTERS = "abcdeé "
CORPUS = [
    "".join(np.random.default_rng(seed).choice(list(LETTERS), 60, p=[0.2, 0.15, 0.15, 0.1, 0.1, 0.1, 0.2]))
    for seed in range(60)
]


@cache
def byte_level(trim_offsets):
    tokenizer = train_tokenizer(CORPUS, 320)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    return tokenizer


@cache
def gpt2(folder):
    return GPT2TokenizerFast.from_pretrained(folder / "gpt2_tokenizer")


@cache
def trained(kind):
    """A tiny tokenizer whose tokens spell the characters they stand for."""
    alphabet = sorted(set(LETTERS.replace(" ", "▁" if kind == "unigram" else "")))
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=60, initial_alphabet=alphabet, unk_token="[UNK]", show_progress=False
        )
    elif kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordPieceTrainer(
            vocab_size=80, initial_alphabet=alphabet, special_tokens=["[UNK]"], show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.BpeTrainer(
            vocab_size=60, initial_alphabet=alphabet, special_tokens=["[UNK]"], show_progress=False
        )
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def byte_names():
    """What byte-level tokens write for each byte: itself where it prints, the next unused character otherwise."""
    printed = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


def marked(text, spans):
    return [any(span.start <= i < span.end for span in spans) for i in range(len(text))]


def by_bytes(tokenizer, tokens, document):
    """The oracle for byte-level tokens, which needs no offsets: tokens are bytes, in order, each of one character."""
    to_byte = byte_names()
    risky = marked(document.text, document.spans)
    of_byte = [risky[i] for i, character in enumerate(document.text) for _ in character.encode()]
    position, found, spelled = 0, [], b""
    for token in tokenizer.convert_ids_to_tokens(tokens.tolist()):
        found.append(any(of_byte[position : position + len(token)]))
        position += len(token)
        spelled += bytes(to_byte[character] for character in token)
    assert spelled == document.text.encode()  # nothing left out, nothing added: the oracle itself holds
    return found


def by_letters(tokenizer, tokens, document, *, metaspace=False):
    """The oracle for tokens that spell their letters. Spaces belong to no token; with metaspace to the next."""
    risky = marked(document.text, document.spans)
    if metaspace:
        dummy = "" if document.text.startswith(" ") or not document.text else "▁"
        letters = dummy + document.text.replace(" ", "▁")
        risky = risky[:1] * len(dummy) + risky  # the space that is not there goes with the first character
    else:
        risky = [mark for mark, letter in zip(risky, document.text, strict=True) if letter != " "]
        letters = document.text.replace(" ", "")
    position, found = 0, []
    for token in tokenizer.convert_ids_to_tokens(tokens.tolist()):
        piece = token.removeprefix("##")
        assert letters[position : position + len(piece)] == piece
        found.append(any(risky[position : position + len(piece)]))
        position += len(piece)
    assert position == len(letters)
    return found


@st.composite
def documents(draw, alphabet):
    text = draw(st.text(alphabet, max_size=40))
    ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    spans = [Span(min(pair), max(pair)) for pair in draw(st.lists(ends, max_size=3)) if min(pair) < max(pair)]
    return Document(id="d", text=text, spans=tuple(spans))


ANY_TEXT = st.one_of(st.sampled_from("ab é👩‍👧ñ中\x00\n"), st.characters(exclude_categories=["Cs"]))


@given(document=documents(ANY_TEXT), trim=st.booleans())
@settings(max_examples=150, deadline=None)
def test_byte_level_tokens_against_a_byte_oracle(document, trim):
    tokenizer = byte_level(trim)
    (found,) = tokenize_documents(tokenizer, [document])
    assert found.risk.tolist() == by_bytes(tokenizer, found.tokens, document)


@given(batch=st.lists(documents(ANY_TEXT), min_size=5, max_size=20))
@settings(max_examples=10, deadline=None)
def test_the_gpt2_tokenizer_against_a_byte_oracle(shared_models, batch):
    tokenizer = gpt2(shared_models)
    for document, found in zip(batch, tokenize_documents(tokenizer, batch), strict=True):
        assert found.risk.tolist() == by_bytes(tokenizer, found.tokens, document)


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "bpe"])
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_other_tokens_against_a_letter_oracle(kind, data):
    document = data.draw(documents(st.sampled_from(LETTERS)))
    tokenizer = trained(kind)
    (found,) = tokenize_documents(tokenizer, [document])
    assert found.risk.tolist() == by_letters(tokenizer, found.tokens, document, metaspace=kind == "unigram")


def test_the_border_token_is_the_one_that_training_sees():
    # Tokenised on its own, "b" is a token; in the document it is part of "ab".
    tokenizer = train_tokenizer(["ab ab ab ab"] * 5, 260)
    (found,) = tokenize_documents(tokenizer, [Document(id="d", text="ab", spans=(Span(1, 2),))])
    assert tokenizer.convert_ids_to_tokens(found.tokens.tolist()) == ["ab"]
    assert found.risk.tolist() == [True]


def test_token_risk_by_hand():
    offsets = [(0, 2), (2, 5), (5, 5), (4, 6), (6, 7)]
    assert token_risk(offsets, [Span(4, 5)], 7).tolist() == [False, True, False, True, False]
    assert token_risk(offsets, [Span(6, 7), Span(0, 1), Span(0, 2)], 7).tolist() == [True, False, False, False, True]
    assert token_risk(offsets, [], 7).tolist() == [False] * 5
    assert token_risk([], [Span(0, 1)], 1).tolist() == []


def test_documents_keep_their_order_and_empty_ones_have_no_tokens():
    texts = ["ab", "", "c d e", ""]
    found = list(tokenize_documents(byte_level(False), [Document(id=str(i), text=t) for i, t in enumerate(texts)]))
    assert [document.id for document in found] == ["0", "1", "2", "3"]
    assert [len(document.tokens) == 0 for document in found] == [False, True, False, True]
    assert [byte_level(False).decode(document.tokens.tolist()) for document in found] == texts
    assert not any(document.risk.any() for document in found)
    assert list(tokenize_documents(byte_level(False), [])) == []


def test_a_document_cannot_end_itself():
    tokenizer = train_tokenizer(["ab ab"], 260)
    document = Document(id="d", text="a<|endoftext|>b")
    (as_text,) = tokenize_documents(tokenizer, [document])
    (as_token,) = tokenize_documents(tokenizer, [document], parse_special_tokens=True)
    assert tokenizer.eos_token_id not in as_text.tokens
    assert tokenizer.decode(as_text.tokens.tolist()) == document.text
    assert as_token.tokens.tolist().count(tokenizer.eos_token_id) == 1


def test_the_tokenizer_is_not_touched():
    tokenizer = train_tokenizer(CORPUS, 300)
    tokenizer(["a", "abc"], padding=True, truncation=True, max_length=2)  # leaves truncation and padding in its backend
    before = json.loads(tokenizer.backend_tokenizer.to_str())
    (found,) = tokenize_documents(tokenizer, [Document(id="d", text="abc " * 9, spans=(Span(0, 3),))])
    assert json.loads(tokenizer.backend_tokenizer.to_str()) == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens
    assert tokenizer.decode(found.tokens.tolist()) == "abc " * 9


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="Slow gives no character offsets"):
        list(tokenize_documents(Slow(), [Document(id="d", text="a")]))


def test_a_lone_surrogate_names_its_document():
    with pytest.raises(DataError, match="document 'bad': character 1 is a lone surrogate"):
        list(tokenize_documents(byte_level(False), [Document(id="good", text="a"), Document(id="bad", text="a\ud800")]))


KINDS = ("toxic", "copyrighted", middle_kind("toxic"), middle_kind("copyrighted"))


@st.composite
def labelled_documents(draw, alphabet=ANY_TEXT, kinds=KINDS):
    document = draw(documents(alphabet))
    spans = [Span(span.start, span.end, draw(st.sampled_from(kinds))) for span in document.spans]
    return Document(id="d", text=document.text, spans=tuple(spans))


def of_kinds(document, kinds):
    return Document(id="d", text=document.text, spans=tuple(s for s in document.spans if s.kind in kinds))


@given(
    document=labelled_documents(),
    risky=st.one_of(st.none(), st.lists(st.sampled_from(KINDS), unique=True).map(tuple)),
    middle=st.sampled_from(["train", "mask"]),
)
@settings(max_examples=150, deadline=None)
def test_kinds_and_the_middle_band_against_the_oracle(document, risky, middle):
    tokenizer = byte_level(False)
    (found,) = tokenize_documents(tokenizer, [document], treatment=Treatment(risky=risky, middle=middle))
    are_risky = ("toxic", "copyrighted") if risky is None else risky
    are_middle = [middle_kind(kind) for kind in are_risky if middle_kind(kind) not in are_risky]
    risk = by_bytes(tokenizer, found.tokens, of_kinds(document, are_risky))
    band = by_bytes(tokenizer, found.tokens, of_kinds(document, are_middle))
    assert found.risk.tolist() == risk
    ignored = [unsure and not sure for unsure, sure in zip(band, risk, strict=True)] if middle == "mask" else []
    assert (found.ignored.tolist() if found.ignored is not None else []) == (
        ignored if found.ignored is not None else []
    )
    assert (found.ignored is not None) == (middle == "mask" and any(s.kind in are_middle for s in document.spans))
    for kind, tokens in found.kinds.items():
        assert tokens.tolist() == by_bytes(tokenizer, found.tokens, of_kinds(document, [kind]))
    assert set(found.kinds) == {s.kind for s in document.spans if s.kind in (*are_risky, *are_middle)}


def test_the_middle_band_is_dropped_before_tokenising():
    document = Document(
        id="d", text="aaa bbb ccc ddd", spans=(Span(4, 7, middle_kind("toxic")), Span(8, 11), Span(2, 3, "copyrighted"))
    )
    tokenizer = byte_level(False)
    (found,) = tokenize_documents(tokenizer, [document], treatment=Treatment(risky=("toxic",), middle="drop"))
    assert tokenizer.decode(found.tokens.tolist()) == "aaa ccc ddd"
    expected = Document(id="d", text="aaa ccc ddd", spans=(Span(4, 7),))
    assert found.risk.tolist() == by_bytes(tokenizer, found.tokens, expected)


def test_a_treatment_says_what_is_wrong():
    with pytest.raises(UnknownName, match="did you mean 'mask'"):
        Treatment(middle="masked")
    with pytest.raises(UnknownName, match="risky_text"):
        Treatment(risky_text="drop")
    with pytest.raises(InputError, match="risky kinds are 'toxic'"):
        Treatment(risky="toxic")
    assert Treatment(risky=["toxic"]) == Treatment(risky=("toxic",))
