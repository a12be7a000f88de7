"""`kinalign evaluate`: numbers of a model or of another system's motions, and a test of the difference of two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from kinalign.commands import adapter_shares
from kinalign.data.dataset import load_dataset
from kinalign.data.humanml3d import HumanML3DFolder
from kinalign.data.records import Split
from kinalign.errors import CheckpointError, ConfigError, EvaluationError
from kinalign.evaluation.bench import EvaluationSettings
from kinalign.evaluation.compare import compare, comparison_table
from kinalign.evaluation.encoder import CONFIG, WEIGHTS, TextMotionEncoder, shipped_encoder
from kinalign.evaluation.evaluate import evaluate
from kinalign.evaluation.eventchoice import Choice
from kinalign.evaluation.eventcompare import compare_events, write_pairs
from kinalign.evaluation.eventrun import EventSettings, evaluate_events
from kinalign.evaluation.eventsets import own_prompts, standard_prompts
from kinalign.evaluation.published import PublishedEvaluator, PublishedFiles
from kinalign.evaluation.report import TASKS, Report
from kinalign.judge.named import judge_named
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.run import sha256_of_weights

EXAMINERS = ("kinematic", "learned")
"""Who judges events where nobody is named."""


@dataclass(frozen=True)
class Evaluate:
    """Measure a model, or motions of another system, on clips that it never saw."""

    model: tyro.conf.Positional[Path | None] = None
    """Model folder; the shipped model where it is left out."""
    adapter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Folder of an adapter, or FOLDER=SHARE of each of several: --adapter a=0.5 --adapter b=0.5."""
    task: Literal["t2m", "m2t", "pred", "inbetween", "tokenizer", "all"] = "all"
    """Text to motion, motion to text, prediction, in-between, the tokenizer alone, or everything."""
    out: Path = Path("report")
    """Folder for report.json, report.md and report.png; an evaluation that was stopped goes on there."""
    data: Path | None = None
    """A data set that `kinalign data build` wrote, or HumanML3D's folder; openmocap20 where it is left out."""
    split: Split = "test"
    encoder: Path | None = None
    """Evaluator folder, one of ours or the published files of HumanML3D's or KIT-ML's; the shipped one where it is left
    out. The published one needs --data in the published layout, whose texts have parts of speech."""
    replications: int | None = None
    """How often all is made anew; 20 where it is left out, with --events 3 motions of each prompt."""
    seed: int = EvaluationSettings.seed
    captions: Literal["random", "first"] | None = None
    """Which caption of a clip is its prompt: another in each replication, or always the first. Left out, it is the
    first with --outputs, else random."""
    true_lengths: bool = False
    """Tell the model how long the real motion is, as many tables of the field do."""
    published_displacement: bool = False
    """ADE, FDE and APD also as MotionGPT's and DLow's tables have them: all joints as one vector."""
    many_prompts: int = EvaluationSettings.many_prompts
    """Clips for MultiModality, APD and the rate of invalid answers, in each replication."""
    many_candidates: int = EvaluationSettings.many_candidates
    """Motions for each of them."""
    outputs: Path | None = None
    """Score these instead of a model: a folder of npy files with joints (T, J, 3), named as the clips."""
    fps: float | None = None
    """Frames per second of --outputs; those of the data where it is left out."""
    references: Path | None = None
    """Captions to hold the model's against, a JSON line {"id": ..., "captions": [...]} for each clip; the data set's
    own where it is left out."""
    events: bool = False
    """Whether the events that prompts name happen, in order and as often as said, on prompts that no training met."""
    judge: tuple[str, ...] = ()
    """With --events: who says what happens, one or more of kinematic, learned, embedding, lvlm:MODEL, human:LABELS, or
    your own as MODULE:CLASS; kinematic and learned where it is left out."""
    prompts: Path | None = None
    """With --events: prompts of your own, a sentence a line or JSON lines; the held-out and the demo ones where it is
    left out."""
    prompts_per_task: int = 60
    """With --events: held-out prompts of each sub-task."""
    best_of: int | None = None
    """With --events: of so many motions of each prompt and seed take the best, as `kinalign generate` does."""
    until_right: int | None = None
    """With --events: draw until everything is as it is asked for, so many at most, as `kinalign generate` does."""
    by_events: bool = False
    """With --events: make each event of a prompt by itself and join them, as `kinalign generate --by-events` does."""
    choose_by: str = "kinematic"
    """With --best-of, --until-right and --by-events: the judge who chooses. Its own verdict on what it chose proves
    nothing."""
    reuse: Path | None = None
    """With --events: report folder of the same model, prompts and seeds; what was drawn and chosen there is not made
    anew."""
    compare: tuple[Path, Path] | None = None
    """Two report folders: evaluates nothing, but says which of their differences are beyond chance. With --events also
    how often the second one wins; a --judge that was not asked yet is asked about the motions of both."""
    pairs: Path | None = None
    """With --events and --compare: write the motions of both to this folder, for people to choose between with
    `kinalign judge label PAIRS/pairs.jsonl`."""
    votes: Path | None = None
    """With --events and --compare: labels that people gave to these pairs."""
    threads: int = 1
    """Processor threads."""


def evaluate_command(config: Evaluate) -> None:
    """Measure a model, or motions of another system, on clips that it never saw; or compare two reports."""
    if config.events:
        _evaluate_events(config)
        return
    _require_no_event_options(config)
    if config.compare is not None:
        rows = compare(*config.compare)
        names = [Report.load(folder).system for folder in config.compare]
        if names[0] == names[1]:
            names = [f"{name} ({letter})" for name, letter in zip(names, "AB")]
        print(comparison_table(rows, *names))
        return
    torch.set_num_threads(config.threads)
    settings = EvaluationSettings(
        tasks=_tasks(config),
        replications=EvaluationSettings.replications if config.replications is None else config.replications,
        seed=config.seed,
        captions=config.captions or ("first" if config.outputs else "random"),
        true_lengths=config.true_lengths,
        published_displacement=config.published_displacement,
        many_prompts=config.many_prompts,
        many_candidates=config.many_candidates,
    )
    encoder = _encoder(config)
    references = _read_references(config.references) if config.references else None
    report = evaluate(
        load_dataset(config.data, config.split),
        encoder,
        _model(config) if config.outputs is None else config.outputs,
        name=_name(config),
        folder=config.out,
        encoder_sha256=sha256_of_weights([encoder]),
        train=load_dataset(config.data, "train"),
        settings=settings,
        references=references,
        outputs_fps=config.fps,
        data=_data_name(config),
    )
    print(report.markdown())
    print(config.out / "report.json")


def _evaluate_events(config: Evaluate) -> None:
    """Whether events happen, of a model's motions; or two such reports against each other."""
    if config.compare is None and (config.pairs or config.votes):
        raise ConfigError("pairs and votes are of two reports; name both (--compare A B)")
    if config.best_of is not None and config.until_right is not None:
        raise ConfigError("give --best-of, which draws a number, or --until-right, which ends when it has a right one")
    number = config.best_of if config.until_right is None else config.until_right
    choice = None
    if number is not None or config.by_events:
        n = Choice.n if number is None else number
        choice = Choice(n, config.until_right is not None, config.by_events)
    judges = [judge_named(name) for name in dict.fromkeys(config.judge)]
    if config.compare is not None:
        if choice is not None or config.reuse is not None:
            raise ConfigError(
                "two reports are compared as they are: leave out --best-of, --until-right, --by-events and --reuse"
            )
        if config.pairs is not None:
            print(write_pairs(*config.compare, config.pairs))
            return
        print(compare_events(*config.compare, judges=judges, votes=config.votes).markdown())
        return
    if config.outputs is not None or config.task != "all":
        raise ConfigError("events are looked for in a model's motions for prompts: leave out --outputs and --task")
    torch.set_num_threads(config.threads)
    encoder = _encoder(config)
    replications = EventSettings.replications if config.replications is None else config.replications
    report = evaluate_events(
        _model(config),
        own_prompts(config.prompts) if config.prompts else standard_prompts(config.prompts_per_task, seed=config.seed),
        judges or [judge_named(name) for name in EXAMINERS],
        load_dataset(config.data, config.split),
        encoder,
        folder=config.out,
        name=_name(config),
        encoder_sha256=sha256_of_weights([encoder]),
        settings=EventSettings(replications, config.seed),
        data=_data_name(config),
        choice=choice,
        chosen_by=judge_named(config.choose_by) if choice else None,
        reuse=config.reuse,
    )
    print(report.markdown())
    print(config.out / "report.json")


def _require_no_event_options(config: Evaluate) -> None:
    for name in ("judge", "prompts", "best_of", "until_right", "by_events", "reuse", "pairs", "votes"):
        if getattr(config, name):
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is said of an evaluation of events; give --events too")


def _model(config: Evaluate) -> TextToMotion:
    return TextToMotion.from_pretrained(config.model, adapter=adapter_shares(config.adapter) or None)


def _encoder(config: Evaluate) -> TextMotionEncoder | PublishedEvaluator:
    """The evaluator of a folder, its kind told by the files in it; raises CheckpointError for a folder of neither."""
    folder = config.encoder or shipped_encoder()
    if PublishedFiles.in_folder(folder) is None:
        if config.encoder is not None and not any((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
            raise CheckpointError(
                f"{folder} holds no evaluator: neither {CONFIG} and {WEIGHTS}, which are one of ours, nor "
                "text_mot_match/, glove/ and Comp_v6_KLD01/, which are the published one (--encoder)"
            )
        return TextMotionEncoder.from_pretrained(folder)
    if config.data is None or not (config.data / "texts").is_dir():
        raise EvaluationError(
            f"the published evaluator of {folder} reads words with their parts of speech, which stand in texts/ of "
            f"HumanML3D's and KIT-ML's folders and not in {config.data or 'openmocap20'}; name such a folder (--data)"
        )
    return PublishedEvaluator.from_pretrained(folder, tagged=HumanML3DFolder.open(config.data).tagged_captions())


def _name(config: Evaluate) -> str:
    """What the report calls what is evaluated."""
    if config.adapter:
        return " + ".join(Path(text).name for text in config.adapter)
    return (config.outputs or config.model or shipped_model()).resolve().name


def _data_name(config: Evaluate) -> str:
    return f"{config.data.resolve().name if config.data else 'openmocap20'}, {config.split} split"


def _tasks(config: Evaluate) -> tuple[str, ...]:
    if config.outputs is not None:
        if config.model is not None or config.adapter:
            what = "MODEL" if config.model is not None else "--adapter"
            raise ConfigError(f"{what} and --outputs are two things to evaluate; give one of them")
        return ("t2m",) if config.task == "all" else (config.task,)
    if config.fps is not None:
        raise ConfigError(f"fps={config.fps} is said of --outputs, which are absent (--fps)")
    if config.task == "all":
        return tuple(TASKS)
    return ("inbetween", "keyframes") if config.task == "inbetween" else (config.task,)


def _read_references(path: Path) -> Mapping[str, list[str]]:
    """Captions by clip id, of JSON lines; raises EvaluationError for a file of another kind."""
    references: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"cannot read {path} as text ({error}) (--references)") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row["captions"], list):
                raise TypeError("captions is no list")
            references[str(row["id"])] = [str(caption) for caption in row["captions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f'{path}, line {number} is not {{"id": ..., "captions": [...]}} ({error}) (--references)'
            ) from error
    return references
