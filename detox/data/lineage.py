"""Where data comes from: what a data set shares with the data that scorers learned from.

Two sets overlap where they have an ancestor in common: the same texts, or labels by the same judge. The entries say what the sets'
own papers and cards say; a name without an entry is its own only ancestor.
"""

from __future__ import annotations

from collections.abc import Iterable

from detox.errors import InputError

# Names without an entry in the catalogue are of sources that scorers name in `trained_on`, or of services that label.
PARENTS: dict[str, tuple[str, ...]] = {
    "jigsaw_wiki_balanced": ("jigsaw-toxic-comments",),
    "jigsaw_wiki_toxic": ("jigsaw-toxic-comments",),
    "jigsaw_wiki_toxic_turns": ("jigsaw-toxic-comments",),
    "jigsaw_wiki_clean": ("jigsaw-toxic-comments",),
    # Dale et al. 2021: sentences of the three Jigsaw challenges.
    "jigsaw_sentences": ("jigsaw-toxic-comments", "civil-comments", "jigsaw-multilingual"),
    # The third challenge trained on the comments of the first two.
    "jigsaw-multilingual": ("jigsaw-toxic-comments", "civil-comments"),
    # Logacheva et al. 2022: toxic sentences of Jigsaw, Reddit and Twitter, found by a classifier trained on Jigsaw's. Of the local
    # files, 42 sentences are in toxic_spans too.
    "paradetox": ("jigsaw-toxic-comments", "civil-comments"),
    "paradetox_cannot_rewrite": ("paradetox",),
    "civil_comments": ("civil-comments",),
    # Pavlopoulos et al. 2021: posts of Civil Comments.
    "toxic_spans": ("civil-comments",),
    "toxic_spans_labelled": ("civil-comments",),
    "davidson_tweets": ("davidson-tweets",),
    "rtp_prompts": ("real-toxicity-prompts", "perspective-api"),
    "rtp_challenging": ("real-toxicity-prompts", "perspective-api"),
    "rtp_scored": ("real-toxicity-prompts", "perspective-api"),
    # Continuations of its prompts; people voted.
    "dexperts_human_prefs": ("real-toxicity-prompts",),
    # Papasavva et al. 2020: one crawl of /pol/.
    "pol_posts": ("pol-papasavva",),
    "pol_perspective": ("pol-papasavva", "perspective-api"),
    "perspective_wiki_2k": ("perspective-api",),
    # Chosen by people's label and Perspective's score.
    "cat_wiki_context": ("perspective-api",),
    "cat_wiki_clean": ("cat_wiki_context",),
    "cat_wiki_dialogues": ("cat_wiki_context",),
    "toxigen_statements": ("toxigen",),
    "toxigen_groups": ("toxigen",),
    "toxigen_prompts": ("toxigen",),
    "conda_game_chat": ("conda",),
    "conda_game_chat_spans": ("conda",),
}


def lineage(names: Iterable[str]) -> frozenset[str]:
    """The names and all that they descend from.

    Raises:
        InputError: one string; expected several names.
    """
    if isinstance(names, str):
        raise InputError(f"lineage of {names!r}; expected a list of names, also for a single one")
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += PARENTS.get(name, ())
    return frozenset(found)
