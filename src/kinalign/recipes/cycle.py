"""What is left of a caption that goes through a motion, and of a motion through a caption: see docs/understand.md.

    python -m kinalign.recipes.cycle --out runs/cycle

Captions and clips of openmocap20's test split. Text to motion to text: the model makes a motion of a caption and says
what it sees in it; beside it stand what it says of the real clip, of the clip of the nearest train caption, and of the
motion of another caption (chance). Motion to text to motion: the model makes a motion of its own caption of a clip;
beside it stand the clip of the train caption nearest to what it said, the motion of another clip's caption (chance),
and the clip as the tokenizer gives it back. Two minutes of one CPU core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Split
from kinalign.errors import PromptError
from kinalign.evaluation.bench import HARD_GROUP, Bench, EvaluationSettings
from kinalign.evaluation.captions import bleu
from kinalign.evaluation.compare import draws
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.eventbench_command import shown
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventtruth import number_of
from kinalign.evaluation.learned import EventDetector, shipped_detector
from kinalign.evaluation.metrics import pool_hits
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram
from kinalign.judge.kinematic import SHORTEST_S
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.saying import share_said
from kinalign.planning.segments import UNNAMED, segments
from kinalign.planning.understand import Reader
from kinalign.run import environment, write_json, write_text

T = TypeVar("T")

BLEU_DRAWS = 200
"""Resamples of captions from which the interval of BLEU comes."""


@dataclass(frozen=True)
class Recipe:
    """Measure what is left after a cycle through the model."""

    out: Path = Path("runs/cycle")
    """Folder for report.md, report.json and captions.md, which shows what was said."""
    split: Split = "test"
    """Whose captions and clips."""
    seed: int = 0
    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    threads: int = 1
    """Processor threads."""


class Table(NamedTuple):
    title: str
    rows: dict[str, dict[str, Number]]
    """System -> what is measured -> number."""


def run(recipe: Recipe) -> Path:
    """Both cycles on all clips and on those without near-copies; writes and prints report.md."""
    torch.set_num_threads(recipe.threads)
    model = TextToMotion.from_pretrained(recipe.model)
    bench = Bench(
        load_openmocap(recipe.data, split=recipe.split),
        TextMotionEncoder.from_pretrained(shipped_encoder()),
        EvaluationSettings(seed=recipe.seed, replications=1),
        train=load_openmocap(recipe.data, split="train"),
        fps=model.tokenizer.config.fps,
    )
    reader = Reader(shipped_detector(), model)
    said = texts_of_motions_of_texts(bench, reader, seed=recipe.seed)
    made = motions_of_texts_of_motions(bench, model, seed=recipe.seed)
    tables = []
    for group in ("all", HARD_GROUP):
        places = bench.groups[group]
        tables += [
            Table(f"Text to motion to text, {group}: {len(places)} captions", of_texts(bench, said, places.tolist())),
            Table(
                f"Motion to text to motion, {group}: {len(places)} clips",
                of_motions(bench, made, places.tolist(), reader.detector),
            ),
        ]
    text = "\n\n".join(markdown(table) for table in tables) + "\n"
    rows = [
        {"title": table.title, "rows": {s: {w: n._asdict() for w, n in r.items()} for s, r in table.rows.items()}}
        for table in tables
    ]
    write_json(
        recipe.out / "report.json",
        {"environment": environment(seed=recipe.seed), "sampling": asdict(model.default_sampling), "tables": rows},
    )
    _write(recipe.out / "captions.md", _examples(bench.prompts(0), said))
    print(text)
    return _write(recipe.out / "report.md", text)


# --- text to motion to text ---------------------------------------------------------------------------------------


def texts_of_motions_of_texts(bench: Bench, reader: Reader, *, seed: int) -> dict[str, list[str]]:
    """What each system says in the end of each prompt."""
    model, prompts = reader.model, bench.prompts(0)
    assert model is not None
    motions = [one.motions[0] for one in model.generate(prompts, seed=seed)]
    ours = model.captions(motions)
    return {
        "model": ours,
        "model, read by understand": [_read(reader, motion) for motion in motions],
        "real clip": model.captions(bench.truth.motions),
        "nearest train clip": model.captions([bench.train[place].motion for place in nearest(bench, prompts)]),
        "another's caption (chance)": _others(ours, bench.rng(0, 20)),
    }


def of_texts(bench: Bench, said: dict[str, list[str]], places: Sequence[int]) -> dict[str, dict[str, Number]]:
    """BLEU-1 against the prompt, and the share of the prompt's events that are said, of some clips."""
    prompts = bench.prompts(0)
    rows = {}
    for system, texts in said.items():
        tally = np.zeros((len(places), 1, 2))
        for row, place in enumerate(places):
            if (program := _program(prompts[place])) is not None:
                number = len(program.events)
                tally[row, 0] = (share_said(program, texts[place]) * number, number)
        rows[system] = {
            "BLEU-1": bleu_1([texts[place] for place in places], [prompts[place] for place in places]),
            "events said": number_of(tally, is_share=True),
        }
    return rows


def bleu_1(texts: Sequence[str], prompts: Sequence[str]) -> Number:
    """BLEU-1 of a corpus, each text against one prompt, with a bootstrap interval over texts."""
    pairs = [(text if any(map(str.isalpha, text)) else "nothing", [prompt]) for text, prompt in zip(texts, prompts)]

    def of(chosen: Sequence[tuple[str, list[str]]]) -> float:
        return bleu([text for text, _ in chosen], [group for _, group in chosen]).bleu_1

    samples = [
        of([pair for pair, times in zip(pairs, counts) for _ in range(times)])
        for counts in draws(len(pairs))[0][:BLEU_DRAWS]
    ]
    low, high = np.quantile(samples, [0.025, 0.975]).tolist()
    return Number(of(pairs), low, high, len(pairs))


def _program(text: str) -> EventProgram | None:
    try:
        return parse(text)
    except PromptError:
        return None


def _read(reader: Reader, motion: Motion) -> str:
    """The sentences of all steps in a row; nothing of a motion too short to read."""
    if motion.duration_s < SHORTEST_S:
        return ""
    return " ".join(step.text for step in (one.step for one in reader.read(motion) if not one.is_pause))


# --- motion to text to motion -------------------------------------------------------------------------------------


def motions_of_texts_of_motions(bench: Bench, model: TextToMotion, *, seed: int) -> dict[str, list[Motion]]:
    """What each system shows in the end of each clip."""
    real = bench.truth.motions
    captions = model.captions(real)
    ours = [one.motions[0] for one in model.generate(captions, seed=seed)]
    tokenizer = model.tokenizer
    return {
        "model": ours,
        "clip through the tokenizer": [tokenizer.decode(tokenizer.encode(motion)).on_floor() for motion in real],
        "nearest train clip": [bench.train[place].motion for place in nearest(bench, captions)],
        "another's motion (chance)": _others(ours, bench.rng(0, 20)),
    }


def of_motions(
    bench: Bench, made: dict[str, list[Motion]], places: Sequence[int], detector: EventDetector
) -> dict[str, dict[str, Number]]:
    """How well the clip is found again among 32, and the share of its steps that are seen, of some clips."""
    pool = bench.settings.pool_size
    real = [_actions(bench.truth.motions[place], detector) for place in places]
    rows = {}
    for system, motions in made.items():
        own = [motions[place] for place in places]
        tally = np.zeros((len(places), 1, 2))
        for row, (wanted, motion) in enumerate(zip(real, own)):
            tally[row, 0] = (len(wanted & _actions(motion, detector)), len(wanted))
        rows[system] = {"steps seen again": number_of(tally, is_share=True)}
        if len(places) >= pool:
            vectors = bench.embeddings.motions(own)
            hits = pool_hits(vectors, bench.truth.vectors[list(places)], rng=bench.rng(0, 7), pool_size=pool)
            for rank in (1, 3):
                of_rank = hits[:, rank - 1]
                is_asked = np.isfinite(of_rank)
                counted = np.stack((np.where(is_asked, of_rank, 0), is_asked), axis=-1)[:, None]
                rows[system][f"found among {pool}, top {rank}"] = number_of(counted, is_share=True)
    return rows


def _actions(motion: Motion, detector: EventDetector) -> set[tuple[str, str]]:
    """What is done in a motion, each on its side."""
    if motion.duration_s < SHORTEST_S:
        return set()
    return {(one.action, one.side) for one in segments(motion, detector) if one.action not in UNNAMED}


# --- both ---------------------------------------------------------------------------------------------------------


def nearest(bench: Bench, texts: Sequence[str]) -> list[int]:
    """Places of the train clips whose captions are nearest to texts, the first of several that are."""
    vectors, owners = bench.train_captions
    return [int(owners[row]) for row in (bench.embeddings.texts(texts) @ vectors.T).argmax(axis=1)]


def _others(rows: Sequence[T], rng: np.random.Generator) -> list[T]:
    """Everybody has what is another's."""
    order = rng.permutation(len(rows))
    moved = np.empty(len(rows), dtype=int)
    moved[order] = np.roll(order, 1)
    return [rows[place] for place in moved]


def markdown(table: Table) -> str:
    """A table with a system a line."""
    measured = list(next(iter(table.rows.values())))
    lines = [["", *measured], ["---"] * (len(measured) + 1)]
    lines += [[system, *(shown(numbers[what]) for what in measured)] for system, numbers in table.rows.items()]
    return f"## {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _examples(prompts: Sequence[str], said: dict[str, list[str]]) -> str:
    lines = ["| prompt | model's caption of its motion | read by understand |", "| --- | --- | --- |"]
    rows = zip(prompts, said["model"], said["model, read by understand"])
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _write(path: Path, text: str) -> Path:
    return write_text(path, text)


if __name__ == "__main__":
    import tyro

    print(run(tyro.cli(Recipe)))
