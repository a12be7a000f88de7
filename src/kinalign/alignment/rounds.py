"""`kinalign align rounds`: preference learning in rounds, each on motions of the model that the one before left.

A round draws candidates for prompts of its own, has them judged, makes pairs, and aligns from where it stands: the
reference of a round is the model that its candidates came from, so that pairs are never of a policy long left behind
(semi-online, as the iterations of Xu et al. 2023 and of Llama 3). After each round it is looked at prompts that no
round trains on; where the guard is not content, rounds end, and what the one before left is kept. A folder:

config.json, environment.json      what was asked and where
round-0/look.json                  what was found before the first round
round-1/pairs/, aligned/           what `prefer build` and `align preference` keep: a kill repeats little of it
round-1/adapter/, look.json        the model after it: all rounds so far, in one adapter; and what was found of it
adapter/                           of the last round that the guard was content with
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kinalign.alignment.preference import ADAPTER, PreferenceConfig, align
from kinalign.alignment.watch import Examination
from kinalign.errors import ConfigError, KinalignError
from kinalign.lm.lora import Adapter, is_adapter
from kinalign.pipeline import TextToMotion, base_of, shipped_model
from kinalign.preference.annotate import weights_of
from kinalign.preference.build import PreferBuild, build_preferences
from kinalign.preference.dataset import load_preferences
from kinalign.run import RunFolder, config_to_json, locked, read_json, write_json

LOOK = "look.json"


@dataclass(frozen=True)
class AlignRounds(PreferenceConfig):
    """Draw, judge, align, and again."""

    out: Path = Path("rounds")
    """Run folder; what was learned is OUT/adapter. A run that was stopped goes on there, and so do more --rounds."""
    model: Path | None = None
    """Model or adapter folder to begin at; the shipped model where it is left out."""
    rounds: int = 3
    prompts: int = 300
    """Prompts of a round, other ones in each, as many of each sub-task."""
    events: int = 2
    """Events of a temporal or integrity prompt."""
    candidates: int = 8
    """Motions for each prompt."""
    judge: str = "kinematic"
    """Who judges them; who looks after each round is --watch.judge, better another one."""
    max_rank: int = 64
    """The adapter holds what all rounds have learned; where its rank grows above this, the nearest one of this rank."""
    seed: int = 0
    """Of prompts and candidates of the first round; each round has the next."""
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rounds", "max_rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")
        if self.full:
            raise ConfigError("full=True gives no adapter for the next round to begin at; raise --lora.rank instead")


def align_rounds(config: AlignRounds) -> Path:
    """Draw motions, judge them, align, and again from what was learned; resumes where it was stopped."""
    torch.set_num_threads(config.threads)
    start = config.model or shipped_model()
    adapter = start if is_adapter(start) else None
    base = start if adapter is None else base_of(Adapter.from_pretrained(start), beside=start)
    with locked(config.out):
        model = TextToMotion.from_pretrained(base, adapter=adapter)
        settings = config_to_json(config) | {"model": weights_of(model)}
        # more rounds are the same ones gone on with
        RunFolder.open(config.out, {key: settings[key] for key in settings.keys() - {"out", "rounds", "threads"}})
        examination = Examination(config.watch, model)
        before = _look(config.out / "round-0", model, examination)
        print(f"before: {_told(before)}", flush=True)
        for number in range(1, config.rounds + 1):
            folder = config.out / f"round-{number}"
            learned = folder / ADAPTER
            if not is_adapter(learned):
                _round(folder, number, config, base=base, model=model)
            model = TextToMotion.from_pretrained(base, adapter=learned)
            found = _look(folder, model, examination)
            print(f"round {number}: {_told(found)}", flush=True)
            if not config.watch.is_well(found, before):
                if adapter == start or adapter is None:
                    raise KinalignError(
                        f"the first round in {config.out} made motions worse than the guard allows, and nothing is "
                        "kept; begin anew with a lower --optimization.learning-rate, or with another --watch.guard"
                    )
                print(f"round {number} is worse than the guard allows: round {number - 1} is kept")
                break
            adapter = learned
            Adapter.from_pretrained(learned).save_pretrained(config.out / ADAPTER)
    print(config.out / ADAPTER)
    return config.out / ADAPTER


def _round(folder: Path, number: int, config: AlignRounds, *, base: Path, model: TextToMotion) -> None:
    """Pairs of a model, and what it learns from them, in one adapter with all that it had learned before."""
    pairs = PreferBuild(
        out=folder / "pairs",
        prompts=config.prompts,
        events=config.events,
        candidates=config.candidates,
        judge=config.judge,
        model=base,
        seed=config.seed + number - 1,
        threads=config.threads,
    )
    build_preferences(pairs, model)
    settings = PreferenceConfig(**{name: getattr(config, name) for name in PreferenceConfig.__dataclass_fields__})
    aligned = align(model, load_preferences(pairs.out), settings, folder=folder / "aligned")
    assert aligned.lm.merged is not None
    aligned.lm.merged.of_rank(config.max_rank).save_pretrained(folder / ADAPTER)


def _look(folder: Path, model: TextToMotion, examination: Examination) -> dict[str, float]:
    """What is found of a round's model, looked at once."""
    if not (folder / LOOK).is_file():
        write_json(folder / LOOK, examination(model))
    return read_json(folder / LOOK)


def _told(found: Mapping[str, float]) -> str:
    """What was found, in a line."""
    fid = f", FID {found['quality/fid']:.3f}" if "quality/fid" in found else ""
    return (
        f"score {found['events/score']:.2f}, right {100 * found['events/right']:.1f} %, "
        f"skating {100 * found['quality/skating']:.1f} cm/s, jitter {found['quality/jitter']:.0f} m/s³, "
        f"no motion {100 * found['quality/invalid']:.1f} %{fid}"
    )
