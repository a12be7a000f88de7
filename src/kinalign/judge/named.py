"""Judges by name: a judge's module is loaded only when the judge is asked for."""

from __future__ import annotations

import importlib

from kinalign.errors import ConfigError
from kinalign.judge.verdict import Judge

JUDGES = {
    "kinematic": "kinalign.judge.kinematic:KinematicJudge",
    "embedding": "kinalign.judge.embedding:EmbeddingJudge",
    "lvlm": "kinalign.judge.lvlm:LVLMJudge",
}
"""Where each lives, as module:class; called without arguments it gives a judge."""


def judge_named(name: str) -> Judge:
    """The judge of a name of JUDGES, or of your own as module:class.

    Raises ConfigError for a name that is neither, and for a module that lacks it.
    """
    module, colon, maker = JUDGES.get(name, name).partition(":")
    if not colon:
        raise ConfigError(f"judge {name!r} is unknown; use one of {', '.join(JUDGES)}, or MODULE:CLASS (--judge)")
    try:
        judge: Judge = getattr(importlib.import_module(module), maker)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"judge {name!r} cannot be loaded from {module} ({error}) (--judge)") from error
    return judge
