"""What the shipped model can do: the measured steps, in any words, and what is offered for one that it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinalign.errors import ConfigError, PlanError
from kinalign.events.parse import parse
from kinalign.events.program import Event, EventProgram
from kinalign.pipeline import Generated
from kinalign.planning.repertoire import abilities, ability_of, knows, measured, nearest
from kinalign.recipes import repertoire as recipe


def test_the_program_of_every_step_is_what_its_text_says() -> None:
    for row in measured():
        assert parse(row.prompt) == row.program, row.text


def test_a_step_that_is_right_in_less_than_half_of_its_motions_is_no_ability() -> None:
    rows = {row.text: row for row in measured()}
    assert rows["walks slowly"].is_known and "walks slowly" in abilities()
    assert not rows["claps"].is_known and "claps" not in abilities()
    assert len(abilities()) >= 60


def test_a_measured_text_finds_its_own_row_and_no_other() -> None:
    for text, row in abilities().items():
        assert ability_of(f"A person {text}.") is row


@pytest.mark.parametrize(
    "said, known",
    [
        ("the old man strolls slowly", "walks slowly"),
        ("she walks", "walks for 4 seconds"),
        ("He kicks with his left foot.", "kicks with the left leg"),
        ("a dancer takes a bow", "bows"),
        ("he walks and turns left", "walks and turns left"),
    ],
)
def test_a_step_is_known_in_other_words(said: str, known: str) -> None:
    assert ability_of(said).text == known


def test_the_violin_is_refused_with_what_hands_can_do() -> None:
    with pytest.raises(PlanError, match=r"'she plays the violin' is nothing that the model can do; the nearest .*hand"):
        ability_of("she plays the violin")


@pytest.mark.parametrize(
    "said, near",
    [
        ("he jogs", "runs forward"),
        ("she sleeps", "lies down"),
        ("a boy waves", "waves with the right hand"),
        ("he raises the right knee", "kicks with the right leg"),
        ("a person jumps twice", "jumps"),
    ],
)
def test_what_is_offered_looks_like_what_was_asked(said: str, near: str) -> None:
    assert near in [row.text for row in nearest(said)]


def test_only_what_the_model_can_do_is_offered() -> None:
    for row in measured():
        assert all(offer.is_known for offer in nearest(row.text, 10)), row.text


@pytest.mark.parametrize("said", ["", "quantum flux", "il marche dans le jardin"])
def test_a_text_without_an_action_is_refused_as_that(said: str) -> None:
    assert nearest(said) == ()
    with pytest.raises(PlanError, match="names nothing that a body does; say one step"):
        ability_of(said)


def test_two_steps_in_one_are_to_be_given_one_by_one() -> None:
    with pytest.raises(PlanError, match="2 steps in one"):
        ability_of("he walks forward and then kicks")


def test_knowing_a_program_does_not_depend_on_the_name_of_the_limb() -> None:
    assert knows(EventProgram(((Event("kick", side="left", part="foot"),),)))
    assert not knows(EventProgram(((Event("kick", side="left", part="foot", count=9),),)))


class _Walker:
    """A model whose every motion is one real clip."""

    name = "walker"

    def __init__(self, motion: Any) -> None:
        self.motion, self.asked = motion, list[str]()

    def generate(self, prompts: list[str], *, num_candidates: int, seed: int) -> list[Generated]:
        self.asked += prompts
        return [Generated([self.motion] * num_candidates, 0) for _ in prompts]


def test_measuring_again_counts_right_motions_and_goes_on_where_it_was(
    openmocap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = next(clip.motion for clip in openmocap("test") if clip.captions[0].startswith("a person walks"))
    model = _Walker(walks)
    monkeypatch.setattr(recipe.TextToMotion, "from_pretrained", lambda folder: model)
    monkeypatch.setattr(recipe, "measured", lambda: measured()[:9])
    path = recipe.measure(recipe.Recipe(tmp_path, motions=16))
    rows = {row["text"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows["walks slowly"]["right"] == 1.0 and rows["dashes forward"]["right"] == 0.0
    assert rows["walks slowly"]["seconds"] == round(walks.duration_s, 1)

    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "rows": kept["rows"][:4]}))
    model.asked.clear()
    recipe.measure(recipe.Recipe(tmp_path, motions=16))
    assert model.asked == [row.prompt for row in measured()[4:9]]
    assert json.loads(path.read_text()) == kept
    with pytest.raises(ConfigError, match="another folder"):
        recipe.measure(recipe.Recipe(tmp_path, motions=4))
