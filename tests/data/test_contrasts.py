from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detox.data.contrasts import Contrast, digest, labelled_texts, read_contrasts, write_contrasts
from detox.errors import DataError, InputError, MissingData, UnknownName

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@st.composite
def contrast_lists(draw, max_size=6):
    """Lists of valid contrasts with distinct ids, one-sided ones among them."""
    ids = draw(st.lists(TEXT.filter(bool), unique=True, max_size=max_size))
    contrasts = []
    for one in ids:
        texts = draw(st.lists(TEXT.filter(bool), unique=True, min_size=1, max_size=5))
        cut = draw(st.integers(0, len(texts)))
        group = draw(st.none() | TEXT)
        contrasts.append(Contrast(id=one, prompt=draw(TEXT), safe=texts[:cut], toxic=texts[cut:], group=group))
    return contrasts


def example(**changes):
    fields = {"id": "1", "prompt": "You are", "safe": (" kind.",), "toxic": (" a fool.",)}
    return Contrast(**{**fields, **changes})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(contrasts=contrast_lists(), name=st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
def test_contrasts_survive_a_file(tmp_path, contrasts, name):
    back = read_contrasts(write_contrasts(tmp_path / name, contrasts))
    assert back == contrasts
    assert digest(back) == digest(contrasts)


@settings(max_examples=60, deadline=None)
@given(contrasts=contrast_lists())
def test_labelled_texts_say_everything_once(contrasts):
    texts = labelled_texts(contrasts)
    assert len(texts) == sum(len(one.safe) + len(one.toxic) for one in contrasts)
    assert len({text.id for text in texts}) == len(texts) or any("/" in one.id for one in contrasts)
    for one in contrasts:
        mine = [text for text in texts if text.id.rsplit("/", 2)[0] == one.id]
        assert [text.text for text in mine if text.label == 0] == [one.prompt + safe for safe in one.safe]
        assert [text.text for text in mine if text.label == 1] == [one.prompt + toxic for toxic in one.toxic]
        assert {text.group for text in mine} == {one.id if one.group is None else one.group}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "2"},
        {"prompt": "You were"},
        {"safe": (" kind!",)},
        {"toxic": (" a fool.", " an idiot.")},
        {"safe": (" a fool.",), "toxic": (" kind.",)},
        {"group": "g"},
    ],
)
def test_the_digest_sees_every_field(changes):
    assert digest([example()]) != digest([example(**changes)])


def test_the_digest_is_that_of_the_file_and_sees_the_order():
    one, two = example(), example(id="2")
    assert digest([one, two]) != digest([two, one])
    line = b'{"id": "1", "prompt": "You are", "safe": [" kind."], "toxic": [" a fool."]}\n'
    assert digest([one]) == hashlib.sha256(line).hexdigest()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"id": ""}, "contrast id ''"),
        ({"id": 3}, "contrast id 3"),
        ({"prompt": None}, "prompt holds a NoneType"),
        ({"safe": " kind."}, "safe is a str"),
        ({"safe": None}, "safe is a NoneType"),
        ({"toxic": (" a fool.", 3)}, "toxic holds a int"),
        ({"toxic": ("",)}, "toxic holds an empty string"),
        ({"safe": (), "toxic": ()}, "no continuation"),
        ({"safe": (" so.",), "toxic": (" so.",)}, "both safe and toxic"),
        ({"prompt": "x\0"}, "prompt holds a NUL character at offset 1"),
        ({"safe": ("\ud800",)}, "a lone surrogate"),
        ({"group": 3}, "group holds a int"),
    ],
)
def test_a_wrong_contrast_is_refused_in_one_line(changes, says):
    with pytest.raises(InputError) as caught:
        example(**changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_become_tuples_so_that_a_contrast_can_be_hashed():
    assert example(safe=[" kind."]) == example()
    assert len({example(safe=[" kind."]), example()}) == 1


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("{", DataError, "c.jsonl:2: not JSON"),
        ('{"id": "1", "prompt": "", "safe": ["a"]}', DataError, "c.jsonl:2: no 'toxic'"),
        ('{"id": "1", "prompt": "", "safe": "a", "toxic": []}', DataError, "c.jsonl:2: contrast '1': safe is a str"),
        ('{"id": "1", "prompt": "", "saef": ["a"], "toxic": []}', UnknownName, "did you mean 'safe'?"),
        (
            '{"id": "0", "prompt": "", "safe": ["a"], "toxic": []}',
            DataError,
            "c.jsonl:2: id '0' again, first on line",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, error, says):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"id": "0", "prompt": "", "safe": ["b"], "toxic": []}) + "\n" + line + "\n")
    with pytest.raises(error) as caught:
        read_contrasts(path)
    assert says in str(caught.value)
    assert "c.jsonl:2" in str(caught.value)


def test_files_that_are_not_there_and_ids_that_repeat(tmp_path):
    with pytest.raises(MissingData):
        read_contrasts(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="two contrasts have the id '1'"):
        write_contrasts(tmp_path / "c.jsonl", [example(), example()])
    assert not (tmp_path / "c.jsonl").exists()
