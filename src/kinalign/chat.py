"""A conversation in the terminal about motions: make one, read one in, ask what happens in it, go on from it.

Motions are numbered as they come and named #1, #2; "it" is the last. What is said goes to the model as it is, with the
motion that it names: whether the answer is words or a motion the model says itself, and a motion goes on from the one
that is named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kinalign.errors import KinalignError, PromptError
from kinalign.lm.instructions import Instruction
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion, checked_prompt
from kinalign.render.player import write_player

HELP = """Say what you want to see:        a person waves with both hands for 3 seconds
Ask about a motion:              what happens in #1? how long is it?
Go on from a motion:             continue #1 for 2 seconds
From one motion to another:      from #1 to #2 in 1.5 seconds
load FILE   save #1 FILE   show #1   list   help   quit
FILE is bvh, npy or npz, and for save glb, png or html too."""

_NAME = re.compile(r"#(\d+)")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?) ?(?:s|secs?|seconds?)\b")
_IT = re.compile(r"\b(?:this|that|the|last) (?:motion|one)\b|^\w+ it\b|\bit\b[^?]*\?")
"""The last motion, where it is spoken of: "continue it", "how long is it?"; not "a man lifts a box and drops it"."""
GAP_S = 1.0
"""Time from one motion to another where none is said."""


@dataclass
class Conversation:
    """What has been said so far: the motions, which `reply` adds to."""

    model: TextToMotion
    seed: int = 0
    motions: list[Motion] = field(default_factory=list)

    def reply(self, line: str) -> str:
        """The answer to a line; raises KinalignError for what cannot be done, and the conversation stays as it was."""
        words = line.split()
        if not words:
            return ""
        command, arguments = words[0].lower(), words[1:]
        if line.strip().lower() in ("help", "?"):
            return HELP
        if line.strip().lower() == "list":
            return "\n".join(self._line(number) for number in range(1, len(self.motions) + 1)) or "no motion yet"
        if command == "load" and arguments:
            return self._add(Motion.load(" ".join(arguments)))
        if command in ("save", "show") and arguments and _NAME.fullmatch(arguments[0]):
            return self._save(arguments)
        return self._answer(line.strip())

    def _answer(self, line: str) -> str:
        named = [self._motion(int(number)) for number in _NAME.findall(line)]
        if not named and self.motions and _IT.search(line.lower()):
            named = [self.motions[-1]]
        found = _SECONDS.search(line)
        seconds = float(found[1]) if found else None
        if len(named) == 2:
            head, tail = named
            return self._add(self.model.inbetween(head, tail, seconds=seconds or GAP_S, seed=self.seed)[0])
        if len(named) > 2:
            raise PromptError(f"{len(named)} motions in one sentence; name one, or two to go from one to the other")
        text = checked_prompt(_NAME.sub("this motion", line))
        # of a motion too long to read its end says as much of what is wanted
        ends = [motion[-round(self.model.max_length_s * motion.fps) :] for motion in named]
        if self.model.lm.gives(self._asked(text, ends)) == "text":
            return self.model.say(self._asked(text, named), seed=self.seed)
        if named:
            return self._add(self.model.predict(named[0], seconds=seconds, seed=self.seed)[0])
        return self._add(self.model(text, seed=self.seed)[0])

    def _asked(self, text: str, named: Sequence[Motion]) -> Instruction:
        return Instruction(text, tuple(self.model.codes(named[0])) if named else ())

    def _motion(self, number: int) -> Motion:
        if not 1 <= number <= len(self.motions):
            raise PromptError(f"there is no #{number}; there are {len(self.motions)} motions (list)")
        return self.motions[number - 1]

    def _add(self, motion: Motion) -> str:
        self.motions.append(motion)
        return self._line(len(self.motions))

    def _line(self, number: int) -> str:
        motion = self.motions[number - 1]
        return f"#{number}  {motion.duration_s:.1f} s  {motion.caption}".rstrip()

    def _save(self, arguments: list[str]) -> str:
        motion = self._motion(int(arguments[0][1:]))
        path = Path(" ".join(arguments[1:]) or f"motion-{arguments[0][1:]}.html")
        return str(write_player([motion], path) if path.suffix == ".html" else motion.save(path))


@dataclass(frozen=True)
class Chat:
    """Talk about motions in the terminal."""

    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


def chat(config: Chat) -> None:
    """Read lines until quit or the end of the input, and answer each; what cannot be done is said and not fatal."""
    torch.set_num_threads(config.threads)
    conversation = Conversation(TextToMotion.from_pretrained(config.model), config.seed)
    is_typed = sys.stdin.isatty()
    if is_typed:
        print(f"motions of up to {conversation.model.max_length_s} s; help says what can be said, quit ends")
    while True:
        try:
            line = input("> " if is_typed else "")
        except EOFError:
            return
        if line.strip().lower() in ("quit", "exit", "bye"):
            return
        try:
            answer = conversation.reply(line)
        except KinalignError as error:
            answer = f"cannot do that: {error}"
        if answer:
            print(answer)
