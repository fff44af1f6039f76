"""The engine: prompts and tokens through a model. No network.

Owns: what has to be set before the libraries below it compute for the first time (instructions.py).
"""

from ndn_infer.engine.instructions import limit_instructions

limit_instructions()
