"""Judges by name, for commands: `kinematic`, `embedding`, `lvlm:MODEL`, `human:LABELS`; only who is asked is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from kinalign.errors import ConfigError
from kinalign.judge.verdict import Judge

# Who makes a judge, by its name: the embedding judge's encoder lives a floor up, where only its name is known.
JUDGES = {
    "kinematic": "kinalign.judge.kinematic:KinematicJudge",
    "human": "kinalign.judge.human:HumanJudge",
    "embedding": "kinalign.evaluation.judging:embedding_judge",
    "lvlm": "kinalign.judge.lvlm:LVLMJudge",
}


def judge_named(name: str, **settings: Any) -> Judge:
    """The judge of that name; what follows a colon is its first argument, the settings are its keyword arguments.

    `judge_named("lvlm:gpt-4o", votes=3)` is `LVLMJudge("gpt-4o", votes=3)`. Raises ConfigError for an unknown name.
    """
    kind, _, argument = name.partition(":")
    if kind not in JUDGES:
        raise ConfigError(f"judge {name!r} is unknown; use one of {', '.join(JUDGES)} (--judge)")
    module, maker = JUDGES[kind].split(":")
    judge: Judge = getattr(importlib.import_module(module), maker)(*([argument] if argument else []), **settings)
    return judge
