import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from dien_fuxictr.experiment.device import keep_freed_memory

def page_faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [np.ones(size * 2**20, np.uint8) for size in (1, 8, 40)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
default = page_faults()
keep_freed_memory()
page_faults()
print(default, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator other than glibc's")
def test_freed_blocks_are_used_again_without_page_faults():
    output = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True).stdout
    default, kept = map(int, output.split())
    assert kept < 100 < default
