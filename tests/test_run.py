"""Run folders: whole or not at all, strict configurations, and a killed run that ends like one never killed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import CheckpointError, ConfigError, KinalignError
from kinalign.run import (
    RunFolder,
    config_from_json,
    config_to_json,
    load_strictly,
    pack_rows,
    progress,
    read_json,
    read_tensors,
    unpack_rows,
    write_atomically,
    write_json,
    write_tensors,
)


@dataclass(frozen=True)
class Network:
    widths: tuple[int, ...] = (64, 64)
    kind: Literal["ema", "fsq"] = "ema"


@dataclass(frozen=True)
class Training:
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    init: Path | None = None
    seed: int = 0
    mirror: bool = True
    network: Network = field(default_factory=Network)


# files


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_rows_in_eight_bits_are_off_by_at_most_half_a_step_of_their_own(size: float) -> None:
    table = size * torch.randn(20, 300, generator=torch.Generator().manual_seed(0)) * torch.arange(20)[:, None]
    packed, scale = pack_rows(table)
    assert packed.dtype == torch.int8
    back = unpack_rows({"table": packed, "table.scale": scale, "other": table})
    assert set(back) == {"table", "other"}
    assert torch.equal(back["other"], table)
    step = table.abs().amax(1, keepdim=True) / 127
    assert ((back["table"] - table).abs() <= 0.501 * step).all()
    assert torch.equal(back["table"][0], torch.zeros(300))


def test_weights_of_another_network_are_refused_by_name_and_shape() -> None:
    module = torch.nn.Linear(3, 2)
    weight, bias = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(
        CheckpointError, match=r"x does not fit this network: 1 tensors absent \(bias\) 1 tensors unknown"
    ):
        load_strictly(module, {"weight": weight, "mood": bias}, origin="x")
    with pytest.raises(CheckpointError, match=r"x: weight has shape \(3, 2\); this network needs \(2, 3\)"):
        load_strictly(module, {"weight": weight.T, "bias": bias}, origin="x")
    load_strictly(module, {"weight": weight.half()}, origin="x", tied={"bias"})
    assert torch.equal(module.weight, weight)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a" / "b.txt", lambda p: p.write_text("old"))
    write_atomically(path, lambda p: p.write_text("new"))
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_the_temporary_file_has_the_suffix_of_the_real_one(tmp_path: Path) -> None:
    seen: list[Path] = []
    write_atomically(tmp_path / "clip.mp4", lambda p: (seen.append(p), p.touch()))
    assert seen[0].suffix == ".mp4"
    assert seen[0].parent == tmp_path


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "b.txt", lambda p: p.write_text("old"))

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(KinalignError, match=r"cannot write .*file.b\.txt \(.*choose a folder"):
        write_atomically(tmp_path / "file" / "b.txt", lambda p: p.write_text("text"))


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits on Windows")
@pytest.mark.parametrize("what", ["json", "tensors"])
def test_a_full_disk_is_one_clear_error_and_leaves_the_old_file(what: str, tmp_path: Path) -> None:
    # a limit on the size of files fails in the middle of a write, as a full disk does
    code = """
import resource, signal, sys, torch
from kinalign.errors import KinalignError
from kinalign.run import write_json, write_tensors
path, what = sys.argv[1:]
write = {"json": lambda n: write_json(path, ["x"] * n), "tensors": lambda n: write_tensors(path, {"w": torch.ones(n)})}
write[what](10)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write[what](100_000)
except KinalignError as error:
    print(error)
"""
    path = tmp_path / "file"
    answer = subprocess.run([sys.executable, "-c", code, path, what], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(f"cannot write {path} (")
    assert "free some space" in answer.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    if what == "json":
        assert json.loads(path.read_text()) == ["x"] * 10
    else:
        assert len(read_tensors(path)["w"]) == 10


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1, 2]", "\xff"])
def test_json_that_is_no_whole_object_is_a_checkpoint_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_json(tmp_path / "state.json")


def test_tensors_come_back_bit_for_bit_tied_ones_too(tmp_path: Path) -> None:
    table = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    tensors = {"embed": table, "head": table, "part": table[1:], "turned": table.T, "steps": torch.tensor(7)}
    write_tensors(tmp_path / "w.safetensors", tensors)
    back = read_tensors(tmp_path / "w.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("num_bytes", [0, 5, 100, -1])
def test_tensors_that_were_cut_short_are_a_checkpoint_error(num_bytes: int, tmp_path: Path) -> None:
    path = write_tensors(tmp_path / "w.safetensors", {"w": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be read"):
        read_tensors(path)


def test_absent_tensors_are_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w\.safetensors cannot be read"):
        read_tensors(tmp_path / "w.safetensors")


# configurations


@given(
    st.builds(
        Training,
        learning_rate=st.floats(allow_nan=False),
        betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        init=st.none() | st.just(Path("models/base")),
        seed=st.integers(),
        mirror=st.booleans(),
        network=st.builds(Network, widths=st.lists(st.integers()).map(tuple), kind=st.sampled_from(["ema", "fsq"])),
    )
)
def test_a_configuration_survives_json(config: Training) -> None:
    assert config_from_json(Training, json.loads(json.dumps(config_to_json(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learing_rate": 1.0}, "unknown key 'learing_rate' for Training; it knows learning_rate, betas"),
        ({"network": {"depth": 3}}, r"unknown key 'network\.depth' for Network; it knows widths, kind"),
        ({"network": {"kind": "vq"}}, r"network\.kind='vq' is unknown; use one of 'ema', 'fsq'"),
        ({"network": {"widths": [64, "64"]}}, r"network\.widths\[1\]='64' should be int"),
        ({"betas": [0.9]}, r"betas=\[0\.9\] has 1 values; it needs 2"),
        ({"learning_rate": "fast"}, "learning_rate='fast' should be float"),
        ({"seed": True}, "seed=True should be int"),
        ({"mirror": 1}, "mirror=1 should be bool"),
        ({"init": 3}, "init=3 should be Path"),
        ({"network": None}, "network=None should be Network"),
    ],
)
def test_a_configuration_that_does_not_fit_says_where(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_json(Training, values)


def test_a_needed_key_that_is_absent_is_named() -> None:
    @dataclass(frozen=True)
    class Needs:
        codebook_size: int

    with pytest.raises(ConfigError, match="needs 'codebook_size', which is absent"):
        config_from_json(Needs, {})


# runs


def test_a_run_says_what_and_where(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "run", Training(seed=3))
    assert config_from_json(Training, read_json(tmp_path / "run" / "config.json")) == Training(seed=3)
    environment = read_json(tmp_path / "run" / "environment.json")
    assert environment["seed"] == 3
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["packages"]["torch"] == torch.__version__


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, Training())
    RunFolder.open(tmp_path, config_to_json(Training()))
    with pytest.raises(ConfigError, match=r"another configuration: learning_rate is 0\.0002 there and 0\.1 here;"):
        RunFolder.open(tmp_path, Training(learning_rate=0.1))


def test_metrics_are_plain_numbers_whatever_they_were(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {})
    run.log(1, loss=torch.tensor(0.5), **{"codebook/used": 12})
    assert run.metrics_path.read_text() == '{"step": 1, "loss": 0.5, "codebook/used": 12}\n'
    assert run.metrics() == [{"step": 1, "loss": 0.5, "codebook/used": 12}]


def test_a_new_run_has_no_checkpoint(tmp_path: Path) -> None:
    assert RunFolder.open(tmp_path, {}).load_checkpoint() is None


def test_only_the_latest_checkpoint_is_kept_even_of_one_step(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {})
    for step in (1, 2, 2):
        run.save_checkpoint(step, {"w": torch.full((2,), step)}, {"epoch": step})
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert checkpoint.tensors["w"].tolist() == [2, 2]
    assert checkpoint.state == {"epoch": 2}
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_lines_after_the_checkpoint_are_cut_off_to_be_made_again(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {})
    for step in range(5):
        run.log(step, loss=1 / (step + 1))
        if step == 2:
            run.save_checkpoint(step, {}, {})
    run.load_checkpoint()
    assert [row["step"] for row in run.metrics()] == [0, 1, 2]


TRAIN = """
import json, os, sys
from pathlib import Path
import safetensors.torch, torch
import kinalign.run
from kinalign.run import RunFolder

folder, kill_where = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), 9)
run = RunFolder.open(folder, {"seed": 0})
start, weight, generator = 0, torch.zeros(3), torch.Generator().manual_seed(0)
if (checkpoint := run.load_checkpoint()) is not None:
    start, weight = checkpoint.step + 1, checkpoint.tensors["weight"]
    generator.set_state(checkpoint.tensors["generator"])

for step in range(start, 10):
    weight = weight + torch.randn(3, generator=generator)
    if (kill_where, step) == ("within a line", 7):
        run.metrics_path.open("a").write('{"step": 7, "lo')
        die()
    run.log(step, loss=weight.norm())
    if (kill_where, step) == ("between checkpoints", 4):
        die()
    if step % 3 == 2:
        if (kill_where, step) == ("within the tensors", 5):
            safetensors.torch.save_file = lambda tensors, path: (Path(path).write_bytes(b"half"), die())
        if (kill_where, step) == ("between tensors and state", 5):
            kinalign.run.write_json = die
        if (kill_where, step) == ("before the former is removed", 5):
            Path.unlink = die
        run.save_checkpoint(step, {"weight": weight, "generator": generator.get_state()}, {})
print(weight.tolist())
"""


def train(folder: Path, kill_where: str = "nowhere") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", TRAIN, folder, kill_where], capture_output=True, text=True)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The log and the last weights of a run that was never killed."""
    folder = tmp_path_factory.mktemp("never killed")
    answer = train(folder)
    assert answer.returncode == 0, answer.stderr
    return (folder / "metrics.jsonl").read_text(), answer.stdout


@pytest.mark.parametrize(
    "where",
    [
        "within a line",
        "between checkpoints",
        "within the tensors",
        "between tensors and state",
        "before the former is removed",
    ],
)
def test_a_killed_run_ends_like_one_never_killed(where: str, never_killed: tuple[str, str], tmp_path: Path) -> None:
    assert train(tmp_path, where).returncode != 0
    answer = train(tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert ((tmp_path / "metrics.jsonl").read_text(), answer.stdout) == never_killed
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_truncated_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path, {})
    run.save_checkpoint(1, {"w": torch.ones(100)}, {})
    (tensors,) = (tmp_path / "checkpoints").glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:50])
    with pytest.raises(CheckpointError, match=tensors.name):
        run.load_checkpoint()


def test_progress_shows_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", total=20, done=5) as advance:
        for _ in range(15):
            advance(note="loss 0.31")
    shown = capsys.readouterr().err
    assert "20/20" in shown
    assert "loss 0.31" in shown


def test_a_configuration_of_unspeakable_values_is_refused() -> None:
    with pytest.raises(TypeError, match="a configuration holds numbers"):
        config_to_json({"model": object()})


def test_write_json_is_for_people_too(tmp_path: Path) -> None:
    assert (
        write_json(tmp_path / "a.json", {"caption": "één"}).read_text(encoding="utf-8") == '{\n  "caption": "één"\n}\n'
    )
