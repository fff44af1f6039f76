"""The commands `bench` and `testbed`."""
