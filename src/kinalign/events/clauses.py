"""A sentence cut into clauses of one verb each, and which words in it are verbs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from kinalign.english import inflect
from kinalign.events.lexicon import Lexicon, load_lexicon
from kinalign.events.program import ARMS

_TOKEN = re.compile(r"[a-z_]+|\d+|[.;,:!?()]")
_STOPS = frozenset(".;:!?")
_LINKS = frozenset("then and while before after earlier or not as_if".split())
_STRENGTH = {link: rank for rank, link in enumerate(", and or . then earlier while before after as_if not".split())}
_WAYS = frozenset("side left right forward forwards backward backwards straight front back down up".split())
_SHY = frozenset(
    "back close open clean slow dry empty light set rest box text model film water plant iron nail saw dust fire hook "
    "block cut paddle type drum mix time step place film play cross fold cook shift double end show motion help use"
    " change steady idle break exercise work practice wind speed press lower pose stalk hold fight ride drive".split()
)
"""Verbs that after a bare "and" are rather something else."""
_TAKING = frozenset("take do make perform execute give use have complete".split())
_SAID_AFTER_VERBS = frozenset("up down away it them something".split())


@dataclass
class Clause:
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


def words_of(text: str) -> list[str]:
    """Small letters and stops, with typos mended and what belongs together as one word."""
    lexicon = load_lexicon()
    text = unicodedata.normalize("NFKD", text.lower()).replace("\u2019", "'").replace("&", " and ").replace("/", " or ")
    text = re.sub(r"\bit's (?=(?:left|right|arms?|hands?|legs?|feet|foot|head|knees?|body|elbows?)\b)", "its ", text)
    text = re.sub(r"-like\b", "", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"n't\b|\bcannot\b", " not ", text)
    text = re.sub(r"'(?:s|re|ve|ll|d|m)\b|'", " ", text.replace("he's", "he is").replace("they're", "they are"))
    words = [word for token in _TOKEN.findall(text) for word in lexicon.typos.get(token, (token,))]
    return _merged(_merged(words, lexicon), lexicon)


def _merged(words: list[str], lexicon: Lexicon) -> list[str]:
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


def is_adverb(word: str) -> bool:
    return (word.endswith("ly") and len(word) > 4) or word in ("also", "just", "then", "still", "again", "now", "first")


def number_of(word: str, lexicon: Lexicon) -> int | None:
    return int(word) if word.isdigit() else lexicon.numbers.get(word)


def in_noun_phrase(words: Sequence[str], at: int, lexicon: Lexicon) -> bool:
    """Whether an article, a number or an owner opens a run of adjectives that ends here: a big slow step."""
    end = at - 1
    at -= 1
    passed = False
    while at >= 0 and (words[at] in lexicon.adjectives or number_of(words[at], lexicon) is not None):
        passed = passed or words[at] in ("several",) or number_of(words[at], lexicon) is not None
        at -= 1
    to = at > 0 and words[at - 1] in ("to", "towards", "toward", "on", "from")
    if to and at + 1 == end and words[end] in ("left", "right", "side"):
        return False  # to the left jumps
    return passed or (at >= 0 and words[at] in lexicon.determiners and words[at] not in ("that", "both"))


def _verb_at(
    words: Sequence[str], at: int, clause: Clause, verbs: set[int], lexicon: Lexicon
) -> tuple[str, str] | None:
    """The verb and its form where the word at this place is read as one; "raised" in "arms raised" is not."""
    word = words[at]
    found = lexicon.forms.get(word)
    back = at - 1
    while back >= 0 and is_adverb(words[back]):
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
        if following in lexicon.subjects and in_noun_phrase(words, at, lexicon):
            return verb, form
        if words[at - 1] not in _WAYS and in_noun_phrase(words, at, lexicon):
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
        if in_noun_phrase(words, at, lexicon) or last in lexicon.prepositions:
            return None
        if last == "," and at > 1 and word in lexicon.posture_words and following in lexicon.prepositions:
            return None
        if last == "and" and back > 0 and lexicon.forms.get(words[back - 1], ("", ""))[1] == "past":
            return (verb, form) if back - 1 in verbs else None
        if last in ("straight", "out", "up", "wide", "half", "fully") and any(w in lexicon.parts for w in clause.words):
            return None
        return verb, form
    if (
        last == "the" and form == "third" and (len(clause.words) > 1 or clause.before == ["the"])
    ):  # a slip of "then": forward the turns around
        named = word in lexicon.nouns or word in lexicon.counted
        return (
            (verb, form)
            if not named or following in lexicon.directions or following in ("around", "to", "on")
            else None
        )
    if in_noun_phrase(words, at, lexicon):
        return None
    direct = at > 0 and words[at - 1] == last and last in lexicon.forms
    if form == "third":
        noun = word in lexicon.nouns or word in lexicon.counted
        if noun and (
            (direct and (helper or clause.verb in ("throw", "climb", "ascend", "descend")))
            or last in ("in", "with", "of", "for", "by", "on", "into", "or")
        ):
            return None
        opener = at - 1
        while opener > 0 and words[opener] in lexicon.adjectives:
            opener -= 1
        inside = words[opener] in ("in", "with", "of", "into", "for")
        if noun and last in lexicon.adjectives and (inside or clause.verb in _TAKING):
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


def _unknown_verb(word: str, last: str, clause: Clause, lexicon: Lexicon) -> tuple[str, str] | None:
    """A verb outside of the lexicon where a verb has to be: "a person yodels", "he is yodeling"."""
    if clause.verb and clause.verb not in lexicon.helpers:
        return None
    helped = clause.verb in lexicon.helpers and word.endswith("ing") and not clause.words
    if not (last in lexicon.subjects or helped or (last in ("", "then", "before", "after", "while") and len(word) > 5)):
        return None
    if word in lexicon.known or len(word) < 5 or not word.isalpha():
        return None
    for ending, form in (("ing", "ing"), ("s", "third"), ("ed", "past")):
        if (
            word.endswith(ending)
            and not word.endswith("ss")
            and (form == "ing" or not clause.verb)
            and (last or form == "ing")
        ):
            stem = word.removesuffix(ending)
            for base in (word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else stem, stem + "e", stem[:-1],
                         stem[:-1] + "y"):  # fmt: skip
                if (
                    len(base) > 2
                    and not re.search(r"[cv]$|is$|[^aeiourl]l$|([bdgmnprt])\1$", base)
                    and getattr(inflect(base), form) == word
                ):
                    return f"other:{base}", form
    return None


def clauses_of(words: list[str]) -> list[Clause]:
    """The words cut at links, stops and verbs."""
    lexicon = load_lexicon()
    clauses: list[Clause] = []
    clause = Clause("", opens=True)
    verbs: set[int] = set()
    like = False  # within "like an old man"
    for at, word in enumerate(words):
        if word in "()":
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
            clause = Clause(link, opens=link == ".")
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
                clause = Clause("as_if")
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
        if (
            not clause.verb
            and clauses
            and found[1] == "ing"
            and clause.before[-1:]
            and clause.before[-1] in lexicon.directions
        ):
            clauses.append(clause)  # then back to the left, finishing in the middle
            clause = Clause("")
        if clause.verb:
            clauses.append(clause)
            clause = _next_clause(clause, found[1], lexicon)
        clause.verb, clause.form = found
    clauses.append(clause)
    return [one for one in clauses if one.verb or one.before]


def _next_clause(clause: Clause, form: str, lexicon: Lexicon) -> Clause:
    """The clause of a verb that follows without a link; it takes its own subject from the end of the one before."""
    words = clause.words
    if words and words[-1] in ("to", "by"):
        return Clause(words.pop())
    start = len(words)
    while start and (words[start - 1] in lexicon.parts or words[start - 1] in ("left", "right", "his", "her", "their")):
        start -= 1
    tool = lexicon.action_of(clause.verb) in ARMS
    if form == "ing" and start and words[start - 1] == "with" and not tool:  # with their arms swinging
        own = words[start:]
        del words[start - 1 :]
        return Clause("with", before=own)
    if clause.verb in lexicon.helpers:
        return Clause("")
    if words and words[-1] in lexicon.subjects and words[-1] not in ("it", "you"):
        words.pop()
        return Clause("then")
    if form == "ing" and start and words[-1] in lexicon.parts and words[start - 1] not in lexicon.prepositions:
        own = words[start:]  # walks forward arms swinging
        del words[start:]
        return Clause("", before=own)
    return Clause("")
