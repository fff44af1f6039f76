"""`python -m ndn_infer`: the same as the command `ndn-infer`."""

import sys

from ndn_infer.apps.cli import main

sys.exit(main())
