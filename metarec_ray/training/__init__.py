"""Meta-training without ray: one lane's objective, the optimizer, the loop and what it resumes from."""
