"""The judge that asks an encoder how near a sentence and a motion are.

The whole motion is held against the whole prompt, and windows of it against each event alone: the best window says
where the event is. Bounds that turn nearness into scores are set once, so that on cases with known scores each score
is given as often as it is true. Such an encoder knows what is done, and through its windows in which order; it is
blind to how often and half blind to the side (docs/judges.md has its accuracy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import ConfigError, KinalignError
from kinalign.events.program import EventProgram
from kinalign.events.say import say
from kinalign.judge.rubric import Seen
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict, judge_one
from kinalign.motion.motion import Motion

Array = NDArray[np.floating]

WINDOW_S, HOP_S = 2.0, 0.5
"""Seconds of a window, and from one window to the next."""


class Encoder(Protocol):
    """Sentences and motions as unit vectors (N, D) of one space."""

    def encode_text(self, texts: list[str], /) -> NDArray[np.float32]: ...

    def encode_motion(self, motions: list[Motion], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Calibration:
    """What nearness, from -1 to 1, means of one encoder: four bounds between the scores, two between what is seen.

    Raises ConfigError for bounds that do not rise.
    """

    scores: tuple[float, ...]
    """From these on a case scores 2, 3, 4 and 5."""
    seen: tuple[float, ...]
    """From these on an event is seen partly, and seen."""

    def __post_init__(self) -> None:
        for name, bounds, number in (("scores", self.scores, 4), ("seen", self.seen, 2)):
            if len(bounds) != number or any(low > high for low, high in pairwise(bounds)):
                raise ConfigError(f"{name}={bounds} must be {number} numbers that rise; calibrate the judge anew")

    def score(self, nearness: float) -> int:
        return 1 + sum(nearness >= bound for bound in self.scores)

    def see(self, nearness: float) -> Seen:
        names: tuple[Seen, Seen, Seen] = ("no", "partly", "yes")
        return names[sum(nearness >= bound for bound in self.seen)]


class Window(NamedTuple):
    """Frames [start, end) of the motion in which an event is nearest, and how near."""

    start: int
    end: int
    nearness: float


class Nearness(NamedTuple):
    """How near a case is as a whole, and where each event of its program is."""

    case: float
    windows: tuple[Window, ...]


class EmbeddingJudge:
    """Judges by the nearness of sentence and motion in an encoder's space.

    What the encoder cannot read, as another skeleton or a text without words, is Invalid.
    """

    def __init__(self, encoder: Encoder, calibration: Calibration, *, name: str = "embedding") -> None:
        self.encoder, self.calibration, self.name = encoder, calibration, name

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        """The verdict on one motion; Invalid for a prompt that names no event."""
        return judge_one(self, prompt, motion)

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        """A verdict for each case, in their order; each motion and each sentence is encoded once."""
        return [
            Invalid(self.name, near) if isinstance(near, str) else self._verdict(case, near)
            for case, near in zip(cases, nearness_of(self.encoder, cases))
        ]

    def _verdict(self, case: Case, near: Nearness) -> Verdict:
        findings = tuple(
            Finding(event, self.calibration.see(value), start, end, None, round(max(value, 0.0), 4), _told(value))
            for event, (start, end, value) in zip(case.program.events, near.windows)
        )
        order = _order_of(case.program, near.windows)
        score = self.calibration.score(near.case)
        if case.task == "temporal" and order is False:
            score = min(score, 4)
        reason = f"prompt and motion are {near.case:.2f} near"
        if order is False:
            reason += "; the nearest windows of its events are not in the order that is asked for"
        return Verdict(score, case.task, self.name, reason, findings, order)


def _told(nearness: float) -> str:
    return f"the nearest {WINDOW_S:g} s are {nearness:.2f} near"


def _order_of(program: EventProgram, windows: Sequence[Window]) -> bool | None:
    """Whether the nearest windows of later steps begin later; None for one step."""
    if len(program.steps) < 2:
        return None
    starts, at = [], 0
    for step in program.steps:
        starts.append(min(window.start for window in windows[at : at + len(step)]))
        at += len(step)
    return all(former < later for former, later in pairwise(starts))


def nearness_of(encoder: Encoder, cases: Sequence[Case]) -> list[Nearness | str]:
    """How near each case is, or in words why that cannot be told."""
    motions = {id(case.motion): case.motion for case in cases}
    embedded = {key: _embedded(encoder, motion) for key, motion in motions.items()}
    sentences = [_sentences(case) for case in cases]
    texts = _texts(encoder, sorted({sentence for some in sentences for sentence in some}))
    found: list[Nearness | str] = []
    for case, some in zip(cases, sentences):
        motion = embedded[id(case.motion)]
        vectors = [texts[sentence] for sentence in some]
        unread = next((vector for vector in vectors if isinstance(vector, str)), None)
        if isinstance(motion, str) or unread is not None:
            found.append(motion if isinstance(motion, str) else str(unread))
            continue
        near = motion.vectors @ np.stack([vector for vector in vectors if not isinstance(vector, str)]).T
        best = near[1:, 1:].argmax(axis=0)
        windows = tuple(
            Window(*motion.windows[int(place)], nearness=float(near[1 + place, 1 + event]))
            for event, place in enumerate(best)
        )
        # the whole tells of the prompt in one, the windows whether each event is there
        found.append(Nearness(float((near[0, 0] + np.mean([window.nearness for window in windows])) / 2), windows))
    return found


def _sentences(case: Case) -> list[str]:
    """The prompt, then each event of its program in words of its own."""
    return [case.prompt, *(say(EventProgram(((event,),))) for event in case.program.events)]


class _Embedded(NamedTuple):
    """Unit vectors (1 + W, D) of the whole motion and of its windows, and their frames."""

    vectors: Array
    windows: list[tuple[int, int]]


def _embedded(encoder: Encoder, motion: Motion) -> _Embedded | str:
    length, hop = round(WINDOW_S * motion.fps), max(round(HOP_S * motion.fps), 1)
    starts = range(0, max(len(motion) - length, 0) + 1, hop)
    windows = [(start, min(start + length, len(motion))) for start in starts]
    try:
        return _Embedded(encoder.encode_motion([motion, *(motion[start:end] for start, end in windows)]), windows)
    except KinalignError as error:
        return str(error)


def _texts(encoder: Encoder, sentences: list[str]) -> dict[str, Array | str]:
    """The vector of each sentence, or why there is none; one by one where one of them cannot be read."""
    try:
        return dict(zip(sentences, encoder.encode_text(sentences))) if sentences else {}
    except KinalignError as error:
        if len(sentences) == 1:
            return {sentences[0]: str(error)}
    return {sentence: vector for one in sentences for sentence, vector in _texts(encoder, [one]).items()}


def calibrate(
    near: Sequence[float], scores: Sequence[int], nearest: Sequence[float], seen: Sequence[Seen]
) -> Calibration:
    """Bounds by quantiles: of cases with true scores, and of events that are truly seen or not, each is given as
    often as it is true.

    >>> calibrate([0.1, 0.2, 0.3, 0.4, 0.5], [1, 2, 3, 4, 5], [0.1, 0.2, 0.3], ["no", "partly", "yes"])
    Calibration(scores=(0.2, 0.3, 0.4, 0.5), seen=(0.2, 0.3))
    """
    ranks = [("no", "partly", "yes").index(value) for value in seen]
    return Calibration(_bounds(near, [score - 1 for score in scores], 5), _bounds(nearest, ranks, 3))


def _bounds(values: Sequence[float], ranks: Sequence[int], number: int) -> tuple[float, ...]:
    """The values from which on the upper ranks are given; one beyond all values where a rank never occurs above."""
    ordered = [*sorted(values), float(np.max(values)) + 1e-6]
    below = np.cumsum(np.bincount(np.array(ranks), minlength=number))[:-1]
    return tuple(float(ordered[count]) for count in below)
