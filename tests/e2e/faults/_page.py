"""The wall as rows of the guide's table: `python -m tests.e2e.faults._page` prints them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.faults._table import CUT_AT, STREAM_SECONDS, WALL, Case, Saw

HEAD = (
    "| what the provider does | asked whole | as a stream | as a stream, with `rescue: continue` |\n|---|---|---|---|"
)


def rows(cases: Sequence[Case] = WALL) -> list[str]:
    return [_row(case) for case in cases]


def _row(case: Case) -> str:
    seen = (case.whole, case.stream, case.rescued)
    whole, stream, rescued = (_words(each, case, stream=number > 0) for number, each in enumerate(seen))
    return f"| {case.name.replace('[DONE]', '`[DONE]`')} | {whole} | {stream} | {rescued or 'the same'} |"


def _words(saw: Saw | None, case: Case, *, stream: bool) -> str:
    if saw is None:
        return ""
    seconds = saw.seconds - (STREAM_SECONDS if stream and saw.code is None else 0.0)
    if saw.code is None:
        text = "whole"
    elif saw.status == 200:
        text, seconds = f"{CUT_AT} tokens, then the error `{saw.code}`", seconds - 0.4
    else:
        text = f"{saw.status} `{saw.code}`"
    tries = sum(saw.attempts)
    more = [f"{seconds:g} s"] if seconds > 0.5 else []
    more += [f"{tries} attempts"] if tries > 1 else []
    return text + (f" ({', '.join(more)})" if more else "")


if __name__ == "__main__":
    print(HEAD, *rows(), sep="\n")
