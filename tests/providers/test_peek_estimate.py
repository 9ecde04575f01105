"""How many tokens a prompt is taken for before anybody has counted them."""

from __future__ import annotations

from infermux.providers.peek import TOKENS_PER_FILE, prompt_tokens


def test_text_counts_four_bytes_a_token() -> None:
    assert prompt_tokens(b"x" * 400) == 101


def test_an_inline_image_counts_as_one_file_whatever_its_size() -> None:
    around = b'{"image_url":{"url":"data:image/png"}}'
    for size in (1_000, 4_000_000):
        body = around[:-3] + b";base64," + b"A" * size + around[-3:]
        assert prompt_tokens(body) == len(around) // 4 + TOKENS_PER_FILE + 1
