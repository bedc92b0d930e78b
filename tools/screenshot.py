"""A picture of a page in a real browser: screenshot.py PAGE.html PICTURE.png [--height PIXELS] [--dark]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from browser import open_browser, program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1180)
    parser.add_argument("--height", type=int, help="of the part from the top that is shown; default: all")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dark", action="store_true")
    wanted = parser.parse_args()
    if program() is None:
        print("no picture: chromium is not installed", file=sys.stderr)
        return 0
    with open_browser() as browser:
        page = browser.open(wanted.page, width=wanted.width, dark=wanted.dark, scale=wanted.scale)
        wanted.picture.write_bytes(page.picture(height=wanted.height))
        for complaint in page.complaints:
            print(f"{wanted.page}: {complaint}", file=sys.stderr)
    return 1 if page.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
