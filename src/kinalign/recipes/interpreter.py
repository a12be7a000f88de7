"""The interpreter of the shipped model: what it is taught, and how much of unseen wordings it understands, one command.

    python -m kinalign.recipes.interpreter --out runs/interpreter

It is taught on `wordings.tsv`, sentences that language models wrote for this project, told which actions there are and
nothing of the code, the data and the gallery; what comes near to a prompt of the gallery was left out. What writers T
and MT wrote is never learned. Three minutes of one core.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from kinalign.data.openmocap import load_openmocap
from kinalign.data.phrasings import phrase
from kinalign.errors import PromptError
from kinalign.events.program import ACTIONS, Event, EventProgram
from kinalign.events.say import plain
from kinalign.events.say import wordings as phrasings
from kinalign.lm.interpreter import (
    GOING,
    LIMBED,
    OTHER,
    SEVERAL,
    SIDES_SAID,
    WAYS,
    WAYS_SAID,
    Interpreter,
    InterpreterConfig,
    are_kin,
    meanings,
    number_in,
    program_by_rules,
)
from kinalign.lm.reader import Reader
from kinalign.pipeline import TextToMotion
from kinalign.run import write_text

HERE = Path(__file__).parent
HELD_OUT = frozenset({"t", "mt"})
"""Writers of whom nothing is learned."""
LINKS = (
    "{}, then {}|{} and then {}|{} and {}|{}. {}|{}. Then {}|{}, and after that {}|{} before {}|{}; {}|after {}, {}"
    "|first {}, then {}|{}, {}"
).split("|")
"""How two sentences are made one of several events."""
MOST_ALIKE, MOST_OTHERS = 40, 300
"""Captions of one action, and of several actions or none of those that are told apart."""
UNTAUGHT = 8
"""Wordings of each action that rules alone know."""
WEIGHT_DECAY = 5e-6
NOT_ASKED = -100
"""The label of what a sentence cannot say: the side of a walk."""


@dataclass(frozen=True)
class Recipe:
    """Teach the interpreter of the shipped model."""

    out: Path = Path("runs/interpreter")
    """Folder for the interpreter and README.md, what it is worth."""
    seed: int = 0
    several: int = 1500
    """Sentences put together of two."""
    captions: int = 6000
    """Phrasings of the data's captions that are drawn to learn what rules read in them."""
    threads: int = 1


class Wording(NamedTuple):
    """A sentence, who wrote it, and what it asks for."""

    writer: str
    action: str
    side: str
    way: str
    times: int | None
    text: str

    @property
    def event(self) -> Event:
        return Event(self.action, side=self.side, direction=self.way, count=self.times)

    @property
    def has_side(self) -> bool:
        return self.action in LIMBED

    @property
    def has_way(self) -> bool:
        return self.action in GOING


def wordings() -> list[Wording]:
    """The sentences of one event that were written for this."""
    with (HERE / "wordings.tsv").open(encoding="utf-8", newline="") as file:
        return [
            Wording(
                row["writer"],
                row["action"],
                row["side"] if row["side"] in SIDES_SAID else "",
                row["direction"] if row["direction"] in WAYS else "",
                int(row["count"]) if row["count"] else None,
                row["text"],
            )
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def several() -> list[tuple[str, str, EventProgram]]:
    """Writer, text and program of the texts of several events that were written for this."""
    lines = (HERE / "wordings_of_several.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["writer"], row["text"], EventProgram.from_json(row["program"])) for row in rows]


def joined(rows: Sequence[Wording], num: int, rng: np.random.Generator) -> Iterator[Wording]:
    """Sentences of several events, each put together of two of different actions."""
    able = [row for row in rows if row.action != OTHER]
    while num:
        first, second = (able[place] for place in rng.integers(len(able), size=2))
        if first.action != second.action:
            link = LINKS[rng.integers(len(LINKS))]
            text = link.format(first.text.rstrip("."), second.text[:1].lower() + second.text[1:])
            yield Wording("", SEVERAL, "", "", None, text)
            num -= 1


def captions(num: int, actions: Sequence[str], rng: np.random.Generator) -> Iterator[Wording]:
    """Phrasings of the train clips' captions, of which rules know what they mean; of no action more than of others."""
    clips = load_openmocap(split="train")
    texts = dict.fromkeys(phrase(clips[place], rng) for place in rng.integers(len(clips), size=num))
    found: Counter[str] = Counter()
    for text in texts:
        program = program_by_rules(text)
        row = Wording("", SEVERAL, "", "", None, text)
        if program is None:
            continue
        if len(program.events) == 1:
            row = _as_taught(text, program.events[0], actions)
        found[row.action] += 1
        if found[row.action] <= (MOST_OTHERS if row.action in (SEVERAL, OTHER) else MOST_ALIKE):
            yield row


def untaught(actions: Sequence[str], num: int, seed: int) -> Iterator[Wording]:
    """Wordings of events that rules know and nobody wrote of: who bends does not bow, and the rules say so."""
    for action in sorted(ACTIONS):
        if not any(are_kin(action, name) for name in actions):
            program = EventProgram(((Event(action),),))
            for text in dict.fromkeys((plain(program), *phrasings(program, num, seed))):
                yield Wording("", OTHER, "", "", None, text)


def _as_taught(text: str, event: Event, actions: Sequence[str]) -> Wording:
    kin = (name for name in actions if are_kin(name, event.action))
    action = event.action if event.action in actions else next(kin, OTHER)
    side = event.side if event.side in SIDES_SAID else ""
    way = event.direction if event.direction in WAYS else ""
    return Wording("", action, side, way, event.count if isinstance(event.count, int) else None, text)


def taught(reader: Reader, rows: Sequence[Wording]) -> Interpreter:
    """An interpreter that has learned these sentences."""
    texts = [row.text for row in rows]
    programs = [program_by_rules(text) for text in texts]
    found = {event.action for program in programs if program for event in program.events}
    rules = sorted(found & ACTIONS)
    actions = sorted({row.action for row in rows} - {OTHER, SEVERAL})
    config = InterpreterConfig((*actions, OTHER, SEVERAL), tuple(rules))
    usual = meanings(reader, texts).mean(0)
    interpreter = Interpreter(config, {"usual": usual}, reader)
    said = interpreter.features(texts)
    targets = {
        "action": [config.actions.index(row.action) for row in rows],
        "side": [SIDES_SAID.index(row.side) if row.has_side else NOT_ASKED for row in rows],
        "way": [WAYS_SAID.index(row.way) if row.has_way else NOT_ASKED for row in rows],
        "counted": [int(row.times is not None) if number_in(row.text) else NOT_ASKED for row in rows],
    }
    for name, answers in config.answers.items():
        weight, bias = fitted(said, torch.tensor(targets[name]), len(answers))
        interpreter.weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return interpreter


def fitted(said: Tensor, wanted: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the logistic regression of `num` classes, with a little decay."""
    said, wanted = said[wanted >= 0], wanted[wanted >= 0]
    weight = torch.zeros(num, said.shape[1], requires_grad=True)
    bias = torch.zeros(num, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(said @ weight.T + bias, wanted) + WEIGHT_DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weight.detach(), bias.detach()


class Worth(NamedTuple):
    """How many of some texts are understood."""

    name: str
    num: int
    right: int
    """The actions that are asked for and no others, in their order."""
    whole: int
    """And with their sides and ways."""
    silent: int
    """In which no event is found."""

    def row(self) -> str:
        shares = " | ".join(f"{value / self.num:.2f}" for value in (self.right, self.whole, self.silent))
        return f"| {self.name} | {self.num} | {shares} |"


def worth(name: str, asked: Sequence[tuple[str, EventProgram]], reads: Callable[[str], EventProgram | None]) -> Worth:
    """What one reader makes of texts whose programs are known."""
    right = whole = silent = 0
    for text, program in asked:
        read = reads(text)
        if read is None or not any(event.is_named for event in read.events):
            silent += 1
            continue
        pairs = list(zip(read.events, program.events))
        if len(read.events) == len(program.events) and all(are_kin(one.action, two.action) for one, two in pairs):
            right += 1
            whole += all(_facts(one, two.action) == _facts(two, two.action) for one, two in pairs)
    return Worth(name, len(asked), right, whole, silent)


def _facts(event: Event, action: str) -> tuple[str, str]:
    side = event.side if action in LIMBED else ""
    return side, event.direction if action in GOING and event.direction in WAYS else ""


def false_alarms(texts: Sequence[str], reads: Callable[[str], EventProgram | None]) -> int:
    """In how many texts that ask for nothing of a body, or for what nobody knows, events are found."""
    programs = [program for text in texts if (program := reads(text))]
    return sum(any(event.is_named for event in program.events) for program in programs)


def make(recipe: Recipe) -> Path:
    """Teach, write the interpreter's folder, and beside it what it is worth on the writers that are held out."""
    torch.set_num_threads(recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    reader = TextToMotion.from_pretrained().lm.reader
    assert reader is not None
    rows = [row for row in wordings() if row.writer not in HELD_OUT]
    actions = sorted({row.action for row in rows} - {OTHER})
    told = [Wording(who, SEVERAL, "", "", None, text) for who, text, _ in several() if who not in HELD_OUT]
    rows += [*joined(rows, recipe.several, rng), *captions(recipe.captions, actions, rng), *told]
    rows += untaught(actions, UNTAUGHT, recipe.seed)
    taught(reader, rows).save_pretrained(recipe.out)
    text = page(Interpreter.from_pretrained(recipe.out, reader))
    return write_text(recipe.out / "README.md", text)


def page(interpreter: Interpreter) -> str:
    """What it understands of writers of whom it has learned nothing, beside the rules alone."""
    held = [row for row in wordings() if row.writer in HELD_OUT]
    one = [(row.text, EventProgram(((row.event,),))) for row in held if row.action != OTHER]
    more = [(text, program) for who, text, program in several() if who in HELD_OUT]
    nothing = [row.text for row in held if row.action == OTHER]
    lines = []
    readers = {"rules": program_by_rules, "interpreter": or_nothing(interpreter)}
    for what, asked in (("one event", one), ("two or three", more)):
        lines += [worth(f"{what}: {name}", asked, reads).row() for name, reads in readers.items()]
    alarms = [false_alarms(nothing, reads) for reads in readers.values()]
    table = "\n".join(lines)
    return f"""# interpreter

What a sentence asks for, in whatever words: linear layers on the reader of the language model beside this folder,
taught by `python -m kinalign.recipes.interpreter` on sentences that were written for it. The writers were language
models, each told the list of actions and nothing of the code, the data and the gallery. MIT.

On sentences of a writer of whom nothing was learned, shares of them:

| sentences | number | actions right | sides and ways too | nothing found |
| --- | ---: | ---: | ---: | ---: |
{table}

Of {len(nothing)} texts that ask for none of its actions, events are found in {alarms[0]} by rules, in
{alarms[1]} by it.
"""


def or_nothing(reads: Callable[[str], EventProgram]) -> Callable[[str], EventProgram | None]:
    """The same reader, with None for an error."""

    def tried(text: str) -> EventProgram | None:
        try:
            return reads(text)
        except PromptError:
            return None

    return tried


if __name__ == "__main__":
    print(make(tyro.cli(Recipe)))
