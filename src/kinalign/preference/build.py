"""`kinalign prefer build`: prompts, candidates, verdicts and pairs, in a folder where every stage is files.

config.json, environment.json  what was asked and where
prompts.jsonl                  every prompt with its event program
candidates/00000.safetensors   codes of a chunk's motions
verdicts/00000.jsonl           what the judge says of each
preferences.parquet, motions/, README.md   the data set (dataset.py)
build.json                     written last: counts, and the sha256 of every file of the data set

A chunk's file is whole or absent. Killed anywhere and started again, the same command makes what is missing and ends
with the same bytes; a file that was cut short is made anew, and of verdicts only those that cannot be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from kinalign.data.motions import write_motions
from kinalign.errors import CheckpointError, ConfigError, PromptError
from kinalign.judge.client import ChatClient, Estimate
from kinalign.judge.lvlm import LVLMJudge
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import EventPrompt, PromptSplit, grammar_prompts, read_prompts, write_prompts
from kinalign.judge.rubric import SUB_TASKS, SubTask
from kinalign.judge.verdict import Judge
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.preference.annotate import weights_of
from kinalign.preference.candidates import Draws, motion_of
from kinalign.preference.card import TaskCounts, accuracy_of, card, licence_of
from kinalign.preference.chunks import Chunk, read_chunk, with_candidates, with_motions, with_verdicts
from kinalign.preference.dataset import (
    CARD,
    MOTIONS,
    PAIRS,
    holds_motions,
    motion_name,
    require_pyarrow,
    write_pairs,
)
from kinalign.preference.pairs import PairRule, pairs_of
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.preference.rewording import reworded, writer_of
from kinalign.run import RunFolder, config_to_json, locked, progress, read_json, sha256_of_file, write_json, write_text

PROMPTS = "prompts.jsonl"
BUILT = "build.json"
PROBE_PROMPTS = 6
"""Prompts by which a dry run measures how long things take."""


@dataclass(frozen=True)
class PreferBuild:
    """Make a preference data set: prompts, motions of a model, a judge's verdicts, and pairs."""

    out: Path = Path("preferences")
    """Folder of the data set; a build that was stopped goes on there."""
    task: tuple[SubTask, ...] = SUB_TASKS
    """Sub-tasks, with commas between."""
    prompts: int = 300
    """Prompts in all, as many of each sub-task."""
    events: int = 3
    """Events of a temporal or integrity prompt; AToM has 3."""
    split: PromptSplit = "train"
    """eval: prompts whose words and combinations of events are in no train prompt."""
    file: Path | None = None
    """Prompts of your own instead: a sentence a line, or JSON lines with "prompt" and, if you like, "task", "program"
    and "id". --prompts, --events and --split do not matter then; what is not of --task is left out."""
    writer: Path | None = None
    """Settings of a language model, as JSON, that says the prompts in words of its own, as in AToM."""
    candidates: int = 10
    """Motions for each prompt."""
    judge: str = "kinematic"
    """Who judges: kinematic, embedding, lvlm:MODEL, lvlm:FILE.json with its settings, or your own as MODULE:CLASS."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    seed: int = 0
    temperature: float | None = None
    """Below 1 safer, above 1 wilder; the model's own where it is left out, as for the next two."""
    top_p: float | None = None
    guidance: float | None = None
    """How strongly the prompt is followed; 1 is off."""
    constrained: bool = True
    """Off, the model may answer what is no motion; such answers are counted and are in no pair."""
    gap: int = PairRule.gap
    """A winner's score is higher by more than this."""
    min_winner: int = PairRule.min_winner
    """A winner's score is higher than this."""
    max_pairs: int = PairRule.max_pairs
    """Pairs of a prompt, at most."""
    smoother: float = PairRule.smoother
    """Of two motions with one score, the better one is smoother by this share; 0 makes no pair of them."""
    bench: Path | None = None
    """report.json of `kinalign events bench` for this judge: its accuracy goes onto the card."""
    dry_run: bool = False
    """Write nothing: say how much there is to do, how long it takes and what it costs."""
    ray: bool = False
    """Make candidates and verdicts on the processors of a Ray cluster, or of this machine where there is none."""
    workers: int = 2
    """With --ray: processes that make motions, and as many that judge."""
    threads: int = 1
    """Processor threads; with --ray of each worker."""


def prefer_build(config: PreferBuild) -> Path:
    """Make a preference data set: prompts, motions of a model, a judge's verdicts, and pairs."""
    torch.set_num_threads(config.threads)
    return build_preferences(config, TextToMotion.from_pretrained(config.model or shipped_model()))


def build_preferences(config: PreferBuild, model: TextToMotion) -> Path:
    """What `prefer_build` does, by a model that is there; the name and the licence are those of `config.model`."""
    require_pyarrow()
    folder, judge = config.model or shipped_model(), judge_named(config.judge)
    accuracy = accuracy_of(config.bench, judge.name)
    prompts = _prompts(config)
    model.instructions([prompt.prompt for prompt in prompts])
    sampling = model.sampling(temperature=config.temperature, top_p=config.top_p, guidance=config.guidance)
    draws = Draws(config.candidates, config.seed, sampling, config.constrained)
    rule = PairRule(config.gap, config.min_winner, config.max_pairs, config.smoother)
    if config.dry_run:
        _tell(config, prompts, draws, model, judge)
        return config.out
    writer = writer_of(config.writer) if config.writer else None
    with locked(config.out):
        settings = _settings(config, folder=folder, model=model, judge=judge, draws=draws, rule=rule, writer=writer)
        RunFolder.open(config.out, settings)
        if not _is_complete(config.out):
            prompts = _worded(config.out / PROMPTS, prompts, writer, model)
            if config.ray:
                _annotate_on_ray(config, folder, prompts, draws)
            else:
                _annotate(config.out, prompts, draws, model, judge)
            _finish(config.out, prompts, draws, rule, model, settings, licence=licence_of(folder), accuracy=accuracy)
    counts = read_json(config.out / BUILT)["counts"]
    for task, count in counts.items():
        print(f"{task}: {count['pairs']} pairs of {count['prompts_with_pairs']} of {count['prompts']} prompts")
    if isinstance(judge, LVLMJudge) and not config.ray:
        print(judge.bill)
    print(config.out / PAIRS)
    return config.out


def _prompts(config: PreferBuild) -> list[EventPrompt]:
    if config.file is None:
        return grammar_prompts(config.task, config.prompts, events=config.events, seed=config.seed, split=config.split)
    prompts = [prompt for prompt in read_prompts(config.file) if prompt.task in config.task]
    if not prompts:
        raise ConfigError(f"{config.file} has no prompt for {', '.join(config.task) or 'no sub-task'} (--task, --file)")
    return prompts


def _worded(
    path: Path, prompts: list[EventPrompt], writer: ChatClient | None, model: TextToMotion
) -> list[EventPrompt]:
    """The prompts of the folder, written there; those of a writer who was asked before stay as they are."""
    if writer is not None:
        with suppress(PromptError):
            before = read_prompts(path)
            if [prompt.id for prompt in before] == [prompt.id for prompt in prompts]:
                return before
        prompts = reworded(prompts, writer, check=lambda text: model.instructions([text]))
        print(writer.bill)
    write_prompts(path, prompts)
    return prompts


def _settings(
    config: PreferBuild,
    *,
    folder: Path,
    model: TextToMotion,
    judge: Judge,
    draws: Draws,
    rule: PairRule,
    writer: ChatClient | None,
) -> dict[str, Any]:
    """All that the data set depends on, as config.json keeps it: not where it is made, nor by how many processes."""
    own = config.file is not None
    return {
        "task": list(config.task),
        "prompts": None if own else config.prompts,
        "events": None if own else config.events,
        "split": None if own else config.split,
        "file": config.file.name if config.file else None,
        "file_sha256": sha256_of_file(config.file) if config.file else None,
        "writer": writer.settings.model if writer else None,
        "candidates": draws.num_candidates,
        "seed": draws.seed,
        "sampling": config_to_json(draws.sampling),
        "constrained": draws.constrained,
        "model": weights_of(model),
        "model_name": folder.resolve().name,
        "judge": judge.name,
        "rule": config_to_json(rule),
    }


def _annotate(folder: Path, prompts: Sequence[EventPrompt], draws: Draws, model: TextToMotion, judge: Judge) -> None:
    """Make the files of candidates and verdicts that are missing."""
    with progress("candidates and verdicts", total=len(prompts)) as advance:
        for number, of_chunk in enumerate(draws.chunks(prompts)):
            chunk = read_chunk(folder, number, of_chunk, draws)
            if not chunk.is_judged:
                if chunk.candidates is None:
                    chunk = with_candidates(chunk, model, draws)
                    chunk.write_candidates(folder)
                chunk = with_verdicts(with_motions(chunk, model), judge)
                chunk.write_verdicts(folder)
            advance(len(of_chunk))


def _annotate_on_ray(config: PreferBuild, model: Path, prompts: Sequence[EventPrompt], draws: Draws) -> None:
    """The same on a cluster: workers compute, and this process writes the files as they come."""
    from kinalign.preference.cluster import annotated

    chunks = [read_chunk(config.out, number, of_chunk, draws) for number, of_chunk in enumerate(draws.chunks(prompts))]
    missing = [chunk for chunk in chunks if not chunk.is_judged]
    done = len(prompts) - sum(len(chunk.prompts) for chunk in missing)
    with progress("candidates and verdicts", total=len(prompts), done=done) as advance:
        if missing:
            for chunk in annotated(
                missing, model=model, judge=config.judge, draws=draws, workers=config.workers, threads=config.threads
            ):
                chunk.write_candidates(config.out)
                chunk.write_verdicts(config.out)
                advance(len(chunk.prompts))


def _finish(
    folder: Path,
    prompts: Sequence[EventPrompt],
    draws: Draws,
    rule: PairRule,
    model: TextToMotion,
    settings: dict[str, Any],
    *,
    licence: str,
    accuracy: str,
) -> None:
    """Choose pairs and write the data set; build.json last."""
    counts: dict[str, TaskCounts] = {}
    pairs: list[PreferencePair] = []
    files = [folder / PAIRS, folder / CARD]
    with progress("pairs", total=len(prompts)) as advance:
        for number, of_chunk in enumerate(draws.chunks(prompts)):
            chunk = read_chunk(folder, number, of_chunk, draws)
            if rule.smoother:
                chunk = with_motions(chunk, model)
            shown: list[tuple[str, EventPrompt, Candidate]] = []
            for prompt, candidates in zip(of_chunk, chunk.judged_candidates()):
                own = pairs_of(prompt, candidates, rule, model=settings["model"], judge=settings["judge"])
                counts.setdefault(prompt.task, TaskCounts()).add(candidates, own)
                pairs += own
                for candidate in dict.fromkeys(one for pair in own for one in (pair.chosen, pair.rejected)):
                    shown.append((motion_name(prompt.id, candidate), prompt, candidate))
            path = folder / MOTIONS / f"{number:05d}.safetensors"
            if not holds_motions(path, [name for name, _, _ in shown]):
                write_motions(path, {name: motion_of(model, prompt.prompt, one) for name, prompt, one in shown})
            files.append(path)
            advance(len(of_chunk), note=f"{len(pairs)} pairs")
    write_pairs(folder / PAIRS, pairs, num_codes=model.lm.vocab.num_codes)
    text = card(settings, counts, pairs[0] if pairs else None, licence=licence, accuracy=accuracy)
    write_text(folder / CARD, text)
    write_json(
        folder / BUILT,
        {
            "counts": {task: count.to_json() for task, count in counts.items()},
            "files": {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files},
        },
    )


def _is_complete(folder: Path) -> bool:
    """Whether build.json is there and every file of the data set is as it says."""
    if not (folder / BUILT).exists():
        return False
    try:
        files = read_json(folder / BUILT)["files"]
    except (CheckpointError, KeyError):
        return False
    return all((folder / name).is_file() and sha256_of_file(folder / name) == told for name, told in files.items())


def _tell(config: PreferBuild, prompts: Sequence[EventPrompt], draws: Draws, model: TextToMotion, judge: Judge) -> None:
    """How much there is to do, and how long it takes, measured on a few prompts."""
    chunks = [read_chunk(config.out, number, part, draws) for number, part in enumerate(draws.chunks(prompts))]
    undrawn = sum(len(chunk.prompts) for chunk in chunks if chunk.candidates is None) * draws.num_candidates
    unjudged = sum(len(chunk.prompts) for chunk in chunks if not chunk.is_judged) * draws.num_candidates
    by_task = Counter(prompt.task for prompt in prompts)
    some = prompts[:: max(1, len(prompts) // PROBE_PROMPTS)][:PROBE_PROMPTS]
    print(f"prompts: {len(prompts)} ({', '.join(f'{number} {task}' for task, number in by_task.items())}), such as")
    for prompt in some:
        print(f"  {prompt.id}: {prompt.prompt}")
    total = len(prompts) * draws.num_candidates
    print(f"motions: {total} of {config.candidates} seeds each, {undrawn} of them still to be made")
    print(f"verdicts: {total} by {judge.name}, {unjudged} of them still to be given")
    print(f"pairs: {len(prompts) * config.max_pairs} at most")
    begun = perf_counter()
    drawn = with_motions(with_candidates(Chunk(0, tuple(some)), model, draws), model)
    drawn_s = (perf_counter() - begun) / (len(some) * draws.num_candidates)
    judged_s, cost = 0.0, "nothing"
    if isinstance(judge, LVLMJudge):
        cases = drawn.cases()
        cost = str(_scaled(judge.estimate(cases), unjudged / len(cases)))
    else:
        begun = perf_counter()
        with_verdicts(drawn, judge)
        judged_s = (perf_counter() - begun) / (len(some) * draws.num_candidates)
    minutes = (undrawn * drawn_s + unjudged * judged_s) / 60 / (config.workers if config.ray else 1)
    speed = f"{1 / judged_s:.1f} verdicts" if judged_s else "without the endpoint's time"
    print(f"time: about {minutes:.1f} minutes, by {len(some)} prompts: {1 / drawn_s:.1f} motions a second, {speed}")
    print(f"cost: {cost}")


def _scaled(estimate: Estimate, times: float) -> Estimate:
    """What more or fewer cases of the same kind need."""

    def dollars(usd: float | None) -> float | None:
        return None if usd is None else usd * times

    return Estimate(
        round(estimate.num_calls * times),
        round(estimate.num_pictures * times),
        round(estimate.text_tokens * times),
        dollars(estimate.input_usd),
        dollars(estimate.at_most_usd),
    )
