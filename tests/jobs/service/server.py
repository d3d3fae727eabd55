"""A server without HTTP, for tests that kill it: `python server.py HOME SETTINGS_JSON`."""

import sys
import threading
from pathlib import Path

from luthier.jobs.service.service import open_service
from luthier.jobs.service.settings import ServiceSettings

if __name__ == "__main__":
    service = open_service(Path(sys.argv[1]), ServiceSettings.model_validate_json(sys.argv[2]))
    service.start()
    print("ready", flush=True)
    threading.Event().wait()
