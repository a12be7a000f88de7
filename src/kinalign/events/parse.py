"""From a sentence to its event program, by rules and a lexicon of verbs; works on the standard library alone.

A sentence is cut into clauses of one verb each. A clause gives its event (which action the verb means depends on what
it is done with: arms are raised, a box is lifted), and how it is joined to the clause before it gives the order.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from kinalign.english import inflect, participle
from kinalign.errors import PromptError
from kinalign.events.program import ARMS, HEAD, LEGS, LOCOMOTION, MAX_COUNT, WHOLE_BODY, Count, Event, EventProgram

LEXICON = Path(__file__).with_name("lexicon.json")
MAX_LENGTH = 2000
"""Characters of the longest text that is read."""

_TOKEN = re.compile(r"[a-z_]+|\d+|[.;,:!?()/]")
_STOPS = frozenset(".;:!?")
_LINKS = frozenset("then and while before after earlier or not as_if".split())
_STRENGTH = {link: rank for rank, link in enumerate(", and or . then earlier while before after as_if not".split())}
_STATIC = frozenset("stand sit kneel crouch squat lie_down bend lean balance".split())
_OPPOSITES = ({"forward", "backward"}, {"left", "right"}, {"up", "down"}, {"clockwise", "counterclockwise"})
_WITH = frozenset("with using in by on from".split())
_PARTICLES = frozenset(
    "up down out off over back away around again together still apart along there here also then too well through in "
    "on to first together_now repeatedly once twice thrice alternately straight itself himself herself themselves "
    "themself each slightly very".split()
)
_SHY = frozenset(
    "back close open clean slow dry empty light set rest box text model film water plant iron nail saw dust fire hook "
    "block cut paddle type drum mix time step place film play cross fold cook shift double end show motion help use"
    " change steady idle break exercise work practice wind speed press lower pose stalk hold fight ride drive".split()
)
"""Verbs that after a bare "and" are rather something else."""
_WAYS = frozenset("side left right forward forwards backward backwards straight front back down up".split())
_UPRIGHT = frozenset("stand_up get_up sit lie_down pick_up put_down kneel squat crouch bend lower lower_leg".split())
"""Actions that say up or down themselves."""
_LOW = frozenset("sit squat crouch kneel lunge lie_down bend lean bow".split())
"""Actions after which one stands up again."""
_COURSE = frozenset("i direction directions path line trajectory pace speed shape rate while moment seconds time".split())
_SAID_AFTER_VERBS = frozenset("up down away it them something".split())
_VAGUE = frozenset("pretend shift practice act imitate mimic perform demonstrate motion exercise".split())
"""Verbs that are an event only where nothing else is."""
_WHOLE = LOCOMOTION | WHOLE_BODY
_KINDS = {"arms": ("hand", "arm", "elbow", "finger"), "legs": ("leg", "foot", "knee")}


@dataclass(frozen=True)
class _Rule:
    """What a verb means when all that is asked for here is said with it."""

    action: str = ""
    direction: str = ""
    words: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    posture: str = ""
    things: bool = False


@dataclass(frozen=True)
class _Limb:
    """A part of the body that is named: as the subject, the object, what it is done "with", or only the "place"."""

    part: str
    side: str
    role: str


@dataclass
class _Clause:
    """One verb with what is said around it, and how it is linked to the clause before."""

    link: str
    opens: bool = False
    verb: str = ""
    form: str = ""
    before: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    manner: list[str] = field(default_factory=list)
    hint: str = ""

    @property
    def all_words(self) -> list[str]:
        return self.before + self.words


def parse(text: str) -> EventProgram:
    """The event program of a text in English, about 4,000 captions a second.

    Raises PromptError for an empty text, one of more than MAX_LENGTH characters, one that names nothing that a body
    does, and for 0 or more than MAX_COUNT repetitions.

    >>> program = parse("a person walks forward, turns left and then kicks twice with the right leg")
    >>> [(event.action, event.direction, event.side, event.count) for event in program.events]
    [('walk', 'forward', '', None), ('turn', 'left', '', None), ('kick', '', 'right', 2)]
    >>> [[event.action for event in step] for step in parse("he waves while walking before he sits down").steps]
    [['wave', 'walk'], ['sit']]
    """
    if len(text) > MAX_LENGTH:
        raise PromptError(f"the text has {len(text)} characters; say it in {MAX_LENGTH} or fewer")
    words = _words_of(text)
    if not words:
        raise PromptError(f"{text[:80]!r} has no English word; say in English what the body does")
    steps = _Reader().read(_clauses_of(words))
    if not steps:
        raise PromptError(f"{text[:80]!r} names nothing that a body does; say an action, as in 'a person waves'")
    return EventProgram(tuple(tuple(step) for step in steps))


# --- the lexicon ------------------------------------------------------------------------------------------------------


class _Lexicon:
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
        self.rules: dict[str, list[_Rule]] = {
            verb: _rules_of(rules) for verb, rules in (data["helpers"] | data["verbs"]).items()
        }
        for action, verbs in data["simple"].items():
            for verb in verbs.split():
                self.rules.setdefault(verb, [_Rule(action)])
        for verb in data["others"].split():
            self.rules.setdefault(verb, [_Rule(f"other:{verb}")])
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
        self.known = (
            self.subjects | self.determiners | self.adjectives | self.prepositions | self.motions | self.styles
            | self.no_styles | self.auxiliaries | frozenset(self.nouns) | frozenset(self.parts) | self.counted
            | frozenset(self.directions) | frozenset(self.numbers) | _PARTICLES | words("things")
        )  # fmt: skip


def _rules_of(rules: str | list[dict[str, Any]]) -> list[_Rule]:
    if isinstance(rules, str):
        return [_Rule(rules)] if rules else []
    return [
        _Rule(
            rule.get("action", ""),
            rule.get("direction", ""),
            frozenset(rule.get("words", "").split()),
            frozenset(part for name in rule.get("parts", "").split() for part in _KINDS.get(name, (name,))),
            rule.get("posture", ""),
            rule.get("things", False),
        )
        for rule in rules
    ]


@cache
def _lexicon() -> _Lexicon:
    return _Lexicon(json.loads(LEXICON.read_text(encoding="utf-8")))


# --- words ------------------------------------------------------------------------------------------------------------


def _words_of(text: str) -> list[str]:
    """Small letters and stops, with typos mended and what belongs together as one word."""
    lexicon = _lexicon()
    text = unicodedata.normalize("NFKD", text.lower()).replace("\u2019", "'").replace("&", " and ")
    text = re.sub(r"\bit's (?=(?:left|right|arms?|hands?|legs?|feet|foot|head|knees?|body|elbows?)\b)", "its ", text)
    text = re.sub(r"-like\b", "", text)
    text = re.sub(r"n't\b|\bcannot\b", " not ", text)
    text = re.sub(r"'(?:s|re|ve|ll|d|m)\b|'", " ", text.replace("he's", "he is").replace("they're", "they are"))
    words = [word for token in _TOKEN.findall(text) for word in lexicon.typos.get(token, (token,))]
    return _merged(_merged(words, lexicon), lexicon)


def _merged(words: list[str], lexicon: _Lexicon) -> list[str]:
    out: list[str] = []
    at = 0
    while at < len(words):
        for phrase, merged in lexicon.merges.get(words[at], ()):
            if words[at : at + len(phrase)] == phrase:
                out += merged
                at += len(phrase)
                break
        else:
            out.append(words[at])
            at += 1
    return out


def _is_adverb(word: str) -> bool:
    return (word.endswith("ly") and len(word) > 4) or word in ("also", "just", "then", "still", "again", "now", "first")


def _number(word: str, lexicon: _Lexicon) -> int | None:
    return int(word) if word.isdigit() else lexicon.numbers.get(word)


def _in_noun_phrase(words: Sequence[str], at: int, lexicon: _Lexicon) -> bool:
    """Whether an article, a number or an owner opens a run of adjectives that ends here: a big slow step."""
    end = at - 1
    at -= 1
    passed = False
    while at >= 0 and (words[at] in lexicon.adjectives or _number(words[at], lexicon) is not None):
        passed = passed or words[at] in ("several",) or _number(words[at], lexicon) is not None
        at -= 1
    to = at > 0 and words[at - 1] in ("to", "towards", "toward", "on", "from")
    if to and at + 1 == end and words[end] in ("left", "right", "side"):
        return False  # to the left jumps
    return passed or (at >= 0 and words[at] in lexicon.determiners and words[at] not in ("that", "both"))


def _verb_at(
    words: Sequence[str], at: int, clause: _Clause, verbs: set[int], lexicon: _Lexicon
) -> tuple[str, str] | None:
    """The verb and its form where the word at this place is read as one; "raised" in "arms raised" is not."""
    word = words[at]
    found = lexicon.forms.get(word)
    back = at - 1
    while back >= 0 and _is_adverb(words[back]):
        back -= 1
    last = words[back] if back >= 0 else ""
    following = words[at + 1] if at + 1 < len(words) else ""
    if found is None:
        return _unknown_verb(word, last, clause, lexicon)
    verb, form = found
    starts = not last or last in _LINKS or last in _STOPS or last == ","
    helper = clause.verb in lexicon.helpers
    if form == "ing":
        if following in lexicon.motions:
            return None
        if following in lexicon.subjects and _in_noun_phrase(words, at, lexicon):
            return verb, form
        if words[at - 1] not in _WAYS and _in_noun_phrase(words, at, lexicon):
            return (verb, form) if helper and following not in lexicon.nouns else None
        if last == "from" and clause.verb in ("get", "stand", "rise", "go", "come"):
            return None
        return verb, form
    if form == "past":
        if last in lexicon.parts and following not in lexicon.determiners | lexicon.subjects | {"something", "them"}:
            return None
        if last in lexicon.auxiliaries and clause.verb == "be":
            limb = any(one in lexicon.parts for one in clause.before)
            return None if limb and word in lexicon.posture_words else (verb, form)
        if _in_noun_phrase(words, at, lexicon) or last in lexicon.prepositions:
            return None
        if last == "," and at > 1 and word in lexicon.posture_words and following in lexicon.prepositions:
            return None
        if last == "and" and back > 0 and lexicon.forms.get(words[back - 1], ("", ""))[1] == "past":
            return (verb, form) if back - 1 in verbs else None
        if last in ("straight", "out", "up", "wide", "half", "fully") and any(w in lexicon.parts for w in clause.words):
            return None
        return verb, form
    if last == "the" and form == "third" and len(clause.words) > 1:  # a slip of "then": forward the turns around
        named = word in lexicon.nouns or word in lexicon.counted
        return (verb, form) if not named or following in ("around", "to", "left", "right") else None
    if _in_noun_phrase(words, at, lexicon):
        return None
    direct = at > 0 and words[at - 1] == last and last in lexicon.forms
    if form == "third":
        noun = word in lexicon.nouns or word in lexicon.counted
        if noun and ((direct and (helper or clause.verb in ("throw", "climb", "ascend", "descend"))) or last in ("in", "with", "of", "for", "by", "on", "into", "or")):
            return None
        if noun and helper and last in lexicon.adjectives:
            return None
        return verb, form
    if last == "to" or last in lexicon.auxiliaries or last == "not":
        return verb, form
    if last in lexicon.subjects or (last in lexicon.plural and word not in ("back", "open", "close", "spread")):
        return (verb, form) if word not in ("back", "front") else None
    if starts:
        shy = word in _SHY and following not in lexicon.determiners | _SAID_AFTER_VERBS
        return None if (shy and last) or (word == "back" and following == "down") else (verb, form)
    return None


def _unknown_verb(word: str, last: str, clause: _Clause, lexicon: _Lexicon) -> tuple[str, str] | None:
    """A verb outside of the lexicon where a verb has to be: "a person yodels", "he is yodeling"."""
    if clause.verb and clause.verb not in lexicon.helpers:
        return None
    helped = clause.verb in lexicon.helpers and word.endswith("ing") and not clause.words
    if not (last in lexicon.subjects or helped or last in ("", "then") and len(word) > 5):
        return None
    if word in lexicon.known or len(word) < 5 or not word.isalpha():
        return None
    for ending, form in (("ing", "ing"), ("s", "third"), ("ed", "past")):
        if word.endswith(ending) and not word.endswith("ss") and (form == "ing" or not clause.verb) and (last or form == "ing"):
            stem = word.removesuffix(ending)
            for base in (word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else stem, stem + "e", stem[:-1],
                         stem[:-1] + "y"):  # fmt: skip
                if len(base) > 2 and not re.search(r"[cv]$|[^aeiourl]l$", base) and getattr(inflect(base), form) == word:
                    return f"other:{base}", form
    return None


# --- clauses ----------------------------------------------------------------------------------------------------------


def _clauses_of(words: list[str]) -> list[_Clause]:
    """The words cut at links, stops and verbs."""
    lexicon = _lexicon()
    clauses: list[_Clause] = []
    clause = _Clause("", opens=True)
    verbs: set[int] = set()
    like = False  # within "like an old man"
    for at, word in enumerate(words):
        if word in "()/":
            continue
        if word in _LINKS or word in _STOPS or word == ",":
            like = False
            link = "." if word in _STOPS else word
            if not (clause.verb or clause.before):  # two links in a row: the stronger one
                opens = clause.opens or link == "."
                if _STRENGTH[link] >= _STRENGTH.get(clause.link, -1):
                    clause.link = link
                clause.opens = opens
                continue
            clauses.append(clause)
            clause = _Clause(link, opens=link == ".")
            continue
        if like and word not in ("by", "with", "using"):
            clause.manner.append(word)
            continue
        like = False
        if word == "like":
            following = words[at + 1] if at + 1 < len(words) else ""
            form = lexicon.forms.get(following, ("", ""))[1]
            if following in ("he", "she", "they", "it", "you") or (form == "ing" and clause.verb):
                clauses.append(clause)
                clause = _Clause("as_if")
            else:
                like = True
                clause.manner.append(word)
            continue
        found = _verb_at(words, at, clause, verbs, lexicon)
        if found is None:
            followed = at + 1 < len(words) and words[at + 1] in lexicon.motions
            if followed and "from" not in clause.words[-3:] and lexicon.forms.get(word, ("", ""))[1] in ("ing", "past"):
                clause.hint = lexicon.forms[word][0]
            (clause.words if clause.verb else clause.before).append(word)
            continue
        verbs.add(at)
        if not clause.verb and clauses and found[1] == "ing" and clause.before[-1:] and clause.before[-1] in lexicon.directions:
            clauses.append(clause)  # then back to the left, finishing in the middle
            clause = _Clause("")
        if clause.verb:
            clauses.append(clause)
            clause = _next_clause(clause, found[1], lexicon)
        clause.verb, clause.form = found
    clauses.append(clause)
    return [one for one in clauses if one.verb or one.before]


def _next_clause(clause: _Clause, form: str, lexicon: _Lexicon) -> _Clause:
    """The clause of a verb that follows without a link; it takes its own subject from the end of the one before."""
    words = clause.words
    if words and words[-1] in ("to", "by"):
        return _Clause(words.pop())
    start = len(words)
    while start and (words[start - 1] in lexicon.parts or words[start - 1] in ("left", "right", "his", "her", "their")):
        start -= 1
    if form == "ing" and start and words[start - 1] == "with":  # with their arms swinging
        own = words[start:]
        del words[start - 1 :]
        return _Clause("with", before=own)
    if clause.verb in lexicon.helpers:
        return _Clause("")
    if words and words[-1] in lexicon.subjects and words[-1] not in ("it", "you"):
        words.pop()
        return _Clause("then")
    if form == "ing" and start and words[-1] in lexicon.parts and words[start - 1] not in lexicon.prepositions:
        own = words[start:]  # walks forward arms swinging
        del words[start:]
        return _Clause("", before=own)
    return _Clause("")


# --- events -----------------------------------------------------------------------------------------------------------


def _limbs(words: Sequence[str], role: str, lexicon: _Lexicon) -> tuple[list[_Limb], set[int]]:
    """The parts of the body in these words, and the places of "left" and "right" that are theirs."""
    limbs: list[_Limb] = []
    taken: set[int] = set()
    side, at_side = "", -1
    for at, word in enumerate(words):
        if word in ("left", "right", "both", "alternating", "each", "two"):
            side = {"alternating": "alternate", "each": "both", "two": "both"}.get(word, word)
            at_side = at
        elif word in lexicon.parts:
            limbs.append(_Limb(lexicon.parts[word], side or ("both" if word in lexicon.plural else ""), role))
            if side:
                taken.add(at_side)
            side = ""
        elif word in lexicon.prepositions or word == "in_front":
            if word != "of":
                role = "with" if word in _WITH else "place"
                side = ""
        elif word == "side" or not (word in lexicon.adjectives or word in lexicon.determiners or word == "and"):
            side = ""
    return limbs, taken


def _thing(words: Sequence[str], lexicon: _Lexicon) -> str:
    """The object that is no part of the body: "something" in "lifts something up"; empty where there is none."""
    for word in words:
        if word in lexicon.prepositions or word == "in_front" or word in lexicon.parts:
            return ""
        passed = (
            word in _PARTICLES or word in lexicon.determiners or word in lexicon.adjectives or word in lexicon.styles
            or word in lexicon.directions or word in lexicon.subjects - {"it"} or word in lexicon.nouns
            or word in lexicon.counted or word in lexicon.motions or word in _COURSE or word in lexicon.numbers or word.isdigit() or _is_adverb(word)
            or word in ("back_and_forth", "up_and_down", "across", "air", "side", "same", "as", "more", "across")
        )  # fmt: skip
        if not passed:
            return word
    return ""


def _direction(words: Sequence[str], taken: Iterable[int], action: str, lexicon: _Lexicon) -> str:
    said: list[str] = []
    for at, word in enumerate(words):
        if at in taken:
            continue
        following = words[at + 1] if at + 1 < len(words) else ""
        name = lexicon.directions.get(word, "")
        if word == "back" and action not in ("walk", "run", "jog", "return", "sprint", "look", "touch", "scratch"):
            if action not in _UPRIGHT | {"climb_stairs"} and action not in ARMS and following != "of":
                name = "around" if action == "turn" else "backward"
        elif word == "around" and action in ("turn", "look"):
            name = "around"
        elif word == "straight" and action not in LOCOMOTION:
            name = ""
        elif word == "up" and following == "to" and action in ARMS:
            name = ""
        elif name in ("up", "down") and (action in _UPRIGHT or action in LOCOMOTION - {"climb", "climb_stairs", "jump"}):
            name = ""
        elif word in ("front", "straight") and following in lexicon.parts:
            name = ""
        if name:
            said.append(name)
    if action == "jump" and "up_and_down" in words:
        said.append("up")
    if set(said) <= {"forward", "straight"} and action in LOCOMOTION and any(word in lexicon.curves for word in words):
        return "circle"
    if action == "extend" and "in_front" in words and not said:
        return "forward"
    if "diagonal" in said and ("left" in said or "right" in said):
        return "diagonal_left" if "left" in said else "diagonal_right"
    return min(said, key=lexicon.specific.index) if said else ""


def _count(words: Sequence[str], verb: str, lexicon: _Lexicon) -> Count:
    for at, word in enumerate(words):
        if word in lexicon.times:
            return lexicon.times[word]
        number = _number(word, lexicon)
        if number is None and word != "several":
            continue
        ahead = at + 1
        while ahead < len(words) and (words[ahead] in lexicon.adjectives or words[ahead] in ("or", "more")):
            ahead += 1
        noun = words[ahead] if ahead < len(words) else ""
        if noun in lexicon.counted or noun in lexicon.nouns:
            if number is None:
                return "several"
            if not 1 <= number <= MAX_COUNT:
                raise PromptError(f"{verb} {number} times cannot be shown; say 1 to {MAX_COUNT} repetitions")
            return number
    if any(word in ("repeatedly", "back_and_forth", "up_and_down") for word in words):
        return "several"
    return None


def _style(clause: _Clause, lexicon: _Lexicon) -> str:
    said = [
        word
        for word in clause.all_words
        if (word.endswith("ly") and len(word) > 4 and word not in lexicon.no_styles) or word in lexicon.styles
    ]
    return " ".join(said + clause.manner).replace("_", " ")


def _adds_nothing(event: Event, other: Event) -> bool:
    """Whether an event only says again what is said already: "... as they walk"."""
    said = event.to_json()
    said.pop("style", None)
    return all(getattr(other, name) == value for name, value in said.items())


class _Reader:
    """Turns clauses into steps, and remembers what "it", "again" and "then left" point back to."""

    def __init__(self) -> None:
        self.lexicon = _lexicon()
        self.steps: list[list[Event]] = []
        self.sentence = 0  # steps before this sentence
        self.last: _Clause | None = None  # the last clause that gave an event
        self.event: Event | None = None
        self.joined = False  # the last event joined the step before it
        self.limb: _Limb | None = None
        self.moving = "walk"  # the last verb of locomotion
        self.placed: _Clause | None = None

    def read(self, clauses: list[_Clause]) -> list[list[Event]]:
        vague = next((clause.verb for clause in clauses if clause.verb in _VAGUE), "")
        clauses = self._whole(clauses)
        later: list[Event] = []  # "before X" at the opening of a sentence waits for its main clause
        opening = ""
        dropped = ""  # the form of a clause that is not done: "as if swimming"
        for clause in clauses:
            if clause.opens:
                self.sentence, opening = len(self.steps), ""
            if clause.link in ("as_if", "not"):
                dropped = clause.form or "none"
                if clause.link == "as_if" and clause.form:
                    self._as_if(clause)
                continue
            if dropped and clause.link in ("and", "or", "to", "", ",") and clause.form in (dropped, "", "base"):
                if clause.form == dropped or clause.link in ("to", "or", ""):
                    continue
            dropped = ""
            if clause.form == "ing" and clause.link == "" and self.last and self.last.verb in ("stop", "halt", "pause"):
                continue
            if clause.link == "or" and clause.verb and self.event:
                continue
            if self._repeats(clause):
                self.steps += self._repeated(clause)
                continue
            if clause.link in ("before", "while", "after") and len(self.steps) == self.sentence and not opening:
                opening = clause.link
            elif opening and (clause.link == "," or clause.form in ("third", "base")) and clause.verb:
                main, opening = opening, ""
                for event in self._events(clause):
                    self._place(event, clause, together=main == "while")
                if main == "before":
                    self.steps += [[event] for event in later]
                    later = []
                continue
            events = self._events(clause)
            if opening == "before":
                later += events
                continue
            for event in events:
                self._place(event, clause)
        self.steps += [[event] for event in later]
        if not self.steps:
            return [[Event(f"other:{vague}")]] if vague else []
        return self.steps

    def _whole(self, clauses: list[_Clause]) -> list[_Clause]:
        """The clauses after helpers have gone into the verbs they help, and loose words where they belong."""
        out: list[_Clause] = []
        carried: _Clause | None = None
        for at, clause in enumerate(clauses):
            if carried is not None:
                clause.before = carried.all_words + clause.before
                clause.link = carried.link if clause.link in ("", "to", "by", ",", "who", "with") else clause.link
                clause.opens = clause.opens or carried.opens
                clause.hint = clause.hint or carried.hint
                if carried.verb != "be" and carried.form != "ing" and carried.verb:
                    clause.form = carried.form  # "starts walking" is as finite as "walks"
                carried = None
            following = clauses[at + 1] if at + 1 < len(clauses) else None
            if clause.verb in self.lexicon.helpers and following is not None and following.verb:
                if following.link in ("", "to", "by", "with") and not self._acts(clause):
                    if clause.verb in ("use", "utilize"):
                        clause.before, clause.words = [*clause.before, "with", *clause.words], []
                    if clause.verb in ("be", "get") and following.form == "past":
                        clause.words.append("passive")
                    carried = clause
                    continue
            if clause.verb in ("remain", "stay", "keep") and not clause.words and following is not None:
                if following.link == "" and following.form == "ing":
                    carried = clause
                    continue
            if clause.link == "or" and clause.verb and out and out[-1].verb and not out[-1].words:
                out[-1].words = clause.words  # runs or jogs in place
                continue
            if clause.verb in ("make", "do") and clause.form == "ing" and clause.link == "" and out and not self._acts(clause):
                out[-1].words += clause.words  # moves his arm making a circle
                continue
            if following is not None and following.verb and following.link == "then" and not following.before:
                if not clause.verb and self._is_subject(clause.before):
                    clause.link, carried = "then", clause
                    continue
            if clause.verb in ("raise", "lower", "lift", "extend", "spread", "rotate") and not clause.words:
                if following is not None and following.link in ("and", "or"):  # raises and lowers his arms
                    clause.words = list(following.words)
            if not clause.verb and self._is_loose(clause, out[-1] if out else None):
                if out and not clause.opens and clause.link in ("and", "or", ","):
                    out[-1].words += ["and", *clause.before]
                    out[-1].hint = out[-1].hint or clause.hint
                    continue
                if following is not None:
                    carried = clause
                    if clause.link == ",":
                        carried.link = ","
                    continue
            out.append(clause)
        if carried is not None:
            out.append(carried)
        return out

    def _is_loose(self, clause: _Clause, last: _Clause | None) -> bool:
        """Whether words without a verb say nothing of their own: "a person", "and a box", "slowly"."""
        words = clause.before
        if any(word in self.lexicon.nouns and not clause.opens for word in words):
            return False
        if clause.link in ("then", "before", "after", "while", "earlier", "not", "as_if"):
            return all(word in self.lexicon.subjects or word in self.lexicon.determiners for word in words)
        if last is None or clause.opens:
            limbs, _ = _limbs(words, "subject", self.lexicon)
            return not clause.hint and not (limbs and self._posture("held", limbs[0], words))
        if any(word in ("again", "back") for word in words):
            return False
        limbs, taken = _limbs(words, "object", self.lexicon)
        if any(word in ("palm", "palms", "chest", "thumb", "thumbs") for word in words):
            return True
        if limbs and limbs[0].role == "object":
            return clause.link == "and" and not limbs[0].side and self._posture("moved", limbs[0], words) is None
        new = _direction(words, taken, "", self.lexicon)
        old = _direction(last.words, _limbs(last.words, "object", self.lexicon)[1], "", self.lexicon)
        if new and any({new, old} == pair for pair in _OPPOSITES):
            return False
        return _count(words, "", self.lexicon) is None or not new

    def _is_subject(self, words: Sequence[str]) -> bool:
        """Whether these words are no more than "the arms", cut from their verb by "then"."""
        own = self.lexicon.parts.keys() | self.lexicon.determiners | {"left", "right"}
        return words[-1] in self.lexicon.parts and all(word in own for word in words)

    def _acts(self, clause: _Clause) -> bool:
        """Whether a helper means something by itself: "takes a step", "goes left"."""
        return bool(self._action(clause, *self._facts(clause))[0])

    def _facts(self, clause: _Clause) -> tuple[list[_Limb], str]:
        limbs = _limbs(clause.before, "subject", self.lexicon)[0] + _limbs(clause.words, "object", self.lexicon)[0]
        return limbs, _thing(clause.words, self.lexicon)

    def _action(self, clause: _Clause, limbs: list[_Limb], thing: str) -> tuple[str, str]:
        """The action of a clause and the direction that its verb says; empty where it says none."""
        verb, lexicon = clause.verb, self.lexicon
        words = clause.words
        if verb.startswith("other:"):
            return verb, ""
        if verb in lexicon.helpers and verb != "be":
            for word in words:
                action = lexicon.nouns.get(word, "")
                if action and (action != "stand" or verb in ("take", "come", "slow", "end", "go")):
                    return action, lexicon.implied.get(word, "")
        if verb == "move" and "into" in words:
            for word in words[words.index("into") :]:
                if lexicon.nouns.get(word):
                    return lexicon.nouns[word], ""
        if clause.hint and verb in lexicon.helpers | {"move", "return", "get_up", "swing", "motion"}:
            rules = lexicon.rules.get(clause.hint, [])
            if verb != "return" and rules and rules[-1].action and rules[-1].action not in HEAD:
                action = rules[-1].action
                if action == "stand" and verb in ("go", "get", "come"):
                    action = "stand_up"
                return action, rules[-1].direction
        objects = [limb for limb in limbs if limb.role in ("object", "subject")]
        if not objects and not thing:
            objects = [limb for limb in limbs if limb.role == "with"]
        said = frozenset(words) | frozenset(clause.before) - {"it", "them"}
        for rule in lexicon.rules.get(verb, ()):
            if rule.parts and not (objects and objects[0].part in rule.parts):
                continue
            if rule.words and not rule.words & said:
                continue
            if rule.things and not thing:
                continue
            if rule.posture:
                limb = next((limb for limb in objects if limb.role != "with"), None)
                entry = self._posture(rule.posture, limb, clause.all_words) if limb else None
                if entry is None:
                    continue
                action = entry[rule.posture]
                return "raise_knee" if action == "raise_leg" and limb and limb.part == "knee" else action, ""
            return rule.action, rule.direction
        return "", ""

    def _posture(self, mode: str, limb: _Limb, words: Sequence[str]) -> dict[str, str] | None:
        """How a limb is held or moved: "arms out" is extend; None where the words say no posture."""
        group = next((group for group, parts in _KINDS.items() if limb.part in parts), "")
        for wanted, entry in self.lexicon.postures.get(group, ()):
            if any(word in wanted for word in words):
                return entry
        return None

    def _events(self, clause: _Clause) -> list[Event]:
        """The events of a clause: its own, and how limbs are held meanwhile."""
        lexicon = self.lexicon
        words = clause.all_words
        if "again" in words and not clause.verb and all(w in ("again", "back", "the", "and") for w in words):
            turned_back = "back" in words and self.event and self.event.direction in ("left", "right")
            if not turned_back:
                return [self.event] if self.event else []
        held = self._held_apart(clause)
        own = self._own_event(clause)
        if own is None:
            return held
        stop = any(clause.words[at : at + 2] == ["to", "a"] and lexicon.nouns.get(word) == "stand"
                   for at, word in enumerate(clause.words[2:]))  # fmt: skip
        if stop and own.action in LOCOMOTION:
            held.append(Event("stand"))
        return [own, *held]

    def _held_apart(self, clause: _Clause) -> list[Event]:
        """Takes "with arms raised" out of a clause and gives it as an event of its own."""
        for at, word in enumerate(clause.words):
            if word != "with":
                continue
            rest = clause.words[at + 1 :]
            limbs, taken = _limbs(rest, "subject", self.lexicon)
            if not limbs or limbs[0].role != "subject":
                continue
            entry = self._posture("held", limbs[0], rest)
            action = self._action(clause, *self._facts(clause))[0]
            strong = any(self.lexicon.forms.get(word, ("", ""))[1] == "past" for word in rest)
            if entry is None or (action in ARMS | LEGS and not strong):
                continue
            del clause.words[at:]
            if not entry["held"]:
                return []
            if entry["held"] == "put_hands" and not self._on_body(limbs, rest):
                return [self._limb_event("hold", limbs[0], [], ())]
            return [self._limb_event(entry["held"], limbs[0], rest, taken)]
        return []

    def _limb_event(self, action: str, limb: _Limb, words: Sequence[str], taken: Iterable[int]) -> Event:
        self.limb = replace(limb, role="object")
        direction = _direction(words, taken, action, self.lexicon) if action != "put_hands" else ""
        return Event(action, limb.side, direction, None, limb.part)

    def _own_event(self, clause: _Clause) -> Event | None:
        lexicon = self.lexicon
        if not clause.verb:
            return self._elliptic(clause)
        limbs, thing = self._facts(clause)
        if thing in ("it", "them", "that") or (not thing and "them" in clause.words):
            if self.limb is not None and not any(limb.role == "object" for limb in limbs):
                limbs = [replace(self.limb, role="object"), *limbs]
                thing = ""
        action, direction = self._action(clause, limbs, thing)
        if not action and clause.verb in ("continue", "resume", "begin", "start") and self.moving and clause.words:
            clause.verb = self.moving
            action, direction = self._action(clause, limbs, thing)
        action, limbs = self._in_context(action, clause, limbs)
        if not action:
            return None
        return self._made(clause, action, direction, limbs)

    def _in_context(self, action: str, clause: _Clause, limbs: list[_Limb]) -> tuple[str, list[_Limb]]:
        """What the action is after what was done before: "stands" after "squats" is to stand up."""
        before = self.event.action if self.event else ""
        if action == "stand" and clause.verb == "stand" and clause.form in ("third", "past") and "still" not in clause.words:
            if before in _LOW:
                return "stand_up", limbs
        if action == "get_up" and before in _LOW - {"lie_down", "kneel", "lunge"}:
            return "stand_up", limbs
        object_said = any(limb.part != (self.limb and self.limb.part) for limb in limbs)
        undone = self.lexicon.undone["down"].get("raise" if before == "wave" else before)
        if undone and self.limb and "down" in clause.words and not object_said:
            if clause.verb in ("come", "go", "set", "put", "bring", "place", "let", "lay"):
                return undone, [replace(self.limb, role="object")]
        if action == "put_hands" and clause.verb in ("put", "place"):
            if not self._on_body(limbs, clause.words):
                return "touch", [replace(limb, role="with") for limb in limbs]
        return action, limbs

    @staticmethod
    def _on_body(limbs: list[_Limb], words: Sequence[str]) -> bool:
        """Whether hands are put to the body or together, not to a thing."""
        return len({(limb.part, limb.role) for limb in limbs}) > 1 or bool({"together", "back", "clasped"} & set(words))

    def _made(self, clause: _Clause, action: str, direction: str, limbs: list[_Limb]) -> Event:
        lexicon = self.lexicon
        words = clause.all_words
        taken = _limbs(clause.before, "subject", lexicon)[1]
        taken = taken | {at + len(clause.before) for at in _limbs(clause.words, "object", lexicon)[1]}
        limb = self._acting(action, limbs)
        direction = direction or _direction(words, taken, action, lexicon)
        if action == "put_hands" or (action == "raise" and clause.verb in ("hold", "have", "keep", "be")):
            direction = ""
        count = _count(words, clause.verb, lexicon)
        if count is None and action == "step" and clause.verb in lexicon.helpers:
            at = next((at for at, word in enumerate(words) if word == "step"), 0)
            count = 1 if at and _in_noun_phrase(words, at, lexicon) else None
        self.last, self.limb = clause, limb if limb and limb.role in ("object", "subject") else None
        if action in LOCOMOTION:
            self.moving = clause.verb
        if action == "clap":
            limb = None
        shoulder = next((limb for limb in limbs if limb.part == "shoulder"), None)
        if action == "look" and shoulder:
            direction, limb = direction or shoulder.side, None
        side = limb.side if limb else ""
        if not side and any(word in ("alternately", "alternating", "alternatingly") for word in words):
            side = "alternate"
        return Event(action, side, direction, count, limb.part if limb else "", _style(clause, lexicon))

    def _acting(self, action: str, limbs: list[_Limb]) -> _Limb | None:
        """The limb that does it: what it is done with, or else what is moved; never what is only touched."""
        if action in _WHOLE:
            limbs = [limb for limb in limbs if self._bears(action, limb)]
        elif action in HEAD:
            limbs = [limb for limb in limbs if limb.part not in _KINDS["arms"]]
        tools = [limb for limb in limbs if limb.role in ("with", "subject")]
        objects = [limb for limb in limbs if limb.role == "object"]
        if action == "kick" and objects and objects[0].part in _KINDS["legs"]:
            return objects[0]
        if action == "rub" and objects and objects[0].side == "both" and not tools:
            return objects[0]
        if action in self.lexicon.targeted:
            return tools[0] if tools else (replace(objects[0], side="", role="place") if objects else None)
        return (objects or tools or [None])[0]

    def _bears(self, action: str, limb: _Limb) -> bool:
        """Whether a limb is what an action of the whole body is done with: hops on the left foot."""
        if limb.part in _KINDS["legs"]:
            return limb.side in ("left", "right", "alternate") or action in self.lexicon.legs_of
        if limb.part in _KINDS["arms"]:
            return action in self.lexicon.arms_of
        return limb.role == "object"

    def _elliptic(self, clause: _Clause) -> Event | None:
        """The event of words without a verb: "then left" after a turn, "arms out", "two jumps"."""
        lexicon = self.lexicon
        words = clause.before
        limbs, taken = _limbs(words, "object", lexicon)
        named = next((word for word in words if lexicon.nouns.get(word)), "")
        if named:
            whole = replace(clause, verb="do", words=words, before=[])
            return self._made(whole, lexicon.nouns[named], lexicon.implied.get(named, ""), limbs)
        if self.last is not None and self.event is not None and not (clause.link == "while"):
            direction = _direction(words, taken, self.event.action, lexicon)
            turned = "down" if "down" in words else "up" if "up" in words else ""
            undone = lexicon.undone.get(turned, {}).get(self.event.action)
            if undone:
                limb = limbs[0] if limbs else self.limb
                return Event(undone, limb.side if limb else "", "", None, limb.part if limb else "")
            arms = limbs and limbs[0].role == "object"
            if arms and self.event.part in ("", "face") and self.event.action not in ARMS | {"kick", "raise_leg"}:
                entry = self._posture("held", limbs[0], words)
                return self._limb_event(entry["held"], limbs[0], words, taken) if entry and entry["held"] else None
            if arms and turned and self.event.action not in ("swing", "rotate_arm", "stretch"):
                entry = self._posture("moved", limbs[0], words)
                if entry and entry["moved"]:
                    return self._limb_event(entry["moved"], limbs[0], words, taken)
            if not direction and not limbs and "back" in words and self.event.direction in ("left", "right"):
                return replace(self.event, direction={"left": "right", "right": "left"}[self.event.direction])
            if direction or limbs or "back" in words:
                again = replace(clause, verb=self.last.verb, form=self.last.form, before=[], words=list(words))
                if not any(limb.role == "object" for limb in limbs) and self.limb:
                    limbs = [replace(self.limb, role="object"), *limbs]
                thing = _thing(self.last.words, lexicon)
                action, way = self._action(again, limbs, thing)
                action = action or self.event.action
                if action.startswith("other:"):
                    action = self.event.action
                return self._made(again, action, way, limbs)
            return None
        if limbs:
            entry = self._posture("held", limbs[0], words)
            if entry and entry["held"]:
                return self._limb_event(entry["held"], limbs[0], words, taken)
        if clause.hint and clause.opens:
            action = self._action(_Clause("", verb=clause.hint), [], "")[0]
            return Event(action) if action in _LOW | {"stand"} else None
        return None

    def _repeats(self, clause: _Clause) -> bool:
        words = set(clause.words)
        if clause.verb == "do" and words & {"same", "this", "that", "it"}:
            return self.event is not None
        return clause.verb == "repeat"

    def _repeated(self, clause: _Clause) -> list[list[Event]]:
        """The steps that are done again: those of the sentence so far, perhaps with another side or direction."""
        limbs, taken = _limbs(clause.words, "object", self.lexicon)
        direction = _direction(clause.words, taken, "", self.lexicon)
        if self.event is None:
            return []
        steps = self.steps[self.sentence :] or self.steps
        steps = [step for step in ([one for one in step if one.action != "stand"] for step in steps) if step]
        if "first" in clause.words:
            steps = steps[:1]
        elif len(steps) > 1 and (limbs or direction):
            steps = steps[-1:]
        side = next((limb.side for limb in limbs), "")
        if not side and {"other", "opposite"} & set(clause.words):
            side = {"left": "right", "right": "left"}.get(self.event.side, "")
        if not side and direction in ("left", "right") and self.event.side in ("left", "right"):
            side, direction = direction, ""
        return [
            [replace(one, side=side if one.side else "", direction=direction or one.direction) for one in step]
            if side or direction
            else list(step)
            for step in steps
        ]

    def _as_if(self, clause: _Clause) -> None:
        """Arms that move as if swimming swim."""
        if not self.steps or self.event is None:
            return
        action = self._action(clause, *self._facts(clause))[0]
        if action and self.event.action in ("other:move", "swing", "gesture", "other:act") and self.event.part:
            if action in ARMS | {"swim", "dance"} or (action.startswith("other:") and self.event.action == "other:move"):
                self.event = replace(self.event, action=action)
                self.steps[-1][-1] = self.event

    def _place(self, event: Event, clause: _Clause, *, together: bool | None = None) -> None:
        """Puts an event into the step before, into one of its own, or ahead of the last."""
        first = len(self.steps) == self.sentence
        if together is None:
            together = not first and self._is_together(event, clause)
        earlier = clause.link == "earlier" or (clause.link == "after" and not first)
        clause_event_before = self.placed is clause
        if clause_event_before:
            together = event.action != "stand" or clause.verb == "stand"
        if earlier and self.steps:
            self.steps.insert(len(self.steps) - 1, [event])
            return
        if together and self.steps and any(_adds_nothing(event, other) for other in self.steps[-1]):
            return
        if together and self.steps:
            self.steps[-1].append(event)
        else:
            self.steps.append([event])
        self.joined = bool(together)
        self.event = event if not clause_event_before else self.event
        self.placed = clause


    def _is_together(self, event: Event, clause: _Clause) -> bool:
        last, link = self.placed, clause.link
        if link in ("while", "with", "by") or "together_now" in clause.all_words:
            return True
        if last is None or self.event is None or clause.opens:
            return False
        if not clause.verb:
            return link in (",", "and") and event.action in ARMS and self.event.action not in ARMS and not event.count
        if clause.form == "ing" and not (event.action in ("place", "put_down") and {"it", "them"} & set(clause.words)):
            if link == "":
                return True
            if link == "," and last.form in ("third", "base", "past"):
                return True
            if link == "and" and self.joined and last.form == "ing":
                return True
        if link == "and" and event.action in ARMS | HEAD | {"raise_leg", "balance"}:
            if self.event.action == "stand":
                return True
            return self.event.action in _STATIC and last.form == "ing"
        return False
