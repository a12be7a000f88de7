"""A motion as a film: mp4 (H.264), webm (VP9) or gif, at the motion's own frame rate.

Several motions play side by side; one that ends before the others holds its last frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from kinalign.errors import ConfigError, FormatError
from kinalign.motion.motion import Motion
from kinalign.render.camera import Camera, Framing
from kinalign.render.figure import Picture, render_frames
from kinalign.render.player import PlayerEvent
from kinalign.render.sheet import caption_strip, require_suffix
from kinalign.run import write_atomically

# suffix -> codec and its options: sharp edges and flat colours, playable in every browser
CODECS = {
    ".mp4": ("libx264", {"crf": "20", "preset": "veryfast"}),
    ".webm": ("libvpx-vp9", {"crf": "28", "b": "0", "deadline": "good", "cpu-used": "4"}),
}
# suffix -> options of the file: the index stands first, so that a browser plays before all is there
CONTAINERS = {".mp4": {"movflags": "+faststart"}, ".webm": {}}
SUFFIXES = (*CODECS, ".gif")


def write_video(
    motion: Motion | Sequence[Motion],
    path: str | Path,
    *,
    size: int = 512,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    caption: bool = True,
    events: Sequence[PlayerEvent] = (),
) -> Path:
    """Write a film of a motion, or of several side by side, in the format of the suffix (mp4, webm, gif).

    `size` is the side of a figure's picture in pixels, `caption` a strip with the caption above it, and `events` what
    stands there while it happens, in place of the caption. The file is whole or not there at all. Raises FormatError
    for another suffix and where the encoder fails, ConfigError for motions of different frame rates.
    """
    path = Path(path)
    require_suffix(path, SUFFIXES)
    motions = [motion] if isinstance(motion, Motion) else list(motion)
    is_captioned = caption and not events
    pictures = film(motions, size=size, camera=camera, azimuth_deg=azimuth_deg, caption=is_captioned)
    fps = motions[0].fps
    if events:
        pictures = _subtitled(pictures, events, size=size, fps=fps)
    if path.suffix.lower() == ".gif":
        return write_atomically(path, lambda temporary: _write_gif(temporary, pictures, fps))
    return write_atomically(path, lambda temporary: _encode(temporary, pictures, fps))


def film(
    motions: Sequence[Motion],
    *,
    size: int = 512,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    caption: bool = True,
) -> Iterator[Picture]:
    """Pictures (H, W, 3) uint8 of motions side by side, H and W even, until the longest ends."""
    if not motions:
        raise ConfigError("a film needs at least one motion; this list is empty")
    if len({motion.fps for motion in motions}) > 1:
        rates = ", ".join(f"{motion.fps:g}" for motion in motions)
        raise ConfigError(f"motions of {rates} fps cannot share a film; use motion.resample(fps)")
    if not 0.1 <= motions[0].fps <= 1000:
        # far outside, encoders end the whole program
        raise ConfigError(f"fps={motions[0].fps:g} is outside the 0.1 to 1000 of films; use motion.resample(fps)")
    streams = [render_frames(motion, size=size, camera=camera, azimuth_deg=azimuth_deg) for motion in motions]
    return _film(motions, streams, size=size, caption=caption)


def _film(
    motions: Sequence[Motion], streams: Sequence[Iterator[Picture]], *, size: int, caption: bool
) -> Iterator[Picture]:
    strips = [caption_strip(motion.caption, size, font_px=max(11, size // 24)) for motion in motions]
    header = max(len(strip) for strip in strips) if caption and any(motion.caption for motion in motions) else 0
    height, width = header + size, size * len(motions)
    # H.264 stores colour at half the resolution, so both sides are even; the last row or column is paper then
    page = np.full((height + height % 2, width + width % 2, 3), 255, np.uint8)
    for index, strip in enumerate(strips if header else []):
        page[: len(strip), index * size : (index + 1) * size] = strip
    for _ in range(max(map(len, motions))):
        for index, stream in enumerate(streams):
            # nothing is drawn over the last frame of a motion that has ended
            for picture in islice(stream, 1):
                page[header:height, index * size : (index + 1) * size] = picture
        yield page.copy()


def _subtitled(
    pictures: Iterator[Picture], events: Sequence[PlayerEvent], *, size: int, fps: float
) -> Iterator[Picture]:
    """The pictures under a strip that says what happens; all strips are as high as the highest, a whole even number."""
    strips = {event.label: caption_strip(event.label, size, font_px=max(11, size // 24)) for event in events}
    height = max(map(len, strips.values()))
    height += height % 2
    coming = sorted(events, key=lambda event: event.start_s)
    for number, picture in enumerate(pictures):
        page = np.full((height + len(picture), picture.shape[1], 3), 255, np.uint8)
        page[height:] = picture
        while coming and coming[0].end_s <= number / fps:
            del coming[0]
        if coming and coming[0].start_s <= number / fps:
            strip = strips[coming[0].label]
            page[: len(strip), : strip.shape[1]] = strip
        yield page


def _encode(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    import av  # 50 ms that a reader of motions need not wait

    suffix = path.suffix.lower()
    codec, options = CODECS[suffix]
    try:
        with av.open(str(path), "w", container_options=CONTAINERS[suffix]) as container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
            for number, picture in enumerate(pictures):
                if number == 0:
                    stream.height, stream.width = picture.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    except av.FFmpegError as error:
        if isinstance(error, OSError):  # the disk, not the film: whoever writes the file says so
            raise
        raise FormatError(f"{codec} cannot encode {path.suffix} at {fps:g} fps: {error}") from error


def _write_gif(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    frames = [Image.fromarray(picture) for picture in pictures]
    # one palette for the whole film, from frames spread over it: colours do not flicker
    spread = frames[:: max(1, len(frames) // 8)]
    sample = np.vstack([np.asarray(frame) for frame in spread])
    palette = Image.fromarray(sample).quantize(colors=255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    # GIF counts hundredths of a second; rounding the end of each frame keeps the film in time at 30 fps
    ends_cs = np.rint(100 * np.arange(len(frames) + 1) / fps)
    durations_ms = (10 * np.diff(ends_cs)).astype(int).tolist()
    first, *others = indexed
    first.save(path, save_all=True, append_images=others, duration=durations_ms, loop=0, optimize=False)
