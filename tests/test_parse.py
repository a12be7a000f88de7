"""Sentences are read into event programs: by law, by example, and measured on captions labelled by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kinalign.data.mirror_text import mirror_caption
from kinalign.errors import PromptError
from kinalign.events.parse import MAX_LENGTH, parse
from kinalign.events.program import Event, EventProgram

LABELLED = Path(__file__).with_name("labelled_captions.json")
MEASURED = {
    "events": 0.861,
    "order": 0.943,
    "side": 0.970,
    "direction": 0.922,
    "count": 0.985,
    "counts_said": 0.769,
    "part": 0.960,
    "style": 0.728,
    "exact": 0.560,
    "exact_with_part": 0.555,
}
"""Of the 200 captions called "test" (on the 100 called "dev": events 0.976, order 0.952, count 1, exact 0.83)."""
FIELDS = ("side", "direction", "count", "part", "style")
Steps = list[list[dict[str, Any]]]


def read(text: str) -> Steps:
    """The program as JSON; no steps where nothing is found."""
    try:
        return parse(text).to_json()
    except PromptError:
        return []


def measure(labelled: list[dict[str, Any]]) -> dict[str, float]:
    """How right `parse` is against labels.

    events: F1 of the actions, each label matched with one event of the same action, in the order said. order: of all
    pairs of matched events, those whose relation (before, at once, after) is the label's. Fields: of the matched
    events, those with the label's value; counts_said only where label or program has a count. exact: captions of which
    every action, side, direction, count and step is right; exact_with_part the same and every part.
    """
    truths = found = matches = pairs = ordered = said = said_right = exact = exact_with_part = 0
    right = dict.fromkeys(FIELDS, 0)
    for row in labelled:
        truth, program = row["steps"], read(row["caption"])
        true = [(at, event) for at, step in enumerate(truth) for event in step]
        mine = [(at, event) for at, step in enumerate(program) for event in step]
        truths, found = truths + len(true), found + len(mine)
        matched = []
        left = list(mine)
        for at, event in true:
            match = next((other for other in left if other[1]["action"] == event["action"]), None)
            if match is None:
                continue
            left.remove(match)
            matched.append((at, match[0]))
            matches += 1
            for name in FIELDS:
                right[name] += event.get(name) == match[1].get(name)
            if event.get("count") or match[1].get("count"):
                said += 1
                said_right += event.get("count") == match[1].get("count")
        for (one, my_one), (two, my_two) in combinations(matched, 2):
            pairs += 1
            ordered += (one < two) - (one > two) == (my_one < my_two) - (my_one > my_two)
        exact += _without(truth, "style", "part") == _without(program, "style", "part")
        exact_with_part += _without(truth, "style") == _without(program, "style")
    return {
        "events": 2 * matches / (truths + found),
        "order": ordered / pairs,
        **{name: right[name] / matches for name in FIELDS},
        "counts_said": said_right / said,
        "exact": exact / len(labelled),
        "exact_with_part": exact_with_part / len(labelled),
    }


def _without(steps: Steps, *names: str) -> list[list[str]]:
    """The steps without these keys; the events of one step in no order."""
    return [
        sorted(json.dumps({k: v for k, v in event.items() if k not in names}, sort_keys=True) for event in step)
        for step in steps
    ]


def test_the_accuracy_on_captions_labelled_by_hand_stays_what_it_is() -> None:
    """The lexicon and the rules were made with "dev" in view; nobody looked at "test" while making them."""
    labelled = json.loads(LABELLED.read_text(encoding="utf-8"))
    assert len(labelled["dev"]) == 100 and len(labelled["test"]) == 200
    measured = measure(labelled["test"])
    for name, value in MEASURED.items():
        assert measured[name] == pytest.approx(value, abs=0.003), f"{name}: {measured}"


EXAMPLES = [
    ("walks in place", "walk(in_place)"),
    ("A person walks forward, turns left and then kicks twice with the right leg.",
     "walk(forward) > turn(left) > kick(right leg x2)"),
    ("He sits down after he jumps.", "jump > sit"),
    ("Before sitting down, a man waves.", "wave > sit"),
    ("After he jumped, he sat down.", "jump > sit"),
    ("While walking, a woman claps.", "walk & clap"),
    ("a person jogs until he falls", "jog > fall"),
    ("someone takes two steps backwards, followed by a jump", "step(backward x2) > jump"),
    ("First she squats; finally she stands up.", "squat > stand_up"),
    ("a person jumps several times", "jump(xseveral)"),
    ("a person does 12 jumping jacks", "jumping_jack(x12)"),
    ("raises the left arm, then the right arm", "raise(left arm) > raise(right arm)"),
    ("raises his left arm and then lowers it", "raise(left arm) > lower(left arm)"),
    ("steps left and then right", "step(left) > step(right)"),
    ("lifts both hands above his head", "raise(both hand)"),
    ("lifts a box", "lift"),
    ("lifts his left knee", "raise_knee(left knee)"),
    ("a person walks with arms raised", "walk & raise(both arm)"),
    ("the man did not fall but walked on", "walk"),
    ("a person walks in a counter-clockwise circle", "walk(counterclockwise)"),
    ("a man bends forward to bow", "bow"),
    ("he walks, then leans forward to bow", "walk > bow"),
    ("he puts a book by his feet with his right hand", "place(right hand)"),
    ("she bends down and puts a box on the floor", "bend > put_down"),
    ("a man drops off a bag with the left hand", "other:drop(left hand)"),
    ("the driver reverses away", "walk(backward)"),
    ("the driver reverses direction", "turn(around)"),
    ("he kicks with his left leg and does the same with his right leg", "kick(left leg) > kick(right leg)"),
]  # fmt: skip


def shown(steps: Steps) -> str:
    """walk(forward) & wave(left hand) > kick(x2)."""

    def one(event: dict[str, Any]) -> str:
        said = [event[name] for name in ("side", "part", "direction") if name in event]
        said += [f"x{event['count']}"] if "count" in event else []
        return event["action"] + (f"({' '.join(said)})" if said else "")

    return " > ".join(" & ".join(map(one, step)) for step in steps)


@pytest.mark.parametrize(("text", "program"), EXAMPLES)
def test_a_sentence_says_what_happens_in_which_order(text: str, program: str) -> None:
    assert shown(read(text)) == program


def test_reading_does_not_depend_on_case_spaces_or_the_final_stop() -> None:
    for text, _ in EXAMPLES:
        assert read(text) == read("  " + text.rstrip(".").replace(" ", "  ").upper() + ".")


def test_mirrored_words_give_the_mirrored_program() -> None:
    other = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}
    other |= {"diagonal_left": "diagonal_right", "diagonal_right": "diagonal_left"}
    labelled = json.loads(LABELLED.read_text(encoding="utf-8"))
    for row in labelled["dev"] + labelled["test"]:
        if any(
            word in row["caption"] for word in ("left and right", "right and left", "left to", "right to", "hand side")
        ):
            continue
        mirrored = [
            [
                {k: other.get(v, v) if k in ("side", "direction") else v for k, v in event.items() if k != "style"}
                for event in step
            ]
            for step in read(row["caption"])
        ]
        again = [
            [{k: v for k, v in event.items() if k != "style"} for event in step]
            for step in read(mirror_caption(row["caption"]))
        ]
        assert again == mirrored, row["caption"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no English word"),
        ("   \n", "no English word"),
        ("1234", "names nothing"),
        ("the blue sky", "names nothing"),
        ("une personne marche vers l'avant", "names nothing"),
        ("一个人向前走", "no English word"),
        ("a person jumps 0 times", "1 to 100"),
        ("a person jumps 1000 times", "1 to 100"),
        ("a person jumps 1,000 times", "1000 repetitions"),
        ("he hops zero times", "1 to 100"),
        ("walks " * MAX_LENGTH, "characters"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(text: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        parse(text)


def test_any_heap_of_words_is_a_program_or_one_clear_error() -> None:
    rng = random.Random(0)
    rows = json.loads(LABELLED.read_text(encoding="utf-8"))["dev"]
    words = (
        " ".join(row["caption"] for row in rows).split() + "before after while until again repeats same , . 7".split()
    )
    for _ in range(2000):
        text = " ".join(rng.choices(words, k=rng.randint(1, 20)))
        steps = read(text)
        assert not steps or EventProgram.from_json(steps).to_json() == steps


def test_many_captions_are_read_in_a_second() -> None:
    captions = [row["caption"] for row in json.loads(LABELLED.read_text(encoding="utf-8"))["test"]]
    read(captions[0])
    start = time.process_time()
    for caption in captions:
        read(caption)
    assert time.process_time() - start < len(captions) / 1000


def test_reading_and_saying_load_neither_numpy_nor_torch() -> None:
    code = "import sys, kinalign.events.parse, kinalign.events.say; assert not {'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_of_a_sentence_has_events_with_their_fields() -> None:
    event = parse("a person slowly waves three times with the left hand").events[0]
    assert event == Event("wave", side="left", count=3, part="hand", style="slowly")
