"""Spans to tokens in the three families of tokenizer, over scripts, emoji, marks and what normalisation makes of them.

The oracle knows no offsets. Texts are made of units; of each it is written down what the tokenizer's normalisation makes of it,
so that the letters of the tokens, read in order, say which unit each letter came from.
"""

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from detox.data.records import Document, Span
from detox.pretraining import tokenize_documents, train_tokenizer

# unit: (as NFKC writes it, as BERT's normaliser writes it: without accents, in lower case, Chinese apart)
UNITS = {
    "a": ("a", "a"),
    "b": ("b", "b"),
    "c": ("c", "c"),
    "B": ("B", "b"),
    " ": (" ", " "),
    "é": ("é", "e"),
    "e\u0301": ("é", "e"),
    "O\u0308": ("Ö", "o"),
    "q\u0323\u0307": ("q\u0323\u0307", "q"),
    "İ": ("İ", "i"),
    "ﬁ": ("fi", "ﬁ"),
    "½": ("1⁄2", "½"),
    "Ａ": ("A", "ａ"),
    "①": ("1", "①"),
    "㎏": ("kg", "㎏"),
    "ж": ("ж", "ж"),
    "Я": ("Я", "я"),
    "ب": ("ب", "ب"),
    "क": ("क", "क"),
    "中": ("中", " 中 "),
    "文": ("文", " 文 "),
    "한": ("한", "\u1112\u1161\u11ab"),  # taken apart to its jamo
    "👩": ("👩", "👩"),
    "👩\u200d👧": ("👩\u200d👧", "👩👧"),
    "🏽": ("🏽", "🏽"),
    "\u200b": ("\u200b", ""),
    "\n": (" ", " "),
    "!": ("!", " ! "),
}
NOT_NFKC = {"\n": "\n"}
KNOWN = "abcBAeéÖfi12⁄kgжЯ中한! q"  # what the Unigram vocabulary spells; the rest are bytes
CORPUS = ["abc ab cab abbc", "жЯ aé bc 中文 ab", "ab!c кab 한ab", "abc abc fi"] * 5


@cache
def tokenizer(family):
    if family == "bytes":
        return train_tokenizer(CORPUS, 300)
    if family == "sentencepiece":
        pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁ab", -1.0), ("ab", -1.5), ("bc", -1.5), ("fi", -1.0), ("жЯ", -1.0)]
        pieces += [(character, -3.0) for character in KNOWN.replace(" ", "")]
        pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
        backend = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0, byte_fallback=True))
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    alphabet = sorted({character for _, plain in UNITS.values() for character in plain if character != " "})
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(
            vocab_size=200, initial_alphabet=alphabet, special_tokens=["[UNK]"], show_progress=False
        ),
    )
    # Every letter may also go on a word.
    vocabulary = dict(backend.get_vocab())
    for character in alphabet:
        vocabulary.setdefault(f"##{character}", len(vocabulary))
    backend.model = models.WordPiece(vocabulary, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def letters(family, units):
    """What tokens spell, in order: (letter or byte, the characters of the text that it stands for)."""
    spelled, place = [], 0
    for unit in units:
        here = range(place, place + len(unit))
        place += len(unit)
        if family == "bytes":
            spelled += [(byte, range(at, at + 1)) for at in here for byte in unit[at - here.start].encode()]
            continue
        plain = UNITS[unit][family == "wordpiece"]
        plain = NOT_NFKC.get(unit, plain) if family == "sentencepiece" else plain
        if family == "wordpiece":
            plain = "".join(plain.split())
        if len(plain) == len(unit):  # letter by letter
            spelled += [(letter, range(at, at + 1)) for letter, at in zip(plain, here, strict=True)]
        elif plain == "👩👧":  # the joiner is dropped
            spelled += [("👩", range(here.start, here.start + 1)), ("👧", range(here.stop - 1, here.stop))]
        else:
            spelled += [(letter, here) for letter in plain]
    return spelled


def oracle(family, units, tokens, document):
    risky = {at for span in document.spans for at in range(span.start, span.end)}
    spelled = letters(family, units)
    found, position = [], 0
    if family == "sentencepiece":
        spelled = [("▁" if letter == " " else letter, here) for letter, here in spelled]
        if spelled and spelled[0][0] != "▁":
            spelled.insert(
                0, ("▁", spelled[0][1] if len(spelled[0][1]) == 1 else range(spelled[0][1].start, spelled[0][1].stop))
            )
        spelled = [
            (part, here)
            for letter, here in spelled
            for part in (
                [letter] if letter in KNOWN.replace(" ", "") + "▁" else [f"<0x{b:02X}>" for b in letter.encode()]
            )
        ]
    for token in tokens:
        if family == "bytes":
            count = len(token)
        elif family == "sentencepiece":
            count = 1 if token.startswith("<0x") else len(token)
            assert [part for part, _ in spelled[position : position + count]] == (
                [token] if count == 1 else list(token)
            )
        else:
            piece = token.removeprefix("##")
            count = len(piece)
            assert "".join(letter for letter, _ in spelled[position : position + count]) == piece
        places = [here for _, here in spelled[position : position + count]]
        position += count
        # A token reaches from its first character to its last: what normalisation drops in between is inside.
        found.append(bool(risky & set(range(places[0].start, places[-1].stop))))
    assert position == len(spelled)
    return found


@st.composite
def texts(draw):
    units = draw(st.lists(st.sampled_from(list(UNITS)), max_size=14))
    text = "".join(units)
    ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    spans = [Span(min(pair), max(pair)) for pair in draw(st.lists(ends, max_size=2)) if pair[0] != pair[1]]
    return units, Document(id="d", text=text, spans=tuple(spans))


def by_hand(units, *spans):
    return units, Document(id="d", text="".join(units), spans=tuple(Span(*span) for span in spans))


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "wordpiece"])
@given(made=texts())
@example(made=by_hand(["a", "e\u0301"], (2, 3)))  # the mark alone: its letter's token wrote it
@example(made=by_hand(["👩", "👩", "a"], (0, 1)))  # the second emoji is not risky, although both are bytes
@example(made=by_hand(["ﬁ", "½", "a"], (1, 2)))
@settings(max_examples=300, deadline=None)
def test_tokens_against_the_letters_they_spell(family, made):
    units, document = made
    (found,) = tokenize_documents(tokenizer(family), [document])
    tokens = tokenizer(family).convert_ids_to_tokens(found.tokens.tolist())
    assert found.risk.tolist() == oracle(family, units, tokens, document)


@pytest.mark.parametrize("family", ["bytes", "sentencepiece", "wordpiece"])
def test_a_span_over_everything_marks_everything_and_none_marks_nothing(family):
    units = list(UNITS)
    text = "".join(units)
    whole = Document(id="d", text=text, spans=(Span(0, len(text)),))
    (found,) = tokenize_documents(tokenizer(family), [whole])
    assert found.risk.all()
    assert len(found.risk) > 20
    (found,) = tokenize_documents(tokenizer(family), [Document(id="d", text=text)])
    assert not found.risk.any()
