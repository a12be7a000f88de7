"""How good an evaluator is, before it says anything of a generator: on real clips that it never saw.

Retrieval tells whether it knows what happens. Whether it knows in which order, on which side and how often is asked
with contrasts: two motions and two sentences that differ in that one thing. Every contrast is asked of both motions, so
that an evaluator which likes one of the sentences better whatever it sees gets half of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kinalign.data.mirror_text import mirror_caption
from kinalign.data.phrasings import meaning_of, plain_caption, verb_phrases
from kinalign.data.records import Clip
from kinalign.errors import EvaluationError
from kinalign.evaluation.contrasts import (
    count_of,
    in_a_row,
    order_contrast,
    side_contrast,
    with_count,
)
from kinalign.evaluation.metrics import RPrecision, r_precision
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D

POOL_SIZE = 32
POOL_DRAWS = 20
"""Random cuts into pools that R-precision is averaged over."""
LONGEST_EVENT = 120
"""Frames of a clip that is joined with others, so that a contrast stays near what people ask for: 6 s."""
ORDER_PAIRS = 100
MOST_TIMES = 3
TELLS = 0.8
"""An evaluator is called blind to what it gets right less often. Chance is 0.5, but contrasts resemble each other (many
hands are raised), so that luck repeats itself: an untrained evaluator got 0.77 of Bandai's sides right."""

GROUPS = {
    "CMU": "CMU + HDM05",
    "CMU8": "CMU + HDM05",
    "HDM05": "CMU + HDM05",
    "Bandai1": "Bandai-Namco",
    "Bandai2": "Bandai-Namco",
}
"""Sources that are reported together. Bandai's held-out takes resemble those of its train split closely."""
ALL = "all"


class Evaluator(Protocol):
    """What scores texts and motions: rows of numbers (N, D), near each other where they go together."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def encode_motion(self, motions: Sequence[Motion]) -> NDArray[np.float32]: ...


class Preference(NamedTuple):
    """How often the right sentence is nearer to a motion than the wrong one."""

    share: float
    """0.5 is chance."""
    num_contrasts: int
    """Pairs of motions, each asked both ways."""


@dataclass(frozen=True)
class GroupQuality:
    """What an evaluator is worth on the held-out clips of some sources; None where there are too few."""

    group: str
    num_pairs: int
    pools: RPrecision | None
    """In random pools of 32, texts against their own motions: the field's R-precision of real motions."""
    retrieval: RPrecision
    """Among all motions of the group; another clip with the very same words counts as found."""
    order: Preference | None
    side: Preference | None
    count: Preference | None


@dataclass(frozen=True)
class EncoderQuality:
    """What `quality` found, group by group; the last is all clips."""

    groups: tuple[GroupQuality, ...]

    def blind_to(self) -> tuple[str, ...]:
        """What it tells apart in a smaller share than TELLS over all clips, or was not asked about."""
        every = self.groups[-1]
        asked = {"order": every.order, "side": every.side, "count": every.count}
        return tuple(name for name, answer in asked.items() if answer is None or answer.share < TELLS)

    def markdown(self) -> str:
        """A table for the evaluator's card, and what it is blind to in words."""
        lines = [
            f"| clips | pairs | top-1 / 2 / 3 in pools of {POOL_SIZE} | top-1 / 2 / 3 of all "
            "| right order | right side | right count |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {row.group} | {row.num_pairs} | {_three(row.pools)} | {_three(row.retrieval)} | {_share(row.order)} | "
            f"{_share(row.side)} | {_share(row.count)} |"
            for row in self.groups
        ]
        blind = self.blind_to()
        verdict = (
            f"It is blind to {' and '.join(blind)}: right in less than {TELLS:.0%} over all clips, or no clips to ask "
            "with. Its numbers say nothing about that."
            if blind
            else f"It tells order, side and count apart: right in {TELLS:.0%} or more over all clips."
        )
        return "\n".join([*lines, "", verdict, ""])


def quality(encoder: Evaluator, clips: Sequence[Clip], *, seed: int = 0) -> EncoderQuality:
    """What the evaluator knows about held-out clips, by group of sources and over all.

    Raises EvaluationError for fewer clips with words than one pool of 32.
    """
    told = [clip for part in clips for clip in part.by_captions() if clip.captions and len(clip.motion) > 1]
    if len(told) < POOL_SIZE:
        raise EvaluationError(
            f"an evaluator is examined on {POOL_SIZE} clips with words or more; there are {len(told)}: "
            "use a larger split"
        )
    rng = np.random.default_rng(seed)
    captions = [plain_caption(clip, rng) for clip in told]
    text, motion = encoder.encode_text(captions), encoder.encode_motion([clip.motion for clip in told])

    def of_group(name: str, places: list[int]) -> GroupQuality:
        clips, words = [told[place] for place in places], [captions[place] for place in places]
        contrasts = (_order_contrasts(clips, rng), _side_contrasts(clips, words), _count_contrasts(clips))
        order, side, count = (preference(encoder, asked) if asked else None for asked in contrasts)
        said, done = text[places], motion[places]
        pools = _pools(said, done, rng) if len(places) >= POOL_SIZE else None
        return GroupQuality(name, len(places), pools, retrieval(said, done, words), order, side, count)

    by_group: dict[str, list[int]] = {}
    for place, clip in enumerate(told):
        by_group.setdefault(GROUPS.get(clip.source, clip.source), []).append(place)
    parts = by_group if len(by_group) > 1 else {}
    return EncoderQuality(tuple(of_group(*part) for part in [*parts.items(), (ALL, list(range(len(told))))]))


def _pools(text: NDArray[np.float32], motion: NDArray[np.float32], rng: np.random.Generator) -> RPrecision:
    draws = [r_precision(text, motion, rng=rng, pool_size=POOL_SIZE) for _ in range(POOL_DRAWS)]
    return RPrecision(*np.mean(draws, axis=0).tolist())


def retrieval(text: NDArray[np.float32], motion: NDArray[np.float32], captions: Sequence[str]) -> RPrecision:
    """How often a motion with a text's own words is among the 1, 2, 3 nearest of all, by the product of (N, D).

    What is equally near counts as nearer: an encoder that says the same of everything finds nothing.
    """
    words = np.array([caption.lower().strip(" .") for caption in captions])
    similar = text @ motion.T
    is_right = words[:, None] == words
    best = np.where(is_right, similar, -np.inf).max(axis=1, keepdims=True)
    nearer = ((similar >= best) & ~is_right).sum(axis=1)
    return RPrecision(*(float((nearer < k).mean()) for k in (1, 2, 3)))


class Contrast(NamedTuple):
    """Two motions and the sentence that is true of each, and false of the other."""

    motions: tuple[Motion, Motion]
    texts: tuple[str, str]


def preference(encoder: Evaluator, contrasts: Sequence[Contrast]) -> Preference:
    """How often a motion's own sentence is nearer to it than the other motion's; equally near counts half."""
    shape = (len(contrasts), 2, -1)
    motion = encoder.encode_motion([motion for contrast in contrasts for motion in contrast.motions]).reshape(shape)
    text = encoder.encode_text([text for contrast in contrasts for text in contrast.texts]).reshape(shape)
    distance = np.linalg.norm(motion[:, :, None] - text[:, None], axis=-1)  # (N, 2, 2) of motion i and text j
    own, other = distance[:, [0, 1], [0, 1]], distance[:, [0, 1], [1, 0]]
    return Preference(float(((own < other) + 0.5 * (own == other)).mean()), len(contrasts))


def _order_contrasts(clips: Sequence[Clip], rng: np.random.Generator) -> list[Contrast]:
    """Two different events of held-out clips in a row, both ways; of those that begin and end upright."""
    events = []
    for clip in clips:
        meaning = meaning_of(clip)
        if meaning is not None and len(meaning.actions) == 1 and (event := _as_event(clip)) is not None:
            events.append((meaning, event))
    by_kind: dict[tuple[object, object], list[int]] = {}
    for place, (meaning, _) in enumerate(events):
        by_kind.setdefault((meaning.actions, meaning.sides), []).append(place)
    kinds = list(by_kind.values())
    if len(kinds) < 2:
        return []
    contrasts = []
    for _ in range(ORDER_PAIRS):
        chosen = [kinds[kind] for kind in rng.choice(len(kinds), 2, replace=False)]
        (a, first), (b, second) = (events[places[rng.integers(len(places))]] for places in chosen)
        (does, then) = (verb_phrases(meaning, rng)[0] for meaning in (a, b))
        texts = order_contrast(does, then, rng)
        contrasts.append(Contrast((in_a_row([first, second]), in_a_row([second, first])), texts))
    return contrasts


def _as_event(clip: Clip) -> Motion | None:
    """The clip as something that others can stand before and after; None where it is too long, or does not stand.

    Only clips of HumanML3D's skeleton can be joined.
    """
    if clip.motion.skeleton.num_joints != HUMANML3D.num_joints:
        return None
    motion = uniform(clip.motion)
    fits = len(motion) <= LONGEST_EVENT and is_upright(motion, 0) and is_upright(motion, -1)
    return motion if fits else None


def _side_contrasts(clips: Sequence[Clip], captions: Sequence[str]) -> list[Contrast]:
    """A clip whose caption names a side, and its mirror image."""
    return [
        Contrast((clip.motion, clip.motion.mirror()), (caption, mirror_caption(caption)))
        for clip, caption in zip(clips, captions)
        if side_contrast(caption)
    ]


def _count_contrasts(clips: Sequence[Clip]) -> list[Contrast]:
    """A clip in which something happens once, in a row: once against twice and twice against three times."""
    contrasts = []
    for clip in clips:
        caption = next((caption for caption in clip.captions if count_of(caption) == 1), None)
        if caption is None or (once := _as_event(clip)) is None:
            continue
        motions = [in_a_row([once] * times) for times in range(1, MOST_TIMES + 1)]
        texts = [with_count(caption, times) for times in range(1, MOST_TIMES + 1)]
        contrasts += [
            Contrast((motions[times], motions[times + 1]), (texts[times], texts[times + 1]))
            for times in range(MOST_TIMES - 1)
        ]
    return contrasts


def _three(value: RPrecision | None) -> str:
    return "–" if value is None else f"{value.top1:.2f} / {value.top2:.2f} / {value.top3:.2f}"


def _share(value: Preference | None) -> str:
    return "–" if value is None else f"{value.share:.2f} ({value.num_contrasts})"
