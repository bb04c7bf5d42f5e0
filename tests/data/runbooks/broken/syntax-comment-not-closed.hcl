# expect 3: comment is never closed
command "a" { run = "true" }
/* and so on
