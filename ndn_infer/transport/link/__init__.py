"""An application's connection to its forwarder."""
