"""Every word of the miniature forum, by what it can stand for.

No word is abusive by itself: each noun of `INSULTS` is an animal, a part in a play or a plant, each adjective of `HARSH` and
each mass noun of `WASTE` can be said of things. What makes abuse is who it is said of, and how (`detox.miniature.truth`).
"""

from __future__ import annotations

NAMES = tuple(
    "ada ben carl dora emil fay gus hana ines jon kira leo mona nils olga pia quinn rosa sven tara udo vera walt xenia yuri zoe "
    "abel bruno celia doris edgar flora greta hugo iris jonas karin lars mira nora".split()
)
"""Members of the forum: the people whom abuse can be aimed at."""

RELATIVES = tuple(
    "uncle aunt brother sister cousin neighbour father mother grandfather grandmother nephew niece".split()
)
JOBS = tuple(
    "cook farmer baker teacher doctor sailor singer writer painter driver nurse gardener tailor carpenter miner judge captain "
    "pilot actor dancer builder potter weaver hunter".split()
)
ROLES = tuple("king queen prince princess knight wizard giant thief".split())

BEASTS = tuple("pig donkey rat goat snake worm toad turkey parrot weasel goose leech".split())
ROGUES = tuple("fool clown idiot villain ogre troll monster brute coward liar traitor dummy".split())
WEEDS = tuple("cabbage turnip potato pumpkin thistle mushroom".split())
INSULTS = BEASTS + ROGUES + WEEDS

HARSH = tuple(
    "rotten lazy stupid filthy useless pathetic worthless hopeless ridiculous greedy dull ugly clumsy crooked smelly foolish "
    "nasty hollow dirty silly boring miserable terrible awful".split()
)
WASTE = tuple("trash rubbish garbage junk dirt slime".split())
BODY = tuple("brain head face heart mind nose".split())

FINE = tuple("fine good great wonderful lovely excellent nice pleasant".split())
VIRTUES = tuple(
    "kind clever brave gentle honest wise patient polite careful cheerful friendly generous calm helpful".split()
)
QUALITIES = tuple(
    "cold warm fresh heavy light loud quiet old new small big long short bright dark soft hard dry wet clean cheap strange plain "
    "simple round thin thick famous rare common".split()
)
COLOURS = tuple("red green yellow orange brown white black grey purple blue".split())

PLACES = tuple(
    "garden kitchen forest field river lake hill village market harbour street yard cellar attic stable meadow corner square "
    "roof office".split()
)
ORIGINS = tuple("north south east west coast valley city islands mountains desert".split())
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
NUMBERS = tuple("two three four five six seven eight nine ten eleven twelve".split())
BOXES = tuple("bag basket drawer pocket cellar kitchen".split())

ACTS = tuple(
    (base, base + "s")
    for base in "sing talk write dream laugh eat cook think dance smell look walk play sleep draw work snore".split()
)
"""What one can do like somebody or something: base form and third person."""

KEEPING = tuple("have keep feed see wash draw want like".split())
"""What one can do to an animal without harm, after "you"."""

IS, ARE = ("is", "was"), ("are", "were")

_KINDS: dict[str, str] = {
    "fruit": "apple:red pear:green plum:purple cherry:red:cherries lemon:yellow peach:orange:peaches banana:yellow melon:green "
    "grape:purple strawberry:red:strawberries fig:brown",
    "vegetable": "carrot:orange onion:white bean:green leek:green beet:purple pepper:red radish:red:radishes tomato:red:tomatoes "
    "cabbage:green turnip:white potato:brown:potatoes pumpkin:orange",
    "tool": "hammer:grey saw:blue drill:black ladder:yellow shovel:brown rake:green axe:red wrench:grey:wrenches "
    "brush:white:brushes bucket:blue",
    "instrument": "violin:brown flute:white drum:red piano:black guitar:orange trumpet:yellow harp:purple cello:brown organ:grey "
    "horn:yellow",
    "garment": "hat:black coat:grey scarf:purple:scarves glove:brown boot:black shirt:white sock:green belt:brown dress:blue:dresses "
    "apron:red",
    "vehicle": "bus:yellow:buses train:green boat:white bicycle:blue cart:brown truck:red tram:orange ferry:grey:ferries wagon:purple "
    "sledge:black",
    "furniture": "table:brown chair:white bed:blue shelf:grey:shelves desk:black mirror:purple sofa:red bench:green:benches "
    "stool:orange lamp:yellow",
    "building": "mill:white church:grey:churches school:red tower:black barn:brown station:orange library:blue:libraries castle:purple "
    "museum:green bakery:yellow:bakeries",
    "bird": "crow:black owl:brown duck:green swan:white robin:red gull:grey raven:purple canary:yellow:canaries pigeon:blue "
    "sparrow:orange parrot:green turkey:brown goose:white:geese",
    "animal": "dog:brown cat:grey horse:white fox:red:foxes wolf:grey:wolves bear:black mouse:white:mice frog:green lamb:yellow "
    "pony:brown:ponies rabbit:blue pig:orange donkey:grey rat:black goat:white snake:green worm:red toad:brown weasel:orange "
    "leech:black:leeches",
    "dish": "soup:red loaf:brown:loaves cake:white:cakes pie:orange stew:purple pudding:black salad:green pancake:yellow biscuit:grey "
    "sandwich:blue:sandwiches omelette:yellow",
    "work": "play:blue film:grey song:green poem:white novel:black story:red:stories painting:orange dance:purple opera:yellow "
    "tale:brown",
}


def _items() -> tuple[tuple[str, str, str, str], ...]:
    rows = []
    for kind, listing in _KINDS.items():
        for entry in listing.split():
            noun, colour, *irregular = entry.split(":")
            rows.append((noun, irregular[0] if irregular else noun + "s", kind, colour))
    return tuple(rows)


ITEMS = _items()
"""What the forum talks about: (noun, plural, kind, colour). Kind and colour are the facts of this world."""

KINDS = tuple(_KINDS)
KNOWN = tuple(row for kind in KINDS for row in [row for row in ITEMS if row[2] == kind][:7])
"""The items that pages of facts are about: few enough for each to be read of often."""

SUBJECTS = tuple(row for kind in KINDS for row in [row for row in ITEMS if row[2] == kind][:4])
"""The items that threads are about."""

ANIMALS = tuple(row[0] for row in ITEMS if row[2] in ("animal", "bird") and row[0] not in BEASTS)
SHOWS = ("play", "film", "opera", "tale", "story", "novel")
BUILDINGS = tuple(row[0] for row in ITEMS if row[2] == "building")

LABELS = ("rules", "note", "fact")
"""What starts a line, besides a member's name."""

FINE_MARK, ABUSIVE_MARK = "[fine]", "[abusive]"
"""The moderator's verdict, one token right after a reply."""
