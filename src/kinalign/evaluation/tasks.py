"""What is measured in each task: one function a task, which scores every system of its table in one replication.

Where published code went wrong (MotionGPT's release compares a continuation with the beginning of the truth, runs
errors into the padding, and names APD without computing it): here motions have their own lengths, only frames that
were hidden are compared, each with the frame of its time, and distances are means over joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kinalign.evaluation.bench import Array, Bench, Indices, Made, has_words
from kinalign.evaluation.captions import base_words, bleu, cider, rouge_l, words
from kinalign.evaluation.metrics import ade, apd, diversity, fde, fid, mm_dist, multimodality, pool_hits
from kinalign.evaluation.physics import peak_jerk
from kinalign.evaluation.report import TRUTH, Scores
from kinalign.evaluation.store import Store
from kinalign.motion.motion import Motion
from kinalign.pipeline import FADE_FRAMES, Asked, TextToMotion
from kinalign.tokenizer.evaluate import Reconstruction, evaluate_tokenizer

THROUGH_TOKENIZER = "truth through tokenizer"
RETRIEVED = "nearest train caption"
HELD, INTERPOLATED = "last pose held", "straight interpolation"

NUM_DIVERSITY_PAIRS = 300
NUM_MULTIMODALITY_PAIRS = 10
KEY_STEPS = 4
TOLD_SHARE = 0.2
"""Of a motion that is to be continued."""

PerClip = dict[str, list["float | None"]]
"""Metric -> a number for each clip of the bench, None where it has none."""


class Replication(NamedTuple):
    """Numbers of all systems, those of the evaluated one clip by clip, and seconds that one of its answers took."""

    scores: Scores
    clips: PerClip
    seconds: float | None = None


class Subject:
    """What is evaluated: a model whose answers are kept, or motions that another system made."""

    def __init__(
        self,
        name: str,
        *,
        model: TextToMotion | None = None,
        store: Store | None = None,
        outputs: Sequence[Motion] = (),
    ) -> None:
        self.name, self.outputs, self._model, self._store = name, outputs, model, store

    @property
    def model(self) -> TextToMotion:
        assert self._model is not None, "only text to motion is asked of outputs"
        return self._model

    @property
    def store(self) -> Store:
        assert self._store is not None, "only text to motion is asked of outputs"
        return self._store

    @property
    def is_model(self) -> bool:
        return self._model is not None


class Tables:
    """All tasks on one bench for one subject; what all replications share is computed once."""

    def __init__(self, bench: Bench, subject: Subject) -> None:
        self.bench, self.subject = bench, subject
        self._retrieved: dict[int, Made] = {}

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
        bench, name = self.bench, self.subject.name
        prompts = bench.prompts(replication)
        seconds, extra = None, {}
        systems = {TRUTH: bench.truth}
        if self.subject.is_model:
            systems[THROUGH_TOKENIZER] = self.through_tokenizer
        if bench.train:
            systems[RETRIEVED] = self.retrieved(prompts, replication)
        if self.subject.is_model:
            settings = bench.settings
            asked = [
                self.subject.model.ask(prompt, length_s=clip.motion.duration_s if settings.true_lengths else None)
                for prompt, clip in zip(prompts, bench.clips)
            ]
            seeds = bench.seeds(replication, "t2m", len(asked))
            motions, seconds = self.subject.store.motions(f"t2m-{replication:03d}", asked, seeds=seeds)
            systems[name] = bench.made(motions)
            extra = self._many_of_one(asked, seeds, replication)
        else:
            systems[name] = self.outputs
        text = bench.embeddings.texts(prompts)
        scores: Scores = {}
        of_clips: PerClip = {}
        for system, made in systems.items():
            scores[system], hits = self._embedded(made, text, replication)
            for group, places in bench.groups.items():
                scores[system][group] |= {metric: float(row[places].mean()) for metric, row in made.physics.items()}
            of_clips = _per_clip(hits, mm_dist=np.linalg.norm(text - made.vectors, axis=1), **made.physics)
        scores[name]["all"] |= extra
        return Replication(scores, of_clips, seconds)

    @cached_property
    def through_tokenizer(self) -> Made:
        tokenizer = self.subject.model.tokenizer
        return self.bench.made(
            [
                tokenizer.decode(tokenizer.encode(clip.motion), caption=clip.motion.caption).on_floor()
                for clip in self.bench.clips
            ]
        )

    @cached_property
    def outputs(self) -> Made:
        return self.bench.made(self.subject.outputs)

    def retrieved(self, prompts: Sequence[str], replication: int) -> Made:
        """For each prompt the train clip whose caption is nearest; of several that are equally near, one by lot."""
        vectors, owners = self.bench.train_captions
        rng = self.bench.rng(replication, 3)
        nearness = self.bench.embeddings.texts(prompts) @ vectors.T  # (N, M)
        # float32 of unit vectors: what is nearer by less is the same caption
        is_nearest = nearness >= nearness.max(axis=1, keepdims=True) - 1e-6
        chosen = [int(rng.choice(np.unique(owners[row]))) for row in is_nearest]
        new = sorted(set(chosen) - self._retrieved.keys())
        if new:
            made = self.bench.made([self.bench.train[place].motion for place in new])
            for row, place in enumerate(new):
                self._retrieved[place] = _rows(made, [row])
        return _stacked([self._retrieved[place] for place in chosen])

    def _many_of_one(self, asked: Sequence[Asked], seeds: Sequence[int], replication: int) -> dict[str, float | str]:
        """MultiModality over many motions of a few prompts, and how often the model, left alone, says no motion."""
        settings = self.bench.settings
        chosen = self.bench.many(replication, len(asked))
        asked, seeds = [asked[place] for place in chosen], [seeds[place] for place in chosen]
        name = f"t2m-{replication:03d}"
        answers = self.subject.store.answers(
            f"{name}-many", asked, seeds=seeds, num_candidates=settings.many_candidates
        )
        motions = [one.finish(codes) for one, row in zip(asked, answers.codes) for codes in row if codes is not None]
        vectors = self.bench.embeddings.motions(motions).reshape(len(asked), settings.many_candidates, -1)
        num_pairs = min(NUM_MULTIMODALITY_PAIRS, settings.many_candidates - 1)
        free = self.subject.store.answers(f"{name}-free", asked, seeds=seeds, constrained=False)
        return {
            "multimodality": multimodality(vectors, rng=self.bench.rng(replication, 4), num_pairs=num_pairs),
            "invalid_percent": 100 * float(np.mean([codes is None for (codes,) in free.codes])),
        }

    # motion to text

    def motion_to_text(self, replication: int) -> Replication:
        bench = self.bench
        said, seconds = self.subject.store.captions(bench.truth.motions)
        place = bench.rng(replication, 5).random(len(bench.clips))
        picked = [int(share * len(group)) for share, group in zip(place, bench.references)]
        people = [group[number] for group, number in zip(bench.references, picked)]
        # what someone said of a motion is held against what others said of it
        others = [[*group[:number], *group[number + 1 :]] for group, number in zip(bench.references, picked)]
        scores: Scores = {}
        of_clips: PerClip = {}
        for system, captions, references in (
            (TRUTH, people, others),
            (self.subject.name, said, bench.references),
        ):
            is_said = np.array([has_words(caption) for caption in captions])
            text = np.zeros_like(bench.truth.vectors)
            text[is_said] = bench.embeddings.texts([caption for caption in captions if has_words(caption)])
            scores[system] = {}
            for group, places in bench.groups.items():
                valid = places[is_said[places]]
                cells = scores[system][group] = self._retrieval(text, bench.truth.vectors, valid, replication)
                cells |= _spoken([(captions[place], references[place]) for place in valid if references[place]])
                cells["invalid_percent"] = 100 * float(1 - is_said[places].mean())
            hits = self._hits(text, bench.truth.vectors, np.flatnonzero(is_said), replication)
            rouge = [
                rouge_l([caption], [group]) if valid and group else np.nan
                for caption, group, valid in zip(captions, references, is_said)
            ]
            distance = np.where(is_said, np.linalg.norm(text - bench.truth.vectors, axis=1), np.nan)
            of_clips = _per_clip(hits, mm_dist=distance, rouge_l=100 * np.array(rouge))
        return Replication(scores, of_clips, seconds)

    # parts of a motion

    def prediction(self, replication: int) -> Replication:
        """What comes after the first fifth, against what came."""
        model = self.subject.model
        tokenizer = model.tokenizer
        per_step = tokenizer.frames_per_step
        parts = []
        for place, (motion, steps) in self._long_enough(3).items():
            told = max(1, round(TOLD_SHARE * steps))
            start = told * per_step
            truth = motion[: steps * per_step]
            asked = model.ask_next(motion[: start + 1], seconds=(steps - told) * per_step / tokenizer.config.fps)
            still = np.concatenate(
                (truth.joints[:start], np.repeat(truth.joints[start - 1 : start], len(truth) - start, 0))
            )
            joins = [max(1, start - FADE_FRAMES), start]
            parts.append(Part(place, truth, asked, slice(start, None), joins, replace(truth, joints=still)))
        return self._compared("pred", replication, parts, baseline=HELD)

    def inbetween(self, replication: int) -> Replication:
        """The middle half, between the first and the last quarter."""
        tokenizer = self.subject.model.tokenizer
        per_step = tokenizer.frames_per_step
        parts = []
        for place, (motion, steps) in self._long_enough(KEY_STEPS + 2).items():
            before, gap = steps // 4, steps // 2
            start, stop = before * per_step, (before + gap) * per_step
            asked = self.subject.model.ask_between(
                motion[: start + 1], motion[stop:], seconds=gap * per_step / tokenizer.config.fps, anchored=True
            )
            joins = [max(1, start - FADE_FRAMES), start, stop, min(stop + FADE_FRAMES, len(motion) - 1)]
            known = np.r_[:start, stop : len(motion)]
            parts.append(Part(place, motion, asked, slice(start, stop), joins, _interpolated(motion, known)))
        return self._compared("inbetween", replication, parts, baseline=INTERPOLATED)

    def keyframes(self, replication: int) -> Replication:
        """All but the first, the last and two steps between."""
        per_step = self.subject.model.tokenizer.frames_per_step
        parts = []
        for place, (motion, steps) in self._long_enough(KEY_STEPS + 2).items():
            truth = motion[: steps * per_step]
            keys = np.round(np.linspace(0, steps - 1, KEY_STEPS)).astype(int)
            known = (keys[:, None] * per_step + np.arange(per_step)).flatten()
            hidden = np.setdiff1d(np.arange(len(truth)), known)
            joins = [
                int(edge) for key in keys for edge in (key * per_step, (key + 1) * per_step) if 0 < edge < len(truth)
            ]
            asked = self.subject.model.ask_keys(motion, keys.tolist())
            parts.append(Part(place, truth, asked, hidden, joins, _interpolated(truth, known)))
        return self._compared("keyframes", replication, parts, baseline=INTERPOLATED)

    def _long_enough(self, least: int) -> dict[int, tuple[Motion, int]]:
        """The motions that have so many whole steps, by their clips' places, with how many they have."""
        per_step = self.subject.model.tokenizer.frames_per_step
        steps = {place: (len(clip.motion) - 1) // per_step for place, clip in enumerate(self.bench.clips)}
        return {place: (self.bench.clips[place].motion, n) for place, n in steps.items() if n >= least}

    def _compared(self, task: str, replication: int, parts: Sequence[Part], *, baseline: str) -> Replication:
        """Hidden frames of each motion against the real ones, for the truth, a baseline and the model."""
        bench, name = self.bench, self.subject.name
        asked = [part.asked for part in parts]
        seeds = bench.seeds(replication, task, len(parts))
        ours, seconds = self.subject.store.motions(f"{task}-{replication:03d}", asked, seeds=seeds)
        places = np.array([part.place for part in parts])
        truth_vectors = bench.truth.vectors[places]
        real_jerk = np.array([peak_jerk(part.truth, joins=part.joins) for part in parts])
        scores: Scores = {}
        of_clips: PerClip = {}
        for system, motions in (
            (TRUTH, [part.truth for part in parts]),
            (baseline, [part.baseline for part in parts]),
            (name, ours),
        ):
            pairs = [
                (motion.joints[part.hidden], part.truth.joints[part.hidden]) for motion, part in zip(motions, parts)
            ]
            errors = {
                "ade_m": np.array([ade(*pair) for pair in pairs]),
                "fde_m": np.array([fde(*pair) for pair in pairs]),
            }
            jerk = np.array([peak_jerk(motion, joins=part.joins) for motion, part in zip(motions, parts)])
            vectors = truth_vectors if system == TRUTH else bench.embeddings.motions(motions)
            scores[system] = {}
            for group, members in bench.groups.items():
                rows = np.flatnonzero(np.isin(places, members))
                cells: dict[str, float | str] = {}
                for metric, row in errors.items():
                    cells[metric] = float(row[rows].mean()) if len(rows) else "no clip is long enough"
                cells["join_jerk_ratio"] = (
                    float(jerk[rows].sum() / real_jerk[rows].sum()) if len(rows) else "no clip is long enough"
                )
                cells["fid"] = self._lack(rows) or fid(truth_vectors[rows], vectors[rows])
                scores[system][group] = cells
            of_clips = {
                metric: _spread(row, places, len(bench.clips))
                for metric, row in (*errors.items(), ("join_jerk_m_s3", jerk))
            }
        scores[name]["all"]["apd_m"] = self._apd(task, replication, parts, seeds)
        return Replication(scores, of_clips, seconds)

    def _apd(self, task: str, replication: int, parts: Sequence[Part], seeds: Sequence[int]) -> float:
        chosen = self.bench.many(replication, len(parts))
        few = [parts[place] for place in chosen]
        answers = self.subject.store.answers(
            f"{task}-{replication:03d}-many",
            [part.asked for part in few],
            seeds=[seeds[place] for place in chosen],
            num_candidates=self.bench.settings.many_candidates,
        )
        return float(
            np.mean(
                [
                    apd([part.asked.finish(codes).joints[part.hidden] for codes in row if codes is not None])
                    for part, row in zip(few, answers.codes)
                ]
            )
        )

    # tokenizer

    def tokenizer(self, replication: int) -> Replication:
        """Whole clips there and back, as `kinalign tokenizer evaluate` does, and their embeddings."""
        bench, tokenizer = self.bench, self.subject.model.tokenizer
        scores: Scores = {TRUTH: {}, self.subject.name: {}}
        for group, places in bench.groups.items():
            clips = [bench.clips[place] for place in places]
            scores[TRUTH][group] = {
                "fid": 0.0,
                "mpjpe_mm": 0.0,
                "pa_mpjpe_mm": 0.0,
                "accel_mm": 0.0,
                "jitter_ratio": 1.0,
            }
            cells = scores[self.subject.name][group] = {
                "fid": self._lack(places) or fid(bench.truth.vectors[places], self.through_tokenizer.vectors[places])
            }
            cells |= _rebuilt(evaluate_tokenizer(tokenizer, clips)["all"])
        of_each = [_rebuilt(evaluate_tokenizer(tokenizer, [clip])["all"]) for clip in bench.clips]
        metrics = ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm")
        return Replication(scores, {metric: [one[metric] for one in of_each] for metric in metrics})

    # what tasks share

    def _embedded(self, made: Made, text: Array, replication: int) -> tuple[dict[str, dict[str, float | str]], Array]:
        """FID, R-precision, MM-Dist and Diversity of each group, and hits (N, 3) in pools of all clips."""
        truth = self.bench.truth.vectors
        groups = {}
        for group, places in self.bench.groups.items():
            cells: dict[str, float | str] = {"fid": self._lack(places) or fid(truth[places], made.vectors[places])}
            cells |= self._retrieval(text, made.vectors, places, replication)
            num_pairs, rng = min(NUM_DIVERSITY_PAIRS, len(places) // 2), self.bench.rng(replication, 6)
            cells["diversity"] = self._lack(places) or diversity(made.vectors[places], rng=rng, num_pairs=num_pairs)
            groups[group] = cells
        return groups, self._hits(text, made.vectors, self.bench.groups["all"], replication)

    def _retrieval(self, text: Array, motion: Array, places: Indices, replication: int) -> dict[str, float | str]:
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
        return "" if len(places) >= least else f"needs {least} clips, has {len(places)}"


class Part(NamedTuple):
    """A motion of which a part is hidden, and what is asked to fill it."""

    place: int
    """Of its clip in the bench."""
    truth: Motion
    asked: Asked
    hidden: slice | Indices
    joins: list[int]
    """First frames of what was joined on, where fades begin and where they end."""
    baseline: Motion
    """What needs no model, as long as the truth."""


def _interpolated(motion: Motion, known: Indices) -> Motion:
    """Every joint goes in a straight line, at one speed, from where it is known to where it is known next."""
    times = np.arange(len(motion))
    flat = motion.joints.reshape(len(motion), -1)
    columns = [np.interp(times, known, column[known]) for column in flat.T]
    return replace(motion, joints=np.stack(columns, axis=-1).reshape(motion.joints.shape))


def _spoken(pairs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, float | str]:
    """BLEU, ROUGE-L and CIDEr of captions with their references, raw and in base forms, as percents."""
    names = ("bleu_1", "bleu_4", "rouge_l", "cider")
    cells: dict[str, float | str] = {}
    for suffix, tokens in (("", words), ("_processed", base_words)):
        if len(pairs) < 2:
            cells |= dict.fromkeys((name + suffix for name in names), f"needs 2 clips, has {len(pairs)}")
            continue
        captions, references = [caption for caption, _ in pairs], [group for _, group in pairs]
        of_words = bleu(captions, references, tokens=tokens)
        values = (
            of_words.bleu_1,
            of_words.bleu_4,
            rouge_l(captions, references, tokens=tokens),
            cider(captions, references, tokens=tokens),
        )
        cells |= {name + suffix: 100 * value for name, value in zip(names, values)}
    return cells


def _rebuilt(group: Reconstruction) -> dict[str, float]:
    names = ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm", "jitter_ratio", "codes_used", "perplexity")
    return {name: float(getattr(group, name)) for name in names}


def _per_clip(hits: Array, **metrics: Array) -> PerClip:
    columns = {f"r_precision_{k}": hits[:, k - 1] for k in (1, 2, 3)} | metrics
    return {metric: _or_none(row) for metric, row in columns.items()}


def _spread(values: Array, places: Indices, num_clips: int) -> list[float | None]:
    row = np.full(num_clips, np.nan)
    row[places] = values
    return _or_none(row)


def _or_none(row: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]


def _rows(made: Made, rows: Sequence[int]) -> Made:
    physics = {metric: values[list(rows)] for metric, values in made.physics.items()}
    return Made([made.motions[row] for row in rows], made.vectors[list(rows)], physics)


def _stacked(parts: Sequence[Made]) -> Made:
    physics = {metric: np.concatenate([part.physics[metric] for part in parts]) for metric in parts[0].physics}
    motions = [motion for part in parts for motion in part.motions]
    return Made(motions, np.concatenate([part.vectors for part in parts]), physics)
