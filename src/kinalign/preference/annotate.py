"""Verdicts on candidates by any judge, and pairs of them in one call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kinalign.errors import KinalignError
from kinalign.events.parse import parse
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.rubric import sub_task_of
from kinalign.judge.verdict import Case, Invalid, Judge, Outcome, outcome_from_json
from kinalign.pipeline import TextToMotion, checked_prompt
from kinalign.preference.candidates import Draws, decoded, draw
from kinalign.preference.pairs import PairRule, pairs_of
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import progress, sha256_of_weights, write_text

NO_MOTION = "the model's answer is no motion"


def annotate(
    model: TextToMotion,
    prompts: Sequence[str | EventPrompt],
    judge: Judge,
    num_candidates: int = 10,
    *,
    seed: int = 0,
    rule: PairRule | None = None,
) -> list[PreferencePair]:
    """Pairs of a model's motions for prompts, with their motions, of which the judge finds the first one better.

    Nothing is kept on disk; `kinalign prefer build` does the same in a folder, for many prompts, and can be stopped.
    Raises PromptError for a prompt that names no event.
    """
    asked = [prompt if isinstance(prompt, EventPrompt) else _prompt(prompt, at) for at, prompt in enumerate(prompts)]
    draws, name = Draws(num_candidates, seed), weights_of(model)
    rule = rule or PairRule()
    pairs: list[PreferencePair] = []
    with progress("annotate", total=len(asked)) as advance:
        for chunk in draws.chunks(asked):
            drawn = [decoded(model, one.prompt, of_one) for one, of_one in zip(chunk, draw(model, chunk, draws))]
            for prompt, candidates in zip(chunk, judged(judge, chunk, drawn)):
                pairs += pairs_of(prompt, candidates, rule, model=name, judge=judge.name)
            advance(len(chunk), note=f"{len(pairs)} pairs")
    return pairs


def _prompt(text: str, number: int) -> EventPrompt:
    text = checked_prompt(text)
    program = parse(text)
    return EventPrompt(f"prompt-{number:05d}", text, sub_task_of(program), program)


def weights_of(model: TextToMotion) -> str:
    """The sha256 of a model's weights: what a data set says its motions are of."""
    return sha256_of_weights([model.lm, model.tokenizer.network])


def judged(
    judge: Judge,
    prompts: Sequence[EventPrompt],
    candidates: Sequence[Sequence[Candidate]],
    known: Mapping[str, Outcome] | None = None,
) -> list[list[Candidate]]:
    """Candidates with their outcomes: those that are known by `verdict_key`, and the judge's on all others.

    The judge is asked in one call. Candidates carry their motions; one without is Invalid, and the judge never sees it.
    """
    outcomes = dict(known or {})
    cases = cases_of(prompts, candidates, outcomes)
    if cases:
        outcomes |= zip(cases, judge.judge_all(list(cases.values())), strict=True)
    no_motion = Invalid(judge.name, NO_MOTION)
    return [
        [replace(one, outcome=outcomes.get(verdict_key(prompt, one), no_motion)) for one in of_prompt]
        for prompt, of_prompt in zip(prompts, candidates)
    ]


def cases_of(
    prompts: Sequence[EventPrompt], candidates: Sequence[Sequence[Candidate]], known: Mapping[str, Outcome]
) -> dict[str, Case]:
    """By `verdict_key`, what a judge is asked about: candidates that carry a motion and have no known outcome."""
    return {
        key: Case(prompt.prompt, candidate.motion, prompt.program, prompt.task)
        for prompt, of_prompt in zip(prompts, candidates)
        for candidate in of_prompt
        if candidate.motion is not None and (key := verdict_key(prompt, candidate)) not in known
    }


def verdict_key(prompt: EventPrompt, candidate: Candidate) -> str:
    """Names the question and the motion that an outcome is about: another motion in the same place has another key."""
    words = json.dumps([prompt.to_json(), candidate.seed, candidate.codes], ensure_ascii=False)
    return f"{prompt.id}-{candidate.index}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def write_verdicts(path: Path, prompts: Sequence[EventPrompt], candidates: Sequence[Sequence[Candidate]]) -> Path:
    """A JSON line for each candidate: what is judged, by `verdict_key`, and the verdict or why there is none."""
    lines = []
    for prompt, of_prompt in zip(prompts, candidates):
        for candidate in of_prompt:
            assert candidate.outcome is not None, "a candidate is judged before it is written"
            row = {"of": verdict_key(prompt, candidate), "outcome": candidate.outcome.to_json()}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    text = "".join(lines)
    return write_text(path, text)


def read_verdicts(path: Path) -> dict[str, Outcome]:
    """Outcomes in a file that `write_verdicts` wrote: all that can be read, so that only the rest is asked again."""
    if not path.exists():
        return {}
    outcomes: dict[str, Outcome] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            outcomes[row["of"]] = outcome_from_json(row["outcome"])
        except (ValueError, KeyError, TypeError, KinalignError):
            continue  # cut short or damaged: judged again
    return outcomes
