"""State Vector Sync as state machines and bytes. Pure: `now` and bytes in, actions out."""
