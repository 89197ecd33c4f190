"""Meta-training without ray: a lane's objective, the optimizer, the loop, what it resumes from."""
