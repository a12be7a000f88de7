"""Phrasings are true, grammatical, many and fast, and never use the words kept to measure unseen wordings."""

from __future__ import annotations

import json
import re
import time
from importlib.resources import files

import numpy as np
import pytest

from kinalign.data import phrasings
from kinalign.data.mirror_text import mirror_caption
from kinalign.data.phrasings import all_actions, meaning_of, parse, phrase, spoken_words
from kinalign.data.records import Clip
from kinalign.english import inflect
from kinalign.errors import DataError
from kinalign.motion.motion import Motion

MOTION = Motion(np.zeros((1, 22, 3)))
PROMPTS = json.loads(files("kinalign.recipes").joinpath("gallery_prompts.json").read_text(encoding="utf-8"))


def clip(source: str, label: str = "", *captions: str, style: str = "", id: str = "x") -> Clip:
    return Clip(id, MOTION, captions, source, "", "train", label=label, style=style)


def sentences(of: Clip, number: int = 400, *, mirrored: bool = False, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [phrase(of, rng, mirrored=mirrored).lower() for _ in range(number)]


SIDED = {
    ("Bandai1", "walk-left"): "left",
    ("Bandai2", "walk-turn-right"): "right",
    ("Bandai2", "raise-up-left-hand"): "left",
    ("Bandai2", "wave-right-hand"): "right",
    ("HDM05", "kickLFront1Reps"): "left",
    ("HDM05", "grabHighR"): "right",
    ("HDM05", "depositFloorR"): "right",
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("source, label", SIDED)
def test_a_clip_with_a_side_is_always_told_with_that_side_and_its_mirror_image_with_the_other(source, label, mirrored):
    right_one = (SIDED[source, label] == "right") != mirrored
    said, unsaid = ("right", "left") if right_one else ("left", "right")
    for text in sentences(clip(source, label), mirrored=mirrored):
        assert re.search(rf"\b{said}", text), text
        assert not re.search(rf"\b{unsaid}", text), text


def test_elbow_and_knee_are_of_opposite_sides():
    for text in sentences(clip("HDM05", "elbowToKnee1RepsLelbowStart"), mirrored=True):
        text = re.sub(r"[^a-z ]|\b(their|the|his|her|your) ", "", text)
        assert "left elbow" not in text and "right knee" not in text, text


@pytest.mark.parametrize("label", ["walk", "run", "bow"])
def test_actions_without_a_side_never_name_one(label):
    assert not any(re.search(r"\b(left|right)", text) for text in sentences(clip("Bandai1", label, style="sad")))


def test_walking_backward_is_never_told_as_forward(monkeypatch):
    monkeypatch.setattr("kinalign.data.phrasings.TYPO_SHARE", 0)  # "faicng forward"
    for text in sentences(clip("Bandai1", "walk-back")):
        # facing forward while going backward is the one true use of the word
        assert "forward" not in text or re.search("(facing|eyes) (the )?(forward|front)", text), text


SINGLE = [
    clip("HDM05", "squat1Reps"),
    clip("HDM05", "hopBothLegs1hops"),
    clip("CMU", "", "a person punches once with the left fist"),
    clip("CMU", "", "a person kicks to the side once with the right leg"),
]


@pytest.mark.parametrize("one", SINGLE, ids=lambda one: one.label or one.captions[0])
def test_a_single_event_is_never_counted_as_more(one):
    for text in sentences(one):
        assert not re.search(r"\b(twice|two|three|several|times|again and again)\b", text), text


def test_a_styled_clip_always_tells_its_style():
    plain = {text.rstrip(".") for text in sentences(clip("Bandai2", "run", style="normal"), 4000)}
    assert not plain & {text.rstrip(".") for text in sentences(clip("Bandai2", "run", style="exhausted"), 1000)}


def test_a_mirrored_caption_is_the_caption_with_sides_changed():
    unknown = clip("Elsewhere", "", "She turns left")
    assert sentences(unknown, 1, mirrored=True) == [mirror_caption("she turns left")]


def test_a_quarter_of_the_sentences_are_the_captions_word_for_word():
    own = "someone folds in the middle"
    texts = sentences(clip("HDM05", "squat1Reps", own), 2000)
    assert 0.2 < np.mean([text == own for text in texts]) < 0.3


def test_captions_that_the_motion_belies_are_never_used():
    texts = sentences(clip("Bandai1", "byebye", "a person waves bye-bye with a hand"))
    assert not any("with a hand" in text for text in texts)


def test_two_events_are_told_in_their_order():
    both = clip("CMU", "", "a person claps and then walks")
    meaning = meaning_of(both)
    assert meaning is not None and meaning.actions == ("clap", "walk")
    told = [text for text in sentences(both) if "clap" in text and "walk" in text]
    assert len(told) > 100 and all(text.index("clap") < text.index("walk") for text in told)


def test_a_clip_without_caption_and_known_label_is_refused():
    with pytest.raises(DataError, match="no caption"):
        phrase(clip("Elsewhere", "thing"), np.random.default_rng(0))


def test_the_same_seed_draws_the_same_sentences():
    assert sentences(clip("Bandai1", "bow"), 50, seed=3) == sentences(clip("Bandai1", "bow"), 50, seed=3)


@pytest.mark.parametrize("source, label", [("Bandai2", "walk"), ("Bandai2", "wave-left-hand"), ("HDM05", "squat1Reps")])
def test_frequent_actions_have_over_a_thousand_sentences(source, label):
    assert len({text.rstrip(".") for text in sentences(clip(source, label), 2500)}) > 1000


def test_sentences_hold_only_words_that_are_listed():
    known = spoken_words()
    unlisted = [
        text
        for key in ("Bandai1/bow", "Bandai2/walk", "HDM05/grabHighR", "HDM05/lieDownFloor")
        for text in sentences(clip(*key.split("/"), style="old"), 500)
        if set(re.findall("[a-z]+", text)) - known
    ]
    assert len(unlisted) < 2000 * 2 * phrasings.TYPO_SHARE  # two swapped letters now and then


@pytest.mark.parametrize(
    "article",
    [r"\ban? an?\b", r"\ba (a|e|i)\w", r"\ban (?!heir|mma|nba)[^aeiou]", r"[{}|*()@]", r"  ", r"\bthey (is|walks)\b"],
)
def test_sentences_are_clean(article):
    for label in ("walk", "walk-left", "bow", "guide", "bye"):
        for text in sentences(clip("Bandai1", label, style="elderly"), 300):
            assert not re.search(article, text), text


# --- words that training never speaks -----------------------------------------------------------------------------


def inflections(word: str) -> set[str]:
    verb = inflect(word)
    return {verb.base, verb.third, verb.ing, verb.past, f"{word}{word[-1]}ing", f"{word}{word[-1]}ed"}


HELD_OUT = {word: row["id"] for row in PROMPTS["gallery"] for word in row.get("held_out", ())}


def test_held_out_words_are_in_no_phrasing():
    spoken = spoken_words()
    assert {word: HELD_OUT[word] for word in HELD_OUT if inflections(word) & spoken} == {}


def test_held_out_words_are_in_no_caption_of_the_data(openmocap):
    captions = {caption for split in ("train", "val", "test") for one in openmocap(split) for caption in one.captions}
    spoken = {word for caption in captions for word in re.findall("[a-z]+", caption.lower())}
    assert {word: HELD_OUT[word] for word in HELD_OUT if inflections(word) & spoken} == {}


def test_gallery_is_twenty_known_and_twenty_unknown_wordings_and_dev_shares_no_word_with_it():
    assert [row["wording"] for row in PROMPTS["gallery"]] == ["data"] * 20 + ["held-out"] * 20
    assert len({row["id"] for row in PROMPTS["gallery"] + PROMPTS["dev"]}) == 40 + len(PROMPTS["dev"])
    gallery, dev = ({word for row in PROMPTS[name] for word in row.get("held_out", ())} for name in ("gallery", "dev"))
    assert not gallery & dev
    for row in PROMPTS["gallery"] + PROMPTS["dev"]:
        assert row["see"]["action"]
        for word in row.get("held_out", ()):
            assert inflections(word) & set(re.findall("[a-z]+", row["prompt"])), (word, row["prompt"])
    assert all(row.get("held_out") for row in PROMPTS["gallery"][20:] + PROMPTS["dev"])


# --- the language itself ------------------------------------------------------------------------------------------


def test_every_clip_of_the_data_is_known(openmocap):
    clips = [one for split in ("train", "val", "test") for one in openmocap(split)]
    assert len(clips) > 3000 and {one.captions[0] for one in clips if meaning_of(one) is None} == set()
    assert {one.style for one in clips} - set(phrasings.load_language().styles) <= {""}


def test_every_action_is_some_clips():
    used = {action for meaning in phrasings.load_language().clips.values() for action in meaning.actions}
    assert used == set(all_actions())


@pytest.mark.parametrize(
    "base, third, ing, past",
    [
        ("walk", "walks", "walking", "walked"),
        ("jog", "jogs", "jogging", "jogged"),
        ("lie", "lies", "lying", "lay"),
        ("carry", "carries", "carrying", "carried"),
        ("sway", "sways", "swaying", "swayed"),
        ("punch", "punches", "punching", "punched"),
        ("throw", "throws", "throwing", "threw"),
        ("tiptoe", "tiptoes", "tiptoeing", "tiptoed"),
        ("go", "goes", "going", "went"),
    ],
)
def test_verbs_are_inflected_as_in_english(base, third, ing, past):
    verb = inflect(base)
    assert (verb.base, verb.third, verb.ing, verb.past) == (base, third, ing, past)


@pytest.mark.parametrize("text", ["*walk (fast", "walk fast)", "walk | run", "{walk", "walk * fast"])
def test_a_broken_pattern_is_refused(text):
    with pytest.raises(DataError, match="pattern"):
        parse(text)


def test_a_sentence_takes_well_under_a_tenth_of_a_millisecond():
    one = clip("Bandai1", "guide", "a person points", style="proud")
    sentences(one, 100)
    best = min(_seconds(one) for _ in range(5)) / 500
    assert best < 1e-4, f"{best * 1e6:.0f} microseconds"


def _seconds(one: Clip) -> float:
    start = time.perf_counter()
    sentences(one, 500)
    return time.perf_counter() - start
