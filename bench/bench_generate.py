"""Ten seconds of motion from a sentence, on one core, with the shipped model.

Beside it the same weights sampled by transformers' own `generate`, which is what a user would run instead: it works
the whole head at every step and knows nothing of the grammar of a motion. Then a whole `kinalign generate` from the
shell, and the size of its page.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import DynamicCache, EncoderDecoderCache

from kinalign.pipeline import DEFAULT_SAMPLING, TextToMotion

PROMPT = "a person walks forward"
LIMIT_S, SHELL_LIMIT_S, PAGE_LIMIT_MB = 1.5, 8.0, 1.5


def main() -> int:
    torch.set_num_threads(1)
    model = TextToMotion.from_pretrained()
    model(PROMPT, length_s=1.0)  # the first call pays for what is loaded lazily

    length_s = model.max_length_s
    ours_s = best_s(lambda: model(PROMPT, length_s=length_s))
    many_s = best_s(lambda: model(PROMPT, length_s=length_s, num_candidates=16)) / 16
    num_tokens = round(length_s * model.tokenizer.codes_per_second)
    theirs_s = best_s(lambda: transformers_generate(model, num_tokens))
    print(f"{length_s} s of motion     {ours_s:6.2f} s (limit {LIMIT_S} s), guidance {DEFAULT_SAMPLING.guidance}")
    print(f"  16 at once       {many_s:6.3f} s each")
    ratio = theirs_s / ours_s
    print(f"  transformers     {theirs_s:6.2f} s, {ratio:.2f} times as long, without reader, guidance and decoding")

    with tempfile.TemporaryDirectory() as folder:
        options = ["--length-seconds", str(length_s), "--formats", "png,bvh,html", "--out", folder]
        start = time.perf_counter()
        command = [sys.executable, "-m", "kinalign.cli", "generate", PROMPT, *options]
        subprocess.run(command, check=True, capture_output=True)
        shell_s = time.perf_counter() - start
        page_mb = next(Path(folder).glob("*.html")).stat().st_size / 1e6
    print(f"shell to files     {shell_s:6.2f} s (limit {SHELL_LIMIT_S} s)")
    print(f"page               {page_mb:6.2f} MB (limit {PAGE_LIMIT_MB} MB)")
    return 0 if ours_s <= LIMIT_S and shell_s <= SHELL_LIMIT_S and page_mb <= PAGE_LIMIT_MB else 1


def transformers_generate(model: TextToMotion, num_tokens: int) -> None:
    model.lm.t5.generate(
        **model.lm.text_tokenizer([PROMPT], return_tensors="pt"),
        # the one that it makes itself has as many layers as the encoder
        past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),
        do_sample=True,
        top_p=DEFAULT_SAMPLING.top_p,
        min_new_tokens=num_tokens,
        max_new_tokens=num_tokens,
    )


def best_s(work: Callable[[], object], *, repeats: int = 3) -> float:
    """The quickest of several runs: the others were disturbed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
