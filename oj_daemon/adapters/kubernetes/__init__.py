"""What the daemon asks of a Kubernetes cluster, and the places that it keeps there."""
