"""The model's commands: generate, caption, predict, inbetween, and the training of its language part."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import tyro

from kinalign.data.dataset import load_dataset
from kinalign.data.tokens import TokenizedClip
from kinalign.errors import ConfigError, PromptError
from kinalign.events.program import EventProgram
from kinalign.eventwise import WHOLES, by_events, from_standing, is_readable, length_said
from kinalign.judge.asking import told
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Judge
from kinalign.lm.model import Sampling
from kinalign.lm.train import LMTraining, train_lm
from kinalign.motion.motion import Motion
from kinalign.motion.planting import planted, settled
from kinalign.motion.skeleton import HUMANML3D
from kinalign.pipeline import FADE_S, TextToMotion, checked_prompt, tokenized
from kinalign.render.player import write_player
from kinalign.render.video import write_video
from kinalign.run import progress, write_json, write_text
from kinalign.selection import Selection, best_of, check_numbers, judged
from kinalign.tokenizer.commands import is_unmirrored, tokenize_clips, tokens_info
from kinalign.tokenizer.tokenizer import MotionTokenizer

FileFormat = Literal["mp4", "webm", "gif", "png", "bvh", "glb", "npy", "npz", "html"]


@dataclass(frozen=True)
class Making:
    """What every command that makes motions is asked."""

    out: Path = Path("output")
    """Folder for the files."""
    num_candidates: int = 1
    """Motions for each prompt or motion."""
    seed: int = 0
    temperature: float | None = None
    """Below 1 safer, above 1 wilder; 0 takes the likeliest codes. This and the next two are the model's own where they
    are left out."""
    top_p: float | None = None
    """Draw from the likeliest codes that together have this probability."""
    guidance: float | None = None
    """How strongly the prompt is followed; 1 is off."""
    formats: tuple[FileFormat, ...] = ("mp4", "png", "bvh", "html")
    """What to write of each motion; html is one page with all candidates."""
    plant: bool = True
    """Feet that stand do not slide, and what is made of a prompt does not hover; with --no-plant motions are as the
    model makes them."""
    size: int = 384
    """Pixels of a side of mp4, webm and gif."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    adapter: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Folder of an adapter, or FOLDER=SHARE of each of several: --adapter a=0.5 --adapter b=0.5."""
    threads: int = 1
    """Processor threads."""

    def sampling(self, model: TextToMotion) -> Sampling:
        """The model's own way to draw, but for what was asked."""
        return model.sampling(temperature=self.temperature, top_p=self.top_p, guidance=self.guidance)


@dataclass(frozen=True)
class Generate(Making):
    """Turn sentences into motion files."""

    prompts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Sentences, each in quotes."""
    file: Path | None = None
    """A text file with a prompt a line."""
    length_seconds: float | None = None
    """Length of the motions; where it is left out, what the prompt says, "for 4 seconds", or the model chooses."""
    best_of: int | None = None
    """Draw so many motions for each prompt and keep the best, by the judge."""
    until_right: int | None = None
    """Draw until everything is as it is asked for, by the judge, but so many motions at most; keep the best."""
    by_events: Literal["auto", "yes", "no"] = "auto"
    """Make a prompt eight times, or --best-of, and, where no motion is right, each of its events by itself, in plain
    words and joined; keep the best. What is asked for is there far more often than in a prompt made at once. auto: of
    every prompt whose events can be read, unless --best-of, --until-right or --length-seconds is given."""
    judge: str | None = None
    """Who judges what is seen, and when: kinematic, embedding, or lvlm:MODEL. Nobody where it is left out, and
    kinematic for the best of many."""

    @property
    def num_drawn(self) -> int | None:
        """Motions to choose from, at most; None where there is no choice."""
        return self.best_of if self.until_right is None else self.until_right

    def is_by_events(self, program: EventProgram) -> bool:
        """Whether the events of a prompt are made one by one where they are not right at once."""
        if self.by_events != "auto" or self.num_drawn is not None or self.length_seconds is not None:
            return self.by_events == "yes"
        return is_readable(program)


def generate(config: Generate) -> list[Path]:
    """Turn sentences into motion files; prints what was written. Raises PromptError before anything is made."""
    prompts = [checked_prompt(prompt) for prompt in (*config.prompts, *_lines(config.file))]
    if not prompts:
        raise PromptError('no prompt; give one in quotes: kinalign generate "a person waves", or --file prompts.txt')
    judge = _judge(config)
    model = _model(config)
    model.instructions(prompts, length_s=config.length_seconds)
    if judge is not None:
        _warn_unread(model, prompts)

    def make(number: int) -> list[Motion] | Selection:
        return answers(model, prompts[number], config, judge=judge)

    return _make_all("generate", [("prompt", prompt, slug(prompt)) for prompt in prompts], make, config)


def answers(
    model: TextToMotion, prompt: str, config: Generate, *, judge: Judge | None = None
) -> list[Motion] | Selection:
    """The motions of one prompt as `generate` makes them; without a judge where no event can be read in it."""
    how: dict[str, Any] = {"seed": config.seed, "sampling": config.sampling(model)}
    keep, plant = config.num_candidates, config.plant
    try:
        program = model.program_of(prompt)
    except PromptError:
        program = None
    is_joinable = config.by_events == "yes" or model.tokenizer.skeleton.num_joints == HUMANML3D.num_joints
    if program is not None and is_joinable and config.is_by_events(program):
        n = config.num_drawn or max(WHOLES, keep)
        return by_events(model, prompt, n, judge=judge, program=program, keep=keep, plant=plant, **how)
    said_s = length_said(model, prompt, program)
    how["length_s"] = said_s if config.length_seconds is None else config.length_seconds
    if program is not None and judge is not None and config.num_drawn is not None:
        how |= {"until_right": config.until_right is not None, "plant": plant}
        return best_of(model, prompt, config.num_drawn, judge=judge, program=program, keep=keep, **how)
    motions = model(prompt, num_candidates=keep, **how)
    motions = motions if how["length_s"] is not None else [from_standing(motion) for motion in motions]
    motions = [settled(motion) for motion in motions] if plant else motions
    return judged(prompt, motions, judge, program=program) if program is not None and judge is not None else motions


@dataclass(frozen=True)
class Predict(Making):
    """Continue motions: what comes next."""

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Motion files: bvh, npy, npz."""
    file: Path | None = None
    """A text file with the path of a motion a line."""
    seconds: float | None = None
    """How long to go on; the model chooses where it is left out."""


def predict(config: Predict) -> list[Path]:
    """Continue motions; prints what was written."""
    paths, motions = _motions(config.motions, config.file, "predict walk.bvh")
    model = _model(config)

    def make(number: int) -> list[Motion]:
        made = model.predict(
            motions[number],
            seconds=config.seconds,
            num_candidates=config.num_candidates,
            seed=config.seed,
            sampling=config.sampling(model),
        )
        return _planted(made, [slice(0, _num_kept(motions[number], model) - 1)]) if config.plant else made

    return _make_all("predict", [("motion", path, slug(Path(path).stem)) for path in paths], make, config)


@dataclass(frozen=True)
class InBetween(Making):
    """Fill a gap: in a motion, between moments of it, or from one motion to another."""

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Motion files, each with the same gap, or with --seconds two: from the first to the second; bvh, npy, npz."""
    file: Path | None = None
    """A text file with the path of a motion a line, or with --seconds two with a tab between."""
    hide: tuple[float, float] | None = None
    """Seconds from which and up to which a motion is made anew."""
    keys: tuple[float, ...] | None = None
    """Seconds of the moments of a motion that are kept; everything else is made anew."""
    seconds: float | None = None
    """How long the way from the first motion to the second takes."""
    anchored: bool = False
    """Leave the second motion where it is; else it is moved to where the first has come."""


def inbetween(config: InBetween) -> list[Path]:
    """Fill a gap in motions, or from one motion to another; prints what was written."""
    if sum(way is not None for way in (config.hide, config.keys, config.seconds)) != 1:
        raise ConfigError(
            "say one of --hide START END and --keys SECOND ..., of each motion, and --seconds, between two"
        )
    named = tuple(map(str, config.motions))
    groups = [named] if config.seconds is not None and named else [(name,) for name in named]
    groups += [tuple(line.split("\t")) for line in _lines(config.file)]
    of_each = 1 if config.seconds is None else 2
    if wrong := [group for group in groups if len(group) != of_each]:
        raise ConfigError(
            f"{len(wrong[0])} motions, {', '.join(wrong[0])}: here it takes {of_each} (--seconds, --file)"
        )
    motions = [_loaded(group, "inbetween walk.bvh --hide 1 2.5") for group in groups or [()]]
    if config.hide is not None:
        start, end = config.hide
        for (name, *_), (motion, *_) in zip(groups, motions):
            if not 0 < start < end < motion.duration_s:
                raise ConfigError(
                    f"hide={start} {end} must lie inside the {motion.duration_s:.2f} s of {name} (--hide)"
                )
    model = _model(config)

    def make(number: int) -> list[Motion]:
        how: dict[str, Any] = {
            "num_candidates": config.num_candidates,
            "seed": config.seed,
            "sampling": config.sampling(model),
        }
        first, last = motions[number][0], motions[number][-1]
        if config.keys is not None:
            made, step = model.fill(first, keys=config.keys, **how), model.tokenizer.frames_per_step
            steps = [int(key * model.tokenizer.config.fps / step + 1e-6) for key in config.keys]
            return _planted(made, [slice(one * step, (one + 1) * step) for one in steps]) if config.plant else made
        if config.seconds is not None:
            head, tail = first, last
            made = model.inbetween(head, tail, seconds=config.seconds, anchored=config.anchored, **how)
        else:
            # a frame more of the head: its codes hold velocities, and take the last one
            head, tail = first[: round(start * first.fps) + 1], first[round(end * first.fps) :]
            made = model.inbetween(head, tail, seconds=end - start, anchored=True, **how)
        kept = [slice(0, _num_kept(head, model) - 1), slice(len(made[0]) - _num_kept(tail, model), None)]
        return _planted(made, kept) if config.plant else made

    asked = [("motion", " ".join(group), slug("-".join(Path(name).stem for name in group))) for group in groups]
    return _make_all("inbetween", asked, make, config)


@dataclass(frozen=True)
class Caption:
    """Say in a sentence what happens in motions."""

    motions: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Motion files: bvh, npy, npz."""
    file: Path | None = None
    """A text file with the path of a motion a line."""
    out: Path | None = None
    """A JSONL file for the captions; they are printed in any case."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    threads: int = 1


def caption(config: Caption) -> list[str]:
    """Say in a sentence what happens in motions."""
    paths, motions = _motions(config.motions, config.file, "caption walk.bvh")
    torch.set_num_threads(config.threads)
    said = TextToMotion.from_pretrained(config.model).captions(motions)
    for path, text in zip(paths, said):
        print(f"{path}: {text}" if len(paths) > 1 else text)
    if config.out is not None:
        rows = [json.dumps({"motion": path, "caption": text}, ensure_ascii=False) for path, text in zip(paths, said)]
        text = "\n".join(rows) + "\n"
        write_text(config.out, text)
    return said


@dataclass(frozen=True)
class TrainLM:
    """Train a language model to speak the codes of a tokenizer; resumes where it was stopped."""

    tokenizer: Path
    """Tokenizer folder."""
    out: Path
    """Run folder; the finished model, with its tokenizer, is OUT/model."""
    data: Path | None = None
    """A data set that `kinalign data build` wrote, or HumanML3D's folder; openmocap20 where it is left out."""
    training: LMTraining = field(default_factory=LMTraining)
    threads: int = 1
    """Processor threads."""


def train_language_model(config: TrainLM) -> Path:
    """Train a language model to speak the codes of a tokenizer; resumes where it was stopped."""
    torch.set_num_threads(config.threads)
    tokenizer = MotionTokenizer.from_pretrained(config.tokenizer)
    info = tokens_info(tokenizer, config.tokenizer)

    def tokenize() -> list[TokenizedClip]:
        return tokenize_clips(tokenizer, load_dataset(config.data, "train"), mirror=is_unmirrored(config.data))

    rows = tokenized(config.out / "tokens", info, tokenize)
    lm = train_lm(rows, info, config.training, folder=config.out / "lm", code_vectors=tokenizer.code_vectors())
    folder = TextToMotion(lm, tokenizer).save_pretrained(config.out / "model")
    print(folder)
    return folder


def _judge(config: Generate) -> Judge | None:
    """Who judges, if anybody; raises ConfigError before a model is loaded."""
    if config.best_of is not None and config.until_right is not None:
        raise ConfigError("say one of --best-of, which draws all, and --until-right, which ends with what is right")
    if config.by_events == "yes" and (config.until_right is not None or config.length_seconds is not None):
        raise ConfigError(
            "events that are made one by one are as long as they are, and put together a number of times: leave out "
            "--until-right and --length-seconds"
        )
    if config.num_drawn is not None:
        check_numbers(config.num_drawn, config.num_candidates)
    if config.judge is None and config.num_drawn is None:
        return None
    return judge_named(config.judge or "kinematic")


def _warn_unread(model: TextToMotion, prompts: Sequence[str]) -> None:
    """A warning for each prompt of which the motions cannot be judged."""
    for prompt in prompts:
        try:
            model.program_of(prompt)
        except PromptError as error:
            print(f"kinalign: warning: {error}; its motions are made without a judge", file=sys.stderr)


def _model(config: Making) -> TextToMotion:
    if not config.formats:
        raise ConfigError(f"formats is empty; name one or more of {', '.join(get_args(FileFormat))} (--formats)")
    torch.set_num_threads(config.threads)
    return TextToMotion.from_pretrained(config.model, adapter=adapter_shares(config.adapter) or None)


def _num_kept(motion: Motion, model: TextToMotion) -> int:
    """Frames of a motion that the model goes on from or to, but for those in which it becomes what the model makes."""
    fps = model.tokenizer.config.fps
    return max(len(motion.resample(fps)) - round(FADE_S * fps), 1)


def _planted(motions: Sequence[Motion], keep: Sequence[slice]) -> list[Motion]:
    """The motions with feet that do not slide, but in the frames that were given."""
    return [planted(motion, keep=keep) for motion in motions]


def adapter_shares(adapters: Sequence[str]) -> dict[str, float]:
    """Folders of adapters and their shares.

    >>> adapter_shares(["a", "b=0.5", "rank=8/c"])
    {'a': 1.0, 'b': 0.5, 'rank=8/c': 1.0}
    """
    shares = {}
    for text in adapters:
        found = re.fullmatch(r"(.+)=(-?[\d.]+)", text)
        shares[found[1] if found else text] = float(found[2]) if found else 1.0
    return shares


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        # with or without the mark that some editors put first
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"cannot read the lines of {file} as text ({error}) (--file)") from error


def _motions(paths: Sequence[Path], file: Path | None, example: str) -> tuple[list[str], list[Motion]]:
    """Paths and their motions, all read before anything is made."""
    named = [*map(str, paths), *_lines(file)]
    return named, _loaded(named, example)


def _loaded(names: Sequence[str], example: str) -> list[Motion]:
    if not names:
        raise PromptError(f"no motion; name a bvh, npy or npz file: kinalign {example}")
    return [Motion.load(name) for name in names]


def _make_all(
    what: str, asked: Sequence[tuple[str, str, str]], make: Callable[[int], list[Motion] | Selection], config: Making
) -> list[Path]:
    """Make, by its place, and write motions for every (kind, text, stem), with a list of them in prompts.json."""
    written: list[Path] = []
    rows = []
    seen: list[str] = []
    with progress(what, total=len(asked)) as advance:
        for number, (kind, text, stem) in enumerate(asked):
            made, stem = make(number), f"{number + 1:03d}-{stem}"
            files = _write(made, config, stem=stem)
            row = {kind: text, "seed": config.seed, "files": [path.name for path in files]}
            if isinstance(made, Selection):
                row |= made.to_json()
                seen += _told(made, config.out / stem)
            rows.append(row)
            written += files
            advance(note=text[:40])
    write_json(config.out / "prompts.json", {"motions": rows})
    for line in [*seen, *map(str, written)]:
        print(line)
    return written


def _told(selection: Selection, path: Path) -> list[str]:
    """What the judge saw, in lines for the terminal."""
    if selection.num_invalid == selection.num_drawn:
        counts = f"none of {selection.num_drawn} drawn could be judged: nothing was chosen"
    else:
        counts = f"{selection.num_right} of {selection.num_drawn} drawn all right"
        counts += f", {selection.num_invalid} could not be judged" if selection.num_invalid else ""
        counts += "; no more may be drawn (--until-right)" if selection.is_exhausted else ""
    lines = [selection.prompt, f"  {selection.judge}: {counts}"]
    for name, one in zip(_names(path.name, len(selection.kept)), selection.kept):
        lines += [f"  {line}" for line in told(path.with_name(name), one.motion.fps, one.outcome)]
    return [*lines, ""]


def _write(made: Sequence[Motion] | Selection, config: Making, *, stem: str) -> list[Path]:
    motions = made.motions if isinstance(made, Selection) else made
    files = []
    for name, motion in zip(_names(stem, len(motions)), motions):
        for suffix in config.formats:
            path = config.out / f"{name}.{suffix}"
            if suffix in ("mp4", "webm", "gif"):
                files.append(write_video(motion, path, size=config.size))
            elif suffix != "html":
                files.append(motion.save(path))
    if "html" in config.formats:
        page = config.out / f"{stem}.html"
        if isinstance(made, Selection):
            write_player(made.captioned(), page, title=made.prompt, events=made.timeline())
        else:
            write_player(motions, page)
        files.append(page)
    return files


def _names(stem: str, number: int) -> list[str]:
    """File names of the motions of one prompt, without suffix."""
    return [stem] if number == 1 else [f"{stem}-{place}" for place in range(1, number + 1)]


def slug(prompt: str) -> str:
    """A prompt as a file name: at most 40 letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "prompt"
