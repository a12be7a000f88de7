"""English verbs in the forms that sentences ask for. It knows no motion: whoever speaks or reads English imports it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb in the forms that sentences ask for: base 'walk', third 'walks', ing 'walking', past 'walked'."""

    base: str
    third: str
    ing: str
    past: str


_PAST = dict(
    pair.split(":")
    for pair in (
        "bear:bore beat:beat become:became begin:began bend:bent bid:bid bite:bit break:broke bring:brought "
        "build:built burst:burst buy:bought cast:cast catch:caught choose:chose cling:clung come:came creep:crept "
        "crosscut:crosscut cut:cut deal:dealt dig:dug do:did draw:drew drink:drank drive:drove eat:ate fall:fell "
        "feed:fed feel:felt fight:fought find:found flee:fled fly:flew freeze:froze get:got give:gave go:went "
        "grow:grew hang:hung have:had hear:heard hide:hid hit:hit hold:held keep:kept kneel:knelt know:knew "
        "lay:laid lead:led leap:leapt leave:left let:let lie:lay light:lit lose:lost make:made meet:met "
        "mimic:mimicked outrun:outran overdo:overdid overtake:overtook pay:paid put:put read:read rend:rent "
        "rewind:rewound ride:rode rise:rose run:ran say:said see:saw seek:sought send:sent shake:shook shed:shed "
        "shine:shone shoot:shot show:showed shrink:shrank sink:sank sit:sat slay:slew sleep:slept slide:slid "
        "sling:slung slink:slunk slit:slit smite:smote speak:spoke speed:sped spin:spun split:split spread:spread "
        "spring:sprang stand:stood steal:stole stick:stuck stride:strode strike:struck string:strung swear:swore "
        "sweep:swept swim:swam swing:swung take:took teach:taught tear:tore tell:told think:thought throw:threw "
        "thrust:thrust tread:trod undo:undid unwind:unwound uppercut:uppercut wear:wore weave:wove weep:wept "
        "win:won wind:wound withdraw:withdrew write:wrote wring:wrung"
    ).split()
)
_ENDS_DOUBLED = re.compile(r"(?:qu|[^aeiou])*[aeiou][^aeiouwxy]")  # one short syllable: jog, squat
_DOUBLED = set(
    (
        "backflip backstep begin channel control crosscut dogleg footslog foxtrot funnel hotdog jitterbug jogtrot "
        "kidnap lollygag marshal outrun patrol propel refer sidestep signal submit swivel uppercut whiz worship "
        "zigzag"
    ).split()
)


def inflect(verb: str) -> Verb:
    """English inflection of one verb.

    >>> inflect("jog")
    Verb(base='jog', third='jogs', ing='jogging', past='jogged')
    """
    consonant_y = verb[-1] == "y" and verb[-2] not in "aeiou"
    doubled = verb + verb[-1] if verb in _DOUBLED or _ENDS_DOUBLED.fullmatch(verb) else verb
    if verb == "have":
        third = "has"
    elif verb.endswith(("s", "sh", "ch", "x", "z", "go", "do")):
        third = (doubled if verb[-1] == "z" else verb) + "es"
    else:
        third = verb[:-1] + "ies" if consonant_y else verb + "s"
    if verb.endswith("ie") and len(verb) == 3:
        ing = verb[:-2] + "ying"
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ie")):
        ing = verb[:-1] + "ing"
    elif verb.endswith("ic"):
        ing = verb + "king"
    else:
        ing = doubled + "ing"
    if verb in _PAST:
        past = _PAST[verb]
    elif verb.endswith("e"):
        past = verb + "d"
    else:
        past = verb[:-1] + "ied" if consonant_y else doubled + "ed"
    return Verb(verb, third, ing, past)


_PARTICIPLE = dict(
    pair.split(":")
    for pair in (
        "bear:borne beat:beaten become:become begin:begun bite:bitten break:broken choose:chosen come:come do:done "
        "draw:drawn drink:drunk drive:driven eat:eaten fall:fallen fly:flown freeze:frozen get:gotten give:given "
        "go:gone grow:grown hide:hidden know:known lie:lain ride:ridden rise:risen run:run see:seen shake:shaken "
        "show:shown shrink:shrunk sink:sunk slay:slain speak:spoken spring:sprung steal:stolen stride:stridden "
        "swear:sworn swim:swum take:taken tear:torn throw:thrown tread:trodden undo:undone wear:worn weave:woven "
        "withdraw:withdrawn write:written"
    ).split()
)


def participle(verb: str) -> str:
    """The past participle of one verb.

    >>> participle("shake"), participle("raise")
    ('shaken', 'raised')
    """
    return _PARTICIPLE.get(verb) or inflect(verb).past
