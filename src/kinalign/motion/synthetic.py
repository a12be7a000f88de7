"""Small made-up motions, the same every time: for tests, examples and machines without data.

Each is posed by joint angles on a T-pose and run through forward kinematics, so bones keep their lengths. The foot that
is lower stands still and carries the body, so feet do not slide; in flight the body follows a parabola.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.motion.kinematics import forward_kinematics, t_pose
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.rotations import axis_angle_to_quaternion, quaternion_multiply
from kinalign.motion.skeleton import HUMANML3D, Skeleton

Array = NDArray[np.floating]
Side = Literal["left", "right"]
_GRAVITY_M_S2 = 9.81


def walking(num_frames: int = 80, *, steps_per_second: float = 1.8, fps: float = FPS) -> Motion:
    """A person walks forward along +z, starting with the left foot; `num_frames` frames."""
    time = _times(num_frames, fps)
    phase = np.pi * steps_per_second * time
    body = _Body(num_frames)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = sign * np.sin(phase)
        # the knee bends while its thigh comes forward
        lift = np.maximum(sign * np.cos(phase), 0) ** 2
        body.turn(f"{side}_hip", x=-0.45 * swing - 0.25 * lift)
        body.turn(f"{side}_knee", x=0.12 + 0.95 * lift)
        body.turn(f"{side}_ankle", x=0.25 * swing - 0.15 * lift)
        body.arm_down(side, forward=-0.4 * swing, elbow=0.35 - 0.2 * swing)
    body.turn("spine2", y=0.08 * np.sin(phase))
    return _standing(body, fps=fps, caption="a person walks forward")


def waving(num_frames: int = 60, *, side: Side = "right", num_waves: int = 3, fps: float = FPS) -> Motion:
    """A person raises one arm, waves `num_waves` times and lowers it again."""
    progress = np.linspace(0, 1, num_frames)
    raised = _plateau(progress)
    body = _Body(num_frames)
    other: Side = "left" if side == "right" else "right"
    body.arm_down(other)
    sign = 1.0 if side == "left" else -1.0
    body.turn(f"{side}_shoulder", z=sign * (-1.35 * (1 - raised) + 0.35 * raised))
    sway = 0.45 * raised * np.sin(2 * np.pi * num_waves * np.clip((progress - 0.2) / 0.6, 0, 1))
    body.turn(f"{side}_elbow", z=sign * (1.1 * raised + sway), y=-sign * 0.25 * (1 - raised))
    return _standing(body, fps=fps, caption=f"a person waves with the {side} hand")


def jumping(num_jumps: int = 2, *, height_m: float = 0.25, fps: float = FPS) -> Motion:
    """A person jumps on the spot `num_jumps` times; every jump takes the time that its height needs."""
    if num_jumps < 1 or height_m <= 0:
        raise MotionError(f"num_jumps={num_jumps} and height_m={height_m} must be positive")
    ground = round(0.9 * fps)  # frames to bend, push off and land again
    flight = max(round(2 * np.sqrt(2 * height_m / _GRAVITY_M_S2) * fps), 2)
    bend = np.sin(np.linspace(0, np.pi, ground)) ** 2
    crouch = np.concatenate([np.concatenate((bend, np.zeros(flight)))] * num_jumps + [bend])
    inside = np.linspace(0, 1, flight + 2)[1:-1]
    hop = np.concatenate((np.zeros(ground), 4 * height_m * inside * (1 - inside)))
    air_m = np.concatenate([hop] * num_jumps + [np.zeros(ground)])
    body = _Body(len(crouch))
    for side in ("left", "right"):
        body.turn(f"{side}_hip", x=-1.0 * crouch)
        body.turn(f"{side}_knee", x=1.7 * crouch)
        body.turn(f"{side}_ankle", x=-0.7 * crouch)
        body.arm_down(side, forward=-0.7 * crouch + 1.2 * (air_m / height_m))
    body.turn("spine1", x=0.45 * crouch)
    motion = _standing(
        body, fps=fps, caption=f"a person jumps {num_jumps} times" if num_jumps > 1 else "a person jumps"
    )
    joints = motion.joints + air_m[:, None, None] * np.array([0.0, 1.0, 0.0])
    return Motion(joints, fps=fps, caption=motion.caption)


def standing(num_frames: int = 60, *, fps: float = FPS) -> Motion:
    """A person stands still with hanging arms."""
    body = _Body(num_frames)
    for side in ("left", "right"):
        body.arm_down(side)
    return _standing(body, fps=fps, caption="a person stands still")


def squatting(num_squats: int = 1, *, fps: float = FPS) -> Motion:
    """A person squats `num_squats` times, each in 1.6 seconds."""
    if num_squats < 1:
        raise MotionError(f"num_squats={num_squats} must be positive")
    down = np.sin(np.linspace(0, np.pi * num_squats, round(1.6 * fps * num_squats) + 1)) ** 2
    body = _Body(len(down))
    for side in ("left", "right"):
        body.turn(f"{side}_hip", x=-1.5 * down)
        body.turn(f"{side}_knee", x=2.1 * down)
        body.turn(f"{side}_ankle", x=-0.6 * down)
        body.arm_down(side, forward=1.0 * down)
    body.turn("spine1", x=0.4 * down)
    return _standing(body, fps=fps, caption="a person squats")


def kicking(num_kicks: int = 1, *, side: Side = "right", fps: float = FPS) -> Motion:
    """A person stands and kicks forward `num_kicks` times with one leg, each in 1.2 seconds."""
    if num_kicks < 1:
        raise MotionError(f"num_kicks={num_kicks} must be positive")
    progress = np.linspace(0, num_kicks, round(1.2 * fps * num_kicks) + 1) % 1
    up = np.sin(np.pi * np.clip((progress - 0.2) / 0.6, 0, 1)) ** 2
    bent = np.sin(np.pi * np.clip((progress - 0.15) / 0.35, 0, 1)) ** 2
    body = _Body(len(up))
    body.turn(f"{side}_hip", x=-1.3 * up)
    body.turn(f"{side}_knee", x=0.9 * bent)
    for arm in ("left", "right"):
        body.arm_down(arm)
    return _standing(body, fps=fps, caption=f"a person kicks with the {side} leg")


class _Body:
    """Joint angles over time on HumanML3D's joints in T-pose."""

    def __init__(self, num_frames: int) -> None:
        if num_frames < 1:
            raise MotionError(f"num_frames={num_frames}; a motion needs at least 1")
        self.skeleton: Skeleton = t_pose(HUMANML3D)
        self.rotations = np.tile(np.array([1.0, 0.0, 0.0, 0.0]), (num_frames, HUMANML3D.num_joints, 1))

    def turn(self, joint: str, *, x: Array | float = 0.0, y: Array | float = 0.0, z: Array | float = 0.0) -> None:
        """Turn a joint by an axis-angle vector in radians, after what it was turned before."""
        index = self.skeleton.index(joint)
        frames = len(self.rotations)
        vector = np.stack([np.broadcast_to(np.asarray(part, dtype=float), frames) for part in (x, y, z)], axis=-1)
        self.rotations[:, index] = quaternion_multiply(self.rotations[:, index], axis_angle_to_quaternion(vector))

    def arm_down(self, side: str, *, forward: Array | float = 0.0, elbow: Array | float = 0.25) -> None:
        """Let an arm hang; `forward` swings it in radians, `elbow` bends it."""
        sign = 1.0 if side == "left" else -1.0
        self.turn(f"{side}_shoulder", x=-np.asarray(forward))
        self.turn(f"{side}_shoulder", z=-1.35 * sign)
        self.turn(f"{side}_elbow", y=-sign * np.asarray(elbow))


def _times(num_frames: int, fps: float) -> Array:
    if not (np.isfinite(fps) and fps > 0):
        raise MotionError(f"fps={fps} must be a positive number of frames per second")
    return np.arange(num_frames) / fps


def _plateau(progress: Array) -> Array:
    """0 at both ends, 1 between a fifth and four fifths, smooth."""
    ramp = np.clip(np.minimum(progress, 1 - progress) / 0.2, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


def _standing(body: _Body, *, fps: float, caption: str) -> Motion:
    """The motion of a body that its lower foot carries over the floor."""
    joints = forward_kinematics(body.rotations, np.zeros((len(body.rotations), 3)), body.skeleton)
    toes = joints[:, [body.skeleton.left_foot[1], body.skeleton.right_foot[1]]]  # (T, 2, 3)
    frames = np.arange(1, len(joints))
    lower = np.argmin(toes[..., 1], axis=1)[1:]
    steps = -(toes[frames, lower] - toes[frames - 1, lower]) * np.array([1.0, 0.0, 1.0])
    root = np.concatenate((np.zeros((1, 3)), np.cumsum(steps, axis=0)))
    root[:, 1] = -joints[..., 1].min(axis=1)
    return Motion(joints + root[:, None], fps=fps, skeleton=HUMANML3D, caption=caption)
