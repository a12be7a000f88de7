"""`kinalign compose`: a long motion as files, from a scene, a plan, a timeline or sentences.

What each segment was made of stands in OUT/takes: a run that was stopped goes on there, a segment can be made anew
alone, and after a change in a timeline only what is changed is made.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
import tyro

from kinalign.commands import adapter_shares
from kinalign.errors import CheckpointError, ConfigError, FormatError
from kinalign.judge.named import judge_named
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.pipeline import TextToMotion
from kinalign.planning.acting import tasks_in
from kinalign.planning.compose import LongMotion, Part, Shown, Take, check_seconds, stream
from kinalign.planning.named import planner_named
from kinalign.planning.plan import Plan, Scene, Task
from kinalign.planning.tasks import Planner
from kinalign.planning.timeline import (
    Segment,
    Timeline,
    read_timeline,
    timeline_of,
    timeline_of_texts,
    timeline_to_json,
)
from kinalign.render.player import write_player
from kinalign.render.video import write_video
from kinalign.run import locked, progress, read_json, write_json

LongFormat = Literal["mp4", "webm", "gif", "bvh", "glb", "html", "npz", "npy"]
VIDEOS = ("mp4", "webm", "gif")
DEFAULT_MINUTES = 1.0
NAME = "motion"
"""Of the files, before the suffix."""
GROWTH = 2
"""While the motion is made, its page is written again each time that there is so many times more of it."""


@dataclass(frozen=True)
class LongMaking:
    """What every command that makes a long motion is asked."""

    out: Path = Path("output")
    """Folder for the files; a run that was stopped goes on there."""
    planner: str = "embedded"
    """Who plans: embedded, llm:MODEL, or MODULE:CLASS."""
    judge: str = "kinematic"
    """Who judges: kinematic, learned, embedding, or lvlm:MODEL."""
    seed: int = 0
    captions: bool = False
    """Write over the video what happens in it."""
    formats: tuple[LongFormat, ...] = ("mp4", "bvh", "glb", "html", "npz")
    size: int = 320
    """Pixels of a side of the video."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    adapter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Folder of an adapter, or FOLDER=SHARE of each of several."""
    threads: int = 1
    """Processor threads."""


@dataclass(frozen=True)
class Compose(LongMaking):
    """Make a long motion from a scene, a plan, a timeline or sentences."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Sentences, each in quotes: what happens, one after the other."""
    scene: str | None = None
    """Where somebody is and what goes on; what they do there is planned."""
    minutes: float | None = None
    """How much to plan in the scene, at least; 1 where it is left out."""
    plan: Path | None = None
    """A JSON file with a plan, such as OUT/plan.json."""
    timeline: Path | None = None
    """A JSON or CSV file with a row for each segment: text, seconds, pause, start."""
    best_of: int = 4
    """Draw so many motions for each segment and keep the best, by the judge."""
    plant: bool = True
    """Motions do not hover, and feet that stand do not slide; with --no-plant they are as the model makes them."""
    reroll: str = ""
    """Numbers of segments to make anew while the others stay: --reroll 3,5."""


def compose_command(config: Compose) -> LongMotion:
    """Make a long motion from a scene, a plan, a timeline or sentences; prints what happens when and what was written.

    The page OUT/motion.html can be played while the rest is made.
    """
    if not config.formats:
        raise ConfigError(f"formats is empty; name one or more of {', '.join(get_args(LongFormat))} (--formats)")
    if config.captions and not set(VIDEOS) & set(config.formats):
        raise ConfigError(f"captions are written over a video; name one of {', '.join(VIDEOS)} too (--formats)")
    rerolled, given = _numbers(config.reroll), _given(config)
    check_seconds(given)
    judge = judge_named(config.judge)
    scene = None if config.scene is None else Scene(config.scene)
    planner = None if scene is None else planner_named(config.planner)
    torch.set_num_threads(config.threads)
    model = TextToMotion.from_pretrained(config.model, adapter=adapter_shares(config.adapter) or None)
    with locked(config.out):
        takes = FolderOfTakes(config.out / "takes", {"model": model.name, "adapter": list(config.adapter)})
        reel = Reel(config.out, title=config.scene or "", with_page="html" in config.formats)
        wanted = round(60 * FPS * (config.minutes or DEFAULT_MINUTES))
        parts = stream(
            model,
            given if scene is None or planner is None else planned(scene, planner, reel, wanted, seed=config.seed),
            num_candidates=config.best_of,
            judge=judge,
            seed=config.seed,
            plant=config.plant,
            rolls=takes.rolled(rerolled, last=len(given)),
            store=takes,
        )
        with progress("compose", total=len(given) or wanted) as advance:
            for part in parts:
                before = reel.num_frames
                reel.add(part)
                # with the last part no segment is new
                advance(reel.num_frames - before if scene else not part.is_last, note=f"{reel.num_frames / FPS:.0f} s")
        long = reel.finish()
        written = write_long(long, config, scene=config.scene or "")
    for shown in long.shown:
        print(told(shown))
    for path in written:
        print(path)
    return long


def _given(config: Compose) -> Timeline:
    """What happens, where it is given; nothing where it is to be planned. Raises ConfigError unless one thing is."""
    asked = {
        "sentences": config.texts,
        "--scene": config.scene is not None,
        "--plan": config.plan,
        "--timeline": config.timeline,
    }
    chosen = [name for name, value in asked.items() if value]
    if len(chosen) != 1:
        raise ConfigError(
            f"a long motion is made of one of {', '.join(asked)}; this names {' and '.join(chosen) or 'none'}"
        )
    if config.minutes is not None and (config.scene is None or not 0 < config.minutes < float("inf")):
        raise ConfigError(f"minutes={config.minutes} must be above 0, and goes with a scene (--minutes, --scene)")
    if config.timeline is not None:
        return read_timeline(config.timeline)
    if config.plan is not None:
        return timeline_of(Plan.from_json(read_json(config.plan)))
    return timeline_of_texts(config.texts) if config.texts else ()


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise ConfigError(f"reroll={text!r} is no list of segments; give their numbers: 3,5 (--reroll)") from error


def planned(
    scene: Scene, planner: Planner, reel: Reel, wanted: int, *, seed: int, after: Sequence[Task] = ()
) -> Iterator[Segment]:
    """Segments of one task after the other until there are as many frames as wanted; `after` says what was done."""
    for task in tasks_in(scene, planner, seed=seed, after=after):
        yield from timeline_of([task])
        if reel.num_frames >= wanted:
            return


class FolderOfTakes:
    """Takes in a folder: 0003-0.npz is the first motion of segment 3, and the JSON beside it what it was made of."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def get(self, number: int, piece: int, made_of: Mapping[str, Any]) -> Take | None:
        path = self._path(number, piece)
        try:
            values, motion = read_json(path.with_suffix(".json")), Motion.load(path)
        except (CheckpointError, FormatError):
            return None  # a run that was stopped had not come to it
        if values["made_of"] != self._made_of(made_of):
            return None
        return Take(motion, values["score"], values["reason"])

    def put(self, number: int, piece: int, made_of: Mapping[str, Any], take: Take) -> None:
        path = self._path(number, piece)
        path.with_suffix(".json").unlink(missing_ok=True)
        take.motion.save(path)
        # last, because it says that the motion is there
        values = {"made_of": self._made_of(made_of), "score": take.score, "reason": take.reason}
        write_json(path.with_suffix(".json"), values)

    def rolled(self, numbers: Collection[int], *, last: int) -> dict[int, int]:
        """How often each segment was rolled, these once more; `last` is that of the last segment, 0 if not known.

        Raises ConfigError for a number that no segment has.
        """
        path = self.folder / "rolls.json"
        rolls = {int(number): int(count) for number, count in (read_json(path) if path.exists() else {}).items()}
        most = last or len(list(self.folder.glob("*-0.json")))
        if wrong := [number for number in numbers if not 1 <= number <= most]:
            raise ConfigError(f"segment {wrong[0]} is none of 1 to {most} (--reroll)")
        rolls |= {number: rolls.get(number, 0) + 1 for number in numbers}
        if numbers:
            write_json(path, rolls)
        return rolls

    def _path(self, number: int, piece: int) -> Path:
        return self.folder / f"{number:04d}-{piece}.npz"

    def _made_of(self, made_of: Mapping[str, Any]) -> Any:
        """As JSON gives it back."""
        return json.loads(json.dumps({**self.settings, **made_of}))


class Reel:
    """The frames that are final, on disk, and the segments in them; the page of what there is now and then."""

    def __init__(self, out: Path, *, title: str, with_page: bool) -> None:
        self.num_frames = 0
        """Of the whole if it ended now."""
        self._shown: list[Shown] = []
        self._spool, self._page, self._title = out / "frames.f32", out / f"{NAME}.html", title
        self._spool.write_bytes(b"")
        self._next_page = 1 if with_page else None

    def add(self, part: Part) -> None:
        with self._spool.open("ab") as file:
            file.write(part.joints.astype("<f4").tobytes())
            size = file.tell()
        self._shown += part.shown
        self.num_frames = part.num_frames
        num_final = size // (HUMANML3D.num_joints * 3 * 4)
        if self._next_page is not None and num_final >= self._next_page:
            self._next_page = GROWTH * num_final
            write_page(self._long(), self._page, title=self._title)

    def finish(self) -> LongMotion:
        long = self._long()
        self._spool.unlink()
        return long

    def _long(self) -> LongMotion:
        joints = np.fromfile(self._spool, "<f4").reshape(-1, HUMANML3D.num_joints, 3)
        return LongMotion(Motion(joints, fps=FPS), tuple(self._shown))


def write_page(long: LongMotion, path: Path, *, title: str) -> Path:
    """The player of a long motion, with its segments as events."""
    return write_player(long.motion, path, title=title, events=long.player_events())


def write_long(long: LongMotion, files: LongMaking, *, scene: str = "") -> list[Path]:
    """Write plan.json, timeline.json and the motion in all formats; the paths of what was written."""
    of_scene = {"scene": scene} if scene else {}
    written = [
        write_json(files.out / "plan.json", {**of_scene, **plan_of(shown.segment for shown in long.shown).to_json()}),
        write_json(files.out / "timeline.json", timeline_json(long)),
    ]
    for suffix in files.formats:
        path = files.out / f"{NAME}.{suffix}"
        if suffix in VIDEOS:
            write_video(long.motion, path, size=files.size, events=long.captions() if files.captions else ())
        elif suffix == "html":
            write_page(long, path, title=scene)
        else:
            long.motion.save(path)
        written.append(path)
    return written


def plan_of(segments: Iterable[Segment]) -> Plan:
    """The plan that segments come from; one that belongs to no task is a task of its own."""
    grouped = groupby(segments, key=lambda segment: segment.task or segment.step.text)
    return Plan(tuple(Task(text, tuple(segment.step for segment in group)) for text, group in grouped))


def timeline_json(long: LongMotion) -> dict[str, Any]:
    """What `read_timeline` reads again, and beside it the frames in which each segment happens."""
    return {
        **timeline_to_json(shown.segment for shown in long.shown),
        "fps": FPS,
        "num_frames": len(long.motion),
        "shown": [shown.to_json() for shown in long.shown],
    }


def told(shown: Shown) -> str:
    """A line for the terminal: when a segment happens, and its score."""
    score = "not judged" if shown.score is None else f"{shown.score} of 5"
    time = f"{shown.start / FPS:7.2f} to {shown.end / FPS:7.2f} s"
    return f"{shown.number:4d}  {time}  {score:10}  {shown.segment.step.text}"
