"""Posts of social media, forums and games: labelled, scored, and as documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from detox.data.data_set import DataSet, HubSource, LocalFile, OwnSplit, Row
from detox.data.records import Document, LabelledText, Span
from detox.data.sets.comments import read_labelled

HATE = {"hate": 1, "offensive": 1, "neither": 0, "normal": 0, "neutral": 0, "undecided": None}
STORMFRONT = {"hate": 1, "noHate": 0, "relation": None, "idk/skip": None}


def read_davidson(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Hateful or offensive is 1, neither is 0; score: the share of votes for hateful or offensive."""
    for row in rows:
        toxic = row["votes_hate"] + row["votes_offensive"]
        score = toxic / (toxic + row["votes_neither"])
        yield LabelledText(id=row["id"], text=row["text"], label=HATE[row["label"]], score=score)


def read_davidson_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`class`: 0 hate speech, 1 offensive language, 2 neither."""
    for number, row in enumerate(rows):
        toxic = row["hate_speech_count"] + row["offensive_language_count"]
        score = toxic / (toxic + row["neither_count"])
        label = (1, 1, 0)[row["class"]]
        yield LabelledText(id=f"dav-{number}", text=row["tweet"], label=label, score=score)


def read_hatemoji_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`text` and `label_gold`."""
    for number, row in enumerate(rows):
        yield LabelledText(id=f"hmb-{row['_split']}-{number}", text=row["text"], label=int(row["label_gold"]))


def read_classes(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`label` by name: hate and offensive are 1; normal, neutral and neither are 0; undecided is unknown."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=HATE[row["label"]])


def read_hatexplain_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Three annotators (0 hate speech, 1 normal, 2 offensive): the majority, unknown if all differ."""
    for row in rows:
        people = row["annotators"]
        votes = people["label"] if isinstance(people, Mapping) else [person["label"] for person in people]
        winner, count = Counter(votes).most_common(1)[0]
        label = (1, 0, 1)[winner] if count * 2 > len(votes) else None
        yield LabelledText(id=f"hx-{row['id']}", text=" ".join(row["post_tokens"]), label=label)


def read_stormfront(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Hate is 1 and noHate 0; sentences that are hateful only together, and skipped ones, are unknown."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=STORMFRONT[row["label"]])


def read_stormfront_hub(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """`label`: 0 noHate, 1 hate, 2 idk/skip, 3 relation."""
    for number, row in enumerate(rows):
        yield LabelledText(id=f"sf-{number}", text=row["text"], label=(0, 1, None, None)[row["label"]])


def read_game_chat(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Explicitly or implicitly toxic is 1, any other intent 0."""
    for row in rows:
        label = {"explicit_toxic": 1, "implicit_toxic": 1, "action": 0, "other": 0}[row["intent"]]
        yield LabelledText(id=row["id"], text=row["text"], label=label)


def read_game_chat_spans(rows: Iterable[Row]) -> Iterator[Document]:
    """Toxic tokens (T) as spans; an utterance in which a toxic token cannot be found is left out."""
    for row in rows:
        spans = toxic_token_spans(row["text"], row["tokens"], row["token_tags"])
        if spans is not None:
            yield Document(id=row["id"], text=row["text"], spans=spans, source="conda_game_chat_spans")


def read_pol_posts(rows: Iterable[Row]) -> Iterator[Document]:
    """Nobody labelled them; the whole post counts as risky."""
    for row in rows:
        yield Document(id=row["id"], text=row["text"], spans=(Span(0, len(row["text"])),), source="pol_posts")


def read_pol_scored(rows: Iterable[Row]) -> Iterator[LabelledText]:
    """Perspective's scores, no label."""
    for row in rows:
        yield LabelledText(id=row["id"], text=row["text"], label=None, score=row["toxicity"])


def toxic_token_spans(text: str, tokens: Iterable[str], tags: Iterable[str]) -> tuple[Span, ...] | None:
    """Character spans of the tokens tagged T, found one after the other; None if one of those is not there.

    Tokens were normalised ("is" for "'s") and separators inserted, so that others may well be missing from the text.
    """
    lowered = text.lower()
    if len(lowered) != len(text):  # a character whose lower case is longer would shift what follows
        lowered = text
    spans: list[Span] = []
    at = 0
    for token, tag in zip(tokens, tags, strict=True):
        start = lowered.find(token.lower(), at)
        if start >= 0:
            at = start + len(token)
            if tag == "T":
                spans.append(Span(start, at))
        elif tag == "T":
            return None
    return tuple(spans)


CHAT_FILE = LocalFile("conda_game_chat.jsonl.gz", "2d7d0f46c698c73e09363bc9771539bd7318b3912cb9eecd23cbdcdeb5b6aeee")

SETS = (
    DataSet(
        name="davidson_tweets",
        kind="labelled",
        licence="MIT",
        note="Chosen by keywords, 77 % offensive, biased against African-American English; scorers were trained on it.",
        file=LocalFile("davidson_tweets.jsonl.gz", "4f2f237079fb3ca026e400ec6fd57c7e030cc029fd09b37d11310048303a134f"),
        columns=("id", "text", "label", "votes_hate", "votes_offensive", "votes_neither"),
        read=read_davidson,
        hub=HubSource(
            id="tdavidson/hate_speech_offensive",
            revision="fc4b46c0631548e60294fb1abafa0e35520a62db",
            columns=("hate_speech_count", "offensive_language_count", "neither_count", "class", "tweet"),
            read=read_davidson_hub,
            confirmed="hub commit pages of the conversion to Parquet",
        ),
    ),
    DataSet(
        name="edos_sexism",
        kind="labelled",
        licence="CC0-1.0",
        note="Label 1 is sexist, 0 is not sexist, which is not the same as not toxic.",
        file=LocalFile("edos_sexism.jsonl.gz", "caa1fb0d0114a386f0233aa7c30c43f6997883b2a54751fc518968f266aecc86"),
        columns=("id", "text", "label"),
        read=read_labelled,
    ),
    DataSet(
        name="hatemojibuild",
        kind="labelled",
        licence="CC BY 4.0",
        note="Adversarial hate with emoji; each original has a minimally edited partner.",
        file=LocalFile("hatemojibuild.jsonl.gz", "e8c6878a4ce8017bd70b84056682c26e2f9d2eba1f1059784fd087f660e39868"),
        columns=("id", "text", "label", "split"),
        read=read_labelled,
        own_split=OwnSplit(column="split", train=("train",), heldout=("validation", "test")),
        hub=HubSource(
            id="HannahRoseKirk/HatemojiBuild",
            split="train",
            heldout_split="validation",
            columns=("text", "label_gold"),
            read=read_hatemoji_hub,
            confirmed="public code that reads these columns (tasksource)",
        ),
    ),
    DataSet(
        name="hatexplain",
        kind="labelled",
        licence="MIT (HateXplain); the copy's repository GPL-3.0",
        note="Twitter and Gab; hate or offensive is 1. Without the token rationales.",
        file=LocalFile("hatexplain_3way.jsonl.gz", "af05036073f635fb6a2b5fd273ad86704cd7da4eba4d80add9f05fc278a80df9"),
        columns=("id", "text", "label", "split"),
        read=read_classes,
        own_split=OwnSplit(column="split", train=("train",), heldout=("val", "test")),
        hub=HubSource(
            id="Hate-speech-CNERG/hatexplain",
            revision="refs/convert/parquet",
            configs=("plain_text",),
            split="train",
            heldout_split="validation",
            columns=("id", "annotators", "post_tokens"),
            read=read_hatexplain_hub,
            confirmed="TensorFlow's catalogue of the hub's features",
        ),
    ),
    DataSet(
        name="implicit_hate",
        kind="labelled",
        licence="MIT (microsoft/SafeNLP)",
        note="Implicit hate without swear words; the file's score only repeats the label and is not used.",
        file=LocalFile("implicit_hate.jsonl.gz", "3331840264cc7c9679f45b585f454ae067777e927ca2d24b8436def1e397dc59"),
        columns=("id", "text", "label"),
        read=read_classes,
    ),
    DataSet(
        name="stormfront",
        kind="labelled",
        licence="CC BY-SA 3.0 ES",
        note="Sentences of a forum, 11 % hate.",
        file=LocalFile("stormfront.jsonl.gz", "5305f94b073dce0e0e15326719a62a166dc03cbcde13febc6509fd5482c2144a"),
        columns=("id", "text", "label"),
        read=read_stormfront,
        hub=HubSource(
            id="odegiber/hate_speech18",
            revision="refs/convert/parquet",
            columns=("text", "label"),
            read=read_stormfront_hub,
            confirmed="TensorFlow's catalogue of the hub's features",
        ),
    ),
    DataSet(
        name="conda_game_chat",
        kind="labelled",
        licence="none stated (Weld et al. 2021)",
        note="Utterances of a game's chat.",
        file=CHAT_FILE,
        columns=("id", "text", "intent"),
        read=read_game_chat,
    ),
    DataSet(
        name="conda_game_chat_spans",
        kind="documents",
        licence="none stated (Weld et al. 2021)",
        note="The same utterances with the tokens tagged as toxic; implicitly toxic ones have none.",
        file=CHAT_FILE,
        columns=("id", "text", "tokens", "token_tags"),
        read=read_game_chat_spans,
    ),
    DataSet(
        name="pol_posts",
        kind="documents",
        licence="CC BY 4.0 (Papasavva et al. 2020)",
        note="Extreme content, not labelled; the whole post is the span.",
        file=LocalFile("pol_posts.jsonl.gz", "2e50ec21609c468e128ba5af530d529986af6f813c1fadcc453e04d2e04b70ae"),
        columns=("id", "text"),
        read=read_pol_posts,
    ),
    DataSet(
        name="pol_perspective",
        kind="scored",
        licence="CC BY 4.0 (Papasavva et al. 2020)",
        note="Extreme content with real Perspective scores.",
        file=LocalFile("pol_perspective.jsonl.gz", "7fdcb28a8407590a4e78556ba7a339b9037c8fce69ddf67a31f14196783c9646"),
        columns=("id", "text", "toxicity"),
        read=read_pol_scored,
    ),
)
