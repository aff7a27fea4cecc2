"""``python -m pdan_plugin`` is the ``basicsr`` command."""

import sys

from pdan_plugin.commands.main import main

if __name__ == '__main__':
    sys.exit(main())
