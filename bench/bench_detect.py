"""Events of clips of 5 s, on one core: how many clips a second `detect_all` reads."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import sys
import time

from kinalign.events.detect import detect_all
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.synthetic import jumping, walking, waving

NUM_FRAMES = 100
NUM_CLIPS = 600
AIM_CLIPS_PER_S = 2000
LIMIT_CLIPS_PER_S = 1000


def main() -> int:
    made_up = [walking(NUM_FRAMES), waving(NUM_FRAMES, num_waves=4), jumping(3)]
    clips = [made_up[index % len(made_up)] for index in range(NUM_CLIPS)]
    seconds = min(timed(clips) for _ in range(3))
    events = sum(len(events) for events in detect_all(clips))
    clips_5s = sum(len(clip) for clip in clips) / (5 * FPS)
    rate = clips_5s / seconds
    print(
        f"events of joints    {rate:7.0f} clips of 5 s a second, {events / clips_5s:.1f} events in each "
        f"(aim {AIM_CLIPS_PER_S}, limit {LIMIT_CLIPS_PER_S})"
    )
    return 0 if rate >= LIMIT_CLIPS_PER_S else 1


def timed(clips: list[Motion]) -> float:
    start = time.perf_counter()
    detect_all(clips)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
