"""Which detected event is a sign of which event of a program: the same action, its kin, a side, a way, a part.

The detector names what joints show; a prompt names what a person would say. This table is the bridge, and its edge: an
event that stands in no row cannot be judged from joints, and is never given a score.
"""

from __future__ import annotations

from typing import NamedTuple

from kinalign.events.detect import Detection
from kinalign.events.program import Event

_ARM = frozenset("hand arm elbow shoulder finger object".split())
_LEG = frozenset("leg foot knee".split())
_BODY = frozenset("body torso hip leg foot knee object".split())


class Sign(NamedTuple):
    """Detected actions that show an event, nearest first, the parts of the body that it may name, and why these do."""

    actions: tuple[str, ...]
    parts: frozenset[str]
    why: str = "the same action"


def _sign(actions: str, parts: frozenset[str] = _BODY, why: str = "the same action") -> Sign:
    return Sign(tuple(actions.split()), parts, why)


_MANNER = "a way of walking; steps are seen, their manner is not"
_RUN = "joints tell a run from a walk; where a jog ends and a sprint begins is a matter of taste"
_FLOOR = "who is down on bent knees, for however long"
_HAND_UP = "a hand goes up; how far it must go is not said"

SIGNS: dict[str, Sign] = {
    "walk": _sign("walk"),
    "pace": _sign("walk", why=_MANNER),
    "sneak": _sign("walk", why=_MANNER),
    "tiptoe": _sign("walk", why=_MANNER),
    "limp": _sign("walk", why=_MANNER),
    "shuffle": _sign("walk step", why=_MANNER),
    "sidestep": _sign("step", why="steps to a side"),
    "march": _sign(
        "walk raise_knee run", why="steps with raised knees, on the spot too, which looks like a slow run there"
    ),
    "run": _sign("run dash", why=_RUN),
    "jog": _sign("run dash", why=_RUN),
    "sprint": _sign("dash run", why=_RUN),
    "dash": _sign("dash run", why=_RUN),
    "step": _sign("step"),
    "jump": _sign("jump hop leap", why="both feet leave the floor, whichever leaves it first"),
    "hop": _sign("hop"),
    "leap": _sign("leap jump", why="a wide jump; how wide is not said"),
    "skip": _sign("hop leap", why="steps that hop"),
    "turn": _sign("turn", frozenset({"body", "torso", "hip"})),
    "spin": _sign("spin turn", frozenset({"body", "torso", "hip"}), "a turn all the way round, or nearly"),
    "stand": _sign("stand", frozenset({"body"})),
    "sit": _sign("sit"),
    "stand_up": _sign("stand_up get_up", why="both end on straight legs"),
    "get_up": _sign("get_up stand_up", why="both end on straight legs"),
    "lie_down": _sign("lie_down"),
    "fall": _sign("lie_down", why="who has fallen lies"),
    "squat": _sign("squat crouch", why=_FLOOR),
    "crouch": _sign("crouch squat", why=_FLOOR),
    "kneel": _sign("kneel"),
    "bend": _sign("bend bow", frozenset({"body", "torso", "hip", "object"}), "the trunk leans forward"),
    "bow": _sign("bow", frozenset({"body", "torso", "hip", "head"})),
    "lean": _sign("bend bow", frozenset({"body", "torso", "hip"}), "the trunk leans forward"),
    "twist": _sign("twist", frozenset({"body", "torso", "hip"})),
    "jumping_jack": _sign("jumping_jack", _BODY | _ARM),
    "cartwheel": _sign("cartwheel", _BODY | _ARM),
    "flip": _sign("flip"),
    "dance": _sign("dance"),
    "wave": _sign("wave", _ARM),
    "raise": _sign("raise reach", _ARM, _HAND_UP),
    "lift": _sign(
        "pick_up raise reach", frozenset({"object"}), "a hand at the floor, or one that goes up; joints show no things"
    ),
    "lift hand": _sign("raise reach", _ARM, _HAND_UP),
    "lift arm": _sign("raise reach", _ARM, _HAND_UP),
    "reach": _sign("reach raise", _ARM, _HAND_UP),
    "grab": _sign("reach raise pick_up", _ARM, "a hand that goes up, or down to the floor; joints show no things"),
    "lower": _sign("lower", _ARM),
    "punch": _sign("punch", _ARM),
    "throw": _sign("throw", _ARM),
    "clap": _sign("clap", _ARM),
    "rotate_arm": _sign("rotate_arm", _ARM),
    "pick_up": _sign("pick_up", _ARM, "a hand at the floor; joints show no things"),
    "put_down": _sign("put_down", _ARM, "a hand at the floor; joints show no things"),
    "touch foot": _sign("touch", _LEG, "a hand at a foot"),
    "touch elbow": _sign("touch", _ARM, "an elbow at the other knee"),
    "kick": _sign("kick", _LEG),
    "raise_leg": _sign("raise_leg kick", _LEG, "a kick is a raised leg in haste"),
    "swing_leg": _sign("raise_leg kick", _LEG, "a leg that goes up straight"),
    "raise_knee": _sign("raise_knee", _LEG),
}
"""Events of programs, by their action, or by action and part where the part makes another event of it."""

ONLY_WAYS: dict[str, frozenset[str]] = {
    action: frozenset({"", "forward", "down", "straight"}) for action in ("bend", "bow", "lean")
}
"""Ways in which alone the detector sees an action: of a body that leans to a side or backward it knows nothing."""

SAME_MOVEMENT = tuple(
    frozenset(kin.split())
    for kin in (
        "walk step run dash",
        "jump hop leap",
        "turn spin",
        "squat crouch",
        "bend bow",
        "put_down pick_up",
        "kick raise_leg",
        "raise reach",
        "stand_up get_up",
    )
)
"""Detected actions that one movement may be reported as: two events of a program must not both claim it."""

GOING = frozenset("walk run dash step jump hop leap".split())
QUICK = frozenset("jump hop leap kick punch throw raise_knee raise_leg cartwheel flip jumping_jack".split())
"""Detected actions that are over at once. Others last, and the next event may begin in them: one turns in a walk."""
CURVE_DEG, CIRCLE_DEG, AROUND_DEG, SPIN_DEG = 30.0, 150.0, 120.0, 240.0
"""Degrees by which a way bends to a side, leads around, a turn turns around, and a spin goes nearly all the way."""


def sign_of(event: Event) -> Sign | None:
    """What shows the event, or None where the detector knows nothing of it."""
    sign = SIGNS.get(f"{event.action} {event.part}") or SIGNS.get(event.action)
    if sign is None or (event.part and event.part not in sign.parts):
        return None
    return sign if event.direction in ONLY_WAYS.get(event.action, {event.direction}) else None


def shows(event: Event, sign: Sign, found: Detection) -> bool:
    """Whether a detection is the action of the event, on whatever side and to whatever way."""
    if found.action == "touch" and (found.part == "elbow") != (event.part == "elbow"):
        return False
    return found.action in sign.actions


def movement_of(sign: Sign) -> frozenset[str]:
    """Every detected action that may report the movement of a sign."""
    kin = (group for group in SAME_MOVEMENT if group & set(sign.actions))
    return frozenset(sign.actions).union(*kin)


def side_agrees(event: Event, side: str) -> bool:
    """Whether one repetition is of the side that is asked for; what tells no side cannot disagree.

    Of both sides and of sides in turn, one repetition shows no more than a half: the whole stretch must tell.
    """
    return event.side in ("", "alternate") or side in ("", event.side) or (event.side == "both" and side != "")


def way_agrees(event: Event, found: Detection) -> bool:
    """Whether a detection goes where the event shall go; what a detection does not tell cannot disagree."""
    way, seen, angle = event.direction, found.direction, found.angle_deg or 0.0
    if found.action in ("turn", "spin"):
        to_left = {"left": True, "counterclockwise": True, "right": False, "clockwise": False}.get(way)
        return to_left is None or to_left == (angle > 0)
    if found.action in GOING:
        return _goes(way, seen, angle)
    if found.action in ("kick", "raise_leg"):
        asked = {"left": "to_side", "right": "to_side", "sideways": "to_side"}.get(way, way)
        return asked not in ("forward", "to_side", "backward") or asked == seen
    if found.action == "rotate_arm":
        return way not in ("forward", "backward") or way == seen
    return True


def _goes(way: str, seen: str, angle: float) -> bool:
    ahead = seen in ("forward", "clockwise", "counterclockwise")
    if way in ("forward", "straight"):
        return ahead
    if way == "backward":
        return seen == way
    if way in ("left", "right"):
        return seen == way or (ahead and (angle if way == "left" else -angle) > CURVE_DEG)
    if way in ("sideways", "to_side"):
        return seen in ("left", "right")
    if way.startswith("diagonal"):
        return seen in ("forward", way.removeprefix("diagonal_")) or (way == "diagonal" and seen in ("left", "right"))
    if way in ("clockwise", "counterclockwise"):
        return seen == way or (angle if way == "counterclockwise" else -angle) > CIRCLE_DEG
    if way in ("circle", "around"):
        return abs(angle) > CIRCLE_DEG or seen in ("clockwise", "counterclockwise")
    if way == "in_place":
        return seen in (way, "up")
    return True
