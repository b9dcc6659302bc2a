"""Prints what an xDS client believes: it asks the client's CSDS.

Run it, with the Python that has xds-protos (`make engines` installs it):

    xds-python -m scaling.xds.csds localhost:50060
"""

import argparse
import sys

import grpc

from production.calling import addresses

try:
    from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
    from envoy.service.status.v3.csds_pb2 import ClientStatusRequest
    from envoy.service.status.v3.csds_pb2_grpc import ClientStatusDiscoveryServiceStub
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: use xds-python, which `make engines` installs")

TIMEOUT = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what an xDS client believes.")
    parser.add_argument("address", type=addresses.target, help="HOST:PORT of its CSDS")
    args = parser.parse_args()
    try:
        with grpc.insecure_channel(args.address) as channel:
            stub = ClientStatusDiscoveryServiceStub(channel)
            status = stub.FetchClientStatus(ClientStatusRequest(), timeout=TIMEOUT)
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    for client in status.config:
        for each in sorted(client.generic_xds_configs, key=lambda found: found.type_url):
            state = ClientResourceStatus.Name(each.client_status)
            kind = each.type_url.rpartition(".")[2]
            print(f"{kind:23}{each.name:14}version {each.version_info or 'none':6}{state}")
            if each.HasField("error_state"):
                print(f"  version {each.error_state.version_info}: {each.error_state.details}")


if __name__ == "__main__":
    main()
