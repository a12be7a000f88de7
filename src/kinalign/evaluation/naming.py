"""Which action and side a caption names: looked up among captions of clips of which both are known.

Strict: a caption that no clip has, however true, names nothing here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.data.mirror_text import mirror_caption
from kinalign.data.phrasings import meaning_of, plain_captions
from kinalign.data.records import Clip
from kinalign.events.program import OPPOSITE

Event = tuple[tuple[str, ...], tuple[str, ...]]
"""Actions one after the other, and the side of each or ''."""


def event_of(clip: Clip) -> Event | None:
    """What a clip shows, where data/phrasings.json knows it."""
    meaning = meaning_of(clip)
    return (meaning.actions, meaning.sides) if meaning is not None else None


def events_by_caption(clips: Sequence[Clip]) -> dict[str, set[Event]]:
    """Caption -> what clips with it show; those of mirror images too."""
    known: defaultdict[str, set[Event]] = defaultdict(set)
    for clip in clips:
        if (event := event_of(clip)) is None:
            continue
        actions, sides = event
        mirrored = actions, tuple(OPPOSITE.get(side, side) for side in sides)
        for caption in plain_captions(clip):
            known[_plain(caption)].add(event)
            known[_plain(mirror_caption(caption))].add(mirrored)
    return dict(known)


class Named(NamedTuple):
    """Whether each caption names its clip's action, its side, and both (N,): 0 or 1.

    NaN where the clip's action is unknown, and in the last two where it has no side.
    """

    action: NDArray[np.float64]
    side: NDArray[np.float64]
    both: NDArray[np.float64]


def names_right(captions: Sequence[str], clips: Sequence[Clip], known: Mapping[str, AbstractSet[Event]]) -> Named:
    """What captions name of their clips; who lifts the left arm where it waves is right about the side alone."""
    right = Named(*(np.full(len(clips), np.nan) for _ in Named._fields))
    for place, (caption, clip) in enumerate(zip(captions, clips)):
        if (event := event_of(clip)) is None:
            continue
        named = known.get(_plain(caption), frozenset())
        right.action[place] = any(actions == event[0] for actions, _ in named)
        if any(event[1]):
            right.side[place] = any(set(sides) - {""} == set(event[1]) - {""} for _, sides in named)
            right.both[place] = event in named
    return right


def _plain(caption: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", caption.lower()))
