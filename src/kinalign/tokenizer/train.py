"""Train a motion tokenizer: windows of real clips in, the same windows out.

What the published training leaves out and this adds, because the varied sources are small: mirrored clips, other
speeds, upper bodies of one clip on the legs of another, sampling by source; and windows of several lengths, so that
clips shorter than 64 frames are learned from without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, DataError
from kinalign.motion.features import FeatureLayout, FeatureStats, Heading, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, Skeleton, skeleton_for
from kinalign.run import RunFolder, progress
from kinalign.tokenizer.losses import LossWeights, reconstruction_losses
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig
from kinalign.training import Draw, Optimization, optimize


@dataclass(frozen=True)
class TokenizerTraining:
    """Settings of a tokenizer's training."""

    network: VQVAEConfig = field(default_factory=VQVAEConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    heading: Heading = "body"
    """Direction that features are read in; "published" for HumanML3D's."""
    optimization: Optimization = field(default_factory=Optimization)
    batch_frames: int = 4096
    """Frames of a batch: windows x their length."""
    windows: tuple[int, ...] = (16, 32, 64)
    """Lengths of windows, in frames; each a multiple of the frames of a code."""
    window_shares: tuple[float, ...] = (0.1, 0.25, 0.65)
    """How often each length is drawn."""
    source_shares: tuple[tuple[str, float], ...] = ()
    """(source, share of windows) where sources are to be drawn evenly; empty draws by frames."""
    speeds: tuple[float, ...] = (1.0,)
    """Clips are also learned from at these speeds."""
    speed_sources: tuple[str, ...] = ()
    """Sources that other speeds are made of; empty means all."""
    mirror: bool = True
    """Learn from mirrored clips too."""
    mix_share: float = 0.0
    """Share of windows whose trunk and arms come from another window of the batch."""
    continuous_steps: int = 0
    """First steps without quantising: the codebooks are then drawn from vectors that already mean something."""

    def __post_init__(self) -> None:
        frames = self.network.frames_per_code
        if any(window % frames or window < 2 * frames for window in self.windows):
            raise ConfigError(
                f"windows={self.windows} must be multiples of {frames} frames, {2 * frames} at least (--windows)"
            )
        if len(self.window_shares) != len(self.windows):
            raise ConfigError(
                f"{len(self.window_shares)} window_shares for {len(self.windows)} windows (--window-shares)"
            )
        if not (sum(self.window_shares) > 0 and min(self.window_shares) >= 0):
            raise ConfigError(f"window_shares={self.window_shares} must be shares, not all of them 0 (--window-shares)")
        if not (self.speeds and min(self.speeds) > 0):
            raise ConfigError(f"speeds={self.speeds} must be positive; 1 is as recorded (--speeds)")
        if not 0 <= self.mix_share <= 1:
            raise ConfigError(f"mix_share={self.mix_share} must be in [0, 1] (--mix-share)")


class TrainingClip(NamedTuple):
    """Normalised features (T, F) of a clip, or of its mirrored or re-timed copy, and the clip's source."""

    features: Tensor
    source: str


def training_variants(clip: Clip, config: TokenizerTraining) -> list[Motion]:
    """The clip's motion at its skeleton's frame rate, mirrored and at other speeds, as the settings ask."""
    fps = clip.motion.skeleton.fps
    timed = [
        replace(clip.motion.resample(fps / speed), fps=fps)
        for speed in config.speeds
        if speed == 1.0 or not config.speed_sources or clip.source in config.speed_sources
    ]
    return timed + [motion.mirror() for motion in timed] if config.mirror else timed


class WindowSampler:
    """Draws batches of windows (B, T, F) of one length, by source shares, with upper bodies mixed."""

    def __init__(self, clips: Sequence[TrainingClip], config: TokenizerTraining) -> None:
        self.clips, self.config = clips, config
        self.by_window = {window: self._weights(window) for window in config.windows}
        if config.mix_share:
            layout = FeatureLayout.of_width(config.network.feature_width)
            self.upper_channels = torch.tensor(upper_body_channels(layout))

    def _weights(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.array([i for i, clip in enumerate(self.clips) if len(clip.features) >= window], dtype=np.int64)
        if len(index) == 0:
            raise DataError(f"no training clip has {window} frames; leave this length out (--windows)")
        weight = np.array([len(self.clips[i].features) for i in index], dtype=float)
        sources = np.array([self.clips[i].source for i in index])
        shares: Mapping[str, float] = dict(self.config.source_shares)
        for source in set(sources) if shares else ():
            mine = sources == source
            weight[mine] *= shares.get(source, 0.0) / weight[mine].sum()
        if not weight.sum() > 0:
            raise DataError(f"source_shares {shares} name none of the sources {sorted(set(sources))} (--source-shares)")
        return index, weight / weight.sum()

    def draw(self, rng: np.random.Generator) -> Tensor:
        shares = np.asarray(self.config.window_shares) / sum(self.config.window_shares)
        window = self.config.windows[rng.choice(len(shares), p=shares)]
        index, weight = self.by_window[window]
        chosen = rng.choice(index, max(1, self.config.batch_frames // window), p=weight)
        rows = []
        for i in chosen:
            start = rng.integers(0, len(self.clips[i].features) - window + 1)
            rows.append(self.clips[i].features[start : start + window])
        batch = torch.stack(rows)
        num_mixed = int(len(batch) * self.config.mix_share)
        if num_mixed:
            donors = torch.from_numpy(rng.permutation(len(batch))[:num_mixed])
            mixed = batch[:num_mixed].clone()
            mixed[..., self.upper_channels] = batch[donors][..., self.upper_channels]
            batch = torch.cat((mixed, batch[num_mixed:]))
        return batch


def upper_body_channels(layout: FeatureLayout) -> list[int]:
    """Feature indices of trunk, head and arms: every joint but the root and the legs. 22 joints only."""
    if layout.num_joints != HUMANML3D.num_joints:
        raise ConfigError(
            f"mix_share knows the joints of HumanML3D, not a skeleton of {layout.num_joints} (--mix-share)"
        )
    legs = {0, *(j for j, name in enumerate(HUMANML3D.joint_names) if name.endswith(("hip", "knee", "ankle", "foot")))}
    channels: list[int] = []
    for part, size, first_joint in (("joint_positions", 3, 1), ("joint_rotations", 6, 1), ("joint_velocities", 3, 0)):
        for joint in range(first_joint, layout.num_joints):
            if joint not in legs:
                start = layout.slices[part].start + (joint - first_joint) * size
                channels += range(start, start + size)
    return channels


def train_tokenizer(clips: Sequence[Clip], config: TokenizerTraining, *, folder: str | Path) -> MotionTokenizer:
    """Train on `clips`, or go on where the run in `folder` was stopped; returns the tokenizer.

    A run that was killed and resumed gives the same curve and weights as one that was not. Raises DataError when no
    clip is long enough and ConfigError when the folder holds a run with other settings.
    """
    run = RunFolder.open(folder, config)
    skeleton = skeleton_for(FeatureLayout.of_width(config.network.feature_width).num_joints)
    features = _all_features(clips, config, skeleton)
    stats = FeatureStats.of(np.concatenate([rows for rows, _ in features]))
    sampler = _sampler(features, stats, config)
    mean, std = torch.from_numpy(stats.mean), torch.from_numpy(stats.std)

    torch.manual_seed(config.optimization.seed)  # the initial weights
    network = VQVAE(config.network)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        batch = draw.mine(sampler.draw(draw.rng)).to(draw.device)
        quantize = draw.step >= config.continuous_steps
        features, quantized = network(batch, quantize=quantize, generator=draw.generator)
        terms = reconstruction_losses(
            features, batch, quantized.commitment_loss, mean=mean.to(batch), std=std.to(batch), weights=config.weights
        )
        use = {f"codebook/perplexity_{q}": use for q, use in enumerate(quantized.perplexity)}
        return {**terms, **use, "weight": torch.tensor(float(len(batch)))}

    optimize(run, network, terms_of, config.optimization)
    settings = TokenizerConfig(config.network, heading=config.heading, fps=skeleton.fps)
    return MotionTokenizer(settings, network, stats, skeleton)


def refine_decoder(
    tokenizer: MotionTokenizer, clips: Sequence[Clip], config: TokenizerTraining, *, folder: str | Path
) -> MotionTokenizer:
    """Go on training a tokenizer's decoder alone, in place; returns the tokenizer.

    Codes stay what they are, so a language model that speaks them still fits. `config.network` must be the tokenizer's.
    """
    if config.network != tokenizer.config.network or config.heading != tokenizer.config.heading:
        raise ConfigError("the settings are of another network or heading than the tokenizer's; take its config.json's")
    run = RunFolder.open(folder, config)
    network, stats = tokenizer.network, tokenizer.stats
    sampler = _sampler(_all_features(clips, config, tokenizer.skeleton), stats, config)
    mean, std = torch.from_numpy(stats.mean), torch.from_numpy(stats.std)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        batch = draw.mine(sampler.draw(draw.rng)).to(draw.device)
        with torch.no_grad():
            codes = network.encode(batch)
        nothing = batch.new_zeros(())
        terms = reconstruction_losses(
            network.decode(codes), batch, nothing, mean=mean.to(batch), std=std.to(batch), weights=config.weights
        )
        return {**terms, "weight": torch.tensor(float(len(batch)))}

    optimize(run, network.decoder, terms_of, config.optimization)
    return tokenizer


def _sampler(
    features: Sequence[tuple[np.ndarray, str]], stats: FeatureStats, config: TokenizerTraining
) -> WindowSampler:
    return WindowSampler([TrainingClip(torch.from_numpy(stats.normalize(f)), s) for f, s in features], config)


def _all_features(clips: Sequence[Clip], config: TokenizerTraining, skeleton: Skeleton) -> list[tuple[np.ndarray, str]]:
    shortest = min(config.windows)
    for clip in clips:
        if clip.motion.skeleton.num_joints != skeleton.num_joints:
            raise DataError(
                f"clip {clip.id!r} has {clip.motion.skeleton.num_joints} joints; a network of "
                f"{config.network.feature_width} features learns from {skeleton.num_joints} (--feature-width)"
            )
    features = []
    with progress("features", total=len(clips)) as advance:
        for clip in clips:
            for motion in training_variants(clip, config):
                if len(motion) > shortest:
                    rows = motion_to_features(motion, target_skeleton=skeleton, heading=config.heading)
                    features.append((rows, clip.source))
            advance()
    if not features:
        raise DataError(f"none of {len(clips)} clips is longer than {shortest} frames; nothing to train on")
    return features
