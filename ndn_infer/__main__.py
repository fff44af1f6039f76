"""The command `ndn-infer`, also as `python -m ndn_infer`.

Owns: an interrupt while the rest is still being imported: that takes some tenths of a second, and Ctrl-C then ends the
command without a traceback too. Must not know: commands.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        from ndn_infer import cli

        return cli.main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
