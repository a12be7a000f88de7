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

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from kinalign.alignment.composed import compose_motions, excerpts_of
from kinalign.data.openmocap import load_openmocap
from kinalign.errors import EvaluationError
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.eventquality import QUALITY_METRICS, jackknife
from kinalign.evaluation.eventreport import number_shown
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventsets import Indices
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.eventtruth import Array
from kinalign.evaluation.metrics import fid
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import EventPrompt
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, foot_stillness, jitter
from kinalign.motion.planting import settled
from kinalign.pipeline import TextToMotion


@dataclass(frozen=True)
class Joined:
    """Hold the motions of evaluations of events against real clips that are joined for the same prompts."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Report folders of `kinalign evaluate --events`, of the same prompts."""
    copies: int = 3
    """Motions that are tried for each prompt."""
    seed: int = 0
    plant: bool = False
    """Show all motions with planted feet too (motion/planting.py)."""


@dataclass(frozen=True)
class JoinedMotions:
    """M real motions that are joined for prompts, and show all their events: what systems are held against."""

    motions: list[Motion]
    of_prompt: Indices
    """Places (M,) of their prompts."""
    vectors: Array
    """Embeddings (M, D)."""
    num_prompts: int

    @staticmethod
    def of(
        prompts: Sequence[EventPrompt], encoder: TextMotionEncoder, *, copies: int = 3, seed: int = 0
    ) -> JoinedMotions:
        """Up to `copies` motions of test clips for each prompt, by the judge by rules; raises DataError for none."""
        excerpts = excerpts_of(load_openmocap(split="test", cut_events=True))
        made = compose_motions(prompts, excerpts, KinematicJudge(), copies=copies, seed=seed)
        place_of = {prompt.id: place for place, prompt in enumerate(prompts)}
        motions = [one.motion for one in made]
        of_prompt = np.array([place_of[one.prompt.id] for one in made])
        return JoinedMotions(motions, of_prompt, encoder.encode_motion(motions), len(prompts))

    @property
    def places(self) -> Indices:
        """Places of the prompts that there are motions for."""
        return np.unique(self.of_prompt)

    def away(self, vectors: Array, of_prompt: Indices) -> Number:
        """FID of a system's motions, of their embeddings (N, D) and the places (N,) of their prompts.

        Motions for prompts that nothing is joined for do not count. The interval is a jackknife over prompts, on both
        sides at once.
        """
        places = self.places
        value, low, high = jackknife(
            len(places),
            lambda kept: fid(
                self.vectors[np.isin(self.of_prompt, places[kept])], vectors[np.isin(of_prompt, places[kept])]
            ),
        )
        return Number(value, max(low, 0.0), high, int(np.isin(of_prompt, places).sum()))


def held_against_joined(config: Joined) -> list[str]:
    """Lines of the table, which is printed; raises EvaluationError for reports of different prompts."""
    torch.set_num_threads(1)
    folders = [EventFolder.load(path) for path in config.reports]
    prompts = folders[0].prompts.all
    if any(folder.prompts.all != prompts for folder in folders):
        raise EvaluationError("the reports asked different prompts; evaluate all systems alike")
    encoder = TextMotionEncoder.from_pretrained(shipped_encoder())
    tokenizer = TextToMotion.from_pretrained().tokenizer
    joined = JoinedMotions.of(prompts, encoder, copies=config.copies, seed=config.seed)
    again = [tokenizer.decode(tokenizer.encode(motion)).on_floor() for motion in joined.motions]
    print(f"{len(joined.motions)} motions joined of test clips, for {len(joined.places)} of {len(prompts)} prompts")
    lines = [
        "| motions | FID to joined | FID to clips | skating cm/s | standing still % | jitter m/s³ |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    real = folders[0].measured().real
    lines.append(_line("real, joined", "0", fid(real, joined.vectors), joined.motions))
    lines.append(
        _line("real, through the tokenizer", f"{fid(joined.vectors, encoder.encode_motion(again)):.3f}", None, again)
    )
    of_system = {"real, joined": joined.motions, "real, through the tokenizer": again}
    for path, folder in zip(config.reports, folders):
        vectors = folder.measured().vectors  # (P, R, D)
        away = joined.away(_flat(vectors), np.repeat(np.arange(len(prompts)), folder.replications))
        motions = [folder.motions(number)[place] for number in range(folder.replications) for place in joined.places]
        shown = number_shown(QUALITY_METRICS["fid"], away)
        lines.append(_line(path.name, shown, fid(real, _flat(vectors[joined.places])), motions))
        of_system[path.name] = motions
    for name, motions in of_system.items() if config.plant else ():
        still = [settled(motion) for motion in motions]
        vectors = encoder.encode_motion(still)
        lines.append(_line(f"{name}, planted", f"{fid(joined.vectors, vectors):.3f}", fid(real, vectors), still))
    print("\n".join(lines))
    return lines


def _line(name: str, away: str, to_clips: float | None, motions: list[Motion]) -> str:
    clips = "" if to_clips is None else f"{to_clips:.3f}"
    measures = (foot_skating, foot_stillness, jitter)
    skating, still, jerk = (np.mean([measure(motion) for motion in motions]) for measure in measures)
    return f"| {name} | {away} | {clips} | {100 * skating:.1f} | {100 * still:.0f} | {jerk:.0f} |"


def _flat(vectors: Array) -> Array:
    return vectors.reshape(-1, vectors.shape[-1])


if __name__ == "__main__":
    held_against_joined(tyro.cli(Joined))
