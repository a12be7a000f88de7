"""Vectors to codes: the EMA codebook with dead-code reset; several side by side, or each on what the last left over.

Finite-scalar quantisation, and another residual one, come from vector-quantize-pytorch behind the same result. The
residual quantiser of the shipped model is our own because its whole state is then ours to save and resume.

Letters: B batch, N latent steps, D width of a vector, Q codes per step, K codes in a codebook.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.errors import ConfigError

DEAD_SHARE = 1 / 8
"""A code used less than this share of the average is dead."""

FSQ_LEVELS = {240: (8, 6, 5), 512: (8, 8, 8), 1000: (8, 5, 5, 5), 1024: (8, 8, 4, 4), 4375: (7, 5, 5, 5, 5)}
"""Levels of finite-scalar quantisation, by the codebook size that they multiply to (Mentzer et al. 2024)."""

QuantizerKind = Literal["grouped", "residual", "library-residual", "fsq"]


class Quantized(NamedTuple):
    """What quantising (B, N, D) latents gives.

    `vectors` (B, N, D) pass gradients straight through; `codes` (B, N, Q) int64 in [0, K); `commitment_loss` ();
    `perplexity` (Q,) is exp of the entropy of code usage in this batch, K at most.
    """

    vectors: Tensor
    codes: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


def perplexity(codes: Tensor, codebook_size: int) -> Tensor:
    """exp(entropy) of how often each code occurs in `codes` (any shape): 1 if one is used, K if all are equally."""
    share = torch.bincount(codes.flatten(), minlength=codebook_size).float()
    share = share / share.sum().clamp(min=1)
    return torch.exp(-(share * torch.log(share + 1e-10)).sum())


class VectorQuantizer(nn.Module):
    """Nearest of K codes by Euclidean distance; codes follow the mean of their vectors (van den Oord et al. 2017, A.1).

    A code used less than an eighth as often as the average takes the place of a random vector of the batch: the
    published rule, a running count below 1, at its batch of 4,096 vectors; in small batches that would reset good
    codes. All state that training needs (sums, counts, whether the codebook has been drawn) is in buffers, so a
    checkpoint resumes exactly; in the published code it is not.
    """

    codebook: Tensor
    code_sum: Tensor
    code_count: Tensor
    is_drawn: Tensor

    def __init__(self, codebook_size: int, code_dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        if codebook_size < 2:
            raise ConfigError(
                f"codebook_size={codebook_size} has nothing to choose from; use 2 or more (--codebook-size)"
            )
        self.codebook_size, self.code_dim, self.decay = codebook_size, code_dim, decay
        self.register_buffer("codebook", torch.zeros(codebook_size, code_dim))
        self.register_buffer("code_sum", torch.zeros(codebook_size, code_dim))
        self.register_buffer("code_count", torch.ones(codebook_size))
        self.register_buffer("is_drawn", torch.zeros((), dtype=torch.bool))

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, N) of the nearest vectors."""
        flat = latents.reshape(-1, self.code_dim)
        # |x - c|^2 without |x|^2, which is the same for every code
        distance = (self.codebook**2).sum(1) - 2 * flat @ self.codebook.T
        return distance.argmin(1).view(latents.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, N, D) of codes (B, N)."""
        return F.embedding(codes, self.codebook)

    def forward(self, latents: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        flat = latents.detach().reshape(-1, self.code_dim)
        if self.training and not self.is_drawn:
            self._draw(of_all_processes(flat), generator)
        codes = self.encode(latents)
        vectors = self.decode(codes)
        if self.training:
            self._follow(of_all_processes(flat), of_all_processes(codes.flatten()), generator)
        commitment_loss = F.mse_loss(latents, vectors.detach())
        vectors = latents + (vectors - latents).detach()
        return Quantized(vectors, codes[..., None], commitment_loss, perplexity(codes, self.codebook_size)[None])

    def _sample(self, flat: Tensor, generator: torch.Generator | None) -> Tensor:
        """K random vectors of the batch; a batch smaller than K is repeated with a little noise."""
        if len(flat) < self.codebook_size:
            repeats = -(-self.codebook_size // len(flat))
            flat = flat.repeat(repeats, 1)
            flat = flat + torch.randn(flat.shape, generator=generator).to(flat) * 0.01 / self.code_dim**0.5
        return flat[torch.randperm(len(flat), generator=generator)[: self.codebook_size]]

    def _draw(self, flat: Tensor, generator: torch.Generator | None) -> None:
        self.codebook.copy_(self._sample(flat, generator))
        count = len(flat) / self.codebook_size
        self.code_sum.copy_(self.codebook * count)
        self.code_count.fill_(count)
        self.is_drawn.fill_(True)

    def _follow(self, flat: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        count = torch.bincount(codes, minlength=self.codebook_size).to(flat)
        total = torch.zeros_like(self.code_sum).index_add_(0, codes, flat)
        self.code_count.lerp_(count, 1 - self.decay)
        self.code_sum.lerp_(total, 1 - self.decay)
        alive = (self.code_count >= DEAD_SHARE * len(flat) / self.codebook_size)[:, None]
        mean = self.code_sum / self.code_count.clamp(min=1e-6)[:, None]
        self.codebook.copy_(torch.where(alive, mean, self._sample(flat, generator)))


def of_all_processes(rows: Tensor) -> Tensor:
    """Rows (N, ...) of this process, then of the others in their order; they may have unequally many."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    lengths = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    padded = rows.new_zeros((int(max(lengths)), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths)])


class GroupedQuantizer(nn.Module):
    """Q codebooks side by side: each quantises its own D / Q numbers of a vector, so a step is Q codes."""

    def __init__(self, groups: int, codebook_size: int, code_dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        if code_dim % groups:
            raise ConfigError(f"code_dim={code_dim} is not divisible by the {groups} codes of a step (--code-dim)")
        self.groups = nn.ModuleList(
            VectorQuantizer(codebook_size, code_dim // groups, decay=decay) for _ in range(groups)
        )

    def forward(self, latents: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        parts = latents.chunk(len(self.groups), dim=-1)
        results = [group(part, generator=generator) for group, part in zip(self.groups, parts)]
        return Quantized(
            torch.cat([r.vectors for r in results], dim=-1),
            torch.cat([r.codes for r in results], dim=-1),
            torch.stack([r.commitment_loss for r in results]).mean(),
            torch.cat([r.perplexity for r in results]),
        )

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, N, Q)."""
        parts = latents.chunk(len(self.groups), dim=-1)
        return torch.stack([group.encode(part) for group, part in zip(self.groups, parts)], dim=-1)  # type: ignore[operator]

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, N, D) of codes (B, N, Q)."""
        return torch.cat([group.decode(codes[..., q]) for q, group in enumerate(self.groups)], dim=-1)  # type: ignore[operator]


class ResidualQuantizer(nn.Module):
    """Q codebooks one after the other: each quantises what the ones before left over (Zeghidour et al. 2021)."""

    def __init__(self, codes_per_step: int, codebook_size: int, code_dim: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            VectorQuantizer(codebook_size, code_dim, decay=decay) for _ in range(codes_per_step)
        )

    def forward(self, latents: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        rest, total, results = latents, torch.zeros_like(latents), []
        for level in self.levels:
            result: Quantized = level(rest, generator=generator)
            results.append(result)
            found = result.vectors.detach()
            rest, total = rest - found, total + found
        return Quantized(
            latents + (total - latents).detach(),
            torch.cat([r.codes for r in results], dim=-1),
            torch.stack([r.commitment_loss for r in results]).mean(),
            torch.cat([r.perplexity for r in results]),
        )

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, N, Q)."""
        codes = []
        for level in self.levels:
            codes.append(level.encode(latents))  # type: ignore[operator]
            latents = latents - level.decode(codes[-1])  # type: ignore[operator]
        return torch.stack(codes, dim=-1)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, N, D) of codes (B, N, Q)."""
        vectors = [level.decode(codes[..., q]) for q, level in enumerate(self.levels)]  # type: ignore[operator]
        return torch.stack(vectors).sum(0)


class LibraryQuantizer(nn.Module):
    """Residual VQ or finite-scalar quantisation of vector-quantize-pytorch, as a `Quantized`.

    Install it with `pip install 'kinalign[quantizers]'`. For FSQ the levels multiply to the codebook size.
    """

    def __init__(
        self, kind: QuantizerKind, codes_per_step: int, codebook_size: int, code_dim: int, *, decay: float
    ) -> None:
        super().__init__()
        try:
            import vector_quantize_pytorch as library
        except ImportError as error:
            raise ConfigError(
                f"quantizer={kind!r} needs vector-quantize-pytorch: pip install 'kinalign[quantizers]'"
            ) from error
        self.kind, self.codebook_size, self.codes_per_step = kind, codebook_size, codes_per_step
        if kind == "library-residual":
            self.inner = library.ResidualVQ(
                dim=code_dim,
                num_quantizers=codes_per_step,
                codebook_size=codebook_size,
                decay=decay,
                threshold_ema_dead_code=1,
            )
        else:
            if codebook_size not in FSQ_LEVELS:
                raise ConfigError(f"codebook_size={codebook_size} has no FSQ levels; use one of {sorted(FSQ_LEVELS)}")
            levels = list(FSQ_LEVELS[codebook_size])
            self.inner = library.FSQ(levels, dim=code_dim, num_codebooks=codes_per_step, keep_num_codebooks_dim=True)

    def forward(self, latents: Tensor, *, generator: torch.Generator | None = None) -> Quantized:
        if self.training:
            # the library draws from torch's own generator, whose state is in no checkpoint
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        vectors, codes, *losses = self.inner(latents)
        loss = losses[0].mean() if losses else latents.new_zeros(())
        use = torch.stack([perplexity(codes[..., q], self.codebook_size) for q in range(self.codes_per_step)])
        return Quantized(vectors, codes.long(), loss, use)

    def encode(self, latents: Tensor) -> Tensor:
        """Codes (B, N, Q)."""
        codes: Tensor = self.inner(latents)[1]
        return codes.long()

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors (B, N, D) of codes (B, N, Q)."""
        read = self.inner.get_output_from_indices if self.kind == "library-residual" else self.inner.indices_to_codes
        vectors: Tensor = read(codes)
        return vectors
