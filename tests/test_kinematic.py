"""What the kinematic judge says of made-up motions and of real clips in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

import kinalign as ka
from kinalign.cli import main
from kinalign.data.records import Clip
from kinalign.errors import ConfigError
from kinalign.evaluation.contrasts import in_a_row
from kinalign.events.detect import DETECTED, Detection
from kinalign.events.parse import parse
from kinalign.events.program import ACTIONS, DIRECTIONS, PARTS, SIDES, Event, EventProgram
from kinalign.judge import kinematic
from kinalign.judge.kinematic import KinematicJudge, besides
from kinalign.judge.named import judge_named
from kinalign.judge.signs import SAME_MOVEMENT, SIGNS, sign_of
from kinalign.judge.verdict import Case, Invalid, Verdict, outcome_from_json
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking, waving

JUDGE = KinematicJudge()


def row(*motions: Motion) -> Motion:
    return in_a_row([uniform(motion) for motion in motions])


KICKS_WAVE = row(kicking(2), waving(80))
WAVE_KICKS = row(waving(80), kicking(2))
KICK_WAVE_KICK = row(kicking(1), waving(80), kicking(1))
WALK_KICK_WALK = row(walking(), kicking(), walking())
SQUATS_JUMPS = row(squatting(2), jumping(2))


def score(prompt: str, motion: Motion) -> int:
    outcome = JUDGE(prompt, motion)
    assert isinstance(outcome, Verdict), outcome
    return outcome.score


@pytest.mark.parametrize(
    ("prompt", "motion", "expected"),
    [
        ("a person kicks twice with the right leg, then waves", KICKS_WAVE, 5),
        ("a person kicks twice with the right leg, then waves", WAVE_KICKS, 4),
        ("a person kicks three times, then waves", KICKS_WAVE, 4),
        ("a person kicks several times, then waves", KICKS_WAVE, 5),
        ("a person kicks, then waves", KICKS_WAVE, 5),
        ("a person kicks with the left leg, then waves", KICKS_WAVE, 4),
        ("a person kicks, then waves with the left hand", KICKS_WAVE, 4),
        ("a person kicks, then waves, then squats", KICKS_WAVE, 3),
        ("a person jumps, then squats, then kicks", KICKS_WAVE, 2),
        ("a person jumps, then squats", KICKS_WAVE, 1),
        ("a person kicks, then waves, then kicks", KICK_WAVE_KICK, 5),
        ("a person kicks twice, then waves", KICK_WAVE_KICK, 4),
        ("a person walks, kicks, then walks on", WALK_KICK_WALK, 5),
        ("a person squats twice and then jumps twice", SQUATS_JUMPS, 5),
        ("a person jumps twice and then squats twice", SQUATS_JUMPS, 4),
        ("a person squats twice and stands back up", SQUATS_JUMPS, 5),
        ("a person crouches, then stands up and jumps twice", SQUATS_JUMPS, 5),
        ("a person squats once and stands back up", SQUATS_JUMPS, 4),
        ("a person stands up, then squats", SQUATS_JUMPS, 3),
        ("a person jumps, then stands up", SQUATS_JUMPS, 3),
    ],
)
def test_scores_follow_the_rubric_of_order(prompt: str, motion: Motion, expected: int) -> None:
    assert score(prompt, motion) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a person jumps three times", 5),
        ("a person hops three times", 5),
        ("a person jumps twice", 4),
        ("a person jumps four times", 4),
        ("a person jumps once", 3),
        ("a person jumps nine times", 3),
        ("a person jumps several times", 5),
        ("a person kicks three times", 1),
        ("a person jumps backward three times", 2),
    ],
)
def test_scores_follow_the_rubric_of_frequency(prompt: str, expected: int) -> None:
    assert score(prompt, jumping(3)) == expected


def test_in_frequency_repetitions_count_wherever_they_are() -> None:
    assert score("a person kicks twice", KICK_WAVE_KICK) == 5
    assert score("a person kicks once", KICK_WAVE_KICK) == 4


def test_steps_are_the_count_of_a_walk() -> None:
    (finding,) = findings("a person walks eight steps", walking())
    assert finding.count is not None
    assert score(f"a person walks {finding.count} steps forward", walking()) == 5
    assert score(f"a person takes {finding.count - 2} steps", walking()) == 3


def findings(prompt: str, motion: Motion) -> Sequence[ka.judge.verdict.Finding]:  # type: ignore[name-defined]
    outcome = JUDGE(prompt, motion)
    assert isinstance(outcome, Verdict), outcome
    return outcome.findings


def test_events_at_the_same_time_overlap() -> None:
    waves = waving(80)
    walks = walking(80)
    both = walks.joints.copy()
    arms = [HUMANML3D.index(f"right_{name}") for name in ("shoulder", "elbow", "wrist")]
    at_rest = standing(80).joints
    # the waving arm on the walking body
    both[:, arms] = walks.joints[:, [9]] + (waves.joints[:, arms] - at_rest[:, [9]])
    assert score("a person walks while waving with the right hand", Motion(both)) == 5
    after = JUDGE("a person walks while waving", row(walks, waves))
    assert isinstance(after, Verdict)
    assert (after.score, after.order_is_right) == (4, False)
    assert "not at the same time" in after.reason


@pytest.mark.parametrize("degrees", [-90, 90, 180])
def test_turns_tell_their_way(degrees: int) -> None:
    share = np.clip((np.arange(80) - 20) / 40, 0, 1)
    angle = np.radians(degrees) * share
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = np.moveaxis(standing(80).joints, -1, 0)
    turned = Motion(np.stack((x * cos + z * sin, y, z * cos - x * sin), axis=-1))
    way, other = ("left", "right") if degrees > 0 else ("right", "left")
    assert score(f"a person turns {way}", turned) == 5
    assert score(f"a person turns {other}", turned) == 4
    assert score("a person turns around", turned) == (5 if abs(degrees) > 120 else 4)


def test_a_walk_in_a_circle_is_told_from_a_straight_one() -> None:
    walk = walking(160)
    forward = walk.joints[:, 0, 2].astype(float)
    heading = 1.2 * np.pi * forward / forward[-1]
    cos, sin = np.cos(heading), np.sin(heading)
    x, y, z = np.moveaxis(walk.joints - walk.joints[:, :1] * np.array([0, 0, 1]), -1, 0)
    step = np.diff(forward, prepend=0.0)
    way = np.stack((np.cumsum(step * sin), np.zeros(160), np.cumsum(step * cos)), axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    circle = np.stack((x * cos + z * sin, y, z * cos - x * sin), axis=-1) + way[:, None]
    assert score("a person walks in a circle", Motion(circle)) == 5
    assert score("a person walks in a circle", walk) == 4
    assert score("a person walks forward", walk) == 5


def test_the_reason_is_a_sentence_that_says_what_when_and_what_not() -> None:
    outcome = JUDGE("a person kicks twice with the right foot, then waves, then jumps", KICKS_WAVE)
    assert isinstance(outcome, Verdict)
    assert outcome.reason == "kick with the right foot at 0.2 s twice, wave at 2.5 s; no jump seen"
    kick, wave, jump = outcome.findings
    assert (kick.seen, wave.seen, jump.seen) == ("yes", "yes", "no")
    assert kick.count == 2
    assert kick.end is not None and wave.start is not None and kick.end <= wave.start
    assert "right leg" in kick.reason and "reversals" in wave.reason
    assert outcome_from_json(outcome.to_json()) == outcome


def test_two_events_never_take_the_same_movement() -> None:
    outcome = JUDGE("a person kicks, then kicks", kicking(1))
    assert isinstance(outcome, Verdict)
    assert [finding.seen for finding in outcome.findings] == ["yes", "no"]
    assert score("a person kicks, then kicks", kicking(2)) == 5
    assert score("a person kicks once, then kicks twice", kicking(3)) == 5
    assert score("a person kicks twice, then kicks twice", kicking(3)) == 4


# --- what cannot be judged -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("a person sneezes", "other:sneeze"),
        ("a person walks, then drinks from a cup", "drink"),
        ("a person leans to the left", "lean"),
        ("the weather is fine", "names nothing"),
        ("a person jumps 1000 times", "1000"),
        ("", ""),
    ],
)
def test_what_joints_do_not_show_is_invalid_and_says_so(prompt: str, match: str) -> None:
    outcome = JUDGE(prompt, walking())
    assert isinstance(outcome, Invalid)
    assert match in outcome.reason


def test_a_motion_that_cannot_be_read_is_invalid_and_stops_no_other() -> None:
    good = walking()
    frames = good.joints[:40, : KIT.num_joints]
    motions = [good, good[:1], Motion(frames, skeleton=KIT), Motion(np.zeros((40, 22, 3))), good]
    outcomes = JUDGE.judge_all([Case.of("a person walks", motion) for motion in motions])
    assert [isinstance(outcome, Verdict) for outcome in outcomes] == [True, False, False, False, True]
    assert "0.05 s" in outcomes[1].reason
    assert "kit" in outcomes[2].reason
    assert "length 0" in outcomes[3].reason
    assert JUDGE.judge_all([]) == []


def test_a_long_program_is_judged_in_no_time() -> None:
    event = (Event("kick", side="right"),)
    program = EventProgram((event, (Event("jump"),), (Event("walk"),)) * 6)
    (outcome,) = JUDGE.judge_all([Case.of("x", row(*[kicking(3), jumping(2), walking()] * 3), program=program)])
    assert isinstance(outcome, Verdict)
    assert outcome.score == 2


# --- laws ----------------------------------------------------------------------------------------------------------

PROMPTS = (
    "a person kicks with the right leg, then waves with the right hand",
    "a person kicks twice",
    "a person walks forward and turns left",
    "a person squats and then jumps",
)


@pytest.mark.parametrize("motion", [KICKS_WAVE, SQUATS_JUMPS, WALK_KICK_WALK], ids=["kick", "squat", "walk"])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_mirror_image_of_prompt_and_motion_scores_alike(prompt: str, motion: Motion) -> None:
    mirrored = prompt.replace("right", "LEFT").replace("left", "right").replace("LEFT", "left")
    assert score(mirrored, motion.mirror()) == score(prompt, motion)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_many_cases_at_once_are_judged_as_each_alone(prompt: str) -> None:
    cases = [Case.of(prompt, motion) for motion in (KICKS_WAVE, WAVE_KICKS, SQUATS_JUMPS, KICKS_WAVE)]
    assert JUDGE.judge_all(cases) == [JUDGE.judge_all([case])[0] for case in cases]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_another_frame_rate_scores_alike(prompt: str) -> None:
    assert score(prompt, KICKS_WAVE.resample(60)) == score(prompt, KICKS_WAVE)


def test_every_sign_is_detected_and_every_event_has_one_answer() -> None:
    for name, sign in SIGNS.items():
        assert name.split()[0] in ACTIONS
        assert set(sign.actions) <= DETECTED
        assert sign.why
        assert sign.parts <= set(PARTS)
    assert all(group <= DETECTED for group in SAME_MOVEMENT)
    assert {action for sign in SIGNS.values() for action in sign.actions} == DETECTED
    events = [
        Event(action, side, direction)
        for action in sorted(ACTIONS)
        for direction in ("", *DIRECTIONS)
        for side in ("", *SIDES)
    ]
    cases = [Case.of("x", KICKS_WAVE, program=EventProgram(((event,),))) for event in events]
    for event, outcome in zip(events, JUDGE.judge_all(cases)):
        assert isinstance(outcome, Verdict) == (sign_of(event) is not None)


# --- real clips ----------------------------------------------------------------------------------------------------


def test_real_clips_in_a_row_score_higher_with_their_own_prompt(openmocap: Callable[[str], list[Clip]]) -> None:
    names = {"squat1Reps": "squats", "kickLFront1Reps": "kicks with the left leg", "hopBothLegs1hops": "jumps"}
    clips: dict[str, list[Clip]] = {}
    for clip in openmocap("test"):
        clips.setdefault(clip.label, []).append(clip)
    right = 0
    pairs = [(a, b) for a in names for b in names if a != b]
    for a, b in pairs:
        motion = row(clips[a][0].motion, clips[b][0].motion)
        as_it_is = score(f"a person {names[a]}, then {names[b]}", motion)
        swapped = score(f"a person {names[b]}, then {names[a]}", motion)
        right += as_it_is > swapped
    assert right >= len(pairs) - 1


# --- by name and from the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "motion", "number"),
    [
        ("a man waves", row(waving(), kicking()), 1),
        ("a man kicks and waves", row(waving(), kicking()), 0),
        ("a man waves", row(waving(), standing()), 0),
        ("a man raises his right leg", kicking(), 0),
        ("a man dances", row(waving(), kicking()), 0),
        ("a man waves", replace(standing(), skeleton=KIT, joints=standing().joints[:, :21]), 0),
    ],
)
def test_what_nobody_asked_for_is_seen_besides(prompt: str, motion: Motion, number: int) -> None:
    assert besides([Case.of(prompt, motion), Case.of("a man kicks", motion)])[0] == number


def test_judges_have_names() -> None:
    assert isinstance(judge_named("kinematic"), KinematicJudge)
    assert judge_named("kinalign.judge.kinematic:KinematicJudge").name == "kinematic"
    assert isinstance(ka.KinematicJudge(), KinematicJudge)
    assert ka.parse("a person waves") == parse("a person waves")
    with pytest.raises(ConfigError, match="unknown"):
        judge_named("nobody")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        judge_named("nowhere:Nobody")


def test_the_command_prints_verdicts_with_seconds_and_reasons(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    good, other = str(KICKS_WAVE.save(folder / "a.bvh")), str(jumping().save(folder / "b.npz"))
    assert main(["judge", "score", "a person kicks twice, then waves", good, other]) == 0
    printed = capsys.readouterr().out
    assert f"{good}: 5 of 5 (temporal)" in printed
    assert f"{other}: 1 of 5 (temporal): no kick and no wave seen" in printed
    assert "0.2 to" in printed and "right leg" in printed
    assert main(["judge", "score", "a person sneezes", good]) == 0
    assert "invalid" in capsys.readouterr().out
    assert main(["judge", "score", "a person waves"]) == 2


def test_a_replaced_motion_object_is_read_anew() -> None:
    # the judge keeps motions apart by identity within one call only
    assert score("a person waves", replace(KICKS_WAVE, caption="x")) == score("a person waves", KICKS_WAVE)


@pytest.mark.parametrize(("kick_start", "score"), [(42, 4), (60, 5)])
def test_a_kick_in_a_jump_is_not_a_jump_and_then_a_kick(
    monkeypatch: pytest.MonkeyPatch, kick_start: int, score: int
) -> None:
    jump = Detection("jump", 38, 54, 0.9, "flight", count=1)
    kick = Detection("kick", kick_start, kick_start + 12, 0.9, "fast foot", "right", "forward", 1, part="leg")
    monkeypatch.setattr(kinematic, "detect_all", lambda motions: [[jump, kick] for _ in motions])
    verdict = KinematicJudge()("a person jumps, then kicks with the right leg", walking(100))
    assert isinstance(verdict, Verdict)
    assert (verdict.score, verdict.order_is_right) == (score, score == 5)


@pytest.mark.parametrize(("step_start", "score"), [(20, 4), (36, 5)])
def test_a_hop_is_not_also_the_step_that_follows(monkeypatch: pytest.MonkeyPatch, step_start: int, score: int) -> None:
    hop = Detection("hop", 20, 34, 0.9, "flight", count=1)
    step = Detection("step", step_start, step_start + 14, 0.9, "1 step", "left", "forward", 1, part="foot")
    monkeypatch.setattr(kinematic, "detect_all", lambda motions: [[hop, step] for _ in motions])
    verdict = KinematicJudge()("a person hops, then steps forward", walking(100))
    assert isinstance(verdict, Verdict)
    assert (verdict.score, verdict.order_is_right) == (score, score == 5)
