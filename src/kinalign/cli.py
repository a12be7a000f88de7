"""The command line: `kinalign COMMAND [OPTIONS]`. A command is one function that takes one frozen dataclass.

Only the chosen command is imported, so that help is there at once. Options come from the dataclass, by tyro.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from kinalign import __version__
from kinalign.errors import KinalignError

if TYPE_CHECKING:
    from tyro.constructors import PrimitiveConstructorSpec, PrimitiveTypeInfo


class Command(NamedTuple):
    function: str
    """Where it lives, as module:function; the annotation of its only parameter says which options there are."""
    does: str


COMMANDS = {
    "generate": Command("kinalign.commands:generate", "Turn sentences into motions, as video, animation and page"),
    "caption": Command("kinalign.commands:caption", "Say what happens in a motion"),
    "predict": Command("kinalign.commands:predict", "Continue a motion"),
    "inbetween": Command("kinalign.commands:inbetween", "Fill a gap in a motion, or between two"),
    "chat": Command("kinalign.chat:chat", "Talk about motions in the terminal"),
    "compose": Command(
        "kinalign.planning.compose_command:compose_command", "Make a long motion from a scene, a plan or a timeline"
    ),
    "plan": Command(
        "kinalign.planning.plan_command:plan_command", "Plan tasks and steps in a scene, or read them back"
    ),
    "loop": Command(
        "kinalign.planning.loop_command:loop", "Plan, move, look at it and go on: from a scene, or on from a motion"
    ),
    "understand": Command(
        "kinalign.planning.understand:understand", "Say what happens in a long motion, when, what for and where"
    ),
    "annotate-video": Command(
        "kinalign.planning.video:annotate_video", "Write captions of films and motions, by a model that sees pictures"
    ),
    "evaluate": Command("kinalign.evaluation.commands:evaluate_command", "Measure a model, or compare two reports"),
    "judge score": Command("kinalign.judge.asking:score", "Say how far motions show what a prompt says, and when"),
    "judge agreement": Command("kinalign.judge.asking:agree", "Say how far two judges agree"),
    "judge label": Command(
        "kinalign.judge.human.commands:label", "Ask people which motion is better, or to score motions"
    ),
    "events bench": Command(
        "kinalign.evaluation.eventbench_command:events_bench", "Measure how right a judge of events is"
    ),
    "data build": Command(
        "kinalign.data.build:build", "Make a data set from BVH, AMASS or npy folders, or openmocap20"
    ),
    "data stats": Command("kinalign.data.stats:stats", "Print and plot what is inside a data set"),
    "tokenizer train": Command("kinalign.tokenizer.commands:train", "Train a motion tokenizer"),
    "tokenizer encode": Command("kinalign.tokenizer.commands:encode", "Turn motions into codes"),
    "tokenizer decode": Command("kinalign.tokenizer.commands:decode", "Turn codes into motions"),
    "tokenizer evaluate": Command("kinalign.tokenizer.commands:evaluate", "Measure what coding loses, by source"),
    "tokenizer sheet": Command("kinalign.tokenizer.commands:sheet", "Draw every code of the codebook"),
    "tokenizer convert": Command("kinalign.tokenizer.commands:convert", "Convert MotionGPT's tokenizer alone, or back"),
    "lm train": Command("kinalign.commands:train_language_model", "Train a language model to speak motion"),
    "prefer build": Command(
        "kinalign.preference.build:prefer_build", "Make preference pairs: prompts, motions, verdicts"
    ),
    "prefer view": Command("kinalign.preference.view:prefer_view", "Make a page to leaf through preference pairs"),
    "align sft": Command(
        "kinalign.alignment.sft:align_sft", "Show a model motions composed of real clips, in which all events happen"
    ),
    "align preference": Command(
        "kinalign.alignment.preference:align_preference", "Teach a model which motions are better: IPO, DPO, SLiC, KTO"
    ),
    "align rounds": Command(
        "kinalign.alignment.rounds:align_rounds",
        "Draw, judge and align in rounds, each from where the last one ended",
    ),
    "align reward": Command("kinalign.alignment.reward_model:align_reward", "Teach a network how good a motion is"),
    "align ppo": Command(
        "kinalign.alignment.ppo:align_ppo", "Teach a model what a judge or a reward model likes, by PPO"
    ),
    "align grpo": Command("kinalign.alignment.grpo:align_grpo", "Teach a model what a judge likes, by GRPO or RLOO"),
    "convert motiongpt": Command(
        "kinalign.convert:from_motiongpt", "Convert published MotionGPT weights, and AToM's, to a model folder"
    ),
    "convert to-motiongpt": Command("kinalign.convert:to_motiongpt", "Convert a model folder to MotionGPT's layout"),
}

HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for what the user can mend, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("kinalign: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of `kinalign data stats | head` has seen enough
        # so that the interpreter does not stumble over it again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (KinalignError, OSError) as error:
        if os.environ.get("KINALIGN_DEBUG"):
            raise
        print(f"kinalign: error: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        print(f"kinalign {__version__}")
        return
    num_words = next((n for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), 0)
    if num_words:
        name = " ".join(arguments[:num_words])
        _call(name, arguments[num_words:])
        return
    words = [word for word in arguments if word not in HELP]
    group = {name: command for name, command in COMMANDS.items() if name.split()[: len(words)] == words}
    if not group:
        raise KinalignError(_unknown(arguments))
    _print_commands(group)


def _call(name: str, arguments: list[str]) -> None:
    """Import the command, read its options and run it."""
    import tyro

    module, function_name = COMMANDS[name].function.split(":")
    function = getattr(importlib.import_module(module), function_name)
    registry = tyro.constructors.ConstructorRegistry()
    registry.primitive_rule(_choices_with_commas)
    with registry:
        config = tyro.cli(
            config_class(function), prog=f"kinalign {name}", description=inspect.getdoc(function), args=arguments
        )
    function(config)


def _choices_with_commas(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Several choices are one word, `--formats mp4,gif`, so that they do not swallow the words after them."""
    from tyro.constructors import PrimitiveConstructorSpec

    arguments = get_args(info.type)
    if get_origin(info.type) is not tuple or len(arguments) != 2 or get_origin(arguments[0]) is not Literal:
        return None
    known = get_args(arguments[0])

    def parse(words: list[str]) -> tuple[str, ...]:
        chosen = tuple(word for word in words[0].split(",") if word)
        unknown = [word for word in chosen if word not in known]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is unknown; choose from {','.join(known)}")
        return chosen

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=",".join(known),
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple) and all(word in known for word in value),
        str_from_instance=lambda value: [",".join(value)],
    )


def config_class(function: Any) -> type[Any]:
    """The dataclass that a command takes: the annotation of its only parameter."""
    (parameter,) = inspect.signature(function).parameters
    kind: type[Any] = get_type_hints(function)[parameter]
    return kind


def _print_commands(commands: dict[str, Command]) -> None:
    print(
        "usage: kinalign COMMAND [OPTIONS]\n\nFrom a sentence to 3-D human motion in which the named events happen.\n"
    )
    width = max(map(len, commands))
    for name, command in commands.items():
        print(f"  {name:{width}}  {command.does}")
    print("\nOptions of a command: kinalign COMMAND --help.  Version: kinalign --version.")


def _unknown(arguments: list[str]) -> str:
    """`kinalign data biuld` is told about `data build`; `kinalign walk` about `generate`."""
    groups = {name.split()[0] for name in COMMANDS}
    asked = " ".join(arguments[: 2 if arguments[0] in groups else 1])
    close = difflib.get_close_matches(asked, [*COMMANDS, *groups], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown command {asked!r}; {hint}kinalign --help lists what there is"


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
