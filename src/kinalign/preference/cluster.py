"""Candidates and verdicts on a Ray cluster: two pools of workers, one with the model and one with the judge.

Chunks go through both pools as Ray Data streams them and come back in any order; whoever called writes the files. What
a worker computes for a chunk is what a single process computes for it, so the data set is the same.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from kinalign.errors import ConfigError
from kinalign.judge.named import judge_named
from kinalign.pipeline import TextToMotion
from kinalign.preference.candidates import Draws
from kinalign.preference.chunks import Chunk, with_candidates, with_motions, with_verdicts

Batch = dict[str, Any]
"""One chunk, pickled in the column "chunk", as Ray Data passes it from process to process; it is never on a disk."""


class Drawing:
    """A worker with the model: chunks in, chunks with motions out."""

    def __init__(self, model: str, draws: Draws, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.draws = TextToMotion.from_pretrained(model), draws

    def __call__(self, batch: Batch) -> Batch:
        chunk = unpacked(batch["chunk"][0])
        if chunk.candidates is None:
            chunk = with_candidates(chunk, self.model, self.draws)
        return packed(with_motions(chunk, self.model))


class Judging:
    """A worker with the judge: draws pictures where the judge looks at some."""

    def __init__(self, judge: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.judge = judge_named(judge)

    def __call__(self, batch: Batch) -> Batch:
        return packed(with_verdicts(unpacked(batch["chunk"][0]), self.judge))


def packed(chunk: Chunk) -> Batch:
    return {"chunk": [pickle.dumps(chunk)]}


def unpacked(words: bytes) -> Chunk:
    chunk: Chunk = pickle.loads(words)
    return chunk


def annotated(
    chunks: Sequence[Chunk], *, model: Path, judge: str, draws: Draws, workers: int, threads: int
) -> Iterator[Chunk]:
    """The chunks with candidates and verdicts, as they are done.

    Uses the cluster that RAY_ADDRESS names, where every node finds the model folder at the same path, or processes of
    this machine, which end with this call. Raises ConfigError where Ray is absent.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError("--ray needs Ray: pip install 'kinalign[cluster]'") from error
    # a processor for each worker of both pools, and one for Ray's own reading and writing
    here: dict[str, Any] = (
        {} if "RAY_ADDRESS" in os.environ else {"num_cpus": 2 * workers * threads + 1, "include_dashboard": False}
    )
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        pool: dict[str, Any] = {
            "batch_size": 1,
            "num_cpus": threads,
            "compute": ray.data.ActorPoolStrategy(size=min(workers, len(chunks))),
        }
        rows = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
        done = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .map_batches(Drawing, fn_constructor_args=(str(model.resolve()), draws, threads), **pool)
            .map_batches(Judging, fn_constructor_args=(judge, threads), **pool)
        )
        for row in done.iter_rows():
            yield unpacked(row["chunk"])
    finally:
        ray.shutdown()
