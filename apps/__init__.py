"""The command `ndn-infer`: one file a subcommand, each thin: parse, build, run, print."""
