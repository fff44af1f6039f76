"""A whole network in one process and in virtual time: scenarios of the testbed for CI, and for thousands of nodes."""
