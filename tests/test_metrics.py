"""Embedding metrics against the published procedures, written out plainly, and against what must hold of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from kinalign.errors import EvaluationError, MotionError
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
    mpjpe,
    multimodality,
    pool_hits,
    r_precision,
)

Array = NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def correlated(rng: np.random.Generator, num_samples: int, width: int) -> Array:
    """Samples of a Gaussian with a dense covariance of its own and a mean that is not 0."""
    return rng.normal(size=(num_samples, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def turn(rng: np.random.Generator, width: int) -> Array:
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


# --- FID


def published_fid(real: Array, generated: Array) -> float:
    """By the root of the product of covariances, as the TM2T code family computes it."""
    root = sqrtm(np.cov(real, rowvar=False) @ np.cov(generated, rowvar=False))
    shift = real.mean(0) - generated.mean(0)
    trace = np.trace(np.cov(real, rowvar=False)) + np.trace(np.cov(generated, rowvar=False))
    return float(shift @ shift + trace - 2 * np.trace(root).real)


@pytest.mark.parametrize("width", [2, 16, 48])
def test_fid_is_the_published_number(rng: np.random.Generator, width: int) -> None:
    real, generated = correlated(rng, 300, width), correlated(rng, 250, width)
    assert fid(real, generated) == pytest.approx(published_fid(real, generated), rel=1e-6)


def test_fid_of_fewer_samples_than_dimensions_is_right(rng: np.random.Generator) -> None:
    a, b = correlated(rng, 12, 40), correlated(rng, 9, 40)
    # no covariance: tr (C1 C2)^1/2 is the sum of the singular values of the product of the samples themselves
    overlap = np.linalg.norm((a - a.mean(0)) @ (b - b.mean(0)).T, "nuc") / np.sqrt(11 * 8)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * overlap
    assert fid(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("num_samples", [2, 30, 200])
def test_a_set_is_at_no_distance_from_itself(rng: np.random.Generator, num_samples: int) -> None:
    x = correlated(rng, num_samples, 64)
    assert fid(x, x) == pytest.approx(0, abs=1e-9 * x.var(axis=0).sum())  # 64 roundings of float64
    assert fid(x, x[::-1]) == pytest.approx(0, abs=1e-9 * x.var(axis=0).sum())


def test_fid_of_a_moved_set_is_the_square_of_the_way(rng: np.random.Generator) -> None:
    x = correlated(rng, 100, 8)
    assert fid(x, x + np.arange(8)) == pytest.approx((np.arange(8) ** 2).sum())


def test_fid_of_a_scaled_set_is_known(rng: np.random.Generator) -> None:
    x = correlated(rng, 100, 8)
    x -= x.mean(axis=0)
    assert fid(x, 3 * x) == pytest.approx((3 - 1) ** 2 * x.var(axis=0, ddof=1).sum())  # sqrt(C 9C) = 3C


def test_fid_is_symmetric_and_sees_no_turn(rng: np.random.Generator) -> None:
    a, b = correlated(rng, 60, 20), correlated(rng, 50, 20)
    rotation = turn(rng, 20)
    assert fid(b, a) == pytest.approx(fid(a, b), rel=1e-9)
    assert fid(a @ rotation, b @ rotation) == pytest.approx(fid(a, b), rel=1e-9)


def test_fid_of_sets_that_collapsed_is_the_square_of_their_distance() -> None:
    assert fid(np.zeros((5, 3)), np.full((7, 3), 2.0)) == pytest.approx(12)


def test_fid_is_computed_in_double_precision(rng: np.random.Generator) -> None:
    a, b = (correlated(rng, 80, 10).astype(np.float32) + np.float32(1000) for _ in range(2))
    assert fid(a, b) == pytest.approx(published_fid(a.astype(float), b.astype(float)), rel=1e-6)


# --- R-precision and MM-Dist


def published_r_precision(text: Array, motion: Array, order: NDArray[np.int64], pool_size: int) -> list[float]:
    """Pools in that order, all motions sorted for each text, the place of its own looked up."""
    hits, count = [0, 0, 0], 0
    for start in range(0, len(order) - pool_size + 1, pool_size):
        pool = order[start : start + pool_size]
        for own, text_index in enumerate(pool):
            distances = np.array([np.sqrt(((text[text_index] - motion[other]) ** 2).sum()) for other in pool])
            place = list(np.argsort(distances)).index(own)
            count += 1
            for k in range(3):
                hits[k] += place <= k
    return [hit / count for hit in hits]


@pytest.mark.parametrize(("num_pairs", "pool_size"), [(96, 32), (101, 32), (40, 8)])
def test_r_precision_is_the_published_number(rng: np.random.Generator, num_pairs: int, pool_size: int) -> None:
    motion = rng.normal(size=(num_pairs, 12))
    text = motion + 1.5 * rng.normal(size=motion.shape)
    order = np.random.default_rng(5).permutation(num_pairs)
    ours = r_precision(text, motion, rng=np.random.default_rng(5), pool_size=pool_size)
    assert ours == pytest.approx(published_r_precision(text, motion, order, pool_size), rel=1e-6)
    assert 0 < ours.top1 < ours.top2 < ours.top3 < 1


def test_texts_that_lie_on_their_motions_are_always_found(rng: np.random.Generator) -> None:
    x = rng.normal(size=(70, 6))
    assert r_precision(x, x, rng=rng) == (1, 1, 1)


def test_texts_that_lie_on_another_motion_of_the_pool_are_found_second_at_best(rng: np.random.Generator) -> None:
    motion = rng.normal(size=(32, 6))
    found = r_precision(np.roll(motion, 1, axis=0), motion, rng=rng)
    assert found.top1 == 0
    assert found.top3 < 0.5


@pytest.mark.parametrize("same", ["text", "motion", "both"])
def test_a_model_that_collapsed_scores_chance(rng: np.random.Generator, same: str) -> None:
    motion = rng.normal(size=(320, 5))
    text = motion.copy()
    if same in ("motion", "both"):
        motion[:] = motion[0]
    if same in ("text", "both"):
        text[:] = text[0]
    # one text for all ranks the 32 motions of a pool in one order; one motion for all ties them
    assert r_precision(text, motion, rng=rng) == pytest.approx((1 / 32, 2 / 32, 3 / 32))


def test_unrelated_pairs_score_chance(rng: np.random.Generator) -> None:
    found = r_precision(rng.normal(size=(6400, 4)), rng.normal(size=(6400, 4)), rng=rng)
    for k, share in enumerate(found, start=1):
        assert share == pytest.approx(k / 32, abs=4 * np.sqrt(k / 32 / 6400))  # four standard errors


def test_two_motions_of_one_embedding_share_the_first_place(rng: np.random.Generator) -> None:
    motion = 10 * rng.normal(size=(32, 6))
    motion[1] = motion[0]
    found = r_precision(motion, motion, rng=rng)
    assert found.top1 == pytest.approx(31 / 32)  # each of the two is first half of the time
    assert found.top2 == 1


def test_ranks_survive_embeddings_that_share_a_large_part(rng: np.random.Generator) -> None:
    motion = rng.normal(size=(64, 8))
    text = motion + rng.normal(size=motion.shape)
    near, far = (r_precision(text + s, motion + s, rng=np.random.default_rng(1)) for s in (0.0, 1e6))
    assert near == far


def test_hits_say_which_texts_found_their_motion_and_which_met_no_pool(rng: np.random.Generator) -> None:
    motion = rng.normal(size=(40, 8))
    text = motion.copy()
    text[:5] = -text[:5]
    hits = pool_hits(text, motion, rng=np.random.default_rng(3))
    in_pool = np.isfinite(hits).all(axis=1)
    assert in_pool.sum() == 32
    assert np.isnan(hits[~in_pool]).all()
    assert (hits[5:][in_pool[5:]] == 1).all()
    assert (hits[:5][in_pool[:5]] == 0).all()
    assert hits[in_pool].mean(axis=0) == pytest.approx(r_precision(text, motion, rng=np.random.default_rng(3)))


def test_one_seed_gives_one_number_and_another_other_pools(rng: np.random.Generator) -> None:
    motion = rng.normal(size=(320, 3))
    text = motion + rng.normal(size=motion.shape)
    first, again, other = (r_precision(text, motion, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_mm_dist_is_the_mean_diagonal_of_the_published_distance_matrices(rng: np.random.Generator) -> None:
    text, motion = rng.normal(size=(64, 7)), rng.normal(size=(64, 7))
    diagonals = [
        np.diagonal(np.linalg.norm(text[s : s + 32, None] - motion[None, s : s + 32], axis=-1)) for s in (0, 32)
    ]
    assert mm_dist(text, motion) == pytest.approx(np.mean(diagonals), rel=1e-9)
    assert mm_dist(text, text) == 0
    assert mm_dist(text, text + [3, 4, 0, 0, 0, 0, 0]) == pytest.approx(5)


# --- Diversity and MultiModality


def test_diversity_is_the_published_number(rng: np.random.Generator) -> None:
    x = rng.normal(size=(50, 6))
    chance = np.random.default_rng(3)
    first, second = chance.choice(50, 20, replace=False), chance.choice(50, 20, replace=False)
    distances = [np.sqrt(((x[i] - x[j]) ** 2).sum()) for i, j in zip(first, second)]
    assert diversity(x, rng=np.random.default_rng(3), num_pairs=20) == pytest.approx(np.mean(distances), rel=1e-9)


def test_diversity_of_one_motion_repeated_is_none_and_grows_with_scale(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 6))
    assert diversity(np.repeat(x[:1], 400, axis=0), rng=rng) == 0
    one, two = (diversity(s * x, rng=np.random.default_rng(0)) for s in (1, 2))
    assert two == pytest.approx(2 * one)


def test_multimodality_is_the_published_number(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 30, 6))
    chance = np.random.default_rng(3)
    first, second = chance.choice(30, 10, replace=False), chance.choice(30, 10, replace=False)
    distances = [np.sqrt(((row[i] - row[j]) ** 2).sum()) for row in x for i, j in zip(first, second)]
    assert multimodality(x, rng=np.random.default_rng(3)) == pytest.approx(np.mean(distances), rel=1e-9)


def test_multimodality_does_not_see_how_far_prompts_are_apart(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 30, 6))
    apart = x + 100 * rng.normal(size=(4, 1, 6))
    near, far = (multimodality(y, rng=np.random.default_rng(0)) for y in (x, apart))
    assert far == pytest.approx(near)
    assert multimodality(np.repeat(x[:, :1], 30, axis=1), rng=rng) == 0


# --- ADE, FDE, APD


def test_a_motion_that_is_off_by_half_a_metre_says_so(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(9, 22, 3))
    off = joints + [0.3, 0.0, 0.4]
    assert ade(off, joints) == pytest.approx(0.5)
    assert fde(off, joints) == pytest.approx(0.5)
    assert ade_published(off, joints) == pytest.approx(0.5 * np.sqrt(22))
    assert fde_published(off, joints) == pytest.approx(0.5 * np.sqrt(22))
    assert mpjpe(off, joints) == pytest.approx(0, abs=1e-12)  # which lays roots on each other


def test_fde_sees_the_last_frame_only() -> None:
    still = np.zeros((5, 3, 3))
    late = still.copy()
    late[-1, 1, 1] = 0.6
    assert fde(late, still) == pytest.approx(0.6 / 3)
    assert ade(late, still) == pytest.approx(0.6 / 15)
    assert fde(late[:-1], still[:-1]) == 0


def test_displacements_agree_with_loops_over_all_joints(rng: np.random.Generator) -> None:
    predicted, target, third = rng.normal(size=(3, 7, 22, 3))

    def length(vector: Sequence[float]) -> float:
        return math.sqrt(sum(x * x for x in vector))

    def of_joints(a: np.ndarray, b: np.ndarray, frames: range) -> float:
        return sum(length(a[t, j] - b[t, j]) for t in frames for j in range(22)) / (22 * len(frames))

    def of_bodies(a: np.ndarray, b: np.ndarray, frames: range) -> float:
        return sum(length([*(a[t] - b[t]).flatten()]) for t in frames) / len(frames)

    every, last = range(7), range(6, 7)
    assert ade(predicted, target) == pytest.approx(of_joints(predicted, target, every), rel=1e-6)
    assert fde(predicted, target) == pytest.approx(of_joints(predicted, target, last), rel=1e-6)
    assert ade_published(predicted, target) == pytest.approx(of_bodies(predicted, target, every), rel=1e-6)
    assert fde_published(predicted, target) == pytest.approx(of_bodies(predicted, target, last), rel=1e-6)
    pairs = [(predicted, target), (predicted, third), (target, third)]
    spread = sum(of_joints(a, b, every) for a, b in pairs) / 3
    spread_published = sum(length([*(a - b).flatten()]) for a, b in pairs) / 3
    assert apd([predicted, target, third]) == pytest.approx(spread, rel=1e-6)
    assert apd_published([predicted, target, third]) == pytest.approx(spread_published, rel=1e-6)


def test_published_errors_are_those_of_padded_batches(rng: np.random.Generator) -> None:
    predicted, target = rng.normal(size=(2, 3, 40, 22, 3))
    lengths = [40, 30, 25]
    for index, length in enumerate(lengths):  # what follows a motion in its batch is zero
        predicted[index, length:] = target[index, length:] = 0
    average, final = 0.0, 0.0
    for index, length in enumerate(lengths):
        errors = predicted[index, int(length * 0.2) :].reshape(-1, 66) - target[index, int(length * 0.2) :].reshape(
            -1, 66
        )
        norms = [np.sqrt((error**2).sum()) for error in errors]
        average, final = average + np.mean(norms) / 3, final + norms[-1] / 3
    windows = [(p[int(n * 0.2) :], t[int(n * 0.2) :]) for p, t, n in zip(predicted, target, lengths)]
    assert np.mean([ade_published(p, t) for p, t in windows]) == pytest.approx(average, rel=1e-9)
    assert np.mean([fde_published(p, t) for p, t in windows]) == pytest.approx(final, rel=1e-9)
    assert final < np.mean([fde_published(p[:n], t[:n]) for p, t, n in zip(predicted, target, lengths)])


def test_apd_is_the_mean_over_pairs_of_candidates() -> None:
    still = np.zeros((4, 22, 3))
    candidates = [still, still + [1.0, 0, 0], still + [0, 0, 3.0]]
    assert apd(candidates) == pytest.approx((1 + 3 + np.sqrt(10)) / 3)
    assert apd_published(candidates) == pytest.approx(np.sqrt(4 * 22) * (1 + 3 + np.sqrt(10)) / 3)
    assert apd([still, still]) == 0


def test_apd_compares_candidates_over_the_frames_that_both_have(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(10, 22, 3))
    assert apd([joints, joints[:6]]) == 0
    with pytest.raises(MotionError, match="candidates of 6 to 10 frames"):
        apd_published([joints, joints[:6]])


# --- Bad input


def test_an_embedding_that_is_not_finite_is_named(rng: np.random.Generator) -> None:
    good, bad = rng.normal(size=(2, 64, 4))
    bad[7, 1], bad[9, 0] = np.nan, np.inf
    for compute in (
        lambda: fid(good, bad),
        lambda: fid(bad, good),
        lambda: r_precision(good, bad, rng=rng),
        lambda: mm_dist(bad, good),
        lambda: diversity(bad, rng=rng, num_pairs=10),
    ):
        with pytest.raises(EvaluationError, match=r"2 of 64 .* hold NaN or infinity, the first in row 7; leave"):
            compute()
    with pytest.raises(EvaluationError, match=r"1 of 2 embeddings hold NaN .* row 1"):
        multimodality(np.stack([good, bad]), rng=rng)


def test_fewer_pairs_than_a_pool_are_refused(rng: np.random.Generator) -> None:
    x = rng.normal(size=(31, 4))
    with pytest.raises(EvaluationError, match="pools of 32 needs 32 pairs or more; there are 31: use a larger split"):
        r_precision(x, x, rng=rng)
    with pytest.raises(EvaluationError, match="pool_size=3 leaves top-3 nothing to miss"):
        r_precision(x, x, rng=rng, pool_size=3)


def test_shapes_that_do_not_match_are_refused(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 4))
    with pytest.raises(
        EvaluationError, match=r"text embeddings \(40, 4\) and motion embeddings \(39, 4\) are no pairs"
    ):
        mm_dist(x, x[:-1])
    with pytest.raises(EvaluationError, match="are no pairs"):
        r_precision(x, x[:, :-1], rng=rng)
    with pytest.raises(EvaluationError, match="widths 4 and 3"):
        fid(x, x[:, :-1])
    with pytest.raises(EvaluationError, match=r"real embeddings have shape \(4,\); they must be \(N, D\)"):
        fid(x[0], x)
    with pytest.raises(EvaluationError, match=r"\(0, 4\)"):
        fid(x, x[:0])
    with pytest.raises(EvaluationError, match=r"\(N, S, D\)"):
        multimodality(x, rng=rng)


def test_too_few_samples_are_refused(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 4))
    with pytest.raises(EvaluationError, match="2 samples or more on each side; it has 300 real and 1 generated"):
        fid(x, x[:1])
    with pytest.raises(EvaluationError, match=r"300 pairs needs more samples than pairs .* there are 300 samples"):
        diversity(x, rng=rng)
    with pytest.raises(EvaluationError, match="there are 10: generate more, or set num_pairs lower"):
        multimodality(x.reshape(30, 10, 4), rng=rng)


def test_joints_that_cannot_be_compared_are_refused(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(6, 22, 3))
    broken = joints.copy()
    broken[2, 3, 1] = np.nan
    with pytest.raises(MotionError, match=r"\(6, 22, 3\) and \(5, 22, 3\) cannot be compared; cut both"):
        ade(joints, joints[:-1])
    with pytest.raises(MotionError, match="the target holds NaN"):
        fde(joints, broken)
    with pytest.raises(MotionError, match="candidate 1 holds NaN"):
        apd([joints, broken])
    with pytest.raises(MotionError, match=r"the prediction has shape \(0, 22, 3\)"):
        ade(joints[:0], joints[:0])
    with pytest.raises(MotionError, match="2 candidates or more of one beginning; there are 1"):
        apd([joints])
    with pytest.raises(MotionError, match=r"candidates have \[21, 22\] joints"):
        apd([joints, joints[:, :21]])
