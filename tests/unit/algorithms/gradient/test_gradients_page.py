"""docs/gradients.md says what is true."""

import doctest
from pathlib import Path

PAGE = Path(__file__).parents[4] / "docs" / "gradients.md"


def test_the_example_of_the_page_gives_what_it_shows() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    page = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(page.examples) == 30
    assert doctest.DocTestRunner().run(page).failed == 0
