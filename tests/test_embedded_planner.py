"""The embedded planner: only plans that can be shown, one answer for a seed, whom it speaks of, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from kinalign.cli import main
from kinalign.errors import CheckpointError, PlanError
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.lm.text import plain_tokenizer
from kinalign.planning.consistency import DOWN, GOING
from kinalign.planning.corpus import WrittenScene, load_scenes
from kinalign.planning.embedded import EmbeddedPlanner, Gate, Gates, may_follow, sha256_of_reader
from kinalign.planning.network import END, MeaningReader, PlannerConfig, PlannerNetwork
from kinalign.planning.persons import person_in
from kinalign.planning.plan import Plan, Scene, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.sayings import says_again, told_of
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, PlanningTask, Request
from kinalign.recipes.planner import School, casts_of, gate, lesson, names_of, persons, sayings
from kinalign.run import read_json, write_json
from kinalign.training import Draw

READER = ReaderConfig(width=24, feed_forward_width=32, layers=3, heads=2, max_tokens=64)
CONFIG = PlannerConfig(
    width=32, feed_forward_width=48, encoder_layers=1, decoder_layers=1, heads=2, dropout=0.0, shared_layers=1
)
OPEN = Gate(weight=(0.0,) * READER.width, bias=0.0, threshold=1.0)
CLOSED = replace(OPEN, threshold=-1.0)
STEPS = tuple(abilities())
SCENES = [
    WrittenScene.from_json(
        {
            "scene": ["A keeper warms up.", "A goalie gets ready.", "A guard prepares."],
            "tasks": [
                {
                    "task": ["The keeper runs.", "The goalie jogs.", "The guard trots."],
                    "steps": [["runs", "jumps"], ["runs forward", "hops"]],
                },
                {
                    "task": ["The keeper greets.", "The goalie waves.", "The guard salutes."],
                    "steps": [["waves with both hands", "bows"], ["turns left", "raises the right hand"]],
                },
                {
                    "task": ["The keeper rests.", "He takes a break.", "The guard sits."],
                    "steps": [["walks slowly", "sits down"], ["walks tiredly", "lies down"]],
                },
            ],
        }
    )
]


@cache
def reader() -> Reader:
    words = {word.strip(".").lower() for scene in SCENES for text in _texts(scene) for word in text.split()}
    torch.manual_seed(1)
    return Reader(READER, plain_tokenizer(words | {"falconer", "welder"}), width=8).eval()


def _texts(scene: WrittenScene) -> list[str]:
    return [*scene.wordings, *(text for task in scene.tasks for text in task.wordings)]


def planner_of(*, not_english: Gate = OPEN, cannot: Gate = OPEN, person: Gate = OPEN) -> EmbeddedPlanner:
    """Random weights: it has learned nothing, so that what holds of its answers holds by construction."""
    torch.manual_seed(0)
    meaning = MeaningReader(reader(), CONFIG.shared_layers)
    words = sorted({token for scene in SCENES for text in _texts(scene) for token in _ids(meaning, text)})
    network = PlannerNetwork(CONFIG, words=meaning.words, spoken=torch.tensor(words), num_steps=len(STEPS))
    return EmbeddedPlanner(
        network,
        meaning,
        STEPS,
        sayings=sayings(SCENES, meaning, OPEN),
        gates=Gates(not_english, cannot, person),
        reader_sha256=sha256_of_reader(reader()),
    )


def _ids(meaning: MeaningReader, text: str) -> list[int]:
    ids: list[int] = meaning.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def request_of(kind: PlanningTask, *, scene: str = "A keeper warms up.") -> Request:
    needs = KINDS[kind].needs
    return Request(
        kind,
        Scene(scene) if "scene" in needs else None,
        (Task("The keeper runs."),) if "tasks" in needs else (),
        (abilities()["runs"].step,) if "steps" in needs else (),
    )


def test_steps_are_known_never_twice_in_a_row_and_rest_comes_last() -> None:
    planner = planner_of()
    known = {able.step for able in abilities().values()}
    lengths = set()
    for seed in range(30):
        for kind in ("cs2s", "ct2s", "t2s"):
            steps = planner(request_of(kind), seed=seed)
            assert isinstance(steps, tuple)
            lengths.add(len(steps))
            assert known.issuperset(steps)
            assert all(one.text != other.text for one, other in pairwise(steps))
            assert not any(step.program.events[-1].action in DOWN for step in steps[:-1])
    assert lengths == {2, 3, 4, 5}


@pytest.mark.parametrize("rest", ["sits down", "lies down"])
def test_who_rests_begins_what_comes_next_by_walking_off(rest: str) -> None:
    planner = planner_of()
    request = Request("cs2s", Scene("A keeper warms up."), steps=(abilities()[rest].step,))
    first = [planner(request, seed=seed)[0].program.events[0].action for seed in range(40)]  # type: ignore[index]
    assert set(first) <= set(GOING)
    assert len(set(first)) > 1


def test_one_seed_gives_one_answer_and_other_seeds_give_others() -> None:
    planner, again = planner_of(), planner_of()
    answers = [planner(request_of("t2s"), seed=seed) for seed in range(12)]
    assert [again(request_of("t2s"), seed=seed) for seed in range(12)] == answers
    assert len(set(answers)) > 8


def test_an_answer_does_not_depend_on_what_was_asked_before() -> None:
    planner = planner_of()
    first = planner(request_of("ct2s"), seed=3)
    planner(request_of("cs2s"), seed=5)
    assert planner(request_of("ct2s"), seed=3) == first


def tokens_of(planner: EmbeddedPlanner, text: str) -> list[int]:
    return [*(planner.network.first_word + token for token in _ids(planner.reader, text)), END]


def test_a_word_that_no_scene_held_can_be_said_where_the_request_holds_it() -> None:
    planner = planner_of()
    assert not set(_ids(planner.reader, "falconer welder")) & set(planner.network.spoken.tolist())
    asked = planner.told(request_of("ct2t", scene="A falconer warms up."))
    answers = [tokens_of(planner, f"The {person} runs.") for person in ("falconer", "welder")]
    falconer, welder = planner.network.likelihoods(asked, answers).tolist()
    assert falconer > welder + 1


def test_the_loss_is_the_mean_of_what_answers_are_drawn_by() -> None:
    planner = planner_of()
    network = planner.network
    asked = [planner.told(request_of("ct2t")), planner.told(request_of("t2s"))]
    said = [tokens_of(planner, "The keeper rests."), [3, 7, END]]
    loss, number = network.loss(asked, said)
    text = network.likelihoods(asked[0], said[:1])[0] * len(said[0])
    states, is_place, _ = network.encode(asked[1:])
    hidden = network.decode(asked[1:], states, is_place, torch.tensor([said[1][:-1]]))
    steps = network.step_logits(hidden).log_softmax(-1)[0].gather(-1, torch.tensor(said[1])[:, None]).sum()
    assert number == sum(map(len, said))
    assert torch.allclose(loss, -(text + steps) / number, atol=1e-4)


def test_how_likely_an_answer_is_does_not_depend_on_those_beside_it() -> None:
    planner = planner_of()
    asked = planner.told(request_of("ct2t"))
    answers = [tokens_of(planner, text) for text in ("The keeper runs.", "The guard gets ready and takes a break.")]
    together = planner.network.likelihoods(asked, answers)
    alone = torch.cat([planner.network.likelihoods(asked, [answer]) for answer in answers])
    assert torch.allclose(together, alone, atol=1e-4)


# --- what it says -------------------------------------------------------------------------------------------------


def test_a_task_fits_its_own_scene_and_its_own_steps_best() -> None:
    known = planner_of().sayings
    for place, task in enumerate(known.tasks):
        steps = [abilities()[step].step for step in task.steps]
        assert next(known.tasks_of(steps, 1)).text == task.says[0]
        habit = known.habit(known.of_tasks[place])
        usual = {step for step, more in zip(STEPS, habit) if more > 0}
        assert usual
        assert usual <= {step for other in known.tasks for step in other.steps}


def test_what_was_done_is_not_said_again_and_what_can_be_said_comes_to_an_end() -> None:
    planner = planner_of()
    tasks: list[Task] = []
    with pytest.raises(PlanError, match="was done already"):
        for seed in range(20):
            task = planner(Request("ct2t", Scene("A keeper warms up."), tuple(tasks)), seed=seed)
            assert isinstance(task, Task)
            assert task.text not in {done.text for done in tasks}
            tasks.append(task)
    assert len(tasks) == sum(len(task.says) for task in planner.sayings.tasks)


def test_a_saying_is_told_of_whom_the_request_names() -> None:
    words = reader().tokenizer.convert_ids_to_tokens(list(range(len(reader().tokenizer))))
    assert {"keeper", "falconer"} <= set(words)
    assert told_of("{} rests at {}.", "the falconer") == "The falconer rests at {}."
    assert says_again("the welder rests on the bench", "{} rests on the bench.")
    assert not says_again("the welder rests", "{} rests on the bench.")
    # of nobody that a gate picks out
    answer = planner_of()(request_of("ct2t", scene="42 gets ready."))
    assert isinstance(answer, Task)
    assert answer.text.startswith("The person ")


@pytest.mark.parametrize(
    ("text", "scores", "article", "person"),
    [
        ("a lighthouse keeper at dawn", (-1, 0.7, 2.7, -1, -1), "the", "the lighthouse keeper"),
        ("In the empty goal a keeper yawns", (-1, -1, -1, 0.5, -1, 1.9, -1), "a", "a keeper"),
        ("an old actor rehearses", (-1, -1, 1, -1), "a", "an actor"),
        ("Anna dances", (1.7, -1), "the", "Anna"),
        ("Older pupils rehearse", (1.5, 1.6, -1), "the", "one of the older pupils"),
        ("Pupils show inventions", (1.4, -1, 1.5), "the", "one of the pupils"),
        ("A yoga group stretches", (-1, 1, 0.9, -1), "the", "the yoga group"),
        ("his Majesty yawns", (0.3, 1, -1), "the", "the Majesty"),
        ("the sea is calm", (-1, 0.3, -1, -1), "the", ""),
        ("children in the snow", (1, -1, -1, -1), "the", "one of the children"),
        ("the boss rests", (-1, 1, -1), "the", "the boss"),
        ("they run", (2, -1), "the", "the person"),
        ("at the airport", (-1, -1, -1), "the", ""),
        ("", (), "the", ""),
    ],
)
def test_whom_a_text_speaks_of(text: str, scores: tuple[float, ...], article: str, person: str) -> None:
    assert person_in(text, text.lower().split(), scores, least=0.4, article=article) == person


def test_what_is_read_does_not_depend_on_what_is_read_beside_it() -> None:
    planner = planner_of()
    alone = MeaningReader(reader(), CONFIG.shared_layers)
    alone.load_state_dict(planner.reader.state_dict())
    beside = planner.reader.read(["The keeper runs", "A keeper warms up and gets ready and takes a break"])[0]
    assert torch.allclose(alone.read(["The keeper runs"])[0].vectors, beside.vectors, atol=1e-5)


def test_only_the_own_layers_differ_from_the_language_model_s_reader() -> None:
    meaning = planner_of().reader
    shared = reader().bert.state_dict()
    same = {name for name, weight in meaning.bert.state_dict().items() if torch.equal(weight, shared[name])}
    own = {name for name in shared if name not in same}
    assert own
    assert all(name.startswith(("encoder.layer.1.", "encoder.layer.2.")) for name in own)
    assert not any(weight.requires_grad for weight in meaning.parameters())


def test_a_planner_comes_back_from_its_folder(tmp_path: Path) -> None:
    planner_of().save_pretrained(tmp_path / "a")
    once = EmbeddedPlanner.from_pretrained(tmp_path / "a", reader=reader())
    once.save_pretrained(tmp_path / "b")
    twice = EmbeddedPlanner.from_pretrained(tmp_path / "b", reader=reader())
    for kind in ("cs2s", "ct2s", "t2s"):
        assert [once(request_of(kind), seed=seed) for seed in range(5)] == [
            twice(request_of(kind), seed=seed) for seed in range(5)
        ]
    assert (tmp_path / "a" / "config.json").read_text() == (tmp_path / "b" / "config.json").read_text()


def test_a_folder_is_refused_where_it_is_absent_cut_short_or_of_another_reader(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no planner"):
        EmbeddedPlanner.from_pretrained(tmp_path / "nowhere", reader=reader())
    folder = planner_of().save_pretrained(tmp_path / "planner")
    torch.manual_seed(2)
    other = Reader(READER, reader().tokenizer, width=8)
    with pytest.raises(CheckpointError, match="was trained with the reader"):
        EmbeddedPlanner.from_pretrained(folder, reader=other)
    settings = read_json(folder / "config.json")
    write_json(folder / "config.json", {**settings, "steps": [*settings["steps"][1:], "flies away"]})
    with pytest.raises(CheckpointError, match="'flies away'"):
        EmbeddedPlanner.from_pretrained(folder, reader=reader())
    write_json(folder / "config.json", settings)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        EmbeddedPlanner.from_pretrained(folder, reader=reader())


def test_what_is_no_english_is_refused_before_anything_else() -> None:
    with pytest.raises(PlanError, match="does not read as English"):
        planner_of(not_english=CLOSED)(request_of("ct2s"))
    with pytest.raises(PlanError, match="does not read as English"):
        planner_of()(request_of("ct2s", scene="42 ..."))


def test_a_task_that_cannot_be_shown_is_refused_with_the_nearest_that_can() -> None:
    planner = planner_of(cannot=CLOSED)
    with pytest.raises(PlanError, match=r"cannot do 'She plays the violin'; the nearest .*: \w+"):
        planner(Request("t2s", tasks=(Task("She plays the violin"),)))
    assert planner(request_of("ct2s"))  # only what it is asked to break into steps


@pytest.mark.parametrize("begins", ["any", "first", "down"])
def test_what_may_follow_leaves_a_way_to_go_on_after_every_step(begins: Literal["any", "first", "down"]) -> None:
    table = may_follow([able.program for able in abilities().values()], begins=begins)
    assert table.any(-1).all()
    assert not table.diagonal().any()
    assert table[1:, END].all()


def test_nobody_rests_before_anything_is_done() -> None:
    planner = planner_of()
    for seed in range(40):
        steps = planner(Request("ct2s", Scene("A keeper warms up.")), seed=seed)
        assert isinstance(steps, tuple)
        assert not any(step.program.events[-1].action in DOWN for step in steps)


# --- how it is trained --------------------------------------------------------------------------------------------


def test_a_scene_told_of_somebody_else_is_told_of_nobody_else() -> None:
    casts = list(casts_of(SCENES[0], ["welder", "falconer"], np.random.default_rng(0)))
    told_of_whom = {cast.person for cast in casts}
    assert {"keeper", "goalie", "guard"} < told_of_whom <= {"keeper", "goalie", "guard", "welder", "falconer"}
    for cast in casts:
        assert cast.scene.startswith(f"A {cast.person} ")
        assert all(text.startswith(f"The {cast.person} ") for task in cast.tasks for text in task)


def test_every_lesson_is_a_request_that_can_be_made_and_answers_what_was_asked() -> None:
    corpus = load_scenes("train")[::8]
    rng = np.random.default_rng(0)
    casts = [cast for scene in corpus for cast in casts_of(scene, persons(corpus), rng)]
    assert sum(bool(names_of(scene)) for scene in corpus) > len(corpus) / 2
    for cast in casts:
        for kind in PLANNING_TASKS:
            request, answer = lesson(cast, kind, rng)
            assert request.kind == kind
            assert isinstance(answer, tuple) == (KINDS[kind].gives == "steps")
            if kind == "ct2t":
                assert answer not in {task.text for task in request.tasks}
            if kind == "s2t" and cast.person:
                assert cast.person not in str(answer).split()[:3] or str(answer).startswith("The person")


@pytest.fixture(scope="module")
def school() -> School:
    planner = planner_of()
    casts = [cast for scene in SCENES for cast in casts_of(scene, ["welder"], np.random.default_rng(0))]
    return School(casts, planner.reader, planner.network.train(), STEPS)


def test_a_batch_depends_on_nothing_but_its_draw(school: School) -> None:
    def loss() -> float:
        return school.terms(Draw(np.random.default_rng(7), torch.Generator(), 0))["loss"].item()

    first = loss()
    school.terms(Draw(np.random.default_rng(8), torch.Generator(), 1))
    assert loss() == first


def test_lessons_are_learned(school: School) -> None:
    optimizer = torch.optim.Adam(school.network.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    losses = []
    for step in range(25):
        optimizer.zero_grad()
        loss = school.terms(Draw(rng, torch.Generator(), step))["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.8


def test_a_gate_refuses_as_many_as_it_was_told_and_most_of_what_it_should() -> None:
    rng = torch.Generator().manual_seed(0)
    taken, refused = torch.randn(400, 6, generator=rng), torch.randn(100, 6, generator=rng)
    refused[:, 2] += 3.0
    found = gate(taken, refused, [n // 4 for n in range(400)], most_false=0.05)
    falsely = sum(found.picks(row) for row in taken) / 400
    assert 0.02 < falsely < 0.08
    assert sum(found.picks(row) for row in refused) > 80


# --- the shipped planner ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> EmbeddedPlanner:
    return EmbeddedPlanner.from_pretrained()


@pytest.mark.parametrize("person", ["goalkeeper", "man", "beekeeper", "falconer"])
def test_the_shipped_planner_says_what_that_person_does_next(shipped: EmbeddedPlanner, person: str) -> None:
    said = [shipped(Request("ct2t", Scene(f"a {person} warms up before a match")), seed=seed) for seed in range(6)]
    texts = [answer.text for answer in said if isinstance(answer, Task)]
    assert len(texts) == len(said)
    assert len(set(texts)) > 3
    assert sum(person in text.lower() for text in texts) >= 5


@pytest.mark.parametrize("kind", PLANNING_TASKS)
def test_the_shipped_planner_answers_every_planning_task(shipped: EmbeddedPlanner, kind: PlanningTask) -> None:
    scene = next(scene for scene in load_scenes("test") if len(scene.tasks) > 3)
    needs = KINDS[kind].needs
    request = Request(
        kind,
        Scene(scene.wordings[0]) if "scene" in needs else None,
        (Task(scene.tasks[0].wordings[0]),) if "tasks" in needs else (),
        scene.tasks[0].ways[0] if "steps" in needs else (),
    )
    answer = shipped(request, seed=1)
    assert isinstance(answer, {"scene": Scene, "task": Task, "steps": tuple}[KINDS[kind].gives])
    assert shipped(request, seed=1) == answer


@pytest.mark.parametrize(
    "scene", ["Ein Torwart wärmt sich auf.", "Une femme danse dans la rue", "公園で踊る", "12345 67"]
)
def test_the_shipped_planner_refuses_a_scene_of_another_language(shipped: EmbeddedPlanner, scene: str) -> None:
    with pytest.raises(PlanError, match="does not read as English"):
        shipped(Request("ct2t", Scene(scene)))


def test_the_shipped_planner_tells_what_it_cannot_do_from_what_it_can(shipped: EmbeddedPlanner) -> None:
    for task in ("she plays the violin", "he swims across the lake"):
        with pytest.raises(PlanError, match="the nearest actions that it can"):
            shipped(Request("t2s", tasks=(Task(task),)))
    assert shipped(Request("t2s", tasks=(Task("she greets the crowd"),)))


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def ran(
    shipped: EmbeddedPlanner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a command prints; the planner is read once for all of them."""
    monkeypatch.setattr(EmbeddedPlanner, "from_pretrained", lambda: shipped)

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["plan", *arguments]) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return run


def test_a_scene_becomes_a_plan_that_can_be_read_back(ran: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    printed = ran("--scene", "a goalkeeper warms up", "--tasks", "3", "--out", str(out))
    plan = Plan.from_json(read_json(out))
    assert plan.scene == Scene("a goalkeeper warms up")
    assert len(plan.tasks) == 3
    assert all(task.text in printed for task in plan.tasks)
    assert all(f"- {step.text}" in printed for step in plan.steps)
    assert len({task.text for task in plan.tasks}) == 3
    again = ran("--scene", "a goalkeeper warms up", "--tasks", "3")
    assert printed.startswith(again.rstrip())
    assert ran("--scene", "a goalkeeper warms up", "--tasks", "3", "--seed", "1") != again


def test_a_task_alone_becomes_steps_and_steps_alone_a_task(ran: Callable[..., str]) -> None:
    assert ran("--task", "the goalkeeper loosens the legs").count("   - A person") >= 2
    printed = ran("--steps", "a man squats", "--steps", "he does jumping jacks")
    assert "1. " in printed
    assert "   - he does jumping jacks" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "none given"),
        (("--scene", "a park", "--task", "he runs"), "scene and task given"),
        (("--scene", "a park", "--tasks", "0"), "give 1 or more"),
        (("--scene", "   "), "a scene is a text that says something"),
        (("--scene", "Ein Mann geht in den Park."), "does not read as English"),
        (("--task", "she plays the violin"), "the nearest actions"),
        (("--scene", "a park", "--planner", "nobody"), "planner 'nobody' is unknown"),
    ],
)
def test_a_plan_that_cannot_be_is_one_clear_error(
    ran: Callable[..., str], arguments: tuple[str, ...], says: str
) -> None:
    printed = ran(*arguments, code=2)
    assert says in printed
    assert printed.count("\n") == 1
