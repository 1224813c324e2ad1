import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Models this small gain nothing from a second thread, and wait for it for ever where the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
