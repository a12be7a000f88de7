"""AToM's table on our data: what each loss brings, with and without LoRA and filtered pairs, and RL and choice beside.

    kinalign align sft --out sft --rank 128 --optimization.precision bfloat16
    kinalign prefer build --model sft/adapter --prompts 450 --events 2 --candidates 8 --out pairs
    kinalign prefer build --model sft/adapter --prompts 450 --events 2 --candidates 8 --min-winner 0 --out unfiltered
    python -m kinalign.recipes.losses --out losses

Every arm begins at one adapter, learns with three seeds, and is examined by a judge that was not the teacher. A seed
also draws held-out prompts of its own, so intervals are over the prompts of all seeds, what several seeds show of a
prompt being one. Each part has a process of its own, and so has its memory. OUT/ARM/SEED:

run/       what `kinalign align` wrote
cost.json  what learning took
events/    the report of `kinalign evaluate --events`
log        what these commands printed

A part that is whole is not made again, one that was stopped goes on. The tables are OUT/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import process_time, time
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import tyro

from kinalign.alignment.grpo import AlignGRPO, align_grpo
from kinalign.alignment.ppo import AlignPPO, align_ppo
from kinalign.alignment.preference import ADAPTER, MODEL, AlignPreference, align_preference
from kinalign.alignment.rollouts import peak_memory
from kinalign.errors import ConfigError, KinalignError
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.compare import Difference
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.eventpool import Pool, pools_of
from kinalign.evaluation.eventquality import QUALITY_METRICS
from kinalign.evaluation.eventreport import CONDITIONAL, markdown_table, number_shown
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventtruth import EVENT_METRICS, SHARES
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import EventPrompt
from kinalign.lm.lora import LoraConfig, is_adapter
from kinalign.recipes.joined import JoinedMotions
from kinalign.run import locked, read_json, write_json, write_text

RUN, COST, EVENTS, LOG = "run", "cost.json", "events", "log"

Align = AlignPreference | AlignGRPO | AlignPPO
A = TypeVar("A", AlignPreference, AlignGRPO, AlignPPO)

LORA = LoraConfig(rank=16, alpha=32.0, dropout=0.0, targets=("q", "k", "v", "o", "wi", "wo"))


def _in_steps(align: A, steps: int, *, learning_rate: float = 3e-4) -> A:
    own = replace(align.optimization, steps=steps, learning_rate=learning_rate, warmup_steps=10)
    return replace(align, optimization=own)


DPO = _in_steps(AlignPreference(loss="sigmoid", beta=0.1, sft_weight=0.3, lora=LORA), 120)
FULL = _in_steps(replace(DPO, full=True), 120, learning_rate=1e-4)


@dataclass(frozen=True)
class Arm:
    """A line of the tables."""

    title: str
    align: Align | None = None
    """How it learns from the start; None is a model as it is."""
    pairs: Literal["pairs", "unfiltered"] = "pairs"
    model: Literal["start", "base"] = "start"
    """What is as it is."""
    choice: Evaluate = field(default_factory=Evaluate)
    """How motions are chosen."""
    reuse: str | None = None
    """The arm whose motions are among those that are chosen from."""


ARMS = {
    "base": Arm("base", model="base"),
    "best-of-8": Arm("base, best of 8", model="base", choice=Evaluate(best_of=8), reuse="base"),
    "until-right": Arm(
        "base, until right, 16 at most", model="base", choice=Evaluate(until_right=16), reuse="best-of-8"
    ),
    "by-events": Arm("base, event by event", model="base", choice=Evaluate(by_events=True)),
    "sft": Arm("align sft, the start"),
    "sigmoid": Arm("DPO", DPO),
    "ipo": Arm("IPO", replace(DPO, loss="ipo")),
    "hinge": Arm("SLiC (hinge)", replace(DPO, loss="hinge")),
    "kto_pair": Arm("KTO, paired", replace(DPO, loss="kto_pair")),
    "kto": Arm("KTO", replace(DPO, loss="kto")),
    "full": Arm("DPO, all weights, no LoRA", FULL),
    "unfiltered": Arm("DPO, pairs not filtered by score", DPO, pairs="unfiltered"),
    "grpo": Arm("GRPO", _in_steps(AlignGRPO(lora=LORA), 80)),
    "ppo": Arm("PPO", _in_steps(AlignPPO(lora=LORA), 160)),
}
AGAINST = ("base", "sft")
"""What differences are to: the model as it was, and where all that learn begin."""


@dataclass(frozen=True)
class Losses:
    """Learn with every loss from one start and one set of pairs, examine what came of it, and write the tables."""

    out: Path = Path("losses")
    """Folder for README.md with the tables, and for every arm and seed."""
    start: Path = Path("sft/adapter")
    """Model or adapter folder that all begin at, and that is the reference."""
    pairs: Path = Path("pairs")
    """Preferences that are learned from."""
    unfiltered: Path = Path("unfiltered")
    """Preferences of the same motions, whatever the score of the better one."""
    base: Path | None = None
    """Model folder that the adapters are for; the shipped model where it is left out."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Lines of the tables."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of learning, of the held-out prompts and of the motions."""
    reports: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """ARM=FOLDER: a report of `kinalign evaluate --events` that is taken for an arm, which is then not made."""
    table: bool = False
    """Make nothing: write the tables of what is whole."""
    teacher: str = "kinematic"
    """The judge that rewards and chooses, and should have judged the pairs."""
    examiner: str = "learned"
    """The judge that says what came of it."""
    prompts_per_task: int = Evaluate.prompts_per_task
    """Held-out prompts of each sub-task, for each seed."""
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        for name in (*self.arms, *self.given):
            if name not in ARMS:
                raise ConfigError(f"arm {name!r} is unknown; choose some of {', '.join(ARMS)} (--arms, --reports)")
        if not self.seeds:
            raise ConfigError("no seed is given; give one or more (--seeds)")

    @property
    def given(self) -> dict[str, list[Path]]:
        """Reports that are taken for arms."""
        found: dict[str, list[Path]] = {}
        for text in self.reports:
            name, is_given, path = text.partition("=")
            if not is_given:
                raise ConfigError(f"{text!r} does not say of which arm it is a report; write ARM=FOLDER (--reports)")
            found.setdefault(name, []).append(Path(path))
        return found

    def folder(self, arm: str, seed: int) -> Path:
        return self.out / arm / str(seed)


def run(config: Losses) -> Path:
    """Make what is not there yet, seed by seed, and write the tables; returns their path."""
    for seed in () if config.table else config.seeds:
        for name in config.arms:
            if name not in config.given:
                make(config, name, seed)
    torch.set_num_threads(config.threads)
    text = tables(config)
    print(text)
    return write_text(config.out / "README.md", text)


# --- the parts ----------------------------------------------------------------------------------------------------


def make(config: Losses, name: str, seed: int) -> None:
    """Let an arm learn and be examined, each if it was not done before."""
    arm, folder = ARMS[name], config.folder(name, seed)
    model = config.base if arm.model == "base" else config.start
    if arm.align is not None:
        align = _align(config, arm, arm.align, seed, folder / RUN)
        model = align.out / (MODEL if isinstance(align, AlignPreference) and align.full else ADAPTER)
        if not (model / "config.json").is_file():
            print(f"{name}, seed {seed}: learning", flush=True)
            apart(learn, align, folder, time())
    if not _is_examined(folder):
        print(f"{name}, seed {seed}: motions and verdicts", flush=True)
        reused = config.folder(arm.reuse, seed) if arm.reuse else None
        examination = replace(
            arm.choice,
            model=config.base if model is not None and is_adapter(model) else model,
            adapter=(str(model),) if model is not None and is_adapter(model) else (),
            out=folder / EVENTS,
            events=True,
            replications=1,
            seed=seed,
            judge=(config.teacher, config.examiner),
            choose_by=config.teacher,
            reuse=reused / EVENTS if reused is not None and _is_examined(reused) else None,
            prompts_per_task=config.prompts_per_task,
            threads=config.threads,
        )
        apart(examine, examination, folder)


def _align(config: Losses, arm: Arm, align: Align, seed: int, out: Path) -> Align:
    """What an arm does, with a seed of its own."""
    own: dict[str, Any] = {"model": config.start, "out": out, "threads": config.threads}
    own["optimization"] = replace(align.optimization, seed=seed)
    if isinstance(align, AlignPreference):
        return replace(align, data=config.unfiltered if arm.pairs == "unfiltered" else config.pairs, **own)
    return replace(align, judge=config.teacher, **own)


def _is_examined(folder: Path) -> bool:
    return (folder / EVENTS / "report.json").is_file()


def apart(work: Callable[..., object], *given: object) -> None:
    """Do a piece of work in a process of its own, of whose memory nothing stays. A user's mistake is raised here.

    A process that was begun ends its piece even where this one is killed; nobody else may work in its folder then.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(sender, work, *given), daemon=True)
    process.start()
    sender.close()
    try:
        mistake: KinalignError | None = receiver.recv()
    except EOFError as error:
        process.join()
        raise KinalignError(
            f"the process at work ended with {process.exitcode}, by what is told above or from outside, perhaps for "
            "want of memory; the same command goes on"
        ) from error
    process.join()
    if mistake is not None:
        raise mistake


def _do(sender: Connection, work: Callable[..., object], *given: object) -> None:
    try:
        work(*given)
        mistake = None
    except KinalignError as error:
        mistake = error
    # nobody listens where whoever asked was killed
    with suppress(BrokenPipeError):
        sender.send(mistake)


def learn(align: Align, folder: Path, begun: float) -> None:
    """Learn, and write what it took since `begun`, the time() at which this process was asked for."""
    is_resumed = (align.out / "config.json").is_file()
    with locked(folder), (folder / LOG).open("a", encoding="utf-8") as log, redirect_stdout(log):
        if isinstance(align, AlignPreference):
            align_preference(align)
        elif isinstance(align, AlignGRPO):
            align_grpo(align)
        else:
            align_ppo(align)
        # a new process counts as its memory what the one had that asked for it, which loads no model before the tables
        took = {"seconds": time() - begun, "processor_seconds": process_time(), **peak_memory()}
        # what a run took before it was stopped is not known
        write_json(folder / COST, took | {"is_whole": not is_resumed})


def examine(examination: Evaluate, folder: Path) -> None:
    """Make motions for held-out prompts, and ask the judges."""
    with locked(folder), (folder / LOG).open("a", encoding="utf-8") as log, redirect_stdout(log):
        evaluate_command(examination)


# --- the tables ---------------------------------------------------------------------------------------------------

SEEN = ("event_recall", "order_of_pairs", "count_exact", "all_right")
LOOKS = ("skating_cm_s", "jitter_m_s3")


def tables(config: Losses) -> str:
    """All that is whole, as Markdown. Raises EvaluationError where nothing is, and as `pools_of`."""
    given = config.given
    paths = {
        name: given.get(name)
        or [config.folder(name, seed) / EVENTS for seed in config.seeds if _is_examined(config.folder(name, seed))]
        for name in ARMS
        if name in config.arms or name in given
    }
    pools, prompts = pools_of({name: folders for name, folders in paths.items() if folders})
    teacher, examiner = (judge_named(name).name for name in (config.teacher, config.examiner))
    joined = _joined(prompts)
    parts = [
        f"# What each loss brings\n\n{_about(pools, joined, teacher, examiner)}",
        f"## What happens\n\n{_events_table(pools, teacher, examiner)}",
        f"## How it looks, and what it took\n\n{_quality_table(pools, joined)}",
    ]
    for name in AGAINST:
        if name in pools and len(pools) > 1:
            parts.append(f"## Against {ARMS[name].title}, by {examiner}\n\n{_differences_table(pools, name, examiner)}")
    return "\n\n".join(parts) + "\n"


def _joined(prompts: Sequence[EventPrompt]) -> JoinedMotions:
    """What all arms are held against."""
    return JoinedMotions.of(prompts, TextMotionEncoder.from_pretrained(shipped_encoder()))


def _about(pools: Mapping[str, Pool], joined: JoinedMotions, teacher: str, examiner: str) -> str:
    first = next(iter(pools.values())).reports[0]
    packages = ", ".join(f"{name} {version}" for name, version in first.environment["packages"].items())
    return f"""\
Seen by {examiner} but where it says otherwise; {teacher} was the teacher. With 95 % intervals over prompts: all \
motions of a prompt come and go together, whichever seed made them. How much seeds differ is not in them, but under \
*by seed*.

- In brackets, of how many: pairs of events that are both seen. All right: score 5.
- FID is to {len(joined.motions)} motions joined of real clips, for {len(joined.places)} of {joined.num_prompts} \
prompts; it grows as motions get fewer: compare equal numbers of motions.
- No motion: answers that are none where nothing makes them one.
- Seconds and memory are those of learning from the start on, means of seeds and the most of any; – where a run was \
stopped in between, or nothing was learned.
- On {first.config["device"]}, {first.config["threads"]} threads, Python {first.environment["python"]}, {packages}."""


def _events_table(pools: Mapping[str, Pool], teacher: str, examiner: str) -> str:
    titles = [f"{EVENT_METRICS[name].title} {EVENT_METRICS[name].better}" for name in SEEN]
    head = ["arm", "motions", *titles, "By seed", f"{titles[-1]}, by {teacher}"]
    lines = [head, ["---"] * len(head)]
    for name, pool in pools.items():
        seen, seen_by_teacher = pool.events(examiner), pool.events(teacher)["all_right"]
        by_seed = [report.number(examiner, "all_right").value for report in pool.reports]
        lines.append(
            [
                ARMS[name].title,
                str(seen["all_right"].of),
                *(_shown(metric, seen[metric]) for metric in SEEN),
                ", ".join("–" if value is None else f"{100 * value:.1f}" for value in by_seed),
                _shown("all_right", seen_by_teacher),
            ]
        )
    return markdown_table(lines)


def _quality_table(pools: Mapping[str, Pool], joined: JoinedMotions) -> str:
    titles = [f"{QUALITY_METRICS[name].title} {QUALITY_METRICS[name].better}" for name in LOOKS]
    head = ["arm", "FID to joined ↓", *titles, "No motion % ↓", "Learning s", "Processor s", "Memory MB"]
    lines = [head, ["---"] * len(head)]
    for name, pool in pools.items():
        quality = pool.quality()
        lines.append(
            [
                ARMS[name].title,
                number_shown(QUALITY_METRICS["fid"], joined.away(*pool.vectors())),
                *(number_shown(QUALITY_METRICS[metric], quality[metric]) for metric in LOOKS),
                f"{100 * pool.invalid():.1f}",
                *_costs([folder.path.parent / COST for folder in pool.folders]),
            ]
        )
    return markdown_table(lines)


def _costs(paths: Sequence[Path]) -> list[str]:
    """Mean seconds, those of a processor, and the most memory in megabytes."""
    known = [cost for cost in (read_json(path) for path in paths if path.is_file()) if cost["is_whole"]]
    seconds = [[cost[name] for cost in known] for name in ("seconds", "processor_seconds")]
    memory = [cost["memory_mb"] for cost in known if "memory_mb" in cost]
    return [*(f"{np.mean(one):.0f}" if one else "–" for one in seconds), f"{max(memory):.0f}" if memory else "–"]


def _differences_table(pools: Mapping[str, Pool], against: str, examiner: str) -> str:
    head = ["arm", *(f"{EVENT_METRICS[name].title} {EVENT_METRICS[name].better}" for name in SEEN)]
    lines = [head, ["---"] * len(head)]
    for name, pool in pools.items():
        if name != against:
            found = pools[against].differences(pool, examiner)
            lines.append([ARMS[name].title, *(_difference_shown(found[metric]) for metric in SEEN)])
    return f"{markdown_table(lines)}\n\nOf 20 intervals of equal systems one does without 0 by chance."


def _shown(metric: str, number: Number) -> str:
    return number_shown(EVENT_METRICS[metric], number, is_share=metric in SHARES, with_of=metric in CONDITIONAL)


def _difference_shown(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * (difference.b - difference.a):+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    print(run(tyro.cli(Losses)))
