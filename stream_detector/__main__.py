"""``stream-detector``, and ``python -m stream_detector``.

Importing takes a moment. Whoever changes their mind meanwhile shall see nothing, so until the command
line is there Ctrl-C just ends the process, as it does with programs that are not written in Python.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run the command line."""
    from stream_detector import cli  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
