"""How good motions are beside what they show: AToM's numbers for each sub-task, and how the bodies stand and move.

FID is of all replications together against the real clips, its interval a jackknife that leaves out a twentieth of the
prompts at a time (Efron and Stein 1981). R-precision is of one replication at a time, a pool holding each prompt once.

Letters: P prompts, R replications, N real clips, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.evaluation.compare import Difference
from kinalign.evaluation.eventscores import NOTHING, Z_95, Number
from kinalign.evaluation.eventsets import Indices
from kinalign.evaluation.eventtruth import difference_of, number_of
from kinalign.evaluation.metrics import diversity, fid, pool_hits
from kinalign.evaluation.report import METRICS

Array = NDArray[np.floating]

POOL_SIZE = 32
NUM_DIVERSITY_PAIRS = 200
"""As AToM on its small sets; of fewer than 400 motions as many pairs as half of them."""
BLOCKS = 20
"""Parts of the prompts that FID's jackknife leaves out, one at a time."""
PHYSICS = ("skating_cm_s", "skating_percent", "floating_mm", "jitter_m_s3")
"""Nothing sinks: motions are put on the floor."""
QUALITY_METRICS = {
    name: METRICS[name]
    for name in ("fid", "r_precision_1", "r_precision_2", "r_precision_3", "mm_dist", "diversity", *PHYSICS)
}


class Measured(NamedTuple):
    """What is measured of a system's motions, and of the real clips that they are held against."""

    text: Array
    """Embeddings (P, D) of the prompts."""
    vectors: Array
    """Embeddings (P, R, D) of the motions."""
    physics: dict[str, Array]
    """Metric -> (P, R)."""
    real: Array
    """Embeddings (N, D)."""
    real_physics: dict[str, Array]
    """Metric -> (N,)."""

    def tallies(self, places: Indices) -> dict[str, Array]:
        """Metric -> tally (P, R, 2) of what is a mean over motions, of the prompts at some places."""
        text, vectors = self.text[places], self.vectors[places]
        means = {name: values[places] for name, values in self.physics.items()}
        means["mm_dist"] = np.linalg.norm(vectors - text[:, None], axis=-1)
        if len(places) >= POOL_SIZE:
            # the same pools for every system
            hits = [
                pool_hits(text, vectors[:, at], rng=np.random.default_rng([at, len(places)]), pool_size=POOL_SIZE)
                for at in range(vectors.shape[1])
            ]
            means |= {f"r_precision_{k}": np.stack([one[:, k - 1] for one in hits], axis=1) for k in (1, 2, 3)}
        return {
            name: np.stack((np.nan_to_num(values), np.isfinite(values).astype(float)), axis=-1)
            for name, values in means.items()
        }

    def numbers(self, places: Indices) -> dict[str, Number]:
        """All metrics of the prompts at some places."""
        found = {name: number_of(tally) for name, tally in self.tallies(places).items()}
        motions = self.vectors[places].reshape(-1, self.vectors.shape[-1])
        found["fid"] = NOTHING
        if len(places) >= BLOCKS:
            value, low, high = jackknife(len(places), lambda kept: fid(self.real, self._of(places[kept])))
            found["fid"] = Number(value, max(low, 0.0), high, len(motions))
        found["diversity"] = _diversity(motions)
        return {name: found.get(name, NOTHING) for name in QUALITY_METRICS}

    def real_numbers(self) -> dict[str, Number]:
        """What can be said of the real clips themselves."""
        found = {
            name: number_of(np.stack((values, np.ones_like(values)), axis=-1)[:, None])
            for name, values in self.real_physics.items()
        }
        return {name: found.get(name, NOTHING) for name in QUALITY_METRICS} | {"diversity": _diversity(self.real)}

    def differences(self, other: Measured, places: Indices) -> dict[str, Difference]:
        """How much more each metric is of another system on the same prompts."""
        ours, theirs = self.tallies(places), other.tallies(places)
        found = {name: difference_of(tally, theirs[name]) for name, tally in ours.items()}
        if len(places) >= BLOCKS:
            a, b = fid(self.real, self._of(places)), fid(other.real, other._of(places))
            _, low, high = jackknife(
                len(places),
                lambda kept: fid(other.real, other._of(places[kept])) - fid(self.real, self._of(places[kept])),
            )
            found["fid"] = Difference(len(places), a, b, low, high)
        return {name: found[name] for name in QUALITY_METRICS if found.get(name) is not None}  # type: ignore[misc]

    def _of(self, places: Indices) -> Array:
        return self.vectors[places].reshape(-1, self.vectors.shape[-1])


def jackknife(size: int, statistic: Callable[[Indices], float]) -> tuple[float, float, float]:
    """A statistic of the places of `size` prompts, and its 95 % interval by leaving out every twentieth of them."""
    rows = np.arange(size)
    value = statistic(rows)
    without = np.array([statistic(rows[rows % BLOCKS != block]) for block in range(BLOCKS)])
    error = float(np.sqrt((BLOCKS - 1) / BLOCKS * np.square(without - without.mean()).sum()))
    return value, value - Z_95 * error, value + Z_95 * error


def _diversity(vectors: Array) -> Number:
    num_pairs = min(NUM_DIVERSITY_PAIRS, len(vectors) // 2)
    if num_pairs < 1:
        return NOTHING
    return Number(diversity(vectors, rng=np.random.default_rng(0), num_pairs=num_pairs), None, None, num_pairs)
