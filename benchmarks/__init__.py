"""Questions of speed, each answered beside its peers in one run."""
