"""The command line: one file per group of commands, each importing what it needs when it runs."""


def main() -> None:
    """The entry point `infermux`. Exit codes: 0, 1 failure, 2 usage or configuration."""
    from .root import run

    run()
