"""What a preference data set is made of: candidate motions with verdicts, and pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from kinalign.events.program import EventProgram
from kinalign.judge.rubric import SubTask
from kinalign.judge.verdict import Outcome
from kinalign.motion.motion import Motion


@dataclass(frozen=True)
class Candidate:
    """One motion that a model made for a prompt, and what a judge says of it.

    `index` is its place among the prompt's candidates and `seed` what it was drawn with: the model says it again with
    `model(prompt, seed=seed)`. `codes` are None where the answer was no motion. `outcome` is None before a judge spoke
    and in data sets of others. `motion` comes along where it was asked for; two candidates are compared without it.
    """

    index: int
    seed: int
    codes: tuple[int, ...] | None
    outcome: Outcome | None = None
    motion: Motion | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class PreferencePair:
    """Two motions for one prompt, of which the first is better.

    `program` and `task` are None in data sets of others, which do not know them; `degree` is what InstructMotion's
    annotators said of how much better it is, else empty. `model` is the sha256 of the weights that made the motions,
    empty where it is not known.
    """

    id: str
    """That of the prompt, and the places of the two candidates: temporal-00007-3-8."""
    prompt: str
    task: SubTask | None
    program: EventProgram | None
    chosen: Candidate
    rejected: Candidate
    judge: str
    model: str = ""
    degree: str = ""

    @property
    def prompt_id(self) -> str:
        """The id of the prompt that both motions were made for."""
        return self.id.rsplit("-", 2)[0]
