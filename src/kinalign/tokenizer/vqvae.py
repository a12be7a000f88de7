"""The network of the motion tokenizer: convolutions that halve time, a quantiser, convolutions that double it.

At its defaults, with one codebook, this is the published MotionGPT network layer by layer (no normalisation, ReLU,
dilations 9, 3, 1), and tensors have the published names, so that its weights load. The other network, patches, does
all its work at one place per step; it learns several times faster on a CPU.

Letters: B batch, T frames, F features, N = T / frames_per_code steps, Q codes per step, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinalign.errors import ConfigError
from kinalign.motion.features import FeatureLayout
from kinalign.tokenizer.quantizer import GroupedQuantizer, LibraryQuantizer, Quantized, QuantizerKind, ResidualQuantizer

NetworkKind = Literal["published", "patches"]


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes of the network. The defaults are MotionGPT's."""

    feature_width: int = FeatureLayout(22).width
    """Numbers per frame."""
    width: int = 512
    """Channels of the convolutions."""
    code_dim: int = 512
    """Numbers of the vector that a step is quantised in, over all its codes."""
    codebook_size: int = 512
    """Codes of one codebook."""
    codes_per_step: int = 1
    """Codes of one step; each has a codebook of its own."""
    network: NetworkKind = "published"
    """published: MotionGPT's convolutions; patches: all layers at one step per code, for a third of the work."""
    halvings: int = 2
    """How often time is halved: a step is 2 ** halvings frames."""
    depth: int = 3
    """Residual units after each halving."""
    quantizer: QuantizerKind = "grouped"
    """grouped: codebooks side by side, each for its share of a vector; residual: each for what the last left over;
    library-residual and fsq: vector-quantize-pytorch."""
    decay: float = 0.99
    """Weight of the past in a code's running mean."""

    def __post_init__(self) -> None:
        for name in ("feature_width", "width", "code_dim", "codes_per_step", "halvings", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")
        if self.codebook_size < 2:
            raise ConfigError(
                f"codebook_size={self.codebook_size} has nothing to choose from; use 2 or more (--codebook-size)"
            )
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay={self.decay} must be in [0, 1); at 1 a code would never move (--decay)")
        if self.network == "patches" and self.width % 2:
            raise ConfigError(f"width={self.width} must be even in the network of patches (--width)")

    @property
    def frames_per_code(self) -> int:
        return 2**self.halvings


class VQVAEOutput(NamedTuple):
    """Reconstructed features (B, T, F) and what the quantiser said."""

    features: Tensor
    quantized: Quantized


class ResidualUnit(nn.Module):
    """x + conv1(relu(conv3 dilated (relu x)))."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return x + y


class ResidualStack(nn.Module):
    """Residual units whose dilation falls by thirds: 9, 3, 1 at depth 3."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(ResidualUnit(width, 3**power) for power in reversed(range(depth))))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


class Encoder(nn.Module):
    """(B, F, T) -> (B, D, T / 2^halvings)."""

    def __init__(self, in_width: int, out_width: int, *, width: int, halvings: int, depth: int) -> None:
        super().__init__()
        halve = [
            nn.Sequential(nn.Conv1d(width, width, 4, stride=2, padding=1), ResidualStack(width, depth))
            for _ in range(halvings)
        ]
        self.model = nn.Sequential(
            nn.Conv1d(in_width, width, 3, padding=1), nn.ReLU(), *halve, nn.Conv1d(width, out_width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


class Decoder(nn.Module):
    """(B, D, N) -> (B, F, N * 2^halvings)."""

    def __init__(self, in_width: int, out_width: int, *, width: int, halvings: int, depth: int) -> None:
        super().__init__()
        double = [
            nn.Sequential(
                ResidualStack(width, depth), nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, padding=1)
            )
            for _ in range(halvings)
        ]
        self.model = nn.Sequential(
            nn.Conv1d(in_width, width, 3, padding=1),
            nn.ReLU(),
            *double,
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, out_width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


class ConvolutionUnit(nn.Module):
    """x + mlp(norm(depthwise convolution of x)): ConvNeXt's unit (Liu et al. 2022) over time."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.contract = nn.Linear(3 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W, N) -> (B, W, N)."""
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.contract(torch.nn.functional.gelu(self.expand(y)))
        return x + y.transpose(1, 2)


class PatchEncoder(nn.Module):
    """(B, F, T) -> (B, D, N): a step's frames, with a few on either side, become one vector at once."""

    def __init__(self, in_width: int, out_width: int, *, width: int, halvings: int, depth: int) -> None:
        super().__init__()
        frames = 2**halvings
        self.patch = nn.Conv1d(in_width, width, 2 * frames, stride=frames, padding=frames // 2)
        self.units = nn.Sequential(*(ConvolutionUnit(width, 1 + index % 2) for index in range(halvings * depth)))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(self.units(self.patch(x)).transpose(1, 2)))
        return y.transpose(1, 2)


class PatchDecoder(nn.Module):
    """(B, D, N) -> (B, F, T): a vector becomes a step's frames, which one convolution over frames joins smoothly."""

    def __init__(self, in_width: int, out_width: int, *, width: int, halvings: int, depth: int) -> None:
        super().__init__()
        self.frames = 2**halvings
        self.patch = nn.Conv1d(in_width, width, 3, padding=1)
        self.units = nn.Sequential(*(ConvolutionUnit(width, 1 + index % 2) for index in range(halvings * depth)))
        self.norm = nn.LayerNorm(width)
        self.unfold = nn.Linear(width, self.frames * width // 2)
        self.out = nn.Conv1d(width // 2, out_width, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.unfold(self.norm(self.units(self.patch(x)).transpose(1, 2)))  # (B, N, frames * W / 2)
        y = y.reshape(y.shape[0], y.shape[1] * self.frames, -1).transpose(1, 2)
        return _soften(self.out(torch.nn.functional.gelu(y)))


def _soften(x: Tensor) -> Tensor:
    """Weights 1/4, 1/2, 1/4 over neighbouring frames of (B, F, T): no frame-to-frame jitter can come out of a patch."""
    padded = nn.functional.pad(x, (1, 1), mode="replicate")
    return (padded[..., :-2] + 2 * x + padded[..., 2:]) / 4


class VQVAE(nn.Module):
    """Normalised features (B, T, F) -> codes (B, N, Q) -> features."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        sizes = {"width": config.width, "halvings": config.halvings, "depth": config.depth}
        make_encoder, make_decoder = NETWORKS[config.network]
        self.encoder = make_encoder(config.feature_width, config.code_dim, **sizes)
        self.decoder = make_decoder(config.code_dim, config.feature_width, **sizes)
        self.quantizer = _make_quantizer(config)

    def latents(self, features: Tensor) -> Tensor:
        """Encoder's output (B, N, D) before quantisation. T must be a multiple of frames_per_code."""
        if features.shape[1] % self.config.frames_per_code:
            raise ConfigError(f"{features.shape[1]} frames are no multiple of {self.config.frames_per_code}")
        latents: Tensor = self.encoder(features.transpose(1, 2))
        return latents.transpose(1, 2)

    def encode(self, features: Tensor) -> Tensor:
        """Codes (B, N, Q) int64."""
        return self.quantizer.encode(self.latents(features))

    def decode(self, codes: Tensor) -> Tensor:
        """Features (B, T, F) of codes (B, N, Q)."""
        return self._features(self.quantizer.decode(codes))

    def forward(
        self, features: Tensor, *, quantize: bool = True, generator: torch.Generator | None = None
    ) -> VQVAEOutput:
        """Reconstruct; without quantising it is a plain autoencoder, whose commitment loss and perplexity are 0."""
        latents = self.latents(features)
        if quantize:
            quantized: Quantized = self.quantizer(latents, generator=generator)
        else:
            empty = torch.empty(0, dtype=torch.int64)
            quantized = Quantized(latents, empty, latents.new_zeros(()), latents.new_zeros(self.config.codes_per_step))
        return VQVAEOutput(self._features(quantized.vectors), quantized)

    def _features(self, vectors: Tensor) -> Tensor:
        features: Tensor = self.decoder(vectors.transpose(1, 2))
        return features.transpose(1, 2)


NETWORKS: dict[NetworkKind, tuple[type[Encoder] | type[PatchEncoder], type[Decoder] | type[PatchDecoder]]] = {
    "published": (Encoder, Decoder),
    "patches": (PatchEncoder, PatchDecoder),
}


def _make_quantizer(config: VQVAEConfig) -> GroupedQuantizer | ResidualQuantizer | LibraryQuantizer:
    sizes = (config.codes_per_step, config.codebook_size, config.code_dim)
    if config.quantizer == "grouped":
        return GroupedQuantizer(*sizes, decay=config.decay)
    if config.quantizer == "residual":
        return ResidualQuantizer(*sizes, decay=config.decay)
    return LibraryQuantizer(config.quantizer, *sizes, decay=config.decay)
