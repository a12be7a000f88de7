"""What the whole body does: down and up, forward and sideways, over and round."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kinalign.events.detect.detection import Detection, repeated, times, wrists
from kinalign.events.detect.going import FLIGHT, Flight
from kinalign.events.detect.signals import BoolArray, Signals
from kinalign.events.detect.stretches import (
    Rule,
    Stretch,
    of_both_sides,
    series,
    stretches,
    together,
    turning_points,
)
from kinalign.motion.motion import FPS

# how far the hips have come down, legs
DIP = Rule(0.12, 0.24, 0.5, min_s=0.3)
# degrees that the trunk leans forward
STOOP = Rule(14.0, 20.0, 50.0, min_s=0.6)
# 1 - height of a hand over the floor, legs
LOW_HAND = Rule(0.4, 0.6, 0.8, min_s=0.1, gap_s=0.1)
# 1 - distance of a hand from a foot, and of an elbow from the other knee, legs
HAND_TO_FOOT = Rule(0.55, 0.66, 0.9)
ELBOW_TO_KNEE = Rule(0.5, 0.65, 0.85)
# degrees of the shoulders from the hips, on average over a second
TWIST = Rule(12.0, 20.0, 30.0, min_s=1.0, gap_s=0.5)
# the lesser of two shares: hands from below the shoulders to over them, feet from together to apart
JUMPING_JACK = Rule(0.2, 0.6, 1.0, max_s=1.2)
# degrees of the trunk from upright
OVERTURN = Rule(70.0, 110.0, 170.0)

SIDEWAYS_DEG = 25.0
"""Slope of the hips from which one goes over sideways."""
TRAVEL_SPEED = 0.8
"""Legs a second from which a lean or a dip is part of walking."""
HOLD_S = 1.0
"""Who stays down this long crouches; who comes up sooner squats."""
JUMP_S = 0.4
"""A dip that is deep this near to a flight is a part of the jump."""
REST_S = 0.3
"""Who sits, lies or kneels this long has done so."""
SEAT_BEHIND, SEAT_HEIGHT, FLOOR_HEIGHT = 0.4, 0.75, 0.25
"""Legs: a sitter's hips are this far behind the feet and lower than that; on the floor they are lower still."""
LYING_DEG, LYING_HEAD, LYING_HIPS = 55.0, 0.6, 0.4
KNEEL_HEIGHT = 0.18
SHALLOW = 0.4
"""Share of the depth at which hips have hardly begun to come down, or are nearly up again."""
DEEP = 0.42
"""Legs that hips come down, from which coming up is standing up."""
BEND_DEG, STRAIGHT_KNEE_DEG, BOW_DIP = 42.0, 45.0, 0.2
TWIST_DEG = 33.0
BOTH_LOW = 0.1
"""Legs between the heights of hands that both reach for the floor."""
JACK_S = 0.5
"""Time around raised arms in which the feet were, or will be, apart, if they are together then."""
SPREAD_FEET, SPREAD_FEET_MORE, SPREAD_ARMS = 0.3, 0.6, 0.5
"""Legs between the ankles of a body that stands, and of one whose feet are apart; arms of hands out to the sides."""
PASSING = 0.5
"""Confidence in a posture that is on the way to another."""


def dips(s: Signals, flown: list[Flight]) -> Iterator[Detection]:
    """Squats, crouches, kneeling, sitting and lying down, and coming up from them."""
    squats = []
    is_airborne = np.zeros(len(s.speed), dtype=bool)
    for flight in flown:
        if flight.kind == "both":
            is_airborne[slice(*s.frames.widened(flight.start, flight.end, JUMP_S))] = True
    depth = 1 - s.hips
    rests = _rests(s)
    for stretch in stretches(s.frames, depth, DIP):
        start, end, deepest, _ = stretch
        # a motion may begin and end with knees that are a little bent
        comes_down = start > s.frames.first[start] or depth[start] < SHALLOW * deepest
        comes_up = end <= s.frames.last[start] or depth[end - 1] < SHALLOW * deepest
        low = np.flatnonzero(depth[stretch.frames] > 0.75 * deepest) + start
        hold_s, low_m = len(low) / FPS, (1 - deepest) * s.leg_at(start)
        confidence = DIP.confidence(deepest)
        rested = ""
        for action, is_resting in rests.items():
            rest = np.flatnonzero(is_resting[stretch.frames]) + start
            if len(rest) < REST_S * FPS or (action == "kneel" and rested):
                continue
            rested = rested or action
            hips_m, tilt = float(s.hips[rest].mean()) * s.leg_at(start), float(s.tilt[rest].mean())
            seconds = len(rest) / FPS
            reason = f"hips {hips_m:.2f} m over the ankles and trunk at {tilt:.0f} degrees for {seconds:.1f} s"
            direction = "down" if comes_down else ""
            # who lies down may come to sit on the way
            sure = PASSING if action == "sit" and rested == "lie_down" else confidence
            yield Detection(action, start, int(rest[-1]) + 1, sure, reason, direction=direction, count=1)
        if not rested and float(s.speed[stretch.frames].mean()) < TRAVEL_SPEED:
            if hold_s >= HOLD_S:
                reason = f"hips {low_m:.2f} m over the ankles for {hold_s:.1f} s"
                yield Detection("crouch", start, end, confidence, reason, direction="down", count=1)
            if comes_down and comes_up and hold_s < 2 * HOLD_S and not is_airborne[low[0] : low[-1] + 1].any():
                squats.append(stretch)
        if comes_up and (rested or (deepest > DEEP and (hold_s >= HOLD_S or not comes_down))):
            reason = f"hips rise from {low_m:.2f} m over the ankles to straight legs"
            yield Detection("stand_up", int(low[-1]), end, confidence, reason, direction="up", count=1)
            if rested == "lie_down" or 1 - deepest < FLOOR_HEIGHT:
                yield Detection("get_up", int(low[-1]), end, confidence, reason, direction="up", count=1)
    for group in series(s.frames, squats):
        low_m = (1 - group.peak) * s.leg_at(group.start)
        reason = f"hips down to {low_m:.2f} m over the ankles and up again {times(group.repeats)}"
        confidence = DIP.confidence(group.peak)
        yield repeated("squat", group, confidence, reason, "down")


def _rests(s: Signals) -> dict[str, BoolArray]:
    """Masks (N,) of the frames in which a body lies, sits or kneels."""
    is_low = (s.hips < FLOOR_HEIGHT) & (s.tilt < LYING_DEG)
    is_on_seat = (s.hips_behind > SEAT_BEHIND) & (s.hips < SEAT_HEIGHT) & (s.tilt < 45) & (s.lift.max(axis=1) < 0.3)
    return {
        "lie_down": (s.tilt > LYING_DEG) & (s.head < LYING_HEAD) & (s.hips < LYING_HIPS),
        "sit": is_low | is_on_seat,
        "kneel": (s.knee_height.min(axis=1) < KNEEL_HEIGHT) & (s.hips < 0.7) & (s.tilt < LYING_DEG),
    }


def stoops(s: Signals) -> Iterator[Detection]:
    """Bows, with straight legs, and bends forward."""
    found: dict[str, list[Stretch]] = {"bow": [], "bend": []}
    for stretch in stretches(s.frames, np.where(s.hips > 0.3, s.stoop, 0.0), STOOP):
        if float(s.speed[stretch.frames].mean()) > TRAVEL_SPEED:
            continue
        lowest = stretch.start + int(np.argmax(s.stoop[stretch.frames]))
        knees_deg, dip = float(s.knee_bend[lowest].mean()), 1 - float(s.hips[stretch.frames].min())
        if knees_deg < STRAIGHT_KNEE_DEG and dip < BOW_DIP and stretch.start > s.frames.first[stretch.start]:
            found["bow"].append(stretch)
        if stretch.peak >= BEND_DEG:
            found["bend"].append(stretch)
    for action, alike in found.items():
        for group in series(s.frames, alike):
            legs = " with straight legs" if action == "bow" else ""
            reason = f"trunk leans forward by {group.peak:.0f} degrees{legs} {times(group.repeats)}"
            confidence = STOOP.confidence(group.peak)
            yield repeated(action, group, confidence, reason, "forward")


def low_hands(s: Signals) -> Iterator[Detection]:
    """A hand to the floor, which puts down or picks up, or to a foot, which touches it."""
    is_reaching = ((s.stoop > 25) | (s.hips < 0.8)) & (s.hips > 0.2) & (s.tilt < 130)
    # the hand that puts down is the lower one; in a squat the other one comes down too
    is_lower = s.hand_height < s.hand_height.min(axis=1, keepdims=True) + BOTH_LOW
    low = np.where(is_reaching[:, None] & is_lower, 1 - s.hand_height, -1.0)
    for group in series(s.frames, together(of_both_sides(s.frames, low, LOW_HAND))):
        height_m = (1 - group.peak) * s.leg_at(group.start)
        reason = f"{wrists(group.side)} {height_m:.2f} m over the floor {times(group.repeats)}"
        confidence = LOW_HAND.confidence(group.peak)
        for action in ("put_down", "pick_up"):
            yield repeated(action, group, confidence, reason, "down", part="hand")
    is_straight = s.knee_bend.min(axis=1) < STRAIGHT_KNEE_DEG + 15
    near = np.where((is_reaching & is_straight)[:, None], 1 - s.hand_to_foot, -1.0)
    for group in series(s.frames, together(of_both_sides(s.frames, near, HAND_TO_FOOT))):
        distance_m = (1 - group.peak) * s.leg_at(group.start)
        reason = f"{wrists(group.side)} {distance_m:.2f} m from a foot {times(group.repeats)}"
        confidence = HAND_TO_FOOT.confidence(group.peak)
        yield repeated("touch", group, confidence, reason, "down", part="foot")


def elbows_to_knees(s: Signals) -> Iterator[Detection]:
    near = np.where((s.hips > 0.7)[:, None], 1 - s.elbow_to_knee, -1.0)
    for group in series(s.frames, together(of_both_sides(s.frames, near, ELBOW_TO_KNEE))):
        distance_m = (1 - group.peak) * s.leg_at(group.start)
        reason = f"{group.side} elbow {distance_m:.2f} m from the other knee {times(group.repeats)}"
        confidence = ELBOW_TO_KNEE.confidence(group.peak)
        yield repeated("touch", group, confidence, reason, part="elbow")


def twists(s: Signals) -> Iterator[Detection]:
    """Shoulders that turn over the hips from side to side."""
    upright = np.where((s.speed < TRAVEL_SPEED) & (s.tilt < 60), np.abs(s.twist), 0.0)
    for stretch in stretches(s.frames, s.frames.mean(upright, 0.5), TWIST):
        twist = s.twist[stretch.frames]
        points = turning_points(twist, TWIST_DEG)
        # to one side and to the other; at its ends the body may be in the middle
        each = tuple(
            Stretch(stretch.start + points[max(at - 1, 0)], stretch.start + point + 1, abs(float(twist[point])))
            for at, point in enumerate(points)
            if abs(twist[point]) > TWIST.enter
        )
        if len(points) < 3 or not each:
            continue
        most_deg = float(np.abs(twist).max())
        reason = f"shoulders turn to a side {times(len(each))}, by up to {most_deg:.0f} degrees from the hips"
        confidence = TWIST.confidence(stretch.peak)
        yield Detection(
            "twist", stretch.start, stretch.end, confidence, reason, "alternate", count=len(each), repeats=each
        )


def jumping_jacks(s: Signals) -> Iterator[Detection]:
    """Arms up to the sides and feet jumping apart, or together from apart, again and again or off the floor."""
    arms = s.hand[:, :, 1].min(axis=1) + 0.5
    apart = s.stride[:, 1]
    legs = (apart - SPREAD_FEET) / (SPREAD_FEET_MORE - SPREAD_FEET)
    closing = (s.frames.greatest(apart, JACK_S) - apart) / (SPREAD_FEET_MORE - SPREAD_FEET)
    for group in series(s.frames, stretches(s.frames, np.minimum(arms, np.maximum(legs, closing)), JUMPING_JACK)):
        start, end = s.frames.widened(group.start, group.end, 0.2)
        if np.ptp(apart[start:end]) < SPREAD_FEET or s.hand[start:end, :, 2].min(axis=1).max() < SPREAD_ARMS:
            continue  # who throws with both hands has them in front
        is_off_floor = float(s.lift[start:end].min(axis=1).max()) > FLIGHT.leave
        is_open = float(legs[group.frames].max()) > JUMPING_JACK.enter
        if is_off_floor + is_open < (2 if group.repeats < 2 else 1):
            continue
        apart_m = float(apart[start:end].max()) * s.leg_at(start)
        reason = f"arms up and feet {apart_m:.2f} m apart at the same time {times(group.repeats)}"
        confidence = JUMPING_JACK.confidence(group.peak)
        yield repeated("jumping_jack", group, confidence, reason, "up", bounds=(start, end))


def overturns(s: Signals) -> Iterator[Detection]:
    """Cartwheels, over sideways, and flips, over forward or backward."""
    found: dict[str, list[Stretch]] = {"cartwheel": [], "flip": []}
    for stretch in stretches(s.frames, s.tilt, OVERTURN):
        if float(s.hips[stretch.frames].max()) < 0.5 or float(s.lift[stretch.frames].max()) < 0.5:
            continue
        around = slice(*s.frames.widened(stretch.start, stretch.end, 0.2))
        is_sideways = float(s.hip_slope[around].max()) > SIDEWAYS_DEG
        found["cartwheel" if is_sideways else "flip"].append(stretch)
    for action, alike in found.items():
        for group in series(s.frames, alike):
            start, end = s.frames.widened(group.start, group.end, 0.4)
            hands_m, feet_m = float(s.hand_height[group.frames].min()), float(s.lift[group.frames].max())
            hands_m, feet_m = hands_m * s.leg_at(start), feet_m * s.leg_at(start)
            reason = f"trunk {group.peak:.0f} degrees from upright, a hand {hands_m:.2f} m and feet {feet_m:.2f} m up"
            yield repeated(action, group, OVERTURN.confidence(group.peak), reason, bounds=(start, end))
