"""Which of many candidates an evaluation of events takes: best of n, guided rejection, and events made one by one.

The first two are what selection.best_of takes for one prompt and seed: candidates are drawn in rounds of 8, the first
one being what a plain evaluation shows. The third is what eventwise.by_events makes. Whoever chooses reads the words
alone, as at inference. A folder of choices, one for each judge, holds what it said of the candidates of 32 prompts in a
round, or their motions, so that a kill repeats little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from kinalign.data.motions import read_motions, write_motions
from kinalign.errors import ConfigError, PromptError, VerdictError
from kinalign.evaluation.eventstore import Spent, name_of_judge
from kinalign.evaluation.store import Store, copy_absent
from kinalign.eventwise import by_events
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Invalid, Judge, Outcome, Verdict, outcome_from_json
from kinalign.motion.motion import Motion
from kinalign.pipeline import Asked
from kinalign.run import read_json, write_json
from kinalign.selection import ROUND, Judged, check_numbers, merit
from kinalign.tokenizer.tokenizer import Codes

PROMPTS_PER_FILE = 32
"""A round of them is one file of answers."""


@dataclass(frozen=True)
class Choice:
    """The best of `n` candidates; with `until_right` none are drawn after a round in which one is all right.

    With `by_events` a candidate is put together of events that are made one by one.
    """

    n: int = 8
    until_right: bool = False
    by_events: bool = False

    def __post_init__(self) -> None:
        check_numbers(self.n, 1)
        if self.until_right and self.by_events:
            raise ConfigError("events made one by one are put together n times at once; leave out --until-right")

    @property
    def rounds(self) -> list[tuple[int, int]]:
        """Places [first, end) of the candidates of each round."""
        return [(first, min(first + ROUND, self.n)) for first in range(0, self.n, ROUND)]

    def __str__(self) -> str:
        if self.by_events:
            return f"event by event, best of {self.n}"
        return f"until right of {self.n}" if self.until_right else f"best of {self.n}"


class _Candidate(NamedTuple):
    """A candidate as a choice sees it."""

    codes: Codes
    worth: tuple[float, ...]
    """As selection.merit has it."""
    outcome: Outcome

    @property
    def is_open(self) -> bool:
        """Whether others may be drawn in the hope of a better one: it has a verdict, and not the best."""
        return isinstance(self.outcome, Verdict) and not self.outcome.is_right


class Chooser:
    """A judge that chooses among candidates of a model; what it said is in `folder`, or taken from `reused`."""

    def __init__(self, choice: Choice, judge: Judge, store: Store, folder: Path, *, reused: Path | None = None) -> None:
        self.choice, self.judge, self.store = choice, judge, store
        self.name = name_of_judge(judge.name)
        self.folder = folder / self.name
        self.reused = None if reused is None else reused / self.name

    def motions(
        self,
        name: str,
        prompts: Sequence[EventPrompt],
        asked: Sequence[Asked],
        seeds: Sequence[int],
        *,
        advance: Callable[[int], object],
    ) -> tuple[list[Motion], Spent]:
        """The chosen motion of each prompt, and what one took; `advance` hears of how many prompts there is one."""
        if self.choice.by_events:
            return self._by_events(name, prompts, seeds, advance)
        plain = self.store.answers(name, asked, seeds=seeds)
        motions: list[Motion] = []
        total = Spent(plain.seconds, 0)
        for start in range(0, len(prompts), PROMPTS_PER_FILE):
            part = slice(start, start + PROMPTS_PER_FILE)
            best, spent = self._best(f"{name}-{start:05d}", prompts[part], asked[part], seeds[part], plain.codes[part])
            begun = perf_counter()
            motions += [one.finish(candidate.codes) for one, candidate in zip(asked[part], best)]
            total += spent + Spent(perf_counter() - begun, 0)
            advance(len(best))
        return motions, total.of_one(len(prompts))

    def _by_events(
        self, name: str, prompts: Sequence[EventPrompt], seeds: Sequence[int], advance: Callable[[int], object]
    ) -> tuple[list[Motion], Spent]:
        motions: list[Motion] = []
        total = Spent(0, 0)
        for start in range(0, len(prompts), PROMPTS_PER_FILE):
            own = prompts[start : start + PROMPTS_PER_FILE]
            path = self.folder / f"{name}-{start:05d}-by-events-{self.choice.n:03d}.safetensors"
            told = path.with_suffix(".json")
            copy_absent(path, self.reused)
            copy_absent(told, self.reused)
            if not (path.exists() and told.exists()):
                begun = perf_counter()
                made = {
                    prompt.id: self._assembled(prompt.prompt, seed)
                    for prompt, seed in zip(own, seeds[start : start + PROMPTS_PER_FILE])
                }
                write_motions(path, made)
                write_json(told, {"seconds": perf_counter() - begun})
            kept = read_motions(path)
            motions += [kept[prompt.id] for prompt in own]
            total += Spent(float(read_json(told)["seconds"]), self.choice.n * len(own))
            advance(len(own))
        return motions, total.of_one(len(prompts))

    def _assembled(self, prompt: str, seed: int) -> Motion:
        try:
            return by_events(self.store.model, prompt, self.choice.n, judge=self.judge, seed=seed).best.motion
        except PromptError:  # no event can be read in it
            return self.store.model(prompt, seed=seed)[0]

    def _best(
        self,
        name: str,
        prompts: Sequence[EventPrompt],
        asked: Sequence[Asked],
        seeds: Sequence[int],
        plain: Sequence[Sequence[Codes | None]],
    ) -> tuple[list[_Candidate], Spent]:
        """The best candidate of each prompt, of equals the first, and what all together took."""
        drawn: list[list[_Candidate]] = [[] for _ in prompts]
        spent = Spent(0, 0)
        places = list(range(len(prompts)))
        for first, end in self.choice.rounds:
            # for whom more is drawn depends on who judges
            of_judge = f"-{self.name}" if first and self.choice.until_right else ""
            round_name = f"{name}-{first:03d}-{end:03d}{of_judge}"
            codes = [[] if first else list(plain[place]) for place in places]
            skip = max(first, 1)
            if end > skip:
                answers = self.store.answers(
                    round_name,
                    [asked[place] for place in places],
                    seeds=[seeds[place] for place in places],
                    num_candidates=end - skip,
                    skip=skip,
                )
                codes = [[*before, *more] for before, more in zip(codes, answers.codes)]
                spent += Spent(answers.seconds, 0)
            own_prompts, own_asked = [prompts[place] for place in places], [asked[place] for place in places]
            judged, judging = self._judged(round_name, own_prompts, own_asked, codes)
            spent += judging
            for place, candidates in zip(places, judged):
                drawn[place] += candidates
            if self.choice.until_right:
                places = [place for place in places if _best_of(drawn[place]).is_open]
            if not places:
                break
        return [_best_of(candidates) for candidates in drawn], spent

    def _judged(
        self,
        name: str,
        prompts: Sequence[EventPrompt],
        asked: Sequence[Asked],
        codes: Sequence[Sequence[Codes | None]],
    ) -> tuple[list[list[_Candidate]], Spent]:
        """Candidates of each prompt with what the judge says of them, and what decoding and judging took."""
        path = self.folder / f"{name}.json"
        copy_absent(path, self.reused)
        if not path.exists():
            begun = perf_counter()
            rows = self._ask(prompts, asked, codes)
            write_json(path, {"seconds": perf_counter() - begun, "prompts": rows})
        said = read_json(path)
        try:
            if list(said["prompts"]) != [prompt.id for prompt in prompts]:
                raise VerdictError("it is about other prompts")
            judged = [
                [
                    _Candidate(own, tuple(row["merit"]), outcome_from_json(row["outcome"]))
                    for own, row in zip(of_prompt, rows, strict=True)
                    if own is not None
                ]
                for of_prompt, rows in zip(codes, said["prompts"].values(), strict=True)
            ]
            costs = [candidate.outcome.cost_usd for candidates in judged for candidate in candidates]
            return judged, Spent(float(said["seconds"]), len(costs), sum(costs))
        except (KeyError, TypeError, ValueError, VerdictError) as error:
            raise VerdictError(f"{path} cannot be read ({error}); remove it, and the judge is asked again") from error

    def _ask(
        self, prompts: Sequence[EventPrompt], asked: Sequence[Asked], codes: Sequence[Sequence[Codes | None]]
    ) -> dict[str, list[dict[str, Any]]]:
        """The judge's answers and what they make of each candidate, by the prompt's id."""
        motions = [[one.finish(own) for own in of_prompt if own is not None] for one, of_prompt in zip(asked, codes)]
        cases = [_cases(prompt.prompt, of_prompt) for prompt, of_prompt in zip(prompts, motions)]
        answers = iter(self.judge.judge_all([case for of_prompt in cases for case in of_prompt]))
        unread = Invalid(self.judge.name, "no event can be read in the prompt")
        rows: dict[str, list[dict[str, Any]]] = {}
        for prompt, of_prompt, asked_of in zip(prompts, motions, cases):
            judged = [
                Judged(place, motion, next(answers) if asked_of else unread) for place, motion in enumerate(of_prompt)
            ]
            rows[prompt.id] = [{"merit": list(merit(one)), "outcome": one.outcome.to_json()} for one in judged]
        return rows


def _cases(prompt: str, motions: Sequence[Motion]) -> list[Case]:
    """What is asked of motions for a prompt; nothing where no event can be read in it."""
    try:
        return [Case.of(prompt, motion) for motion in motions]
    except PromptError:
        return []


def _best_of(candidates: Sequence[_Candidate]) -> _Candidate:
    """The first of those of the highest worth."""
    return max(candidates, key=lambda candidate: candidate.worth)
