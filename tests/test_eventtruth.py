"""Recall, order, counts and wins of made-up verdicts whose answers are known by counting on one's fingers."""

from __future__ import annotations

import numpy as np
import pytest

from kinalign.evaluation.eventquality import Measured
from kinalign.evaluation.eventscores import NOTHING
from kinalign.evaluation.eventtruth import SHARES, difference_of, number_of, scores_of, tallies, wins
from kinalign.events.parse import parse
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.rubric import Seen, SubTask, sub_task_of
from kinalign.judge.verdict import Finding, Invalid, Outcome, Verdict


def asked(text: str, task: SubTask | None = None) -> EventPrompt:
    program = parse(text)
    return EventPrompt(text, text, task or sub_task_of(program), program)


def said(
    prompt: EventPrompt,
    seen: str,
    score: int,
    *,
    order: bool | None = None,
    counts: tuple[int | None, ...] = (),
    starts: tuple[int | None, ...] = (),
) -> Verdict:
    """A verdict that sees of each event: y(es), p(artly) or n(o)."""
    words: dict[str, Seen] = {"y": "yes", "p": "partly", "n": "no"}
    findings = tuple(
        Finding(event, words[letter], start, count=count)
        for event, letter, count, start in zip(
            prompt.program.events, seen, counts or (None,) * len(seen), starts or (None,) * len(seen), strict=True
        )
    )
    return Verdict(score, prompt.task, "made up", findings=findings, order_is_right=order)


WALK_SIT = asked("a person walks forward, then sits down.")
WALK_TURN_SIT = asked("a person walks forward, turns around, then sits down.")
JUMPS = asked("a person jumps three times.")
UNJUDGED = Invalid("made up", "the endpoint is down")


def value(prompts: list[EventPrompt], outcomes: list[list[Outcome]], metric: str) -> float | None:
    return number_of(tallies(prompts, outcomes)[metric], is_share=metric in SHARES).value


def test_recall_is_of_events_and_not_of_motions() -> None:
    outcomes: list[list[Outcome]] = [[said(WALK_SIT, "yn", 3)], [said(WALK_TURN_SIT, "ypy", 4)]]
    assert value([WALK_SIT, WALK_TURN_SIT], outcomes, "event_recall") == 4 / 5


def test_order_is_asked_only_where_all_events_of_a_temporal_prompt_are_seen() -> None:
    outcomes: list[list[Outcome]] = [
        [said(WALK_SIT, "yy", 5, order=True), said(WALK_SIT, "yp", 4, order=False), said(WALK_SIT, "yn", 3, order=True)]
    ]
    number = number_of(tallies([WALK_SIT], outcomes)["order"], is_share=True)
    assert (number.value, number.of) == (1 / 2, 2)
    as_integrity = asked(WALK_SIT.prompt, "integrity")
    assert value([as_integrity], outcomes, "order") is None


def test_pairs_of_seen_events_are_in_order_whatever_else_is_missing() -> None:
    outcomes: list[list[Outcome]] = [
        [
            said(WALK_TURN_SIT, "yny", 3, starts=(0, None, 40)),
            said(WALK_TURN_SIT, "yyy", 4, starts=(30, 10, 20)),
            said(WALK_TURN_SIT, "ynn", 2, starts=(0, None, None)),
        ]
    ]
    number = number_of(tallies([WALK_TURN_SIT], outcomes)["order_of_pairs"], is_share=True)
    assert (number.value, number.of) == ((1 + 1) / (1 + 3), 4)
    assert value([WALK_TURN_SIT], outcomes, "all_seen") == 1 / 3


def test_a_count_is_right_off_by_one_or_wrong_and_what_is_not_seen_is_wrong() -> None:
    counts = [(3,), (2,), (4,), (1,), (None,)]
    outcomes: list[list[Outcome]] = [[said(JUMPS, "y", 3, counts=count) for count in counts]]
    outcomes[0].append(said(JUMPS, "n", 1, counts=(3,)))
    assert value([JUMPS], outcomes, "count_exact") == 1 / 6
    assert value([JUMPS], outcomes, "count_within_1") == 3 / 6


def test_all_is_right_where_the_score_is_five() -> None:
    outcomes: list[list[Outcome]] = [[said(WALK_SIT, "yy", score) for score in (5, 4, 1, 5)]]
    assert value([WALK_SIT], outcomes, "all_right") == 1 / 2
    assert value([WALK_SIT], outcomes, "score") == 15 / 4


def test_what_could_not_be_judged_is_counted_and_left_out_of_all_else() -> None:
    outcomes: list[list[Outcome]] = [[said(WALK_SIT, "yy", 5, order=True), UNJUDGED]]
    assert value([WALK_SIT], outcomes, "unjudged") == 1 / 2
    assert value([WALK_SIT], outcomes, "event_recall") == value([WALK_SIT], outcomes, "all_right") == 1
    assert value([WALK_SIT], [[UNJUDGED]], "event_recall") is None


def test_a_judge_is_not_asked_what_it_never_says() -> None:
    outcomes: list[list[Outcome]] = [[Verdict(3, "temporal", "score only")], [Verdict(4, "frequency", "score only")]]
    found = tallies([WALK_SIT, JUMPS], outcomes)
    assert all(number_of(found[metric]) == NOTHING for metric in ("event_recall", "order", "count_exact"))
    assert number_of(found["score"]).value == 7 / 2


def test_a_verdict_without_findings_saw_nothing_if_the_judge_gives_them_elsewhere() -> None:
    outcomes: list[list[Outcome]] = [[said(WALK_SIT, "yy", 5), Verdict(1, "temporal", "made up")]]
    assert value([WALK_SIT], outcomes, "event_recall") == 1 / 2


def test_prompts_and_not_motions_make_an_interval_narrow() -> None:
    """Ten motions of each prompt that are all alike tell no more than one."""
    once = np.array([[[float(place % 2), 1.0]] for place in range(40)])
    alone, often = number_of(once), number_of(np.repeat(once, 10, axis=1))
    assert alone.low == pytest.approx(often.low) and alone.high == pytest.approx(often.high)
    assert alone.high is not None and alone.low is not None
    # the textbook's interval of 20 in 40
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(40), rel=0.1)


def test_a_share_without_a_fault_is_not_certain() -> None:
    number = number_of(np.ones((20, 1, 2)), is_share=True)
    assert number.value == number.high == 1.0
    assert number.low == pytest.approx(0.839, abs=0.001)  # Wilson's bound of 20 in 20


def test_a_difference_is_paired_by_prompt() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random((60, 1))
    a = np.stack((hard, np.ones_like(hard)), axis=-1)
    b = np.stack((hard + 0.01, np.ones_like(hard)), axis=-1)
    difference = difference_of(a, b)
    assert difference is not None and difference.is_beyond_chance
    assert difference.b - difference.a == pytest.approx(0.01)
    assert (difference.low, difference.high) == pytest.approx((0.01, 0.01))
    swapped = difference_of(b, a)
    assert swapped is not None
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))
    assert difference_of(a, np.zeros_like(b)) is None, "nothing was asked of the other"


def random_scores(seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).integers(1, 6, (30, 3)).astype(float)
    scores[seed, 0] = np.nan
    return scores


def test_who_wins_against_itself_wins_half() -> None:
    scores = random_scores(0)
    won, tied = wins(scores, scores)
    assert number_of(won).value == 0.5 and number_of(tied).value == 1.0
    assert number_of(won).of == 89, "a pair with one score is none"


def test_swapping_two_systems_gives_one_less_the_win_rate() -> None:
    a, b = random_scores(1), random_scores(2)
    (there, ties), (back, same) = wins(a, b), wins(b, a)
    one, other = number_of(there, is_share=True), number_of(back, is_share=True)
    assert one.value == pytest.approx(1 - (other.value or 0))
    assert (one.low, one.high) == pytest.approx((1 - (other.high or 0), 1 - (other.low or 0)), abs=0.01)
    assert np.array_equal(ties, same)


def test_wins_of_a_few_known_pairs() -> None:
    won, tied = wins(np.array([[1.0, 3.0, 4.0, 2.0]]), np.array([[5.0, 3.0, 2.0, np.nan]]))
    assert number_of(won).value == pytest.approx((1 + 0.5 + 0) / 3)
    assert number_of(tied).value == pytest.approx(1 / 3)


def test_scores_are_in_the_order_of_prompts_and_replications() -> None:
    scores = scores_of([[said(JUMPS, "y", 4), UNJUDGED], [said(JUMPS, "y", 2), said(JUMPS, "y", 5)]])
    assert scores[0, 0] == 4 and np.isnan(scores[0, 1]) and scores[1].tolist() == [2, 5]


# quality


def measured(seed: int = 0, *, shift: float = 0.0) -> Measured:
    rng = np.random.default_rng(seed)
    return Measured(
        text=rng.normal(size=(40, 4)),
        vectors=rng.normal(size=(40, 3, 4)) + shift,
        physics={"jitter_m_s3": rng.random((40, 3)) + 50},
        real=rng.normal(size=(200, 4)),
        real_physics={"jitter_m_s3": rng.random(200)},
    )


def test_fid_grows_with_the_distance_from_real_clips_and_its_interval_holds_it() -> None:
    everywhere = np.arange(40)
    near, far = (measured(shift=shift).numbers(everywhere)["fid"] for shift in (0.0, 2.0))
    assert near.value is not None and far.value is not None
    assert far.value - near.value == pytest.approx(4 * 2.0**2, rel=0.2)  # four dimensions, each 2 away
    for number in (near, far):
        assert number.low is not None and number.high is not None and number.value is not None
        assert number.low < number.value < number.high


def test_motions_that_lie_on_their_texts_are_retrieved() -> None:
    exact = measured()
    exact = exact._replace(vectors=np.repeat(exact.text[:, None], 3, axis=1))
    numbers = exact.numbers(np.arange(40))
    assert numbers["r_precision_1"].value == 1.0 and numbers["mm_dist"].value == 0.0
    assert exact.numbers(np.arange(20))["r_precision_1"].value is None, "20 prompts fill no pool of 32"


def test_systems_that_are_equal_do_not_differ() -> None:
    differences = measured().differences(measured(), np.arange(40))
    assert all(row.a == row.b and not row.is_beyond_chance for row in differences.values())
    jittery = measured()._replace(physics={"jitter_m_s3": measured().physics["jitter_m_s3"] + 1})
    row = measured().differences(jittery, np.arange(40))["jitter_m_s3"]
    assert row.is_beyond_chance and row.b - row.a == pytest.approx(1)


def test_replications_are_counted_together() -> None:
    one = measured()
    three = one.numbers(np.arange(40))["jitter_m_s3"]
    assert three.of == 120
    assert three.value == pytest.approx(one.physics["jitter_m_s3"].mean())
