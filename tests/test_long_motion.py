"""Long motions from plans, timelines and scenes, with an actor who knows a few motions and a planner of one page."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from test_joiner import crouching

from kinalign.cli import main
from kinalign.errors import ConfigError, KinalignError, PlanError, PromptError
from kinalign.lm.model import Sampling
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.synthetic import kicking, standing, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.planning.acting import tasks_in
from kinalign.planning.compose import LongMotion, Part, compose, stream
from kinalign.planning.compose_command import Compose, compose_command
from kinalign.planning.plan import Plan, Scene, Step, Task
from kinalign.planning.tasks import Answer, Request
from kinalign.planning.timeline import Segment, read_timeline, timeline_of_texts
from kinalign.run import read_json

WALK, WAVE, KICK, SIT = "A person walks.", "A person waves.", "A person kicks.", "A person sits down."


@dataclass
class Actor:
    """Stands for a model: plays what the text says, another way for each seed."""

    slowness_s: float = 0.0
    lies: bool = False
    """Whether every other candidate lies on the floor from its first frame."""
    asked: list[str] = field(default_factory=list)
    name = "actor"
    max_length_s = 9.8
    default_sampling = Sampling()

    def rounds(
        self, prompt: str, *, num_candidates: int, seed: int, length_s: float | None, **_: Any
    ) -> Iterator[list[Motion]]:
        self.asked.append(prompt)
        time.sleep(self.slowness_s)
        yield [self.play(prompt, seed + place, length_s) for place in range(num_candidates)]

    def play(self, prompt: str, seed: int, length_s: float | None) -> Motion:
        if self.lies and seed % 2:
            return Motion(standing(30).joints[..., [0, 2, 1]] * [1, -1, 1])
        if "sits" in prompt:
            return crouching()
        num_frames = round((length_s or 2.0) * FPS)
        if "waves" in prompt:
            return waving(num_frames, num_waves=2 + seed % 3)
        if "kicks" in prompt:
            return kicking(1, side="left" if seed % 2 else "right")
        return walking(num_frames, steps_per_second=1.4 + 0.1 * (seed % 7))


class Page:
    """A planner who has one page: tasks of two steps, in turn."""

    name = "page"

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        if request.kind == "t2s":
            return (Step.of(WALK, 2.0), Step.of(KICK if "kick" in request.tasks[0].text else WAVE, 2.0))
        assert request.kind == "ct2t"
        last = request.tasks[-1].text if request.tasks else ""
        return Task("He greets." if "kick" in last else "He practises a kick.")


class Parrot(Page):
    """Says one thing for ever."""

    name = "parrot"

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        return super().__call__(request, seed=seed) if request.kind == "t2s" else Task("He greets.")


class Poet(Page):
    """Answers prose."""

    name = "poet"

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        return Scene("O wild west wind")


class Moody(Page):
    """Has an answer for one seed in four."""

    name = "moody"

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        if seed % 4 < 3:
            raise PlanError("not now")
        return super().__call__(request, seed=seed)


def played(*segments: Segment, actor: Actor | None = None, **options: Any) -> LongMotion:
    return compose(actor or Actor(), segments, **{"num_candidates": 2, **options})  # type: ignore[arg-type]


# composing


def test_segments_happen_one_after_the_other_and_are_judged() -> None:
    long = played(*timeline_of_texts([WALK, WAVE, KICK]))
    assert [one.number for one in long.shown] == [1, 2, 3]
    ends = 0
    for one in long.shown:
        assert one.transition.end == one.start < one.end and one.transition.start == ends
        ends = one.end
    assert ends == len(long.motion)
    assert [event.label for event in long.player_events()] == ["walk", "wave", "kick"]
    assert [event.label for event in long.captions()] == [WALK, WAVE, KICK]
    assert all(one.score is not None and one.reason for one in long.shown)


def test_one_seed_is_one_motion() -> None:
    segments = timeline_of_texts([WALK, WAVE])
    first, again, other = (played(*segments, seed=seed).motion.joints for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_same_sentence_twice_is_not_the_same_motion_twice() -> None:
    takes = Notes()
    list(stream(Actor(), timeline_of_texts([WALK] * 4), num_candidates=1, store=takes))  # type: ignore[arg-type]
    assert len({take.motion.joints.tobytes() for take in takes.kept.values()}) > 1


def test_a_long_segment_is_made_of_several_motions() -> None:
    actor = Actor()
    long = played(Segment(Step.of(WALK, 25.0)), actor=actor)
    assert actor.asked == [WALK] * 3
    assert long.motion.duration_s == pytest.approx(25.0, abs=2.0)
    assert len(long.shown) == 1


def test_what_is_counted_happens_once_and_the_rest_is_kept_still() -> None:
    actor = Actor()
    long = played(Segment(Step.of("A person kicks once.", 15.0)), actor=actor)
    assert actor.asked == ["A person kicks once."]
    assert long.motion.duration_s == pytest.approx(15.0, abs=1.0)
    (shown,) = long.shown
    assert shown.pause is not None and shown.pause.end == len(long.motion)


def test_who_has_sat_down_sits_for_the_rest_of_the_time() -> None:
    actor = Actor()
    long = played(Segment(Step.of(SIT, 20.0)), actor=actor)
    assert actor.asked == [SIT]
    assert long.motion.duration_s == pytest.approx(20.0, abs=1.0)
    assert long.motion.joints[-1, 0, 1] < 0.6


def test_a_pause_is_kept_and_told() -> None:
    long = played(Segment(Step.of(WALK, 2.0), pause_s=3.0), Segment(Step.of(WAVE, 2.0)))
    first, second = long.shown
    assert first.pause is not None and first.end == first.pause.start and first.pause.end == second.transition.start
    assert first.pause.end - first.pause.start == pytest.approx(3.0 * FPS, abs=6)
    assert first.to_json()["pause_frames"] == list(first.pause)


def test_who_gets_up_between_two_segments_is_told() -> None:
    long = played(*timeline_of_texts([SIT, WALK]))
    assert [event.label for event in long.player_events()] == ["sit", "(get up)", "walk"]


def test_a_candidate_that_cannot_follow_is_left_for_the_next_best() -> None:
    long = played(*timeline_of_texts([WALK, WALK, WAVE]), actor=Actor(lies=True), num_candidates=4)
    for one in long.shown[1:]:
        assert long.motion.joints[one.start, 0, 1] > 0.75
    with pytest.raises(PlanError, match=r"segment 2, 'A person waves\.', begins in a posture that nothing leads to"):
        played(*timeline_of_texts([WALK, WAVE]), actor=Liar())


class Liar(Actor):
    """Walks, and does everything else lying."""

    def play(self, prompt: str, seed: int, length_s: float | None) -> Motion:
        return Actor(lies=prompt != WALK).play(prompt, 1, length_s)


def test_segments_may_be_planned_while_the_motion_is_made() -> None:
    events: list[str] = []

    def segments() -> Iterator[Segment]:
        for text in (WALK, WAVE, KICK):
            events.append(text)
            yield Segment(Step.of(text))

    parts: list[Part] = []
    for part in stream(Actor(), segments(), num_candidates=1):  # type: ignore[arg-type]
        events.append(f"{part.num_frames > sum(len(one.joints) for one in [*parts, part])}")
        parts.append(part)
    # frames of the last segment are not final before it is known what follows
    assert events == [WALK, "True", WAVE, "True", KICK, "True", "False"]
    assert [part.is_last for part in parts] == [False, False, False, True]


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "a long motion of no segment is none"),
        ([Segment(Step.of(WALK, 0.2))], "0.2 s of segment 1 are too few; give 0.4 s or more"),
    ],
)
def test_what_cannot_be_composed_is_refused(segments: list[Segment], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        played(*segments)


@dataclass
class Notes:
    """A store in memory."""

    kept: dict[tuple[int, int], Any] = field(default_factory=dict)

    def get(self, number: int, piece: int, made_of: Any) -> None:
        return None

    def put(self, number: int, piece: int, made_of: Any, take: Any) -> None:
        self.kept[number, piece] = take


# scenes


def test_a_scene_is_acted_task_by_task() -> None:
    tasks = tasks_in(Scene("A pitch."), Page())
    first, second, third = (next(tasks) for _ in range(3))
    assert (first.text, second.text, third.text) == ("He practises a kick.", "He greets.", "He practises a kick.")
    assert [step.text for step in first.steps] == [WALK, KICK]


def test_a_planner_that_is_of_no_use_is_an_error() -> None:
    with pytest.raises(PlanError, match=r"parrot plans 'He greets\.' 3 times in a row"):
        list(tasks_in(Scene("A pitch."), Parrot()))
    with pytest.raises(PlanError, match="poet was asked for the next task and answered Scene"):
        next(tasks_in(Scene("A pitch."), Poet()))
    assert next(tasks_in(Scene("A pitch."), Moody())).steps


# the command


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    actor = Actor()
    monkeypatch.setattr(TextToMotion, "from_pretrained", lambda *_, **__: actor)
    return actor


def settings(out: Path, *texts: str, **others: Any) -> Compose:
    return replace(Compose(texts=texts, out=out, best_of=2, formats=("npz",)), **others)


def test_a_long_motion_is_written_in_every_format_with_its_plan_and_timeline(
    actor: Actor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    formats = ("mp4", "bvh", "glb", "html", "npz")
    long = compose_command(settings(tmp_path, WALK, WAVE, formats=formats, size=64))
    names = {"plan.json", "timeline.json", *(f"motion.{suffix}" for suffix in formats)}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "takes", ".lock"}
    assert np.array_equal(Motion.load(tmp_path / "motion.npz").joints, long.motion.joints)
    assert len(Motion.load(tmp_path / "motion.bvh")) == len(long.motion)
    told = capsys.readouterr().out
    assert WAVE in told and str(tmp_path / "motion.glb") in told
    # both files are read again as what they are
    assert read_timeline(tmp_path / "timeline.json") == timeline_of_texts([WALK, WAVE])
    plan = Plan.from_json(read_json(tmp_path / "plan.json"))
    assert [step.text for step in plan.steps] == [WALK, WAVE]
    shown = read_json(tmp_path / "timeline.json")["shown"]
    assert [row["frames"] for row in shown] == [[one.start, one.end] for one in long.shown]
    assert '"label":"wave"' in (tmp_path / "motion.html").read_text()


def test_a_plan_that_was_written_is_acted_again(actor: Actor, tmp_path: Path) -> None:
    first = compose_command(settings(tmp_path / "a", WALK, WAVE))
    second = compose_command(settings(tmp_path / "b", plan=tmp_path / "a" / "plan.json"))
    assert first.motion.joints.tobytes() == second.motion.joints.tobytes()


def test_a_segment_is_made_anew_and_the_others_keep_their_bytes(actor: Actor, tmp_path: Path) -> None:
    compose_command(settings(tmp_path, WALK, WAVE, WALK))
    before = {path.name: path.read_bytes() for path in (tmp_path / "takes").glob("*.npz")}
    for _ in range(8):  # a roll may come out the same: there are few ways to wave
        actor.asked.clear()
        compose_command(settings(tmp_path, WALK, WAVE, WALK, reroll="2"))
        assert actor.asked == [WAVE]
        after = {path.name: path.read_bytes() for path in (tmp_path / "takes").glob("*.npz")}
        assert {name for name in before if before[name] != after[name]} <= {"0002-0.npz"}
        if before != after:
            break
    else:
        pytest.fail("eight rolls, and no other motion")
    with pytest.raises(ConfigError, match=r"segment 4 is none of 1 to 3 \(--reroll\)"):
        compose_command(settings(tmp_path, WALK, WAVE, WALK, reroll="2,4"))
    with pytest.raises(ConfigError, match="reroll='two' is no list of segments"):
        compose_command(settings(tmp_path, WALK, reroll="two"))


def test_of_a_changed_timeline_only_what_is_changed_is_made(actor: Actor, tmp_path: Path) -> None:
    compose_command(settings(tmp_path, WALK, WAVE, WALK))
    actor.asked.clear()
    compose_command(settings(tmp_path, WALK, KICK, WALK))
    assert actor.asked == [KICK]
    actor.asked.clear()
    compose_command(settings(tmp_path, WALK, KICK, WALK, seed=1))
    assert actor.asked == [WALK, KICK, WALK]


RUN = """
import sys
from pathlib import Path
from test_long_motion import Actor, settings, WALK, WAVE
from kinalign.pipeline import TextToMotion
from kinalign.planning.compose_command import compose_command
TextToMotion.from_pretrained = lambda *_, **__: Actor(slowness_s=0.3)
compose_command(settings(Path(sys.argv[1]), *[WALK, WAVE] * 6))
"""


def test_a_killed_run_goes_on_where_it_was(actor: Actor, tmp_path: Path) -> None:
    out, here = tmp_path / "killed", Path(__file__).parent
    path = os.pathsep.join([str(here), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen([sys.executable, "-c", RUN, str(out)], env={**os.environ, "PYTHONPATH": path})
    try:
        deadline = time.monotonic() + 120
        while not (out / "takes" / "0003-0.json").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    made = sorted((out / "takes").glob("*.json"))
    assert 3 <= len(made) < 12
    whole = compose_command(settings(tmp_path / "whole", *[WALK, WAVE] * 6))
    actor.asked.clear()
    resumed = compose_command(settings(out, *[WALK, WAVE] * 6))
    assert len(actor.asked) == 12 - len(made)
    assert resumed.motion.joints.tobytes() == whole.motion.joints.tobytes()
    assert (out / "motion.npz").read_bytes() == (tmp_path / "whole" / "motion.npz").read_bytes()


def test_a_page_can_be_played_while_the_rest_is_made(actor: Actor, tmp_path: Path) -> None:
    seen: list[bool] = []
    play = actor.play

    def watching(prompt: str, seed: int, length_s: float | None) -> Motion:
        seen.append((tmp_path / "motion.html").exists())
        return play(prompt, seed, length_s)

    actor.play = watching  # type: ignore[method-assign]
    compose_command(settings(tmp_path, WALK, WAVE, WALK, formats=("html",), best_of=1))
    assert seen == [False, False, True]


def test_captions_are_written_over_the_video(actor: Actor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"formats": ("mp4",), "size": 96}
    plain = compose_command(settings(tmp_path / "plain", WALK, KICK, **options))
    compose_command(settings(tmp_path / "told", WALK, KICK, captions=True, **options))
    films = [list(frames_of(tmp_path / name / "motion.mp4")) for name in ("plain", "told")]
    assert len(films[0]) == len(films[1]) == len(plain.motion)
    strip = films[1][0].shape[0] - films[0][0].shape[0]
    assert strip > 10
    first, between, second = (
        films[1][frame][:strip].astype(int)
        for frame in (plain.shown[0].start + 5, plain.shown[1].transition.start + 1, plain.shown[1].start + 5)
    )
    assert between.min() > 200 > first.min()  # nothing is written while nothing happens
    assert np.abs(first - second).max() > 100
    with pytest.raises(ConfigError, match="captions are written over a video"):
        compose_command(settings(tmp_path, WALK, captions=True))


def frames_of(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def test_a_scene_is_planned_until_the_minutes_are_full(actor: Actor, tmp_path: Path) -> None:
    config = settings(tmp_path, scene="A pitch.", minutes=0.2, planner="test_long_motion:Page")
    long = compose_command(config)
    assert 12.0 <= long.motion.duration_s < 18.0
    plan = Plan.from_json(read_json(tmp_path / "plan.json"))
    assert plan.scene == Scene("A pitch.")
    assert [task.text for task in plan.tasks][:2] == ["He practises a kick.", "He greets."]
    actor.asked.clear()
    again = compose_command(config)
    assert not actor.asked and again.motion.joints.tobytes() == long.motion.joints.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "made of one of sentences, --scene, --plan, --timeline; this names none"),
        ({"texts": (WALK,), "scene": "A pitch."}, "this names sentences and --scene"),
        ({"texts": (WALK,), "minutes": 1.0}, "minutes=1.0 must be above 0, and goes with a scene"),
        ({"scene": "A pitch.", "minutes": 0.0}, "minutes=0.0 must be above 0"),
        ({"scene": " "}, "a scene is a text that says something"),
        ({"texts": (WALK,), "formats": ()}, "formats is empty"),
        ({"texts": (WALK,), "best_of": 0}, "n=0 leaves nothing to choose from"),
        (
            {
                "texts": (WALK, "The sky is blue."),
            },
            "sentence 2: ",
        ),
        ({"texts": (WALK,), "judge": "nobody"}, "judge 'nobody' is unknown"),
    ],
)
def test_settings_that_make_no_motion_are_refused(
    actor: Actor, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(KinalignError, match=message):
        compose_command(replace(settings(tmp_path), **options))


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "timeline.csv"
    path.write_text(f"text,seconds\n{WALK},2\n{WAVE},-2\n")
    assert main(["compose", "--timeline", str(path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "row 2" in line and "-2.0 seconds" in line
    assert not (tmp_path / "out").exists()


def test_a_sentence_without_an_event_is_a_prompt_error() -> None:
    with pytest.raises(PromptError):
        Step.of("The sky is blue.")
