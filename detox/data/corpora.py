"""The clean and the toxic text that a base model is pretrained on, without what is held out for evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detox.data.catalogue import load_as
from detox.data.records import Document
from detox.data.subsets import normalised

CLEAN = ("clean_gov", "clean_fiction", "wikitext2", "jigsaw_wiki_clean", "cat_wiki_clean")
TOXIC = ("toxic_spans", "jigsaw_wiki_toxic", "pol_posts")


def clean_corpus(*, split: str = "train", names: Sequence[str] = CLEAN, source: str = "auto") -> list[Document]:
    """Documents without risky spans: government prose, fiction, Wikipedia, Wikipedia comments that are not toxic.

    Args:
        split: "train", or "heldout" for what cross-entropy is measured on.
        names: document sets of the catalogue.
        source: as in `catalogue.load`.

    Raises:
        MissingData: a set is not there.
        InputError: a name is not that of a document set.
    """
    return _corpus(names, split, source)


def toxic_corpus(*, split: str = "train", names: Sequence[str] = TOXIC, source: str = "auto") -> list[Document]:
    """Documents with risky spans: marked words in news comments; whole Wikipedia comments and /pol/ posts.

    Args:
        split: "train" or "heldout".
        names: document sets of the catalogue.
        source: as in `catalogue.load`.

    Raises:
        MissingData: a set is not there.
        InputError: a name is not that of a document set.
    """
    return [one for one in _corpus(names, split, source) if one.spans]


def corpus_sizes(documents: Iterable[Document]) -> dict[str, CorpusSize]:
    """Size of each source, which is the name of its set, in characters (a token is about four)."""
    sizes: dict[str, CorpusSize] = {}
    for one in documents:
        had = sizes.get(one.source, CorpusSize(documents=0, characters=0, risky_characters=0))
        risky = len({place for span in one.spans for place in range(span.start, span.end)})
        sizes[one.source] = CorpusSize(
            documents=had.documents + 1,
            characters=had.characters + len(one.text),
            risky_characters=had.risky_characters + risky,
        )
    return dict(sorted(sizes.items()))


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """How much text a source has, and how much of it lies in risky spans."""

    documents: int
    characters: int
    risky_characters: int


def _corpus(names: Sequence[str], split: str, source: str) -> list[Document]:
    seen: set[str] = set()
    corpus: list[Document] = []
    for name in names:
        for one in load_as(Document, name, split=split, source=source):
            key = normalised(one.text)
            if key not in seen:
                seen.add(key)
                corpus.append(one)
    return corpus
