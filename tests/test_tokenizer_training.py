"""Training a tokenizer: what is learned from, what is compared, and that a killed run ends like one never killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, DataError
from kinalign.motion.features import FeatureLayout, features_to_joints, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.tokenizer.evaluate import evaluate_tokenizer
from kinalign.tokenizer.losses import LossWeights, features_to_world, reconstruction_losses
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.tokenizer.train import (
    TokenizerTraining,
    TrainingClip,
    WindowSampler,
    refine_decoder,
    train_tokenizer,
    training_variants,
    upper_body_channels,
)
from kinalign.tokenizer.vqvae import VQVAEConfig
from kinalign.training import Optimization

TINY = TokenizerTraining(
    network=VQVAEConfig(
        network="patches", width=16, code_dim=8, codebook_size=16, codes_per_step=2, quantizer="residual"
    ),
    optimization=Optimization(steps=12, learning_rate=3e-3, warmup_steps=2, log_every=1, checkpoint_every=5),
    batch_frames=128,
    windows=(16, 32),
    window_shares=(0.5, 0.5),
    source_shares=(("walks", 0.5), ("others", 0.5)),
    speeds=(1.0, 1.25),
    mix_share=0.25,
    continuous_steps=3,
)


def clip(motion: Motion, source: str = "walks", name: str = "one") -> Clip:
    return Clip(name, motion, (motion.caption,), source, "made up", "train")


def clips() -> list[Clip]:
    return [
        clip(walking(60), "walks", "walk"),
        clip(waving(50), "others", "wave"),
        clip(jumping(2), "others", "jump"),
        clip(walking(12), "walks", "too short"),
    ]


# a run


def test_a_refined_decoder_gives_motions_back_better_from_the_same_codes(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(clips(), TINY, folder=tmp_path / "whole")
    motions = [c.motion for c in clips()]
    codes = [tokenizer.encode(motion) for motion in motions]
    before = evaluate_tokenizer(tokenizer, clips())["all"].mpjpe_mm
    longer = replace(TINY, optimization=replace(TINY.optimization, steps=60))
    refined = refine_decoder(tokenizer, clips(), longer, folder=tmp_path / "decoder")
    assert all(np.array_equal(refined.encode(m), row) for m, row in zip(motions, codes))
    assert evaluate_tokenizer(refined, clips())["all"].mpjpe_mm < before


def test_a_decoder_is_refined_only_with_settings_of_its_own_network(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(clips(), TINY, folder=tmp_path / "whole")
    other = replace(TINY, network=replace(TINY.network, width=32))
    with pytest.raises(ConfigError, match="another network"):
        refine_decoder(tokenizer, clips(), other, folder=tmp_path / "decoder")


def test_it_learns_to_give_motions_back(tmp_path: Path) -> None:
    config = replace(
        TINY,
        network=replace(TINY.network, width=32, codebook_size=64),
        optimization=Optimization(steps=120, learning_rate=1e-2, warmup_steps=5, log_every=20),
        speeds=(1.0,),
        mix_share=0.0,
    )
    untrained = train_tokenizer(
        clips(), replace(config, optimization=Optimization(steps=1, learning_rate=1e-6)), folder=tmp_path / "untrained"
    )
    trained = train_tokenizer(clips(), config, folder=tmp_path / "trained")
    before, after = (evaluate_tokenizer(tokenizer, clips())["all"] for tokenizer in (untrained, trained))
    assert after.mpjpe_mm < 0.5 * before.mpjpe_mm
    assert after.codes_used > 10


TRAIN = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from test_tokenizer_training import LONGER, clips
from kinalign.tokenizer.train import train_tokenizer
train_tokenizer(clips(), LONGER, folder=sys.argv[2])
"""
LONGER = replace(TINY, optimization=replace(TINY.optimization, steps=80, checkpoint_every=10))


@pytest.mark.slow
def test_a_run_ended_by_kill_9_ends_like_one_never_killed(tmp_path: Path) -> None:
    whole = train_tokenizer(clips(), LONGER, folder=tmp_path / "whole")

    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "killed" / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 13) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0
    assert 13 <= log.read_text().count("\n") < 80

    resumed = train_tokenizer(clips(), LONGER, folder=tmp_path / "killed")
    assert log.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    files = [t.save_pretrained(tmp_path / name) for t, name in ((whole, "a"), (resumed, "b"))]
    assert (files[0] / "model.safetensors").read_bytes() == (files[1] / "model.safetensors").read_bytes()


@pytest.mark.parametrize("quantizer", ["grouped", "library-residual"])
def test_other_quantisers_resume_exactly_too(quantizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if quantizer == "library-residual":
        pytest.importorskip("vector_quantize_pytorch", reason="pip install 'kinalign[quantizers]'")
    config = replace(TINY, network=replace(TINY.network, quantizer=quantizer))
    train_tokenizer(clips(), config, folder=tmp_path / "whole")
    draw, count = WindowSampler.draw, iter(range(100))

    def interrupted(self: WindowSampler, rng: np.random.Generator) -> torch.Tensor:
        if next(count) == 8:
            raise KeyboardInterrupt
        return draw(self, rng)

    monkeypatch.setattr(WindowSampler, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(clips(), config, folder=tmp_path / "parts")
    train_tokenizer(clips(), config, folder=tmp_path / "parts")
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    train_tokenizer(clips(), TINY, folder=tmp_path)
    with pytest.raises(ConfigError, match="was begun with another configuration: mirror is True there and False here"):
        train_tokenizer(clips(), replace(TINY, mirror=False), folder=tmp_path)


def test_kits_joints_are_learned_from_too(tmp_path: Path) -> None:
    pose = np.zeros((KIT.num_joints, 3))
    for joint in KIT.topological_order[1:]:
        pose[joint] = pose[KIT.parents[joint]] + KIT.offsets[joint]
    sway = 0.02 * np.random.default_rng(0).normal(size=(40, KIT.num_joints, 3))
    config = replace(
        TINY, network=replace(TINY.network, feature_width=FeatureLayout(21).width), source_shares=(), mix_share=0.0
    )
    tokenizer = train_tokenizer([clip(Motion(pose + sway, fps=12.5, skeleton=KIT))], config, folder=tmp_path)
    assert tokenizer.skeleton is KIT and tokenizer.config.fps == 12.5
    with pytest.raises(DataError, match=r"clip 'one' has 22 joints; .* learns from 21 \(--feature-width\)"):
        train_tokenizer([clip(walking(60))], config, folder=tmp_path)


def test_clips_that_are_all_too_short_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 clips is longer than 16 frames; nothing to train on"):
        train_tokenizer([clip(walking(12))], TINY, folder=tmp_path)
    with pytest.raises(DataError, match="none of 0 clips"):
        train_tokenizer([], TINY, folder=tmp_path)


def test_a_window_that_no_clip_fills_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no training clip has 32 frames; leave this length out \(--windows\)"):
        train_tokenizer([clip(walking(30))], replace(TINY, speeds=(1.0,)), folder=tmp_path)


def test_shares_of_absent_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name none of the sources .*walks.* \(--source-shares\)"):
        train_tokenizer([clip(walking(60))], replace(TINY, source_shares=(("CMU", 1.0),)), folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows": (16, 30)}, r"windows=\(16, 30\) must be multiples of 4 frames, 8 at least"),
        ({"windows": (4, 32)}, "must be multiples of 4 frames, 8 at least"),
        ({"window_shares": (1.0,)}, "1 window_shares for 2 windows"),
        ({"window_shares": (0.0, 0.0)}, "must be shares, not all of them 0"),
        ({"window_shares": (2.0, -1.0)}, "must be shares"),
        ({"windows": (), "window_shares": ()}, "must be shares"),
        ({"speeds": (1.0, 0.0)}, r"speeds=\(1\.0, 0\.0\) must be positive"),
        ({"speeds": ()}, r"speeds=\(\) must be positive"),
        ({"mix_share": 1.5}, r"mix_share=1\.5 must be in \[0, 1\]"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **settings)


# what is learned from


def test_a_clip_is_learned_from_mirrored_and_at_other_speeds() -> None:
    motion = walking(61)
    variants = training_variants(clip(motion), replace(TINY, speeds=(1.0, 2.0, 0.5)))
    assert [len(variant) for variant in variants] == [61, 31, 121] * 2
    assert all(variant.fps == 20 for variant in variants)
    assert np.array_equal(variants[0].joints, motion.joints)
    assert np.array_equal(variants[1].joints, motion.joints[::2])
    assert np.array_equal(variants[3].joints, motion.mirror().joints)


def test_other_speeds_are_made_of_some_sources_only() -> None:
    config = replace(TINY, speeds=(1.0, 2.0), speed_sources=("walks",), mirror=False)
    assert len(training_variants(clip(walking(61), "walks"), config)) == 2
    assert len(training_variants(clip(walking(61), "others"), config)) == 1


def test_clips_of_another_frame_rate_are_learned_from_at_their_own_speed() -> None:
    config = replace(TINY, speeds=(1.0,), mirror=False)
    (variant,) = training_variants(clip(walking(61).resample(60)), config)
    assert np.allclose(variant.joints, walking(61).joints, atol=1e-6)


def numbered_clips(*lengths_and_sources: tuple[int, str]) -> list[TrainingClip]:
    """Clips whose every feature says which clip and frame it is: 1000 x clip + frame."""
    return [
        TrainingClip((1000.0 * number + torch.arange(length))[:, None].expand(length, 263), source)
        for number, (length, source) in enumerate(lengths_and_sources)
    ]


def draws(sampler: WindowSampler, num_draws: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [sampler.draw(rng)[..., 0].numpy() for _ in range(num_draws)]


def test_windows_are_whole_pieces_of_one_clip() -> None:
    config = replace(TINY, mix_share=0.0, source_shares=())
    sampler = WindowSampler(numbered_clips((16, "a"), (40, "a"), (100, "a")), config)
    for batch in draws(sampler, 50):
        assert batch.shape in {(8, 16), (4, 32)}
        assert (np.diff(batch, axis=1) == 1).all()
        lengths = np.array([16, 40, 100])[batch[:, 0].astype(int) // 1000]
        assert (batch[:, -1] % 1000 < lengths).all()


def test_every_frame_is_drawn() -> None:
    config = replace(TINY, windows=(16,), window_shares=(1.0,), mix_share=0.0, source_shares=())
    seen = set(
        np.concatenate(
            [batch.ravel() for batch in draws(WindowSampler(numbered_clips((20, "a"), (16, "a")), config), 100)]
        )
    )
    assert seen == {*range(20), *range(1000, 1016)}


def test_sources_are_drawn_by_their_shares() -> None:
    config = replace(
        TINY, windows=(16,), window_shares=(1.0,), mix_share=0.0, source_shares=(("rare", 0.75), ("common", 0.25))
    )
    sampler = WindowSampler(numbered_clips((20, "rare"), (400, "common"), (400, "common"), (50, "left out")), config)
    first = np.concatenate([batch[:, 0] for batch in draws(sampler, 250)])  # 2000 windows
    assert np.mean(first < 1000) == pytest.approx(0.75, abs=0.04)  # 4 sigma of 2000 draws
    assert (first < 3000).all()


def test_without_shares_longer_clips_are_drawn_more_often() -> None:
    config = replace(TINY, windows=(16,), window_shares=(1.0,), mix_share=0.0, source_shares=())
    first = np.concatenate([b[:, 0] for b in draws(WindowSampler(numbered_clips((100, "a"), (300, "b")), config), 250)])
    assert np.mean(first >= 1000) == pytest.approx(0.75, abs=0.04)


def test_a_mixed_window_has_the_legs_of_one_clip_and_the_arms_of_another() -> None:
    config = replace(TINY, windows=(16,), window_shares=(1.0,), mix_share=0.5, source_shares=())
    clips = [TrainingClip(torch.full((16, 263), float(number)), "a") for number in range(50)]
    batch = WindowSampler(clips, config).draw(np.random.default_rng(1))
    upper = upper_body_channels(FeatureLayout(22))
    legs = [channel for channel in range(263) if channel not in upper]
    for row in batch:
        assert len(row[:, legs].unique()) == len(row[:, upper].unique()) == 1
    is_mixed = batch[:, 0, upper[0]] != batch[:, 0, legs[0]]
    assert is_mixed[:4].sum() >= 3  # half of eight; a window may meet itself
    assert not is_mixed[4:].any()


def test_upper_body_channels_are_those_that_arms_change() -> None:
    layout, motion = FeatureLayout(22), walking(20)
    arms = [i for i, name in enumerate(HUMANML3D.joint_names) if name.endswith(("elbow", "wrist", "head"))]
    moved = motion.joints.copy()
    moved[:, arms] += 0.05 * np.random.default_rng(0).normal(size=(20, len(arms), 3))
    changed = motion_to_features(replace(motion, joints=moved)) != motion_to_features(motion)
    assert set(np.flatnonzero(changed.any(0))) <= set(upper_body_channels(layout))
    assert set(range(layout.slices["joint_positions"].start)).isdisjoint(upper_body_channels(layout))


def test_mixing_knows_one_skeleton_only() -> None:
    with pytest.raises(ConfigError, match="not a skeleton of 21"):
        upper_body_channels(FeatureLayout(21))


# what is compared


@pytest.mark.parametrize("heading", ["published", "body"])
def test_joints_in_the_world_are_those_of_the_features(heading: Any) -> None:
    batch = np.stack([motion_to_features(m[:50], heading=heading) for m in (walking(60), waving(60), jumping(3))])
    # a body that turns, too
    batch[..., 0] += 0.05
    joints, root_path = (part.numpy() for part in features_to_world(torch.from_numpy(batch).double()))
    true = features_to_joints(batch)
    assert np.allclose(root_path, true[:, :, 0, [0, 2]])
    assert np.allclose(joints, true - true[:, :, :1] * [1, 0, 1])


def losses_of(predicted: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    width = target.shape[-1]
    mean, std = torch.zeros(width), torch.full((width,), 0.3)
    terms = reconstruction_losses(predicted, target, torch.zeros(()), mean=mean, std=std, weights=LossWeights())
    return {name: value.item() for name, value in terms.items()}


def test_what_comes_back_as_it_was_costs_nothing() -> None:
    target = torch.randn(2, 24, 263, generator=torch.Generator().manual_seed(0))
    assert set(losses_of(target, target).values()) == {0.0}


FREE_OF_ROTATIONS = {
    "positions",
    "root_features",
    "joints",
    "fast_joints",
    "root",
    "velocities",
    "accelerations",
}


@pytest.mark.parametrize(
    ("part", "free"),
    [
        ("joint_rotations", FREE_OF_ROTATIONS),
        ("foot_contacts", FREE_OF_ROTATIONS),
        ("joint_positions", {"root_features", "root"}),
        ("root_height", {"positions", "root"}),
        ("root_velocity", {"positions", "joints", "fast_joints"}),
        ("root_yaw_velocity", {"positions"}),
    ],
)
def test_an_error_of_one_part_costs_what_it_changes_and_no_more(part: str, free: set[str]) -> None:
    layout = FeatureLayout(22)
    target = torch.randn(2, 24, 263, generator=torch.Generator().manual_seed(0))
    predicted = target.clone()
    noise = torch.randn(2, 24, layout.widths[part], generator=torch.Generator().manual_seed(1))
    predicted[..., layout.slices[part]] += 0.1 * noise
    costs = losses_of(predicted, target)
    assert {name for name, cost in costs.items() if cost == 0} == free | {"commitment"}


def test_a_constant_shift_of_a_path_has_no_velocity() -> None:
    target = torch.zeros(1, 24, 263)
    predicted = target.clone()
    predicted[0, 0, 1] = 1.0  # one step sideways at the very beginning
    costs = losses_of(predicted, target)
    assert costs["root"] == pytest.approx(
        0.3 * 23 / 24 / 2, rel=1e-5
    )  # 0.3 m in one of two coordinates, from frame 1 on
    assert costs["velocities"] == pytest.approx(0.3 / 23 / 2, rel=1e-5)


def test_an_error_costs_more_where_a_joint_is_fast() -> None:
    layout = FeatureLayout(22)
    target = torch.zeros(1, 24, 263)
    wrist = layout.slices["joint_positions"].start + 3 * 19 + 1  # height of joint 20; joint 0 is the root's
    target[0, 12:, wrist] = 1.0  # it goes up by 0.3 m between frames 11 and 12

    def cost(frame: int) -> float:
        predicted = target.clone()
        predicted[0, frame, wrist] += 0.1
        return losses_of(predicted, target)["fast_joints"]

    fast = 0.03 * 0.3 / (24 * 22)  # an error of 0.03 m at 0.3 m per frame, one of 24 frames and 22 joints
    assert [cost(frame) for frame in (9, 12, 15)] == pytest.approx([fast] * 3, rel=1e-5)
    assert cost(8) == cost(16) == 0.0


# evaluation


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> MotionTokenizer:
    return train_tokenizer(clips(), TINY, folder=tmp_path_factory.mktemp("run"))


def test_errors_are_reported_by_source_and_over_all(tokenizer: MotionTokenizer) -> None:
    groups = evaluate_tokenizer(tokenizer, [*clips(), clip(walking(8), "others")])
    assert list(groups) == ["all", "others", "walks"]
    assert (groups["walks"].clips, groups["others"].clips, groups["all"].clips) == (2, 2, 4)
    assert groups["all"].frames == groups["walks"].frames + groups["others"].frames
    for name, frames in (("walks", 56 + 8), ("others", 48 + len(jumping(2)) // 4 * 4)):
        assert groups[name].frames == pytest.approx(frames, abs=4)
    for measure in ("mpjpe_mm", "pa_mpjpe_mm", "accel_mm"):
        parts = [getattr(groups[name], measure) * groups[name].frames for name in ("walks", "others")]
        assert getattr(groups["all"], measure) == pytest.approx(sum(parts) / groups["all"].frames)
        assert getattr(groups["all"], measure) > 0
    assert 1 <= groups["all"].perplexity <= 16
    assert 2 <= groups["all"].codes_used <= 32


def test_long_clips_are_rebuilt_in_pieces(tokenizer: MotionTokenizer) -> None:
    assert evaluate_tokenizer(tokenizer, [clip(walking(500))])["all"].frames == 496


def test_clips_of_any_frame_rate_are_measured(tokenizer: MotionTokenizer) -> None:
    short = clip(walking(9, fps=240.0))  # a single frame at 20 fps
    assert evaluate_tokenizer(tokenizer, [short, clip(walking(61).resample(60))])["all"].clips == 1


def test_a_body_that_stands_still_can_be_measured(tokenizer: MotionTokenizer) -> None:
    pose = walking(20).joints[:1]
    group = evaluate_tokenizer(tokenizer, [clip(Motion(np.repeat(pose, 30, axis=0)))])["all"]
    assert np.isfinite([group.mpjpe_mm, group.jitter_ratio]).all()


def test_nothing_to_evaluate_is_said(tokenizer: MotionTokenizer) -> None:
    with pytest.raises(DataError, match="none of 1 clips has 8 frames; nothing to evaluate"):
        evaluate_tokenizer(tokenizer, [clip(walking(6))])


def test_real_clips_train_a_tokenizer(openmocap: Callable[[str], list[Clip]], tmp_path: Path) -> None:
    some = openmocap("train")[::200]
    config = replace(TINY, source_shares=(), windows=(16,), window_shares=(1.0,), speeds=(1.0,))
    tokenizer = train_tokenizer(some, config, folder=tmp_path)
    groups = evaluate_tokenizer(tokenizer, some)
    assert set(groups) == {"all", *(clip.source for clip in some)}


def test_every_combination_of_network_and_quantiser_trains(tmp_path: Path) -> None:
    pytest.importorskip("vector_quantize_pytorch", reason="pip install 'kinalign[quantizers]'")
    for network, quantizer in product(("published", "patches"), ("grouped", "residual", "library-residual", "fsq")):
        config = replace(
            TINY,
            network=replace(TINY.network, network=network, quantizer=quantizer, codebook_size=240),
            optimization=Optimization(steps=2),
            continuous_steps=1,
        )
        tokenizer = train_tokenizer(clips()[:3], config, folder=tmp_path / f"{network}-{quantizer}")
        assert len(tokenizer.encode(walking(41))) == 20
