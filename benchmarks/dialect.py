"""Mark the inferred dialect of a set's texts, for `detox scorers check` and `group_texts`.

    python benchmarks/dialect.py FOLDER davidson_tweets davidson-dialect.csv

FOLDER holds model_count_table.txt and model_vocab.txt of github.com/slanglab/twitteraae (MIT). Their mixed-membership model
(Blodgett, Green and O'Connor 2016, section 3) says which share of a text's words is of African American, Hispanic, Asian and White
English; by their advice only the first and the last are used, from .8 on as in their corpus: groups `aae` and `white`. Other texts have
no group. It is a property of the words, not of an author.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from detox.data import catalogue
from detox.data.records import LabelledText

SHARE, PASSES, FEWEST_KNOWN = 0.8, 5, 0.2
GROUPS = {0: "aae", 3: "white"}


def read_model(folder: Path) -> dict[str, np.ndarray]:
    """(4,) probability of each word of the vocabulary in each kind of English, up to a factor of the word."""
    counts = np.loadtxt(folder / "model_count_table.txt")
    lines = (folder / "model_vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    words = [line.split("\t")[-1].strip() for line in lines]
    return dict(zip(words, (counts + 1) / counts.sum(0), strict=True))


def shares(words: list[str], model: dict[str, np.ndarray]) -> np.ndarray | None:
    """(4,) shares of the words by kind, by collapsed variational inference; None where too few of them are known."""
    known = [model[word] for word in words if word in model]
    if not known or len(known) < FEWEST_KNOWN * len(words):
        return None
    likelihood = np.array([one / one.sum() for one in known])
    parts = likelihood.copy()
    for _ in range(PASSES - 1):
        for place in range(len(parts)):
            others = parts.sum(0) - parts[place]
            parts[place] = likelihood[place] * (others + 1)
            parts[place] /= parts[place].sum()
    return parts.sum(0) / parts.sum()


def main(folder: str, name: str, output: str) -> None:
    """Write text, label and group of every labelled text of the set."""
    model = read_model(Path(folder))
    texts = [one for one in catalogue.load(name) if isinstance(one, LabelledText) and one.label is not None]
    found = dict.fromkeys((*GROUPS.values(), ""), 0)
    with Path(output).open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["text", "label", "group"])
        for one in texts:
            of = shares(one.text.lower().split(), model)
            group = next((g for k, g in GROUPS.items() if of is not None and of[k] >= SHARE), "")
            found[group] += 1
            writer.writerow([one.text, one.label, group])
    print(", ".join(f"{n} {group or 'neither'}" for group, n in found.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
