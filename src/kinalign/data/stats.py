"""`kinalign data stats`: what is inside a data set, and what its test scores are worth.

Near-duplicates make scores look good: test captions that stand word for word in the train split, and test clips whose
nearest train clip is almost the same motion. Both are counted for each source, and Bandai-Namco apart from the rest.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import numpy as np
import tyro
from numpy.typing import NDArray

from kinalign.data.dataset import load_dataset
from kinalign.data.records import Clip, Split
from kinalign.errors import ConfigError, KinalignError
from kinalign.motion.features import canonical_joints
from kinalign.run import write_atomically

T = TypeVar("T")

if TYPE_CHECKING:
    from rich.table import Table

OPTIMISTIC = ("Bandai1", "Bandai2")
"""Sources of near-identical takes that are split at random: their test scores say little about unseen motion."""
POSES_PER_CLIP = 16
"""A clip is compared with others by this many poses, spread evenly over its time."""
MAX_NEIGHBOURS, MAX_COMPARED = 6000, 300
"""Train clips of one source that a clip is compared with, and train clips that are; of more, an even choice."""


@dataclass(frozen=True)
class StatsConfig:
    """Which data set to look into."""

    path: tyro.conf.Positional[Path | None] = None
    """A folder made by `kinalign data build`, openmocap20, or a published HumanML3D or KIT-ML folder; without one,
    openmocap20 of the data folder."""
    plot: Path | None = None
    """Also draw lengths, minutes by source and the commonest labels into this picture (.png, .pdf, .svg)."""


class GroupStats(NamedTuple):
    """What a group of clips holds. Mirror images and pieces count as clips of their own."""

    clips: int
    minutes: float
    captions: int
    distinct_captions: int
    distinct_words: int
    labels: int
    styles: int
    frames: tuple[int, int, int]
    """Shortest, median, longest."""


class LeakStats(NamedTuple):
    """How near the test clips of a group are to its train clips."""

    clips: int
    captions: int
    captions_in_train: int
    """Test captions that stand word for word in the train split of the whole data set."""
    nearest_cm: float
    """Median over test clips of the mean joint distance to the nearest train clip of the source; NaN without any."""
    between_train_cm: float
    """The same from a train clip to the other train clips: where both are alike, test is as near as train is dense."""


def stats(config: StatsConfig) -> None:
    """Print what is inside a data set: amounts, words, lengths, labels, licences, near-duplicates; draw it too."""
    from rich.console import Console

    if config.plot is not None:
        _require_picture(config.plot)
    clips = load_dataset(config.path)
    if not clips:
        raise KinalignError(f"{config.path} holds no clips")
    console = Console(highlight=False)
    for table in (_amounts(clips), _labels(clips), _licenses(clips), _leaks(clips)):
        console.print(table, "")
    if any(clip.source in OPTIMISTIC for clip in clips):
        console.print(
            "Bandai-Namco's takes are near-identical and split at random: test scores on them are optimistic. "
            "Report CMU and HDM05 apart."
        )
    if config.plot is not None:
        plot_stats(clips, config.plot)
        console.print(f"wrote {config.plot}", markup=False)


def group_stats(clips: Sequence[Clip]) -> GroupStats:
    """Amounts of some clips, at least one."""
    captions = [caption for clip in clips for caption in clip.captions]
    lengths = sorted(len(clip.motion) for clip in clips)
    return GroupStats(
        clips=len(clips),
        minutes=sum(clip.motion.duration_s for clip in clips) / 60,
        captions=len(captions),
        distinct_captions=len(set(captions)),
        distinct_words=len({word for caption in set(captions) for word in words_of(caption)}),
        labels=len({clip.label for clip in clips} - {""}),
        styles=len({clip.style for clip in clips} - {""}),
        frames=(lengths[0], lengths[len(lengths) // 2], lengths[-1]),
    )


def words_of(caption: str) -> list[str]:
    """Words of a caption, in small letters.

    >>> words_of("A person's left-hand kick, twice!")
    ['a', "person's", 'left', 'hand', 'kick', 'twice']
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", caption.lower())


def leak_stats(clips: Sequence[Clip], *, train_captions: set[str]) -> LeakStats:
    """How near the test clips are to the train clips, of one source or some.

    A distance is between clips of the same source, each as POSES_PER_CLIP poses on the floor, starting at the origin
    and facing +z. `train_captions` are those of the whole data set, normalised by `plain`.
    """
    test = [clip for clip in clips if clip.split == "test"]
    captions = [plain(caption) for clip in test for caption in clip.captions]
    to_train: list[float] = []
    between: list[float] = []
    for source in sorted({clip.source for clip in test}):
        poses = {
            split: _poses(c for c in clips if (c.source, c.split) == (source, split)) for split in ("train", "test")
        }
        train = poses["train"][:: max(1, len(poses["train"]) // MAX_NEIGHBOURS)]
        if len(train) > 1:
            to_train += _nearest(poses["test"], train).tolist()
            some = np.linspace(0, len(train) - 1, min(len(train), len(poses["test"]))).astype(int)
            between += _nearest(train[some], train, skip=some).tolist()
    return LeakStats(
        clips=len(test),
        captions=len(captions),
        captions_in_train=sum(caption in train_captions for caption in captions),
        nearest_cm=float(np.median(to_train)) * 100 if to_train else float("nan"),
        between_train_cm=float(np.median(between)) * 100 if between else float("nan"),
    )


def plain(caption: str) -> str:
    """A caption without what does not change what it says: case, punctuation, spaces."""
    return " ".join(words_of(caption))


def _evenly(items: Sequence[T], limit: int) -> list[T]:
    return [items[i * len(items) // limit] for i in range(limit)] if len(items) > limit else list(items)


def _poses(clips: Iterable[Clip]) -> NDArray[np.float32]:
    """(clips, POSES_PER_CLIP * J * 3) in metres."""
    rows = []
    for clip in clips:
        frames = np.linspace(0, len(clip.motion) - 1, POSES_PER_CLIP).round().astype(int)
        rows.append(canonical_joints(clip.motion)[frames].ravel())
    return np.array(rows, dtype=np.float32)


def _nearest(
    clips: NDArray[np.float32], others: NDArray[np.float32], skip: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """(clips,) mean joint distance in metres to the nearest other; `skip` is where each stands among the others."""
    result = np.empty(len(clips), dtype=np.float32)
    joints = others.reshape(len(others), -1, 3)
    # the root of the mean square is at least the mean distance, and cheap: it leaves a few candidates to measure
    squares = (clips**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * clips @ others.T
    if skip is not None:
        squares[np.arange(len(clips)), skip] = np.inf
    candidates = np.argpartition(squares, min(7, len(others) - 2), axis=1)[:, :8]
    for index, (clip, near) in enumerate(zip(clips.reshape(len(clips), -1, 3), candidates)):
        if skip is not None:
            near = near[near != skip[index]]
        result[index] = np.linalg.norm(joints[near] - clip, axis=-1).mean(axis=-1).min()
    return result


# --- tables ------------------------------------------------------------------------------------------------------


def _by_source(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    sources: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        sources[clip.source].append(clip)
    return dict(sorted(sources.items()))


def _groups(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Each source, and the sum of those that are the real test, where others are not."""
    sources = _by_source(clips)
    optimistic = [name for name in sources if name in OPTIMISTIC]
    real = [name for name in sources if name not in OPTIMISTIC]
    groups = {name: sources[name] for name in real}
    if optimistic and len(real) > 1:
        groups[" + ".join(real)] = [clip for name in real for clip in sources[name]]
    groups |= {name: sources[name] for name in optimistic}
    return groups


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
    return table


def _amounts(clips: Sequence[Clip]) -> Table:
    table = _table("Clips", "source", "split", "clips", "minutes", "frames", "captions", "words", "labels", "styles")
    for source, group in [*_by_source(clips).items(), ("all", list(clips))]:
        first = source
        for split in (*get_args(Split), "all"):
            chosen = [clip for clip in group if split in (clip.split, "all")]
            if not chosen:
                continue
            facts = group_stats(chosen)
            table.add_row(
                first,
                split,
                f"{facts.clips:,}",
                f"{facts.minutes:.1f}",
                f"{facts.frames[0]} · {facts.frames[1]} · {facts.frames[2]}",
                f"{facts.captions:,}",
                f"{facts.distinct_words:,}",
                f"{facts.labels}",
                f"{facts.styles}",
                style="bold" if split == "all" else None,
                end_section=split == "all",
            )
            first = ""
    table.caption = "frames: shortest · median · longest; words: different ones"
    return table


def _labels(clips: Sequence[Clip]) -> Table:
    table = _table("Labels and styles, commonest first", "source", "labels", "styles")
    for column in table.columns[1:]:
        column.justify = "left"
    for source, group in _by_source(clips).items():
        table.add_row(source, *(_commonest(getattr(clip, name) for clip in group) for name in ("label", "style")))
    return table


def _commonest(names: Iterable[str], limit: int = 8) -> str:
    counts = Counter(name for name in names if name)
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(limit))
    return shown + (f" and {len(counts) - limit} more" if len(counts) > limit else "")


def _licenses(clips: Sequence[Clip]) -> Table:
    table = _table("Licences", "licence", "sources", "clips", "minutes")
    for name in sorted({clip.license for clip in clips}):
        chosen = [clip for clip in clips if clip.license == name]
        minutes = sum(clip.motion.duration_s for clip in chosen) / 60
        table.add_row(name, ", ".join(_by_source(chosen)), f"{len(chosen):,}", f"{minutes:.1f}")
    return table


def _leaks(clips: Sequence[Clip]) -> Table:
    table = _table(
        "How new the test split is",
        "test clips of",
        "clips",
        "captions",
        "also in train",
        "nearest train clip",
        "usual",
    )
    train_captions = {plain(caption) for clip in clips if clip.split == "train" for caption in clip.captions}
    for name, group in _groups(clips).items():
        facts = leak_stats(group, train_captions=train_captions)
        if facts.clips == 0:
            continue
        share = f" ({100 * facts.captions_in_train / facts.captions:.0f} %)" if facts.captions else ""
        table.add_row(
            name,
            f"{facts.clips:,}",
            f"{facts.captions:,}",
            f"{facts.captions_in_train:,}{share}",
            f"{facts.nearest_cm:.1f} cm",
            f"{facts.between_train_cm:.1f} cm",
            style="yellow" if name in OPTIMISTIC else None,
        )
    table.caption = "cm: mean joint distance, median over clips; usual: from train clip to train clip of the source"
    return table


# --- picture -----------------------------------------------------------------------------------------------------


def _require_picture(path: Path) -> Any:
    """matplotlib, before anything long is done; raises ConfigError where it or the format is not there."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--plot {path} should end in .png, .pdf or .svg")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("--plot needs matplotlib: pip install 'kinalign[plots]'") from error
    return Figure


def plot_stats(clips: Sequence[Clip], path: Path) -> Path:
    """Draw lengths, minutes by source and split, and the commonest labels; needs matplotlib."""
    figure = _require_picture(path)(figsize=(13, 4.2), layout="constrained")
    lengths, amounts, labels = figure.subplots(1, 3)
    sources = _by_source(clips)
    colors = {name: f"C{number % 10}" for number, name in enumerate(sources)}

    seconds = [[clip.motion.duration_s for clip in group] for group in sources.values()]
    longest = float(np.percentile(np.concatenate(seconds), 99))
    lengths.hist(
        [np.minimum(group, longest) for group in seconds],
        bins=40,
        stacked=True,
        color=list(colors.values()),
        label=list(sources),
    )
    lengths.set(title="Lengths", xlabel="seconds (the last bar holds all longer ones)", ylabel="clips")
    lengths.legend(frameon=False)

    left = np.zeros(len(sources))
    for split, alpha in zip(get_args(Split), (1.0, 0.65, 0.35)):
        minutes = np.array(
            [sum(clip.motion.duration_s for clip in group if clip.split == split) / 60 for group in sources.values()]
        )
        amounts.barh(list(sources), minutes, left=left, color=list(colors.values()), alpha=alpha)
        left += minutes
    for row, total in enumerate(left):
        amounts.text(total, row, f" {total:.0f}", va="center")
    amounts.set(title="Train, val and test", xlabel="minutes")
    amounts.margins(x=0.12)
    amounts.invert_yaxis()

    common = Counter(clip.label for clip in clips if clip.label).most_common(18)
    for row, (label, _) in enumerate(common):
        start = 0
        for source, group in sources.items():
            count = sum(clip.label == label for clip in group)
            labels.barh(row, count, left=start, color=colors[source])
            start += count
    labels.set_yticks(range(len(common)), [label for label, _ in common], fontsize=8)
    labels.set(title="Commonest labels", xlabel="clips")
    labels.invert_yaxis()

    for axes in (lengths, amounts, labels):
        axes.spines[["top", "right"]].set_visible(False)
    return write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))
