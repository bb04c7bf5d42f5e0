"""`oj-sidecar`: the program around one agent. Imported by nobody."""
