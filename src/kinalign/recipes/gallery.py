"""Prompts, seeds, sheets and a count: in how many motions is the action that the prompt names really there.

    python -m kinalign.recipes.gallery --by model --out docs/gallery
    python -m kinalign.recipes.gallery --by generate --out docs/gallery

What the model alone makes is counted, and what `kinalign generate` makes of it; the sheets show the second. Two judges
count. One is a program: the real clips nearest to a motion say what it is, and its path says where it went; how often
that program is right about real clips that it does not know is measured first and printed. The other is whoever looks
at the sheets: by_eye.json holds what each reviewer saw, prompt id -> eight times 0 or 1 of each, and what most of them
saw is there (gallery_review.py); by_eye_model.json is the same of the motions of the model alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from kinalign.commands import Generate, answers
from kinalign.data.openmocap import load_openmocap
from kinalign.data.phrasings import meaning_of
from kinalign.data.records import Clip
from kinalign.events.program import OPPOSITE
from kinalign.lm.model import Sampling
from kinalign.motion.features import FeatureLayout, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.pipeline import DEFAULT_SAMPLING, TextToMotion
from kinalign.recipes.gallery_review import BY_EYE, CONTROLS, OTHER, REAL, read_if_there, write_review
from kinalign.render.sheet import write_sheet
from kinalign.run import progress, read_json, write_json, write_text
from kinalign.selection import Selection

PROMPTS = Path(__file__).with_name("gallery_prompts.json")
NUM_SEEDS = 8
COUNTS = "by_program.json"

ACTIONS: dict[str, tuple[str, ...]] = {
    "walk": ("walk", "walk_brisk", "walk_slow", "walk_stride", "walk_stride_big", "walk_stride_slow", "walk_uneven")
    + ("walk_start_stop", "walk_back", "walk_side", "walk_turn", "sneak"),
    "walk_turn": ("walk", "walk_turn", "walk_brisk", "walk_slow"),
    "run": ("run", "dash", "jog_circle", "run_leap"),
    "jump": ("hop_once", "jump", "jump_once", "jump_hop_one_foot", "hop_start_stop", "jumps_forward_turn"),
    "squat": ("squat_once", "squats"),
    "kick": (
        "kick",
        "kick_front",
        "soccer_kick",
        "karate_front_kick",
        "karate_side_kick",
        "karate_roundhouse",
        "jump_kick",
        "kick_side_once",
        "kicks_side",
        "roundhouse_once",
    ),
    "punch": ("punch", "punch_once", "punches", "karate_punch"),
    "wave": ("wave_hand", "wave_both", "goodbye_hand", "goodbye_both"),
    "raise": ("raise_hand", "raise_both"),
    "bow": ("bow", "ballet_bow"),
    "throw": ("throw_basketball", "dribble_shoot"),
    "grab": ("grab_high",),
    "put_down": ("deposit_floor", "scoop"),
    "lie_down": ("lie_down",),
    "sit": ("climb_sit", "sit_floor"),
    "cartwheel": ("cartwheel", "cartwheels"),
    "dance": (
        "salsa",
        "dance",
        "indian_dance",
        "ballet",
        "ballet_arabesque",
        "ballet_bow",
        "ballet_leap",
        "ballet_spin",
    ),
}
"""What a prompt asks to see -> the actions of phrasings.json that count as it."""

SIDED = ("kick", "wave", "raise", "grab", "put_down")


class Label(NamedTuple):
    """What a clip is: an action of phrasings.json and its side."""

    action: str
    side: str


class NearestClips:
    """Says what a motion is by the real clips that move most like it."""

    def __init__(self, clips: Sequence[Clip], *, num_directions: int = 60) -> None:
        self.labels: list[Label] = []
        rows = []
        for clip in clips:
            label = label_of(clip)
            if label is None or len(clip.motion) < 8:
                continue
            other = OPPOSITE.get(label.side, label.side)
            for motion, side in ((clip.motion, label.side), (clip.motion.mirror(), other)):
                rows.append(descriptor(motion))
                self.labels.append(Label(label.action, side))
        table = np.array(rows)
        self.mean, self.std = table.mean(0), table.std(0) + 1e-6
        scaled = (table - self.mean) / self.std
        _, strength, directions = np.linalg.svd(scaled, full_matrices=False)
        self.projection = directions[:num_directions].T / np.sqrt(strength[:num_directions])
        self.rows = scaled @ self.projection

    def nearest(self, motion: Motion, *, k: int = 3) -> list[Label]:
        """Labels of the k nearest clips, nearest first."""
        row = ((descriptor(motion) - self.mean) / self.std) @ self.projection
        return [self.labels[i] for i in np.argsort(((self.rows - row) ** 2).sum(1))[:k]]


def label_of(clip: Clip) -> Label | None:
    """The one action of a clip, or None where there are several or none is known."""
    meaning = meaning_of(clip)
    return Label(meaning.actions[0], meaning.sides[0]) if meaning and len(meaning.actions) == 1 else None


def descriptor(motion: Motion) -> NDArray[np.floating]:
    """Mean, spread and extremes of poses and velocities in the facing frame, with path, turn and length (D,)."""
    features = motion_to_features(motion.resample(20.0), target_skeleton=HUMANML3D, heading="body").astype(float)
    at = FeatureLayout(HUMANML3D.num_joints).slices
    root = features[:, at["root_yaw_velocity"].start : at["root_height"].stop]
    frames = np.concatenate((root, features[:, at["joint_positions"]], 5 * features[:, at["joint_velocities"]]), axis=1)
    whole = [4 * root[:, 0].sum(), root[:, 1].sum(), root[:, 2].sum(), len(frames) / 40]
    return np.concatenate((frames.mean(0), frames.std(0), frames.min(0), frames.max(0), whole))


def is_there(see: dict[str, Any], motion: Motion, judge: NearestClips) -> bool:
    """Whether the action is what most of the nearest clips show, on the side and in the direction asked for.

    A walk to a side may go ahead as well, as those in the data do. Counts, styles and seconds are not looked at.
    """
    action = see["action"]
    votes = Counter(_counts_as(see, label) for label in judge.nearest(motion))
    if not votes[True] > votes[False]:
        return False
    if action not in ("walk", "walk_turn", "run") or "direction" not in see:
        return True
    start = motion.face_forward().joints
    across, ahead = start[-1, 0, 0], start[-1, 0, 2]  # left is +x
    if action == "walk_turn":
        facing = motion.face_forward().facing()
        turned = np.unwrap(np.arctan2(facing[:, 0], facing[:, 2]))[-1]
        return bool(turned > 0.35) if see["direction"] == "left" else bool(turned < -0.35)
    farther = {"forward": ahead, "backward": -ahead, "left": across, "right": -across}[see["direction"]]
    least = 0.33 if see["direction"] in OPPOSITE else 0.7
    return bool(farther > 0.3 and farther > least * max(abs(across), abs(ahead)))


def _counts_as(see: dict[str, Any], label: Label) -> bool:
    if label.action not in ACTIONS.get(see["action"], (see["action"],)):
        return False
    if see["action"] not in SIDED or "side" not in see:
        return True
    return label.action.endswith("_both") if see["side"] == "both" else label.side == see["side"]


def accuracy_on_real(judge: NearestClips, clips: Sequence[Clip]) -> dict[str, tuple[int, int]]:
    """(right, all) per action of ACTIONS, over real clips that the judge does not hold."""
    counts: dict[str, tuple[int, int]] = {}
    for clip in clips:
        label = label_of(clip)
        if label is None or len(clip.motion) < 8:
            continue
        for name in (name for name, known in ACTIONS.items() if label.action in known and name != "walk_turn"):
            side = "both" if label.action.endswith("_both") else label.side
            see = {"action": name, **({"side": side} if side else {})}
            right, total = counts.get(name, (0, 0))
            counts[name] = (right + is_there(see, clip.motion, judge), total + 1)
    return counts


@dataclass(frozen=True)
class Gallery:
    """Draw the gallery of prompts and count in how many motions the action is there."""

    out: Path = Path("docs/gallery")
    """Folder for the sheets and the table."""
    model: Path | None = None
    """Model folder; the shipped one where it is left out."""
    prompts: Literal["gallery", "dev"] = "gallery"
    """gallery: the 20 + 20 that are reported. dev: others, to choose settings by."""
    by: Literal["model", "generate"] = "generate"
    """model: what the model makes at once, the first eight of one seed. generate: what `kinalign generate` makes, of
    eight seeds."""
    review: Path | None = None
    """A folder for sheets of the same motions for reviewers who shall not know whose they are."""
    sheets: bool = True
    """Draw what `kinalign generate` makes; counting alone is quicker."""
    temperature: float = DEFAULT_SAMPLING.temperature
    top_p: float = DEFAULT_SAMPLING.top_p
    guidance: float = DEFAULT_SAMPLING.guidance
    threads: int = 1


def make(config: Gallery) -> dict[str, float]:
    """Generate, draw, count; returns the share of motions that show their action, by wording."""
    torch.set_num_threads(config.threads)
    model = TextToMotion.from_pretrained(config.model)
    judge = NearestClips(load_openmocap(split="train", cut_events=True))
    clips = load_openmocap(split="test", cut_events=True)
    real = accuracy_on_real(judge, clips)
    prompts = read_json(PROMPTS)[config.prompts]
    counts: dict[str, dict[str, Any]] = {}
    made: dict[str, list[Motion]] = {}
    with progress("gallery", total=len(prompts)) as advance:
        for prompt in prompts:
            begun = perf_counter()
            motions = _motions(model, prompt["prompt"], config)
            took_s = (perf_counter() - begun) / len(motions)
            made[prompt["id"]] = motions
            found = [is_there(prompt["see"], motion, judge) for motion in motions]
            lasts_s = float(np.mean([motion.duration_s for motion in motions]))
            counts[prompt["id"]] = {"found": sum(found), "seconds": round(lasts_s, 2), "took_s": round(took_s, 2)}
            if config.sheets and config.by == "generate":
                write_sheet(motions, config.out / f"{prompt['id']}.png", num_frames=8, size=112, colours=64)
            advance(note=f"{prompt['id']} {sum(found)}/{len(found)}")
    if config.review is not None:
        write_review(prompts, made, clips, config.review)
    known = read_if_there(config.out / COUNTS) | {config.by: counts}
    write_json(config.out / COUNTS, known)
    eye = {way: read_if_there(config.out / name) for way, name in BY_EYE.items()}
    text = table(prompts, known, eye, real, read_if_there(config.out / CONTROLS))
    write_text(config.out / "README.md", text)
    print(text)
    return {
        wording: float(np.mean([counts[prompt["id"]]["found"] / NUM_SEEDS for prompt in mine]))
        for wording, mine in by_wording(prompts).items()
    }


def _motions(model: TextToMotion, prompt: str, config: Gallery) -> list[Motion]:
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, guidance=config.guidance)
    if config.by == "model":
        return model(prompt, num_candidates=NUM_SEEDS, seed=0, sampling=sampling)
    asked = Generate(temperature=config.temperature, top_p=config.top_p, guidance=config.guidance)
    made = [answers(model, prompt, replace(asked, seed=seed)) for seed in range(NUM_SEEDS)]
    return [(one.motions if isinstance(one, Selection) else one)[0] for one in made]


def by_wording(prompts: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Prompts by their wording; those to choose settings by have none, and are "dev"."""
    wordings = sorted({prompt.get("wording", "dev") for prompt in prompts})
    return {name: [prompt for prompt in prompts if prompt.get("wording", "dev") == name] for name in wordings}


def table(
    prompts: Sequence[dict[str, Any]],
    counts: dict[str, dict[str, Any]],
    eye: dict[str, dict[str, list[list[int]]]],
    real: dict[str, tuple[int, int]],
    controls: Mapping[str, Mapping[str, Sequence[int]]],
) -> str:
    """The page: a line a prompt, sums, and what the program is worth. A dash stands where nobody has looked."""
    lines = [
        "# Gallery",
        "",
        f"Each prompt {NUM_SEEDS} times: by the model alone and by `kinalign generate`, whose motions the sheets show.",
        "Numbers are motions in which the action is there, and seconds that those of `kinalign generate` last.",
        "",
    ]
    if controls:
        (real_seen, real_shown), (other_seen, other_shown) = (
            map(sum, zip(*(of_way[what] for of_way in controls.values()))) for what in (REAL, OTHER)
        )
        lines += [
            "By eye means: more than half of those who looked saw it. They did not know whose motions they were. Among",
            f"these were real clips, in which they saw what is asked for {real_seen} of {real_shown} times, and",
            f"motions of prompts that ask for something else: there they saw it {other_seen} of {other_shown} times.",
            "",
        ]
    ways = "| by program: model | generate | by eye: model | generate |"
    lines += [f"| prompt | wording {ways} seconds |", f"| --- | --- {'| ---: ' * 5}|"]
    for prompt in prompts:
        name = prompt["id"]
        found = [counts.get(way, {}).get(name, {}) for way in BY_EYE]
        cells = [str(one.get("found", "–")) for one in found]
        cells += [str(sum(by_most(eye[way][name]))) if name in eye[way] else "–" for way in BY_EYE]
        cells.append(str(found[-1].get("seconds", "–")))
        lines.append(f"| [{prompt['prompt']}]({name}.png) | {prompt.get('wording', 'dev')} | {' | '.join(cells)} |")
    lines += ["", f"| wording {ways} s to make on a shared core: model | generate |", f"| --- {'| ---: ' * 6}|"]
    for wording, mine in by_wording(prompts).items():
        names = [prompt["id"] for prompt in mine]
        found = [[counts[way][name] for name in names if name in counts.get(way, {})] for way in BY_EYE]
        cells = [_mean([one["found"] / NUM_SEEDS for one in some]) for some in found]
        cells += [_mean([fmean(by_most(eye[way][name])) for name in names if name in eye[way]]) for way in BY_EYE]
        cells += [_mean([one["took_s"] for one in some]) for some in found]
        lines.append(f"| {wording} | {' | '.join(cells)} |")
    lines += ["", "How often the program is right about real test clips, which it does not hold:", ""]
    lines += [", ".join(f"{name} {right} of {total}" for name, (right, total) in sorted(real.items())) + ".", ""]
    return "\n".join(lines)


def by_most(votes: Sequence[Sequence[int]]) -> list[bool]:
    """Whether more than half of the reviewers saw it, of each motion."""
    return [2 * sum(each) > len(each) for each in zip(*votes, strict=True)]


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.2f}" if values else "–"


if __name__ == "__main__":
    make(tyro.cli(Gallery))
