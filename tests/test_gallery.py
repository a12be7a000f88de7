"""The gallery's page: what is counted of each way to make motions, and what nobody has looked at."""

from __future__ import annotations

from kinalign.recipes.gallery import table

PROMPTS = [
    {"id": "data-walk", "wording": "data", "prompt": "a person walks"},
    {"id": "new-walk", "wording": "held-out", "prompt": "a person ambles"},
]


def test_each_way_has_its_counts_and_what_nobody_has_looked_at_is_a_dash() -> None:
    counts = {
        "model": {row["id"]: {"found": 4, "seconds": 2.0, "took_s": 0.1} for row in PROMPTS},
        "generate": {row["id"]: {"found": 8, "seconds": 3.5, "took_s": 1.0} for row in PROMPTS},
    }
    eye = {"model": {"data-walk": [1, 1, 1, 1, 1, 1, 0, 0]}, "generate": {}}
    lines = table(PROMPTS, counts, eye, {"walk": (5, 6)}).splitlines()
    assert "| [a person walks](data-walk.png) | data | 4 | 8 | 6 | – | 3.5 |" in lines
    assert "| [a person ambles](new-walk.png) | held-out | 4 | 8 | – | – | 3.5 |" in lines
    assert "| data | 0.50 | 1.00 | 0.75 | – | 0.10 | 1.00 |" in lines
    assert "| held-out | 0.50 | 1.00 | – | – | 0.10 | 1.00 |" in lines
    assert "walk 5 of 6." in lines
