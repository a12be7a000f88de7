"""Low-rank matrices beside a T5's own (LoRA, Hu et al. 2021), put in and merged by the peft library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from kinalign.errors import ConfigError

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

TARGETS = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")
"""Every matrix of attention and feed-forward layers, under T5's and flan-T5's names."""


def add_lora(t5: T5ForConditionalGeneration, rank: int) -> None:
    """Freeze a T5 but for its table of tokens, and put learned matrices of `rank` beside its own; nothing changes yet.

    Raises ConfigError where peft is absent.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("LoRA needs a package: pip install 'kinalign[lora]' (--lora-rank 0 does without)") from error
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS)), t5)
    t5.shared.requires_grad_(True)
    t5.lm_head.requires_grad_(True)


def merge_lora(t5: T5ForConditionalGeneration) -> None:
    """Add what the matrices have learned to T5's own and take them out: a T5 as any other, that answers the same."""
    from peft.tuners.lora import LoraLayer

    for parent in list(t5.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                base = child.get_base_layer()
                assert isinstance(base, nn.Module)
                setattr(parent, name, base)
    t5.requires_grad_(True)
