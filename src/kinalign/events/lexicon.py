"""What English words mean for events: lexicon.json, ready for looking up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kinalign.english import inflect, participle

LEXICON = Path(__file__).with_name("lexicon.json")
KINDS = {"arms": ("hand", "arm", "elbow", "finger"), "legs": ("leg", "foot", "knee")}
"""Parts of the body that do the same things."""
PARTICLES = frozenset(
    "up down out off over back away around again together still apart along there here also then too well through in "
    "on to first together_now repeatedly once twice thrice alternately straight itself himself herself themselves "
    "themself each slightly very".split()
)
"""Small words that are never the object of a verb."""


@dataclass(frozen=True)
class Rule:
    """What a verb means when all that is asked for here is said with it."""

    action: str = ""
    direction: str = ""
    words: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    posture: str = ""
    things: bool = False


class Lexicon:
    """lexicon.json, ready for looking up."""

    def __init__(self, data: dict[str, Any]) -> None:
        words: Callable[[str], frozenset[str]] = lambda key: frozenset(data[key].split())  # noqa: E731
        self.typos: dict[str, list[str]] = {typo: right.split() for typo, right in data["typos"].items()}
        self.merges: dict[str, list[tuple[list[str], list[str]]]] = {}
        for phrase, merged in sorted(data["merges"].items(), key=lambda item: -len(item[0].split())):
            self.merges.setdefault(phrase.split()[0], []).append((phrase.split(), merged.split()))
        self.numbers: dict[str, int] = data["numbers"]
        self.times: dict[str, int] = data["times"]
        self.counted = words("counted")
        self.parts = {word: part for part, said in data["parts"].items() for word in said.split()}
        self.plural = words("plural")
        self.directions = {word: name for name, said in data["directions"].items() for word in said.split()}
        self.curves = words("curves")
        self.specific: list[str] = data["specific"].split()
        self.subjects = words("subjects")
        self.determiners = words("determiners")
        self.adjectives = words("adjectives")
        self.prepositions = words("prepositions")
        self.motions = words("motions") | words("states")
        self.styles = words("styles")
        self.no_styles = words("no_styles")
        self.auxiliaries = words("auxiliaries")
        self.helpers = frozenset(data["helpers"])
        self.nouns = {word: action for action, said in data["nouns"].items() for word in said.split()}
        self.implied: dict[str, str] = {word: said["direction"] for word, said in data["implied"].items()}
        self.undone: dict[str, dict[str, str]] = data["undone"]
        self.legs_of = words("legs_of")
        self.arms_of = words("arms_of")
        self.targeted = words("targeted")
        self.postures = {
            group: [(frozenset(entry["words"].split()), entry) for entry in entries]
            for group, entries in data["postures"].items()
        }
        self.posture_words = frozenset(word for group in self.postures.values() for said, _ in group for word in said)
        self.rules: dict[str, list[Rule]] = {
            verb: _rules_of(rules) for verb, rules in (data["helpers"] | data["verbs"]).items()
        }
        for action, verbs in data["simple"].items():
            for verb in verbs.split():
                self.rules.setdefault(verb, [Rule(action)])
        for verb in data["others"].split():
            self.rules.setdefault(verb, [Rule(f"other:{verb}")])
        self.forms: dict[str, tuple[str, str]] = {}
        for form in ("base", "third", "ing", "past", "participle"):
            for verb in self.rules:
                forms = inflect(verb)
                word = participle(verb) if form == "participle" else getattr(forms, form)
                self.forms.setdefault(word, (verb, "past" if form == "participle" else form))
        for word, meant in data["forms"].items():
            self.forms.pop(word, None)
            if meant:
                verb, form = meant.split()
                self.forms[word] = (verb, form)
        self.no_objects = (
            PARTICLES | self.determiners | self.adjectives | self.styles | frozenset(self.directions) | self.motions
            | (self.subjects - {"it"}) | frozenset(self.nouns) | self.counted | frozenset(self.numbers)
        )  # fmt: skip
        self.known = (
            self.subjects | self.determiners | self.adjectives | self.prepositions | self.motions | self.styles
            | self.no_styles | self.auxiliaries | frozenset(self.nouns) | frozenset(self.parts) | self.counted
            | frozenset(self.directions) | frozenset(self.numbers) | PARTICLES | words("things")
        )  # fmt: skip

    def action_of(self, verb: str) -> str:
        """What a verb means where nothing else is said; empty for a helper and an unknown verb."""
        rules = self.rules.get(verb)
        return rules[-1].action if rules else ""


def _rules_of(rules: str | list[dict[str, Any]]) -> list[Rule]:
    if isinstance(rules, str):
        return [Rule(rules)] if rules else []
    return [
        Rule(
            rule.get("action", ""),
            rule.get("direction", ""),
            frozenset(rule.get("words", "").split()),
            frozenset(part for name in rule.get("parts", "").split() for part in KINDS.get(name, (name,))),
            rule.get("posture", ""),
            rule.get("things", False),
        )
        for rule in rules
    ]


@cache
def load_lexicon() -> Lexicon:
    return Lexicon(json.loads(LEXICON.read_text(encoding="utf-8")))
