"""A face's link protocol: NDNLPv2, fragments, reliability. Pure."""
