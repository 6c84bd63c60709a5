"""How documents are taken apart, on small ones."""

from __future__ import annotations

from tests.documents.markdown import anchors, commands, dialogues, fences, links, prints, spans

TEXT = """# A title, `coded`: one

```bash
learner run \\
  --seed 1   # why
# nothing
make demo
```

Text with `learner.credit` and [a link](docs/x.md#there), but no `[link](away.md)`.

```console
$ learner run --bind tcp://h:1
error: no ...
$ make
```

## A title
## A title
"""


def test_commands_are_joined_and_stand_without_their_comments() -> None:
    found = [command for _, command in commands(TEXT)]
    assert [" ".join(command.split()) for command in found] == [
        "learner run --seed 1",
        "make demo",
    ]


def test_a_console_block_is_commands_and_what_they_print() -> None:
    first, second = dialogues(fences(TEXT)[1])
    assert (first.line, first.printed, second.printed) == (13, ("error: no ...",), ())


def test_what_is_printed_may_leave_out_parts_and_lines() -> None:
    assert prints(("a ... c",), "a b c\n")
    assert prints(("a", "...", "z"), "a\nb\nc\nz\n")
    assert prints(("a", "...", "z"), "a\nz\n")
    assert prints((), "")
    assert not prints((), "a\n")
    assert not prints(("a",), "a\nb\n")
    assert not prints(("a.c",), "abc\n")


def test_spans_and_links_lie_outside_of_fences() -> None:
    assert [text for _, text in spans(TEXT)] == ["coded", "learner.credit", "[link](away.md)"]
    assert links(TEXT) == [(10, "docs/x.md#there")]


def test_anchors_are_those_of_headings_and_numbered_where_they_repeat() -> None:
    assert anchors(TEXT) == {"a-title-coded-one", "a-title", "a-title-1"}
