"""What worker processes have in common."""

import multiprocessing
import os
import threading


def end_with_parent(*_: int) -> None:
    """End this process once the one that started it is gone: a killed command cannot end its workers itself."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
