"""The commands of `oj`, one noun a module; `oj_cli.main` imports each when it is called."""
