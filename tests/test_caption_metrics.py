"""BLEU, ROUGE-L and CIDEr against numbers worked out by hand and, where it is installed, against pycocoevalcap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from kinalign.errors import EvaluationError
from kinalign.evaluation.captions import base_words, bert_score, bleu, cider, rouge_l, words

TINY = 1e-8  # pycocoevalcap's 1e-9 under each precision


def test_words_lose_case_and_punctuation_only() -> None:
    assert words("A person walks, then STOPS.") == ["a", "person", "walks", "then", "stops"]
    assert (
        words("the man\u2019s left-hand 'wave' (twice) - quickly!") == "the man's left-hand wave twice quickly".split()
    )
    assert words("turns 360 degrees") == ["turns", "360", "degrees"]
    assert words(" ... ") == []


# --- BLEU


def test_clipping_counts_a_word_as_often_as_one_reference_has_it() -> None:
    # Papineni's own example: 2 of 7, no bigram
    scores = bleu(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    assert scores.bleu_1 == pytest.approx(2 / 7, rel=TINY)
    assert scores.bleu_2 == pytest.approx(0, abs=1e-6)


def test_bleu_worked_by_hand() -> None:
    # unigrams a, person, walks, forward of 5; bigrams "a person", "person walks" of 4; trigram "a person walks" of 3
    scores = bleu(["a person walks quickly forward"], [["a person walks slowly forward", "he goes"]])
    assert scores.bleu_1 == pytest.approx(4 / 5, rel=TINY)
    assert scores.bleu_2 == pytest.approx((4 / 5 * 2 / 4) ** (1 / 2), rel=TINY)
    assert scores.bleu_3 == pytest.approx((4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), rel=TINY)
    assert scores.bleu_4 == pytest.approx(0, abs=1e-3)


def test_bleu_is_counted_over_the_corpus_not_averaged_over_captions() -> None:
    scores = bleu(["a b", "c d e f"], [["a x"], ["c d e f"]])
    assert scores.bleu_1 == pytest.approx(5 / 6, rel=TINY)
    assert scores.bleu_2 == pytest.approx((5 / 6 * 3 / 4) ** 0.5, rel=TINY)


def test_a_short_caption_pays_by_the_reference_nearest_in_length() -> None:
    references = [["a person walks forward and stops", "a person walks slowly"]]
    assert bleu(["a person walks"], references).bleu_1 == pytest.approx(math.exp(1 - 4 / 3), rel=1e-7)
    # of two as near, the shorter: no penalty
    assert bleu(["a person walks"], [["a person", "a person walks forward"]]).bleu_1 == pytest.approx(1, rel=TINY)
    assert bleu(["a person walks a b c"], [["a person walks"]]).bleu_1 == pytest.approx(3 / 6, rel=TINY)


# --- ROUGE-L


def test_rouge_worked_by_hand() -> None:
    # "a person forward" of 5 and of 4 words
    precision, recall = 3 / 5, 3 / 4
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(["a person runs quickly forward"], [["a person walks forward"]]) == pytest.approx(expected)


def test_rouge_takes_the_best_precision_and_the_best_recall_of_all_references() -> None:
    precision, recall = 3 / 4, 2 / 2  # of the first reference, of the second
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(["a person waves hello"], [["a person waves with one hand", "a person"]]) == pytest.approx(expected)


def test_rouge_minds_the_order_of_words_but_not_the_gaps() -> None:
    assert rouge_l(["walks then jumps"], [["jumps then walks"]]) < rouge_l(["walks then jumps"], [["walks and jumps"]])
    assert rouge_l(["x y"], [["a b"]]) == 0


# --- CIDEr


def test_cider_of_captions_that_match_is_ten() -> None:
    captions = ["a person walks forward slowly", "someone jumps up and down"]
    assert cider(captions, [[caption] for caption in captions]) == pytest.approx(10)
    # a caption of two words has no 3-grams and 4-grams: half of the four cosines are 0
    assert cider(["walks forward", "jumps up"], [["walks forward"], ["jumps up"]]) == pytest.approx(5)


def test_cider_gives_words_that_all_motions_have_no_weight() -> None:
    assert cider(["person", "person"], [["person walks"], ["person jumps"]]) == 0


def test_cider_worked_by_hand() -> None:
    # two motions; idf is log 2 for what one has, 0 for "a", which both have, and log 2 for what no reference has
    candidates, references = ["a walks walks", "jumps"], [["a walks", "runs a"], ["a jumps"]]
    # motion 0, reference 0. n = 1: (a: 0, walks: 2) and (a: 0, walks: 1) in units of log 2, clipped to 1·1 / (2·1);
    # n = 2: {a walks, walks walks} and {a walks}: 1 / (√2·1). Bigrams 2 and 1: penalty exp(-1/72).
    first = math.exp(-1 / 72) * (1 / 2 + 1 / math.sqrt(2)) / 4
    # reference 1 shares "a" alone; motion 1: jumps on (a: 0, jumps: 1), lengths 0 and 1
    second = math.exp(-1 / 72) * 1 / 4
    assert cider(candidates, references) == pytest.approx(10 * ((first + 0) / 2 + second) / 2)


def test_cider_prefers_the_rare_word() -> None:
    references = [["a person walks"], ["a person walks"], ["a person walks"], ["a person somersaults"]]
    right = ["x walks", "x walks", "x walks", "x somersaults"]
    common, rare = right.copy(), right.copy()
    common[0], rare[3] = "x", "x"
    assert cider(right, references) - cider(rare, references) > cider(right, references) - cider(common, references) > 0


# --- All three


@pytest.fixture
def corpus() -> tuple[list[str], list[list[str]]]:
    """Random sentences over 25 words, three references a motion, of which candidates share a part."""
    rng = np.random.default_rng(0)
    vocabulary = (
        "a person man the walks runs jumps turns then and left right arm leg slowly forward back up down".split()
    )

    def sentence() -> list[str]:
        return list(rng.choice(vocabulary, size=rng.integers(1, 14)))

    candidates, references = [], []
    for _ in range(40):
        group = [sentence() for _ in range(3)]
        mine = [word if rng.random() < 0.7 else str(rng.choice(vocabulary)) for word in group[0]]
        candidates.append(" ".join(mine + sentence()[:2]))
        references.append([" ".join(reference) for reference in group])
    return candidates, references


SAID = [
    "a person walks forward and then turns left",
    "someone waves with the right hand twice",
    "a man jumps",
    "the person slowly sits down on the floor",
    "a person kicks with the left leg then walks back",
]
PEOPLE = [
    ["a person walks forward then turns to the left", "someone walks and turns left", "a man is walking forward"],
    ["a person waves the right hand", "waving twice with the right hand", "someone waves hello with one hand"],
    ["a man jumps up and down", "the person jumps", "a person jumps in place"],
    ["a person sits down", "the man slowly sits on the floor", "someone sits down on the ground slowly"],
    ["someone kicks with the right leg", "a person kicks twice and walks back", "a man kicks then steps back"],
]
OF_PYCOCOEVALCAP_1_2 = {
    "BLEU-1": 0.9722222221952161,
    "BLEU-2": 0.8115430675559338,
    "BLEU-3": 0.6327273373712865,
    "BLEU-4": 0.43615207111273396,
    "ROUGE-L": 0.6998674696159325,
    "CIDEr": 2.709977407926835,
}
"""What that release gives for them, so that the numbers hold where it is not installed."""


def test_scores_are_those_that_pycocoevalcap_gave() -> None:
    found = [*bleu(SAID, PEOPLE), rouge_l(SAID, PEOPLE), cider(SAID, PEOPLE)]
    assert found == pytest.approx(list(OF_PYCOCOEVALCAP_1_2.values()), rel=1e-6)


def test_scores_equal_pycocoevalcap(corpus: tuple[list[str], list[list[str]]]) -> None:
    reason = "pycocoevalcap is not installed; hand-worked examples hold the definitions"
    coco_bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason=reason)
    coco_rouge = pytest.importorskip("pycocoevalcap.rouge.rouge", reason=reason)
    coco_cider = pytest.importorskip("pycocoevalcap.cider.cider", reason=reason)
    candidates, references = corpus
    given, truth = {i: [c] for i, c in enumerate(candidates)}, dict(enumerate(references))
    assert bleu(candidates, references) == pytest.approx(coco_bleu.Bleu(4).compute_score(truth, given)[0], rel=1e-6)
    assert rouge_l(candidates, references) == pytest.approx(coco_rouge.Rouge().compute_score(truth, given)[0], rel=1e-6)
    assert cider(candidates, references) == pytest.approx(coco_cider.Cider().compute_score(truth, given)[0], rel=1e-6)


def test_people_who_repeat_a_reference_score_best(corpus: tuple[list[str], list[list[str]]]) -> None:
    candidates, references = corpus
    repeated = [group[0] for group in references]
    assert bleu(repeated, references) == pytest.approx((1, 1, 1, 1), rel=TINY)
    assert rouge_l(repeated, references) == pytest.approx(1)
    for score in (
        lambda c: bleu(c, references).bleu_4,
        lambda c: rouge_l(c, references),
        lambda c: cider(c, references),
    ):
        assert score(repeated) > score(candidates) > score(repeated[1:] + repeated[:1])


def test_the_order_of_motions_and_of_references_does_not_matter(corpus: tuple[list[str], list[list[str]]]) -> None:
    candidates, references = corpus
    turned = [list(reversed(group)) for group in reversed(references)]
    for score in (bleu, rouge_l, cider):
        assert score(candidates[::-1], turned) == pytest.approx(score(candidates, references))  # type: ignore[operator]


def test_capitals_and_full_stops_change_nothing(corpus: tuple[list[str], list[list[str]]]) -> None:
    candidates, references = corpus
    written = [f"{caption.capitalize()}." for caption in candidates]
    for score in (bleu, rouge_l, cider):
        assert score(written, references) == score(candidates, references)  # type: ignore[operator]


# --- Processed captions


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("walk", "walk walks walked walking"),
        ("raise", "raise raises raised raising"),
        ("step", "step steps stepped stepping"),
        ("carry", "carry carries carried carrying"),
        ("crouch", "crouch crouches crouched crouching"),
        ("rotate", "rotate rotates rotated rotating"),
        ("repeat", "repeat repeats repeated repeating"),
        ("stumble", "stumble stumbles stumbled stumbling"),
        ("crawl", "crawl crawls crawled crawling"),
        ("dance", "dance dances danced dancing"),
        ("wave", "wave waves waved waving"),
        ("lunge", "lunge lunges lunged lunging"),
        ("swing", "swing swings swung swinging"),
        ("cross", "cross crosses crossed crossing"),
        ("box", "box boxes boxed boxing"),
        ("jog", "jog jogs jogged jogging"),
        ("shake", "shake shakes shook shaking"),
        ("kneel", "kneel kneels knelt kneeling"),
        ("slide", "slide slides sliding"),
        ("run", "run runs ran running"),
        ("sit", "sit sits sat sitting"),
        ("lie", "lie lies lying"),
        ("do", "do does did doing"),
        ("go", "go goes went going"),
        ("throw", "throw throws threw throwing"),
        ("try", "try tries tried trying"),
        ("gesture", "gesture gestures gestured gesturing"),
        ("avoid", "avoid avoids avoided avoiding"),
        ("kick", "kick kicks kicked kicking"),
        ("fall", "fall falls fell falling"),
        ("foot", "foot feet"),
        ("toe", "toe toes"),
        ("hand", "hand hands"),
        ("man", "man men"),
    ],
)
def test_forms_of_one_word_are_processed_to_its_base(base: str, forms: str) -> None:
    assert base_words(forms) == [base] * len(forms.split())


def test_words_that_only_look_like_forms_are_kept() -> None:
    kept = (
        "left his this is was as across always towards backwards sideways bring king bed red need speed during nothing"
    )
    assert base_words(kept) == kept.split()


def test_processing_what_is_processed_changes_nothing() -> None:
    text = "a person is walking sideways, raising both hands and feet, then carries something, dancing and waving"
    processed = base_words(text)
    assert base_words(" ".join(processed)) == processed


def test_processed_words_are_letters_only_with_hyphens_closed() -> None:
    assert base_words("the man's counter-clockwise turn: 360\u00b0, he doesn't stop.") == (
        "the man counterclockwise turn he do stop".split()
    )


def test_a_tense_counts_against_raw_references_and_not_against_processed_ones() -> None:
    candidates, references = ["a man is walking forwards"], [["A man walks forwards."]]
    assert bleu(candidates, references, tokens=base_words).bleu_1 > bleu(candidates, references).bleu_1
    assert rouge_l(["he raised his hands"], [["he raises his hand"]], tokens=base_words) == pytest.approx(1)
    assert cider(["he waved", "he ran"], [["he waves"], ["he runs"]], tokens=base_words) > 0


# --- BERTScore

LETTERS = np.eye(26)


def one_hot(sentences: Sequence[str]) -> list[np.ndarray]:
    """A word is its first letter."""
    return [2.0 * np.stack([LETTERS[ord(word[0]) - 97] for word in sentence.split()]) for sentence in sentences]


def test_bert_score_matches_each_word_with_the_nearest() -> None:
    assert bert_score(["a b c"], [["c a b"]], embed=one_hot) == pytest.approx(1)
    assert bert_score(["a b"], [["a"]], embed=one_hot) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert bert_score(["a b"], [["c", "b a"]], embed=one_hot) == pytest.approx(1)  # the best reference counts
    assert bert_score(["a b", "a b"], [["a"], ["a b"]], embed=one_hot) == pytest.approx(5 / 6)


# --- Bad input


@pytest.mark.parametrize("score", [bleu, rouge_l, cider])
def test_captions_that_cannot_be_scored_are_refused(score) -> None:  # type: ignore[no-untyped-def]
    good, references = ["a person walks", "a person runs"], [["a man walks"], ["a man runs"]]
    for empty in ("", " ... !", "3 2 1"):
        with pytest.raises(EvaluationError, match=r"the caption of motion 1 .* has no words; leave that motion out"):
            score([good[0], empty], references)
        with pytest.raises(EvaluationError, match=r"reference 1 of motion 0 .* has no words"):
            score(good, [["a man walks", empty], references[1]])
    with pytest.raises(EvaluationError, match="2 captions and references of 1 motions do not match"):
        score(good, references[:1])
    with pytest.raises(EvaluationError, match=r"references of motion 1 are \[\]; give a list of 1 caption or more"):
        score(good, [references[0], []])
    with pytest.raises(EvaluationError, match="references of motion 0 are 'a man walks'; give a list"):
        score(good, ["a man walks", "a man runs"])
    with pytest.raises(EvaluationError, match="no captions to score"):
        score([], [])


def test_cider_needs_more_than_one_motion() -> None:
    with pytest.raises(EvaluationError, match="1 motion is no corpus, give 2"):
        cider(["a person walks"], [["a person walks"]])
