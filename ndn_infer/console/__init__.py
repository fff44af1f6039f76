"""What a command does with its terminal, its log and its signals."""
