"""What is said between processes arrives as it was said, credentials too."""

from __future__ import annotations

import pickle
from pathlib import Path

from infermux.actors.share import Share
from infermux.config import load
from infermux.workers.messages import Begin
from tests.config.test_loading import SEED_ENVIRON

EXAMPLE = Path(__file__).parents[2] / "examples" / "infermux.yml"


def test_a_whole_configuration_arrives_as_it_is_and_shows_no_credential() -> None:
    config = load(str(EXAMPLE), environ=SEED_ENVIRON)
    begin = Begin(config=config, share=Share(1, 2), place=1, of=2, folder="/nowhere", cookies=b"sealed")
    arrived = pickle.loads(pickle.dumps(begin))
    assert arrived == begin
    keys = [key.reveal() for provider in arrived.config.providers for key in provider.keys]
    assert keys == [key.reveal() for provider in config.providers for key in provider.keys] != []
    assert not any(key in repr(arrived) for key in (*keys, "sealed"))
