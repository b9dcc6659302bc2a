"""Checks manifests: each object against its schema, then against the others and the server.

Run it on what kustomize prints:

    kustomize build scaling/deploy/kubernetes | python -m scaling.deploy.kubernetes.check
"""

import argparse
import sys
from collections.abc import Iterator

from production.development.programs import AbsentError
from scaling.deploy.kubernetes import schemas
from scaling.deploy.kubernetes.manifests import Manifests, parse
from scaling.deploy.kubernetes.rules import growth, objects, pods, traffic

RULES = (*objects.RULES, *pods.RULES, *traffic.RULES, *growth.RULES)


def mistakes(manifests: Manifests) -> Iterator[str]:
    """Yields a line for each mistake. Raises AbsentError if a schema is unavailable.

    Rules rely on the schemas, so they are not tried on objects that do not meet theirs.
    """
    wrong = [f"{each}: {line}" for each in manifests for line in schemas.mistakes(each.data)]
    yield from wrong
    if not wrong:
        for rule in RULES:
            yield from rule(manifests)


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the manifests on standard input.")
    parser.parse_args()
    try:
        manifests = parse(sys.stdin.read())
        found = list(mistakes(manifests))
    except (AbsentError, ValueError) as error:
        sys.exit(f"error: {error}")
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if found:
        sys.exit(1)
    kinds = {each.kind for each in manifests}
    print(f"{len(manifests.objects)} objects of {len(kinds)} kinds, no mistakes")


if __name__ == "__main__":
    main()
