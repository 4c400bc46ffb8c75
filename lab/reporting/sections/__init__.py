"""What makes each section of a page, under the name that it has in `lab/sections.py`."""
