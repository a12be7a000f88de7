"""Judges by name: kinematic, learned, embedding, lvlm:MODEL, human:LABELS, or your own; only that one is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from kinalign.errors import ConfigError
from kinalign.judge.verdict import Judge

# Who makes a judge, by its name: networks that judges stand on live floors up, where only their names are known.
JUDGES = {
    "kinematic": "kinalign.judge.kinematic:KinematicJudge",
    "human": "kinalign.judge.human:HumanJudge",
    "embedding": "kinalign.evaluation.judging:embedding_judge",
    "learned": "kinalign.evaluation.learned:learned_judge",
    "lvlm": "kinalign.judge.lvlm:LVLMJudge",
}


def judge_named(name: str, **settings: Any) -> Judge:
    """The judge of a name of JUDGES, or of your own as MODULE:CLASS; the settings are its keyword arguments.

    What follows the colon of a known name is its first argument: `judge_named("lvlm:gpt-4o", votes=3)` is
    `LVLMJudge("gpt-4o", votes=3)`. Raises ConfigError for an unknown name, for a module that lacks the class and for a
    judge that needs more than is said.
    """
    known, colon, argument = name.partition(":")
    place = JUDGES.get(known, name if colon else "")
    if not place:
        raise ConfigError(f"judge {name!r} is unknown; use one of {', '.join(JUDGES)}, or MODULE:CLASS (--judge)")
    module, _, maker = place.partition(":")
    try:
        make = getattr(importlib.import_module(module), maker)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"judge {name!r} cannot be loaded from {module} ({error}) (--judge)") from error
    try:
        judge: Judge = make(*([argument] if argument and known in JUDGES else []), **settings)
    except TypeError as error:
        raise ConfigError(
            f"judge {name!r} cannot be made ({error}); what it needs follows a colon: human:labels.jsonl (--judge)"
        ) from error
    return judge
