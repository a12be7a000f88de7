"""Going, turning, standing still, jumping and dancing, read off the feet and the way of the pelvis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from kinalign.events.detect.detection import Detection, repeated, times
from kinalign.events.detect.signals import BoolArray, Signals
from kinalign.events.detect.stretches import SIDES, Rule, Side, Stretch, series, stretches, turning_points
from kinalign.motion.motion import FPS

# speed of the pelvis, legs a second
WALK = Rule(0.25, 0.5, 1.0, min_s=0.5, gap_s=0.4)
DASH = Rule(3.2, 4.0, 6.0, min_s=0.3)
# share of frames near by in which one foot has left the floor and the other has not yet touched it
RUN = Rule(0.02, 0.08, 0.3, min_s=0.4)
# 1 - speed of feet and pelvis as shares of STILL_FOOT and STILL_BODY
STAND = Rule(0.0, 0.3, 0.9, min_s=0.5, gap_s=0.1)
# degrees a second of the hips' heading
TURN = Rule(12.0, 35.0, 90.0, gap_s=0.3)
# height of the lower foot over where it stands, legs
FLIGHT = Rule(0.03, 0.06, 0.2, min_s=0.1)
# the least of the shares of hands, feet and ways that the body does not face
DANCE = Rule(0.5, 1.0, 2.0, min_s=2.5, gap_s=1.0)

STEP_LENGTH, STEP_LIFT = 0.25, 0.1
"""Legs by which a foot passes the other in a step, and is lifted over the other when stepping in place."""
FOOT_IN_AIR = 0.06
"""Legs over where it stands from which a foot that is there in the last frame has not made its step."""
JOG_SPEED = 1.4
"""Legs a second from which one may run without ever leaving the floor."""
JOGS = ((2.3, 10.0, 0.0, 0.1), (2.3, 24.2, 78.0, 0.4), (2.15, 20.0, 82.0, 0.2))
"""Such runs: more steps a second, a knee's least and greatest bend in degrees, less of the time with both feet down.

With light feet, with knees that never get straight as an elderly person's, with high heels.
"""
IN_PLACE_SPEED = 0.5
"""Legs a second below which a run or a jump goes nowhere."""
STILL_BODY, STILL_FOOT = 0.25, 0.8
"""Legs a second of a pelvis and of a foot that are not still any more."""
TURN_DEG, SPIN_DEG, CIRCLE_DEG = 45.0, 300.0, 270.0
TURN_FEET = 0.5
"""Share of a turn that the feet must make too: where they stay, the body only twists."""
ACROSS_DEG, BACK_DEG = 40.0, 130.0
"""Degrees from straight ahead beyond which a way leads sideways, and backward."""
SAME_TIME_S = 0.15
"""Feet that leave or meet the floor within this time do so together."""
BOTH_NEAR = 0.1
"""Legs over the floor of both feet at most, where a high jump leaves or meets it with both."""
FLYING_HIPS = 0.7
GRAVITY_M_S2, FALL_SHARE = 9.81, 0.25
"""Metres a second squared, and how much of what a body rises in a flight of that time it has to rise."""
CUT_FLIGHT = 0.12
"""Legs over the floor of a foot at most where a motion begins or ends with a high jump: it just left, or is landing."""
STRIDE_APART = 0.4
"""Legs that one foot is ahead of the other in a stride; less is a jump, whatever it began or ended with."""
JUMP_RISE, LEAP_RISE = 0.03, 0.15
"""Legs: what rises less is no jump; a running stride that rises more is a leap."""
LONG_FLIGHT_S = 0.3
DANCE_HANDS, DANCE_FEET, DANCE_ASTRAY, DANCE_WINDOW_S = 0.9, 0.9, 0.3, 1.5
"""Arms, legs and legs a second of speed, the last one other than forward, over this time to either side."""
DANCE_STRAIGHT = 0.9
"""Share of the way that leads away from where it began, from which it is a walk backward or to a side."""


@dataclass(frozen=True)
class Flight:
    """Frames [start, end) with both feet off the floor, and from which feet onto which.

    `kind`: from both feet onto both, a hop from one onto itself, a stride from one onto the other, or mixed. `rise` is
    that of the hips in legs.
    """

    start: int
    end: int
    kind: Literal["both", "hop", "stride", "mixed"]
    side: Side
    rise: float

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / FPS


def flights(s: Signals) -> list[Flight]:
    """Every flight of which both ends are seen, or nearly."""
    here = np.arange(len(s.speed))[:, None]
    is_down = s.lift <= FLIGHT.leave
    last_down = np.maximum.accumulate(np.where(is_down, here, -1), axis=0)
    next_down = np.minimum.accumulate(np.where(is_down, here, len(s.speed))[::-1], axis=0)[::-1]
    found = []
    # who squats on the toes or lies has no foot on the floor either
    lower_foot = np.where(s.hips > FLYING_HIPS, s.lift.min(axis=1), 0.0)
    for start, end, _, _ in stretches(s.frames, lower_foot, FLIGHT):
        first, last = int(s.frames.first[start]), int(s.frames.last[start])
        begins_cut, ends_cut = start == first, end > last
        before, after = max(start - 1, first), min(end, last)
        off, on = last_down[max(start - 1, 0)], next_down[after]
        rise = float(s.hips[start:end].max() - min(s.hips[before], s.hips[after]))
        if rise * s.leg_at(start) < FALL_SHARE * GRAVITY_M_S2 * ((end - start) / FPS) ** 2 / 8:
            continue  # who hardly goes up is not that long in the air, but floats
        # both feet were on the floor at about the same time, or in a high jump near it
        near = BOTH_NEAR if rise > LEAP_RISE else 0.0
        off_together = off.min() >= first and abs(int(off[0] - off[1])) <= SAME_TIME_S * FPS
        on_together = on.max() <= last and abs(int(on[0] - on[1])) <= SAME_TIME_S * FPS
        off_together = off_together or s.lift[before].max() < near
        on_together = on_together or s.lift[after].max() < near
        foot_off, foot_on = int(off[1] > off[0]), int(on[1] < on[0])
        kind: Literal["both", "hop", "stride", "mixed"] = "stride"
        if off_together or on_together:
            kind = "both" if off_together and on_together else "mixed"
        elif foot_off == foot_on:
            kind = "hop"
        if begins_cut or ends_cut:
            if rise <= LEAP_RISE:
                continue
            # nobody sees which feet it began or ended with, but a jump from a leap by how the legs are held in the air
            is_seen = max(s.lift[start].min() * begins_cut, s.lift[end - 1].min() * ends_cut) <= CUT_FLIGHT
            if kind != "both" or not is_seen:
                kind = "both" if _feet_together(s, start, end) else "stride"
        found.append(Flight(start, end, kind, SIDES[foot_on] if kind == "hop" else "", rise))
    return found


def _feet_together(s: Signals, start: int, end: int) -> bool:
    """Whether neither foot is ahead of the other in a flight."""
    ahead = s.foot[start:end, :, 0]
    return float(np.abs(ahead[:, 0] - ahead[:, 1]).max()) < STRIDE_APART


def gaits(s: Signals, flown: list[Flight]) -> tuple[list[Detection], BoolArray]:
    """Walks, runs and dashes with their steps, and a mask (N,) of the frames in which somebody runs."""
    found: list[Detection] = []
    is_running = np.zeros(len(s.speed), dtype=bool)
    striding = np.zeros(len(s.speed))
    for flight in flown:
        if flight.kind == "stride":
            striding[flight.start : flight.end] = 1
    for stretch in stretches(s.frames, s.frames.mean(striding, 0.35), RUN):
        in_place = float(s.speed[stretch.frames].mean()) < IN_PLACE_SPEED
        steps = _steps_in_place(s, stretch.frames) if in_place else _steps(s, stretch.frames)
        if len(steps) > 1:
            is_running[stretch.frames] = True
            direction = "in_place" if in_place else _way(s, stretch.frames)
            found += _going(s, "run", stretch, RUN.confidence(stretch.peak), steps, direction)
    for stretch in stretches(s.frames, np.where(is_running, 0.0, s.speed), WALK):
        steps = _steps(s, stretch.frames)
        is_jog = _is_jog(s, steps)
        is_running[stretch.frames] |= is_jog
        action, confidence = ("run", 0.7) if is_jog else ("walk", WALK.confidence(stretch.peak))
        found += _going(s, action, stretch, confidence, steps, _way(s, stretch.frames))
    for stretch in stretches(s.frames, np.where(is_running, s.speed, 0.0), DASH):
        reason = f"runs at {stretch.peak * s.leg_at(stretch.start):.1f} m/s"
        confidence, direction = DASH.confidence(stretch.peak), _way(s, stretch.frames)
        found.append(Detection("dash", stretch.start, stretch.end, confidence, reason, "", direction))
    return found, is_running


def _going(
    s: Signals, action: str, stretch: Stretch, confidence: float, steps: tuple[Stretch, ...], direction: str
) -> Iterator[Detection]:
    """The steps, and from two steps on the walk or run that they make."""
    start, end = stretch.start, stretch.end
    speed = float(s.speed[stretch.frames].mean()) * s.leg_at(start)
    metres = speed * (end - start) / FPS
    way = direction.replace("_", " ")
    if not steps:
        return
    count, first = len(steps), steps[0].side
    told = f"{count} {'step' if count == 1 else 'steps'}, {first} foot first"
    reason = f"{told}, {metres:.1f} m {way} at {speed:.1f} m/s"
    side: Side = "alternate" if count > 1 else first
    sure = 0.9 if count > 1 else 0.6
    yield Detection("step", start, end, sure, reason, side, direction, count, part="foot", repeats=steps)
    if count > 1:
        turned = float(s.course[end - 1] - s.course[start])
        yield Detection(action, start, end, confidence, reason, "", direction, count, angle_deg=turned, repeats=steps)


def _is_jog(s: Signals, steps: tuple[Stretch, ...]) -> bool:
    """Whether somebody runs without leaving the floor."""
    if len(steps) < 2:
        return False
    frames = slice(steps[0].start, steps[-1].end + 1)
    if float(s.speed[frames].mean()) < JOG_SPEED:
        return False
    pace = len(steps) * FPS / (steps[-1].end - steps[0].start)
    least, most = np.quantile(s.knee_bend[frames], 0.05), np.quantile(s.knee_bend[frames].max(axis=1), 0.9)
    both_down = (s.lift[frames].max(axis=1) < FLIGHT.leave).mean()
    return any(pace > jog[0] and least > jog[1] and most > jog[2] and both_down < jog[3] for jog in JOGS)


def _steps(s: Signals, frames: slice) -> tuple[Stretch, ...]:
    """Steps of feet that pass each other on their way, or part and close to the side."""
    way = s.velocity[frames].mean(axis=0)
    axis = int(abs(way[1]) > abs(way[0]))
    stride = s.stride[frames, axis] * np.sign(way[axis])
    points = turning_points(stride, STEP_LENGTH)
    steps = [
        Stretch(frames.start + start, frames.start + end, STEP_LENGTH, SIDES[int(stride[end] < stride[start])])
        for start, end in pairwise(points)
    ]
    if steps and steps[-1].end >= s.frames.last[frames.start] - 1:
        foot = SIDES.index(steps[-1].side)
        if s.lift[steps[-1].end, foot] > FOOT_IN_AIR:
            steps.pop()  # it never comes down
    return tuple(steps)


def _steps_in_place(s: Signals, frames: slice) -> tuple[Stretch, ...]:
    """Steps of feet that are lifted in turn."""
    lead = s.lift[frames, 0] - s.lift[frames, 1]
    points = [point for point in turning_points(lead, STEP_LIFT) if abs(lead[point]) > STEP_LIFT / 2]
    return tuple(
        Stretch(frames.start + point, frames.start + point + 1, STEP_LIFT, SIDES[int(lead[point] < 0)])
        for point in points
    )


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


def turns(s: Signals) -> Iterator[Detection]:
    """Turns of the hips, and spins where they go all the way round."""
    for sign, direction in ((1.0, "left"), (-1.0, "right")):
        for stretch in stretches(s.frames, sign * s.yaw_rate, TURN):
            angle = float(s.yaw[stretch.end - 1] - s.yaw[stretch.start])
            start, end = s.frames.widened(stretch.start, stretch.end, 0.3)
            feet_angle = float(s.feet_yaw[end - 1] - s.feet_yaw[start])
            if sign * angle < TURN_DEG or sign * feet_angle < TURN_FEET * sign * angle:
                continue
            reason = f"hips turn {abs(angle):.0f} degrees to the {direction} at up to {stretch.peak:.0f} degrees/s"
            confidence, start, end = TURN.confidence(stretch.peak), stretch.start, stretch.end
            yield Detection("turn", start, end, confidence, reason, "", direction, 1, angle_deg=angle)
            if abs(angle) >= SPIN_DEG:
                rounds = round(abs(angle) / 360)
                yield Detection("spin", start, end, confidence, reason, "", direction, rounds, angle_deg=angle)


def stands(s: Signals) -> Iterator[Detection]:
    """Standing with feet and hips at rest, whatever the hands do."""
    stirring = np.maximum(s.speed / STILL_BODY, s.ankle_speed.max(axis=1) / STILL_FOOT)
    is_up = (s.hips > 0.85) & (s.tilt < 40) & (s.lift.max(axis=1) < 0.1)
    for stretch in stretches(s.frames, np.where(is_up, 1 - stirring, -1.0), STAND):
        hands = float(s.hand_speed[stretch.frames].max(axis=1).mean()) * s.arm_at(stretch.start)
        reason = f"upright on both feet for {(stretch.end - stretch.start) / FPS:.1f} s, hands at {hands:.1f} m/s"
        yield Detection("stand", stretch.start, stretch.end, STAND.confidence(stretch.peak), reason)


def jumps(s: Signals, flown: list[Flight], is_running: BoolArray) -> Iterator[Detection]:
    """Jumps of both feet, which are hops too, hops on one foot, and leaps from one foot onto the other."""
    found: dict[str, list[Stretch]] = {"jump": [], "hop": [], "leap": []}
    for flight in flown:
        stretch = Stretch(flight.start, flight.end, flight.rise, flight.side)
        running, long = bool(is_running[flight.start]), flight.seconds >= LONG_FLIGHT_S
        if flight.kind == "hop" and not running and flight.rise >= JUMP_RISE:
            found["hop"].append(stretch)
        elif (flight.kind == "both" and flight.rise >= JUMP_RISE) or (flight.kind == "mixed" and long and not running):
            found["jump"].append(stretch)
            found["hop"].append(stretch._replace(side="both"))
        elif flight.kind == "stride" and long and flight.rise >= LEAP_RISE:
            found["leap"].append(stretch)
    for action, alike in found.items():
        for group in series(s.frames, alike):
            start, end = s.frames.widened(group.start, group.end, 0.25)
            moved = float(s.speed[group.frames].mean())
            direction = _way(s, group.frames) if moved > IN_PLACE_SPEED else "up"
            rise_m = group.peak * s.leg_at(start)
            reason = f"both feet off the floor {times(group.repeats)}, hips up by {rise_m:.2f} m, {direction}"
            confidence = FLIGHT.confidence(group.peak)
            yield repeated(action, group, confidence, reason, direction, bounds=(start, end))


def dances(s: Signals) -> Iterator[Detection]:
    """Hands and feet that keep moving while the body goes to its sides and backward, which walks seldom do."""
    mean = s.frames.mean
    hands = mean(s.hand_speed.mean(axis=1), DANCE_WINDOW_S) / DANCE_HANDS
    feet = mean(s.foot_speed.mean(axis=1), DANCE_WINDOW_S) / DANCE_FEET
    astray = mean(s.speed - np.maximum(s.velocity[:, 0], 0), DANCE_WINDOW_S) / DANCE_ASTRAY
    for stretch in stretches(s.frames, np.minimum(np.minimum(hands, feet), astray), DANCE):
        hand_m = float(s.hand_speed[stretch.frames].mean()) * s.arm_at(stretch.start)
        foot_m = float(s.foot_speed[stretch.frames].mean()) * s.leg_at(stretch.start)
        way = s.speed[stretch.frames] * np.exp(1j * np.radians(s.course[stretch.frames]))
        if abs(way.sum()) > DANCE_STRAIGHT * np.abs(way).sum():
            continue
        seconds = (stretch.end - stretch.start) / FPS
        reason = f"hands at {hand_m:.1f} m/s and feet at {foot_m:.1f} m/s for {seconds:.1f} s, here and there"
        yield Detection("dance", stretch.start, stretch.end, DANCE.confidence(stretch.peak), reason)
