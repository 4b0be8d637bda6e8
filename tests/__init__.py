"""The tests. Before any of them imports torch, they are told not to spin where threads wait for each other."""

import os

# OpenMP's threads otherwise compute nothing for as long as others compute: up to half of a test's processor time, and
# minutes on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
