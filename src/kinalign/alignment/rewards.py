"""What an answer is worth, by what can be checked: a judge's findings, its length, and how the body moves.

The judge's part alone could be bought: with a motion that goes on until everything has happened once, or with one that
no body could do. So seconds beyond what is asked are taken off, and so is what slides, trembles or jerks more than
real people do: at its worst each of these three costs half of all that events bring, and more than one of two events.
They weigh no more, or else a policy learns to slide less before it learns anything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import ConfigError, VerdictError
from kinalign.events.program import Event, EventProgram
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Finding, Invalid, Judge, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter, peak_jerk
from kinalign.pipeline import TextToMotion

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Band(NamedTuple):
    """Where a motion begins to be ugly and where it is as ugly as it gets."""

    usual: float
    extreme: float


SKATING_M_S = Band(0.58, 0.91)
JITTER_M_S3 = Band(188.0, 337.0)
PEAK_JERK_M_S3 = Band(1480.0, 3780.0)
"""What 90 and 99 in 100 of openmocap20's training clips, of at most 9.8 s, stay below: to walk must not cost anything,
or standing still would pay."""

EVENT_S, REPETITION_S, ONSET_S = 2.5, 1.0, 1.0
"""Seconds that an event has, one of several repetitions, and getting there: how long a motion is asked for."""
EXTREME_EXCESS_S = 4.0
"""So many seconds more than asked are as bad as it gets."""
ORDER_SHARE = 1 / 3
"""How much of the events' worth is their order, where one is asked for."""
OUT_OF_ORDER = 0.5
"""A wrong order of all events is worth at most so much of the right one."""


@dataclass(frozen=True)
class RewardWeights:
    """How much each term counts. Events and score are in [0, 1], all others in [-1, 0]."""

    events: float = 1.0
    """Share of what is asked for that the judge found: events, repetitions and order."""
    score: float = 0.5
    """The judge's score from 1 to 5: that nothing is missing is worth more than what was missing last."""
    length: float = 0.5
    """Seconds beyond what is asked."""
    skating: float = 0.75
    """Feet that slide on the floor."""
    jitter: float = 0.75
    """Mean jerk."""
    peak_jerk: float = 0.75
    """Greatest jerk: a jump from one pose to another."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"{field.name}={value} must be 0 or more (--weights.{field.name.replace('_', '-')})")
        if not self.events and not self.score:
            raise ConfigError("events=0 and score=0 leave nothing to learn; let one be positive (--weights.events)")

    @property
    def least(self) -> float:
        """The lowest reward, which is that of an answer without a verdict."""
        return -(self.length + self.skating + self.jitter + self.peak_jerk)

    def total(self, terms: Mapping[str, Array]) -> Array:
        """The weighted sum (N,) of terms (N,)."""
        return sum((getattr(self, name) * values for name, values in terms.items()), start=np.zeros(()))


class Rewarded(NamedTuple):
    """Rewards (N,) of answers, and what they are made of."""

    rewards: Array
    facts: dict[str, float]
    """Means over the batch, to be logged."""


class Reward(Protocol):
    """Whoever says what answers are worth."""

    def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
        """Rewards (N,) of answers, each to the prompt in its place."""
        ...


class JudgeReward:
    """A judge in the loop: codes become motions, the judge looks at all of them at once, physics is measured."""

    def __init__(self, model: TextToMotion, judge: Judge, weights: RewardWeights) -> None:
        self.model, self.judge, self.weights = model, judge, weights

    def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
        """See Reward. Raises VerdictError where the judge has no verdict on any motion."""
        motions = [self.model.ask(prompt.prompt).finish(codes) for prompt, codes in zip(prompts, answers)]
        return reward_motions(prompts, motions, self.judge, self.weights)


def reward_motions(
    prompts: Sequence[EventPrompt], motions: Sequence[Motion], judge: Judge, weights: RewardWeights
) -> Rewarded:
    """Rewards (N,) of motions; one without a verdict, for instance because it lasts too short, gets the least.

    Raises VerdictError where the judge has no verdict on any of them.
    """
    cases = [Case(one.prompt, motion, one.program, one.task) for one, motion in zip(prompts, motions, strict=True)]
    outcomes = judge.judge_all(cases)
    judged = [
        (place, case, outcome)
        for place, (case, outcome) in enumerate(zip(cases, outcomes, strict=True))
        if isinstance(outcome, Verdict)
    ]
    if not judged:
        raise VerdictError(_silent(judge, outcomes))
    rows = [_terms(case, verdict) for _, case, verdict in judged]
    terms = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    rewards = np.full(len(motions), weights.least, dtype=float)
    rewards[[place for place, _, _ in judged]] = weights.total(terms)
    facts = {f"rewards/{name}": float(values.mean()) for name, values in terms.items()}
    facts["all_right"] = sum(verdict.is_right for _, _, verdict in judged) / len(motions)
    facts["invalid"] = 1 - len(judged) / len(motions)
    facts["seconds"] = float(np.mean([motion.duration_s for motion in motions]))
    return Rewarded(rewards, facts)


def _silent(judge: Judge, outcomes: Sequence[Outcome]) -> str:
    why = next((outcome.reason for outcome in outcomes if isinstance(outcome, Invalid)), "there is no motion")
    return (
        f"judge {judge.name!r} has no verdict on any of {len(outcomes)} motions, for instance: {why}; choose another "
        "judge (--judge) or other prompts (--task, --file)"
    )


def _terms(case: Case, verdict: Verdict) -> dict[str, float]:
    motion = case.motion
    excess_s = motion.duration_s - asked_seconds(case.program)
    return {
        "events": share_right(case, verdict),
        "score": (verdict.score - 1) / 4,
        "length": -_between(excess_s, Band(0.0, EXTREME_EXCESS_S)),
        "skating": -_between(foot_skating(motion), SKATING_M_S),
        "jitter": -_between(jitter(motion), JITTER_M_S3),
        "peak_jerk": -_between(peak_jerk(motion), PEAK_JERK_M_S3),
    }


def _between(value: float, band: Band) -> float:
    """How far, from 0 to 1, a value lies on the way from what is usual to what is extreme."""
    return min(max((value - band.usual) / (band.extreme - band.usual), 0.0), 1.0)


def asked_seconds(program: EventProgram) -> float:
    """Seconds that a motion of these events may last before it is too long; the events of a step last together."""
    return ONSET_S + sum(max(map(_event_seconds, step)) for step in program.steps)


def _event_seconds(event: Event) -> float:
    return max(EVENT_S, REPETITION_S * event.count) if isinstance(event.count, int) else EVENT_S


def share_right(case: Case, verdict: Verdict) -> float:
    """How much, from 0 to 1, of what is asked for was found: finer than the score, so that a group differs in it.

    An event counts 1, 0.5 in part; where a count is asked for, half of that is how near its count comes. A third is for
    the order where one is asked for. A verdict without findings gives what its score says.
    """
    if not verdict.findings:
        return (verdict.score - 1) / 4
    events = sum(_worth(finding) for finding in verdict.findings) / len(verdict.findings)
    if case.task != "temporal" or len(case.program.steps) < 2:
        return events
    return (1 - ORDER_SHARE) * events + ORDER_SHARE * _order(case.program, verdict)


def _worth(finding: Finding) -> float:
    seen = {"yes": 1.0, "partly": 0.5, "no": 0.0}[finding.seen]
    asked = finding.event.count
    if asked is None or not seen:
        return seen
    wanted = 2 if asked == "several" else asked
    count = finding.count or 0
    missed = max(wanted - count, 0) if asked == "several" else abs(count - wanted)
    return 0.5 * seen + 0.5 * max(0.0, 1 - missed / wanted)


def _order(program: EventProgram, verdict: Verdict) -> float:
    """1 where all is there and in order, else half the share of pairs of events that begin one after the other."""
    if verdict.order_is_right and all(finding.seen != "no" for finding in verdict.findings):
        return 1.0
    pairs = [
        (one, other)
        for (step, one), (next_step, other) in combinations(zip(program.step_of_events, verdict.findings), 2)
        if step < next_step
    ]
    in_turn = [one.start is not None and other.start is not None and one.start < other.start for one, other in pairs]
    return OUT_OF_ORDER * sum(in_turn) / len(pairs)
