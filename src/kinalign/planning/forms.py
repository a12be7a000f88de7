"""What a language model fills in when it plans, describes and judges plans, as pydantic models; needs the extra "judge".

Every field is required and no other is allowed, which strict structured output asks for.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, cast

from pydantic import Field, create_model

from kinalign.judge.forms import Form
from kinalign.motion.motion import FPS
from kinalign.pipeline import MAX_FRAMES
from kinalign.planning.plan import MOST_STEPS

LONGEST_STEP_S = MAX_FRAMES / FPS
SHORTEST_STEP_S = 0.4
"""Two steps of the tokenizer."""


class ToldScene(Form):
    """Where somebody is and what goes on."""

    scene: str


class ToldTask(Form):
    """One activity."""

    task: str


class ToldStep(Form):
    """One movement; no seconds where the model that moves shall decide."""

    step: str
    seconds: Annotated[float, Field(ge=SHORTEST_STEP_S, le=LONGEST_STEP_S)] | None


class ToldSteps(Form):
    """Movements one after the other, or why there are none."""

    steps: Annotated[list[ToldStep], Field(max_length=MOST_STEPS)]
    cannot: str
    """What is asked for that no known step shows; empty where there are steps."""


@cache
def told_steps_of(known: tuple[str, ...]) -> type[ToldSteps]:
    """The form in which a step is one of those that are known."""
    one: Any = create_model("ToldStep", __base__=ToldStep, step=(cast(Any, Literal[known]), ...))
    several: Any = Annotated[list[one], Field(max_length=MOST_STEPS)]
    return create_model("ToldSteps", __base__=ToldSteps, steps=(several, ...))


class ToldConsistency(Form):
    """Whether an answer follows from what was asked."""

    reason: str
    answer: Literal["yes", "no"]


class ToldPiece(Form):
    """What a piece of film shows."""

    is_person: bool
    """Whether a person, or a figure of one, is seen at all."""
    description: str


class ToldCaptions(Form):
    """A description in two shorter levels: the steps of the body, and one activity in several wordings."""

    steps: Annotated[list[str], Field(min_length=1, max_length=MOST_STEPS)]
    activity: Annotated[list[str], Field(min_length=3, max_length=3)]
