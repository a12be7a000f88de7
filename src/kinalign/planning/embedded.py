"""The embedded planner: a small language model that knows what the shipped model can do, and works without a network.

It answers all eight planning tasks. Steps are chosen among those of the repertoire, so only plans that can be shown can
be said; tasks and scenes are sentences that it knows, told of whom the request names (sayings.py). What it is asked is
first looked at: a text that is no English and a task that a body cannot show without things, water or wheels are
refused, with the nearest that can be done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kinalign.errors import CheckpointError, PlanError
from kinalign.events.program import EventProgram
from kinalign.lm.model import MotionLM, Sampling, sample
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
from kinalign.planning.persons import person_in, whole_words
from kinalign.planning.plan import MOST_STEPS, Scene, Step, Task
from kinalign.planning.repertoire import NUM_NEAREST, abilities, nearest
from kinalign.planning.sayings import KnownScene, Saying, Sayings, says_again, told_of
from kinalign.planning.tasks import KINDS, Answer, Request
from kinalign.run import (
    SCALE,
    config_from_json,
    config_to_json,
    load_strictly,
    pack_rows,
    read_json,
    read_tensors,
    sha256_of_tensors,
    sha256_of_weights,
    unpack_rows,
    write_json,
    write_tensors,
)

SHIPPED_PLANNER = "planner"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SCENES, TASKS = "sayings.scenes", "sayings.tasks"

MOST_TASKS = 4
"""Of what was done before, the latest tasks that are read."""
MOST_READ_STEPS = 12
"""Of what was done before, the latest steps that are read."""
FEWEST_STEPS = 2
NUM_TASKS, NUM_SCENES = 24, 24
"""Tasks and scenes, each in its wordings, among which an answer is drawn."""
FIT_WEIGHT = 10.0
"""How much likelier a saying is, in nats for a token, that fits perfectly than one that does not fit at all."""
SAYING_SAMPLING = Sampling(temperature=0.5, top_p=0.9)
HABIT_WEIGHT = 1.5
"""How much of what is usual in like tasks is added to the logits of steps."""
STEP_SAMPLING = Sampling(temperature=0.8, top_p=0.9)

_UNCOPIED = ("[CLS]", "[SEP]", "[UNK]", "[PAD]")


@dataclass(frozen=True)
class Gate:
    """A line through what texts or words mean, and on which side of it one is picked out. Learned by the recipe."""

    weight: tuple[float, ...]
    bias: float
    threshold: float
    """Picked out where the score is above."""

    def score(self, meaning: Tensor) -> float:
        """Log-odds that it is to be picked out."""
        return float(meaning @ torch.tensor(self.weight)) + self.bias

    def picks(self, meaning: Tensor) -> bool:
        return self.score(meaning) > self.threshold


@dataclass(frozen=True)
class Gates:
    """What is picked out of requests."""

    not_english: Gate
    """Texts of other languages, or of none."""
    cannot: Gate
    """Tasks that no steps of the repertoire show."""
    person: Gate
    """Words for persons."""


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
        sayings: Sayings,
        gates: Gates,
        reader_sha256: str,
    ) -> None:
        unknown = [step for step in steps if step not in abilities()]
        if unknown:
            raise CheckpointError(
                f"this planner plans {unknown[0]!r}, which the model cannot do any more; train it again "
                "(python -m kinalign.recipes.planner)"
            )
        self.network, self.reader, self.steps, self.sayings = network.eval(), reader, tuple(steps), sayings
        self.gates, self.reader_sha256 = gates, reader_sha256
        own = [*network.state_dict().items(), (SCENES, sayings.of_scenes), (TASKS, sayings.of_tasks)]
        self.name = f"embedded ({sha256_of_tensors(own)[:8]})"
        self._places = torch.tensor([list(abilities()).index(step) for step in self.steps])

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        """The answer to a request, one for each seed.

        Raises PlanError for a text that is no English, for a task that cannot be shown, and where all that could be
        said was done already.
        """
        self._check(request)
        generator = torch.Generator().manual_seed(seed)
        if KINDS[request.kind].gives == "steps":
            return self._steps(request, generator)
        text = self._saying(request, generator)
        return Scene(text) if KINDS[request.kind].gives == "scene" else Task(text)

    def _steps(self, request: Request, generator: torch.Generator) -> tuple[Step, ...]:
        begins: Literal["any", "first", "down"] = "any"
        if request.scene and not (request.tasks or request.steps):
            begins = "first"
        elif request.steps and request.steps[-1].program.events[-1].action in DOWN:
            begins = "down"
        tokens = self.network.steps_after(
            self.told(request),
            generator=generator,
            sampling=STEP_SAMPLING,
            habit=HABIT_WEIGHT * self._habit(request),
            may_follow=may_follow([abilities()[step].program for step in self.steps], begins=begins),
            fewest=FEWEST_STEPS,
            most=MOST_STEPS,
        )
        return tuple(abilities()[self.steps[token - 1]].step for token in tokens)

    def _habit(self, request: Request) -> Tensor:
        """How usual (N,) each step is in tasks, or scenes, like this one."""
        text = request.scene.text if request.scene else request.tasks[0].text
        (read,) = self.reader.read([bare(text)])
        return self.sayings.habit(read.meaning, of_scene=request.scene is not None)[self._places]

    def _saying(self, request: Request, generator: torch.Generator) -> str:
        """A sentence told of the person of the request, drawn by how well it fits and how likely it is."""
        gives_scene = KINDS[request.kind].gives == "scene"
        person = self._person(_texts(request), "a" if gives_scene else "the")
        done = [task.text for task in request.tasks]
        sayings = [
            (told_of(saying.text, person), saying.fits)
            for saying in self._fitting(request)
            if not any(says_again(text, saying.text) for text in done)
        ]
        while sayings:
            place = self._drawn(request, sayings, generator)
            text, _ = sayings.pop(place)
            # what is said next must not be refused when it is to be done
            if gives_scene or not self.cannot_do(text):
                return text
        raise PlanError(f"all that could be said to {request.kind} was done already; tell less of the past")

    def _drawn(self, request: Request, sayings: Sequence[tuple[str, float]], generator: torch.Generator) -> int:
        """The place of one of the sentences."""
        ids = self.reader.tokenizer([text for text, _ in sayings], add_special_tokens=False)["input_ids"]
        answers = [[*(token + self.network.first_word for token in row), END] for row in ids]
        likely = self.network.likelihoods(self.told(request), answers)
        fits = torch.tensor([fits for _, fits in sayings])
        return int(sample((likely + FIT_WEIGHT * fits)[None], SAYING_SAMPLING, torch.rand(1, generator=generator)))

    def _fitting(self, request: Request) -> Iterator[Saying]:
        """What could be said to a request."""
        meanings = [read.meaning for read in self.reader.read([bare(text) for text in _texts(request)])]
        match request.kind:
            case "ct2t" | "cs2t":
                return self.sayings.tasks_in(meanings[0], NUM_TASKS)
            case "s2t":
                return self.sayings.tasks_of(request.steps, NUM_TASKS)
            case "t2c":
                return self.sayings.scenes_of_tasks(torch.stack(meanings), NUM_SCENES)
        return self.sayings.scenes_of_steps(request.steps, NUM_SCENES)

    def _person(self, texts: Sequence[str], article: str) -> str:
        """Whom texts are told of, "the goalkeeper"; a person where nobody is named."""
        for text, read in zip(texts, self.reader.read([bare(text) for text in texts])):
            pieces = self.reader.tokenizer.convert_ids_to_tokens(read.token_ids.tolist())
            words, vectors = whole_words(pieces, read.vectors)
            scores = [max(map(self.gates.person.score, rows)) for rows in vectors]
            if found := person_in(text, words, scores, least=self.gates.person.threshold, article=article):
                return found
        return f"{article} person"

    def told(self, request: Request) -> Told:
        """A request as the network is told it: scene and latest tasks word by word, the latest steps each as one."""
        return told(request, self.reader, self.network.first_word)

    def reads(self, text: str) -> bool:
        """Whether a text is English, as far as the planner can tell."""
        (read,) = self.reader.read([bare(text)])
        return re.search(r"[A-Za-z]{2}", text) is not None and not self.gates.not_english.picks(read.meaning)

    def cannot_do(self, task: str) -> bool:
        """Whether a task is of those that no steps of the repertoire show, as far as the planner can tell."""
        (read,) = self.reader.read([bare(task)])
        return self.gates.cannot.picks(read.doing)

    def _check(self, request: Request) -> None:
        """Raises PlanError for what is to be refused."""
        for text in _texts(request):
            if not self.reads(text):
                raise PlanError(f"{text[:80]!r} does not read as English; say in English who does what, or where")
        if request.kind == "t2s" and self.cannot_do(task := request.tasks[0].text):
            offers = nearest(task) or tuple(abilities().values())[:NUM_NEAREST]
            near = "; ".join(offer.text for offer in offers)
            raise PlanError(f"the model cannot do {task[:80]!r}; the nearest actions that it can: {near}")

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors: matrices in 8 bits a weight, the rest in half precision."""
        folder = Path(folder)
        tensors: dict[str, Tensor] = {}
        own = _own(self.network, self.reader).state_dict()
        own |= {SCENES: self.sayings.of_scenes, TASKS: self.sayings.of_tasks}
        for name, tensor in own.items():
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
                "gates": config_to_json(self.gates),
                "spoken": spoken,
                "sayings": [config_to_json(scene) for scene in self.sayings.scenes],
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
        if absent := {"network", "reader_sha256", "steps", "gates", "spoken", "sayings"} - settings.keys():
            raise CheckpointError(f"{folder / CONFIG} lacks {', '.join(sorted(absent))}; it is no planner of Kinalign")
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
        tensors = unpack_rows(read_tensors(folder / WEIGHTS))
        of_scenes, of_tasks = (tensors.pop(name, torch.zeros(0)) for name in (SCENES, TASKS))
        load_strictly(_own(network, meaning), tensors, origin=str(folder / WEIGHTS))
        scenes = [config_from_json(KnownScene, scene) for scene in settings["sayings"]]
        return EmbeddedPlanner(
            network,
            meaning,
            settings["steps"],
            sayings=Sayings(scenes, of_scenes=of_scenes, of_tasks=of_tasks),
            gates=config_from_json(Gates, settings["gates"]),
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


def may_follow(programs: Sequence[EventProgram], *, begins: Literal["any", "first", "down"] = "any") -> Tensor:
    """Which token (1 + N, 1 + N) may come after which, with END for the beginning.

    Nothing is done twice in a row. Who sits or lies down does that last, and not as the first thing of all; who is down
    begins what comes next by walking off.
    """
    rests = torch.tensor([program.events[-1].action in DOWN for program in programs])
    number = 1 + len(programs)
    table = ~torch.eye(number, dtype=torch.bool)
    table[1:, 1:] &= ~rests[:, None]
    table[END, 1:] = ~rests
    if begins == "first":
        table[:, 1:] &= ~rests
    if begins == "down":
        table[END, 1:] = torch.tensor([program.events[0].action in GOING for program in programs])
    return table


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
