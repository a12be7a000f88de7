"""A preference data set on disk, in TRL's columns, and readers of it and of InstructMotion's and AToM's released files.

preferences.parquet        a pair a row: prompt, chosen, rejected, and where they come from
motions/00000.safetensors  what the pairs show: joints of each motion, float16 from the pelvis, and the pelvis' way
README.md                  the card: how it was made, counts, scores
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinalign.data.motions import read_motions
from kinalign.errors import ConfigError, DataError, KinalignError
from kinalign.events.program import EventProgram
from kinalign.judge.verdict import Outcome, outcome_from_json
from kinalign.motion.features import features_to_motion
from kinalign.motion.motion import Motion
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import write_atomically

if TYPE_CHECKING:
    import pyarrow

PAIRS, MOTIONS, CARD = "preferences.parquet", "motions", "README.md"
LABELS = "preference_labels.jsonl"
FORMAT = "kinalign-preferences-1"

SIDES = ("chosen", "rejected")


def motion_text(codes: Sequence[int], num_codes: int) -> str:
    """A motion in the words of MotionGPT's vocabulary, between its start and its end, as AToM's and TRL's rows have it.

    >>> motion_text([3, 5], 8)
    '<motion_id_8><motion_id_3><motion_id_5><motion_id_9>'
    """
    return "".join(f"<motion_id_{code}>" for code in (num_codes, *codes, num_codes + 1))


def write_pairs(path: Path, pairs: Sequence[PreferencePair], *, num_codes: int) -> Path:
    """Write pairs as parquet, the same bytes for the same pairs and the same version of pyarrow."""
    arrow, parquet = require_pyarrow()
    rows = [_row(pair, num_codes) for pair in pairs]
    metadata = {"format": FORMAT, "num_codes": str(num_codes)}
    table = arrow.Table.from_pylist(rows, schema=_schema(arrow).with_metadata(metadata))
    return write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def require_pyarrow() -> tuple[Any, Any]:
    """pyarrow and its parquet module; raises ConfigError, with the command to install it, where it is absent."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("preference data are parquet, which needs pip install 'kinalign[preference]'") from error
    return pyarrow, pyarrow.parquet


def _schema(arrow: Any) -> pyarrow.Schema:
    columns: dict[str, Any] = {"id": arrow.string(), "prompt": arrow.string()}
    columns |= {side: arrow.string() for side in SIDES}
    columns |= {"task": arrow.string(), "program": arrow.string()}
    kinds = {
        "codes": arrow.list_(arrow.int32()),
        "score": arrow.int8(),
        "verdict": arrow.string(),
        "seed": arrow.int64(),
        "candidate": arrow.int16(),
    }
    columns |= {f"{side}_{name}": kind for name, kind in kinds.items() for side in SIDES}
    columns |= {"judge": arrow.string(), "model": arrow.string(), "cost_usd": arrow.float64()}
    return arrow.schema(list(columns.items()))


def _row(pair: PreferencePair, num_codes: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": pair.id,
        "prompt": pair.prompt,
        "task": pair.task,
        "program": json.dumps(pair.program.to_json()) if pair.program else None,
        "judge": pair.judge,
        "model": pair.model,
        "cost_usd": 0.0,
    }
    for side, candidate in zip(SIDES, (pair.chosen, pair.rejected)):
        assert candidate.codes is not None and candidate.outcome is not None, "pairs are of judged motions"
        verdict = candidate.outcome.to_json()
        row |= {
            side: motion_text(candidate.codes, num_codes),
            f"{side}_codes": candidate.codes,
            f"{side}_score": verdict["score"],
            f"{side}_verdict": json.dumps(verdict, ensure_ascii=False),
            f"{side}_seed": candidate.seed,
            f"{side}_candidate": candidate.index,
        }
        row["cost_usd"] += verdict["cost_usd"]
    return row


def load_preferences(folder: str | Path, *, motions: bool = False) -> list[PreferencePair]:
    """Pairs of a folder that `kinalign prefer build` wrote, or of InstructMotion's or AToM's preference_labels.jsonl.

    `motions` gives each candidate its motion. Raises DataError for a folder of another kind and for a file that is
    absent or cut short.
    """
    folder = Path(folder)
    if folder.suffix == ".jsonl" or (folder / LABELS).is_file():
        return load_labels(folder if folder.suffix == ".jsonl" else folder / LABELS, motions=motions)
    path = folder / PAIRS
    if not path.is_file():
        raise DataError(f"{folder} has no {PAIRS} and no {LABELS}; it is no preference data set, or not finished yet")
    arrow, parquet = require_pyarrow()
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); it is cut short or no parquet file: give the same `kinalign prefer "
            "build` again, which makes it anew"
        ) from error
    if (table.schema.metadata or {}).get(b"format", b"").decode() != FORMAT:
        raise DataError(f"{path} holds no pairs of Kinalign's ({FORMAT})")
    if absent := sorted(set(_schema(arrow).names) - set(table.schema.names)):
        raise DataError(
            f"{path} lacks {len(absent)} of its columns ({', '.join(absent)}); give the same `kinalign prefer build` "
            "again, which makes it anew"
        )
    pairs = [_pair(row) for row in table.to_pylist()]
    return _with_motions(folder, pairs) if motions else pairs


def _pair(row: Mapping[str, Any]) -> PreferencePair:
    chosen, rejected = (
        Candidate(
            index=row[f"{side}_candidate"],
            seed=row[f"{side}_seed"],
            codes=tuple(row[f"{side}_codes"] or ()),
            outcome=_outcome(row[f"{side}_verdict"]),
        )
        for side in SIDES
    )
    program = EventProgram.from_json(row["program"]) if row["program"] else None
    return PreferencePair(row["id"], row["prompt"], row["task"], program, chosen, rejected, row["judge"], row["model"])


def _outcome(text: str) -> Outcome:
    return outcome_from_json(json.loads(text))


def holds_motions(path: Path, names: Sequence[str]) -> bool:
    """Whether a file holds exactly the motions of these names, whole."""
    try:
        return read_motions(path).keys() == set(names)
    except DataError:
        return False


def motion_name(prompt_id: str, candidate: Candidate) -> str:
    """Under which name a candidate's motion is kept: temporal-00007-3."""
    return f"{prompt_id}-{candidate.index}"


def _with_motions(folder: Path, pairs: Sequence[PreferencePair]) -> list[PreferencePair]:
    motions: dict[str, Motion] = {}
    for path in sorted((folder / MOTIONS).glob("*.safetensors")):
        motions |= read_motions(path)

    def with_motion(pair: PreferencePair, candidate: Candidate) -> Candidate:
        name = motion_name(pair.prompt_id, candidate)
        if name not in motions:
            raise DataError(f"{folder / MOTIONS} lacks the motion {name}; give the same `kinalign prefer build` again")
        return replace(candidate, motion=replace(motions[name], caption=pair.prompt))

    return [
        replace(pair, chosen=with_motion(pair, pair.chosen), rejected=with_motion(pair, pair.rejected))
        for pair in pairs
    ]


def load_labels(path: str | Path, *, motions: bool = False) -> list[PreferencePair]:
    """Pairs of InstructMotion's preference_labels.jsonl, which AToM uses too: of several votes the last one counts.

    Skipped pairs are left out. Paths are relative to the file's folder. Codes are read where there is a token array
    beside the features (features/X.npy, tokens/X_token.npy), `motions` from the features (T, 263). Raises DataError,
    with the line, for what is no such row and for an array that cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the lines of {path} as text ({error})") from error
    pairs: list[PreferencePair] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            pairs += _labelled(json.loads(line), path.parent, motions=motions)
        except (ValueError, KeyError, TypeError, IndexError, OSError, KinalignError) as error:
            raise DataError(f"{path}, line {number} is no labelled pair of motions ({error!r})") from error
    return pairs


def _labelled(row: Mapping[str, Any], root: Path, *, motions: bool) -> Iterator[PreferencePair]:
    """The pair of a row, or none where the annotator skipped it."""
    vote = row["chosen"][-1]
    if "skipped" in (vote["choice"], vote["degree of preference"]):
        return
    if vote["choice"] not in ("sample_1", "sample_2"):
        raise DataError(f"choice {vote['choice']!r} is none of sample_1, sample_2 and skipped")
    samples = [_sample(row[f"sample_{number}"], number, root, row["prompt"] if motions else None) for number in (1, 2)]
    chosen, rejected = samples if vote["choice"] == "sample_1" else samples[::-1]
    yield PreferencePair(
        id=f"{row['id']}-{chosen.index}-{rejected.index}",
        prompt=row["prompt"],
        task=None,
        program=None,
        chosen=chosen,
        rejected=rejected,
        judge=f"human ({vote.get('user') or 'unknown'})",
        degree=vote["degree of preference"],
    )


def _sample(sample: Mapping[str, Any], number: int, root: Path, caption: str | None) -> Candidate:
    """One of the two motions of a row; with its joints where there is a caption for them."""
    features = Path(sample["features"])
    tokens = root / "/".join("tokens" if part == "features" else part for part in features.parts)
    tokens = tokens.with_name(f"{features.stem}_token.npy")
    codes = tuple(np.load(tokens, allow_pickle=False).reshape(-1).tolist()) if tokens.is_file() else None
    motion = None
    if caption is not None:
        array = np.load(root / features, allow_pickle=False)
        motion = features_to_motion(array.reshape(-1, array.shape[-1]), caption=caption)
    return Candidate(number, int(sample["seed"]), codes, motion=motion)
