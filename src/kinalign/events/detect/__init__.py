"""What happens in a motion, read off its joints: which action, when, how often, on which side and in which direction.

Every action has a rule: a number of the body (events/signals.py) that is followed while it stays beyond one bound and
counts where it gets beyond a second one, and a few conditions that tell the action from its neighbours. Bounds are in
legs, arms, degrees and seconds, so that a child, a giant and a scaled motion are read alike. Detections are not
exclusive: who waves has raised a hand, and a deep bow is a bend. Joints show no things: picking up and putting down
look the same and are both reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kinalign.events.detect.signals import Array, BoolArray, Frames, Signals, measure
from kinalign.events.stretches import (
    SIDES,
    Rule,
    Side,
    Stretch,
    of_both_sides,
    series,
    side_of,
    stretches,
    together,
    turning_points,
)
from kinalign.motion.motion import FPS, Motion

RULES: dict[str, Rule] = {
    # speed of the pelvis, legs a second
    "walk": Rule(0.25, 0.5, 1.0, min_s=0.5, gap_s=0.3),
    "dash": Rule(3.5, 4.5, 6.0, min_s=0.3),
    # share of frames near by in which one foot has left the floor and the other has not yet touched it
    "run": Rule(0.02, 0.08, 0.3, min_s=0.4),
    # 1 - speed of feet and pelvis as shares of STILL_FOOT and STILL_BODY
    "stand": Rule(0.0, 0.3, 0.9, min_s=0.5, gap_s=0.1),
    # degrees a second of the hips' heading
    "turn": Rule(12.0, 35.0, 90.0, gap_s=0.3),
    # degrees of the shoulders from the hips, on average over a second
    "twist": Rule(12.0, 20.0, 30.0, min_s=1.0, gap_s=0.5),
    # height of the lower foot over where it stands, legs
    "flight": Rule(0.03, 0.06, 0.2, min_s=0.1),
    # the lesser of two shares: hands from below the shoulders to over them, feet from together to apart
    "jumping_jack": Rule(0.2, 0.6, 1.0, max_s=1.2),
    # how far the hips have come down, legs
    "dip": Rule(0.12, 0.24, 0.5, min_s=0.3),
    # degrees that the trunk leans forward
    "stoop": Rule(18.0, 27.0, 50.0, min_s=0.4),
    # 1 - height of a hand over the floor, legs
    "low_hand": Rule(0.4, 0.6, 0.8, min_s=0.1, gap_s=0.1),
    # 1 - distance of a hand from a foot, and of an elbow from the other knee, legs
    "hand_to_foot": Rule(0.6, 0.75, 0.9),
    "elbow_to_knee": Rule(0.5, 0.65, 0.85),
    # degrees of the line from hip to ankle from straight down
    "kick": Rule(25.0, 40.0, 80.0, min_s=0.1),
    # degrees of the thigh from straight down
    "raise_knee": Rule(40.0, 60.0, 85.0, min_s=0.1),
    # height of the wrist over the shoulder, arms
    "raise": Rule(-0.15, 0.2, 0.7, min_s=0.2, gap_s=0.1),
    # height of the wrist over the head, arms
    "reach": Rule(0.05, 0.25, 0.6, min_s=0.1),
    # height of the wrist over the elbow, arms
    "wave": Rule(0.0, 0.2, 0.4, min_s=0.5, gap_s=0.15),
    # growth of the distance of wrist and shoulder, arms a second
    "thrust": Rule(0.4, 1.6, 4.0),
    # nearness of the hands on average over 0.8 s, arms
    "clap": Rule(0.0, 0.1, 0.5, min_s=0.4, gap_s=0.2),
    # degrees a second of the line from shoulder to wrist, seen from the side or from the front
    "rotate_arm": Rule(60.0, 200.0, 500.0, gap_s=0.1),
    # degrees of the trunk from upright
    "overturn": Rule(70.0, 110.0, 170.0),
    # the least of the shares of hands, feet and aimless travel
    "dance": Rule(0.5, 1.0, 2.0, min_s=2.0, gap_s=1.0),
}

SERIES_S = 1.2
"""Repetitions that follow each other within this time are one event with a count."""
STILL_BODY, STILL_FOOT = 0.25, 0.8
"""Legs a second of a pelvis and of a foot that are not still any more."""
STEP_LENGTH, STEP_LIFT = 0.25, 0.1
"""Legs by which a foot passes the other in a step, and is lifted over the other when stepping in place."""
IN_PLACE_SPEED = 0.5
"""Legs a second below which a run goes nowhere."""
TRAVEL_SPEED = 0.8
"""Legs a second from which a lean, a dip or a lifted knee is part of walking."""
TURN_DEG, SPIN_DEG, CIRCLE_DEG = 45.0, 300.0, 270.0
ACROSS_DEG, BACK_DEG = 40.0, 130.0
"""Degrees from straight ahead beyond which a way leads sideways, and backward."""
TWIST_DEG = 40.0
SAME_TIME_S = 0.15
"""Feet that leave or meet the floor within this time do so together."""
HOP_RISE, JUMP_RISE, LEAP_RISE = 0.25, 0.03, 0.15
"""Legs: a jump that rises less is a hop too; what rises less is no jump; a running stride that rises more is a leap."""
LONG_FLIGHT_S = 0.3
HOLD_S = 1.0
"""Who stays down this long crouches; who comes up sooner squats."""
SEAT_BEHIND, SEAT_HEIGHT, FLOOR_HEIGHT = 0.4, 0.75, 0.25
"""Legs: a sitter's hips are this far behind the feet and lower than that; on the floor they are lower still."""
LYING_DEG, LYING_HEAD = 55.0, 0.6
KNEEL_HEIGHT = 0.18
BEND_DEG, STRAIGHT_KNEE_DEG, BOW_DIP = 42.0, 45.0, 0.2
KICK_SPEED, KICK_REACH, OTHER_LEG_DEG = 3.0, 0.85, 40.0
"""Legs a second of the foot, legs from hip to ankle, and degrees that the standing leg may lean."""
BENT_KNEE_DEG = 55.0
LOW_HAND, RAISE_S = -0.35, 2.0
"""Arms under the shoulder: a hand that low this long before has been raised, and that low afterwards lowered."""
STRAIGHT_ARM, BENT_ARM, FIST_SPEED = 0.8, 0.75, 2.5
"""Arms of reach at a punch's end and at its start; arms a second of the hand."""
OVER_SHOULDER = 0.35
"""Arms: thrusts that end higher than this over the shoulder are throws."""
WAVE_WIDTH, WAVE_REVERSALS = 0.12, 3
CLAP_WIDTH, CLAP_DISTANCE = 0.12, 0.4
CLAP_SPAN = 0.9
ARM_CIRCLE_DEG, ARM_CIRCLE_RADIUS = 260.0, 0.35
SPREAD_FEET, SPREAD_FEET_MORE = 0.3, 0.6
DANCE_HANDS, DANCE_FEET, DANCE_ROAM, DANCE_WINDOW_S = 1.0, 1.0, 0.25, 1.5
"""Arms a second, legs a second, and legs a second of way that leads nowhere, over this time to either side."""

EXCLUDES: dict[str, frozenset[str]] = {
    "cartwheel": frozenset(
        "kick raise_leg raise_knee raise lower reach wave punch throw rotate_arm put_down pick_up touch bend bow jump hop "
        "leap squat crouch kneel turn spin run twist clap stand_up sit lie_down get_up".split()
    ),
    "flip": frozenset(
        "kick raise_leg raise_knee wave punch throw rotate_arm put_down pick_up touch bend bow hop leap turn spin run "
        "twist clap lie_down sit get_up stand_up kneel".split()
    ),
    "jumping_jack": frozenset("rotate_arm clap wave throw punch raise_leg kick walk run dance hop reach".split()),
    "lie_down": frozenset("put_down pick_up touch bend bow squat crouch kick raise_knee raise_leg walk".split()),
}
"""Events that are part of another one during which they are seen, and are not reported beside it."""


@dataclass(frozen=True)
class Detection:
    """An event: frames [start, end) of the motion, `count` repetitions, `angle_deg` to the left where it turns.

    `confidence` is 0.5 where the rule is just met and 1 where it is far exceeded; `reason` says by which numbers.
    """

    action: str
    start: int
    end: int
    confidence: float
    reason: str
    side: Side = ""
    direction: str = ""
    count: int | None = None
    part: str = ""
    angle_deg: float | None = None


def detect(motion: Motion) -> list[Detection]:
    """Events of one motion in order of their starts. Raises MotionError unless it has HumanML3D's 22 joints."""
    return detect_all([motion])[0]


def detect_all(motions: Sequence[Motion]) -> list[list[Detection]]:
    """`detect` of each motion, many times faster than one by one: the frames of all are computed together."""
    if not motions:
        return []
    s = measure([motion.resample(FPS) for motion in motions])
    found: list[list[Detection]] = [[] for _ in motions]
    for event in _events(s):
        found[int(s.frames.motion[event.start])].append(event)
    bounds = s.frames.bounds.tolist()
    return [_in_own_frames(motion, first, events) for motion, first, events in zip(motions, bounds, found)]


def _in_own_frames(motion: Motion, first: int, events: list[Detection]) -> list[Detection]:
    """Events of the row of all frames as those of their motion, without those that are part of others."""
    wholes = [event for event in events if event.action in EXCLUDES]
    kept = []
    for event in events:
        middle = (event.start + event.end) // 2
        if any(event.action in EXCLUDES[whole.action] and whole.start <= middle < whole.end for whole in wholes):
            continue
        start = min(round((event.start - first) * motion.fps / FPS), len(motion) - 1)
        end = min(max(round((event.end - first) * motion.fps / FPS), start + 1), len(motion))
        kept.append(
            Detection(
                event.action,
                start,
                end,
                event.confidence,
                event.reason,
                event.side,
                event.direction,
                event.count,
                event.part,
                event.angle_deg,
            )
        )
    return sorted(kept, key=lambda event: (event.start, event.end, event.action))


def _events(s: Signals) -> Iterator[Detection]:
    """All events of all motions, in frames of the row of all frames."""
    flights = _flights(s)
    running = np.zeros(len(s.speed), dtype=bool)
    yield from _runs(s, flights, running)
    yield from _walks(s, running)
    yield from _turns(s)
    yield from _stands(s)
    yield from _jumps(s, flights, running)
    yield from _jumping_jacks(s)
    yield from _overturns(s)
    yield from _dips(s, flights)
    yield from _stoops(s)
    yield from _low_hands(s)
    yield from _elbows_to_knees(s)
    yield from _kicks(s, running)
    yield from _knees(s, running)
    yield from _raised_hands(s)
    yield from _waves(s)
    yield from _thrusts(s, running)
    yield from _claps(s)
    yield from _arm_circles(s)
    yield from _twists(s)
    yield from _dances(s)


# --- Going --------------------------------------------------------------------------------------------------------


class Flight(NamedTuple):
    """Frames [start, end) with both feet off the floor; `kind` says from which feet onto which."""

    start: int
    end: int
    kind: str  # both feet to both, hop from one to itself, stride from one to the other, mixed
    side: Side
    rise: float  # of the hips in legs
    seconds: float


def _flights(s: Signals) -> list[Flight]:
    rule, here = RULES["flight"], np.arange(len(s.speed))[:, None]
    is_down = s.lift <= rule.leave
    last_down = np.maximum.accumulate(np.where(is_down, here, -1), axis=0)
    next_down = np.minimum.accumulate(np.where(is_down, here, len(s.speed))[::-1], axis=0)[::-1]
    flights = []
    for start, end, _, _ in stretches(s.frames, s.lift.min(axis=1), rule):
        first, last = int(s.frames.first[start]), int(s.frames.last[start])
        if start == first or end > last:
            continue  # nobody sees which feet it began or ended with
        off, on = last_down[start - 1], next_down[end]
        off_together = off.min() >= first and abs(int(off[0] - off[1])) <= SAME_TIME_S * FPS
        on_together = on.max() <= last and abs(int(on[0] - on[1])) <= SAME_TIME_S * FPS
        foot_off, foot_on = int(off[1] > off[0]), int(on[1] < on[0])
        side: Side = ""
        if off_together and on_together:
            kind = "both"
        elif off_together or on_together:
            kind = "mixed"
        elif foot_off == foot_on:
            kind, side = "hop", SIDES[foot_on]
        else:
            kind = "stride"
        rise = float(s.hips[start:end].max() - min(s.hips[start - 1], s.hips[end]))
        flights.append(Flight(start, end, kind, side, rise, (end - start) / FPS))
    return flights


def _runs(s: Signals, flights: list[Flight], running: BoolArray) -> Iterator[Detection]:
    """Runs and dashes; marks their frames in `running`."""
    striding = np.zeros(len(s.speed))
    for flight in flights:
        if flight.kind == "stride":
            striding[flight.start : flight.end] = 1
    for stretch in stretches(s.frames, s.frames.mean(striding, 0.35), RULES["run"]):
        frames = slice(stretch.start, stretch.end)
        speed = float(s.speed[frames].mean())
        in_place = speed < IN_PLACE_SPEED
        steps, _ = _steps_in_place(s, frames) if in_place else _steps(s, frames)
        if steps < 2:
            continue
        running[frames] = True
        direction = "in_place" if in_place else _way(s, frames)
        confidence = RULES["run"].confidence(stretch.peak)
        share = float(striding[frames].mean())
        metres = speed * _leg_m(s, stretch.start)
        reason = f"{steps} steps, both feet off the floor {share:.0%} of the time, {metres:.1f} m/s {direction}"
        yield Detection("run", *stretch[:2], confidence, reason, direction=direction, count=steps)
        yield _stepping(s, stretch, steps, "alternate", direction)
    for stretch in stretches(s.frames, np.where(running, s.speed, 0.0), RULES["dash"]):
        reason = f"runs at {stretch.peak * _leg_m(s, stretch.start):.1f} m/s"
        direction = _way(s, slice(stretch.start, stretch.end))
        yield Detection("dash", *stretch[:2], RULES["dash"].confidence(stretch.peak), reason, direction=direction)


def _walks(s: Signals, running: BoolArray) -> Iterator[Detection]:
    rule = RULES["walk"]
    for stretch in stretches(s.frames, np.where(running, 0.0, s.speed), rule):
        frames = slice(stretch.start, stretch.end)
        steps, first = _steps(s, frames)
        if steps == 0:
            continue
        direction = _way(s, frames)
        yield _stepping(s, stretch, steps, first if steps == 1 else "alternate", direction)
        if steps > 1:
            speed, leg_m = float(s.speed[frames].mean()), _leg_m(s, stretch.start)
            metres = speed * (stretch.end - stretch.start) / FPS * leg_m
            reason = f"{steps} steps, {metres:.1f} m {direction} at {speed * leg_m:.1f} m/s, {first} foot first"
            yield Detection(
                "walk", *stretch[:2], rule.confidence(stretch.peak), reason, direction=direction, count=steps
            )


def _stepping(s: Signals, stretch: Stretch, steps: int, side: Side, direction: str) -> Detection:
    reason = f"{steps} {'step' if steps == 1 else 'steps'} {direction}"
    confidence = 0.6 if steps == 1 else 0.9
    return Detection("step", *stretch[:2], confidence, reason, side=side, direction=direction, count=steps)


def _steps(s: Signals, frames: slice) -> tuple[int, Side]:
    """Steps of feet that pass each other, and the foot that makes the first one."""
    stride = s.stride[frames]
    points = turning_points(stride, STEP_LENGTH)
    if len(points) < 2:
        return 0, ""
    return len(points) - 1, SIDES[int(stride[points[1]] < stride[points[0]])]


def _steps_in_place(s: Signals, frames: slice) -> tuple[int, Side]:
    """Steps of feet that are lifted in turn."""
    lead = s.lift[frames, 0] - s.lift[frames, 1]
    points = [point for point in turning_points(lead, STEP_LIFT) if abs(lead[point]) > STEP_LIFT / 2]
    return len(points), SIDES[int(lead[points[0]] < 0)] if points else ""


def _way(s: Signals, frames: slice) -> str:
    """Where a way leads: around in a circle, or forward, backward or to a side of the body."""
    turned = float(s.course[frames.stop - 1] - s.course[frames.start])
    if abs(turned) > CIRCLE_DEG:
        return "counterclockwise" if turned > 0 else "clockwise"
    forward, left = s.velocity[frames].mean(axis=0)
    angle = np.degrees(np.arctan2(abs(left), forward))
    if angle > BACK_DEG:
        return "backward"
    if angle > ACROSS_DEG:
        return "left" if left > 0 else "right"
    return "forward"


def _turns(s: Signals) -> Iterator[Detection]:
    rule = RULES["turn"]
    for sign, direction in ((1.0, "left"), (-1.0, "right")):
        for stretch in stretches(s.frames, sign * s.yaw_rate, rule):
            angle = float(s.yaw[stretch.end - 1] - s.yaw[stretch.start])
            if sign * angle < TURN_DEG:
                continue
            reason = f"hips turn {abs(angle):.0f} degrees to the {direction} at up to {stretch.peak:.0f} degrees/s"
            confidence = rule.confidence(stretch.peak)
            yield Detection("turn", *stretch[:2], confidence, reason, direction=direction, angle_deg=angle)
            if abs(angle) >= SPIN_DEG:
                count = round(abs(angle) / 360)
                yield Detection("spin", *stretch[:2], confidence, reason, "", direction, count, "", angle)


def _stands(s: Signals) -> Iterator[Detection]:
    rule = RULES["stand"]
    stirring = np.maximum(s.speed / STILL_BODY, s.ankle_speed.max(axis=1) / STILL_FOOT)
    is_up = (s.hips > 0.85) & (s.tilt < 40) & (s.lift.max(axis=1) < 0.1)
    for stretch in stretches(s.frames, np.where(is_up, 1 - stirring, -1.0), rule):
        frames = slice(stretch.start, stretch.end)
        hands = float(s.hand_speed[frames].max(axis=1).mean()) * s.arm_m[s.frames.motion[stretch.start]]
        seconds = (stretch.end - stretch.start) / FPS
        reason = f"upright on both feet for {seconds:.1f} s, hands at {hands:.1f} m/s"
        confidence = rule.confidence(stretch.peak) * (1.0 if hands < 0.3 else 0.8)
        yield Detection("stand", *stretch[:2], max(round(confidence, 2), 0.5), reason)


def _jumps(s: Signals, flights: list[Flight], running: BoolArray) -> Iterator[Detection]:
    rule, jumps, hops, leaps = RULES["flight"], [], [], []
    rises: dict[int, Flight] = {}
    for flight in flights:
        stretch = Stretch(flight.start, flight.end, flight.rise, flight.side)
        rises[flight.start] = flight
        in_run = bool(running[flight.start])
        if flight.kind == "hop" and not in_run and flight.rise >= JUMP_RISE:
            hops.append(stretch)
        elif flight.kind == "both" and flight.rise >= JUMP_RISE:
            jumps.append(stretch)
        elif flight.kind == "mixed" and flight.seconds >= LONG_FLIGHT_S and not in_run:
            jumps.append(stretch)
        elif flight.kind == "stride" and (flight.seconds >= LONG_FLIGHT_S and flight.rise >= LEAP_RISE):
            leaps.append(stretch)
    hops += [jump._replace(side="both") for jump in jumps if jump.peak < HOP_RISE]
    for action, found in (("jump", jumps), ("hop", hops), ("leap", leaps)):
        for group in series(s.frames, found, SERIES_S):
            start, end = _widened(s.frames, group[0].start, group[-1].end, 0.25)
            highest = max(stretch.peak for stretch in group)
            longest = max(rises[stretch.start].seconds for stretch in group)
            moved = float(s.speed[group[0].start : group[-1].end].mean())
            direction = _way(s, slice(group[0].start, group[-1].end)) if moved > IN_PLACE_SPEED else "up"
            times = f"{len(group)} times" if len(group) > 1 else "once"
            rise_m = highest * _leg_m(s, start)
            reason = f"both feet off the floor {times}, for {longest:.2f} s, hips up by {rise_m:.2f} m, {direction}"
            side = side_of(group) if action == "hop" else ""
            confidence = rule.confidence(highest)
            yield Detection(action, start, end, confidence, reason, side, direction, len(group))


def _jumping_jacks(s: Signals) -> Iterator[Detection]:
    rule = RULES["jumping_jack"]
    arms = s.hand[:, :, 1].min(axis=1) + 0.5
    legs = (s.feet_apart - SPREAD_FEET) / (SPREAD_FEET_MORE - SPREAD_FEET)
    for group in series(s.frames, stretches(s.frames, np.minimum(arms, legs), rule), SERIES_S):
        start, end = _widened(s.frames, group[0].start, group[-1].end, 0.2)
        if len(group) < 2 and float(s.lift[start:end].min(axis=1).max()) < RULES["flight"].leave:
            continue
        apart_m = float(s.feet_apart[start:end].max()) * _leg_m(s, start)
        reason = f"arms up and feet {apart_m:.2f} m apart at the same time, {len(group)} times"
        confidence = rule.confidence(max(stretch.peak for stretch in group))
        yield Detection("jumping_jack", start, end, confidence, reason, count=len(group))


def _overturns(s: Signals) -> Iterator[Detection]:
    """Cartwheels, over the hands and sideways, and flips, through the air or straight over."""
    rule = RULES["overturn"]
    found = []
    for stretch in stretches(s.frames, s.tilt, rule):
        frames = slice(stretch.start, stretch.end)
        feet_up = float(s.lift[frames].max())
        if float(s.hips[frames].max()) < 0.5 or feet_up < 0.5:
            continue
        found.append((stretch, float(np.abs(s.sideways[frames]).max()), float(s.hand_height[frames].min()), feet_up))
    for action in ("cartwheel", "flip"):
        ours = {item[0].start: item for item in found if (item[1] > 0.5 and item[2] < 0.35) == (action == "cartwheel")}
        for group in series(s.frames, [item[0] for item in ours.values()], SERIES_S):
            start, end = _widened(s.frames, group[0].start, group[-1].end, 0.4)
            most = max(stretch.peak for stretch in group)
            _, sine, _, feet_up = ours[group[0].start]
            feet_m = feet_up * _leg_m(s, start)
            reason = f"trunk {most:.0f} degrees from upright, {sine:.0%} of it sideways, feet {feet_m:.2f} m up"
            yield Detection(action, start, end, rule.confidence(most), reason, count=len(group))


# --- Down and up --------------------------------------------------------------------------------------------------


def _dips(s: Signals, flights: list[Flight]) -> Iterator[Detection]:
    """Squats, crouches, kneeling, sitting and lying down, and coming up from them."""
    rule, squats = RULES["dip"], []
    airborne = np.zeros(len(s.speed), dtype=bool)
    for flight in flights:
        if flight.kind == "both":
            start, end = _widened(s.frames, flight.start, flight.end, 0.25)
            airborne[start:end] = True
    depth = 1 - s.hips
    is_lying = (s.tilt > LYING_DEG) & (s.head < LYING_HEAD) & (s.hips < 0.4)
    on_floor = (s.hips < FLOOR_HEIGHT) & (s.tilt < LYING_DEG)
    is_seated = on_floor | (
        (s.hips_behind > SEAT_BEHIND) & (s.hips < SEAT_HEIGHT) & (s.tilt < 45) & (s.lift.max(axis=1) < 0.3)
    )
    is_kneeling = (s.knee_height.min(axis=1) < KNEEL_HEIGHT) & (s.hips < 0.7) & (s.tilt < LYING_DEG)
    for stretch in stretches(s.frames, depth, rule):
        start, end, deepest, _ = stretch
        frames = slice(start, end)
        low_m = float(s.hips[frames].min()) * _leg_m(s, start)
        comes_down = start > s.frames.first[start]
        comes_up = end <= s.frames.last[start]
        held = depth[frames] > 0.75 * deepest
        hold_s = float(held.sum()) / FPS
        low_frames = np.flatnonzero(held) + start
        confidence = rule.confidence(deepest)
        rested = ""
        for name, action, mask in (("lying", "lie_down", is_lying), ("sitting", "sit", is_seated)):
            rest = np.flatnonzero(mask[frames]) + start
            if len(rest) < 0.3 * FPS:
                continue
            rested = rested or name
            hips_m, tilt = float(s.hips[rest].mean()) * _leg_m(s, start), float(s.tilt[rest].mean())
            reason = (
                f"{name} for {len(rest) / FPS:.1f} s: hips {hips_m:.2f} m over the ankles, trunk at {tilt:.0f} degrees"
            )
            until = int(rest[-1]) + 1
            yield Detection(action, start, until, confidence, reason, direction="down" if comes_down else "")
        kneels = np.flatnonzero(is_kneeling[frames]) + start
        if not rested and len(kneels) > 0.4 * FPS:
            rested = "kneeling"
            knee_m = float(s.knee_height[kneels].min()) * _leg_m(s, start)
            reason = f"a knee {knee_m:.2f} m over the floor for {len(kneels) / FPS:.1f} s"
            yield Detection("kneel", start, int(kneels[-1]) + 1, confidence, reason)
        if not rested and float(s.speed[frames].mean()) < TRAVEL_SPEED:
            if hold_s >= HOLD_S:
                reason = f"hips {low_m:.2f} m over the ankles for {hold_s:.1f} s"
                yield Detection("crouch", start, end, confidence, reason)
            if comes_up and hold_s < 2 * HOLD_S and not airborne[low_frames[0] : end].any():
                squats.append(stretch)
        if comes_up and (rested or hold_s >= HOLD_S or not comes_down):
            reason = f"hips rise from {low_m:.2f} m over the ankles to straight legs"
            yield Detection("stand_up", int(low_frames[-1]), end, confidence, reason, direction="up")
            if rested == "lying" or float(s.hips[frames].min()) < FLOOR_HEIGHT:
                yield Detection("get_up", int(low_frames[-1]), end, confidence, reason, direction="up")
    for group in series(s.frames, squats, SERIES_S):
        deepest = max(stretch.peak for stretch in group)
        low_m = (1 - deepest) * _leg_m(s, group[0].start)
        reason = f"hips down to {low_m:.2f} m over the ankles and up again, {len(group)} times"
        confidence = rule.confidence(deepest)
        yield Detection("squat", group[0].start, group[-1].end, confidence, reason, count=len(group))


def _stoops(s: Signals) -> Iterator[Detection]:
    """Bows and bends forward."""
    rule, bows, bends = RULES["stoop"], [], []
    is_standing = s.hips > 0.3
    for stretch in stretches(s.frames, np.where(is_standing, s.stoop, 0.0), rule):
        frames = slice(stretch.start, stretch.end)
        if float(s.speed[frames].mean()) > TRAVEL_SPEED:
            continue
        lowest = stretch.start + int(np.argmax(s.stoop[frames]))
        knees, dip = float(s.knee_bend[lowest].mean()), 1 - float(s.hips[frames].min())
        if knees < STRAIGHT_KNEE_DEG and dip < BOW_DIP and stretch.start > s.frames.first[stretch.start]:
            bows.append(stretch)
        if stretch.peak >= BEND_DEG:
            bends.append(stretch)
    for action, found in (("bow", bows), ("bend", bends)):
        for group in series(s.frames, found, SERIES_S):
            most = max(stretch.peak for stretch in group)
            times = f", {len(group)} times" if len(group) > 1 else ""
            straight = " with straight legs" if action == "bow" else ""
            reason = f"trunk leans forward by {most:.0f} degrees{straight}{times}"
            yield Detection(
                action,
                group[0].start,
                group[-1].end,
                rule.confidence(most),
                reason,
                direction="forward",
                count=len(group),
            )


def _low_hands(s: Signals) -> Iterator[Detection]:
    """A hand to the floor, which puts down or picks up, or to a foot, which touches it."""
    is_reaching = ((s.stoop > 25) | (s.hips < 0.8)) & (s.hips > 0.2) & (s.tilt < 130)
    gate = is_reaching[:, None]
    low = together(of_both_sides(s.frames, np.where(gate, 1 - s.hand_height, -1.0), RULES["low_hand"]))
    for group in series(s.frames, low, SERIES_S):
        frames = slice(group[0].start, group[-1].end)
        height_m = (1 - max(stretch.peak for stretch in group)) * _leg_m(s, frames.start)
        side = side_of(group)
        reason = f"{_hands(side)} {height_m:.2f} m over the floor"
        confidence = RULES["low_hand"].confidence(max(stretch.peak for stretch in group))
        for action in ("put_down", "pick_up"):
            yield Detection(
                action, frames.start, frames.stop, confidence, reason, side, "down", len(group), part="hand"
            )
    straight = s.knee_bend.min(axis=1) < STRAIGHT_KNEE_DEG + 15
    near = np.where(gate & straight[:, None], 1 - s.hand_to_foot, -1.0)
    for group in series(s.frames, together(of_both_sides(s.frames, near, RULES["hand_to_foot"])), SERIES_S):
        peak = max(stretch.peak for stretch in group)
        distance_m = (1 - peak) * _leg_m(s, group[0].start)
        side = side_of(group)
        reason = f"{_hands(side)} {distance_m:.2f} m from a foot, {len(group)} times"
        confidence = RULES["hand_to_foot"].confidence(peak)
        yield Detection("touch", group[0].start, group[-1].end, confidence, reason, side, count=len(group), part="foot")


def _elbows_to_knees(s: Signals) -> Iterator[Detection]:
    rule = RULES["elbow_to_knee"]
    near = np.where((s.hips > 0.7)[:, None], 1 - s.elbow_to_knee, -1.0)
    for group in series(s.frames, together(of_both_sides(s.frames, near, rule)), SERIES_S):
        peak, side = max(stretch.peak for stretch in group), side_of(group)
        reason = f"{side} elbow {(1 - peak) * _leg_m(s, group[0].start):.2f} m from the other knee, {len(group)} times"
        confidence = rule.confidence(peak)
        yield Detection(
            "touch", group[0].start, group[-1].end, confidence, reason, side, count=len(group), part="elbow"
        )


# --- Legs ---------------------------------------------------------------------------------------------------------


def _kicks(s: Signals, running: BoolArray) -> Iterator[Detection]:
    """Kicks, and legs that are raised without haste."""
    rule = RULES["kick"]
    is_standing = (s.hips > 0.7) & (s.tilt < 75)
    kicks, raises, ways = [], [], {}
    for column, side in enumerate(SIDES):
        alone = is_standing & (s.leg_raise[:, 1 - column] < OTHER_LEG_DEG) & ~running
        for stretch in stretches(s.frames, np.where(alone, s.leg_raise[:, column], 0.0), rule, side):
            frames = slice(stretch.start, stretch.end)
            highest = stretch.start + int(np.argmax(s.leg_raise[frames, column]))
            forward, up, out = s.foot[highest, column].tolist()
            length = float(np.linalg.norm(s.foot[frames, column], axis=-1).max())
            if length < KICK_REACH:
                continue
            before = slice(max(stretch.start - 5, int(s.frames.first[stretch.start])), stretch.end)
            speed = float(s.foot_speed[before, column].max())
            behind = forward < -0.25 and abs(out) < -forward
            way = "backward" if behind else "forward" if forward > abs(out) else "sideways"
            ways[stretch.start, side] = (way, speed, (up + length) * _leg_m(s, stretch.start))
            if speed >= KICK_SPEED and not behind:
                kicks.append(stretch)
            else:
                raises.append(stretch)
    for action, found in (("kick", kicks), ("raise_leg", raises)):
        for group in series(s.frames, found, SERIES_S):
            peak = max(stretch.peak for stretch in group)
            way, speed, _ = ways[group[0].start, group[0].side]
            side = side_of(group)
            metres = speed * _leg_m(s, group[0].start)
            reason = f"{side} leg {peak:.0f} degrees from straight down, {way}, foot at {metres:.1f} m/s"
            start, end = _widened(s.frames, group[0].start, group[-1].end, 0.2)
            confidence = rule.confidence(peak)
            yield Detection(action, start, end, confidence, reason, side, way, len(group), part="leg")


def _knees(s: Signals, running: BoolArray) -> Iterator[Detection]:
    rule = RULES["raise_knee"]
    is_standing = (s.hips > 0.75) & (s.tilt < 60) & (s.speed < TRAVEL_SPEED)
    found = []
    for column, side in enumerate(SIDES):
        alone = is_standing & (s.thigh_raise[:, 1 - column] < OTHER_LEG_DEG)
        raised = np.where(alone & (s.knee_bend[:, column] > BENT_KNEE_DEG), s.thigh_raise[:, column], 0.0)
        found += stretches(s.frames, raised, rule, side)
    for group in series(s.frames, found, SERIES_S):
        peak, side = max(stretch.peak for stretch in group), side_of(group)
        whose = f"{side} thigh" if side in SIDES else "thighs in turn"
        reason = f"{whose} {peak:.0f} degrees from straight down, {len(group)} times"
        start, end = _widened(s.frames, group[0].start, group[-1].end, 0.2)
        yield Detection(
            "raise_knee", start, end, rule.confidence(peak), reason, side, "up", count=len(group), part="knee"
        )


# --- Arms ---------------------------------------------------------------------------------------------------------


def _raised_hands(s: Signals) -> Iterator[Detection]:
    """Hands that are raised, lowered again, and reached up."""
    rule = RULES["raise"]
    is_up = (s.tilt < 60) & (s.hips > 0.3)
    height = np.where(is_up[:, None], s.hand[:, :, 1], -2.0)
    window = round(RAISE_S * FPS)
    raises, lowers = [], []
    for column, side in enumerate(SIDES):
        level = height[:, column]
        for start, end, peak, _ in stretches(s.frames, level, rule, side):
            at_top = np.flatnonzero(level[start:end] >= peak - 0.1) + start
            before = level[max(start - window, int(s.frames.first[start])) : start]
            if len(before) and before.min() < LOW_HAND:
                low = start - len(before) + int(np.flatnonzero(before <= before.min() + 0.12)[-1])
                raises.append(Stretch(low, int(at_top[0]) + 1, peak, side))
            after = level[end : min(end + window, int(s.frames.last[start]) + 1)]
            if len(after) and after.min() < LOW_HAND:
                low = end + int(np.flatnonzero(after <= after.min() + 0.12)[0])
                lowers.append(Stretch(int(at_top[-1]), low + 1, peak, side))
    reaches = [
        stretch
        for stretch in of_both_sides(s.frames, np.where(is_up[:, None], s.hand_over_head, -2.0), RULES["reach"])
        if float(s.reach[stretch.start : stretch.end, SIDES.index(stretch.side)].max()) > STRAIGHT_ARM
    ]
    for action, direction, found in (("raise", "up", raises), ("lower", "down", lowers), ("reach", "up", reaches)):
        for stretch in together(found):
            metres = stretch.peak * _arm_m(s, stretch.start)
            over = "head" if action == "reach" else "shoulder"
            reason = f"{_hands(stretch.side)} {metres:.2f} m above the {over}"
            confidence = (RULES["reach"] if action == "reach" else rule).confidence(stretch.peak)
            yield Detection(
                action, stretch.start, stretch.end, confidence, reason, stretch.side, direction, part="hand"
            )


def _waves(s: Signals) -> Iterator[Detection]:
    rule, waves, swings = RULES["wave"], [], {}
    is_up = (s.tilt < 60) & (s.hips > 0.5) & (s.speed < 2 * TRAVEL_SPEED)
    for column, side in enumerate(SIDES):
        raised = np.where(is_up & (s.hand[:, column, 1] > -0.4), s.forearm[:, column, 1], -1.0)
        for stretch in stretches(s.frames, raised, rule, side):
            frames = slice(stretch.start, stretch.end)
            # across the body or to the front, whichever the hand swings more often
            points = max((turning_points(s.forearm[frames, column, axis], WAVE_WIDTH) for axis in (2, 0)), key=len)
            reversals = len(points) - 2
            if reversals < WAVE_REVERSALS:
                continue
            wave = Stretch(stretch.start + points[0], stretch.start + points[-1] + 1, stretch.peak, side)
            waves.append(wave)
            swings[wave.start, side] = reversals
    for stretch in together(waves):
        reversals = max(swings.get((stretch.start, side), 0) for side in SIDES)
        over_m = float(s.hand_over_head[stretch.start : stretch.end].max()) * _arm_m(s, stretch.start)
        where = "above" if over_m > 0 else "below"
        reason = f"{_hands(stretch.side)} {abs(over_m):.2f} m {where} the head, {reversals} lateral reversals"
        count = max(round(reversals / 2), 1)
        confidence = round(min(0.5 + 0.1 * (reversals - WAVE_REVERSALS + 1), 1.0), 2)
        yield Detection("wave", stretch.start, stretch.end, confidence, reason, stretch.side, count=count, part="hand")


def _thrusts(s: Signals, running: BoolArray) -> Iterator[Detection]:
    """Punches, level with the shoulders, and throws, over them."""
    rule, punches, throws = RULES["thrust"], [], []
    is_up = (s.tilt < 60) & (s.hips > 0.5) & ~running
    growth = np.where(is_up[:, None], s.frames.rate(s.reach), 0.0)
    for column, side in enumerate(SIDES):
        for stretch in stretches(s.frames, growth[:, column], rule, side):
            start, end = stretch.start, min(stretch.end, int(s.frames.last[stretch.start]))
            forward, up, _ = s.hand[end, column].tolist()
            speed = float(s.hand_speed[start : end + 1, column].max())
            if s.reach[end, column] < STRAIGHT_ARM or s.reach[start, column] > BENT_ARM or speed < FIST_SPEED:
                continue
            if up > OVER_SHOULDER and forward > 0 and s.hand[start, column, 1] > LOW_HAND:
                throws.append(stretch)
            elif -0.6 < up <= OVER_SHOULDER and forward > 0.45:
                punches.append(stretch)
    for action, found in (("punch", punches), ("throw", throws)):
        for group in series(s.frames, together(found), SERIES_S):
            peak, side = max(stretch.peak for stretch in group), side_of(group)
            start, end = _widened(s.frames, group[0].start, group[-1].end, 0.15)
            times = f", {len(group)} times" if len(group) > 1 else ""
            reason = f"{_hands(side)} thrust out at {peak * _arm_m(s, start):.1f} m/s{times}"
            confidence = rule.confidence(peak)
            yield Detection(action, start, end, confidence, reason, side, "forward", len(group), part="hand")


def _claps(s: Signals) -> Iterator[Detection]:
    rule = RULES["clap"]
    in_front = (s.hand[:, :, 0].min(axis=1) > 0.0) & (s.hand[:, :, 1].min(axis=1) > -1.0) & (s.tilt < 60)
    nearness = np.where(in_front, CLAP_SPAN - s.frames.mean(s.hands_apart, 0.4), -1.0)
    for stretch in stretches(s.frames, nearness, rule):
        apart = s.hands_apart[stretch.start : stretch.end]
        points = turning_points(apart, CLAP_WIDTH)
        claps = [p for n, p in enumerate(points) if apart[p] < CLAP_DISTANCE and _is_low(apart, points, n)]
        if len(claps) < 2:
            continue
        start, end = stretch.start + claps[0], stretch.start + claps[-1] + 1
        nearest_m = float(apart.min()) * _arm_m(s, start)
        reason = f"wrists meet to {nearest_m:.2f} m, {len(claps)} times"
        confidence = round(min(0.4 + 0.1 * len(claps), 1.0), 2)
        yield Detection("clap", *_widened(s.frames, start, end, 0.1), confidence, reason, "both", count=len(claps))


def _is_low(values: Array, points: list[int], index: int) -> bool:
    neighbours = points[max(index - 1, 0) : index] + points[index + 1 : index + 2]
    return all(values[points[index]] < values[point] for point in neighbours)


def _arm_circles(s: Signals) -> Iterator[Detection]:
    rule, circles, turned = RULES["rotate_arm"], [], {}
    for plane in (0, 2):  # seen from the side, and from the front
        flat, up = s.hand[:, :, plane], s.hand[:, :, 1]
        angle = np.arctan2(up, flat)
        before = np.maximum(np.arange(len(angle)) - 1, s.frames.first)
        step = np.degrees(np.angle(np.exp(1j * (angle - angle[before]))))
        step = np.where((np.hypot(flat, up) > ARM_CIRCLE_RADIUS) & (s.tilt < 60)[:, None], step, 0.0)
        for sign in (1.0, -1.0):
            for stretch in of_both_sides(s.frames, sign * step * FPS, rule):
                degrees = float(step[stretch.start : stretch.end, SIDES.index(stretch.side)].sum())
                if abs(degrees) < ARM_CIRCLE_DEG:
                    continue
                circles.append(stretch)
                turned[stretch.start, stretch.side] = degrees
    for stretch in together(circles):
        degrees = max((turned.get((stretch.start, side), 0.0) for side in SIDES), key=abs)
        direction = "backward" if degrees > 0 else "forward"
        count = max(round(abs(degrees) / 360), 1)
        reason = f"{_hands(stretch.side)} go round the shoulder by {abs(degrees):.0f} degrees {direction}"
        confidence = rule.confidence(stretch.peak)
        yield Detection(
            "rotate_arm", stretch.start, stretch.end, confidence, reason, stretch.side, direction, count, "arm"
        )


def _twists(s: Signals) -> Iterator[Detection]:
    rule = RULES["twist"]
    still = np.where((s.speed < TRAVEL_SPEED) & (s.tilt < 60), np.abs(s.twist), 0.0)
    for stretch in stretches(s.frames, s.frames.mean(still, 0.5), rule):
        twist = s.twist[stretch.start : stretch.end]
        points = turning_points(twist, TWIST_DEG)
        if len(points) < 3:
            continue
        most = float(np.abs(twist).max())
        reason = f"shoulders turn to {most:.0f} degrees from the hips, {len(points) - 1} times from side to side"
        yield Detection(
            "twist", *stretch[:2], rule.confidence(stretch.peak), reason, "alternate", count=len(points) - 1
        )


def _dances(s: Signals) -> Iterator[Detection]:
    """Hands and feet that keep moving while the body goes here and there."""
    rule, mean = RULES["dance"], s.frames.mean
    hands = mean(s.hand_speed.mean(axis=1), DANCE_WINDOW_S) / DANCE_HANDS
    feet = mean(s.foot_speed.mean(axis=1), DANCE_WINDOW_S) / DANCE_FEET
    roam = (mean(s.speed, DANCE_WINDOW_S) - s.drift) / DANCE_ROAM
    for stretch in stretches(s.frames, np.minimum(np.minimum(hands, feet), roam), rule):
        frames = slice(stretch.start, stretch.end)
        hand_m = float(s.hand_speed[frames].mean()) * _arm_m(s, stretch.start)
        foot_m = float(s.foot_speed[frames].mean()) * _leg_m(s, stretch.start)
        seconds = (stretch.end - stretch.start) / FPS
        reason = f"hands at {hand_m:.1f} m/s and feet at {foot_m:.1f} m/s for {seconds:.1f} s, here and there"
        yield Detection("dance", *stretch[:2], rule.confidence(stretch.peak), reason)


# --- Words and units ----------------------------------------------------------------------------------------------


def _hands(side: Side) -> str:
    return {"both": "both wrists", "alternate": "the wrists in turn"}.get(side, f"{side} wrist")


def _leg_m(s: Signals, frame: int) -> float:
    return float(s.leg_m[s.frames.motion[frame]])


def _arm_m(s: Signals, frame: int) -> float:
    return float(s.arm_m[s.frames.motion[frame]])


def _widened(frames: Frames, start: int, end: int, seconds: float) -> tuple[int, int]:
    """Some time more on either side, within the motion."""
    more = round(seconds * FPS)
    return max(start - more, int(frames.first[start])), min(end + more, int(frames.last[start]) + 1)
