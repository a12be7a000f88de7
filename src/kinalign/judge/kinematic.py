"""The judge that reads events off the joints: offline, the same every time, on numpy alone.

What the detector finds is held against what the program asks for. Every event of the program takes a stretch of
repetitions that are a sign of it (signs.py), two events never take the same movement, and of all ways to share them out
the one counts that shows most: the kindest reading of the motion. What is then missing, on a wrong side, too often or
out of order is so in every reading. How something is done, slowly or like a robot, is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from kinalign.errors import MotionError
from kinalign.events.detect import DETECTED, Detection, detect_all
from kinalign.events.detect.detection import times
from kinalign.events.detect.stretches import Stretch
from kinalign.events.program import DIPS, Event, EventProgram
from kinalign.events.say import named
from kinalign.judge.rubric import Seen, SubTask, score_events, score_frequency
from kinalign.judge.signs import (
    AROUND_DEG,
    GOING,
    QUICK,
    SPIN_DEG,
    Sign,
    movement_of,
    shows,
    side_agrees,
    sign_of,
    way_agrees,
)
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict, judge_one
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D

NAME = "kinematic"

SHORTEST_S = 0.5
"""A motion that lasts less shows no event."""
SERIES_S = 4.0
"""Repetitions of one event follow each other within this time."""
ONE_MOVEMENT_S = 1.0
"""A hand that reaches out within this time after it was raised has been raised once."""
LATE_S = 0.2
"""A step may begin this much before the one that it follows."""
SAME_TIME = 0.2
"""Share of the shorter of two events in which both happen, if they happen at the same time."""
MINOR_SHARE = 0.35
"""A stretch of less than this share of the longest one of its event is a minor one: two steps before a kick."""
WORTH: dict[Seen, float] = {"yes": 1.0, "partly": 0.55, "no": 0.0}
IN_ORDER, CONFIDENT, MINOR = 0.4, 0.1, 0.45
"""What order and confidence add to the worth of a reading, and a minor stretch takes from it. Order is worth less than
an event, so that what happens too early is out of order and not missing."""
STRIKING = frozenset("jump hop leap kick punch throw cartwheel flip jumping_jack dance lie_down".split())
"""What nobody overlooks that did not ask for it."""
SHORT_STRETCH = 6
"""Repetitions up to which two events may share a stretch in every way."""
MAX_READINGS = 20_000


@dataclass(frozen=True)
class Repetition:
    """Frames [start, end) in which something happens once, on a side, as part of a detection."""

    start: int
    end: int
    side: str
    found: Detection

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    def overlaps(self, other: Repetition) -> bool:
        """Whether more than half of the shorter one is in both."""
        shared = min(self.end, other.end) - max(self.start, other.start)
        return 2 * shared > min(self.end - self.start, other.end - other.start)

    def continues(self, other: Repetition, fps: float) -> bool:
        """Whether both can be one movement of one hand: at the same time, or one right after the other."""
        gap = max(self.start, other.start) - min(self.end, other.end)
        are_hands = self.found.part == other.found.part == "hand"
        return are_hands and gap <= ONE_MOVEMENT_S * fps and {self.side, other.side} != {"left", "right"}


@dataclass(frozen=True)
class Asked:
    """An event of a program, in which step it stands, what shows it, and every repetition of that in the motion."""

    event: Event
    step: int
    sign: Sign
    task: SubTask
    repetitions: tuple[Repetition, ...] = ()

    def is_kin(self, other: Asked) -> bool:
        """Whether one movement could be taken for either."""
        return bool(movement_of(self.sign) & movement_of(other.sign))


@dataclass(frozen=True)
class Reading:
    """The repetitions [first, last) of a stretch, as the event that is asked for; `wrong` says what does not fit."""

    asked: Asked
    stretch: tuple[Repetition, ...]
    first: int
    last: int
    wrong: tuple[str, ...]
    minor: bool = False

    @property
    def repetitions(self) -> tuple[Repetition, ...]:
        return self.stretch[self.first : self.last]

    @property
    def start(self) -> int:
        """The first frame, with what leads up to it where the detection begins with it."""
        begins = self.repetitions[0]
        return begins.found.start if begins.start == begins.found.repeats[0].start else begins.start

    @property
    def end(self) -> int:
        ends = self.repetitions[-1]
        return ends.found.end if ends.end == ends.found.repeats[-1].end else ends.end

    @property
    def count(self) -> int:
        return self.last - self.first

    @property
    def off_by(self) -> int:
        """How many repetitions there are too many; negative for too few, 0 where no count is asked for."""
        asked = self.asked.event.count
        if asked is None:
            return 0
        return min(self.count - 2, 0) if asked == "several" else self.count - asked

    @property
    def seen(self) -> Seen:
        off = self.off_by if self.asked.task != "frequency" else 0
        return "partly" if self.wrong or off else "yes"

    @property
    def confidence(self) -> float:
        return sum(repetition.found.confidence for repetition in self.repetitions) / self.count

    @property
    def worth(self) -> float:
        return WORTH[self.seen] + CONFIDENT * self.confidence - MINOR * self.minor


class KinematicJudge:
    """Judges by rules what joints show; needs HumanML3D's 22 joints and actions that the detector knows.

    Anything else is Invalid, with the action or the skeleton named.
    """

    name = NAME

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        """The verdict on one motion; Invalid for a prompt that names no event or an event that joints do not show."""
        return judge_one(self, prompt, motion)

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        """A verdict for each case, in their order; a motion that occurs in many is read once."""
        motions = {id(case.motion): case.motion for case in cases}
        problems = {key: problem for key, motion in motions.items() if (problem := _problem_of(motion))}
        found = _detections({key: motion for key, motion in motions.items() if key not in problems})
        outcomes: list[Outcome] = []
        for case in cases:
            problem = problems.get(id(case.motion)) or _unknown_in(case.program)
            detections = found.get(id(case.motion), [])
            if isinstance(detections, MotionError):
                problem = problem or str(detections)
                detections = []
            outcomes.append(Invalid(NAME, problem) if problem else _judged(case, detections))
        return outcomes


def besides(cases: Sequence[Case]) -> list[int]:
    """How often each motion shows something else that catches the eye: a kick where a turn is asked for.

    A dance is made of such things, so nothing is besides one. 0 of a motion that the detector cannot read.
    """
    motions = {id(case.motion): case.motion for case in cases if not _problem_of(case.motion)}
    found = _detections(motions)
    numbers = []
    for case in cases:
        signs = [sign for event in case.program.events if (sign := sign_of(event)) is not None]
        asked = frozenset[str]().union(*map(movement_of, signs))
        detections = found.get(id(case.motion), [])
        if isinstance(detections, MotionError) or "dance" in asked:
            numbers.append(0)
        else:
            numbers.append(sum(one.action in STRIKING - asked for one in detections))
    return numbers


def _problem_of(motion: Motion) -> str:
    if motion.skeleton.name != HUMANML3D.name:
        return f"events are found on skeleton {HUMANML3D.name!r}; this motion has {motion.skeleton.name!r}"
    if motion.duration_s < SHORTEST_S:
        return f"the motion lasts {motion.duration_s:.2f} s; no event is seen in less than {SHORTEST_S} s"
    return ""


def _unknown_in(program: EventProgram) -> str:
    unknown = [event for event in program.events if sign_of(event) is None]
    if not unknown:
        return ""
    what = " ".join(filter(None, (unknown[0].action, unknown[0].direction, unknown[0].part)))
    return f"joints do not show {what!r}; what can be seen is {', '.join(sorted(DETECTED))}"


def _detections(motions: dict[int, Motion]) -> dict[int, list[Detection] | MotionError]:
    """What is detected in each motion, all together; one by one where one of them cannot be read."""
    try:
        return dict(zip(motions, detect_all(list(motions.values()))))
    except MotionError:
        pass
    found: dict[int, list[Detection] | MotionError] = {}
    for key, motion in motions.items():
        try:
            found[key] = detect_all([motion])[0]
        except MotionError as error:
            found[key] = error
    return found


def _judged(case: Case, detections: Sequence[Detection]) -> Verdict:
    asked: list[Asked] = []
    risings: list[Detection] = []
    for step, events in enumerate(case.program.steps):
        found = [*detections, *risings]
        now = [_asked(event, step, case.task, found, case.motion.fps) for event in events]
        dips = {action for one in now if one.event.action in DIPS for action in one.sign.actions}
        risings = [rising for one in detections if one.action in dips for rising in _risings(one, len(case.motion))]
        asked += now
    readings = best_readings(asked, case.motion.fps)
    order = order_of(readings, case.motion.fps)
    findings = tuple(_finding(one, reading) for one, reading in zip(asked, readings))
    seen = [finding.seen for finding in findings]
    if case.task == "frequency":
        score = min(
            score_frequency(finding.seen, off_by=reading.off_by if reading else 0)
            for finding, reading in zip(findings, readings)
        )
    else:
        # integrity asks for order only where all shall happen at once
        counts = case.task == "temporal" or len(case.program.steps) == 1
        score = score_events(seen, order_is_right=order is not False or not counts)
    reason = _reason(readings, findings, order, case.motion.fps, case.task)
    return Verdict(score, case.task, NAME, reason, findings, order)


# --- what the motion shows of each event ---------------------------------------------------------------------------


def _risings(dip: Detection, num_frames: int) -> Iterator[Detection]:
    """Coming up again, the second half of each repetition: who "squats and stands up" does not rise twice."""
    halves = [
        repeat._replace(start=(repeat.start + repeat.end) // 2)
        for repeat in _with_repeats(dip).repeats
        if repeat.end < num_frames
    ]
    if halves:
        start, end = halves[0].start, halves[-1].end
        count, repeats = len(halves), tuple(halves)
        yield replace(dip, action="stand_up", start=start, end=end, direction="up", count=count, repeats=repeats)


def _asked(event: Event, step: int, task: SubTask, detections: Sequence[Detection], fps: float) -> Asked:
    sign = sign_of(event)
    assert sign is not None
    repetitions: list[Repetition] = []
    for action in sign.actions:
        new = [
            Repetition(repeat.start, repeat.end, repeat.side, found)
            for found in map(_with_repeats, detections)
            if found.action == action and shows(event, sign, found)
            for repeat in found.repeats
        ]
        # one flight may be both a jump and a hop, and a hand that goes up is raised and reaches
        repetitions += [
            one for one in new if not any(one.overlaps(other) or one.continues(other, fps) for other in repetitions)
        ]
    repetitions.sort(key=lambda repetition: (repetition.start, repetition.end))
    if event.side == "both":
        repetitions = _pairs(repetitions)
    return Asked(event, step, sign, task, tuple(repetitions))


def _with_repeats(found: Detection) -> Detection:
    """Standing and dancing have no repetitions: they happen once as long as they last."""
    return found if found.repeats else replace(found, repeats=(Stretch(found.start, found.end, 1.0, found.side),))


def _pairs(repetitions: Sequence[Repetition]) -> list[Repetition]:
    """A left and a right repetition at the same time as one of both sides."""
    paired: list[Repetition] = []
    for repetition in repetitions:
        last = paired[-1] if paired else None
        if last is not None and {last.side, repetition.side} == {"left", "right"} and last.overlaps(repetition):
            paired[-1] = replace(last, end=max(last.end, repetition.end), side="both")
        else:
            paired.append(repetition)
    return paired


def _read(asked: Asked, stretch: tuple[Repetition, ...], first: int, last: int) -> Reading:
    """What of the side and the way of a stretch is not as asked for."""
    event, repetitions = asked.event, stretch[first:last]
    sides = {repetition.side for repetition in repetitions}
    wrong = []
    if event.side in ("left", "right"):
        side_is_right = all(side_agrees(event, side) for side in sides)
    else:
        side_is_right = not event.side or sides == {""} or {"left", "right"} <= sides or event.side in sides
    if not side_is_right:
        seen = " and ".join(sorted(sides))
        wrong.append(f"{seen} instead of {event.side}")
    ways = {one.found.direction.replace("_", " ") for one in repetitions if not way_agrees(event, one.found)}
    if ways:
        wrong.append(f"{' and '.join(sorted(ways))} instead of {event.direction.replace('_', ' ')}")
    turned = abs(sum({one.found: one.found.angle_deg or 0.0 for one in repetitions}.values()))
    if event.action == "spin" and turned < SPIN_DEG:
        wrong.append(f"only {turned:.0f} degrees")
    elif event.action == "turn" and event.direction in ("around", "circle", "backward") and turned < AROUND_DEG:
        wrong.append(f"only {turned:.0f} degrees instead of around")
    return Reading(asked, stretch, first, last, tuple(wrong))


def _readings(asked: Asked, others: Sequence[Asked], fps: float) -> list[Reading]:
    """Every reading of one event: stretches of what agrees with it, and stretches of what does so but in part."""
    kin = [other for other in others if asked.is_kin(other)]
    between = [
        repetition.middle
        for other in others
        if other.step != asked.step and not asked.is_kin(other)
        for repetition in other.repetitions
    ]
    agrees = [side_agrees(asked.event, one.side) and way_agrees(asked.event, one.found) for one in asked.repetitions]
    found: list[Reading] = []
    for wanted in (True, False):
        alike = tuple(one for one, is_so in zip(asked.repetitions, agrees) if is_so == wanted)
        if asked.task == "frequency" and alike:
            found.append(_read(asked, alike, 0, len(alike)))
            continue
        goes_on = asked.event.count is None and not set(asked.sign.actions).isdisjoint(GOING)
        for stretch in _stretches(alike, between, fps, parts=goes_on or bool(kin)):
            found += [_read(asked, stretch, first, last) for first, last in _parts(stretch, asked.event, bool(kin))]
    if not kin:
        longest = max((reading.end - reading.start for reading in found), default=0)
        found = [replace(one, minor=one.end - one.start < MINOR_SHARE * longest) for one in found]
    return sorted(found, key=lambda reading: -reading.worth)


def _stretches(
    repetitions: tuple[Repetition, ...], between: Sequence[float], fps: float, *, parts: bool
) -> Iterator[tuple[Repetition, ...]]:
    """Repetitions that follow each other, with nothing else that the program asks for in between.

    Where `parts` is True, even what happens during a walk parts it: in "walks, turns and walks on", and where a kick
    stands between the steps that lead up to it and the walk that follows.
    """
    start = 0
    for index, (one, following) in enumerate(pairwise(repetitions), start=1):
        gap = (one.middle, following.middle) if parts else (one.end, following.start)
        is_apart = any(gap[0] < middle < gap[1] for middle in between) and (parts or one.found is not following.found)
        if is_apart or following.start - one.end > SERIES_S * fps:
            yield repetitions[start:index]
            start = index
    if repetitions:
        yield repetitions[start:]


def _parts(stretch: tuple[Repetition, ...], event: Event, is_shared: bool) -> list[tuple[int, int]]:
    """Bounds of what an event may take of a stretch: all, or any part where another event may take the rest."""
    whole = len(stretch)
    if not is_shared:
        return [(0, whole)]
    if whole <= SHORT_STRETCH:
        return [(first, last) for first in range(whole) for last in range(first + 1, whole + 1)]
    size = event.count if isinstance(event.count, int) and event.count < whole else whole // 2
    return [(0, whole), (0, size), (whole - size, whole)]


# --- the best of all readings --------------------------------------------------------------------------------------


def best_readings(asked: Sequence[Asked], fps: float) -> list[Reading | None]:
    """A reading for each event, None for one that is not seen, so that together they are worth most."""
    options: list[list[Reading | None]] = []
    for index, one in enumerate(asked):
        others = [*asked[:index], *asked[index + 1 :]]
        options.append([*_readings(one, others, fps), None])
    # of long programs only the likeliest readings, so that a judge never takes long
    while prod(map(len, options)) > MAX_READINGS:
        longest = max(options, key=len)
        del longest[-2]
    most = [max(_worth(reading) for reading in some) for some in options]
    best: list[Reading | None] = [None] * len(asked)
    best_worth = -1.0

    def choose(chosen: list[Reading | None], worth: float) -> None:
        nonlocal best, best_worth
        index = len(chosen)
        if worth + sum(most[index:]) + IN_ORDER <= best_worth + 1e-9:
            return
        if index == len(asked):
            final = [_with_rest(reading, chosen) for reading in chosen]
            total = sum(map(_worth, final)) + IN_ORDER * (order_of(final, fps) is not False)
            if total > best_worth + 1e-9:
                best, best_worth = final, total
            return
        for reading in options[index]:
            if reading is None or not any(_clash(reading, other) for other in chosen):
                choose([*chosen, reading], worth + _worth(reading))

    choose([], 0.0)
    return best


def _worth(reading: Reading | None) -> float:
    return reading.worth if reading else 0.0


def _clash(reading: Reading, other: Reading | None) -> bool:
    """Whether both take the same movement."""
    if other is None or not reading.asked.is_kin(other.asked):
        return False
    return any(one.overlaps(two) for one in reading.repetitions for two in other.repetitions)


def _with_rest(reading: Reading | None, chosen: Sequence[Reading | None]) -> Reading | None:
    """The reading with the repetitions on either side that no other event takes: those are too many."""
    if reading is None or reading.count == len(reading.stretch):
        return reading
    others = [other for other in chosen if other is not None and other is not reading]

    def is_free(index: int) -> bool:
        more = reading.stretch[index]
        return not any(
            more.overlaps(taken) for other in others if reading.asked.is_kin(other.asked) for taken in other.repetitions
        )

    first, last = reading.first, reading.last
    while first > 0 and is_free(first - 1):
        first -= 1
    while last < len(reading.stretch) and is_free(last):
        last += 1
    return replace(_read(reading.asked, reading.stretch, first, last), minor=reading.minor)


def order_of(readings: Sequence[Reading | None], fps: float) -> bool | None:
    """Whether steps begin one after the other, and the events of a step happen together; None for fewer than two."""
    seen = [reading for reading in readings if reading is not None]
    if len(seen) < 2:
        return None
    steps: dict[int, list[Reading]] = {}
    for reading in seen:
        steps.setdefault(reading.asked.step, []).append(reading)
    for together in steps.values():
        shared = min(one.end for one in together) - max(one.start for one in together)
        if shared < SAME_TIME * min(one.end - one.start for one in together):
            return False
    in_turn = [steps[step] for step in sorted(steps)]
    starts = [min(one.start for one in together) for together in in_turn]
    if any(later <= former - LATE_S * fps for former, later in pairwise(starts)):
        return False
    return not any(
        _at_once(one, other, fps) for former, later in pairwise(in_turn) for one in former for other in later
    )


def _at_once(reading: Reading, other: Reading, fps: float) -> bool:
    """Whether two events that shall follow each other are one: a kick in a jump is not a jump and then a kick.

    Where one of them lasts, as a walk in which one jumps, they are one only if they begin together.
    """
    actions = {one.repetitions[0].found.action for one in (reading, other)}
    if not actions <= QUICK and not (actions <= QUICK | GOING and abs(reading.start - other.start) <= LATE_S * fps):
        return False
    shared = min(reading.end, other.end) - max(reading.start, other.start)
    return 2 * shared > min(reading.end - reading.start, other.end - other.start)


# --- in words ------------------------------------------------------------------------------------------------------


def _finding(asked: Asked, reading: Reading | None) -> Finding:
    if reading is None:
        return Finding(asked.event, "no", reason=f"no {named(asked.event)} seen")
    reasons = dict.fromkeys(repetition.found.reason for repetition in reading.repetitions)
    told = [*reading.wrong, *(_off(reading) or ()), *reasons]
    has_count = reading.repetitions[0].found.count is not None
    return Finding(
        asked.event,
        reading.seen,
        reading.start,
        reading.end,
        reading.count if has_count else None,
        round(reading.confidence, 2),
        "; ".join(told),
    )


def _off(reading: Reading) -> tuple[str, ...]:
    asked = reading.asked.event.count
    if not reading.off_by:
        return ()
    return (f"{times(reading.count)} instead of {asked if asked == 'several' else times(int(asked or 0))}",)


def _reason(
    readings: Sequence[Reading | None], findings: Sequence[Finding], order: bool | None, fps: float, task: SubTask
) -> str:
    """One sentence: what is seen and when, what is wrong with it, what is not seen, and whether order is kept."""
    there, missing = [], []
    for reading, finding in zip(readings, findings):
        if reading is None:
            missing.append(named(finding.event))
            continue
        counted = finding.event.count is not None and not _off(reading)
        words = [f"{named(finding.event)} at {reading.start / fps:.1f} s", *reading.wrong, *_off(reading)]
        there.append(" ".join(words[:1]) + (f" {times(reading.count)}" if counted else "") + _bracket(words[1:]))
    parts = [", ".join(there)] if there else []
    if order is False:
        parts.append("not at the same time" if task == "integrity" else "not in the order that is asked for")
    if missing:
        parts.append(f"no {' and no '.join(missing)} seen")
    return "; ".join(parts)


def _bracket(words: Sequence[str]) -> str:
    return f" ({', '.join(words)})" if words else ""
