"""What a preference data set says of itself: counts for a program, and a page for a person."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinalign.errors import CheckpointError, ConfigError
from kinalign.judge.verdict import Invalid, Verdict
from kinalign.preference.pairs import PairRule
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import read_json, version_of

SCORES = (1, 2, 3, 4, 5)


@dataclass
class TaskCounts:
    """What came of the prompts of one sub-task."""

    prompts: int = 0
    prompts_with_pairs: int = 0
    candidates: int = 0
    no_motion: int = 0
    """Answers of the model that are no motion."""
    no_verdict: int = 0
    """Motions that the judge could not judge."""
    scores: Counter[int] = field(default_factory=Counter)
    pairs: int = 0
    gaps: Counter[int] = field(default_factory=Counter)
    """Pairs by how much higher the winner's score is."""
    cost_usd: float = 0.0

    def add(self, candidates: Iterable[Candidate], pairs: Sequence[PreferencePair]) -> None:
        """Count one prompt."""
        self.prompts += 1
        self.prompts_with_pairs += bool(pairs)
        self.pairs += len(pairs)
        for pair in pairs:
            assert isinstance(pair.chosen.outcome, Verdict) and isinstance(pair.rejected.outcome, Verdict)
            self.gaps[pair.chosen.outcome.score - pair.rejected.outcome.score] += 1
        for candidate in candidates:
            self.candidates += 1
            if candidate.outcome is not None:
                self.cost_usd += candidate.outcome.cost_usd
            if candidate.codes is None:
                self.no_motion += 1
            elif isinstance(candidate.outcome, Invalid):
                self.no_verdict += 1
            elif isinstance(candidate.outcome, Verdict):
                self.scores[candidate.outcome.score] += 1

    def to_json(self) -> dict[str, Any]:
        return {
            "prompts": self.prompts,
            "prompts_with_pairs": self.prompts_with_pairs,
            "candidates": self.candidates,
            "no_motion": self.no_motion,
            "no_verdict": self.no_verdict,
            "scores": {str(score): self.scores[score] for score in SCORES},
            "pairs": self.pairs,
            "gaps": {str(gap): self.gaps[gap] for gap in SCORES[:-1]},
            "cost_usd": self.cost_usd,
        }


def counts_table(counts: dict[str, TaskCounts]) -> str:
    """Markdown: a row for each sub-task."""
    lines = [
        "| sub-task | prompts | with pairs | candidates | no motion | no verdict | " + "pairs | gap 1 | 2 | 3 | 4 |",
        "| --- " + "| ---: " * 10 + "|",
    ]
    for task, count in counts.items():
        cells: list[object] = [count.prompts, count.prompts_with_pairs, count.candidates, count.no_motion]
        cells += [count.no_verdict, count.pairs, *(count.gaps[gap] for gap in SCORES[:-1])]
        lines.append(f"| {task} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def scores_table(counts: dict[str, TaskCounts]) -> str:
    """Markdown: how many motions of a sub-task have each score, with the share."""
    lines = ["| sub-task | " + " | ".join(map(str, SCORES)) + " |", "| --- " + "| ---: " * len(SCORES) + "|"]
    for task, count in counts.items():
        total = max(1, count.scores.total())
        cells = [f"{count.scores[score]} ({100 * count.scores[score] / total:.0f} %)" for score in SCORES]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def licence_of(model: Path) -> str:
    """The licence that a model folder's card names, or "other": motions are under that of the model that made them."""
    card = model / "README.md"
    found = (
        re.search(r"\A---\n.*?^license: (\S+)$", card.read_text(encoding="utf-8"), re.M | re.S)
        if card.is_file()
        else None
    )
    return found[1] if found else "other"


ACCURACY = {
    "precision": "events: precision",
    "recall": "events: recall",
    "order": "order",
    "count_exact": "counts: exact",
    "count_within_1": "counts: off by one at most",
    "pairwise": "of two motions the better one",
    "quadratic_kappa": "scores: quadratic kappa",
}
"""What of a judge's report stands on the card; of those that come by kind, the number of all."""


def accuracy_of(bench: Path | None, judge: str) -> str:
    """What report.json of `kinalign events bench` says of the judge, as markdown.

    Raises ConfigError for a report of another judge and for another file.
    """
    if bench is None:
        return (
            "Not measured here: `kinalign events bench` measures a judge, and --bench puts its report onto this card."
        )
    try:
        sets = read_json(bench)["sets"]
        names = {scores["judge"] for scores in sets.values()}
        rows = [[words, *(_number(scores[key]) for scores in sets.values())] for key, words in ACCURACY.items()]
        rows.append(["cases", *(str(scores["cases"]) for scores in sets.values())])
    except (KeyError, TypeError, AttributeError, CheckpointError) as error:
        raise ConfigError(f"{bench} is no report.json of `kinalign events bench` ({error}) (--bench)") from error
    if names != {judge}:
        raise ConfigError(f"{bench} is about {', '.join(sorted(names))}, not {judge} (--bench, --judge)")
    table = [["", *sets], ["---", *("---:" for _ in sets)], *rows]
    return (
        "By `kinalign events bench`, on clips joined from real ones (composed), on recorded trials with labelled\n"
        "frames, and on recorded clips counted by eye; 95 % intervals, and the number of things counted.\n\n"
    ) + "\n".join(f"| {' | '.join(row)} |" for row in table)


def _number(value: dict[str, Any]) -> str:
    """A number of a report with its interval and of how many things it is; where it comes by kind, that of all."""
    value = value.get("all", value)
    if value.get("value") is None:
        return "–"
    interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value['value']:.3f}{interval} ({value['of']})"


def card(
    config: dict[str, Any],
    counts: dict[str, TaskCounts],
    example: PreferencePair | None,
    *,
    licence: str,
    accuracy: str,
) -> str:
    """README.md of a data set: `config` is that of its folder, `accuracy` what is known of the judge's."""
    num_pairs = sum(count.pairs for count in counts.values())
    cost_usd = sum(count.cost_usd for count in counts.values())
    rule = PairRule(**config["rule"])
    source = f"the lines of `{config['file']}`" if config["file"] else f"Kinalign's grammar, split `{config['split']}`"
    shown = ""
    if (
        example is not None
        and isinstance(example.chosen.outcome, Verdict)
        and isinstance(example.rejected.outcome, Verdict)
    ):
        shown = f"""
An example, `{example.id}`: "{example.prompt}"

- chosen, score {example.chosen.outcome.score}: {example.chosen.outcome.reason}
- rejected, score {example.rejected.outcome.score}: {example.rejected.outcome.reason}
"""
    return f"""---
license: {licence}
language: en
tags: [preference, text-to-motion, human-motion, kinalign]
configs:
  - config_name: default
    data_files: preferences.parquet
---

# Motion preferences

{num_pairs} pairs of human motions, each pair for one sentence, of which a judge finds the first one nearer to what the
sentence says. Made by `kinalign prefer build`, version {version_of("kinalign")}, as AToM (arXiv 2411.18654) made
MotionPrefer: several motions of one model for every prompt, a score from 1 to 5 for each by the rubric of the prompt's
sub-task, and pairs by score.

| what | value |
| --- | --- |
| prompts | {source}, seed {config["seed"]} |
| model | {config["model_name"]}, sha256 of the weights `{config["model"]}` |
| candidates for each prompt | {config["candidates"]}{"" if config["constrained"] else ", unconstrained"} |
| judge | {config["judge"]} |
| a pair | winner's score above {rule.min_winner}, higher by more than {rule.gap}; {rule.max_pairs} of a prompt |
| cost of the verdicts | {cost_usd:.4f} US dollars, without answers that had been recorded before |

{counts_table(counts)}

*No motion* are answers of the model that cannot be decoded, *no verdict* motions that the judge could not judge; both
are in no pair. *Gap* is the winner's score less the loser's. Scores of all motions:

{scores_table(counts)}

## How right the judge is

{accuracy}
{shown}
## Columns

`prompt`, `chosen` and `rejected` are text, as TRL wants them; a motion is said in tokens `<motion_id_N>` between its
start and its end. `chosen_codes` are the same codes as integers, `chosen_verdict` is the judge's answer as JSON,
`chosen_seed` says the motion again with `model(prompt, seed=chosen_seed)`; so for `rejected`. `program` is the event
program as JSON, `task` the sub-task, `model` the sha256 of the weights, `cost_usd` what both verdicts cost. Joints of
all motions in pairs are in `motions/`:

```python
import kinalign as ka

pairs = ka.load_preferences("FOLDER", motions=True)
pairs[0].chosen.motion.save("chosen.html")
```

The motions are made by a model, not recorded; its licence is theirs.
"""
