"""What the forwarder does with packets, one scenario a rule, in virtual time; and the same rules put to NFD."""
