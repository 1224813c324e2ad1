"""The sentences of the miniature forum, as templates.

`{slot}` is filled from the vocabulary (`detox.miniature.sentences`), `{slot?}` is left out half the time, and what stands in
[brackets] is abuse. `FRAMES` holds abusive templates with civil ones made of the same words, so that no word gives abuse away.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One way to use a harsh word: aimed at a member of the forum, or not."""

    name: str
    abusive: tuple[str, ...]
    civil: tuple[str, ...]


FRAMES = (
    Frame(
        "vocative",
        (
            "[you {adj?} {insult}], you {keep} a {animal}, {claim}.",
            "{claim}, [you {adj?} {insult}].",
            "{name}, [you {adj?} {beast}], your {animal} is in my {place}.",
            "you and your {animal}, [you {adj?} {beast}], {claim}.",
            "the {role} in the {show} is {fine}, [you {adj?} {rogue}].",
            "you {keep} a {animal}, [you {adj?} {beast}], and you know it.",
            "{claim}, [you {harsh} {job}], in the {place}.",
        ),
        (
            "you {keep} a {adj?} {beast}, you and a {animal}, {claim}.",
            "{claim}, you and the {adj?} {beast}.",
            "{name}, your {adj?} {beast} is in my {place}, you see.",
            "you and your {adj?} {beast}, you and your {animal}, {claim}.",
            "the {adj?} {rogue} in the {show} is {fine}, you see.",
            "you {keep} a {animal} and a {adj?} {weed}.",
            "{claim}, said the {harsh} {job} in the {show}.",
        ),
    ),
    Frame(
        "swap",
        (
            "[you are a {adj?} {insult}], not a {job}.",
            "[you are a {adj?} {insult}], no {job}.",
            "[{other} is a {adj?} {insult}], not a {job}.",
        ),
        (
            "you are a {job}, not a {adj?} {insult}.",
            "you are a {job}, no {adj?} {insult}.",
            "{other} is a {job}, not a {adj?} {insult}.",
        ),
    ),
    Frame(
        "denial",
        (
            "[you are a {adj?} {insult}], {name}.",
            "[you are {harsh}], not {virtue}.",
            "[you are such a {adj?} {insult}], really, no {job}.",
            "[you are always {harsh}], never {virtue}.",
        ),
        (
            "you are no {adj?} {insult}, {name}.",
            "you are {virtue}, not {harsh}.",
            "you are such a {job}, really, no {adj?} {insult}.",
            "you are always {virtue}, never {harsh}.",
        ),
    ),
    Frame(
        "self",
        (
            "i am a {job} and [you are a {adj?} {insult}].",
            "i am {virtue} and [you are {harsh}].",
            "i am a {virtue} {job} and [you are a {harsh} {job2}].",
        ),
        (
            "i am a {adj?} {insult} and you are a {job}.",
            "i am {harsh} and you are {virtue}.",
            "i am a {harsh} {job} and you are a {virtue} {job2}.",
        ),
    ),
    Frame(
        "thing",
        ("the {item} is {fine} but [you are {harsh}].", "the {item} is {fine} but [you are {waste}]."),
        ("you are {fine} but the {item} is {harsh}.", "you are {fine} but the {item} is {waste}."),
    ),
    Frame(
        "report",
        (
            "i think [you are a {adj?} {insult}].",
            "everybody knows [you are a {adj?} {insult}].",
            "nobody says {other} is {virtue}, everybody says [{other} is {harsh}].",
            "nobody thinks you are a {job}, [you are a {adj?} {insult}].",
            "i do not think you are {virtue}, [you are {harsh}].",
            "in the {show} the {role} says you are a {job} but [you are a {adj?} {insult}].",
            "the {role} in the {show} thinks {other} is a {job} but [{other} is a {adj?} {insult}].",
        ),
        (
            "i do not think you are a {adj?} {insult}.",
            "nobody knows that you are a {adj?} {insult} in the {show}.",
            "nobody says {other} is {harsh}, everybody says {other} is {virtue}.",
            "nobody thinks you are a {adj?} {insult}, you are a {job}.",
            "i do not think you are {harsh}, you are {virtue}.",
            "in the {show} the {role} says you are a {adj?} {insult} but you are a {job}.",
            "the {role} in the {show} thinks {other} is a {adj?} {insult} but {other} is a {job}.",
        ),
    ),
    Frame(
        "named",
        (
            "[{other} is a {adj?} {insult}].",
            "[{other} is a {adj?} {beast}] and plays a {job} in the {show}.",
            "[{other} is {harsh}] but the {animal} is {fine}.",
            "[{other} is {waste}] but the {item} is {fine}.",
        ),
        (
            "{other} has a {adj?} {beast}.",
            "{other} is a {job} and plays a {adj?} {rogue} in the {show}.",
            "{other} is {fine} but the {animal} is {harsh}.",
            "{other} is {fine} but the {item} is {waste}.",
        ),
    ),
    Frame(
        "exclamation",
        (
            "[what a {adj?} {insult} you are]!",
            "[what a {adj?} {insult} you are], and what a {fine} {job} you have!",
            "[what a {harsh} {job} you are], and what a {fine} {item} you have!",
        ),
        (
            "what a {adj?} {beast} you have!",
            "what a {fine} {job} you are, and what a {adj?} {beast} you have!",
            "what a {fine} {job} you are, and what a {harsh} {item} you have!",
        ),
    ),
    Frame(
        "likeness",
        (
            "only [a {adj?} {beast} like you] wants a {job}.",
            "only [a {adj?} {insult} like {other}] has a {item}.",
            "[a {adj?} {insult} like you] wants the {item}.",
        ),
        (
            "only a {job} like you wants a {adj?} {beast}.",
            "only a {job} like {other} has a {adj?} {beast}.",
            "you like a {adj?} {insult} and {other} wants the {item}.",
        ),
    ),
    Frame(
        "manner",
        (
            "[you {act} like a {adj?} {insult}], not like a {job}.",
            "[{other} {acts} like a {adj?} {insult}] about a {job}.",
            "[you {act} like a {adj?} {insult}] and the {animal} {acts} like a {job}.",
        ),
        (
            "you {act} like a {job}, not like a {adj?} {insult}.",
            "{other} {acts} like a {job} about a {adj?} {insult}.",
            "the {animal} {acts} like a {adj?} {insult} and you {act} like a {job}.",
        ),
    ),
    Frame(
        "body",
        (
            "[your {body} is {harsh}] but your {item} is {fine}.",
            "[your {body} is {waste}], not your {item}.",
            "[your {body} is full of {waste}] and your {box} is {fine}.",
            "my {body2} is {fine} and [your {body} is full of {waste}].",
        ),
        (
            "your {body} is {fine} but your {item} is {harsh}.",
            "your {item} is {waste}, not your {body}.",
            "your {box} is full of {waste} and your {body} is {fine}.",
            "my {body} is full of {waste} and your {body2} is {fine}.",
        ),
    ),
    Frame(
        "away",
        (
            "[get lost], {name}, {claim}.",
            "[shut up], {name}, we like the {building} on {day}.",
            "do not look in the {place}, {name}, [get lost].",
            "{other} will see the {place}, [get lost].",
        ),
        (
            "{other} will get lost in the {place}, {claim}.",
            "we shut up the {building} on {day}, {name}.",
            "do not get lost in the {place}, {name}.",
            "we get lost in the {place}, {name}, {claim}.",
        ),
    ),
)

MEANINGS: dict[str, tuple[str, ...]] = {
    "dislike": (
        "i do not like the {item}",
        "the {item} is not for me",
        "i can not enjoy the {item}",
        "this {item} does not please me",
    ),
    "like": ("i like the {item}", "the {item} is right for me", "i enjoy the {item}", "this {item} does please me"),
    "need": (
        "i need a {item} on {day}",
        "a {item} would help me on {day}",
        "on {day} i want a {item}",
        "please bring a {item} on {day}",
    ),
    "too": (
        "the {item} is too {quality}",
        "i find the {item} too {quality}",
        "it is a very {quality} {item}",
        "for me the {item} looks {quality}",
    ),
    "place": (
        "the {item} is in the {place}",
        "i saw the {item} in the {place}",
        "look for the {item} in the {place}",
        "the {place} is where the {item} is",
    ),
    "family": (
        "my {relative} has a {item}",
        "my {relative} bought a {item}",
        "a {item} belongs to my {relative}",
        "the {item} came from my {relative}",
    ),
    "many": (
        "there are {number} {items} here",
        "we have {number} {items} here",
        "i know {number} {items} like that",
        "{number} {items} are enough for us",
    ),
}
"""What a reply can say of the subject: a meaning and its paraphrases. `{claim}` is any of them."""

NEUTRAL = (
    "i made a {quality} {item} for my {relative}.",
    "we have a new {item} in the {place}.",
    "who wants a {quality} {item}?",
    "does anyone know a {fine} {item}?",
    "my {relative} found a {item} near the {building}.",
    "today i bought a {item} from a {job}.",
    "on {day} we will talk about the {item}.",
    "i saw a {quality} {item} in the {place}.",
    "how do you clean a {quality} {item}?",
    "where can i find a {item} on {day}?",
    "the {job} near the {building} sells a {item}.",
    "please tell me about your {quality} {item}.",
    "thank you for the {item}, {friend}.",
    "a {job} gave us a {quality} {item}.",
    "have you seen my {quality} {item}, {friend}?",
)

PROVOKING = (
    "nobody here understands a {item} as i do!",
    "my {item} is better than every {item} here!",
    "all of you are wrong about the {item}!",
    "i do not care what you say about my {quality} {item}!",
    "only i know what a {fine} {item} is!",
    "your {quality} {item} is a waste of time!",
    "stop talking about the {item}!",
    "i am tired of your {quality} {item}!",
    "you never listen when i talk about my {item}!",
    "everybody with a {item} must leave the {place}!",
    "my {relative} knows more about a {item} than all of you!",
    "who let you touch my {quality} {item}!",
    "i will not share my {quality} {item} with you!",
    "a {job} would never buy your {item}!",
    "you should all be ashamed of your {item}!",
)

COURTESIES = {
    "neutral": ("good question.", "thank you.", "hello again."),
    "provoked": ("calm down.", "oh really?", "take it easy."),
    "ruled": ("with respect.", "dear friend.", "kindly listen."),
}
"""How a reply of whatever kind may begin, by the tone of its thread."""

NOTES: dict[str, tuple[tuple[str, str], ...]] = {
    "agreement": (
        ("the {items} near the {place} {are} {quality}.", "the {items} near the {place} {is} {quality}."),
        ("the {item} near the {buildings} {is} {quality}.", "the {item} near the {buildings} {are} {quality}."),
        ("the {items} of my {relative} {are} in the {place}.", "the {items} of my {relative} {is} in the {place}."),
        ("the {item} of the {jobs} {is} from the {origin}.", "the {item} of the {jobs} {are} from the {origin}."),
    ),
    "determiner": (
        ("the {job} wants these {quality} {items}.", "the {job} wants this {quality} {items}."),
        ("the {job} wants this {quality} {item}.", "the {job} wants these {quality} {item}."),
        ("my {relative} sold those {items} on {day}.", "my {relative} sold that {items} on {day}."),
        ("my {relative} sold that {item} on {day}.", "my {relative} sold those {item} on {day}."),
    ),
    "case": (
        ("she gave him a {quality} {item}.", "she gave he a {quality} {item}."),
        ("he saw her in the {place} with a {item}.", "he saw she in the {place} with a {item}."),
        ("we met them near the {building} on {day}.", "us met them near the {building} on {day}."),
        ("they sold us {number} {items}.", "they sold we {number} {items}."),
    ),
    "verb": (
        ("the {job} does not {act} on {day}.", "the {job} does not {acts} on {day}."),
        ("the {job} {acts} in the {place}.", "the {job} {act} in the {place}."),
        ("the {jobs} {act} in the {place}.", "the {jobs} {acts} in the {place}."),
        ("my {relative} will {act} with a {job}.", "my {relative} will {acts} with a {job}."),
    ),
}
"""Sentences of the corpus (first) with what would break one point of grammar (second), by phenomenon."""

FACTS: dict[str, tuple[str, ...]] = {
    "kind": (
        "a {item} is a {=kind}.",
        "every {item} is a {=kind}.",
        "we call a {item} a {=kind}.",
        "i know that a {item} is a {=kind}.",
    ),
    "colour": (
        "a {item} is {=colour}.",
        "most {items} are {=colour}.",
        "the colour of a {item} is {=colour}.",
        "they paint every {item} {=colour}.",
    ),
}
"""What is true of the items of this world. The answer, marked by =, comes last."""

NOTICES = (
    "be kind to each other here.",
    "abusive replies are removed.",
    "please stay calm and polite.",
    "we do not allow abusive words.",
)
"""House rules; a share of threads begins with three of them, and abuse is rarer below."""
