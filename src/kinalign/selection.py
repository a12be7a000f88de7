"""The best of many: a model draws candidates of a prompt, a judge looks at each one, the best are kept. No training.

Candidates are those of the model's own seed: the first one is what a plain call gives, more of them are the same ones
and then others. A winner is right by the judge that chose it; how often another one agrees says docs/best_of.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import Any, NamedTuple

from kinalign.errors import ConfigError
from kinalign.events.excerpts import WHOLE
from kinalign.events.program import EventProgram
from kinalign.judge.kinematic import KinematicJudge, besides
from kinalign.judge.rubric import SubTask, sub_task_of
from kinalign.judge.timeline import player_events
from kinalign.judge.verdict import Case, Finding, Invalid, Judge, Outcome
from kinalign.lm.model import Sampling
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating_ratio, peak_jerk
from kinalign.motion.planting import settled
from kinalign.pipeline import BATCH_SIZE, TextToMotion
from kinalign.render.player import PlayerEvent

ROUND = 8
"""Candidates that are drawn before it is asked whether there are enough that are right."""
SHORTEST_S = 1.0
"""What is shorter is over before one has seen it."""

RARE_JERK = 1480.0
"""Greatest jerk in m/s³ that 90 in 100 of openmocap20's training clips stay below, as in alignment/rewards.py."""


class Judged(NamedTuple):
    """A candidate and what the judge says of it; `place` is its place among the candidates of its seed, from 0."""

    place: int
    motion: Motion
    outcome: Outcome
    besides: int = 0
    """How often it shows what was not asked for and catches the eye."""

    @property
    def is_right(self) -> bool:
        """Whether everything is as it is asked for."""
        return self.outcome.is_right


@dataclass(frozen=True)
class Selection:
    """What was kept of the candidates of one prompt, best first, and how many there were."""

    prompt: str
    judge: str
    """The judge's name, with its model and settings."""
    kept: tuple[Judged, ...]
    num_drawn: int
    num_invalid: int
    """Candidates on which the judge had no verdict."""
    num_right: int
    """Candidates in which everything is as it is asked for."""
    is_exhausted: bool = False
    """Whether it was drawn until something is right, in vain."""

    @property
    def best(self) -> Judged:
        return self.kept[0]

    @property
    def motions(self) -> list[Motion]:
        return [one.motion for one in self.kept]

    def captioned(self) -> list[Motion]:
        """The motions, each with its score and the reason for it in place of the prompt."""
        return [replace(one.motion, caption=_in_words(one.outcome)) for one in self.kept]

    def timeline(self) -> list[list[PlayerEvent]]:
        """What was seen in each motion and when, for a player."""
        return [player_events(one.outcome, one.motion) for one in self.kept]

    def to_json(self) -> dict[str, Any]:
        """Counts, and of each kept candidate its place and the verdict, with events in frames at `fps`."""
        return {
            "judge": self.judge,
            "drawn": self.num_drawn,
            "invalid": self.num_invalid,
            "right": self.num_right,
            "exhausted": self.is_exhausted,
            "verdicts": [{"candidate": one.place, "fps": one.motion.fps, **one.outcome.to_json()} for one in self.kept],
        }


def best_of(
    model: TextToMotion,
    prompt: str,
    n: int = 8,
    *,
    judge: Judge | None = None,
    program: EventProgram | None = None,
    task: SubTask | None = None,
    keep: int = 1,
    until_right: bool = False,
    seed: int = 0,
    length_s: float | None = None,
    sampling: Sampling | None = None,
    plant: bool = False,
) -> Selection:
    """The best of `n` motions for a prompt, by the judge; None is the one by rules on the joints.

    `program` is what shall happen; where it is left out, it is read from the prompt. `until_right` draws in rounds of 8
    and ends before `n` where `keep` of them are all right. Where nothing of the first round can be judged, as of an
    action that the judge does not know, no second one is drawn. The same seed gives the same motions, and more of them
    never a worse score. With `plant` candidates are set on their feet (`settled`) before the judge looks. Raises
    PromptError for a prompt that names no event or that the model cannot read, ConfigError for fewer than one candidate
    and for more to keep than to draw.
    """
    check_numbers(n, keep)
    judge, program = judge or KinematicJudge(), program or model.program_of(prompt)
    task = task or sub_task_of(program)
    num_rounds = ceil(n / (ROUND if until_right else BATCH_SIZE))
    size = min(n, ROUND) if until_right else ceil(n / num_rounds)
    rounds = model.rounds(prompt, num_candidates=size, seed=seed, length_s=length_s, sampling=sampling)
    kept: list[Judged] = []
    drawn = invalid = right = 0
    for motions in islice(rounds, num_rounds):
        looked_at = [settled(motion) if plant else motion for motion in motions[: n - drawn]]
        cases = [Case(prompt, motion, program, task) for motion in looked_at]
        judged = _judged(judge, cases, first=drawn)
        drawn += len(judged)
        invalid += sum(isinstance(one.outcome, Invalid) for one in judged)
        right += sum(one.is_right for one in judged)
        # sorted keeps those that were drawn first before their equals
        kept = sorted([*kept, *judged], key=merit, reverse=True)[:keep]
        if drawn >= keep and (invalid == drawn or (until_right and right >= keep)):
            break
    return Selection(prompt, judge.name, tuple(kept), drawn, invalid, right, is_exhausted=until_right and right < keep)


def check_numbers(n: int, keep: int) -> None:
    """Raise ConfigError where nothing can be drawn or kept."""
    if n < 1:
        raise ConfigError(f"n={n} leaves nothing to choose from; use 1 or more (--best-of, --until-right)")
    if not 1 <= keep <= n:
        raise ConfigError(
            f"keep={keep} must be 1 to {n}, of so many that are drawn (--num-candidates; --best-of, --until-right)"
        )


def judged(
    prompt: str,
    motions: Sequence[Motion],
    judge: Judge,
    *,
    program: EventProgram | None = None,
    task: SubTask | None = None,
) -> Selection:
    """What the judge says of motions for a prompt, all kept and in their order; raises PromptError as `best_of`."""
    cases = [Case.of(prompt, motion, program=program, task=task) for motion in motions]
    return _counted(prompt, judge, _judged(judge, cases))


def chosen(
    prompt: str, judge: Judge, cases: Sequence[Case], *, keep: int = 1, after: Selection | None = None
) -> Selection:
    """The best motions of those that a judge is asked about, as `best_of` keeps them, and of those kept `after`."""
    counted = _counted(prompt, judge, _judged(judge, cases, first=after.num_drawn if after else 0))
    if after is not None:
        counted = replace(
            counted,
            kept=(*after.kept, *counted.kept),
            num_drawn=after.num_drawn + counted.num_drawn,
            num_invalid=after.num_invalid + counted.num_invalid,
            num_right=after.num_right + counted.num_right,
        )
    return replace(counted, kept=tuple(sorted(counted.kept, key=merit, reverse=True)[:keep]))


def _counted(prompt: str, judge: Judge, judged: Sequence[Judged]) -> Selection:
    """All of what was judged, kept in its order."""
    invalid = sum(isinstance(one.outcome, Invalid) for one in judged)
    return Selection(prompt, judge.name, tuple(judged), len(judged), invalid, sum(one.is_right for one in judged))


def _judged(judge: Judge, cases: Sequence[Case], *, first: int = 0) -> list[Judged]:
    answers = zip(cases, judge.judge_all(cases), besides(cases), strict=True)
    return [Judged(first + place, case.motion, said, others) for place, (case, said, others) in enumerate(answers)]


def merit(one: Judged) -> tuple[float, ...]:
    """What makes one candidate better than another: the first of these numbers that differs, the larger the better.

    The score; whether the order is right; events that are seen, and those seen at least in part; how little their
    counts are off; whether it lasts a second; whether the last frame cuts off no event; how little else happens that
    catches the eye; the judge's confidence in what it saw, in tenths; then how a motion looks: few seconds in which a
    foot skates, no jerk that people seldom make, neither of which standing about makes better. What has no verdict is
    below all that have one, and none of it better than another; nor is what shows nothing that was asked for.
    """
    verdict = one.outcome
    if isinstance(verdict, Invalid):
        return (0.0,)
    seen = [finding for finding in verdict.findings if finding.seen != "no"]
    if verdict.findings and not seen:
        return (verdict.score,)
    return (
        verdict.score,
        verdict.order_is_right is not False,
        sum(finding.seen == "yes" for finding in seen),
        len(seen),
        -sum(map(_off_by, seen)),
        one.motion.duration_s >= SHORTEST_S,
        not any(_is_cut_off(finding, one.motion) for finding in seen),
        -one.besides,
        round(sum(finding.confidence for finding in seen) / max(len(seen), 1), 1),
        -foot_skating_ratio(one.motion) * one.motion.duration_s,
        -max(peak_jerk(one.motion), RARE_JERK),
    )


def _in_words(outcome: Outcome) -> str:
    if isinstance(outcome, Invalid):
        return f"not judged: {outcome.reason}"
    return f"{outcome.score} of 5: {outcome.reason}"


def _is_cut_off(finding: Finding, motion: Motion) -> bool:
    """Whether an event that can be repeated lasts to the last frame; who walks goes on, and who sits keeps sitting."""
    return finding.end is not None and finding.end >= len(motion) and finding.event.action not in WHOLE


def _off_by(finding: Finding) -> int:
    """Repetitions too few or too many; 0 where none are asked for or counted."""
    asked = finding.event.count
    return abs(finding.count - asked) if isinstance(asked, int) and finding.count is not None else 0
