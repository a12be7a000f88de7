"""What is measured in each task: one function a task, which scores every system of its table in one replication.

Where published code went wrong (MotionGPT's release compares a continuation with the beginning of the truth, runs
errors into the padding, and names APD without computing it): here motions have their own lengths, only frames that
were hidden are compared, each with the frame of its time, and distances are means over joints.

Letters: N clips, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import EvaluationError
from kinalign.evaluation.bench import Array, Bench, Indices, Made, has_words
from kinalign.evaluation.captions import base_words, bert_score, bleu, cider, rouge_l, words
from kinalign.evaluation.embedding import Vectors, WordEncoder
from kinalign.evaluation.metrics import (
    ade,
    ade_published,
    apd,
    apd_published,
    diversity,
    fde,
    fde_published,
    fid,
    mm_dist,
    multimodality,
    pool_hits,
)
from kinalign.evaluation.naming import names_right
from kinalign.evaluation.report import TRUTH, Scores
from kinalign.evaluation.store import Store
from kinalign.motion.motion import Motion
from kinalign.motion.physics import peak_jerk
from kinalign.pipeline import FADE_S, Asked
from kinalign.tokenizer.evaluate import Reconstruction, evaluate_tokenizer

THROUGH_TOKENIZER = "truth through tokenizer"
RETRIEVED = "nearest train caption"
HELD, INTERPOLATED = "last pose held", "straight interpolation"
BASELINES = (TRUTH, THROUGH_TOKENIZER, RETRIEVED, HELD, INTERPOLATED)

NUM_DIVERSITY_PAIRS = 300
"""Of fewer than 600 clips as many pairs as half of them."""
NUM_MULTIMODALITY_PAIRS = 10
KEY_STEPS = 4
TOLD_SHARE = 0.2
"""Of a motion that is to be continued."""

DISPLACEMENTS = {"ade_m": ade, "fde_m": fde}
PUBLISHED_DISPLACEMENTS = {"ade_published_m": ade_published, "fde_published_m": fde_published}

Cells = dict[str, "float | str"]
PerClip = dict[str, list["float | None"]]
"""Metric -> a number for each clip of the bench, None where it has none."""


class Replication(NamedTuple):
    """Numbers of all systems, those of the evaluated one clip by clip, and seconds that one of its answers took."""

    scores: Scores
    clips: PerClip
    seconds: float | None = None


class Tables:
    """All tasks on one bench, of one model whose answers are kept, or of motions that another system made.

    `name` is what the evaluated system is called. What all replications share is computed once.
    """

    def __init__(self, bench: Bench, name: str, *, store: Store | None = None, outputs: Sequence[Motion] = ()) -> None:
        self.bench, self.name, self._store, self._outputs = bench, name, store, outputs
        self._retrieved: dict[int, Made] = {}

    @property
    def store(self) -> Store:
        assert self._store is not None, "only text to motion is asked of outputs"
        return self._store

    def run(self, task: str, replication: int) -> Replication:
        """The numbers of one task in one replication."""
        tasks: dict[str, Callable[[int], Replication]] = {
            "t2m": self.text_to_motion,
            "m2t": self.motion_to_text,
            "pred": self.prediction,
            "inbetween": self.inbetween,
            "keyframes": self.keyframes,
            "tokenizer": self.tokenizer,
        }
        return tasks[task](replication)

    # text to motion

    def text_to_motion(self, replication: int) -> Replication:
        """Motions for a caption of each clip."""
        bench = self.bench
        prompts = bench.prompts(replication)
        text = bench.embeddings.texts(prompts)
        systems = {TRUTH: bench.truth}
        if self._store is not None:
            systems[THROUGH_TOKENIZER] = self.through_tokenizer
        if bench.train:
            systems[RETRIEVED] = self.retrieved(prompts, replication)
        seconds = None
        extra: Cells = {}
        if self._store is not None:
            is_told = bench.settings.true_lengths
            asked = [
                self.store.model.ask(prompt, length_s=clip.motion.duration_s if is_told else None)
                for prompt, clip in zip(prompts, bench.clips)
            ]
            seeds = bench.seeds(replication, "t2m", len(asked))
            motions, seconds = self.store.motions(f"t2m-{replication:03d}", asked, seeds=seeds)
            extra = self._many_of_one(asked, seeds, replication)
            systems[self.name] = bench.made(motions)
        else:
            systems[self.name] = self.outputs
        scores: Scores = {system: self._of_motions(made, text, replication) for system, made in systems.items()}
        scores[self.name]["all"] |= extra
        ours = systems[self.name]
        hits = self._hits(text, ours.vectors, bench.groups["all"], replication)
        distance = np.linalg.norm(text - ours.vectors, axis=1)
        return Replication(scores, _per_clip(hits, mm_dist=distance, **ours.physics), seconds)

    @cached_property
    def through_tokenizer(self) -> Made:
        """What is left of the truth when it is codes and no more."""
        tokenizer = self.store.model.tokenizer
        return self.bench.made(
            [
                tokenizer.decode(tokenizer.encode(clip.motion), caption=clip.motion.caption).on_floor()
                for clip in self.bench.clips
            ]
        )

    @cached_property
    def outputs(self) -> Made:
        return self.bench.made(self._outputs)

    def retrieved(self, prompts: Sequence[str], replication: int) -> Made:
        """For each prompt the train clip whose caption is nearest; of several that are equally near, one by lot."""
        vectors, owners = self.bench.train_captions
        rng = self.bench.rng(replication, 3)
        lengths = np.square(vectors).sum(axis=1)
        # of one text all distances, but for its own length: |a - b|² = |a|² - 2 (a b - |b|² / 2)
        nearness = self.bench.embeddings.texts(prompts) @ vectors.T - lengths / 2  # (N, M)
        # float32: what is nearer by less is the same caption
        is_nearest = nearness >= nearness.max(axis=1, keepdims=True) - 1e-6 * lengths.max()
        chosen = [int(rng.choice(np.unique(owners[row]))) for row in is_nearest]
        new = sorted(set(chosen) - self._retrieved.keys())
        if new:
            made = self.bench.made([self.bench.train[place].motion for place in new])
            self._retrieved |= {place: made.at([row]) for row, place in enumerate(new)}
        return Made.stacked([self._retrieved[place] for place in chosen])

    def _of_motions(self, made: Made, text: Array, replication: int) -> dict[str, Cells]:
        """All numbers of one system's motions in text to motion, for each group."""
        truth = self.bench.truth.vectors
        groups = {}
        for group, places in self.bench.groups.items():
            cells: Cells = {"fid": self._lack(places) or fid(truth[places], made.vectors[places])}
            cells |= self._retrieval(text, made.vectors, places, replication)
            num_pairs, rng = min(NUM_DIVERSITY_PAIRS, len(places) // 2), self.bench.rng(replication, 6)
            cells["diversity"] = self._lack(places) or diversity(made.vectors[places], rng=rng, num_pairs=num_pairs)
            cells |= {metric: float(row[places].mean()) for metric, row in made.physics.items()}
            groups[group] = cells
        return groups

    def _many_of_one(self, asked: Sequence[Asked], seeds: Sequence[int], replication: int) -> Cells:
        """MultiModality over many motions of a few prompts, and how often the model, left alone, says no motion."""
        num_candidates = self.bench.settings.many_candidates
        chosen = self.bench.many(replication, len(asked))
        asked, seeds = [asked[place] for place in chosen], [seeds[place] for place in chosen]
        name = f"t2m-{replication:03d}"
        many = self.store.answers(f"{name}-many", asked, seeds=seeds, num_candidates=num_candidates)
        motions = [one.finish(codes) for one, row in zip(asked, many.codes) for codes in row if codes is not None]
        vectors = self.bench.embeddings.motions(motions).reshape(len(asked), num_candidates, -1)
        num_pairs = min(NUM_MULTIMODALITY_PAIRS, num_candidates - 1)
        free = self.store.answers(f"{name}-free", asked, seeds=seeds, constrained=False)
        return {
            "multimodality": multimodality(vectors, rng=self.bench.rng(replication, 4), num_pairs=num_pairs),
            "invalid_percent": 100 * float(np.mean([codes is None for (codes,) in free.codes])),
        }

    # motion to text

    def motion_to_text(self, replication: int) -> Replication:
        """A caption of each clip: the model's, and for the truth one that someone gave, held against the others'."""
        bench = self.bench
        lots = bench.rng(replication, 5).random(len(bench.clips))
        picked = [int(lot * len(group)) for lot, group in zip(lots, bench.references)]
        people = Captions(
            [group[number] for group, number in zip(bench.references, picked)],
            [[*group[:number], *group[number + 1 :]] for group, number in zip(bench.references, picked)],
        )
        ours, seconds = self.said
        scores: Scores = {}
        for system, captions, spoken in (
            (TRUTH, people, self._spoken_by_group(people)),
            (self.name, ours, self._spoken_by_model),
        ):
            text = self._vectors(captions)
            right = names_right(captions.texts, bench.clips, bench.events)
            names = {"action_percent": right.action, "side_percent": right.side, "both_percent": right.both}
            scores[system] = {}
            for group, places in bench.groups.items():
                valid = places[captions.is_said[places]]
                cells = self._retrieval(text, bench.truth.vectors, valid, replication) | spoken[group]
                cells["invalid_percent"] = 100 * float(1 - captions.is_said[places].mean())
                cells |= {metric: _percent(right[places]) for metric, right in names.items()}
                scores[system][group] = cells
        text = self._vectors(ours)
        hits = self._hits(text, bench.truth.vectors, np.flatnonzero(ours.is_said), replication)
        distance = np.where(ours.is_said, np.linalg.norm(text - bench.truth.vectors, axis=1), np.nan)
        return Replication(scores, _per_clip(hits, mm_dist=distance, rouge_l=self._rouge_by_clip), seconds)

    @cached_property
    def said(self) -> tuple[Captions, float]:
        """The model's captions, and how many seconds one took. It says the likeliest words: once is enough."""
        said, seconds = self.store.captions(self.bench.truth.motions)
        return Captions(said, self.bench.references), seconds

    @cached_property
    def _spoken_by_model(self) -> dict[str, Cells]:
        return self._spoken_by_group(self.said[0])

    @cached_property
    def _rouge_by_clip(self) -> Array:
        ours = self.said[0]
        rows = zip(ours.texts, ours.references, ours.is_said)
        return 100 * np.array([rouge_l([text], [group]) if valid else np.nan for text, group, valid in rows])

    def _spoken_by_group(self, captions: Captions) -> dict[str, Cells]:
        groups = {}
        for group, places in self.bench.groups.items():
            of_group = [place for place in places if captions.is_said[place] and captions.references[place]]
            pairs = [(captions.texts[place], captions.references[place]) for place in of_group]
            groups[group] = _spoken(pairs) | {"bert_score": self._bert_score(pairs)}
        return groups

    def _bert_score(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> float | str:
        encoder = self.bench.embeddings.encoder
        if not isinstance(encoder, WordEncoder):
            return "the encoder gives no vectors of words"
        if not pairs:
            return "nothing is said"
        captions, references = [caption for caption, _ in pairs], [group for _, group in pairs]
        return 100 * bert_score(captions, references, embed=encoder.encode_words)

    def _vectors(self, captions: Captions) -> Array:
        """Embeddings (N, D) of captions, zeros where nothing is said."""
        vectors = np.zeros_like(self.bench.truth.vectors)
        if captions.is_said.any():
            said = [text for text, valid in zip(captions.texts, captions.is_said) if valid]
            vectors[captions.is_said] = self.bench.embeddings.texts(said)
        return vectors

    # parts of a motion

    def prediction(self, replication: int) -> Replication:
        """What comes after the first fifth, against what came."""
        return self._filled("pred", self._futures, replication)

    def inbetween(self, replication: int) -> Replication:
        """The middle half, between the first and the last quarter."""
        return self._filled("inbetween", self._middles, replication)

    def keyframes(self, replication: int) -> Replication:
        """All but the first, the last and two steps between."""
        return self._filled("keyframes", self._between_keys, replication)

    @cached_property
    def _futures(self) -> Gaps:
        model = self.store.model
        per_step, fps = model.tokenizer.frames_per_step, model.tokenizer.config.fps
        gaps = []
        fade = round(FADE_S * fps)
        for place, motion, steps in self._long_enough(3):
            told = max(1, round(TOLD_SHARE * steps))
            start = told * per_step
            truth = motion[: steps * per_step]
            asked = model.ask_next(motion[: start + 1], seconds=(steps - told) * per_step / fps)
            joins = [max(1, start - fade), start]
            held = _interpolated(truth, np.arange(start))
            gaps.append(Gap(place, truth, asked, np.arange(start, len(truth)), joins, held))
        return self._gaps(HELD, gaps)

    @cached_property
    def _middles(self) -> Gaps:
        model = self.store.model
        per_step, fps = model.tokenizer.frames_per_step, model.tokenizer.config.fps
        gaps = []
        fade = round(FADE_S * fps)
        for place, motion, steps in self._long_enough(KEY_STEPS + 2):
            start, length = steps // 4 * per_step, steps // 2 * per_step
            stop = start + length
            asked = model.ask_between(motion[: start + 1], motion[stop:], seconds=length / fps, anchored=True)
            joins = [max(1, start - fade), start, stop, min(stop + fade, len(motion) - 1)]
            hidden = np.arange(start, stop)
            gaps.append(Gap(place, motion, asked, hidden, joins, _interpolated(motion, _others(motion, hidden))))
        return self._gaps(INTERPOLATED, gaps)

    @cached_property
    def _between_keys(self) -> Gaps:
        model = self.store.model
        per_step = model.tokenizer.frames_per_step
        gaps = []
        for place, motion, steps in self._long_enough(KEY_STEPS + 2):
            truth = motion[: steps * per_step]
            keys = np.round(np.linspace(0, steps - 1, KEY_STEPS)).astype(int)
            known = (keys[:, None] * per_step + np.arange(per_step)).flatten()
            edges = {edge for key in keys.tolist() for edge in (key * per_step, (key + 1) * per_step)}
            joins = sorted(edges - {0, len(truth)})
            asked = model.ask_keys(motion, keys.tolist())
            gaps.append(Gap(place, truth, asked, _others(truth, known), joins, _interpolated(truth, known)))
        return self._gaps(INTERPOLATED, gaps)

    def _long_enough(self, least: int) -> list[tuple[int, Motion, int]]:
        """Place, motion and number of whole steps of each clip that has so many; raises EvaluationError for none."""
        per_step = self.store.model.tokenizer.frames_per_step
        rows = [(n, clip.motion, (len(clip.motion) - 1) // per_step) for n, clip in enumerate(self.bench.clips)]
        rows = [row for row in rows if row[2] >= least]
        if not rows:
            raise EvaluationError(
                f"none of {len(self.bench.clips)} clips has the {least * per_step + 1} frames of which a part can be "
                "hidden; choose longer ones (--data) or another --task"
            )
        return rows

    def _gaps(self, baseline: str, gaps: list[Gap]) -> Gaps:
        places = np.array([gap.place for gap in gaps])
        truth = self.bench.embeddings.motions([gap.truth for gap in gaps])
        vectors = self.bench.embeddings.motions([gap.baseline for gap in gaps])
        others = PUBLISHED_DISPLACEMENTS if self.bench.settings.published_displacement else {}
        return Gaps(baseline, gaps, places, truth, vectors, DISPLACEMENTS | others)

    def _filled(self, task: str, gaps: Gaps, replication: int) -> Replication:
        """Hidden frames of each motion against the real ones, for the truth, a baseline and the model."""
        asked = [gap.asked for gap in gaps.all]
        seeds = self.bench.seeds(replication, task, len(asked))
        name = f"{task}-{replication:03d}"
        ours, seconds = self.store.motions(name, asked, seeds=seeds)
        off, vectors = _errors(gaps, ours), self.bench.embeddings.motions(ours)
        scores: Scores = {
            TRUTH: self._of_gaps(gaps, gaps.truth_errors, gaps.truth_vectors),
            gaps.baseline: self._of_gaps(gaps, gaps.baseline_errors, gaps.baseline_vectors),
            self.name: self._of_gaps(gaps, off, vectors),
        }
        chosen = self.bench.many(replication, len(asked))
        many = self.store.answers(
            f"{name}-many",
            [asked[place] for place in chosen],
            seeds=[seeds[place] for place in chosen],
            num_candidates=self.bench.settings.many_candidates,
        )
        candidates = [
            [gap.asked.finish(codes).joints[gap.hidden] for codes in row if codes is not None]
            for gap, row in zip((gaps.all[place] for place in chosen), many.codes)
        ]
        scores[self.name]["all"]["apd_m"] = float(np.mean([apd(row) for row in candidates]))
        if self.bench.settings.published_displacement:
            scores[self.name]["all"]["apd_published_m"] = float(np.mean([apd_published(row) for row in candidates]))
        num_clips = len(self.bench.clips)
        return Replication(
            scores, {metric: _spread(row, gaps.places, num_clips) for metric, row in off.items()}, seconds
        )

    def _of_gaps(self, gaps: Gaps, off: dict[str, Array], vectors: Array) -> dict[str, Cells]:
        """All numbers of one system's filled gaps, for each group."""
        groups = {}
        for group, members in self.bench.groups.items():
            rows = np.flatnonzero(np.isin(gaps.places, members))
            none = "" if len(rows) else "no clip is long enough"
            jerk, real_jerk = (errors["join_jerk_m_s3"][rows].sum() for errors in (off, gaps.truth_errors))
            cells: Cells = {metric: none or float(off[metric][rows].mean()) for metric in gaps.displacements}
            cells["join_jerk_ratio"] = none or (
                float(jerk / real_jerk) if real_jerk > 0 else "nothing moves in the clips"
            )
            cells["fid"] = self._lack(rows) or fid(gaps.truth_vectors[rows], vectors[rows])
            groups[group] = cells
        return groups

    # tokenizer

    def tokenizer(self, replication: int) -> Replication:
        """The clips there and back, as `kinalign tokenizer evaluate` measures them, and their embeddings."""
        bench, tokenizer = self.bench, self.store.model.tokenizer
        truth, rebuilt = bench.truth.vectors, self.through_tokenizer.vectors
        scores: Scores = {TRUTH: {}, self.name: {}}
        for group, places in bench.groups.items():
            perfect: Cells = {"fid": 0.0, "mpjpe_mm": 0.0, "pa_mpjpe_mm": 0.0, "accel_mm": 0.0, "jitter_ratio": 1.0}
            scores[TRUTH][group] = perfect
            cells: Cells = {"fid": self._lack(places) or fid(truth[places], rebuilt[places])}
            cells |= _rebuilt(evaluate_tokenizer(tokenizer, [bench.clips[place] for place in places])["all"])
            scores[self.name][group] = cells
        of_each = [_rebuilt(evaluate_tokenizer(tokenizer, [clip])["all"]) for clip in bench.clips]
        metrics = ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm")
        return Replication(scores, {metric: [one[metric] for one in of_each] for metric in metrics})

    # what tasks share

    def _retrieval(self, text: Array, motion: Array, places: Indices, replication: int) -> Cells:
        """R-precision in pools of a group and MM-Dist; the same pools for every system."""
        names = ("r_precision_1", "r_precision_2", "r_precision_3")
        if lack := self._lack(places):
            return dict.fromkeys((*names, "mm_dist"), lack)
        hits = np.nanmean(self._hits(text, motion, places, replication), axis=0)
        return {**dict(zip(names, map(float, hits))), "mm_dist": mm_dist(text[places], motion[places])}

    def _hits(self, text: Array, motion: Array, places: Indices, replication: int) -> Array:
        """Hits (N, 3) of the clips at some places in pools of them; NaN for others."""
        hits = np.full((len(self.bench.clips), 3), np.nan)
        if not self._lack(places):
            rng = self.bench.rng(replication, 7)
            hits[places] = pool_hits(text[places], motion[places], rng=rng, pool_size=self.bench.settings.pool_size)
        return hits

    def _lack(self, places: Indices) -> str:
        """Why there is no number of a set of clips, or nothing."""
        least = self.bench.settings.pool_size
        return "" if len(places) >= least else f"needs {least}, has {len(places)}"


class Captions:
    """A caption for each of N clips, the references that it is held against, and whether it has words at all."""

    def __init__(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        self.texts, self.references = texts, references
        self.is_said: NDArray[np.bool_] = np.array([has_words(text) for text in texts])


class Gap(NamedTuple):
    """A motion of which frames are hidden, and what is asked to fill them."""

    place: int
    """Of its clip in the bench."""
    truth: Motion
    asked: Asked
    hidden: Indices
    joins: list[int]
    """Frames in which something begins to be joined on, or ends to be."""
    baseline: Motion
    """What needs no model."""


class Gaps:
    """The gaps of one task, with all that no replication changes."""

    def __init__(
        self,
        baseline: str,
        gaps: list[Gap],
        places: Indices,
        truth_vectors: Vectors,
        baseline_vectors: Vectors,
        displacements: Mapping[str, Callable[[Array, Array], float]],
    ) -> None:
        self.baseline, self.all, self.places, self.displacements = baseline, gaps, places, displacements
        self.truth_vectors, self.baseline_vectors = truth_vectors, baseline_vectors
        self.truth_errors = _errors(self, [gap.truth for gap in gaps])
        self.baseline_errors = _errors(self, [gap.baseline for gap in gaps])


def _errors(gaps: Gaps, motions: Sequence[Motion]) -> dict[str, Array]:
    """Metric -> a number for each gap, of the motions that fill them."""
    pairs = [(motion.joints[gap.hidden], gap.truth.joints[gap.hidden]) for motion, gap in zip(motions, gaps.all)]
    errors = {metric: np.array([off(*pair) for pair in pairs]) for metric, off in gaps.displacements.items()}
    jerks = [peak_jerk(motion, joins=gap.joins) for motion, gap in zip(motions, gaps.all)]
    return {**errors, "join_jerk_m_s3": np.array(jerks)}


def _others(motion: Motion, frames: Indices) -> Indices:
    return np.setdiff1d(np.arange(len(motion)), frames)


def _interpolated(motion: Motion, known: Indices) -> Motion:
    """Every joint goes straight from where it is known to where it is known next, and stays where it was known last."""
    times = np.arange(len(motion))
    flat = motion.joints.reshape(len(motion), -1)
    columns = [np.interp(times, known, column[known]) for column in flat.T]
    return replace(motion, joints=np.stack(columns, axis=-1).reshape(motion.joints.shape))


def _spoken(pairs: Sequence[tuple[str, Sequence[str]]]) -> Cells:
    """BLEU, ROUGE-L and CIDEr of captions with their references, raw and in base forms, times 100 as in tables."""
    names = ("bleu_1", "bleu_4", "rouge_l", "cider")
    cells: Cells = {}
    for suffix, tokens in (("", words), ("_processed", base_words)):
        if len(pairs) < 2:
            cells |= dict.fromkeys((name + suffix for name in names), f"needs 2, has {len(pairs)}")
            continue
        captions, references = [caption for caption, _ in pairs], [group for _, group in pairs]
        of_grams = bleu(captions, references, tokens=tokens)
        values = (
            of_grams.bleu_1,
            of_grams.bleu_4,
            rouge_l(captions, references, tokens=tokens),
            cider(captions, references, tokens=tokens),
        )
        cells |= {name + suffix: 100 * value for name, value in zip(names, values)}
    return cells


def _rebuilt(group: Reconstruction) -> dict[str, float]:
    names = ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm", "jitter_ratio", "codes_used", "perplexity")
    return {name: float(getattr(group, name)) for name in names}


def _percent(right: Array) -> float | str:
    known = right[~np.isnan(right)]
    return 100 * float(known.mean()) if len(known) else "of no clip this is known"


def _per_clip(hits: Array, **metrics: Array) -> PerClip:
    columns = {f"r_precision_{k}": hits[:, k - 1] for k in (1, 2, 3)} | metrics
    return {metric: _or_none(row) for metric, row in columns.items()}


def _spread(values: Array, places: Indices, num_clips: int) -> list[float | None]:
    row = np.full(num_clips, np.nan)
    row[places] = values
    return _or_none(row)


def _or_none(row: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]
