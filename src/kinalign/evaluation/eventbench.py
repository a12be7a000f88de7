"""EventBench: motions of which it is known by construction what happens, when and how often, to examine judges with.

Clips of the test split that show one known event are joined (events/compose.py), and each motion is asked about with
prompts that are right and with prompts that are wrong in one thing: the order, a side, a count, an event that is not
there. What a clip may hold besides its event is known too (detector_truth.json), so that an event which is said to be
missing is missing. The same seed gives the same cases, word for word and frame for frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from kinalign.data.phrasings import meaning_of
from kinalign.data.records import Clip
from kinalign.errors import EvaluationError
from kinalign.evaluation.detector import truth_of
from kinalign.events.compose import Composed, Interval, Part, compose
from kinalign.events.parse import parse
from kinalign.events.program import OPPOSITE, Event, EventProgram
from kinalign.events.say import say
from kinalign.judge.rubric import SUB_TASKS, Seen, SubTask, score_events, score_frequency
from kinalign.judge.verdict import Case, Finding
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.physics import foot_skating, peak_jerk

Kind = Literal["order", "dropped", "other", "count", "side"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In what a wrong prompt, or a wrong motion, differs: two events swapped, one or two left out, all others, a count, a
side (or the way of a turn)."""

SHOWN = {
    **dict.fromkeys(("walk", "walk_slow", "walk_brisk", "walk_stride", "walk_stride_slow"), "walk"),
    **dict.fromkeys(("run", "jog_circle"), "run"),
    "walk_turn": "turn",
    "squat_once": "squat",
    "hop_once": "hop",
    **dict.fromkeys(("kick_front", "kick_side_once", "roundhouse_once"), "kick"),
    "elbow_to_knee": "raise_knee",
    "deposit_floor": "put_down",
    "grab_high": "reach",
    "rotate_arms_back": "rotate_arm",
    **dict.fromkeys(("raise_hand", "raise_both"), "raise"),
    **dict.fromkeys(("wave_hand", "wave_both"), "wave"),
    "throw_basketball": "throw",
    "jump": "jump",
    "punch": "punch",
    "punch_once": "punch",
    "jumping_jacks": "jumping_jack",
    "side_twists": "twist",
    "bow": "bow",
    "clap": "clap",
    "cartwheel": "cartwheel",
    "sit_floor": "sit",
    "lie_down": "lie_down",
}
"""Actions of phrasings.json whose clips are used, and which of their events a prompt names."""
ONCE = frozenset({"put_down", "reach", "raise", "throw"})
"""Of these a clip holds one, though detector_truth.json does not count them."""
EASILY_DONE = frozenset({"walk", "turn", "raise", "reach"})
"""What any clip may hold besides, unless a measure rules it out."""
GAITS = frozenset({"walk", "run"})
SPARE_SHARES = {"walk": 0.25, "run": 0.25, "turn": 0.12}
MOST_SPARE = 16
"""Which share of such a clip, and how many frames at most, can be left out at either end to join it."""
LONGEST_GAIT = 64
"""Frames that are used of a longer walk or run, from its middle."""
LONGEST = 180
"""Clips of more frames are left out."""
LONGEST_MOTION = 320
"""Frames of all clips of a motion together: 16 s."""
FEW_CLIPS = 6
"""An action with fewer clips is drawn less often."""
MOST_TIMES = 5

GROUPS: dict[tuple[SubTask, Kind], int] = {
    ("temporal", "order"): 140,
    ("temporal", "dropped"): 50,
    ("temporal", "side"): 30,
    ("integrity", "dropped"): 90,
    ("integrity", "other"): 30,
    ("integrity", "side"): 50,
    ("integrity", "count"): 40,
    ("frequency", "count"): 120,
    ("frequency", "side"): 40,
    ("frequency", "other"): 40,
}
"""How many groups of cases there are of each kind."""


class Piece(NamedTuple):
    """A clip as it is used in a motion: mirrored or not, so many times in a row."""

    clip: str
    mirrored: bool
    times: int


class Prompt(NamedTuple):
    text: str
    program: EventProgram


Shown = tuple[tuple[Event, Interval], ...]
"""What happens in a motion, and when."""


@dataclass(frozen=True)
class BenchCase:
    """A prompt, the recipe of a motion, and what a judge should say of the two.

    `shown` is what happens in the motion, with frames. `findings` say of each event of the program whether it is there,
    when and how often. Cases of one group that share the prompt or the motion and differ in their score are `partners`.
    """

    id: str
    task: SubTask
    kind: Kind
    prompt: str
    program: EventProgram
    recipe: tuple[Piece, ...]
    shown: Shown
    findings: tuple[Finding, ...]
    order_is_right: bool | None
    score: int
    partners: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, task: SubTask, kind: Kind, prompt: Prompt, recipe: tuple[Piece, ...], shown: Shown
    ) -> BenchCase:
        """The case with what should be found and the score that it should get."""
        findings, order_is_right = findings_of(prompt.program, shown, task)
        score = score_of(task, findings, order_is_right)
        return cls(name, task, kind, prompt.text, prompt.program, recipe, shown, findings, order_is_right, score)

    @property
    def clips(self) -> frozenset[str]:
        """Ids of the recordings that the motion is made of; parts of one, as TRIAL@START, are one."""
        return frozenset(piece.clip.partition("@")[0] for piece in self.recipe)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "task": self.task,
            "kind": self.kind,
            "prompt": self.prompt,
            "program": self.program.to_json(),
            "recipe": [piece._asdict() for piece in self.recipe],
            "shown": [{"event": event.to_json(), "start": start, "end": end} for event, (start, end) in self.shown],
            "findings": [finding.to_json() for finding in self.findings],
            "order_is_right": self.order_is_right,
            "score": self.score,
            "partners": list(self.partners),
        }


@dataclass(frozen=True, eq=False)
class EventBench:
    """Cases, and the motion of every recipe."""

    cases: tuple[BenchCase, ...]
    motions: Mapping[tuple[Piece, ...], Motion]
    composed: Mapping[tuple[Piece, ...], Composed] = field(default_factory=dict)
    """How the motions were joined; nothing of motions that are recorded as they are."""
    atoms: tuple[Atom, ...] = ()
    """The clips that could be drawn."""

    def questions(self) -> list[Case]:
        """What a judge is asked, in the order of `cases`."""
        return [Case(case.prompt, self.motions[case.recipe], case.program, case.task) for case in self.cases]


@dataclass(frozen=True)
class JoinQuality:
    """How the joins of a bench compare with the clips that they join.

    `jerk_ratio` is the peak jerk within a quarter of a second of a motion's joins, over the greatest of its clips:
    median, 95th percentile and maximum over motions. Skating is PhysDiff's, in m/s, of joins and of whole clips.
    """

    joins: int
    jerk_ratio: tuple[float, float, float]
    skating_of_joins: float
    skating_of_clips: float


def join_quality(bench: EventBench) -> JoinQuality:
    """Numbers of a bench's joins. Raises EvaluationError for a bench without one."""
    clips = {atom.clip: atom.motion for atom in bench.atoms}
    jerks = {name: peak_jerk(motion) for name, motion in clips.items()}
    ratios, skating = [], []
    for recipe, composed in bench.composed.items():
        if composed.transitions:
            joins = [frame for transition in composed.transitions for frame in transition]
            ratios.append(peak_jerk(composed.motion, joins=joins) / max(jerks[piece.clip] for piece in recipe))
        skating += [foot_skating(composed.motion[start - 1 : end + 1]) for start, end in composed.transitions]
    if not ratios:
        raise EvaluationError("no motion of this bench is joined of two clips or more")
    median, high, most = np.quantile(ratios, (0.5, 0.95, 1.0)).tolist()
    used = {piece.clip for recipe in bench.composed for piece in recipe}
    of_clips = float(np.mean([foot_skating(clips[name]) for name in sorted(used)]))
    return JoinQuality(len(skating), (median, high, most), float(np.mean(skating)), of_clips)


# --- what is true of a motion and a prompt ------------------------------------------------------------------------


def findings_of(program: EventProgram, shown: Shown, task: SubTask) -> tuple[tuple[Finding, ...], bool | None]:
    """What a judge that knows what is shown finds of each event of a program, and whether their order is right.

    No two events that are shown have the same action. The order is None where fewer than two are there.
    """
    by_action = {event.action: (event, interval) for event, interval in shown}
    findings = []
    for asked in program.events:
        if asked.action not in by_action:
            findings.append(Finding(asked, "no"))
            continue
        event, (start, end) = by_action[asked.action]
        right = all(getattr(asked, name) in ("", getattr(event, name)) for name in ("side", "direction"))
        if task != "frequency" and asked.count is not None:
            right = right and asked.count == event.count
        count = event.count if isinstance(event.count, int) else None
        findings.append(Finding(asked, "yes" if right else "partly", start, end, count))
    starts = [finding.start for finding in findings if finding.start is not None]
    return tuple(findings), starts == sorted(starts) if len(starts) > 1 else None


def score_of(task: SubTask, findings: Sequence[Finding], order_is_right: bool | None) -> int:
    """The score by AToM's rubric."""
    if task == "frequency":
        (finding,) = findings
        asked = finding.event.count
        assert isinstance(asked, int)
        return score_frequency(finding.seen, off_by=(finding.count or 0) - asked)
    seen: list[Seen] = [finding.seen for finding in findings]
    return score_events(seen, order_is_right=task != "temporal" or order_is_right is not False)


# --- clips of one event -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Atom:
    """A clip of one known event, ready to be joined; `holds` are all actions that it may hold."""

    clip: str
    motion: Motion
    event: Event
    holds: frozenset[str]
    ends_upright: bool
    is_mirrored: bool = False

    @cached_property
    def mirrored(self) -> Atom:
        return replace(self, motion=self.motion.mirror(), event=self.event.mirrored, is_mirrored=not self.is_mirrored)

    @property
    def spare(self) -> int | None:
        """Frames at either end without which a walk, a run or a turn in a walk is still one."""
        share = SPARE_SHARES.get(self.event.action)
        return None if share is None else min(round(share * len(self.motion)), MOST_SPARE)

    @property
    def has_side(self) -> bool:
        return self.event.side in OPPOSITE or self.event.direction in OPPOSITE


def atoms_of(clips: Sequence[Clip], shown: Mapping[str, str] = SHOWN) -> list[Atom]:
    """The clips of which a label tells the one event, and that begin standing; `shown` names it by the label."""
    atoms = []
    for clip in clips:
        meaning, truth = meaning_of(clip), truth_of(clip)
        if meaning is None or truth is None or len(meaning.actions) != 1 or meaning.actions[0] not in shown:
            continue
        action = shown[meaning.actions[0]]
        motion = uniform(clip.motion)
        if action in GAITS and len(motion) > LONGEST_GAIT:
            start = (len(motion) - LONGEST_GAIT) // 2
            motion = uniform(motion[start : start + LONGEST_GAIT])
        told = next(event for event in truth.events if event["action"] == action)
        if not is_upright(motion, 0) or len(motion) > LONGEST or not _shows(motion, told):
            continue
        may = {event["action"] for event in truth.events} | truth.may | EASILY_DONE
        holds = may - _ruled_out(motion) | {action}
        atoms.append(Atom(clip.id, motion, _event(told), frozenset(holds), is_upright(motion, -1)))
    return atoms


def _event(told: dict[str, Any]) -> Event:
    count = 1 if told["action"] in ONCE else told.get("count")
    event = Event(told["action"], told.get("side", ""), told.get("direction", ""), count, told.get("part", ""))
    if event.action == "hop":  # nobody says that a hop is one of both legs
        event = replace(event, side="")
    if event.action == "raise":
        event = replace(event, part="hand")
    return as_worded(event)


def as_worded(event: Event) -> Event:
    """The event with the part and the way that its words say besides: who kicks, kicks with a leg."""
    heard = parse(say(EventProgram(((replace(event, count=None),),)))).events[0]
    return replace(event, part=heard.part, direction=heard.direction)


def _shows(motion: Motion, told: dict[str, Any]) -> bool:
    """Whether a walk or a run gets on, and a turn goes to its side: one or two labels in a hundred are wrong."""
    if told["action"] in GAITS:
        return _way(motion) > LEAST_WAY_M
    if told["action"] == "turn":
        turned = _turned_deg(motion)
        return bool(turned[-1] - turned[0] > LEAST_TURN_DEG) is (told["direction"] == "left")
    return True


LEAST_WAY_M, LEAST_TURN_DEG = 1.0, 45.0
"""A walk or a run gets as far, a turn goes as far to its side."""
NO_WAY_M, NO_WALK_M_S = 0.5, 1.8
"""Who never gets so far, or never is slower, does not walk."""
NO_TURN_DEG, NO_BEND_DEG = 30.0, 25.0
"""Who never turns or leans so far does not turn or bend."""
NO_RAISE_M, NO_SQUAT_SHARE = 0.1, 0.85
"""Hands that stay so far below the shoulders are not raised; hips that keep this share of their height do not squat."""


def _ruled_out(motion: Motion) -> frozenset[str]:
    """Actions that a clip stays so far from that it cannot hold them, by plain measures with wide margins."""
    joints = motion.joints.astype(np.float64)
    out: set[str] = set()
    speed = np.linalg.norm(joints[4:, 0, [0, 2]] - joints[:-4, 0, [0, 2]], axis=-1) * FPS / 4
    if _way(motion) < NO_WAY_M or speed.min() > NO_WALK_M_S:
        out.add("walk")
    if np.ptp(_turned_deg(motion)) < NO_TURN_DEG:
        out |= {"turn", "spin"}
    wrists, shoulders = joints[:, [20, 21], 1], joints[:, [16, 17], 1]
    if (wrists < shoulders - NO_RAISE_M).all():
        out |= {"raise", "reach"}
    if joints[:, 0, 1].min() > NO_SQUAT_SHARE * joints[:, 0, 1].max():
        out |= {"squat", "crouch", "kneel", "sit"}
    spine = joints[:, 12] - joints[:, 0]
    if (np.degrees(np.arccos(spine[:, 1] / np.linalg.norm(spine, axis=-1))) < NO_BEND_DEG).all():
        out |= {"bend", "bow"}
    return frozenset(out)


def _way(motion: Motion) -> float:
    """The farthest in metres that the hips get from where they began."""
    return float(np.linalg.norm((motion.joints - motion.joints[0])[:, 0, [0, 2]], axis=-1).max())


def _turned_deg(motion: Motion) -> NDArray[np.floating]:
    facing = motion.facing()
    return np.degrees(np.unwrap(np.arctan2(facing[:, 0], facing[:, 2])))


# --- cases --------------------------------------------------------------------------------------------------------


def build_eventbench(
    clips: Sequence[Clip],
    seed: int = 0,
    *,
    groups: Mapping[tuple[SubTask, Kind], int] = GROUPS,
    advance: Callable[[], None] = lambda: None,
) -> EventBench:
    """The bench of some clips, always the same for one seed; `advance` is called after each of its groups.

    The first groups of a kind do not depend on how many there are: a small bench is part of a large one.
    Raises EvaluationError for clips of too few actions to make a group of.
    """
    atoms = atoms_of(clips)
    builder = _Builder(atoms, seed)
    for (task, kind), number in groups.items():
        for at in range(number):
            builder.add_group(task, kind, at)
            advance()
    used = {case.recipe: builder.composed[case.recipe] for case in builder.cases}
    motions = {recipe: composed.motion for recipe, composed in used.items()}
    return EventBench(tuple(builder.cases), motions, used, tuple(atoms))


TRIES = 500
WORDINGS = 200
"""How many wordings of a prompt are tried until it is read as it is meant."""
TIMES = (1, 2, 2, 3, 3, 4, 5)
OFF_BY = (-3, -2, -1, -1, -1, 1, 1, 1, 2, 3)
"""How often an event happens, and how many times more in a wrong prompt, each drawn evenly from these."""


class _Item(NamedTuple):
    """A clip in a row of them: how often it is shown, and whether a prompt says so."""

    atom: Atom
    times: int = 1
    says_times: bool = False


class _Group(NamedTuple):
    """Prompts, motions, and which prompt is held against which motion."""

    prompts: list[list[_Item]]
    motions: list[list[_Item]]
    asked: tuple[tuple[int, int], ...]


def _crossed(first: list[_Item], second: list[_Item]) -> _Group:
    """Both motions with both prompts."""
    return _Group([first, second], [first, second], ((0, 0), (1, 0), (0, 1), (1, 1)))


class _Builder:
    """Draws clips, makes groups of cases of them and keeps each motion once."""

    def __init__(self, atoms: Sequence[Atom], seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.by_action: dict[str, list[Atom]] = {}
        for atom in atoms:
            self.by_action.setdefault(atom.event.action, []).append(atom)
        self.cases: list[BenchCase] = []
        self.composed: dict[tuple[Piece, ...], Composed] = {}

    def add_group(self, task: SubTask, kind: Kind, at: int) -> None:
        self.rng = np.random.default_rng([self.seed, SUB_TASKS.index(task), KINDS.index(kind), at])
        draw = {
            "order": self._order,
            "dropped": self._dropped,
            "other": self._other,
            "count": self._count,
            "side": self._side,
        }[kind]
        for _ in range(TRIES):
            group = draw(task)
            if group is not None and self._add(task, kind, f"{task}-{kind}-{at:03d}", group):
                return
        raise EvaluationError(
            f"no cases of {task} that differ in {kind} can be made of clips of {', '.join(self.by_action) or 'nothing'}"
        )

    # what a group is made of; None where the clips that were drawn do not allow it

    def _order(self, task: SubTask) -> _Group | None:
        number = 2 if self.rng.random() < 0.3 else 3
        first = [_Item(atom) for atom in self._draw(number)]
        if not first:
            return None
        i, j = self.rng.choice(number, 2, replace=False)
        second = list(first)
        second[i], second[j] = first[j], first[i]
        return _crossed(first, second)

    def _dropped(self, task: SubTask) -> _Group | None:
        three = [_Item(atom) for atom in self._draw(3)]
        if not three:
            return None
        out, kept = self.rng.choice(3, 2, replace=False)
        two = [item for place, item in enumerate(three) if place != out]
        return _Group([three, two], [three, two, [three[kept]]], ((0, 0), (0, 1), (0, 2), (1, 1)))

    def _other(self, task: SubTask) -> _Group | None:
        if task == "frequency":
            items = self._counted(self._draw(2))
            return _crossed(items[:1], items[1:]) if items else None
        items = [_Item(atom) for atom in self._draw(4)]
        return _crossed(items[:2], items[2:]) if items else None

    def _count(self, task: SubTask) -> _Group | None:
        atoms = self._draw(1 if task == "frequency" else 2)
        places = [place for place, atom in enumerate(atoms) if atom.event.count == 1]
        if not places:
            return None
        place, times = self.rng.choice(places), int(self.rng.choice(TIMES))
        other = times + int(self.rng.choice(OFF_BY))
        if not 1 <= other <= max(TIMES):
            return None
        first = [_Item(atom) for atom in atoms]
        second = list(first)
        first[place], second[place] = (_Item(atoms[place], number, True) for number in (times, other))
        return _crossed(first, second)

    def _side(self, task: SubTask) -> _Group | None:
        atoms = self._draw(1 if task == "frequency" else 2 + int(self.rng.integers(2)))
        first = self._counted(atoms) if task == "frequency" else [_Item(atom) for atom in atoms]
        places = [place for place, item in enumerate(first) if item.atom.has_side]
        if not places:
            return None
        place = self.rng.choice(places)
        second = list(first)
        second[place] = first[place]._replace(atom=first[place].atom.mirrored)
        return _crossed(first, second)

    def _draw(self, number: int) -> list[Atom]:
        """Clips of as many actions, none of which may hold the action of another; no clip where they do."""
        names = list(self.by_action)
        if len(names) < number:
            return []
        weights = np.array([min(len(self.by_action[name]), FEW_CLIPS) / FEW_CLIPS for name in names])
        chosen = self.rng.choice(len(names), number, replace=False, p=weights / weights.sum())
        atoms = []
        for action in chosen:
            clips = self.by_action[names[action]]
            atom = clips[self.rng.integers(len(clips))]
            atoms.append(atom.mirrored if self.rng.random() < 0.5 else atom)
        clash = any(a is not b and a.event.action in b.holds for a in atoms for b in atoms)
        return [] if clash else atoms

    def _counted(self, atoms: Sequence[Atom]) -> list[_Item]:
        """The clips as often as is drawn, each said; nothing where a clip has no count."""
        if any(atom.event.count != 1 for atom in atoms):
            return []
        times = int(self.rng.choice(TIMES))
        return [_Item(atom, times, True) for atom in atoms]

    # from a group to its cases

    def _add(self, task: SubTask, kind: Kind, name: str, group: _Group) -> bool:
        """Adds the cases, unless a clip that ends on the floor is followed or a motion gets too long."""
        for items in group.motions:
            if any(not item.atom.ends_upright for item in [*items[:-1], *(items if items[-1].times > 1 else ())]):
                return False
            if sum(len(item.atom.motion) * item.times for item in items) > LONGEST_MOTION:
                return False
        prompts = worded([_program(items) for items in group.prompts], int(self.rng.integers(2**31)))
        if prompts is None:
            return False
        shown = [self._composed(items) for items in group.motions]
        if any(self.composed[recipe].jerk > 1 for recipe in shown):
            return False
        cases = []
        for prompt, motion in group.asked:
            composed = self.composed[shown[motion]]
            events = tuple(zip(composed.program.events, composed.intervals))
            cases.append(
                BenchCase.of(f"{name}-{'ab'[prompt]}{motion + 1}", task, kind, prompts[prompt], shown[motion], events)
            )
        self.cases += with_partners(cases)
        return True

    def _composed(self, items: Sequence[_Item]) -> tuple[Piece, ...]:
        recipe = tuple(Piece(item.atom.clip, item.atom.is_mirrored, item.times) for item in items)
        if recipe not in self.composed:
            parts = [Part(item.atom.motion, item.atom.event, item.times, item.atom.spare) for item in items]
            self.composed[recipe] = compose(parts)
        return recipe


def worded(programs: Sequence[EventProgram], seed: int) -> list[Prompt] | None:
    """The programs in the same words as far as they go, which are read back as these programs; None without such."""
    for at in range(WORDINGS):
        texts = [say(program, seed + at) for program in programs]
        if [parse(text) for text in texts] == list(programs):
            return [Prompt(text, program) for text, program in zip(texts, programs)]
    return None


def _program(items: Sequence[_Item]) -> EventProgram:
    return EventProgram(
        tuple((replace(item.atom.event, count=item.times if item.says_times else None),) for item in items)
    )


def with_partners(cases: Sequence[BenchCase]) -> list[BenchCase]:
    """The cases of one group, each with those of another score that it shares the prompt or the motion with."""
    return [replace(case, partners=tuple(other.id for other in cases if _is_partner(case, other))) for case in cases]


def _is_partner(case: BenchCase, other: BenchCase) -> bool:
    return case.score != other.score and (case.prompt == other.prompt or case.recipe == other.recipe)
