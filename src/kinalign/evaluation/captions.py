"""How near captions come to what people wrote: BLEU, ROUGE-L and CIDEr as in the COCO caption evaluation.

The maths is pycocoevalcap's, number for number; its Java tokenizer is not: `words` lower-cases and drops punctuation,
as that does. Tables of the field differ by a factor of 2.5 because some authors compare with people's sentences and
some with HumanML3D's processed ones, in base forms without punctuation. Give both: `tokens=words` is raw,
`tokens=base_words` processed. Both sides are always read alike, which published code does not do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import EvaluationError

Tokens = Callable[[str], list[str]]
WordVectors = Callable[[list[str]], Sequence[NDArray[np.floating]]]
Grams = list["Counter[tuple[str, ...]]"]
"""Counts of the n-grams of a caption, n = 1 to 4."""


class Bleu(NamedTuple):
    """BLEU with n-grams up to 1, 2, 3 and 4; 0 to 1, where tables quote percent."""

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float


_MAX_N = 4
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_LETTERS = re.compile(r"[^\W\d_]+")
_CLITIC = re.compile(r"n't\b|(?<=\w)'\w*")


def words(caption: str) -> list[str]:
    """The words of a sentence as people wrote it: small letters, no punctuation but hyphens and apostrophes inside.

    >>> words("A man's left-hand wave, twice.")
    ['a', "man's", 'left-hand', 'wave', 'twice']
    """
    return _WORD.findall(caption.lower().replace("’", "'"))


def base_words(caption: str) -> list[str]:
    """The words as HumanML3D's processing leaves them: letters only, hyphens closed, nouns and verbs in base form.

    HumanML3D asks spaCy for parts of speech; here rules and short lists do it, good for the language of captions.

    >>> base_words("A person is side-stepping, then raises his hands.")
    ['a', 'person', 'is', 'sidestep', 'then', 'raise', 'his', 'hand']
    """
    text = _CLITIC.sub("", caption.lower().replace("’", "'")).replace("-", "")
    return [_base_form(word) for word in _LETTERS.findall(text)]


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]], *, tokens: Tokens = words) -> Bleu:
    """BLEU-1 to 4 of a corpus (Papineni et al. 2002): clipped n-gram precisions times a penalty for being short.

    `references[i]` are all captions of motion i; the one nearest in length counts for the penalty. A corpus without
    one matching n-gram scores next to 0 (pycocoevalcap's constants 1e-15 and 1e-9). Raises EvaluationError.
    """
    correct, guessed = np.zeros(_MAX_N), np.zeros(_MAX_N)
    length = nearest = 0
    for candidate, group in _tokenised(candidates, references, tokens):
        length += len(candidate)
        nearest += min((abs(len(reference) - len(candidate)), len(reference)) for reference in group)[1]
        grams, of_group = _grams(candidate), [_grams(reference) for reference in group]
        for n in range(_MAX_N):
            allowed = of_group[0][n].copy()
            for reference_grams in of_group[1:]:
                allowed |= reference_grams[n]
            correct[n] += (grams[n] & allowed).total()
            guessed[n] += grams[n].total()
    precisions = np.cumprod((correct + 1e-15) / (guessed + 1e-9))
    brevity = math.exp(min(1 - (nearest + 1e-9) / (length + 1e-15), 0.0))
    return Bleu(*(float(brevity * precision ** (1 / n)) for n, precision in enumerate(precisions, start=1)))


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]], *, tokens: Tokens = words) -> float:
    """ROUGE-L (Lin 2004), mean over motions: F-measure, beta 1.2, of the longest common subsequence of words; 0 to 1.

    As in pycocoevalcap precision and recall are each the best over the references of a motion. Raises EvaluationError.
    """
    scores = []
    for candidate, group in _tokenised(candidates, references, tokens):
        common = [_longest_common_subsequence(candidate, reference) for reference in group]
        precision = max(common) / len(candidate)
        recall = max(length / len(reference) for length, reference in zip(common, group))
        weighted = recall + _ROUGE_BETA**2 * precision
        scores.append((1 + _ROUGE_BETA**2) * precision * recall / weighted if weighted else 0.0)
    return float(np.mean(scores))


def bert_score(candidates: Sequence[str], references: Sequence[Sequence[str]], *, embed: WordVectors) -> float:
    """BERTScore (Zhang et al. 2020, equation for F_BERT), mean over motions of the best reference's; at most 1.

    `embed` gives of each sentence the vectors (L, D) of its words; every word is matched with the nearest of the other
    sentence by cosine. No weights of rare words and no rescaling: only numbers of one `embed` compare. Raises
    EvaluationError.
    """
    _tokenised(candidates, references, words)  # refuses what has no words
    said = sorted({*candidates, *(reference for group in references for reference in group)})
    vectors = {text: rows / np.linalg.norm(rows, axis=1, keepdims=True) for text, rows in zip(said, embed(said))}
    scores = []
    for candidate, group in zip(candidates, references):
        of_each = []
        for reference in group:
            cosines = vectors[candidate] @ vectors[reference].T
            precision, recall = cosines.max(axis=1).mean(), cosines.max(axis=0).mean()
            of_each.append(2 * precision * recall / max(precision + recall, 1e-12))
        scores.append(max(of_each))
    return float(np.mean(scores))


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]], *, tokens: Tokens = words) -> float:
    """CIDEr-D (Vedantam et al. 2015), mean over motions: 0 to 10, where tables quote a hundred times as much.

    Cosine of tf-idf vectors of n-grams, n = 1 to 4, clipped, with a Gaussian penalty on lengths (sigma 6), mean over n
    and references, times 10. How rare an n-gram is, is counted over the motions of `references`: two corpora do not
    compare. As in pycocoevalcap lengths are counted in bigrams. Raises EvaluationError, also for fewer than 2 motions.
    """
    corpus = [
        (_grams(candidate), [_grams(reference) for reference in group])
        for candidate, group in _tokenised(candidates, references, tokens)
    ]
    if len(corpus) < 2:
        raise EvaluationError("CIDEr weighs words by how few of all motions have them; 1 motion is no corpus, give 2")
    motions_with = Counter(
        gram for _, group in corpus for gram in {gram for grams in group for counts in grams for gram in counts}
    )
    rarest = math.log(len(corpus))

    def weighed(grams: Grams) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        vectors = [
            {gram: count * (rarest - math.log(max(1, motions_with[gram]))) for gram, count in counts.items()}
            for counts in grams
        ]
        return vectors, [math.hypot(*vector.values()) for vector in vectors], grams[1].total()

    scores = []
    for grams, group in corpus:
        vectors, norms, length = weighed(grams)
        for reference_grams in group:
            reference_vectors, reference_norms, reference_length = weighed(reference_grams)
            cosines = 0.0
            for vector, other, norm, other_norm in zip(vectors, reference_vectors, norms, reference_norms):
                if norm and other_norm:
                    dot = sum(
                        min(weight, other[gram]) * other[gram] for gram, weight in vector.items() if gram in other
                    )
                    cosines += dot / (norm * other_norm)
            penalty = math.exp(-((length - reference_length) ** 2) / (2 * _CIDER_SIGMA**2))
            scores.append(10 * penalty * cosines / _MAX_N / len(group))
    return float(np.sum(scores) / len(corpus))


def _tokenised(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokens: Tokens
) -> list[tuple[list[str], list[list[str]]]]:
    """The words of each candidate and of its references; no list of words is empty."""
    if len(candidates) != len(references):
        raise EvaluationError(
            f"{len(candidates)} captions and references of {len(references)} motions do not match; "
            "give each motion one caption and a list of references"
        )
    if not candidates:
        raise EvaluationError("there are no captions to score; give at least 1, with its references")

    def read(caption: str, what: str) -> list[str]:
        found = tokens(caption)
        if not any(_LETTERS.search(word) for word in found):
            raise EvaluationError(
                f"{what} {caption!r} has no words; leave that motion out and count its caption as invalid"
            )
        return found

    rows = []
    for index, (candidate, group) in enumerate(zip(candidates, references)):
        if isinstance(group, str) or not group:
            raise EvaluationError(f"the references of motion {index} are {group!r}; give a list of 1 caption or more")
        of_group = [read(reference, f"reference {number} of motion {index}") for number, reference in enumerate(group)]
        rows.append((read(candidate, f"the caption of motion {index}"), of_group))
    return rows


def _grams(tokens: list[str]) -> Grams:
    return [Counter(zip(*(tokens[start:] for start in range(n)))) for n in range(1, _MAX_N + 1)]


def _longest_common_subsequence(a: list[str], b: list[str]) -> int:
    """Its length; one row of the classic table at a time."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for column, other in enumerate(b, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


def _forms(table: str) -> dict[str, str]:
    """ "take took taken, run ran" as form -> base form."""
    return {form: base for base, *forms in map(str.split, table.split(",")) for form in forms}


_IRREGULAR = _forms(
    "add adding added, bend bent, bring brought, catch caught, child children, come came, die dies died dying, "
    "do did does done, fall fell fallen, focus focusing focused, foot feet, get got gotten, give gave given, "
    "go goes went gone, have has had having, hold held, keep kept, kneel knelt, knife knives, lead led, lean leant, "
    "leap leapt, lie lies lied lying lain, lose lost, make made, man men, mean meant, ride rode ridden, "
    "rise rose risen, run ran, see saw seen, shake shook shaken, sit sat, spin spun, stand stood, stick stuck, "
    "stride strode, strike struck, swim swam swum, swing swung, take took taken, throw threw thrown, "
    "tie ties tied tying, woman women, write wrote written"
)
_KEPT = frozenset(
    "anything besides downstairs during evening everything hundred morning nothing perhaps series something sometimes "
    "themselves upstairs".split()
)
_NEEDS_E = re.compile(
    r"[cuv]$|(?<![tz])z$|(?<!s)s$|[bcdfgkptz]l$|[dr]g$|(?:lun|plun|chan|arran)g$|(?:[^aeo]|cre)at$|[^aeo]id$|[jts]ur$"
    r"|par$|^[^aeiou]*[aeiouy][^aeiouwxy]$"
)
"""Stems that lost an e before -ing or -ed: danc-, wav-, rais-, stumbl-, lung-, rotat-, gestur-, mak-, hop-, typ-."""


def _base_form(word: str) -> str:
    if word in _KEPT or word in _IRREGULAR:
        return _IRREGULAR.get(word, word)
    if word.endswith("s"):
        return _singular(word)
    if word.endswith("ied"):
        return word[:-3] + "y"
    for suffix in ("ing", "ed"):
        stem = word.removesuffix(suffix)
        # bring, king and bed have no other vowel; need and speed one that belongs to the ending
        if stem != word and re.search("[aeiouy]", stem) and not (suffix == "ed" and stem.endswith("e")):
            if stem[-2:-1] == stem[-1] and stem[-1] in "bdgmnprt":  # stepped
                return stem[:-1]
            return stem + "e" if _NEEDS_E.search(stem) else stem
    return word


def _singular(word: str) -> str:
    """Without the -s of several things or of what one person does: carries, crouches, toes."""
    if len(word) < 4 or word.endswith(("ss", "us", "is", "wards", "ways")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zzes")) else word[:-1]
