"""Makes gRPC's core log errors only. Import this before gRPC, which reads the variable then.

By default it also logs the text of a client's GOAWAY as it is: whole lines that a stranger writes.
"""

import os

os.environ["GRPC_VERBOSITY"] = os.environ.get("GRPC_VERBOSITY") or "ERROR"
