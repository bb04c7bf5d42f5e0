# expect 2: shell text of command.a.run is empty
command "a" { run = "  " }
