import subprocess
import sys

# In a process of its own: what is asked of an allocator holds for good.
SCRIPT = """
import resource, torch
from metarec_ray.training.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        a = torch.ones(2**20)
        b = torch.ones(2**20)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
print(kept, faults())
"""


def test_memory_that_is_freed_is_not_faulted_in_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )
    kept, faults = done.stdout.split()
    # 40 tensors of 4 MiB are 40,960 pages; without glibc nothing is promised.
    assert kept == "False" or int(faults) < 4096
