"""From a sentence to its event program, by rules and a lexicon of verbs; works on the standard library alone.

A sentence is cut into clauses of one verb each. A clause gives its event (which action the verb means depends on what
it is done with: arms are raised, a box is lifted), and how it is joined to the clause before it gives the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kinalign.errors import PromptError
from kinalign.events.clauses import Clause, clauses_of, in_noun_phrase, is_adverb, number_of, words_of
from kinalign.events.lexicon import KINDS, Lexicon, load_lexicon
from kinalign.events.program import ARMS, HEAD, LEGS, LOCOMOTION, MAX_COUNT, WHOLE_BODY, Count, Event, EventProgram

MAX_LENGTH = 2000
"""Characters of the longest text that is read."""

_STATIC = frozenset("stand sit kneel crouch squat lie_down bend lean balance".split())
_OPPOSITES = ({"forward", "backward"}, {"left", "right"}, {"up", "down"}, {"clockwise", "counterclockwise"})
_WITH = frozenset("with using in by on from".split())
_UPRIGHT = frozenset("stand_up get_up sit lie_down pick_up put_down kneel squat crouch bend lower lower_leg".split())
"""Actions that say up or down themselves."""
_LOW = frozenset("sit squat crouch kneel lunge lie_down bend lean bow".split())
"""Actions after which one stands up again."""
_COURSE = frozenset(
    "i direction directions path line trajectory pace speed shape rate while moment seconds time back_and_forth "
    "up_and_down across air side same as more".split()
)
"""Nouns and other words that are never what something is done to."""
_SHARING = frozenset("raise lower lift extend spread rotate".split())
"""Verbs that share the limb of the verb after them."""
_VAGUE = frozenset("pretend shift practice act imitate mimic perform demonstrate motion exercise".split())
"""Verbs that are an event only where nothing else is."""
_WHOLE = LOCOMOTION | WHOLE_BODY


@dataclass(frozen=True)
class _Limb:
    """A part of the body that is named: as the subject, the object, what it is done "with", or only the "place"."""

    part: str
    side: str
    role: str


def parse(text: str) -> EventProgram:
    """The event program of a text in English, about 4,000 captions a second on one core.

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
    words = words_of(text)
    if not words:
        raise PromptError(f"{text[:80]!r} has no English word; say in English what the body does")
    steps = _Reader().read(clauses_of(words))
    if not steps:
        raise PromptError(f"{text[:80]!r} names nothing that a body does; say an action, as in 'a person waves'")
    return EventProgram(tuple(tuple(step) for step in steps))


def _limbs(words: Sequence[str], role: str, lexicon: Lexicon) -> tuple[list[_Limb], set[int]]:
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


def _thing(words: Sequence[str], lexicon: Lexicon) -> str:
    """The object that is no part of the body: "something" in "lifts something up"; empty where there is none."""
    passed = lexicon.no_objects | _COURSE
    for word in words[words[:1] == ["off"] :]:  # drops off something
        if word in lexicon.prepositions or word == "in_front" or word in lexicon.parts:
            return ""
        if word not in passed and not word.isdigit() and not is_adverb(word):
            return word
    return ""


def _direction(words: Sequence[str], taken: Iterable[int], action: str, lexicon: Lexicon) -> str:
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
        elif (
            (word == "straight" and action not in LOCOMOTION)
            or (word == "up" and following == "to" and action in ARMS)
            or (
                name in ("up", "down")
                and (action in _UPRIGHT or action in LOCOMOTION - {"climb", "climb_stairs", "jump"})
            )
            or (word in ("front", "straight") and following in lexicon.parts)
        ):
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


def _count(words: Sequence[str], lexicon: Lexicon) -> Count:
    for at, word in enumerate(words):
        if word in lexicon.times:
            return lexicon.times[word]
        number = number_of(word, lexicon)
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
                raise PromptError(f"{number} repetitions cannot be shown; say 1 to {MAX_COUNT}")
            return number
    if any(word in ("repeatedly", "back_and_forth", "up_and_down") for word in words):
        return "several"
    return None


def _style(clause: Clause, lexicon: Lexicon) -> str:
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


def _goes_on(clause: Clause, form: str) -> bool:
    """Whether a clause still belongs to one that is not done, whose verb has this form."""
    if clause.form == form:
        return clause.link in ("and", "or", "to", "", ",")
    return clause.form in ("", "base") and clause.link in ("or", "to", "")


class _Reader:
    """Turns clauses into steps, and remembers what "it", "again" and "then left" point back to."""

    def __init__(self) -> None:
        self.lexicon = load_lexicon()
        self.steps: list[list[Event]] = []
        self.sentence = 0  # steps before this sentence
        self.last: Clause | None = None  # the last clause that gave an event
        self.event: Event | None = None
        self.joined = False  # the last event joined the step before it
        self.limb: _Limb | None = None
        self.moving = "walk"  # the last verb of locomotion
        self.placed: Clause | None = None
        self.down = False  # the body sits, kneels, squats or lies

    def read(self, clauses: list[Clause]) -> list[list[Event]]:
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
            if dropped and _goes_on(clause, dropped):
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

    def _whole(self, clauses: list[Clause]) -> list[Clause]:
        """The clauses after helpers have gone into the verbs they help, and loose words where they belong."""
        out: list[Clause] = []
        carried: Clause | None = None
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
            if following is not None and self._helps(clause, following):
                if clause.verb == "face":
                    clause.words = []
                if clause.verb in ("use", "utilize"):
                    clause.before, clause.words = [*clause.before, "with", *clause.words], []
                if clause.verb in ("be", "get") and following.form == "past":
                    clause.words.append("passive")
                carried = clause
                continue
            if clause.link == "or" and clause.verb and out and out[-1].verb and not out[-1].words:
                out[-1].words = clause.words  # runs or jogs in place
                continue
            if (
                clause.verb in ("make", "do")
                and clause.form == "ing"
                and clause.link == ""
                and out
                and not self._acts(clause)
            ):
                out[-1].words += clause.words  # moves his arm making a circle
                continue
            if following is not None and self._is_subject(clause, following):
                clause.link, carried = "then", clause
                continue
            if clause.verb in _SHARING and not clause.words and following and following.link in ("and", "or", "then"):
                clause.words = list(following.words)  # raises and lowers his arms
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

    def _helps(self, clause: Clause, following: Clause) -> bool:
        """Whether a clause only helps the verb that follows: "starts to walk", "is walking", "stays standing"."""
        if clause.verb in ("remain", "stay", "keep") and not clause.words:
            return following.link == "" and following.form == "ing"
        if clause.verb not in self.lexicon.helpers or not following.verb:
            return False
        return following.link in ("", "to", "by", "with") and not self._acts(clause)

    def _is_loose(self, clause: Clause, last: Clause | None) -> bool:
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
        return _count(words, self.lexicon) is None or not new

    def _is_subject(self, clause: Clause, following: Clause) -> bool:
        """Whether a clause is no more than "the arms", cut from their verb by "then"."""
        if clause.verb or clause.link == "then" or not following.verb or following.link != "then" or following.before:
            return False
        words, own = clause.before, self.lexicon.parts.keys() | self.lexicon.determiners | {"left", "right"}
        return words[-1] in self.lexicon.parts and all(word in own for word in words)

    def _acts(self, clause: Clause) -> bool:
        """Whether a helper means something by itself: "takes a step", "goes left"."""
        return bool(self._action(clause, *self._facts(clause))[0])

    def _facts(self, clause: Clause) -> tuple[list[_Limb], str]:
        limbs = _limbs(clause.before, "subject", self.lexicon)[0] + _limbs(clause.words, "object", self.lexicon)[0]
        return limbs, _thing(clause.words, self.lexicon)

    def _action(self, clause: Clause, limbs: list[_Limb], thing: str) -> tuple[str, str]:
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
        group = next((group for group, parts in KINDS.items() if limb.part in parts), "")
        for wanted, entry in self.lexicon.postures.get(group, ()):
            if any(word in wanted for word in words) and not any(
                word in words for word in entry.get("not", "").split()
            ):
                return entry
        return None

    def _events(self, clause: Clause) -> list[Event]:
        """The events of a clause: its own, and how limbs are held meanwhile."""
        lexicon = self.lexicon
        words = clause.all_words
        if "again" in words and not clause.verb and all(w in ("again", "back", "the", "and") for w in words):
            turned_back = "back" in words and self.event and self.event.direction in ("left", "right")
            if not turned_back:
                return [self.event] if self.event else []
        limb = self.limb
        held = self._held_apart(clause)
        self.limb, limb = limb, self.limb  # "them" is never what is only held meanwhile
        own = self._own_event(clause)
        if own is None:
            self.limb = limb
            return held
        stop = any(clause.words[at : at + 2] == ["to", "a"] and lexicon.nouns.get(word) == "stand"
                   for at, word in enumerate(clause.words[2:]))  # fmt: skip
        if stop and own.action in LOCOMOTION:
            held.append(Event("stand"))
        return [own, *held]

    def _held_apart(self, clause: Clause) -> list[Event]:
        """Takes "with arms raised" out of a clause and gives it as an event of its own."""
        if "with" in clause.before and clause.verb:
            front = replace(clause, words=clause.before, before=[])
            held = self._held_apart(front)
            clause.before = front.words
            if held:
                return held
        for at, word in enumerate(clause.words):
            if word != "with":
                continue
            rest = clause.words[at + 1 :]
            limbs, taken = _limbs(rest, "subject", self.lexicon)
            if not limbs or limbs[0].role != "subject":
                continue
            entry = self._posture("held", limbs[0], rest)
            alone = replace(clause, words=clause.words[:at])
            action = self._action(alone, *self._facts(alone))[0]
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

    def _own_event(self, clause: Clause) -> Event | None:
        if not clause.verb:
            return self._elliptic(clause)
        limbs, thing = self._facts(clause)
        it = thing in ("it", "them", "that") or (not thing and "them" in clause.words)
        if it and self.limb is not None and not any(limb.role == "object" for limb in limbs):
            limbs, thing = [replace(self.limb, role="object"), *limbs], ""
        action, direction = self._action(clause, limbs, thing)
        goes = clause.verb in ("continue", "resume") or (
            clause.verb in ("begin", "start")
            and _direction(clause.words, _limbs(clause.words, "", self.lexicon)[1], "walk", self.lexicon)
        )
        if not action and goes and clause.words:
            clause.verb = self.moving
            action, direction = self._action(clause, limbs, thing)
        action, limbs = self._in_context(action, clause, limbs)
        if not action:
            return None
        return self._made(clause, action, direction, limbs)

    def _in_context(self, action: str, clause: Clause, limbs: list[_Limb]) -> tuple[str, list[_Limb]]:
        """What the action is after what was done before: "stands" after "squats" is to stand up."""
        before = self.event.action if self.event else ""
        stands = action == clause.verb == "stand" and clause.form in ("third", "past") and "still" not in clause.words
        if stands and (before in _LOW or self.down):
            return "stand_up", limbs
        if action == "get_up" and before in _LOW - {"lie_down", "kneel", "lunge"}:
            return "stand_up", limbs
        object_said = any(limb.part != (self.limb and self.limb.part) for limb in limbs)
        undone = self.lexicon.undone["down"].get("raise" if before == "wave" else before)
        down = "down" in clause.words and clause.verb in ("come", "go", "set", "put", "bring", "place", "let", "lay")
        if down and undone and self.limb and not object_said:
            return undone, [replace(self.limb, role="object")]
        if action == "put_hands" and clause.verb in ("put", "place") and not self._on_body(limbs, clause.words):
            return "touch", [replace(limb, role="with") for limb in limbs]
        return action, limbs

    @staticmethod
    def _on_body(limbs: list[_Limb], words: Sequence[str]) -> bool:
        """Whether hands are put to the body or together, not to a thing."""
        return len({(limb.part, limb.role) for limb in limbs}) > 1 or bool(
            {"together", "spine", "clasped"} & set(words)
        )

    def _made(self, clause: Clause, action: str, direction: str, limbs: list[_Limb]) -> Event:
        lexicon = self.lexicon
        words = clause.all_words
        taken = _limbs(clause.before, "subject", lexicon)[1]
        taken = taken | {at + len(clause.before) for at in _limbs(clause.words, "object", lexicon)[1]}
        limb = self._acting(action, limbs)
        direction = direction or _direction(words, taken, action, lexicon)
        if action == "put_hands" or (action == "raise" and clause.verb in ("hold", "have", "keep", "be")):
            direction = ""
        count = _count(words, lexicon)
        if count is None and action == "step" and clause.verb in lexicon.helpers:
            at = next((at for at, word in enumerate(words) if word == "step"), 0)
            count = 1 if at and in_noun_phrase(words, at, lexicon) else None
        moved = limb is not None and (limb.role != "with" or not _thing(clause.words, lexicon))
        self.last, self.limb = clause, limb if moved and limb and limb.role != "place" else None
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
            limbs = [limb for limb in limbs if limb.part not in KINDS["arms"]]
        elif action in LEGS:
            limbs = [limb for limb in limbs if limb.part in KINDS["legs"]]
        tools = [limb for limb in limbs if limb.role in ("with", "subject")]
        if action in ARMS:  # a hand before the feet by which it puts something
            tools.sort(key=lambda limb: limb.part not in KINDS["arms"])
        objects = [limb for limb in limbs if limb.role == "object"]
        if action == "kick" and objects and objects[0].part in KINDS["legs"]:
            return objects[0]
        if action == "rub" and objects and objects[0].side == "both" and not tools:
            return objects[0]
        if action in self.lexicon.targeted:
            return tools[0] if tools else (replace(objects[0], side="", role="place") if objects else None)
        return next(iter(objects + tools), None)

    def _bears(self, action: str, limb: _Limb) -> bool:
        """Whether a limb is what an action of the whole body is done with: hops on the left foot."""
        if limb.part in KINDS["legs"]:
            return limb.side in ("left", "right", "alternate") or action in self.lexicon.legs_of
        if limb.part in KINDS["arms"]:
            return action in self.lexicon.arms_of
        return limb.role == "object"

    def _elliptic(self, clause: Clause) -> Event | None:
        """The event of words without a verb: "then left" after a turn, "arms out", "two jumps"."""
        lexicon = self.lexicon
        words = clause.before
        limbs, taken = _limbs(words, "object", lexicon)
        named = next((word for word in words if lexicon.nouns.get(word)), "")
        if named:
            whole = replace(clause, verb="do", words=words, before=[])
            return self._made(whole, lexicon.nouns[named], lexicon.implied.get(named, ""), limbs)
        if self.last is not None and self.event is not None and clause.link != "while":
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
            if arms and (turned or "out" in words) and self.event.action not in ("swing", "rotate_arm", "stretch"):
                entry = self._posture("moved", limbs[0], words)
                if entry and entry["moved"]:
                    return self._limb_event(entry["moved"], limbs[0], words, taken)
            if not direction and not limbs and "back" in words and self.event.direction in ("left", "right"):
                return replace(self.event, direction={"left": "right", "right": "left"}[self.event.direction])
            if direction or limbs or "back" in words or "stairs" in words:
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
            action = self._action(Clause("", verb=clause.hint), [], "")[0]
            return Event(action) if action in _LOW | {"stand"} else None
        return None

    def _repeats(self, clause: Clause) -> bool:
        words = set(clause.words)
        if clause.verb == "do" and words & {"same", "this", "that", "it"}:
            return self.event is not None
        return clause.verb == "repeat"

    def _repeated(self, clause: Clause) -> list[list[Event]]:
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

    def _as_if(self, clause: Clause) -> None:
        """Arms that move as if swimming swim."""
        if not self.steps or self.event is None:
            return
        action = self._action(clause, *self._facts(clause))[0]
        known = action in ARMS | {"swim", "dance"} or (action and self.event.action == "other:move")
        if known and self.event.part and self.event.action in ("other:move", "swing", "gesture"):
            self.event = replace(self.event, action=action)
            self.steps[-1][-1] = self.event

    def _place(self, event: Event, clause: Clause, *, together: bool | None = None) -> None:
        """Puts an event into the step before, into one of its own, or ahead of the last."""
        first = len(self.steps) == self.sentence
        if together is None:
            together = not first and self._is_together(event, clause)
        if (
            event.action == "bow"
            and clause.link == "to"
            and self.steps
            and self.steps[-1][-1].action in ("bend", "lean")
        ):
            self.steps[-1][-1] = self.event = event  # who bends forward to bow bows once
            self.placed = clause
            return
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
        if event.action in ("sit", "kneel", "squat", "crouch", "lie_down"):
            self.down = True
        elif event.action in LOCOMOTION - {"crawl"} or event.action in ("stand_up", "get_up"):
            self.down = False
        self.joined = bool(together)
        self.event = event if not clause_event_before else self.event
        self.placed = clause

    def _is_together(self, event: Event, clause: Clause) -> bool:
        last, link = self.placed, clause.link
        if link in ("while", "with", "by") or "together_now" in clause.all_words:
            return True
        if last is None or self.event is None or clause.opens or clause.verb in ("stop", "pause", "halt"):
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
