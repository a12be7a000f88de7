"""How far motions for prompts of several events are from real ones: real clips joined for the same prompts.

    kinalign evaluate --events --out base
    kinalign evaluate --events --by-events --out by-events
    python -m kinalign.recipes.joined base by-events

FID to a data set's clips says how much motions look like clips of one action, and what shows two events in a row looks
like none. So motions are composed of the test split's clips (alignment/composed.py) for those prompts for which it can
be done, and are what every system is held against, on these prompts alone. What the tokenizer does to them is shown
too: no answer of a model can be nearer. The joined motions show all events by the judge by rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from kinalign.alignment.composed import compose_motions, excerpts_of
from kinalign.data.openmocap import load_openmocap
from kinalign.errors import EvaluationError
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.eventquality import jackknife
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.metrics import fid
from kinalign.judge.kinematic import KinematicJudge
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter
from kinalign.pipeline import TextToMotion

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Joined:
    """Hold the motions of evaluations of events against real clips that are joined for the same prompts."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Report folders of `kinalign evaluate --events`, of the same prompts."""
    copies: int = 3
    """Motions that are tried for each prompt."""
    seed: int = 0


def held_against_joined(config: Joined) -> list[str]:
    """Lines of the table, which is printed; raises EvaluationError for reports of different prompts."""
    torch.set_num_threads(1)
    folders = [EventFolder.load(path) for path in config.reports]
    prompts = folders[0].prompts.all
    if any(folder.prompts.all != prompts for folder in folders):
        raise EvaluationError("the reports asked different prompts; evaluate all systems alike")
    excerpts = excerpts_of(load_openmocap(split="test", cut_events=True))
    made = compose_motions(prompts, excerpts, KinematicJudge(), copies=config.copies, seed=config.seed)
    numbers = {prompt.id: number for number, prompt in enumerate(prompts)}
    of_prompt = np.array([numbers[one.prompt.id] for one in made])
    places = np.unique(of_prompt)
    encoder = TextMotionEncoder.from_pretrained(shipped_encoder())
    tokenizer = TextToMotion.from_pretrained().tokenizer
    joined = [one.motion for one in made]
    again = [tokenizer.decode(tokenizer.encode(motion)).on_floor() for motion in joined]
    reference = encoder.encode_motion(joined)
    print(f"{len(joined)} motions joined of test clips, for {len(places)} of {len(prompts)} prompts")
    lines = [
        "| motions | FID to joined | FID to clips | skating cm/s | jitter m/s³ |",
        "| --- | --- | --- | --- | --- |",
    ]
    real = folders[0].measured().real
    lines.append(_line("real, joined", "0", fid(real, reference), joined))
    lines.append(
        _line("real, through the tokenizer", f"{fid(reference, encoder.encode_motion(again)):.3f}", None, again)
    )
    for path, folder in zip(config.reports, folders):
        vectors = folder.measured().vectors[places]  # (P, R, D)
        motions = [folder.motions(number)[place] for number in range(folder.replications) for place in places]
        lines.append(_line(path.name, _away(reference, of_prompt, places, vectors), fid(real, _flat(vectors)), motions))
    print("\n".join(lines))
    return lines


def _line(name: str, away: str, to_clips: float | None, motions: list[Motion]) -> str:
    clips = "" if to_clips is None else f"{to_clips:.3f}"
    skating, jerk = (np.mean([measure(motion) for motion in motions]) for measure in (foot_skating, jitter))
    return f"| {name} | {away} | {clips} | {100 * skating:.1f} | {jerk:.0f} |"


def _away(reference: Array, of_prompt: NDArray[np.integer], places: NDArray[np.integer], vectors: Array) -> str:
    """FID with its 95 % interval, a jackknife over prompts on both sides."""
    value, low, high = jackknife(
        len(places), lambda kept: fid(reference[np.isin(of_prompt, places[kept])], _flat(vectors[kept]))
    )
    return f"{value:.3f} [{max(low, 0):.3f}, {high:.3f}]"


def _flat(vectors: Array) -> Array:
    return vectors.reshape(-1, vectors.shape[-1])


if __name__ == "__main__":
    held_against_joined(tyro.cli(Joined))
