"""What the daemon asks of a Kubernetes cluster: a thin client, and the Lease that elects one daemon.

Rule: the library is imported when it is first used (0.5 s, 40 MB), here and nowhere else.
"""
