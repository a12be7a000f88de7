"""What arms and legs do: kicks and knees, hands that are raised, wave, punch, throw, clap and circle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from kinalign.events.detect.detection import Detection, repeated, times, wrists
from kinalign.events.detect.signals import Array, BoolArray, IntArray, Signals
from kinalign.events.detect.stretches import (
    SIDES,
    Rule,
    Series,
    Stretch,
    of_both_sides,
    series,
    stretches,
    together,
    turning_points,
)
from kinalign.motion.motion import FPS

# degrees of the line from hip to ankle from straight down
KICK = Rule(25.0, 40.0, 80.0, min_s=0.1)
# degrees of the thigh from straight down
RAISE_KNEE = Rule(40.0, 60.0, 85.0, min_s=0.1)
# height of the wrist over the shoulder, arms
RAISE = Rule(-0.15, 0.19, 0.7, min_s=0.2, gap_s=0.1)
# height of the wrist over the shoulder, arms
REACH = Rule(-0.1, 0.0, 0.6, min_s=0.3, gap_s=0.1)
# height of the wrist over the elbow, arms
WAVE = Rule(0.0, 0.2, 0.4, min_s=0.5, gap_s=0.15)
# growth of the distance of wrist and shoulder, arms a second
THRUST = Rule(0.4, 0.9, 4.0)
# height of the lower wrist over the shoulders, arms
SHOT = Rule(0.2, 0.3, 0.8, min_s=0.1, max_s=1.7)
# CLAP_SPAN - distance of the hands on average over 0.8 s, arms
CLAP = Rule(0.0, 0.1, 0.5, min_s=0.4, gap_s=0.2)
# degrees a second of the line from shoulder to wrist, seen from the side or from the front
ROTATE_ARM = Rule(60.0, 200.0, 500.0, gap_s=0.1)

WALK_SPEED = 0.8
"""Legs a second from which a lifted knee is part of walking."""
KICK_SPEED, KICK_REACH, BEHIND, OTHER_LEG_DEG = 3.0, 0.85, 0.25, 40.0
"""Legs a second of the foot, legs from hip to ankle, legs of a foot behind its hip, degrees of the other leg."""
STRIDE_DEG = 75.0
"""Degrees of a stretched leg that no stride of a run has."""
UP_ALREADY_DEG = 25.0
"""A leg that goes up by less was raised before the motion began."""
BENT_KNEE_DEG = 55.0
BESIDE_SHOULDER, FOREARM_UP = -0.25, 0.15
RAISED_ALONE, STANDING_SPEED = 0.12, 0.3
"""Arms that a hand need not be raised as high, while the body is slower than this, in legs a second."""
HANGING_HAND, RAISE_S = -0.35, 2.0
"""Arms under the shoulder: a hand that low this long before has been raised, and that low afterwards lowered."""
STRAIGHT_ARM, BENT_ARM, LEVEL_ARM, FIST_SPEED, FIST_GROWTH = 0.8, 0.75, 0.7, 3.0, 1.2
"""Arms of reach at a punch's end and at its start, and over the ground at its end; arms a second of the hand and by
which the reach grows."""
OVER_SHOULDER = 0.35
"""Arms over the shoulder from which a fist does not punch any more."""
THROW_OVER, THROW_FROM, THROW_SPEED, THROW_BENT = 0.2, -0.1, 1.8, 0.82
"""Arms over the shoulder where a throw ends and where it begins, arms a second of the hand, arms of reach before."""
AFTER_THROW, AFTER_THROW_S = 0.5, 1.2
"""Arms that a hand comes down within this time after a throw; who raises a hand or waves stays up."""
HELD_FRONT, HELD_HEIGHT, HELD_BENT, HELD_APART, HELD_S = 0.3, (-0.75, 0.15), 0.82, 1.1, 0.8
"""Arms before, and under and over the shoulders, of hands that hold a ball, their reach and how far they are apart; and
within which time they go up from there."""
SHOT_FRONT, SHOT_REACH, SHOT_DOWN = 0.45, 0.85, 1.0
"""Arms that both hands come before the shoulders over the head, the reach of one, and how far both come down."""
BACK, BACK_S = 0.15, 0.6
"""Arms that a fist is drawn back within this time; who reaches out stays there."""
REACH_OUT, REACH_SPEED = 0.5, 1.2
"""Arms of a hand before or over its shoulder, and arms a second below which it has arrived."""
WAVES = ((0.06, 4), (0.03, 6))
"""Arms by which a waving hand swings, and how often it turns back at least: a wave of the wrist alone takes longer."""
WAVE_TURN_DEG_S = 25.0
"""How fast the hips may turn on average in a wave; fighters' do."""
CLAP_WIDTH, CLAP_DISTANCE, CLAP_SPAN, CLAP_S = 0.12, 0.4, 0.9, 0.8
"""Arms that hands part between claps, their distance in a clap and on average, and the time from one to the next."""
ARM_CIRCLE_DEG, ARM_CIRCLE_RADIUS, CIRCLES_S = 260.0, 0.35, 0.5
"""Degrees of a circle, arms of its radius as it is seen from the side, and the time from one circle to the next."""
HAND_OUT, CIRCLING_SPEED, TWO_CIRCLES_DEG = 0.6, 0.6, 540.0
"""Arms of a hand held out sideways, arms a second of its way as it is seen from the side, and how far it goes round:
who lifts an arm and lowers it makes a circle too, but only one."""


def kicks(s: Signals, is_running: BoolArray) -> Iterator[Detection]:
    """Kicks, and legs that are raised without haste or backward."""
    is_standing = (s.hips > 0.7) & (s.tilt < 75)
    found: dict[tuple[str, str], list[Stretch]] = {}
    for column, side in enumerate(SIDES):
        forward, _, out = s.foot[:, column].T
        is_behind = forward < -np.maximum(np.abs(out), BEHIND)
        is_stride = is_running & (s.leg_raise[:, column] < STRIDE_DEG)
        is_alone = is_standing & ~is_stride & (s.leg_raise[:, 1 - column] < OTHER_LEG_DEG)
        alone = np.where(is_alone, s.leg_raise[:, column], 0.0)
        for stretch in stretches(s.frames, np.where(is_behind, 0.0, alone), KICK, side):
            if _length(s, stretch, column) < KICK_REACH:
                continue
            if _is_up_already(s, stretch, alone):
                continue
            highest = stretch.start + int(np.argmax(alone[stretch.frames]))
            way = "forward" if forward[highest] > abs(out[highest]) else "to_side"
            start, _ = s.frames.widened(stretch.start, stretch.end, 0.25)
            is_fast = float(s.foot_speed[start : stretch.end, column].max()) >= KICK_SPEED
            found.setdefault(("kick" if is_fast else "raise_leg", way), []).append(stretch)
        for stretch in stretches(s.frames, np.where(is_behind & (s.speed < WALK_SPEED), alone, 0.0), KICK, side):
            if _length(s, stretch, column) >= KICK_REACH:
                found.setdefault(("raise_leg", "backward"), []).append(stretch)
    for (action, way), alike in found.items():
        for group in series(s.frames, alike):
            start, end = s.frames.widened(group.start, group.end, 0.2)
            metres = float(s.foot_speed[start:end].max()) * s.leg_at(start)
            reason = (
                f"{group.side} leg {group.peak:.0f} degrees from straight down {way.replace('_', ' ')}, "
                f"foot at {metres:.1f} m/s, {times(group.repeats)}"
            )
            confidence = KICK.confidence(group.peak)
            yield repeated(action, group, confidence, reason, way, part="leg", bounds=(start, end))


def _is_up_already(s: Signals, stretch: Stretch, raised: Array) -> bool:
    """Whether a leg is up when the motion begins, and only comes down."""
    return stretch.start == s.frames.first[stretch.start] and bool(
        raised[stretch.start] > stretch.peak - UP_ALREADY_DEG
    )


def _length(s: Signals, stretch: Stretch, column: int) -> float:
    """Legs from hip to ankle where the leg is stretched most."""
    return float(np.linalg.norm(s.foot[stretch.frames, column], axis=-1).max())


def knees(s: Signals) -> Iterator[Detection]:
    """Bent knees that are raised while the other leg stands."""
    is_standing = (s.hips > 0.75) & (s.tilt < 60) & (s.speed < WALK_SPEED)
    found = []
    for column, side in enumerate(SIDES):
        alone = is_standing & (s.thigh_raise[:, 1 - column] < OTHER_LEG_DEG)
        raised = np.where(alone & (s.knee_bend[:, column] > BENT_KNEE_DEG), s.thigh_raise[:, column], 0.0)
        found += [
            stretch
            for stretch in stretches(s.frames, raised, RAISE_KNEE, side)
            if not _is_up_already(s, stretch, raised)
        ]
    for group in series(s.frames, found):
        start, end = s.frames.widened(group.start, group.end, 0.2)
        whose = f"{group.side} thigh" if group.side in SIDES else "thighs in turn"
        reason = f"{whose} {group.peak:.0f} degrees from straight down {times(group.repeats)}"
        confidence = RAISE_KNEE.confidence(group.peak)
        yield repeated("raise_knee", group, confidence, reason, "up", part="knee", bounds=(start, end))


def raised_hands(s: Signals) -> Iterator[Detection]:
    """Hands that are raised, lowered again, and reached up."""
    is_up = ((s.tilt < 60) & (s.hips > 0.3))[:, None]
    # a hand beside the shoulder is raised where its forearm points up
    is_beside = (s.hand[:, :, 1] > BESIDE_SHOULDER) & (s.speed < WALK_SPEED)[:, None]
    beside = np.where(is_beside, s.forearm[:, :, 1] - FOREARM_UP, -2.0)
    # who stands and lets the other hand hang raises one to the shoulder already
    is_alone = (s.hand[:, ::-1, 1] < HANGING_HAND) & (s.speed < STANDING_SPEED)[:, None]
    height = np.where(is_up, np.maximum(s.hand[:, :, 1], beside) + np.where(is_alone, RAISED_ALONE, 0.0), -2.0)
    window = round(RAISE_S * FPS)
    raises, lowers = [], []
    for column, side in enumerate(SIDES):
        level = height[:, column]
        up = stretches(s.frames, level, RAISE, side)
        before_ends = [0, *(stretch.end for stretch in up)]
        after_starts = [*(stretch.start for stretch in up[1:]), len(level)]
        for (start, end, peak, _), last_end, next_start in zip(up, before_ends, after_starts):
            at_top = np.flatnonzero(level[start:end] >= peak - 0.1) + start
            earliest = max(start - window, int(s.frames.first[start]), last_end)
            if start > earliest and (lowest := level[earliest:start].min()) < HANGING_HAND:
                low = earliest + int(np.flatnonzero(level[earliest:start] <= lowest + 0.12)[-1])
                raises.append(Stretch(low, int(at_top[0]) + 1, peak, side))
            latest = min(end + window, int(s.frames.last[start]) + 1, next_start)
            if latest > end and (lowest := level[end:latest].min()) < HANGING_HAND:
                low = end + int(np.flatnonzero(level[end:latest] <= lowest + 0.12)[0])
                lowers.append(Stretch(int(at_top[-1]), low + 1, peak, side))
    for action, direction, found in (("raise", "up", raises), ("lower", "down", lowers)):
        for stretch in together(found):
            columns = [SIDES.index(stretch.side)] if stretch.side in SIDES else [0, 1]
            height_m = float(s.hand[stretch.frames][:, columns, 1].max()) * s.arm_at(stretch.start)
            reason = f"{wrists(stretch.side)} {_over(height_m)} the shoulder"
            confidence = RAISE.confidence(stretch.peak)
            yield Detection(
                action, stretch.start, stretch.end, confidence, reason, stretch.side, direction, 1, part="hand"
            )
    is_out = (s.reach > STRAIGHT_ARM) & (np.maximum(s.hand[:, :, 0], s.hand[:, :, 1]) > REACH_OUT)
    rests = (s.hand_speed < REACH_SPEED) & (s.speed < 1.5 * WALK_SPEED)[:, None]
    reached = of_both_sides(s.frames, np.where(is_up & is_out & rests, s.hand[:, :, 1], -2.0), REACH)
    came = []
    for column, side in enumerate(SIDES):
        last_end = 0
        for stretch in (one for one in reached if one.side == side):
            earliest = max(stretch.start - window, int(s.frames.first[stretch.start]), last_end)
            if s.hand[earliest : stretch.start + 1, column, 1].min() < HANGING_HAND:
                came.append(stretch)
            last_end = stretch.end
    for stretch in together(came):
        if stretch.side == "both" and stretch.peak < OVER_SHOULDER:
            continue  # arms that are held out in front keep the balance, as in a squat
        where = _over(stretch.peak * s.arm_at(stretch.start))
        reason = f"{wrists(stretch.side)} stretched out, {where} the shoulder"
        confidence = REACH.confidence(stretch.peak)
        yield Detection("reach", stretch.start, stretch.end, confidence, reason, stretch.side, "up", 1, part="hand")


def _over(height_m: float) -> str:
    return f"{abs(height_m):.2f} m {'above' if height_m > 0 else 'below'}"


def waves(s: Signals) -> Iterator[Detection]:
    """Raised forearms that swing to and fro; the count is that of swings there and back."""
    is_up = (s.tilt < 60) & (s.hips > 0.5) & (s.speed < 2 * WALK_SPEED)
    found = []
    swings: dict[Stretch, tuple[Stretch, ...]] = {}
    for column, side in enumerate(SIDES):
        raised = np.where(is_up & (s.hand[:, column, 1] > -0.4), s.forearm[:, column, 1], -1.0)
        for stretch in stretches(s.frames, raised, WAVE, side):
            for width, least in WAVES:
                # across the body or to the front, whichever the hand swings more often
                points = max(
                    (turning_points(s.forearm[stretch.frames, column, axis], width) for axis in (2, 0)), key=len
                )
                if len(points) - 2 >= least:
                    break
            else:
                continue
            reversals = len(points) - 2
            start, end = stretch.start + points[0], stretch.start + points[-1] + 1
            if float(np.abs(s.yaw_rate[start:end]).mean()) < WAVE_TURN_DEG_S:
                wave = Stretch(start, end, reversals, side)
                found.append(wave)
                swings[wave] = _swings(s, stretch, points)
    for stretch in together(found):
        over_m = float(s.hand_over_head[stretch.frames].max()) * s.arm_at(stretch.start)
        where = "above" if over_m > 0 else "below"
        reversals = int(stretch.peak)
        reason = f"{wrists(stretch.side)} {abs(over_m):.2f} m {where} the head, {reversals} lateral reversals"
        confidence = round(min(0.5 + 0.1 * (reversals - WAVES[0][1] + 1), 1.0), 2)
        # of both hands the one that swings less often
        own = min((one for one in found if stretch.start <= one.start < stretch.end), key=lambda one: one.peak)
        each = tuple(swing._replace(side=stretch.side) for swing in swings[own])
        yield Detection(
            "wave",
            stretch.start,
            stretch.end,
            confidence,
            reason,
            stretch.side,
            "",
            len(each),
            part="hand",
            repeats=each,
        )


def _swings(s: Signals, stretch: Stretch, points: list[int]) -> tuple[Stretch, ...]:
    """Swings there and back, of the turning points in a stretch.

    At its ends the hand comes up and goes down again, which makes half a swing each; not where the motion is cut there.
    """
    comes_up, goes_down = stretch.start > s.frames.first[stretch.start], stretch.end <= s.frames.last[stretch.start]
    number = (2 * (len(points) - 1) - comes_up - goes_down) // 4
    first = int(comes_up and 2 * number + 1 < len(points))
    return tuple(
        Stretch(stretch.start + points[at], stretch.start + points[at + 2], 1.0, stretch.side)
        for at in range(first, first + 2 * number, 2)
    )


def thrusts(s: Signals, is_running: BoolArray) -> Iterator[Detection]:
    """Punches, level with the shoulders, and throws, over them."""
    is_up = (s.tilt < 60) & (s.hips > 0.5) & ~is_running
    growth = np.where(is_up[:, None], s.frames.rate(s.reach), 0.0)
    found: dict[str, list[Stretch]] = {"punch": [], "throw": []}
    for stretch in of_both_sides(s.frames, growth, THRUST):
        column, start = SIDES.index(stretch.side), stretch.start
        end = min(stretch.end, int(s.frames.last[start]))
        forward, up, out = s.hand[end, column].tolist()
        speed = float(s.hand_speed[start : end + 1, column].max())
        after = min(end + round(BACK_S * FPS), int(s.frames.last[start]))
        if s.reach[end, column] < STRAIGHT_ARM or s.reach[start, column] > THROW_BENT or forward < 0:
            continue
        down = min(end + round(AFTER_THROW_S * FPS), int(s.frames.last[start]))
        comes_down = up - float(s.hand[end : down + 1, column, 1].min()) > AFTER_THROW
        if up > THROW_OVER and s.hand[start, column, 1] > THROW_FROM and speed > THROW_SPEED and comes_down:
            found["throw"].append(stretch)
        if s.reach[start, column] > BENT_ARM or stretch.peak < FIST_GROWTH:
            continue
        is_back = s.reach[end, column] - s.reach[after, column] > BACK
        if -0.6 < up <= OVER_SHOULDER and np.hypot(forward, out) > LEVEL_ARM and speed > FIST_SPEED and is_back:
            found["punch"].append(stretch)
    shots = list(two_handed_throws(s, is_up))
    found["throw"] = [
        one for one in found["throw"] if not any(one.start < shot.end and shot.start < one.end for shot in shots)
    ]
    for shot in shots:
        reason = f"both hands from the chest to {_over(shot.peak * s.arm_at(shot.start))} the shoulders and down again"
        yield repeated("throw", Series(*shot, (shot,)), SHOT.confidence(shot.peak), reason, "forward", part="hand")
    for action, alike in found.items():
        for group in series(s.frames, together(alike)):
            start, end = s.frames.widened(group.start, group.end, 0.15)
            reason = f"{wrists(group.side)} thrust out at {group.peak * s.arm_at(start):.1f} m/s {times(group.repeats)}"
            confidence = THRUST.confidence(group.peak)
            yield repeated(action, group, confidence, reason, "forward", part="hand", bounds=(start, end))


def two_handed_throws(s: Signals, is_up: BoolArray) -> Iterator[Stretch]:
    """A ball that is shot: both hands hold it before the chest, go over the head in front, and come down."""
    low, high = HELD_HEIGHT
    heights, fronts = s.hand[:, :, 1], s.hand[:, :, 0]
    is_held = (fronts.min(axis=1) > HELD_FRONT) & (heights.min(axis=1) > low) & (heights.max(axis=1) < high)
    is_held &= (s.reach.max(axis=1) < HELD_BENT) & (s.hands_apart < HELD_APART)
    for start, end, peak, _ in stretches(s.frames, np.where(is_up, heights.min(axis=1), -1.0), SHOT, "both"):
        earliest, _ = s.frames.widened(start, end, HELD_S)
        _, latest = s.frames.widened(start, end, AFTER_THROW_S)
        held = earliest + np.flatnonzero(is_held[earliest:start])
        if not len(held) or latest == end or peak - heights[end:latest].max(axis=1).min() < SHOT_DOWN:
            continue
        is_out = fronts[start:end].max(axis=0).min() > SHOT_FRONT and s.reach[start:end].max() > SHOT_REACH
        if is_out and s.hands_apart[start:end].min() < HELD_APART:
            yield Stretch(int(held[-1]), end, peak, "both")


def claps(s: Signals) -> Iterator[Detection]:
    """Hands that meet in front of the body, at least twice."""
    in_front = (s.hand[:, :, 0].min(axis=1) > 0.0) & (s.tilt < 60) & (s.speed < WALK_SPEED)
    nearness = np.where(in_front, CLAP_SPAN - s.frames.mean(s.hands_apart, 0.4), -1.0)
    met = []
    for stretch in stretches(s.frames, nearness, CLAP):
        apart = s.hands_apart[stretch.frames]
        lows = _lows(apart, turning_points(apart, CLAP_WIDTH))
        met += [
            Stretch(stretch.start + low, stretch.start + low + 1, -apart[low])
            for low in lows
            if apart[low] < CLAP_DISTANCE
        ]
    for group in series(s.frames, met, CLAP_S):
        if group.repeats > 1:
            start, end = s.frames.widened(group.start, group.end, 0.1)
            reason = f"wrists meet to {-group.peak * s.arm_at(start):.2f} m {times(group.repeats)}"
            confidence = round(min(0.4 + 0.1 * group.repeats, 1.0), 2)
            yield Detection(
                "clap", start, end, confidence, reason, "both", count=group.repeats, part="hand", repeats=group.each
            )


def _lows(values: Array, points: list[int]) -> list[int]:
    """Those of the turning points that are lows: every other one."""
    first = 0 if len(points) > 1 and values[points[0]] < values[points[1]] else 1
    return points[first::2]


def _turned_deg(vectors: Array, before: IntArray) -> Array:
    """Degrees (N, 2) from forward towards up that vectors (N, 2, 2) have turned since the frame before."""
    angle = np.arctan2(vectors[..., 1], vectors[..., 0])
    return np.degrees((angle - angle[before] + np.pi) % (2 * np.pi) - np.pi)


def _circles(s: Signals, step: Array, least_deg: float) -> list[list[Stretch]]:
    """Runs of circles, one by one so that those of both arms find each other, where steps (N, 2) add up to so much."""
    runs = []
    for start, end, _, side in of_both_sides(s.frames, step * FPS, ROTATE_ARM):
        turned = np.abs(np.cumsum(step[start:end, SIDES.index(side)]))
        if turned[-1] < least_deg:
            continue
        circles = max(round(turned[-1] / 360), 1)
        bounds = [start + int(at) for at in np.searchsorted(turned, turned[-1] * np.arange(circles) / circles)]
        degrees = float(turned[-1]) / circles
        runs.append([Stretch(one, next_one, degrees, side) for one, next_one in pairwise([*bounds, end])])
    return runs


def arm_circles(s: Signals) -> Iterator[Detection]:
    """Arms that go round the shoulder, as seen from the side, or held out sideways round a place of their own."""
    before = np.maximum(np.arange(len(s.hand)) - 1, s.frames.first)
    is_up = (s.tilt < 60)[:, None]
    is_wide = np.hypot(s.hand[..., 0], s.hand[..., 1]) > ARM_CIRCLE_RADIUS
    round_shoulder = np.where(is_up & is_wide, _turned_deg(s.hand[..., :2], before), 0.0)
    way = s.frames.rate(s.hand[..., :2])
    is_circling = np.hypot(way[..., 0], way[..., 1]) > CIRCLING_SPEED
    is_out = (s.hand[..., 2] > HAND_OUT) & (s.reach > STRAIGHT_ARM)
    round_itself = np.where(is_up & is_circling, _turned_deg(way, before), 0.0)
    round_either = np.where(is_out, round_itself, round_shoulder)
    for sign, direction in ((1.0, "backward"), (-1.0, "forward")):
        found = [circle for run in _circles(s, sign * round_shoulder, ARM_CIRCLE_DEG) for circle in run]
        for run in _circles(s, sign * round_either, TWO_CIRCLES_DEG):
            first, last, column = run[0].start, run[-1].end, SIDES.index(run[0].side)
            known = [one for one in found if one.side == run[0].side and one.start < last and first < one.end]
            # who waves has the forearm up
            if len(known) < len(run) and s.forearm[first:last, column, 1].mean() < FOREARM_UP:
                found = [one for one in found if one not in known] + run
        for group in series(s.frames, together(found), CIRCLES_S):
            degrees = sum(circle.peak for circle in group.each)
            reason = f"{wrists(group.side)} go round the shoulder by {degrees:.0f} degrees {direction}"
            confidence = round(min(0.5 + degrees / 1440, 1.0), 2)
            yield repeated("rotate_arm", group, confidence, reason, direction, part="arm")
