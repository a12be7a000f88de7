"""KIT-ML through the whole chain: 21 joints, 251 features, 12.5 frames per second; clips made up in its layout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_humanml3d import walk, write_folder

from kinalign.commands import Generate, Predict, TrainLM, generate, predict, train_language_model
from kinalign.data.dataset import load_dataset
from kinalign.data.tokens import read_tokenized
from kinalign.errors import ConfigError, DataError, MotionError
from kinalign.lm.instructions import Task, prompt_instruction
from kinalign.lm.model import LMConfig
from kinalign.lm.train import ExampleSampler, LMTraining
from kinalign.motion.features import FeatureLayout, motion_to_features
from kinalign.motion.formats.bvh import parse_bvh
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import walking
from kinalign.pipeline import TextToMotion
from kinalign.tokenizer.commands import Train, train
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.tokenizer.train import TokenizerTraining, training_variants
from kinalign.tokenizer.vqvae import VQVAEConfig
from kinalign.training import Optimization

FPS = 12.5
STEP_S = 4 / FPS
QUICK = Optimization(steps=3, warmup_steps=1, log_every=1, checkpoint_every=3)
TOKENIZER = TokenizerTraining(
    network=VQVAEConfig(
        feature_width=251,
        network="patches",
        width=16,
        code_dim=8,
        codebook_size=8,
        codes_per_step=2,
        quantizer="residual",
    ),
    optimization=QUICK,
    batch_frames=64,
    windows=(16,),
    window_shares=(1.0,),
)
LANGUAGE_MODEL = LMTraining(
    network=LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2),
    optimization=QUICK,
    batch_size=4,
    reader="none",
    tasks="instructions",
)


def kit_walk(num_frames: int) -> Motion:
    return Motion(walk(KIT, num_frames), fps=FPS, skeleton=KIT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "KIT-ML", skeleton=KIT, unit_m=0.001)


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tokenizer train` and `lm train` leave."""
    out = tmp_path_factory.mktemp("runs")
    train(Train(out=out / "tokenizer", data=data, training=TOKENIZER))
    train_language_model(
        TrainLM(tokenizer=out / "tokenizer" / "tokenizer", out=out / "lm", data=data, training=LANGUAGE_MODEL)
    )
    return out


@pytest.fixture(scope="module")
def model(runs: Path) -> TextToMotion:
    return TextToMotion.from_pretrained(runs / "lm" / "model")


# from the folder to codes


def test_a_clip_is_learned_from_frame_by_frame_as_it_is(data: Path) -> None:
    clip = load_dataset(data, "train")[0]
    plain, mirrored = training_variants(clip, TOKENIZER)
    assert plain.fps == mirrored.fps == FPS
    assert np.array_equal(plain.joints, clip.motion.joints)
    assert motion_to_features(plain).shape == (len(clip.motion) - 1, 251)
    assert FeatureLayout(KIT.num_joints).width == 251


def test_a_clip_learned_from_faster_has_fewer_frames(data: Path) -> None:
    clip = load_dataset(data, "train")[0]
    faster = training_variants(clip, TokenizerTraining(network=TOKENIZER.network, speeds=(1.25,), mirror=False))[0]
    assert faster.fps == FPS
    assert len(faster) == pytest.approx(len(clip.motion) / 1.25, abs=1)


def test_a_tokenizer_of_251_features_works_at_12_5_frames_per_second(runs: Path) -> None:
    tokenizer = MotionTokenizer.from_pretrained(runs / "tokenizer" / "tokenizer")
    assert (tokenizer.config.fps, tokenizer.skeleton.name) == (FPS, "kit")
    assert tokenizer.codes_per_second == pytest.approx(2 * FPS / 4)
    motion = kit_walk(41)
    codes = tokenizer.encode(motion)
    assert len(codes) == 10 * 2
    back = tokenizer.decode(codes)
    assert back.joints.shape == (40, 21, 3)
    assert back.duration_s == pytest.approx(3.2)
    # the same movement told with more frames has the same length in codes
    assert len(tokenizer.encode(motion.resample(50))) == len(codes)


def test_codes_of_the_data_set_say_at_which_rate_they_were_read(runs: Path) -> None:
    clips, info = read_tokenized(runs / "lm" / "tokens")
    assert (info.fps, info.frames_per_step, info.num_codes) == (FPS, 4, 16)
    # of 50, 50 and 30 frames; one goes to velocities, and what fills no step is left out
    assert {clip.id: len(clip.codes) // 2 for clip in clips} == {"000021": 12, "M000021": 12, "000024": 7}


# lengths in words


@pytest.mark.parametrize(
    ("task", "told", "per_frame", "margin"),
    [
        (Task.TEXT_FRAMES_TO_MOTION, r"(\d+) frames", 1, 0),
        (Task.FRAMES_TO_MOTION, r"(\d+) frames", 1, 0),
        (Task.TEXT_SECONDS_TO_MOTION, r"(\d[\d.]*) ?s", 1 / FPS, 0.5),  # some phrasings round to whole seconds
        (Task.SECONDS_TO_MOTION, r"(\d[\d.]*) ?s", 1 / FPS, 0.5),
    ],
)
def test_an_example_speaks_of_the_length_of_its_answer(
    task: Task, told: str, per_frame: float, margin: float, runs: Path, model: TextToMotion
) -> None:
    sampler = ExampleSampler(*read_tokenized(runs / "lm" / "tokens"), model.lm, LANGUAGE_MODEL)
    sampler.kinds, sampler.shares = [task], np.ones(1)
    rng = np.random.default_rng(0)
    num_told = 0
    for instructions, answers in (sampler.draw(rng) for _ in range(10)):
        for instruction, answer in zip(instructions, answers):
            num_frames = len(model.lm.vocab.ids_to_codes(answer)) // 2 * 4
            for value in re.findall(told, instruction.text):
                assert float(value) == pytest.approx(num_frames * per_frame, abs=margin + 0.05)
                num_told += 1
    assert num_told > 10


def test_lengths_are_told_at_12_5_frames_per_second(model: TextToMotion) -> None:
    (said,) = model.instructions(["a person walks"], length_s=3.2)
    assert said.text == "a person walks for 3.2 seconds"
    said = prompt_instruction("a person walks", length_s=3.2, fps=model.tokenizer.config.fps, style="motiongpt")
    assert said.text == "Generate motion with 40 frames: a person walks"


# from words to motions


@pytest.mark.parametrize(("length_s", "num_frames"), [(0.64, 8), (3.2, 40), (4.0, 48), (15.68, 196)])
def test_a_length_in_seconds_is_kept_to_a_step(length_s: float, num_frames: int, model: TextToMotion) -> None:
    (motion,) = model("a person walks", length_s=length_s)
    assert (len(motion), motion.fps, motion.skeleton.name) == (num_frames, FPS, "kit")
    assert motion.joints.shape == (num_frames, 21, 3)
    assert motion.duration_s == pytest.approx(length_s, abs=STEP_S / 2 + 1e-6)


def test_the_longest_motion_is_196_frames_there_too(model: TextToMotion) -> None:
    assert all(len(motion) <= 196 for motion in model("a person walks", num_candidates=4))
    with pytest.raises(ConfigError, match=r"length_s=15\.8 must be between 0\.64 and 15\.68 seconds"):
        model("a person walks", length_s=15.8)
    assert isinstance(model.caption(kit_walk(197)), str)
    with pytest.raises(MotionError, match=r"a motion of 16\.1 s is too long: this model reads 15\.7 s"):
        model.caption(kit_walk(201))


def test_a_motion_goes_on_and_a_gap_is_filled_in_seconds(model: TextToMotion) -> None:
    given = kit_walk(41)
    (longer,) = model.predict(given, seconds=1.6)
    assert (len(longer), longer.fps) == (40 + 20, FPS)
    fade = 5  # 0.4 s
    assert np.array_equal(longer.joints[: 40 - fade], given.joints[: 40 - fade])
    assert not np.array_equal(longer.joints[40 - fade + 1 : 40], given.joints[40 - fade + 1 : 40])
    (joined,) = model.inbetween(given, kit_walk(30), seconds=0.96)
    assert (len(joined), joined.fps) == (40 + 12 + 30, FPS)


def test_a_motion_of_another_skeleton_is_refused(model: TextToMotion) -> None:
    with pytest.raises(MotionError, match=r"reads the 21 joints of 'kit'; the motion has 22 \('humanml3d'\)"):
        model.caption(walking(40))


def test_clips_of_another_skeleton_are_refused(data: Path, tmp_path: Path) -> None:
    settings = replace(TOKENIZER, network=replace(TOKENIZER.network, feature_width=263))
    with pytest.raises(DataError, match=r"has 21 joints; a network of 263 features learns from 22 \(--feature-width\)"):
        train(Train(out=tmp_path, data=data, training=settings))


# files


def test_files_of_a_made_motion_hold_21_joints_at_12_5_frames_per_second(runs: Path, tmp_path: Path) -> None:
    written = generate(
        Generate(
            prompts=("a person walks",),
            model=runs / "lm" / "model",
            out=tmp_path,
            formats=("npy", "npz", "bvh", "glb", "png", "gif", "html"),
            length_seconds=1.6,
            plant=False,
            size=64,
        )
    )
    files = {path.suffix: path for path in written}
    motion = TextToMotion.from_pretrained(runs / "lm" / "model")("a person walks", length_s=1.6)[0]
    for suffix in (".npy", ".npz"):
        back = Motion.load(files[suffix])
        assert (back.fps, back.skeleton.name) == (FPS, "kit")
        assert np.array_equal(back.joints, motion.joints)
    bvh = parse_bvh(files[".bvh"].read_text())
    assert bvh.frame_time == pytest.approx(1 / FPS)
    places = [bvh.names.index(name) for name in KIT.joint_names]
    assert np.abs(bvh.world.positions[:, places] / 100 - motion.joints).max() < 1e-3  # centimetres
    assert all(path.stat().st_size > 100 for path in written)


def test_a_prompt_is_made_at_once_where_a_judge_knows_no_such_body(runs: Path, tmp_path: Path) -> None:
    prompts = ("a person walks, then jumps twice", "a person waves")
    written = generate(Generate(prompts=prompts, model=runs / "lm" / "model", out=tmp_path, formats=("npy",)))
    assert [Motion.load(path).skeleton.name for path in written] == ["kit", "kit"]


def test_a_kit_file_is_continued_at_its_own_rate(runs: Path, tmp_path: Path) -> None:
    walk_file = kit_walk(41).save(tmp_path / "walk.npy")
    (written,) = predict(
        Predict(motions=(walk_file,), model=runs / "lm" / "model", out=tmp_path / "out", formats=("npz",), seconds=0.96)
    )
    longer = Motion.load(written)
    assert (len(longer), longer.fps, longer.skeleton.name) == (40 + 12, FPS, "kit")
