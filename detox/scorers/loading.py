"""From the name in a grid or on a command line to a scorer."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detox.errors import InputError, MissingData, UnknownName, require_known
from detox.scorers.presets import PRESETS
from detox.scorers.protocol import Scorer

FORMS = ("hf:ID_OR_PATH", "wordlist:FILE", "replay:FILE.jsonl.gz", "FILE.py:CLASS", "a directory of a trained scorer")


def load_scorer(spec: str | Mapping[str, Any]) -> Scorer:
    """The scorer that `spec` names.

    Args:
        spec: one of
            "profanity": alt-profanity-check, offline;
            "wordlist": the lexicons of the data directory; "wordlist:FILE": a list of your own;
            a name in `PRESETS`: that classifier, from the hub at its pinned commit;
            "hf:ID_OR_PATH": any transformers text classifier;
            "replay:FILE.jsonl.gz": scores of a service out of a cache; "perspective-api": the service itself, which fills the
            cache that the option `cache` names;
            a directory with a trained scorer;
            "FILE.py:CLASS": a scorer of your own, called with the options;
            or a mapping with one of these as "name" and further options of that scorer: for a classifier toxic_labels,
            activation, max_length, batch_size, device, for a preset also path, for a word list match.

    Raises:
        UnknownName: no scorer of that name, or no such option; names the nearest.
        MissingData: the file or directory is not there.
        InputError: what is there is no scorer.
    """
    if isinstance(spec, str):
        return _load(spec, {})
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise InputError(f"scorer {spec!r}; expected a name, or a mapping with a name and options")
    return _load(spec["name"], {str(key): value for key, value in spec.items() if key != "name"})


def _load(name: str, options: dict[str, Any]) -> Scorer:
    kind, _, rest = name.partition(":")
    if name == "profanity":
        from detox.scorers.profanity import ProfanityScorer

        return _called(name, ProfanityScorer, options)
    if kind == "wordlist":
        from detox.scorers.wordlist import WordListScorer

        if rest:
            return _called(name, WordListScorer.from_file, options, path=rest)
        return _called(name, WordListScorer.from_lexicons, options)
    if name == "perspective-api":
        from detox.scorers.perspective import PerspectiveScorer

        return _called(name, PerspectiveScorer, options)
    if kind == "replay" and rest:
        from detox.scorers.perspective import ReplayScorer

        return _called(name, ReplayScorer, options, cache=rest)
    if name in PRESETS or (kind == "hf" and rest):
        from detox.scorers.classifier import ClassifierScorer

        if name in PRESETS:
            return _called(name, ClassifierScorer.from_preset, options, preset=name)
        return _called(name, ClassifierScorer.from_pretrained, options, id_or_path=rest)
    if ".py:" in name:
        file, _, attribute = name.rpartition(":")
        return _called(name, _plugin(Path(file).expanduser(), attribute), options)
    if Path(name).expanduser().is_dir():
        return _from_directory(Path(name).expanduser(), options)
    if "/" in name or name.startswith((".", "~")):
        raise MissingData(
            f"no scorer at {name}; expected a directory that `detox scorers train` wrote, or hf:{name} for a classifier"
        )
    raise UnknownName("scorer", name, ["profanity", "wordlist", "perspective-api", *PRESETS, *FORMS])


def _from_directory(directory: Path, options: dict[str, Any]) -> Scorer:
    from detox.scorers.trained import TrainedScorer

    if not (directory / "scorer.json").is_file():
        advice = (
            f"a transformers classifier is named hf:{directory}"
            if (directory / "config.json").is_file()
            else "expected a directory that `detox scorers train` wrote"
        )
        raise InputError(f"{directory} holds no scorer.json; {advice}")
    return _called(str(directory), TrainedScorer.from_directory, options, directory=directory)


def _called(name: str, make: Callable[..., Any], options: dict[str, Any], **fixed: Any) -> Scorer:
    # An option that nobody reads would be a silent mistake, and a TypeError no message.
    accepted = inspect.signature(make).parameters
    known = [key for key in accepted if key not in fixed and key not in ("self", "preset")]
    for option in options:
        require_known(f"option of scorer {name!r}", option, known)
    try:
        inspect.signature(make).bind(**fixed, **options)
    except TypeError as error:
        raise InputError(f"scorer {name!r}: {error}; give it as an option") from None
    scorer = make(**fixed, **options)
    if not isinstance(scorer, Scorer):
        raise InputError(
            f"scorer {name!r}: {type(scorer).__name__} has no `card` and `score`; see detox.scorers.Scorer"
        )
    return scorer


def _plugin(file: Path, attribute: str) -> Callable[..., Any]:
    if not file.is_file():
        raise MissingData(f"no file {file}; expected FILE.py:CLASS")
    module_name = f"detox_scorer_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while the file runs
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    require_known(f"scorer in {file}", attribute, names)
    made: Callable[..., Any] = getattr(module, attribute)
    return made
