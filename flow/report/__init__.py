"""What commands report: as data (`result.py`) and as text (`text.py`)."""
