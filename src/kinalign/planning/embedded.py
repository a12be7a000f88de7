"""The embedded planner: a small language model that knows what the shipped model can do, and works without a network.

It answers all eight planning tasks. Steps are chosen among those of the repertoire, so only plans that can be shown can
be said; tasks and scenes are sentences of its own. What it is asked is first looked at: a text that is no English and a
task that a body cannot show without things, water or wheels are refused, with the nearest that can be done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kinalign.errors import CheckpointError, PlanError
from kinalign.events.program import EventProgram
from kinalign.lm.model import MotionLM, Sampling
from kinalign.lm.reader import Reader
from kinalign.pipeline import shipped_model
from kinalign.planning.consistency import DOWN, GOING
from kinalign.planning.network import (
    END,
    NOTHING,
    ROLES,
    MeaningReader,
    PlannerConfig,
    PlannerNetwork,
    Told,
)
from kinalign.planning.plan import MOST_STEPS, Scene, Task
from kinalign.planning.repertoire import NUM_NEAREST, abilities, nearest
from kinalign.planning.tasks import KINDS, Answer, Request
from kinalign.run import (
    SCALE,
    config_from_json,
    config_to_json,
    load_strictly,
    pack_rows,
    read_json,
    read_tensors,
    sha256_of_weights,
    unpack_rows,
    write_json,
    write_tensors,
)

SHIPPED_PLANNER = "planner"
WEIGHTS, CONFIG = "model.safetensors", "config.json"

TRIES = 8
"""Answers that are drawn for a request; the first one that is a plan is given."""
MOST_TASKS = 4
"""Of what was done before, the latest tasks that are read."""
MOST_READ_STEPS = 12
"""Of what was done before, the latest steps that are read."""
MOST_WORDS = 28
"""Tokens of an answer in words."""
FEWEST_WORDS = 4
"""With the full stop."""
TEXT_SAMPLING = Sampling(temperature=0.8, top_p=0.9)
STEP_SAMPLING = Sampling(temperature=1.0, top_p=0.9)

_UNCOPIED = ("[CLS]", "[SEP]", "[UNK]", "[PAD]")


@dataclass(frozen=True)
class Gate:
    """A line through what texts mean: on which side of it a request is refused. Learned by the recipe."""

    weight: tuple[float, ...]
    bias: float
    threshold: float
    """Refused where the score is above."""

    def score(self, meaning: Tensor) -> float:
        """Log-odds that the text is to be refused."""
        return float(meaning @ torch.tensor(self.weight)) + self.bias

    def refuses(self, meaning: Tensor) -> bool:
        return self.score(meaning) > self.threshold


class EmbeddedPlanner:
    """A planner of its own: the same answer for one seed, and no answer that cannot be shown.

    >>> planner = EmbeddedPlanner.from_pretrained()                                      # doctest: +SKIP
    >>> planner(Request("ct2t", Scene("a goalkeeper warms up")), seed=0)                 # doctest: +SKIP
    Task(text='The goalkeeper jogs along the line.', steps=())
    """

    def __init__(
        self,
        network: PlannerNetwork,
        reader: MeaningReader,
        steps: Sequence[str],
        *,
        names: Sequence[str],
        not_english: Gate,
        cannot: Gate,
        reader_sha256: str,
    ) -> None:
        unknown = [step for step in steps if step not in abilities()]
        if unknown:
            raise CheckpointError(
                f"this planner plans {unknown[0]!r}, which the model cannot do any more; train it again "
                "(python -m kinalign.recipes.planner)"
            )
        self.network, self.reader, self.steps, self.names = network.eval(), reader.eval(), tuple(steps), tuple(names)
        self.not_english, self.cannot, self.reader_sha256 = not_english, cannot, reader_sha256
        self.name = f"embedded ({sha256_of_weights([network, reader.own])[:8]})"
        programs = [abilities()[step].program for step in self.steps]
        self._after_standing, self._after_down = may_follow(programs)
        self._names = {name.lower(): name for name in names}

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        """The answer to a request, one for each seed.

        Raises PlanError for a text that is no English, a task that cannot be shown, and where each of the answers drawn
        for this seed is no plan or says again what was done.
        """
        self._check(request)
        gives = KINDS[request.kind].gives
        generator = torch.Generator().manual_seed(seed)
        is_down = bool(request.steps) and request.steps[-1].program.events[-1].action in DOWN
        rows = self.network.answers(
            self.told(request),
            1 if gives == "steps" else TRIES,
            generator=generator,
            sampling=STEP_SAMPLING if gives == "steps" else TEXT_SAMPLING,
            may_follow=self._after_down if is_down else self._after_standing,
            fewest=2 if gives == "steps" else FEWEST_WORDS,
            most=MOST_STEPS if gives == "steps" else MOST_WORDS,
        )
        if gives == "steps":
            return tuple(abilities()[self.steps[token - 1]].step for token in rows[0] if token != END)
        said = [self._text(row, request) for row in rows if row[-1] == END]
        done = {bare(text).lower() for text in _texts(request)}
        for text in filter(None, said):
            if bare(text).lower() in done:
                continue
            if gives == "scene":
                return Scene(text)
            if not self.cannot_do(text):
                return Task(text)
        raise PlanError(
            f"{TRIES} answers to {request.kind} of seed {seed} say nothing new that can be done, as in "
            f"{next(iter(said), '')!r}; take another seed"
        )

    def told(self, request: Request) -> Told:
        """A request as the network is told it: scene and latest tasks word by word, the latest steps each as one."""
        return told(request, self.reader, self.network.first_word)

    def reads(self, text: str) -> bool:
        """Whether a text is English, as far as the planner can tell."""
        (read,) = self.reader.read([bare(text)])
        return re.search(r"[A-Za-z]{2}", text) is not None and not self.not_english.refuses(read.meaning)

    def cannot_do(self, task: str) -> bool:
        """Whether a task is of those that no steps of the repertoire show, as far as the planner can tell."""
        (read,) = self.reader.read([bare(task)])
        return self.cannot.refuses(read.doing)

    def _check(self, request: Request) -> None:
        """Raises PlanError for what is to be refused."""
        for text in _texts(request):
            if not self.reads(text):
                raise PlanError(f"{text[:80]!r} does not read as English; say in English who does what, or where")
        if request.kind == "t2s" and self.cannot_do(task := request.tasks[0].text):
            offers = nearest(task) or tuple(abilities().values())[:NUM_NEAREST]
            near = "; ".join(offer.text for offer in offers)
            raise PlanError(f"the model cannot do {task[:80]!r}; the nearest actions that it can: {near}")

    def _text(self, row: Sequence[int], request: Request) -> str:
        """Tokens of an answer as a sentence; nothing where it is none."""
        ids = [token - self.network.first_word for token in row if token != END]
        words = self.reader.tokenizer.convert_ids_to_tokens(ids)
        text = joined(words)
        if not re.fullmatch(r"[^.!?]*[A-Za-z][^.!?]*[.!?]", text):
            return ""
        named = self._names | {
            word.lower(): word for told in _texts(request) for word in re.findall(r"(?<=\s)[A-Z]\w+", told)
        }
        text = re.sub(r"\w+", lambda word: named.get(word[0], word[0]), text)
        return text[0].upper() + text[1:]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors: matrices in 8 bits a weight, the rest in half precision."""
        folder = Path(folder)
        tensors: dict[str, Tensor] = {}
        for name, tensor in _own(self.network, self.reader).state_dict().items():
            if tensor.dim() == 2:
                tensors[name], tensors[name + SCALE] = pack_rows(tensor)
            else:
                tensors[name] = tensor.half()
        write_tensors(folder / WEIGHTS, tensors)
        spoken = self.reader.tokenizer.convert_ids_to_tokens(self.network.spoken.tolist())
        write_json(
            folder / CONFIG,
            {
                "network": config_to_json(self.network.config),
                "reader_sha256": self.reader_sha256,
                "steps": list(self.steps),
                "names": list(self.names),
                "not_english": config_to_json(self.not_english),
                "cannot": config_to_json(self.cannot),
                "spoken": spoken,
            },
        )
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path | None = None, *, reader: Reader | None = None) -> EmbeddedPlanner:
        """Read a planner's folder, None is the shipped one; `reader` is the shipped language model's, if it is at hand.

        Raises CheckpointError where a folder is absent or cut short, and for another reader than it was trained with.
        """
        folder = Path(folder) if folder is not None else shipped_model().parent / SHIPPED_PLANNER
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{folder} holds no planner; python -m kinalign.recipes.planner trains one")
        settings = read_json(folder / CONFIG)
        config = config_from_json(PlannerConfig, settings["network"])
        reader = reader or shipped_reader()
        if (found := sha256_of_reader(reader)) != settings["reader_sha256"]:
            raise CheckpointError(
                f"{folder} was trained with the reader {settings['reader_sha256'][:12]}, this is {found[:12]}; use the "
                "shipped language model, or train the planner again (python -m kinalign.recipes.planner)"
            )
        meaning = MeaningReader(reader, config.shared_layers)
        spoken = torch.tensor(reader.tokenizer.convert_tokens_to_ids(settings["spoken"]))
        network = PlannerNetwork(config, words=meaning.words, spoken=spoken, num_steps=len(settings["steps"]))
        own = _own(network, meaning)
        load_strictly(own, unpack_rows(read_tensors(folder / WEIGHTS)), origin=str(folder / WEIGHTS))
        return EmbeddedPlanner(
            network,
            meaning,
            settings["steps"],
            names=settings["names"],
            not_english=config_from_json(Gate, settings["not_english"]),
            cannot=config_from_json(Gate, settings["cannot"]),
            reader_sha256=settings["reader_sha256"],
        )


def told(request: Request, reader: MeaningReader, first_word: int) -> Told:
    """A request as the network is told it; words of the scene and of tasks can be copied into the answer."""
    uncopied = reader.tokenizer.convert_tokens_to_ids(list(_UNCOPIED))
    vectors, roles, words = [], [], []
    scene = [request.scene.text] if request.scene else []
    texts = [(ROLES.index("scene"), text) for text in scene]
    texts += [(ROLES.index("tasks"), task.text) for task in request.tasks[-MOST_TASKS:]]
    for (role, _), read in zip(texts, reader.read([bare(text) for _, text in texts])):
        is_word = ~torch.isin(read.token_ids, torch.tensor(uncopied))
        vectors.append(read.vectors)
        roles.append(torch.full((len(read.token_ids),), role))
        words.append(torch.where(is_word, read.token_ids + first_word, NOTHING))
    for read in reader.read([bare(step.text) for step in request.steps[-MOST_READ_STEPS:]]):
        vectors.append(read.vectors.mean(0, keepdim=True))
        roles.append(torch.tensor([ROLES.index("steps")]))
        words.append(torch.tensor([NOTHING]))
    return Told(request.kind, torch.cat(vectors), torch.cat(roles), torch.cat(words))


def may_follow(programs: Sequence[EventProgram]) -> tuple[Tensor, Tensor]:
    """Which token (1 + N, 1 + N) may come after which, with END for the beginning: standing up before, or down.

    Nothing is done twice in a row. Who sits or lies down does that last, and begins what comes next by walking off.
    """
    number = 1 + len(programs)
    table = torch.ones(number, number, dtype=torch.bool)
    table[torch.arange(1, number), torch.arange(1, number)] = False
    for place, program in enumerate(programs, start=1):
        if program.events[-1].action in DOWN:
            table[place, 1:] = False
            table[END, place] = False
    table[END, END] = False
    after_down = table.clone()
    after_down[END, 1:] = torch.tensor([program.events[0].action in GOING for program in programs])
    return table, after_down


def joined(pieces: Sequence[str]) -> str:
    """Pieces of words as a text.

    >>> joined(["the", "sea", "##man", "'", "s", "three", "-", "master", ",", "at", "last", "."])
    "the seaman's three-master, at last."
    """
    text = " ".join(pieces).replace(" ##", "")
    return re.sub(r" ?(['-]) ?", r"\1", re.sub(r" ([.,;:!?])", r"\1", text))


def shipped_reader() -> Reader:
    """The reader of the shipped language model."""
    reader = MotionLM.from_pretrained(shipped_model() / "lm").reader
    if reader is None:
        raise CheckpointError(f"{shipped_model()} has no reader, and the planner reads with one (KINALIGN_MODEL)")
    return reader


def sha256_of_reader(reader: Reader) -> str:
    """Of what the planner uses of it, without the last map, which adapters may change."""
    return sha256_of_weights([reader.bert])


def _own(network: PlannerNetwork, reader: MeaningReader) -> nn.ModuleDict:
    """What the planner's folder holds."""
    return nn.ModuleDict({"network": network, "reader": reader.own})


def _texts(request: Request) -> list[str]:
    """Sentences of a request that somebody chose; steps are known to be English."""
    return [*([request.scene.text] if request.scene else []), *(task.text for task in request.tasks)]


def bare(text: str) -> str:
    """Without what a user may leave out."""
    return " ".join(text.split()).rstrip(" .!")
