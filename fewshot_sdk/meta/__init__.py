"""Meta-training by Reptile and related algorithms, and evaluation."""
