"""Planners by name: embedded, llm:MODEL, a file of settings, or your own; only that one is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from kinalign.errors import ConfigError
from kinalign.planning.tasks import Planner

PLANNERS = {
    "embedded": "kinalign.planning.embedded:EmbeddedPlanner.from_pretrained",
    "llm": "kinalign.planning.llm:LLMPlanner",
}


def planner_named(name: str, **settings: Any) -> Planner:
    """The planner of a name of PLANNERS, or of your own as MODULE:CLASS; the settings are its keyword arguments.

    What follows the colon of a known name is its first argument: `planner_named("llm:gpt-4o")` is
    `LLMPlanner("gpt-4o")`. The name of a JSON file is that of a language model's settings. Raises ConfigError for an
    unknown name, for a module that lacks the class and for a planner that needs more than is said.
    """
    if name.endswith(".json") and name.partition(":")[0] not in PLANNERS:
        name = f"llm:{name}"
    known, colon, argument = name.partition(":")
    place = PLANNERS.get(known, name if colon else "")
    if not place:
        raise ConfigError(
            f"planner {name!r} is unknown; use {', '.join(PLANNERS)}:MODEL, a JSON file of settings, or MODULE:CLASS "
            "(--planner)"
        )
    module, _, maker = place.partition(":")
    try:
        make: Any = importlib.import_module(module)
        for part in maker.split("."):
            make = getattr(make, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"planner {name!r} cannot be loaded from {module} ({error}) (--planner)") from error
    try:
        planner: Planner = make(*([argument] if argument and known in PLANNERS else []), **settings)
    except TypeError as error:
        raise ConfigError(f"planner {name!r} cannot be made ({error}) (--planner)") from error
    return planner
