"""`kinalign events bench`: how right a judge is, on composed clips and on recorded ones, as JSON and Markdown."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinalign.data.openmocap import load_openmocap
from kinalign.errors import ConfigError
from kinalign.evaluation.eventbench import GROUPS, EventBench, JoinQuality, build_eventbench, join_quality
from kinalign.evaluation.eventscores import JudgeScores, Number, score_judge
from kinalign.evaluation.realbench import counted_bench, trial_bench
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Judge, Outcome
from kinalign.run import environment, progress, write_json, write_text

BATCH = 64
"""Cases that a judge is given at a time."""
CASES_OF_A_GROUP = 4


@dataclass(frozen=True)
class EventsBench:
    """Measure how right a judge of events is, on EventBench and on real clips."""

    judge: str = "kinematic"
    """kinematic, embedding, lvlm, or your own as MODULE:CLASS."""
    out: Path = Path("eventbench")
    """Folder for report.json, report.md and, for each set of clips, its cases and the judge's answers as JSON lines."""
    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    seed: int = 0
    """The same seed gives the same cases."""
    cases: int | None = None
    """Ask about so many composed cases at most, a part of the whole bench with as much of each kind."""
    counted: Path = Path("tests/counted_clips.json")
    """Clips counted by eye, as a JSON list; left out of the report where the file is absent."""


def events_bench(config: EventsBench) -> None:
    """Measure how right a judge of events is, on EventBench and on real clips."""
    judge = judge_named(config.judge)
    groups = scaled_groups(config.cases)
    with progress("composing", total=sum(groups.values())) as advance:
        clips = load_openmocap(config.data, split="test", cut_events=True)
        bench = build_eventbench(clips, config.seed, groups=groups, advance=advance)
    sets = {"composed": bench}
    recorded = load_openmocap(config.data)
    cut = [clip for clip in load_openmocap(config.data, sources=("CMU",), cut_events=True) if clip.parent]
    sets["trials"] = trial_bench([*recorded, *cut])
    if config.counted.is_file():
        sets["counted"] = counted_bench(config.counted, recorded)
    scores = {}
    for name, questions in sets.items():
        outcomes, seconds = ask(judge, questions, name)
        scores[name] = score_judge(questions.cases, outcomes, seconds=seconds)
        _write_lines(config.out / f"{name}_cases.jsonl", [case.to_json() for case in questions.cases])
        _write_lines(
            config.out / f"{name}_answers.jsonl",
            [{"id": case.id, **outcome.to_json()} for case, outcome in zip(questions.cases, outcomes)],
        )
    joins = join_quality(bench)
    report = {
        "environment": environment(seed=config.seed),
        "sets": {name: score.to_json() for name, score in scores.items()},
        "joins": asdict(joins),
    }
    write_json(config.out / "report.json", report)
    text = markdown(scores) + "\n" + composition(bench, joins)
    write_text(config.out / "report.md", text)
    print(text)
    if "counted" not in sets:
        print(f"No clips counted by eye: {config.counted} is absent (--counted).\n")
    print(config.out / "report.json")


def scaled_groups(cases: int | None) -> dict[Any, int]:
    """How many groups of each kind make at most so many cases. Raises ConfigError where one of each is too many."""
    if cases is None:
        return dict(GROUPS)
    if cases < CASES_OF_A_GROUP * len(GROUPS):
        raise ConfigError(
            f"cases={cases} is too few; one group of each of {len(GROUPS)} kinds has {CASES_OF_A_GROUP * len(GROUPS)} "
            "(--cases)"
        )
    share = cases / (CASES_OF_A_GROUP * sum(GROUPS.values()))
    return {kind: min(max(int(number * share), 1), number) for kind, number in GROUPS.items()}


def ask(judge: Judge, bench: EventBench, what: str) -> tuple[list[Outcome], float]:
    """The judge's answers to all cases of a bench, in their order, and the seconds that it took."""
    questions = bench.questions()
    outcomes: list[Outcome] = []
    begun = time.perf_counter()
    with progress(f"judging {what}", total=len(questions)) as advance:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            outcomes += judge.judge_all(batch)
            advance(len(batch))
    return outcomes, time.perf_counter() - begun


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, text)


# --- for people ---------------------------------------------------------------------------------------------------

TITLES = {
    "composed": "Composed clips (EventBench)",
    "trials": "Real clips: CMU trials with labelled frame ranges",
    "counted": "Real clips: counted by eye",
}


def markdown(scores: dict[str, JudgeScores]) -> str:
    """The numbers of a judge as Markdown, each set of clips beside the others."""
    names = list(scores)
    first = scores[names[0]]
    rows: list[tuple[str, list[Number]]] = [
        ("event precision", [score.precision for score in scores.values()]),
        ("event recall", [score.recall for score in scores.values()]),
        ("overlap of found intervals (IoU)", [score.iou for score in scores.values()]),
        ("order", [score.order for score in scores.values()]),
        ("count exact", [score.count_exact for score in scores.values()]),
        ("count within 1", [score.count_within_1 for score in scores.values()]),
    ]
    nothing = Number(None, None, None, 0)
    for kind in dict.fromkeys(kind for score in scores.values() for kind in score.pairwise):
        rows.append((f"pairwise, {kind}", [score.pairwise.get(kind, nothing) for score in scores.values()]))
    for task in dict.fromkeys(task for score in scores.values() for task in score.kappa):
        rows.append((f"quadratic kappa, {task}", [s.quadratic_kappa.get(task, nothing) for s in scores.values()]))
        rows.append((f"kappa, {task}", [score.kappa.get(task, nothing) for score in scores.values()]))
    rows += [
        ("same score", [score.same_score for score in scores.values()]),
        ("invalid", [score.invalid for score in scores.values()]),
    ]
    table = [["", *(TITLES[name] for name in names)], ["---"] * (len(names) + 1)]
    table += [[what, *(shown(number) for number in numbers)] for what, numbers in rows]
    table += [
        ["cases", *(str(score.cases) for score in scores.values())],
        ["ms a motion", *(f"{1000 * score.seconds_per_motion:.1f}" for score in scores.values())],
        ["cost, US$", *(f"{score.cost_usd:.2f}" for score in scores.values())],
    ]
    parts = [f"# How right {first.judge} is", _lines(table), ABOUT]
    for name, score in scores.items():
        if score.actions:
            actions = [["action", "precision", "recall", "count exact"], ["---"] * 4]
            actions += [
                [row.action, *map(shown, (row.precision, row.recall, row.count_exact))] for row in score.actions
            ]
            parts += [f"## {TITLES[name]}: events by action", _lines(actions)]
        confusion = [["true score", *(f"judged {n}" for n in range(1, 6))], ["---"] * 6]
        confusion += [[str(n), *map(str, row)] for n, row in enumerate(score.confusion, start=1)]
        parts += [f"## {TITLES[name]}: scores", _lines(confusion)]
    return "\n\n".join(parts) + "\n"


def composition(bench: EventBench, joins: JoinQuality) -> str:
    """What the composed cases are made of, as Markdown."""
    clips = Counter(atom.event.action for atom in bench.atoms)
    shown_in = Counter(event.action for composed in bench.composed.values() for event in composed.program.events)
    asked = Counter(event.action for case in bench.cases for event in case.program.events)
    actions = [["action", "clips", "motions that show it", "prompts that ask for it"], ["---"] * 4]
    actions += [[name, str(clips[name]), str(shown_in[name]), str(asked[name])] for name in sorted(clips)]
    kinds = [["sub-task", "kind", "cases", *(f"score {n}" for n in range(1, 6))], ["---"] * 8]
    for task, kind in dict.fromkeys((case.task, case.kind) for case in bench.cases):
        true = Counter(case.score for case in bench.cases if (case.task, case.kind) == (task, kind))
        kinds.append([task, kind, str(true.total()), *(str(true[n]) for n in range(1, 6))])
    median, high, most = joins.jerk_ratio
    used = {clip for case in bench.cases for clip in case.clips}
    return f"""\
## What the composed cases are made of

{len(bench.cases)} cases, {len(bench.motions)} motions, {len(used)} clips.

{_lines(kinds)}

{_lines(actions)}

{joins.joins} joins. Peak jerk near a motion's joins over that of its clips: median {median:.2f}, 95th percentile \
{high:.2f}, greatest {most:.2f}. Feet on the
floor skate {joins.skating_of_joins:.3f} m/s in joins and {joins.skating_of_clips:.3f} m/s in the clips.
"""


ABOUT = """\
With 95 % intervals and the number of things counted. Intervals leave out one source clip at a time (jackknife); those \
of shares are at least Wilson's.
An event counts as found where the judge sees it and its interval shares half of the shorter one with the true one. \
Order is asked of temporal prompts whose
events are all there. Pairwise: of two cases that differ in one thing, how often the right one scores higher; equal \
scores count half. Invalid answers are
left out of all numbers but their own. A dash: the judge does not say, or nothing was asked."""


def shown(number: Number) -> str:
    """0.912 [0.881, 0.943] (240)."""
    if number.value is None:
        return "–"
    if number.low is None or number.high is None:
        return f"{number.value:.3f} ({number.of})"
    low, high = (round(bound, 3) + 0.0 for bound in (number.low, number.high))  # no -0.000
    return f"{number.value:.3f} [{low:.3f}, {high:.3f}] ({number.of})"


def _lines(table: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in table)
