"""Train a TextMotionEncoder: real clips with many true sentences each, and sentences that are wrong in one thing only.

The loss is TMR's (arXiv 2305.00976, section 3.2): InfoNCE both ways over a batch, without the negatives whose captions
say nearly the same. To it come hard negatives that are never filtered, because a sentence vector hardly sees them: the
same words with two events, left and right, or the count exchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kinalign.data.mirror_text import mirror_caption
from kinalign.data.phrasings import Meaning, meaning_of, phrase, verb_phrases
from kinalign.data.records import Clip
from kinalign.errors import ConfigError, DataError
from kinalign.evaluation.contrasts import (
    COUNTS,
    count_of,
    in_a_row,
    order_contrast,
    side_contrast,
    with_count,
)
from kinalign.evaluation.encoder import EncoderConfig, TextBackbone, TextMotionEncoder, evaluator_features
from kinalign.events.program import OPPOSITE
from kinalign.motion.features import FeatureStats
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, Skeleton, skeleton_for
from kinalign.run import RunFolder, progress
from kinalign.training import Draw, Optimization, optimize


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of an evaluator's training."""

    network: EncoderConfig = field(default_factory=EncoderConfig)
    optimization: Optimization = field(
        default_factory=lambda: Optimization(steps=1200, learning_rate=3e-4, warmup_steps=100, betas=(0.9, 0.98))
    )
    batch_size: int = 64
    """Motions of a batch, each with one true sentence."""
    max_frames: int = 400
    """Longest motion learned from; a longer clip gives a random part of this length."""
    near_same: float = 0.8
    """Texts whose sentence vectors have a higher cosine than this are no negatives of each other (TMR)."""
    balance: float = 0.5
    """How far rare labels are drawn more often: 0 by clips, 1 every label equally."""
    joined_share: float = 0.25
    """Share of motions that are two clips one after the other."""
    repeated_share: float = 0.1
    """Share of motions that are one clip, said to happen once, several times in a row."""

    def __post_init__(self) -> None:
        for name in ("near_same", "balance", "joined_share", "repeated_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be in [0, 1] (--{name.replace('_', '-')})")
        if self.joined_share + self.repeated_share > 1:
            raise ConfigError(
                f"joined_share={self.joined_share} and repeated_share={self.repeated_share} are more than the whole "
                "(--joined-share)"
            )
        if self.batch_size < 2:
            raise ConfigError(f"batch_size={self.batch_size} leaves nothing to contrast; use 2 or more (--batch-size)")
        if self.max_frames < 2:
            raise ConfigError(f"max_frames={self.max_frames} must be 2 or more (--max-frames)")


class Example(NamedTuple):
    """A motion, a true sentence, false ones, and what happens, equal where two motions are told by the same words."""

    rows: NDArray[np.float32]
    """Features (T, F), not normalised."""
    text: str
    wrong: tuple[str, ...]
    happens: Hashable


class Event(NamedTuple):
    """A clip of one action: what, on which side, and the clip's place."""

    meaning: Meaning
    clip: int


class Events(NamedTuple):
    """Clips that can stand before or after another one, how often each is drawn, and a number for what happens."""

    clips: list[Event]
    as_first: np.ndarray
    """Weights; 0 where the body lies or sits at the end, so that nothing can follow."""
    as_second: np.ndarray
    kind: np.ndarray


class ContrastSampler:
    """Draws examples: single clips and their mirror images, two clips joined, one clip repeated.

    KIT's clips are not joined or repeated: what is known of bodies that stand is known of HumanML3D's.
    """

    def __init__(self, clips: Sequence[Clip], config: EncoderTraining) -> None:
        self.config = config
        self.clips = [part for clip in clips for part in clip.by_captions() if _is_told(part) and len(part.motion) > 1]
        if not self.clips:
            raise DataError(f"none of {len(clips)} clips has words and 2 frames; there is nothing to train on")
        self.skeleton = skeleton_for(config.network.num_joints)
        with progress("features", total=len(self.clips)) as advance:
            self.motions: list[Motion] = []
            self.rows: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
            for clip in self.clips:
                motion = _prepared(clip.motion, self.skeleton)
                self.motions.append(motion)
                self.rows.append((self.features(motion), self.features(motion.mirror())))
                advance()
        self.weight = self._weight(range(len(self.clips)))
        self.events = self._find_events()
        self.once = [
            place
            for place, clip in enumerate(self.clips)
            if self._can_be_joined(place) and any(count_of(text) == 1 for text in clip.captions)
        ]
        self.once_weight = self._weight(self.once)

    @property
    def stats(self) -> FeatureStats:
        """Statistics of all frames; mirrored ones are left out, so that each frame counts once."""
        return FeatureStats.of(np.concatenate([rows for rows, _ in self.rows]))

    def features(self, motion: Motion) -> NDArray[np.float32]:
        """Features (T - 1, F) as the evaluator reads them."""
        return evaluator_features(motion, self.skeleton)

    def _weight(self, places: Sequence[int]) -> np.ndarray:
        kinds = [self.clips[place].label or (self.clips[place].captions or ("",))[0] for place in places]
        count = Counter(kinds)
        weight = np.array([count[kind] ** -self.config.balance for kind in kinds])
        return weight / weight.sum()

    def _can_be_joined(self, place: int) -> bool:
        """Whether the clip stands at both ends and two of its length fit into max_frames."""
        motion = self.motions[place]
        fits = self.skeleton is HUMANML3D and 2 * len(motion) <= self.config.max_frames
        return fits and is_upright(motion, 0) and is_upright(motion, -1)

    def _find_events(self) -> Events | None:
        """Clips of one known action, short enough to be joined; None where no two kinds of them stand at both ends."""
        events = [
            Event(meaning, place)
            for place, clip in enumerate(self.clips)
            if (meaning := meaning_of(clip)) is not None
            and len(meaning.actions) == 1
            and 2 * len(self.motions[place]) <= self.config.max_frames
        ]
        kinds = [(event.meaning.actions, event.meaning.sides) for event in events]
        number = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
        if len({kind for kind, event in zip(kinds, events) if self._can_be_joined(event.clip)}) < 2:
            return None
        weight = self._weight([event.clip for event in events])
        as_first, as_second = (
            weight * [is_upright(self.motions[event.clip], frame) for event in events] for frame in (-1, 0)
        )
        return Events(events, as_first / as_first.sum(), as_second, np.array([number[kind] for kind in kinds]))

    def draw(self, rng: np.random.Generator) -> list[Example]:
        """A batch; where no clip can be joined or repeated, single ones stand in."""
        examples = []
        for _ in range(self.config.batch_size):
            lot, mirrored = rng.random(), bool(rng.random() < 0.5)
            if lot < self.config.joined_share and self.events:
                examples.append(self._joined(self.events, rng, mirrored=mirrored))
            elif lot > 1 - self.config.repeated_share and self.once:
                examples.append(self._repeated(rng, mirrored=mirrored))
            else:
                examples.append(self._single(rng, mirrored=mirrored))
        return examples

    def _single(self, rng: np.random.Generator, *, mirrored: bool) -> Example:
        place = rng.choice(len(self.clips), p=self.weight)
        clip, rows = self.clips[place], self.rows[place][mirrored]
        start = int(rng.integers(0, max(0, len(rows) - self.config.max_frames) + 1))
        text = phrase(clip, rng, mirrored=mirrored)
        wrong = [side_contrast(text)]
        if (count := count_of(text)) is not None and count <= len(COUNTS):
            wrong.append(with_count(text, _another(count, rng)))
        return Example(
            rows[start : start + self.config.max_frames],
            text,
            tuple(other for other in wrong if other),
            _happens(clip, mirrored=mirrored),
        )

    def _joined(self, events: Events, rng: np.random.Generator, *, mirrored: bool) -> Example:
        first = int(rng.choice(len(events.clips), p=events.as_first))
        weight = events.as_second * (events.kind != events.kind[first])
        second = int(rng.choice(len(events.clips), p=weight / weight.sum()))
        pair = (events.clips[first], events.clips[second])
        motion = in_a_row([self.motions[event.clip] for event in pair])
        (a,), (b,) = (verb_phrases(event.meaning, rng, mirrored=mirrored) for event in pair)
        text, swapped = order_contrast(a, b, rng)
        wrong = (swapped, other) if (other := side_contrast(text)) else (swapped,)
        happens = tuple(_doing(event.meaning, mirrored=mirrored) for event in pair)
        return Example(self.features(motion.mirror() if mirrored else motion), text, wrong, happens)

    def _repeated(self, rng: np.random.Generator, *, mirrored: bool) -> Example:
        place = self.once[int(rng.choice(len(self.once), p=self.once_weight))]
        clip, motion = self.clips[place], self.motions[place]
        count = int(rng.integers(1, min(len(COUNTS), self.config.max_frames // len(motion)) + 1))
        text = phrase(clip, rng, mirrored=mirrored)
        if count_of(text) != 1:  # a wording that does not count; one of the clip's own captions does
            told = [caption for caption in clip.captions if count_of(caption) == 1]
            text = told[rng.integers(len(told))]
            text = mirror_caption(text) if mirrored else text
        text = with_count(text, count)
        wrong = (with_count(text, _another(count, rng)), side_contrast(text))
        happens = _happens(clip, mirrored=mirrored)
        motion = in_a_row([motion] * count)
        return Example(
            self.features(motion.mirror() if mirrored else motion),
            text,
            tuple(other for other in wrong if other),
            happens if count == 1 else (happens, count),
        )


def _prepared(motion: Motion, skeleton: Skeleton) -> Motion:
    """Ready to be joined with others, which only HumanML3D's skeleton can be."""
    return uniform(motion) if skeleton is HUMANML3D else motion.resample(skeleton.fps)


def _is_told(clip: Clip) -> bool:
    return bool(clip.captions) or meaning_of(clip) is not None


def _another(count: int, rng: np.random.Generator) -> int:
    """A count of 1 to 4 that is not this one."""
    other = int(rng.integers(1, len(COUNTS)))
    return other + (other >= count)


def _happens(clip: Clip, *, mirrored: bool) -> Hashable:
    """What the words of a clip say, for telling that two clips are told alike: action, side and style, or a caption."""
    meaning = meaning_of(clip)
    if meaning is None:
        return mirror_caption(clip.captions[0]) if mirrored else clip.captions[0]
    return _doing(meaning, mirrored=mirrored), "" if clip.style == "normal" else clip.style


def _doing(meaning: Meaning, *, mirrored: bool) -> Hashable:
    sides = tuple(OPPOSITE.get(side, side) for side in meaning.sides) if mirrored else meaning.sides
    return meaning.actions, sides


def near_same(sentences: Tensor, happens: Sequence[Hashable], *, threshold: float) -> Tensor:
    """(B, B) True where two texts are no negatives of each other: cosine above `threshold`, or the same happens.

    `sentences` (B, W) are sentence vectors. The first is TMR's filter; the second is ours, because one clip is told in
    wordings so different that their vectors are far apart. The diagonal is False.
    """
    unit = F.normalize(sentences, dim=-1)
    number = {what: place for place, what in enumerate(dict.fromkeys(happens))}
    kind = torch.tensor([number[what] for what in happens], device=sentences.device)
    same = (unit @ unit.T > threshold) | (kind[:, None] == kind)
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def contrastive_loss(
    text: Tensor, motion: Tensor, *, scale: Tensor, is_near_same: Tensor, wrong: Tensor, wrong_of: Tensor
) -> Tensor:
    """InfoNCE both ways over pairs (B, D), with hard negatives; a scalar.

    `is_near_same` (B, B) leaves pairs out (TMR, section 3.2). Text `wrong[k]` (M, D) stands against motion
    `wrong_of[k]` alone, because it may well be true of another one, and is never left out.
    """
    logits = scale * motion @ text.T  # (B, B) of motion i and text j
    logits = logits.masked_fill(is_near_same, -torch.inf)
    pair = torch.arange(len(text), device=text.device)
    is_other = wrong_of != pair[:, None]  # (B, M)
    hard = (scale * motion @ wrong.T).masked_fill(is_other, -torch.inf)
    of_motions = F.cross_entropy(torch.cat((logits, hard), dim=1), pair)
    return (of_motions + F.cross_entropy(logits.T, pair)) / 2


def train_encoder(
    clips: Sequence[Clip],
    config: EncoderTraining,
    *,
    folder: str | Path,
    backbone: TextBackbone | None = None,
) -> TextMotionEncoder:
    """Train on clips, or go on where the run in `folder` was stopped; returns the evaluator.

    `backbone` reads the text; None is MiniLM. Raises DataError without clips that have words, and ConfigError for a
    folder of other settings.
    """
    run = RunFolder.open(folder, config)
    sampler = ContrastSampler(clips, config)
    torch.manual_seed(config.optimization.seed)
    encoder = TextMotionEncoder(config.network, sampler.stats, backbone)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        return batch_terms(encoder, sampler.draw(draw.rng), near_same_cosine=config.near_same)

    optimize(run, encoder, terms_of, config.optimization)
    return encoder


def batch_terms(
    encoder: TextMotionEncoder, examples: Sequence[Example], *, near_same_cosine: float
) -> dict[str, Tensor]:
    """The loss of a batch; how many motions find their text first, and prefer it to each text that is wrong."""
    num, device = len(examples), encoder.device
    texts = [example.text for example in examples] + [text for example in examples for text in example.wrong]
    owners = [place for place, example in enumerate(examples) for _ in example.wrong]
    wrong_of = torch.tensor(owners, dtype=torch.long, device=device)
    said = encoder.embed_texts(texts)
    motion = encoder.embed_motions([encoder.normalize(example.rows) for example in examples])
    text, wrong = said.embeddings[:num], said.embeddings[num:]
    happens = [example.happens for example in examples]
    with torch.autocast(device.type, enabled=False):  # a hundredfold cosine has too few digits in half precision
        is_near_same = near_same(said.sentences[:num].float(), happens, threshold=near_same_cosine)
        loss = contrastive_loss(
            text.float(),
            motion.float(),
            scale=encoder.scale,
            is_near_same=is_near_same,
            wrong=wrong.float(),
            wrong_of=wrong_of,
        )
    with torch.no_grad():
        similar = (motion @ text.T).masked_fill(is_near_same, -torch.inf)
        right = similar.argmax(1) == torch.arange(num, device=device)
        prefers = (motion[wrong_of] * (text[wrong_of] - wrong)).sum(-1) > 0
    terms = {"loss": loss, "retrieval/top1": right.float().mean(), "scale": encoder.scale.detach()}
    return terms | ({"contrast/right": prefers.float().mean()} if owners else {})
