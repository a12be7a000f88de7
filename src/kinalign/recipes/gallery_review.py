"""The gallery before reviewers who do not know whose motions they see: nameless pictures, and their answers counted.

    python -m kinalign.recipes.gallery --by generate --out docs/gallery --review review
    python -m kinalign.recipes.gallery_review --review review --out docs/gallery

The first command writes a folder beside the gallery: a sheet for each prompt, in pictures of five rows. Among its
eight motions are, in no order, one of another prompt that asks for something else, and a real clip that people
described in the words of the prompt, or of one that asks for the same, where the test split has one. Each reviewer is
given that folder's BRIEF.md and pictures and nothing else, and writes answers to a file, answers-NAME.json. The second
command reads the answers of all: how often what should be seen was, and the votes on each motion, by_eye.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from kinalign.data.records import Clip
from kinalign.errors import DataError
from kinalign.motion.motion import Motion
from kinalign.render.sheet import write_sheet
from kinalign.run import read_json, write_json, write_text

KEY, BRIEF_FILE, ANSWERS = "key.json", "BRIEF.md", "answers-*.json"
BY_EYE = {"model": "by_eye_model.json", "generate": "by_eye.json"}
"""Who makes the motions, and the file of what each reviewer saw in them."""
CONTROLS = "by_eye_controls.json"
ROWS = 5
"""Motions in a picture."""
LONGEST_S = 10.0
"""Of a longer real clip, so much from its beginning is shown."""
REAL, OTHER = "real", "other"
"""Rows that are no motion of the gallery: what should be seen, and what should not."""
KIN = (
    frozenset({"walk", "walk_turn", "run"}),
    frozenset({"raise", "wave", "grab", "throw"}),
    frozenset({"bow", "put_down"}),
)
"""Actions of which one may be seen in the other."""

BRIEF = """# What is there?

In these pictures moves a person without a face, fingers or things. Orange is the left side, blue the right. Each row is
one motion, from left to right, at the seconds that are written. Above it stands what a sentence asks for. For each row:
is the action that the sentence names really there?

- 1: who is told that this motion shall show the sentence would agree that the body does what is named, with the limb of
  the side and to the way that are said.
- 0: it is not there, or with the other limb, or to another way, or so little of it that it is only hinted at, or it is
  lost among things that nobody asked for.
- Things, places, other people and moods cannot be shown: ask what the body does. How often, how long, how fast and how
  beautifully is not asked, and a motion may begin and end with standing or with steps.
- The rows come from several sources, in no order. In some sheets every row may show the action, in some none. Look at
  each row by itself and take your time.

Use the pictures alone: no program, and no other file. Write one JSON object: the number of each sheet, as a text, and a
list of 0 and 1 for its rows, in the order of their numbers.
"""


@dataclass(frozen=True)
class Count:
    """Count what reviewers saw."""

    review: Path = Path("review")
    """Folder of the sheets and the answers."""
    by: Literal["model", "generate"] = "generate"
    """Who made the motions."""
    out: Path = Path("docs/gallery")
    """Folder of the gallery, for the votes."""


def write_review(
    prompts: Sequence[Mapping[str, Any]], motions: Mapping[str, Sequence[Motion]], clips: Sequence[Clip], out: Path
) -> None:
    """Sheets in which nothing says whose a motion is, what their rows are, and the brief; `clips` are real ones."""
    rng = np.random.default_rng(0)
    key: dict[str, dict[str, Any]] = {}
    for number, place in enumerate(rng.permutation(len(prompts)).tolist(), start=1):
        prompt = prompts[place]
        rows: list[tuple[str | int, Motion]] = list(enumerate(motions[prompt["id"]]))
        others = [one for one in prompts if not _is_kin(one["see"]["action"], prompt["see"]["action"])]
        other = others[int(rng.integers(len(others)))]
        rows.append((OTHER, motions[other["id"]][int(rng.integers(len(motions[other["id"]])))]))
        shown = list(_shown(prompt, prompts, clips))
        if shown:
            rows.append((REAL, shown[int(rng.integers(len(shown)))]))
        rows = [rows[row] for row in rng.permutation(len(rows))]
        key[str(number)] = {"id": prompt["id"], "rows": [what for what, _ in rows]}
        named = [
            replace(motion, caption=f"sheet {number}, row {row}: {prompt['prompt']}")
            for row, (_, motion) in enumerate(rows, start=1)
        ]
        for picture, start in enumerate(range(0, len(named), ROWS), start=1):
            path = out / f"sheet-{number:02d}-{picture}.png"
            write_sheet(named[start : start + ROWS], path, num_frames=10, size=112, colours=64)
    write_json(out / KEY, key)
    write_text(out / BRIEF_FILE, BRIEF)


def read_if_there(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no such file yet."""
    return dict(read_json(path)) if path.exists() else {}


def _is_kin(one: str, other: str) -> bool:
    return one == other or any({one, other} <= kin for kin in KIN)


def _shown(prompt: Mapping[str, Any], prompts: Sequence[Mapping[str, Any]], clips: Sequence[Clip]) -> Iterator[Motion]:
    """Real motions that people described in the words of this prompt, or of one that asks for the same."""
    asked = {key: prompt["see"].get(key) for key in ("action", "side", "direction")}
    alike = [one for one in prompts if {key: one["see"].get(key) for key in asked} == asked]
    words = {one["prompt"].split(" for ")[0] for one in alike}
    for clip in clips:
        if words & {clip.motion.caption, *clip.captions}:
            yield clip.motion[: round(LONGEST_S * clip.motion.fps)]


def count(config: Count) -> dict[str, tuple[int, int]]:
    """Write the votes on each motion of the gallery; returns (seen, shown) of real clips and of other motions.

    Raises DataError where an answer is missing, or is no 0 or 1.
    """
    key = read_json(config.review / KEY)
    given = [read_json(path) for path in sorted(config.review.glob(ANSWERS))]
    votes: dict[str, list[list[int]]] = {}
    seen = {REAL: [0, 0], OTHER: [0, 0]}
    for number, sheet in key.items():
        answers = [answer[number] for answer in given if number in answer]
        if not answers or any(len(answer) != len(sheet["rows"]) or not set(answer) <= {0, 1} for answer in answers):
            raise DataError(
                f"sheet {number} has {answers} as answers; it takes a 0 or 1 for each of its {len(sheet['rows'])} "
                f"rows, in {config.review / ANSWERS}"
            )
        for answer in answers:
            told = dict(zip(sheet["rows"], answer))
            for control in seen.keys() & told.keys():
                seen[control][0] += told[control]
                seen[control][1] += 1
            votes.setdefault(sheet["id"], []).append([told[place] for place in range(len(told.keys() - seen.keys()))])
    write_json(config.out / CONTROLS, read_if_there(config.out / CONTROLS) | {config.by: seen})
    rows = [f'  "{name}": {each}' for name, each in sorted(votes.items())]
    write_text(config.out / BY_EYE[config.by], "{\n" + ",\n".join(rows) + "\n}\n")
    print(", ".join(f"{what}: seen in {there} of {shown}" for what, (there, shown) in seen.items()))
    return {what: (there, shown) for what, (there, shown) in seen.items()}


if __name__ == "__main__":
    count(tyro.cli(Count))
