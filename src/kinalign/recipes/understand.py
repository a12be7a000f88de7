"""How right `kinalign understand` is on motions of which it is known what happens when: tables of docs/understand.md.

    python -m kinalign.recipes.understand --out runs/understand

A hundred compositions of EventBench, one of each group, of clips of openmocap20's test split; then longer ones of about
a minute, drawn from the same clips. The constants of planning/segments.py were chosen on compositions of the train and
the validation split (`--split val`). Three minutes of one CPU core.

A step is found where a segment has its action and shares half of the shorter one with it; each segment counts for one
step. Between two steps the true boundary is the middle of the frames that EventBench made up; its error is the way to
the nearest boundary between two segments, and endless where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Split
from kinalign.errors import EvaluationError, PromptError
from kinalign.evaluation.compare import draws
from kinalign.evaluation.eventbench import GROUPS, Atom, atoms_of, build_eventbench
from kinalign.evaluation.eventbench_command import shown
from kinalign.evaluation.eventscores import LEAST_OVERLAP, Number
from kinalign.evaluation.eventtruth import number_of
from kinalign.evaluation.learned import EventDetector, shipped_detector, stretches_of
from kinalign.events.compose import Composed, Interval, Part, compose
from kinalign.events.detect import detect
from kinalign.events.parse import parse
from kinalign.events.program import Event
from kinalign.judge.rubric import SUB_TASKS
from kinalign.motion.motion import FPS, Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.segments import UNNAMED
from kinalign.planning.understand import Reader
from kinalign.run import environment, progress, write_json, write_text

CLOSE_S = 0.3
"""A boundary is right that is as near."""
WINDOW_S = 2.0
"""The model alone says what happens in windows of so many seconds."""
LONG_CLIPS, LONGEST_GAP = 20, 400
"""Clips of a long composition, and how often one is drawn that may follow the one before."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Recipe:
    """Measure how right long motion is read back."""

    out: Path = Path("runs/understand")
    """Folder for report.md and report.json."""
    compositions: int = 100
    """Motions of EventBench, of two events or more."""
    long: int = 10
    """Motions of a minute or so."""
    split: Split = "test"
    """Of whose clips they are composed."""
    seed: int = 0
    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    threads: int = 1
    """Processor threads."""


class Told(NamedTuple):
    """What a system says happens, in frames at 20 fps, and in words where it says any."""

    event: Event
    start: int
    end: int
    text: str = ""


System = Callable[[Motion], Sequence[Told]]


@dataclass(frozen=True)
class Scores:
    """What a system makes of P compositions; each row of a tally is how many of how many."""

    actions: tuple[str, ...]
    """Those that happen or are told."""
    found: Array
    """(P, A, 2): steps that are found, of all."""
    true: Array
    """(P, A, 2): segments that are steps, of all that are told."""
    details: Array
    """(P, 1, 2): found steps of which side, way and count are right where they are known."""
    worded: Array
    """(P, 1, 2): found steps whose sentence, read again, has the action, the side and the way; none without words."""
    boundaries: Array
    """(P, 1, 2): boundaries that are found within 0.3 s."""
    cuts: Array
    """(P, 1, 2): boundaries told that are true within 0.3 s."""
    errors_s: tuple[Array, ...]
    """Of each composition, those of its boundaries."""

    def median_error(self) -> Number:
        """The median boundary error in seconds, with its interval over compositions."""
        values, sizes = np.concatenate(self.errors_s), [len(one) for one in self.errors_s]
        order = np.argsort(values)
        values, owners = values[order], np.repeat(np.arange(len(sizes)), sizes)[order]

        def median(counts: NDArray[np.integer]) -> float:
            weights = np.cumsum(counts[owners])
            return float(values[int(np.searchsorted(weights, weights[-1] / 2))])

        medians = [median(counts) for counts in draws(len(sizes))[0]]
        # of endless errors there is no mean: a bound is one of the medians
        low, high = np.quantile(medians, [0.025, 0.975], method="inverted_cdf").tolist()
        return Number(median(np.ones(len(sizes), dtype=int)), low, high, len(values))


def run(recipe: Recipe) -> Path:
    """Compose, read back by each system, score; writes and prints report.md."""
    torch.set_num_threads(recipe.threads)
    clips = load_openmocap(recipe.data, split=recipe.split, cut_events=True)
    sets = {
        "EventBench": eventbench_compositions(clips, recipe.compositions, seed=recipe.seed),
        "about a minute": long_compositions(atoms_of(clips), recipe.long, seed=recipe.seed),
    }
    model, detector = TextToMotion.from_pretrained(), shipped_detector()
    systems: dict[str, System] = {
        "understand": lambda motion: told_by_reader(Reader(detector, model), motion),
        "rules alone": told_by_rules,
        "network alone": lambda motion: told_by_network(detector, motion),
        "model's captions of windows": lambda motion: told_by_model(model, motion),
    }
    scores: dict[str, dict[str, Scores]] = {}
    for name, composed in sets.items():
        scores[name] = {}
        for system, tell in systems.items():
            with progress(f"{name}, {system}", total=len(composed)) as advance:
                told = []
                for one in composed:
                    told.append(tell(one.motion))
                    advance()
            scores[name][system] = score(composed, told)
    text = markdown(recipe, sets, scores)
    write_json(recipe.out / "report.json", {"environment": environment(seed=recipe.seed), **_plain(scores)})
    path = recipe.out / "report.md"
    write_text(path, text)
    print(text)
    return path


# --- compositions -------------------------------------------------------------------------------------------------


def eventbench_compositions(clips: Sequence[Any], number: int, *, seed: int) -> list[Composed]:
    """A motion of each group of EventBench, of two events or more. Raises EvaluationError where there are too few."""
    of_many = {key: count for key, count in GROUPS.items() if key[0] != SUB_TASKS[2]}
    share = min(1.0, (number + len(of_many)) / sum(of_many.values()))
    bench = build_eventbench(clips, seed, groups={key: int(np.ceil(share * count)) for key, count in of_many.items()})
    first: dict[str, Composed] = {}
    for case in bench.cases:
        first.setdefault(case.id.rpartition("-")[0], bench.composed[case.recipe])
    motions = [one for one in first.values() if len(one.program.events) > 1]
    if len(motions) < number:
        raise EvaluationError(f"EventBench has {len(motions)} groups of two events or more, not {number}")
    chosen = np.random.default_rng(seed).permutation(len(motions))[:number]
    return [motions[place] for place in sorted(chosen)]


def long_compositions(atoms: Sequence[Atom], number: int, *, seed: int) -> list[Composed]:
    """Motions of twenty clips in a row, in which no clip holds the action of the one before or after it."""
    rng = np.random.default_rng([seed, 1])
    by_action: dict[str, list[Atom]] = {}
    for atom in atoms:
        if atom.ends_upright:
            by_action.setdefault(atom.event.action, []).append(atom)
    composed = []
    for _ in range(number):
        row: list[Atom] = []
        for _ in range(LONGEST_GAP):
            own = by_action[list(by_action)[int(rng.integers(len(by_action)))]]
            atom = own[int(rng.integers(len(own)))]
            atom = atom.mirrored if rng.random() < 0.5 else atom
            if not row or (not {atom.event.action} & row[-1].holds and not {row[-1].event.action} & atom.holds):
                row.append(atom)
            if len(row) == LONG_CLIPS:
                break
        composed.append(compose([Part(atom.motion, atom.event, 1, atom.spare) for atom in row]))
    return composed


# --- systems ------------------------------------------------------------------------------------------------------


def told_by_reader(reader: Reader, motion: Motion) -> list[Told]:
    """What `kinalign understand` says."""
    return [
        Told(one.event or one.step.program.events[0], round(one.start_s * FPS), round(one.end_s * FPS), one.step.text)
        for one in reader.read(motion)
        if not one.is_pause
    ]


def told_by_rules(motion: Motion) -> list[Told]:
    """Every detection of events/detect but those that are part of all that is done."""
    return [
        Told(Event(one.action, one.side, one.direction, one.count, one.part), one.start, one.end)
        for one in detect(motion)
        if one.action not in UNNAMED
    ]


@torch.no_grad()
def told_by_network(detector: EventDetector, motion: Motion) -> list[Told]:
    """Every stretch in which the network is surer than not of an action."""
    actions = detector(detector.steps(motion)[None]).actions[0].sigmoid().numpy()
    return sorted(
        (
            Told(Event(action), 2 * one.start, 2 * one.end)
            for place, action in enumerate(detector.config.actions)
            if action not in UNNAMED
            for one in stretches_of(actions[:, place], detector.config.threshold)
        ),
        key=lambda one: one.start,
    )


def told_by_model(model: TextToMotion, motion: Motion) -> list[Told]:
    """The model's captions of windows of two seconds, each for its first event; the same one in a row is one."""
    size = round(WINDOW_S * FPS)
    starts = range(0, max(len(motion) - size // 2, 1), size)
    ends = [*starts[1:], len(motion)]
    told: list[Told] = []
    for caption, start, end in zip(model.captions([motion[a:b] for a, b in zip(starts, ends)]), starts, ends):
        try:
            event = parse(caption).events[0]
        except PromptError:
            continue
        if told and told[-1].event.action == event.action and told[-1].end == start:
            told[-1] = told[-1]._replace(end=end)
        else:
            told.append(Told(event, start, end, caption))
    return told


# --- scores -------------------------------------------------------------------------------------------------------


def score(composed: Sequence[Composed], told: Sequence[Sequence[Told]]) -> Scores:
    """What a system says of each composition, held against what happens in it."""
    names = {event.action for one in composed for event in one.program.events}
    actions = tuple(sorted(names | {one.event.action for row in told for one in row}))
    shape = (len(composed), len(actions), 2)
    found, true = np.zeros(shape), np.zeros(shape)
    details, worded, boundaries, cuts = (np.zeros((len(composed), 1, 2)) for _ in range(4))
    errors = []
    for row, (one, said) in enumerate(zip(composed, told, strict=True)):
        partners = matched(one, said)
        for event, partner in zip(one.program.events, partners):
            found[row, actions.index(event.action)] += (partner is not None, 1)
            if partner is not None:
                details[row, 0] += (_has_details(event, said[partner].event), 1)
                worded[row, 0] += (_is_worded(event, said[partner].text), bool(said[partner].text))
        for place, segment in enumerate(said):
            true[row, actions.index(segment.event.action)] += (place in partners, 1)
        real = _boundaries(one.intervals)
        ours = _boundaries([Interval(segment.start, segment.end) for segment in said])
        away = np.abs(real[:, None] - ours[None]) / FPS
        error = away.min(axis=1, initial=np.inf)
        boundaries[row, 0] = ((error <= CLOSE_S).sum(), len(real))
        cuts[row, 0] = ((away.min(axis=0, initial=np.inf) <= CLOSE_S).sum(), len(ours))
        errors.append(error)
    return Scores(actions, found, true, details, worded, boundaries, cuts, tuple(errors))


def matched(composed: Composed, told: Sequence[Told]) -> list[int | None]:
    """Of each step the place of the segment that finds it, the one that shares most; None where none does."""
    partners: list[int | None] = []
    for event, (start, end) in zip(composed.program.events, composed.intervals):
        shared = {
            place: min(end, one.end) - max(start, one.start)
            for place, one in enumerate(told)
            if one.event.action == event.action and place not in partners
        }
        enough = [
            place
            for place, frames in shared.items()
            if frames >= LEAST_OVERLAP * min(end - start, told[place].end - told[place].start)
        ]
        partners.append(max(enough, key=lambda place: shared[place]) if enough else None)
    return partners


def _has_details(true: Event, told: Event) -> bool:
    counts = not isinstance(true.count, int) or told.count == true.count
    return counts and true.side in ("", told.side) and true.direction in ("", told.direction)


def _is_worded(true: Event, text: str) -> bool:
    try:
        events = parse(text).events if text else ()
    except PromptError:
        return False
    return any(
        event.action == true.action and true.side in ("", event.side) and true.direction in ("", event.direction)
        for event in events
    )


def _boundaries(intervals: Sequence[Interval]) -> Array:
    return np.array([(former.end + later.start) / 2 for former, later in pairwise(intervals)])


# --- for people ---------------------------------------------------------------------------------------------------


def _numbers(scores: Scores) -> dict[str, Number]:
    return {
        "step recall": number_of(scores.found.sum(axis=1, keepdims=True), is_share=True),
        "step precision": number_of(scores.true.sum(axis=1, keepdims=True), is_share=True),
        "side, way and count right": number_of(scores.details, is_share=True),
        "sentence right": number_of(scores.worded, is_share=True),
        "boundary error, median s": scores.median_error(),
        "boundaries found within 0.3 s": number_of(scores.boundaries, is_share=True),
        "boundaries told that are true": number_of(scores.cuts, is_share=True),
    }


def _plain(scores: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    return {
        name: {
            system: {what: number._asdict() for what, number in _numbers(one).items()} for system, one in rows.items()
        }
        for name, rows in scores.items()
    }


def markdown(recipe: Recipe, sets: dict[str, list[Composed]], scores: dict[str, dict[str, Scores]]) -> str:
    """The tables: all systems on each set, and `understand` by action."""
    parts = []
    for name, rows in scores.items():
        composed = sets[name]
        seconds = np.mean([one.motion.duration_s for one in composed])
        steps = sum(len(one.program.events) for one in composed)
        table = [["", *rows], ["---"] * (len(rows) + 1)]
        numbers = [_numbers(one) for one in rows.values()]
        table += [[what, *(shown(of[what]) for of in numbers)] for what in numbers[0]]
        parts.append(
            f"## {name}: {len(composed)} motions of {seconds:.1f} s, {steps} steps ({recipe.split} split, seed "
            f"{recipe.seed})\n\n{_lines(table)}"
        )
        ours = rows["understand"]
        actions = [["action", "recall", "precision"], ["---"] * 3]
        for place, action in enumerate(ours.actions):
            recall, precision = (number_of(of[:, [place]], is_share=True) for of in (ours.found, ours.true))
            actions.append([action, shown(recall), shown(precision)])
        parts.append(f"### By action\n\n{_lines(actions)}")
    return "\n\n".join(parts) + "\n"


def _lines(table: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


if __name__ == "__main__":
    import tyro

    print(run(tyro.cli(Recipe)))
