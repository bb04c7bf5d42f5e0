# expect 4: `%{ endif }` takes nothing else
const "mode" { default = "a" }
%{ if const.mode == "a" }
%{ endif of it }
