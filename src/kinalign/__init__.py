"""From a sentence to 3-D human motion in which the named events happen.

Names are loaded when they are first used, so `import kinalign` is quick and pulls in neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinalign.alignment.preference import PreferenceConfig, align
    from kinalign.data.dataset import load_dataset
    from kinalign.data.openmocap import load_openmocap
    from kinalign.errors import KinalignError
    from kinalign.events.parse import parse
    from kinalign.events.program import EventProgram
    from kinalign.eventwise import by_events
    from kinalign.judge.human import HumanJudge
    from kinalign.judge.kinematic import KinematicJudge
    from kinalign.judge.lvlm import LVLMJudge
    from kinalign.judge.verdict import Verdict
    from kinalign.motion.features import FeatureLayout, FeatureStats, features_to_motion, motion_to_features
    from kinalign.motion.motion import Motion
    from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
    from kinalign.pipeline import TextToMotion
    from kinalign.preference.annotate import annotate
    from kinalign.preference.dataset import load_preferences
    from kinalign.selection import best_of
    from kinalign.tokenizer.tokenizer import MotionTokenizer

__version__ = "0.1.0"

__all__ = [
    "HUMANML3D",
    "KIT",
    "EventProgram",
    "FeatureLayout",
    "FeatureStats",
    "HumanJudge",
    "KinalignError",
    "KinematicJudge",
    "LVLMJudge",
    "Motion",
    "MotionTokenizer",
    "PreferenceConfig",
    "Skeleton",
    "TextToMotion",
    "Verdict",
    "__version__",
    "align",
    "annotate",
    "best_of",
    "by_events",
    "features_to_motion",
    "load_dataset",
    "load_openmocap",
    "load_preferences",
    "motion_to_features",
    "parse",
]

# The same names as above, for the interpreter: name -> module.
_HOMES = {
    "HUMANML3D": "kinalign.motion.skeleton",
    "KIT": "kinalign.motion.skeleton",
    "EventProgram": "kinalign.events.program",
    "FeatureLayout": "kinalign.motion.features",
    "FeatureStats": "kinalign.motion.features",
    "HumanJudge": "kinalign.judge.human",
    "KinalignError": "kinalign.errors",
    "KinematicJudge": "kinalign.judge.kinematic",
    "LVLMJudge": "kinalign.judge.lvlm",
    "Motion": "kinalign.motion.motion",
    "MotionTokenizer": "kinalign.tokenizer.tokenizer",
    "PreferenceConfig": "kinalign.alignment.preference",
    "Skeleton": "kinalign.motion.skeleton",
    "TextToMotion": "kinalign.pipeline",
    "Verdict": "kinalign.judge.verdict",
    "align": "kinalign.alignment.preference",
    "annotate": "kinalign.preference.annotate",
    "best_of": "kinalign.selection",
    "by_events": "kinalign.eventwise",
    "features_to_motion": "kinalign.motion.features",
    "load_dataset": "kinalign.data.dataset",
    "load_openmocap": "kinalign.data.openmocap",
    "load_preferences": "kinalign.preference.dataset",
    "motion_to_features": "kinalign.motion.features",
    "parse": "kinalign.events.parse",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kinalign' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
