# expect 5: second `%{ else }` for the `%{ if }` of line 3
const "mode" { default = "a" }
%{ if const.mode == "a" }
%{ else }
%{ else }
%{ endif }
