"""What is inside a data set is counted right, and near-duplicates are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinalign.cli import main
from kinalign.data.build import BuildConfig, build
from kinalign.data.records import Clip, Split
from kinalign.data.stats import StatsConfig, group_stats, leak_stats, plain, stats
from kinalign.errors import ConfigError, DataError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D


def clip(
    name: str, split: Split, captions: tuple[str, ...] = (), *, seed: int = 0, frames: int = 40, source: str = "CMU"
) -> Clip:
    """A rest pose that swings its joints in a way that the seed says."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((22, 3))
    for joint in HUMANML3D.topological_order[1:]:
        pose[joint] = pose[HUMANML3D.parents[joint]] + HUMANML3D.offsets[joint]
    times = np.linspace(0, 2, frames)[:, None, None]
    joints = pose + 0.1 * np.sin(times * rng.uniform(2, 5) + rng.uniform(0, 6, (1, 22, 3)))
    return Clip(name, Motion(joints), captions, source, "free", split)


def test_amounts_of_a_group_are_counted() -> None:
    facts = group_stats(
        [clip("a", "train", ("A man walks.", "he walks"), frames=20), clip("b", "train", ("he walks",), frames=100)]
    )
    assert (facts.clips, facts.captions, facts.distinct_captions, facts.distinct_words) == (2, 3, 2, 4)
    assert facts.minutes == pytest.approx(0.1) and facts.frames == (20, 100, 100)


def test_captions_are_the_same_whatever_their_case_and_punctuation() -> None:
    assert plain("A man walks, then  sits.") == plain("a man walks then sits") != plain("a man walks")


def test_test_captions_and_motions_that_are_in_train_are_found() -> None:
    train = [clip(f"t{seed}", "train", ("a man walks",), seed=seed) for seed in range(20)]
    copies = [clip(f"c{seed}", "test", ("A man walks!",), seed=seed, frames=60) for seed in range(5)]
    new = [clip(f"n{seed}", "test", ("a man flies",), seed=100 + seed) for seed in range(5)]
    known = {"a man walks"}
    of_copies = leak_stats(train + copies, train_captions=known)
    of_new = leak_stats(train + new, train_captions=known)
    assert (of_copies.clips, of_copies.captions, of_copies.captions_in_train) == (5, 5, 5)
    assert of_new.captions_in_train == 0
    # the copies last another number of frames, so the poses that are compared lie a little apart
    assert of_copies.nearest_cm < 1 < 5 < of_new.nearest_cm
    assert of_new.nearest_cm == pytest.approx(of_new.between_train_cm, rel=0.5)


def test_where_a_clip_stands_and_faces_does_not_make_it_new() -> None:
    train = [clip(f"t{seed}", "train", seed=seed) for seed in range(10)]
    motion = train[3].motion
    turned = motion.joints[..., [2, 1, 0]] * np.array([1, 1, -1], dtype=np.float32) + np.float32([3, 1, -2])
    moved = Clip("moved", Motion(turned), (), "CMU", "free", "test")
    assert leak_stats([*train, moved], train_captions=set()).nearest_cm < 0.01


def test_a_source_without_test_clips_has_no_distance() -> None:
    facts = leak_stats([clip("a", "train"), clip("b", "val")], train_captions=set())
    assert facts.clips == 0 and np.isnan(facts.nearest_cm)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    source = tmp_path / "takes"
    source.mkdir()
    for seed in range(12):
        np.save(source / f"t{seed}.npy", clip("", "train", seed=seed, frames=60).motion.joints)
    return build(BuildConfig(sources=(str(source),), out=tmp_path / "d", splits=(0.5, 0.2, 0.3), license="CC0"))


def test_the_command_prints_tables_of_a_built_data_set(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["data", "stats", str(built)]) == 0
    printed = capsys.readouterr().out
    for word in ("takes", "train", "24", "CC0", "nearest"):
        assert word in printed
    assert "Bandai" not in printed


def test_the_plot_is_a_picture(built: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra: pip install 'kinalign[plots]'")
    from PIL import Image

    stats(StatsConfig(built, plot=tmp_path / "p.png"))
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_a_plot_of_an_unknown_kind_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"end in \.png, \.pdf or \.svg"):
        stats(StatsConfig(tmp_path / "nowhere", plot=tmp_path / "p.docx"))


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no data set"):
        stats(StatsConfig(tmp_path))


def test_bandai_namco_is_reported_apart(
    openmocap: Callable[[str], list[Clip]], capsys: pytest.CaptureFixture[str]
) -> None:
    stats(StatsConfig())
    printed = capsys.readouterr().out
    assert "CMU + CMU8 + HDM05" in printed and "optimistic" in printed


def test_bandai_takes_have_twins_in_train_and_other_sources_do_not(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [*openmocap("train"), *openmocap("test")]
    apart = {
        source: leak_stats([c for c in clips if c.source == source], train_captions=set())
        for source in ("Bandai2", "CMU", "HDM05")
    }
    assert apart["Bandai2"].nearest_cm < 4 < 10 < min(apart["CMU"].nearest_cm, apart["HDM05"].nearest_cm)
