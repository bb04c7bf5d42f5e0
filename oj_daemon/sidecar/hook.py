"""The hook helper: the agent runs it, it asks the sidecar, it prints the reply.

Rule: stdlib only, no import of ours, and the agent never fails because of it: whatever goes wrong, it prints nothing
and ends with 0. Run as `python -I -S hook.py EVENT`.

Contract: POST /api/v1/hooks/event/EVENT with the hook's stdin as body, `Authorization: Bearer
$OJ_SIDECAR_HOOK_TOKEN`, to the unix socket $OJ_SIDECAR_SOCKET or else to $OJ_SIDECAR_URL. The sidecar may take as
long as it likes to answer. The body of a 200 is printed; with the header `Oj-Run-Seconds: N` it is a script, which is
run in bash for at most N seconds and whose output is printed instead. When this process dies, the sidecar sees the
connection close.
"""

from __future__ import annotations
